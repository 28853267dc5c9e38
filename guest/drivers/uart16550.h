/* The 16550 UART; it is registered with drivers/console.h. */
#ifndef GUEST_DRIVERS_UART16550_H
#define GUEST_DRIVERS_UART16550_H

#include "kernel/platform.h"

void uart16550_start(const struct device_place* place, uint32_t register_shift);

#endif
