/*
 * PCI Express: PCI Express Base Specification 6.0, 7.2.2 "PCI Express Enhanced Configuration Access
 * Mechanism" and 7.5.1 "PCI-Compatible Configuration Registers"; base address registers and their sizing
 * are 7.5.1.2.1. How an interrupt pin reaches the controller is the device tree's interrupt-map (Devicetree
 * Specification v0.4, 2.4.3). Only the root bus is walked: buses behind bridges stay unused.
 */
#include "drivers/pci.h"

#include "kernel/fdt.h"
#include "kernel/mmio.h"
#include "kernel/page_table.h"
#include "kernel/platform.h"
#include "kernel/print.h"

enum {
    VENDOR_ID = 0x00,
    DEVICE_ID = 0x02,
    COMMAND = 0x04,
    CLASS_AND_REVISION = 0x08,
    STATUS = 0x06,
    HEADER_TYPE = 0x0e,
    BAR0 = 0x10,
    CAPABILITIES_POINTER = 0x34,
    INTERRUPT_LINE = 0x3c,
    INTERRUPT_PIN = 0x3d,
};
enum { COMMAND_MEMORY = 1 << 1, COMMAND_BUS_MASTER = 1 << 2, STATUS_CAPABILITIES = 1 << 4 };
enum { HEADER_LAYOUT = 0x7f, HEADER_MULTI_FUNCTION = 0x80 };
enum { BAR_IO = 1, BAR_TYPE = 6, BAR_TYPE_64 = 4 };
enum { DEVICES_PER_BUS = 32, FUNCTIONS_PER_DEVICE = 8, BUS_SIZE = 1 << 20 };

struct pci_function pci_functions[MAX_PCI_FUNCTIONS];
unsigned pci_function_count;

static uintptr_t configuration_space;
static struct address_range window32, window64; /* what is left of them */

/* ECAM: bus in bits 27:20, device in 19:15, function in 14:12, register in 11:0. */
static uintptr_t configuration(unsigned device, unsigned function) {
    return configuration_space + (device << 15 | function << 12);
}

static uintptr_t configuration_of(const struct pci_function* function) {
    return configuration(function->device, function->function);
}

/* BARs are naturally aligned: 7.5.1.2.1. Gives 0 when the window is used up. */
static uint64_t take(struct address_range* window, uint64_t size) {
    uint64_t at = (window->base + size - 1) & ~(size - 1);
    uint64_t end = window->base + window->size;
    if (window->size == 0 || at > end || size > end - at) return 0;
    window->base = at + size;
    window->size = end - window->base;
    return at;
}

/* 7.5.1.2.1: write ones, read back which bits hold; the lowest writable one is the size. */
static void assign_bars(struct pci_function* function) {
    uintptr_t space = configuration_of(function);
    for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
        uintptr_t bar = space + BAR0 + 4 * i;
        mmio_write32(bar, 0xffffffff);
        uint32_t low = mmio_read32(bar);
        if (low == 0) continue;
        if ((low & BAR_IO) != 0) { /* there is no I/O space to a RISC-V driver */
            mmio_write32(bar, 0);
            continue;
        }
        bool is_64 = (low & BAR_TYPE) == BAR_TYPE_64 && i + 1 < PCI_BAR_COUNT;
        uint64_t mask = 0xffffffff00000000ul | (low & ~0xfu);
        if (is_64) {
            mmio_write32(bar + 4, 0xffffffff);
            mask = (uint64_t)mmio_read32(bar + 4) << 32 | (low & ~0xfu);
        }
        uint64_t size = ~mask + 1;
        uint64_t address = is_64 ? take(&window64, size) : 0;
        if (address == 0) address = take(&window32, size);
        if (address == 0)
            print_failure("pci 00:%02x.%u: no room for BAR %u\n", function->device, function->function, i);
        function->bar[i] = address;
        function->bar_size[i] = address != 0 ? size : 0;
        mmio_write32(bar, (uint32_t)address);
        if (is_64) {
            mmio_write32(bar + 4, (uint32_t)(address >> 32));
            i++; /* its upper half */
        }
    }
}

/*
 * interrupt-map: rows of child address (3 cells), pin (1), parent phandle (1), parent address and interrupt
 * (for a PLIC its source; for an APLIC source and type). Address and pin are compared under
 * interrupt-map-mask.
 */
static uint32_t find_interrupt(const struct pci_function* function) {
    uint8_t pin = mmio_read8(configuration_of(function) + INTERRUPT_PIN); /* 1 is INTA#, 0 is none */
    if (pin == 0) return 0;
    const struct platform_pci* pci = &platform.pci;
    uint32_t wanted[4] = {(uint32_t)function->device << 11 | (uint32_t)function->function << 8, 0, 0, pin};
    uint32_t row_size = 4 * (4 + 1 + pci->interrupt_parent_address_cells + pci->interrupt_parent_cells);
    for (uint32_t at = 0; at + row_size <= pci->interrupt_map_length; at += row_size) {
        const uint8_t* row = pci->interrupt_map + at;
        bool match = true;
        for (unsigned i = 0; i < 4; i++) {
            uint32_t mask = pci->interrupt_map_mask[i];
            match = match && (fdt_cells(row + 4 * i, 1) & mask) == (wanted[i] & mask);
        }
        if (match) return (uint32_t)fdt_cells(row + 4 * (4 + 1 + pci->interrupt_parent_address_cells), 1);
    }
    return 0;
}

static void found(unsigned device, unsigned function) {
    if (pci_function_count == MAX_PCI_FUNCTIONS) return;
    uintptr_t space = configuration(device, function);
    struct pci_function* entry = &pci_functions[pci_function_count++];
    *entry = (struct pci_function){
        .device = (uint8_t)device,
        .function = (uint8_t)function,
        .vendor_id = mmio_read16(space + VENDOR_ID),
        .device_id = mmio_read16(space + DEVICE_ID),
        .class_code = mmio_read32(space + CLASS_AND_REVISION) >> 8,
    };
    if ((mmio_read8(space + HEADER_TYPE) & HEADER_LAYOUT) != 0) return; /* a bridge */
    mmio_write16(space + COMMAND, 0); /* it must not answer anywhere while its BARs are tried out */
    assign_bars(entry);
    entry->interrupt = find_interrupt(entry);
    mmio_write8(space + INTERRUPT_LINE, (uint8_t)entry->interrupt);
    /* Binding pci-iommu: requester ids [first, first + count) are the IOMMU's device ids from `device_id` on.
     */
    uint32_t requester = (uint32_t)device << 3 | function;
    const struct platform_pci* pci = &platform.pci;
    entry->behind_iommu = requester - pci->iommu_first < pci->iommu_count;
    entry->requester_id = requester - pci->iommu_first + pci->iommu_device_id;
}

void pci_start(void) {
    if (!platform.has_pci || platform.pci.configuration.size < BUS_SIZE) return;
    configuration_space = page_table_map_device(platform.pci.configuration.base, BUS_SIZE);
    window32 = platform.pci.memory32;
    window64 = platform.pci.memory64;
    for (unsigned device = 0; device < DEVICES_PER_BUS; device++) {
        if (mmio_read16(configuration(device, 0) + VENDOR_ID) == 0xffff) continue;
        bool several = (mmio_read8(configuration(device, 0) + HEADER_TYPE) & HEADER_MULTI_FUNCTION) != 0;
        for (unsigned function = 0; function < (several ? FUNCTIONS_PER_DEVICE : 1u); function++)
            if (mmio_read16(configuration(device, function) + VENDOR_ID) != 0xffff) found(device, function);
    }
}

void pci_enable(const struct pci_function* function) {
    mmio_write16(configuration_of(function) + COMMAND, COMMAND_MEMORY | COMMAND_BUS_MASTER);
}

uint8_t pci_read8(const struct pci_function* function, unsigned offset) {
    return mmio_read8(configuration_of(function) + offset);
}

uint32_t pci_read32(const struct pci_function* function, unsigned offset) {
    return mmio_read32(configuration_of(function) + offset);
}

/* 7.5.1.1.11: a list through bytes 0 (kind) and 1 (next) of each; a broken one may run in a circle. */
unsigned pci_capability(const struct pci_function* function, uint8_t id, unsigned after) {
    if ((pci_read8(function, STATUS) & STATUS_CAPABILITIES) == 0) return 0;
    unsigned at = pci_read8(function, after == 0 ? CAPABILITIES_POINTER : after + 1) & ~3u;
    for (unsigned seen = 0; at >= 0x40 && seen < 48; seen++) {
        if (pci_read8(function, at) == id) return at;
        at = pci_read8(function, at + 1) & ~3u;
    }
    return 0;
}
