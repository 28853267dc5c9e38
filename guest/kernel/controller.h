/* The interrupt controller of the platform, whichever it is: all sources go to the boot hart. */
#ifndef GUEST_KERNEL_CONTROLLER_H
#define GUEST_KERNEL_CONTROLLER_H

#include <stdbool.h>
#include <stdint.h>

typedef void interrupt_handler(void* context);

/* What a controller can do; a hart's index is as in struct platform_hart. */
struct controller {
    const char* name;
    void (*start)(int hart_index);
    void (*enable)(uint32_t source);
    uint32_t (*claim)(void); /* the source that is to be served; 0: none */
    void (*complete)(uint32_t source);
};

extern const struct controller plic, aplic;

void controller_start(void);
/* NULL where there is none. */
const struct controller* controller_present(void);

/* Sends the source's interrupts to the boot hart; several devices may share one source (PCI INTx). */
void controller_connect(uint32_t source, interrupt_handler* handler, void* context);

void controller_handle_interrupt(void);

/* Interrupts delivered from a source since the start. */
uint64_t controller_count(uint32_t source);

#endif
