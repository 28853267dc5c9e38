/* Which driver takes which device: what the device tree names, and what answers on the PCI bus. */
#include "drivers/devices.h"

#include "drivers/ahci.h"
#include "drivers/e1000e.h"
#include "drivers/pci.h"
#include "drivers/uart16550.h"
#include "drivers/virtio_blk.h"
#include "drivers/virtio_console.h"
#include "drivers/virtio_mmio.h"
#include "drivers/virtio_net.h"
#include "drivers/virtio_pci.h"
#include "drivers/virtio_rng.h"
#include "kernel/platform.h"
#include "kernel/print.h"

static void start_virtio(const struct virtio_device* device) {
    switch (device->id) {
        case VIRTIO_NET:
            virtio_net_start(device);
            break;
        case VIRTIO_BLOCK:
            virtio_blk_start(device);
            break;
        case VIRTIO_CONSOLE:
            virtio_console_start(device);
            break;
        case VIRTIO_ENTROPY:
            virtio_rng_start(device);
            break;
        default:
            print("virtio at 0x%lx: no driver for device %u\n", device->base, device->id);
    }
}

static void start_pci(const struct pci_function* function) {
    if (function->class_code == AHCI_CLASS_CODE) ahci_start(function);
    if (function->vendor_id == E1000E_VENDOR_ID && function->device_id == E1000E_DEVICE_ID)
        e1000e_start(function);
    struct virtio_device device;
    if (function->vendor_id == VIRTIO_PCI_VENDOR_ID && virtio_pci_probe(&device, function))
        start_virtio(&device);
}

void devices_start(void) {
    if (platform.uart.size != 0) uart16550_start(&platform.uart, platform.uart_register_shift);
    iommu_start();
    for (unsigned i = 0; i < platform.virtio_count; i++) {
        struct virtio_device device;
        if (virtio_mmio_probe(&device, &platform.virtio[i])) start_virtio(&device);
    }
    pci_start();
    for (unsigned i = 0; i < pci_function_count; i++) start_pci(&pci_functions[i]);
}
