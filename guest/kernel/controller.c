/* Which interrupt controller there is, and who is called for a source: plic.c and aplic.c know the rest. */
#include "kernel/controller.h"

#include <stddef.h>

#include "kernel/platform.h"
#include "kernel/print.h"
#include "kernel/riscv.h"

enum { MAX_SOURCES = 128, MAX_HANDLERS_PER_SOURCE = 4 };

static struct source {
    struct {
        interrupt_handler* handle;
        void* context;
    } handlers[MAX_HANDLERS_PER_SOURCE];
    unsigned handler_count;
    uint64_t count;
} sources[MAX_SOURCES];

static const struct controller* controller;

void controller_start(void) {
    const struct controller* found = platform.plic.size != 0    ? &plic
                                     : platform.aplic.size != 0 ? &aplic
                                                                : NULL;
    int index = platform.harts[0].controller_index;
    if (found == NULL || index < 0) {
        print("no interrupt controller for this hart: devices that need interrupts will time out\n");
        return;
    }
    controller = found;
    controller->start(index);
    csr_set("sie", 1ul << INTERRUPT_EXTERNAL);
}

const struct controller* controller_present(void) {
    return controller;
}

void controller_connect(uint32_t number, interrupt_handler* handler, void* context) {
    if (controller == NULL || number == 0) return;
    if (number >= MAX_SOURCES || number > platform.source_count) panic("no interrupt source %u\n", number);
    struct source* source = &sources[number];
    if (source->handler_count == MAX_HANDLERS_PER_SOURCE) panic("interrupt source %u is crowded\n", number);
    source->handlers[source->handler_count].handle = handler;
    source->handlers[source->handler_count++].context = context;
    controller->enable(number);
}

/* One claim a trap: if more is pending, the trap is taken again, and no claim is wasted on finding out. */
void controller_handle_interrupt(void) {
    uint32_t number = controller->claim();
    if (number == 0 || number >= MAX_SOURCES) return;
    struct source* source = &sources[number];
    source->count++;
    for (unsigned i = 0; i < source->handler_count; i++)
        source->handlers[i].handle(source->handlers[i].context);
    controller->complete(number);
}

uint64_t controller_count(uint32_t number) {
    return number < MAX_SOURCES ? sources[number].count : 0;
}
