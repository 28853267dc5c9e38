/* Virtio devices on the PCI bus. */
#ifndef GUEST_DRIVERS_VIRTIO_PCI_H
#define GUEST_DRIVERS_VIRTIO_PCI_H

#include "drivers/pci.h"
#include "drivers/virtio.h"

enum { VIRTIO_PCI_VENDOR_ID = 0x1af4 };

/* False for a function that has not all the structures of a modern device (4.1.4). */
bool virtio_pci_probe(struct virtio_device* device, const struct pci_function* function);

#endif
