/* What the device tree says about the machine, in one struct. */
#ifndef GUEST_KERNEL_PLATFORM_H
#define GUEST_KERNEL_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/fdt.h"

enum { MAX_HARTS = 16, MAX_VIRTIO_SLOTS = 32, MAX_RESERVED = 16 };

struct address_range {
    uint64_t base;
    uint64_t size;
};

struct device_place {
    uint64_t base;
    uint64_t size;
    uint32_t interrupt; /* source number at the PLIC or APLIC; 0 is none */
    bool behind_iommu;
    uint32_t device_id; /* by which the IOMMU knows it */
};

struct platform {
    const char* model;
    const char* bootargs;
    struct address_range memory;
    struct address_range initrd;
    struct address_range device_tree;
    struct address_range reserved[MAX_RESERVED];
    unsigned reserved_count;

    unsigned hart_count;
    struct platform_hart {
        uint64_t id;
        uint32_t interrupt_controller; /* phandle of the hart's own controller */
        const char* isa;
        /* The PLIC's context, or the APLIC's or IMSICs' hart index, by which an interrupt controller knows
         * this hart's S-mode external interrupt; -1 for none. */
        int controller_index;
    } harts[MAX_HARTS];
    uint64_t timebase_frequency;
    bool has_sstc;

    struct device_place iommu;

    /* One of these two has the devices' wires; with IMSICs the APLIC sends messages to them. */
    struct device_place plic, aplic;
    uint32_t source_count;
    bool has_imsic;

    struct device_place uart;
    uint32_t uart_register_shift;

    unsigned virtio_count;
    struct device_place virtio[MAX_VIRTIO_SLOTS];

    bool has_pci;
    struct platform_pci {
        struct address_range configuration; /* the ECAM */
        uint32_t first_bus, last_bus;
        struct address_range memory32; /* where 32-bit BARs may lie (bus address = CPU address here) */
        struct address_range memory64;
        const uint8_t* interrupt_map; /* rows of cells, see pci.c */
        uint32_t interrupt_map_length;
        uint32_t interrupt_map_mask[4];
        uint32_t interrupt_parent_address_cells, interrupt_parent_cells; /* the latter without the former */
        uint32_t iommu_first, iommu_count, iommu_device_id; /* which functions stand behind the IOMMU */
    } pci;
};

extern struct platform platform;

/* Fills `platform`; panics where the kernel could not run on what is described. */
void platform_discover(const void* device_tree);

#endif
