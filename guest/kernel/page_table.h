/* The kernel's address space: Sv39, every physical address mapped to itself where it is mapped at all. */
#ifndef GUEST_KERNEL_PAGE_TABLE_H
#define GUEST_KERNEL_PAGE_TABLE_H

#include <stddef.h>
#include <stdint.h>

/* Privileged specification, "Sv39": page-table entry bits. */
enum page_flags {
    PAGE_VALID = 1 << 0,
    PAGE_READ = 1 << 1,
    PAGE_WRITE = 1 << 2,
    PAGE_EXECUTE = 1 << 3,
    PAGE_GLOBAL = 1 << 5,
    PAGE_ACCESSED = 1 << 6,
    PAGE_DIRTY = 1 << 7,
};

/* Maps the image and the RAM, and turns translation on. */
void page_table_start(void);

/* Makes device registers reachable: readable, writable, never executable. Returns `base`. */
uintptr_t page_table_map_device(uint64_t base, uint64_t size);

/* What satp must hold on every hart. */
uint64_t page_table_satp(void);

/* How many leaf entries of each size (4 KiB, 2 MiB, 1 GiB) the kernel uses. */
void page_table_counts(unsigned counts[3]);

#endif
