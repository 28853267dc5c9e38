/*
 * RISC-V Platform-Level Interrupt Controller Specification v1.0: chapter 3 memory map, 4 priorities,
 * 6 enables, 7 threshold, 8 claim, 9 completion. All sources go to the boot hart, at one priority.
 */
#include "kernel/plic.h"

#include "kernel/mmio.h"
#include "kernel/page_table.h"
#include "kernel/platform.h"
#include "kernel/print.h"
#include "kernel/riscv.h"

enum { MAX_SOURCES = 128, MAX_HANDLERS_PER_SOURCE = 4 };

enum {
    PLIC_PRIORITY = 0x0,        /* + 4 * source */
    PLIC_ENABLE = 0x2000,       /* + 0x80 * context, one bit a source */
    PLIC_CONTEXT = 0x200000,    /* + 0x1000 * context */
    PLIC_CONTEXT_THRESHOLD = 0, /* within a context's page */
    PLIC_CONTEXT_CLAIM = 4,
};

static struct source {
    struct {
        interrupt_handler* handle;
        void* context;
    } handlers[MAX_HANDLERS_PER_SOURCE];
    unsigned handler_count;
    uint64_t count;
} sources[MAX_SOURCES];

static uintptr_t plic;
static uintptr_t enable_registers, context_registers;

void plic_start(void) {
    int context = platform.harts[0].plic_context;
    if (platform.plic.size == 0 || context < 0) {
        print("no PLIC for this hart: devices that need interrupts will time out\n");
        return;
    }
    plic = page_table_map_device(platform.plic.base, platform.plic.size);
    enable_registers = plic + PLIC_ENABLE + 0x80 * (uintptr_t)context;
    context_registers = plic + PLIC_CONTEXT + 0x1000 * (uintptr_t)context;
    mmio_write32(context_registers + PLIC_CONTEXT_THRESHOLD, 0);
    csr_set("sie", 1ul << INTERRUPT_EXTERNAL);
}

bool plic_present(void) {
    return plic != 0;
}

void plic_connect(uint32_t number, interrupt_handler* handler, void* context) {
    if (plic == 0 || number == 0) return;
    if (number >= MAX_SOURCES || number > platform.plic_source_count)
        panic("no interrupt source %u\n", number);
    struct source* source = &sources[number];
    if (source->handler_count == MAX_HANDLERS_PER_SOURCE) panic("interrupt source %u is crowded\n", number);
    source->handlers[source->handler_count].handle = handler;
    source->handlers[source->handler_count++].context = context;
    mmio_write32(plic + PLIC_PRIORITY + 4 * number, 1);
    uintptr_t enable = enable_registers + 4 * (number / 32);
    mmio_write32(enable, mmio_read32(enable) | 1u << number % 32);
}

/* One claim a trap: if more is pending, the trap is taken again, and no claim is wasted on finding out. */
void plic_handle_interrupt(void) {
    uint32_t number = mmio_read32(context_registers + PLIC_CONTEXT_CLAIM);
    if (number == 0 || number >= MAX_SOURCES) return;
    struct source* source = &sources[number];
    source->count++;
    for (unsigned i = 0; i < source->handler_count; i++)
        source->handlers[i].handle(source->handlers[i].context);
    mmio_write32(context_registers + PLIC_CONTEXT_CLAIM, number);
}

uint64_t plic_count(uint32_t number) {
    return number < MAX_SOURCES ? sources[number].count : 0;
}
