/*
 * The inner kernel's memory: pages, and Sv39 page tables (Privileged Specification, "Sv39"). Its own pages
 * are mapped where they lie, by entries of 4 KiB, and every address space shares the tables that do so.
 */
#include "inner/inner.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/string.h"

enum { ENTRIES = 512, PAGES = 480 };
#define SATP_MODE_SV39 (8ul << 60)
#define SATP_ASID_SHIFT 44

static uint8_t pages[PAGES][PAGE_SIZE] __attribute__((aligned(4096)));
static void* free_pages; /* each begins with the address of the next */
static unsigned pages_taken;

struct address_space kernel_space;
static uint16_t next_asid = 1;

extern char text_start[], text_end[], user_start[], user_end[], rodata_start[], rodata_end[], data_start[],
    data_end[];

void* page_allocate(void) {
    void* page = free_pages;
    if (page != NULL)
        free_pages = *(void**)page;
    else if (pages_taken < PAGES)
        page = pages[pages_taken++];
    else
        panic("inner: out of memory\n");
    return memset(page, 0, PAGE_SIZE);
}

void page_free(void* page) {
    *(void**)page = free_pages;
    free_pages = page;
}

static uint64_t entry_for(const void* page, unsigned flags) {
    return (uintptr_t)page >> 12 << 10 | flags | PAGE_VALID;
}

static void* entry_page(uint64_t entry) {
    return (void*)(entry >> 10 << 12);
}

static bool is_leaf(uint64_t entry) {
    return (entry & (PAGE_READ | PAGE_WRITE | PAGE_EXECUTE)) != 0;
}

uint64_t* page_entry(struct address_space* space, uint64_t address) {
    uint64_t* table = space->root;
    for (int level = 2; level > 0; level--) {
        uint64_t* entry = &table[address >> (12 + 9 * level) & (ENTRIES - 1)];
        if ((*entry & PAGE_VALID) == 0) *entry = entry_for(page_allocate(), 0);
        table = entry_page(*entry);
    }
    return &table[address >> 12 & (ENTRIES - 1)];
}

void page_map(struct address_space* space, uint64_t address, const void* page, unsigned flags) {
    *page_entry(space, address) = entry_for(page, flags);
}

void flush_page(uint64_t address) {
    asm volatile("sfence.vma %0, zero" ::"r"(address) : "memory");
}

static void map_kernel(const char* start, const char* end, unsigned flags) {
    for (; start < end; start += PAGE_SIZE)
        page_map(&kernel_space, (uintptr_t)start, start, flags | PAGE_ACCESSED | PAGE_DIRTY);
}

void memory_start(void) {
    kernel_space.root = page_allocate();
    kernel_space.satp = SATP_MODE_SV39 | (uintptr_t)kernel_space.root >> 12;
    map_kernel(text_start, text_end, PAGE_READ | PAGE_EXECUTE);
    map_kernel(user_start, user_end, PAGE_READ | PAGE_EXECUTE | PAGE_USER);
    map_kernel(rodata_start, rodata_end, PAGE_READ);
    map_kernel(data_start, data_end, PAGE_READ | PAGE_WRITE);
    address_space_activate(&kernel_space);
    asm volatile("sfence.vma" ::: "memory");
    if (csr_read("satp") != kernel_space.satp) panic("inner: this hart has no Sv39\n");
}

struct address_space address_space_create(void) {
    struct address_space space = {.root = page_allocate()};
    /* Everything of the kernel's lies in one GiB. */
    unsigned index = (uintptr_t)text_start >> 30 & (ENTRIES - 1);
    space.root[index] = kernel_space.root[index];
    /* An address space is told apart by its ASID, so that a switch flushes nothing. */
    space.satp = SATP_MODE_SV39 | (uint64_t)next_asid++ << SATP_ASID_SHIFT | (uintptr_t)space.root >> 12;
    return space;
}

void address_space_destroy(struct address_space* space, bool free_leaves) {
    address_space_activate(&kernel_space);
    unsigned kernel = (uintptr_t)text_start >> 30 & (ENTRIES - 1);
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (i == kernel || (space->root[i] & PAGE_VALID) == 0) continue;
        uint64_t* middle = entry_page(space->root[i]);
        for (unsigned j = 0; j < ENTRIES; j++) {
            if ((middle[j] & PAGE_VALID) == 0) continue;
            uint64_t* last = entry_page(middle[j]);
            for (unsigned k = 0; free_leaves && k < ENTRIES; k++)
                if (is_leaf(last[k])) page_free(entry_page(last[k]));
            page_free(last);
        }
        page_free(middle);
    }
    page_free(space->root);
    asm volatile("sfence.vma zero, %0" ::"r"(space->satp >> SATP_ASID_SHIFT & 0xffff) : "memory");
}

void address_space_activate(const struct address_space* space) {
    csr_write("satp", space->satp);
}
