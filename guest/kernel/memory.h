/* Handing out physical memory. Nothing is ever given back: programs run once and then the machine stops. */
#ifndef GUEST_KERNEL_MEMORY_H
#define GUEST_KERNEL_MEMORY_H

#include <stddef.h>
#include <stdint.h>

enum { PAGE_SIZE = 4096 };

void memory_start(void);

/* Zeroed, physically contiguous, aligned to `alignment` (a power of two); panics when RAM is used up. */
void* memory_allocate(size_t size, size_t alignment);
/* The largest piece that memory_allocate could still give. */
size_t memory_available(void);

#endif
