/* The platform-level interrupt controller. */
#ifndef GUEST_KERNEL_PLIC_H
#define GUEST_KERNEL_PLIC_H

#include <stdbool.h>
#include <stdint.h>

typedef void interrupt_handler(void* context);

void plic_start(void);
bool plic_present(void);

/* Sends the source's interrupts to the boot hart; several devices may share one source (PCI INTx). */
void plic_connect(uint32_t source, interrupt_handler* handler, void* context);

void plic_handle_interrupt(void);

/* Interrupts delivered from a source since the start. */
uint64_t plic_count(uint32_t source);

#endif
