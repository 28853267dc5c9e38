/*
 * RISC-V Platform-Level Interrupt Controller Specification v1.0: chapter 3 memory map, 4 priorities,
 * 6 enables, 7 threshold, 8 claim, 9 completion. All sources have one priority.
 */
#include "kernel/controller.h"
#include "kernel/mmio.h"
#include "kernel/page_table.h"
#include "kernel/platform.h"

enum {
    PLIC_PRIORITY = 0x0,        /* + 4 * source */
    PLIC_ENABLE = 0x2000,       /* + 0x80 * context, one bit a source */
    PLIC_CONTEXT = 0x200000,    /* + 0x1000 * context */
    PLIC_CONTEXT_THRESHOLD = 0, /* within a context's page */
    PLIC_CONTEXT_CLAIM = 4,
};

static uintptr_t base, enable_registers, context_registers;

static void start(int context) {
    base = page_table_map_device(platform.plic.base, platform.plic.size);
    enable_registers = base + PLIC_ENABLE + 0x80 * (uintptr_t)context;
    context_registers = base + PLIC_CONTEXT + 0x1000 * (uintptr_t)context;
    mmio_write32(context_registers + PLIC_CONTEXT_THRESHOLD, 0);
}

static void enable(uint32_t source) {
    mmio_write32(base + PLIC_PRIORITY + 4 * source, 1);
    uintptr_t word = enable_registers + 4 * (source / 32);
    mmio_write32(word, mmio_read32(word) | 1u << source % 32);
}

static uint32_t claim(void) {
    return mmio_read32(context_registers + PLIC_CONTEXT_CLAIM);
}

static void complete(uint32_t source) {
    mmio_write32(context_registers + PLIC_CONTEXT_CLAIM, source);
}

const struct controller plic = {"plic", start, enable, claim, complete};
