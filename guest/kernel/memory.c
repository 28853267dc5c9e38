/*
 * A bump allocator over the RAM behind the kernel image. It steps around what is already in use there: the
 * device tree, the initrd and the reservations of both (Devicetree Specification v0.4, 3.5 and 5.3).
 *
 * Memory is mapped where it lies, so a pointer is also the address that a device uses for DMA.
 */
#include "kernel/memory.h"

#include "kernel/platform.h"
#include "kernel/print.h"
#include "kernel/string.h"

extern char image_end[];

static uint64_t next, end;

void memory_start(void) {
    next = (uintptr_t)image_end;
    end = platform.memory.base + platform.memory.size;
    if (next < platform.memory.base || next >= end)
        panic("the kernel lies outside of the memory it was told of\n");
}

/* The reserved range that [at, at + size) runs into, or NULL. */
static const struct address_range* collision(uint64_t at, uint64_t size) {
    for (unsigned i = 0; i < platform.reserved_count; i++) {
        const struct address_range* reserved = &platform.reserved[i];
        if (at < reserved->base + reserved->size && reserved->base < at + size) return reserved;
    }
    return NULL;
}

void* memory_allocate(size_t size, size_t alignment) {
    uint64_t at = next;
    for (;;) {
        at = (at + alignment - 1) & ~(uint64_t)(alignment - 1);
        if (at > end || size > end - at) panic("out of memory: %zu bytes wanted\n", size);
        const struct address_range* reserved = collision(at, size);
        if (reserved == NULL) break;
        at = reserved->base + reserved->size;
    }
    next = at + size;
    return memset((void*)at, 0, size);
}

size_t memory_available(void) {
    uint64_t best = 0;
    for (uint64_t at = next; at < end;) {
        /* A gap runs to the nearest reservation above it. */
        const struct address_range* here = collision(at, 1);
        if (here != NULL) {
            at = here->base + here->size;
            continue;
        }
        uint64_t gap_end = end;
        for (unsigned i = 0; i < platform.reserved_count; i++)
            if (platform.reserved[i].base > at && platform.reserved[i].base < gap_end)
                gap_end = platform.reserved[i].base;
        if (gap_end - at > best) best = gap_end - at;
        at = gap_end;
    }
    return best;
}
