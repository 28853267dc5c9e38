/* The Intel 82574L Ethernet controller. */
#ifndef GUEST_DRIVERS_E1000E_H
#define GUEST_DRIVERS_E1000E_H

#include "drivers/pci.h"

enum { E1000E_VENDOR_ID = 0x8086, E1000E_DEVICE_ID = 0x10d3 };

void e1000e_start(const struct pci_function* function);

#endif
