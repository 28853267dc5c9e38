/* AHCI SATA controllers; the disks behind one are registered with drivers/block.h. */
#ifndef GUEST_DRIVERS_AHCI_H
#define GUEST_DRIVERS_AHCI_H

#include "drivers/pci.h"

enum { AHCI_CLASS_CODE = 0x010601 };

void ahci_start(const struct pci_function* function);

#endif
