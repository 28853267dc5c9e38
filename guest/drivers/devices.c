/* Which driver takes which device: what the device tree names, and what answers on the PCI bus. */
#include "drivers/devices.h"

#include "drivers/ahci.h"
#include "drivers/pci.h"
#include "drivers/uart16550.h"
#include "drivers/virtio_blk.h"
#include "drivers/virtio_console.h"
#include "drivers/virtio_net.h"
#include "drivers/virtio_rng.h"
#include "kernel/platform.h"
#include "kernel/print.h"

static void start_virtio(const struct device_place* place) {
    struct virtio_device device;
    if (!virtio_probe(&device, place)) return;
    switch (device.id) {
        case VIRTIO_NET:
            virtio_net_start(&device);
            break;
        case VIRTIO_BLOCK:
            virtio_blk_start(&device);
            break;
        case VIRTIO_CONSOLE:
            virtio_console_start(&device);
            break;
        case VIRTIO_ENTROPY:
            virtio_rng_start(&device);
            break;
        default:
            print("virtio at 0x%lx: no driver for device %u\n", place->base, device.id);
    }
}

void devices_start(void) {
    if (platform.uart.size != 0) uart16550_start(&platform.uart, platform.uart_register_shift);
    for (unsigned i = 0; i < platform.virtio_count; i++) start_virtio(&platform.virtio[i]);
    pci_start();
    for (unsigned i = 0; i < pci_function_count; i++)
        if (pci_functions[i].class_code == AHCI_CLASS_CODE) ahci_start(&pci_functions[i]);
}
