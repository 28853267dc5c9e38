/*
 * Page tables: RISC-V Privileged Specification, "Sv39: Page-Based 39-bit Virtual-Memory System".
 *
 * A virtual address is three 9-bit indices and a 12-bit offset. The walk starts at the root, level 2; an
 * entry with any of R, W, X set is a leaf, and a leaf above level 0 maps a larger piece at once: 2 MiB at
 * level 1, 1 GiB at level 2. So RAM costs a few entries, and a TLB holds it in as few.
 *
 * The map is the identity. That keeps one kind of address in the whole kernel: what a pointer holds is
 * what a device, the firmware and the page tables use. Page zero stays unmapped, so that a null pointer
 * faults; and below each stack lies an unmapped page, so that an overflow does.
 */
#include "kernel/page_table.h"

#include <stdbool.h>

#include "kernel/hart.h"
#include "kernel/memory.h"
#include "kernel/platform.h"
#include "kernel/print.h"
#include "kernel/riscv.h"

enum { ENTRIES = 512 };
#define SATP_MODE_SV39 (8ul << 60)

typedef uint64_t page_table_entry;

static page_table_entry* root;
static unsigned leaf_counts[3];

extern char text_start[], text_end[], rodata_start[], rodata_end[], data_start[], data_end[];

static uint64_t level_size(int level) {
    return (uint64_t)PAGE_SIZE << (9 * level);
}

static page_table_entry* entry_at(page_table_entry* table, uint64_t address, int level) {
    return &table[address >> (12 + 9 * level) & (ENTRIES - 1)];
}

static page_table_entry entry_for(uint64_t physical, unsigned flags) {
    return physical >> 12 << 10 | flags | PAGE_VALID;
}

static uint64_t entry_address(page_table_entry entry) {
    return entry >> 10 << 12;
}

static bool is_leaf(page_table_entry entry) {
    return (entry & (PAGE_READ | PAGE_WRITE | PAGE_EXECUTE)) != 0;
}

/* One leaf of the given level. */
static void map_leaf(uint64_t address, int level, unsigned flags) {
    page_table_entry* table = root;
    for (int at = 2; at > level; at--) {
        page_table_entry* entry = entry_at(table, address, at);
        if ((*entry & PAGE_VALID) == 0)
            *entry = entry_for((uintptr_t)memory_allocate(PAGE_SIZE, PAGE_SIZE), 0);
        else if (is_leaf(*entry))
            return; /* already part of a larger page */
        table = (page_table_entry*)entry_address(*entry);
    }
    page_table_entry* entry = entry_at(table, address, level);
    if ((*entry & PAGE_VALID) != 0) return;
    /* A and D are set from the start: without Svadu the hart would fault to have them set. */
    *entry = entry_for(address, flags | PAGE_ACCESSED | PAGE_DIRTY | PAGE_GLOBAL);
    leaf_counts[level]++;
}

/* Maps [start, end) with the largest pages that fit; what is mapped already stays as it is. */
static void map(uint64_t start, uint64_t end, unsigned flags) {
    start &= ~(uint64_t)(PAGE_SIZE - 1);
    while (start < end) {
        int level = 2;
        while (level > 0 && ((start & (level_size(level) - 1)) != 0 || end - start < level_size(level)))
            level--;
        map_leaf(start, level, flags);
        start += level_size(level);
    }
}

static void map_symbols(const char* start, const char* end, unsigned flags) {
    map((uintptr_t)start, (uintptr_t)end, flags);
}

/* Data and bss without the guard pages below the stacks. */
static void map_data(void) {
    const char* from = data_start;
    for (unsigned i = 0; i < MAX_HARTS; i++) {
        const struct hart_stacks* stacks = &hart_stacks[i];
        map_symbols(from, stacks->guard, PAGE_READ | PAGE_WRITE);
        map_symbols(stacks->stack, stacks->trap_guard, PAGE_READ | PAGE_WRITE);
        from = stacks->trap_stack;
    }
    map_symbols(from, data_end, PAGE_READ | PAGE_WRITE);
}

void page_table_start(void) {
    root = memory_allocate(PAGE_SIZE, PAGE_SIZE);
    map_symbols(text_start, text_end, PAGE_READ | PAGE_EXECUTE);
    map_symbols(rodata_start, rodata_end, PAGE_READ);
    map_data();
    /* The rest of RAM from the image on. What lies below belongs to the firmware and stays out of reach. */
    map((uintptr_t)data_end, platform.memory.base + platform.memory.size, PAGE_READ | PAGE_WRITE);
    /* The bootargs are read where they lie in the device tree; it may lie anywhere. */
    map(platform.device_tree.base, platform.device_tree.base + platform.device_tree.size, PAGE_READ);

    asm volatile("sfence.vma" ::: "memory");
    csr_write("satp", page_table_satp());
    asm volatile("sfence.vma" ::: "memory");
    /* satp is WARL: a hart without Sv39 leaves it as it was. */
    if (csr_read("satp") != page_table_satp()) panic("this hart has no Sv39\n");
}

uintptr_t page_table_map_device(uint64_t base, uint64_t size) {
    map(base, base + size, PAGE_READ | PAGE_WRITE);
    asm volatile("sfence.vma" ::
                     : "memory"); /* an invalid entry may have been cached (same chapter, "SFENCE.VMA") */
    return base;
}

uint64_t page_table_satp(void) {
    return SATP_MODE_SV39 | (uintptr_t)root >> 12;
}

void page_table_counts(unsigned counts[3]) {
    for (int level = 0; level < 3; level++) counts[level] = leaf_counts[level];
}
