/*
 * Finds the machine in its device tree: Devicetree Specification v0.4 (chapter 2 for the standard properties,
 * chapter 3 for /cpus, /memory, /chosen), and the bindings "riscv,cpus", "sifive,plic-1.0.0", "riscv,aplic",
 * "riscv,imsics", "ns16550a", "virtio,mmio" and "pci-host-ecam-generic" of the Linux kernel's
 * Documentation/devicetree/bindings.
 */
#include "kernel/platform.h"

#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/string.h"

struct platform platform;

enum { MAX_DEPTH = 8, MAX_WIRINGS = 4 };

/* What a node means to its children: how many cells an address and a size take (2.3.5). */
struct level {
    uint32_t address_cells;
    uint32_t size_cells;
    bool is_cpu;
    bool is_reserved_memory;
};

static struct device_place device_place(const struct fdt* fdt, const struct fdt_node* node,
                                        const struct level* parent) {
    struct device_place place = {0};
    uint32_t length;
    const uint8_t* reg = fdt_property(fdt, node, "reg", &length);
    if (reg != NULL && length >= 4 * (parent->address_cells + parent->size_cells)) {
        place.base = fdt_cells(reg, parent->address_cells);
        place.size = fdt_cells(reg + 4 * parent->address_cells, parent->size_cells);
    }
    place.interrupt = fdt_u32(fdt, node, "interrupts", 0);
    /* Binding iommu: a phandle and, for riscv,iommu, one cell with the device's number. */
    const uint8_t* iommus = fdt_property(fdt, node, "iommus", &length);
    if (iommus != NULL && length >= 8) {
        place.behind_iommu = true;
        place.device_id = (uint32_t)fdt_cells(iommus + 4, 1);
    }
    return place;
}

static void reserve(uint64_t base, uint64_t size) {
    if (size != 0 && platform.reserved_count < MAX_RESERVED)
        platform.reserved[platform.reserved_count++] = (struct address_range){base, size};
}

static bool isa_has_sstc(const struct fdt* fdt, const struct fdt_node* node, const char* isa) {
    if (fdt_string_list_has(fdt, node, "riscv,isa-extensions", "sstc")) return true;
    for (; isa != NULL && *isa != '\0'; isa++)
        if (text_starts_with(isa, "_sstc")) return true;
    return false;
}

static void found_cpu(const struct fdt* fdt, const struct fdt_node* node) {
    const char* status = fdt_string(fdt, node, "status");
    if (platform.hart_count == MAX_HARTS || (status != NULL && !text_equal(status, "okay"))) return;
    struct platform_hart* hart = &platform.harts[platform.hart_count++];
    uint32_t length;
    const void* reg = fdt_property(fdt, node, "reg", &length);
    hart->id = reg != NULL && length >= 4 ? fdt_cells(reg, length / 4 > 2 ? 2 : length / 4) : 0;
    hart->isa = fdt_string(fdt, node, "riscv,isa");
    hart->controller_index = -1;
    platform.has_sstc = isa_has_sstc(fdt, node, hart->isa);
}

/* Binding pci-host-ecam-generic: `ranges` rows are flags, bus address (3 cells), CPU address (2), size (2).
 */
static void found_pci(const struct fdt* fdt, const struct fdt_node* node, struct device_place place) {
    struct platform_pci* pci = &platform.pci;
    platform.has_pci = true;
    pci->configuration = (struct address_range){place.base, place.size};
    uint32_t length;
    const uint8_t* buses = fdt_property(fdt, node, "bus-range", &length);
    pci->last_bus = (uint32_t)(place.size >> 20) - 1;
    if (buses != NULL && length == 8) {
        pci->first_bus = (uint32_t)fdt_cells(buses, 1);
        pci->last_bus = (uint32_t)fdt_cells(buses + 4, 1);
    }
    const uint8_t* row = fdt_property(fdt, node, "ranges", &length);
    for (; row != NULL && length >= 28; row += 28, length -= 28) {
        uint32_t space = (uint32_t)fdt_cells(row, 1) >> 24 & 3; /* 1 I/O, 2 memory, 3 64-bit memory */
        uint64_t bus_address = fdt_cells(row + 4, 2);
        struct address_range window = {fdt_cells(row + 12, 2), fdt_cells(row + 20, 2)};
        if (bus_address != window.base) continue;
        if (space == 2) pci->memory32 = window;
        if (space == 3) pci->memory64 = window;
    }
    const uint8_t* iommu_map = fdt_property(fdt, node, "iommu-map", &length);
    if (iommu_map != NULL && length >= 16) { /* first requester id, IOMMU, first device id, count */
        pci->iommu_first = (uint32_t)fdt_cells(iommu_map, 1);
        pci->iommu_device_id = (uint32_t)fdt_cells(iommu_map + 8, 1);
        pci->iommu_count = (uint32_t)fdt_cells(iommu_map + 12, 1);
    }
    pci->interrupt_map = fdt_property(fdt, node, "interrupt-map", &pci->interrupt_map_length);
    const uint8_t* mask = fdt_property(fdt, node, "interrupt-map-mask", &length);
    for (unsigned i = 0; mask != NULL && length == 16 && i < 4; i++)
        pci->interrupt_map_mask[i] = (uint32_t)fdt_cells(mask + 4 * i, 1);
}

static void found_chosen(const struct fdt* fdt, const struct fdt_node* node) {
    platform.bootargs = fdt_string(fdt, node, "bootargs");
    uint64_t start = fdt_number(fdt, node, "linux,initrd-start", 0);
    uint64_t end = fdt_number(fdt, node, "linux,initrd-end", 0);
    if (end > start) {
        platform.initrd = (struct address_range){start, end - start};
        reserve(start, end - start);
    }
}

/*
 * Bindings sifive,plic-1.0.0, riscv,aplic and riscv,imsics: the n-th row of interrupts-extended is the PLIC's
 * context n, the APLIC's hart index n, or the n-th IMSIC, and names the hart's controller and the interrupt
 * it raises there: 9 is the S-mode external interrupt. Those of M-mode's controllers name another.
 */
struct wiring {
    const uint8_t* rows;
    uint32_t length;
};

static void assign_controllers(struct wiring wiring) {
    const uint8_t* row = wiring.rows;
    for (int index = 0; row != NULL && wiring.length >= 8; index++, row += 8, wiring.length -= 8)
        for (unsigned i = 0; i < platform.hart_count; i++)
            if (fdt_cells(row, 1) == platform.harts[i].interrupt_controller &&
                fdt_cells(row + 4, 1) == INTERRUPT_EXTERNAL)
                platform.harts[i].controller_index = index;
}

static void found_wiring(struct wiring wirings[MAX_WIRINGS], const struct fdt* fdt,
                         const struct fdt_node* node) {
    unsigned free = 0;
    while (free < MAX_WIRINGS && wirings[free].rows != NULL) free++;
    if (free == MAX_WIRINGS) return;
    wirings[free].rows = fdt_property(fdt, node, "interrupts-extended", &wirings[free].length);
}

static void found_controller(struct device_place* place, const char* sources, const struct fdt* fdt,
                             const struct fdt_node* node, struct device_place where) {
    *place = where;
    platform.source_count = fdt_u32(fdt, node, sources, 0);
    platform.pci.interrupt_parent_address_cells = fdt_u32(fdt, node, "#address-cells", 0);
    platform.pci.interrupt_parent_cells = fdt_u32(fdt, node, "#interrupt-cells", 1);
}

void platform_discover(const void* device_tree) {
    struct fdt fdt;
    if (!fdt_open(&fdt, device_tree)) panic("no device tree at %p\n", device_tree);
    platform.device_tree = (struct address_range){(uintptr_t)device_tree, fdt.total_size};
    reserve((uintptr_t)device_tree, fdt.total_size);
    uint64_t base, size;
    for (unsigned i = 0; fdt_reservation(&fdt, i, &base, &size); i++) reserve(base, size);

    struct level levels[MAX_DEPTH] = {[0] = {.address_cells = 2, .size_cells = 1}};

    struct wiring wirings[MAX_WIRINGS] = {{0}};
    struct fdt_node node = {0};
    while (fdt_next(&fdt, &node)) {
        if (node.depth < 1 || node.depth >= MAX_DEPTH) continue;
        const struct level* parent = &levels[node.depth - 1];
        struct level* level = &levels[node.depth];
        /* 2.3.5: the defaults are 2 and 1; they are not inherited. */
        level->address_cells = fdt_u32(&fdt, &node, "#address-cells", 2);
        level->size_cells = fdt_u32(&fdt, &node, "#size-cells", 1);
        if (level->address_cells > 3 || level->size_cells > 2) panic("odd cell counts in %s\n", node.name);
        const char* type = fdt_string(&fdt, &node, "device_type");
        level->is_cpu = type != NULL && text_equal(type, "cpu");
        level->is_reserved_memory = node.depth == 2 && text_equal(node.name, "reserved-memory");

        struct device_place place = device_place(&fdt, &node, parent);
        if (node.depth == 1) {
            platform.model = fdt_string(&fdt, &node, "model");
        } else if (text_equal(node.name, "chosen")) {
            found_chosen(&fdt, &node);
        } else if (text_equal(node.name, "cpus")) {
            platform.timebase_frequency = fdt_number(&fdt, &node, "timebase-frequency", 0);
        } else if (level->is_cpu) {
            found_cpu(&fdt, &node);
        } else if (parent->is_cpu && fdt_string_list_has(&fdt, &node, "compatible", "riscv,cpu-intc")) {
            if (platform.hart_count > 0)
                platform.harts[platform.hart_count - 1].interrupt_controller =
                    fdt_u32(&fdt, &node, "phandle", 0);
        } else if (type != NULL && text_equal(type, "memory")) {
            if (place.size > platform.memory.size)
                platform.memory = (struct address_range){place.base, place.size};
        } else if (parent->is_reserved_memory) {
            reserve(place.base, place.size);
        } else if (fdt_string_list_has(&fdt, &node, "compatible", "sifive,plic-1.0.0") ||
                   fdt_string_list_has(&fdt, &node, "compatible", "riscv,plic0")) {
            found_controller(&platform.plic, "riscv,ndev", &fdt, &node, place);
            found_wiring(wirings, &fdt, &node);
        } else if (fdt_string_list_has(&fdt, &node, "compatible", "riscv,aplic")) {
            /* A domain that has others below it is the firmware's. */
            if (fdt_property(&fdt, &node, "riscv,children", NULL) != NULL) continue;
            found_controller(&platform.aplic, "riscv,num-sources", &fdt, &node, place);
            found_wiring(wirings, &fdt, &node);
        } else if (fdt_string_list_has(&fdt, &node, "compatible", "riscv,imsics")) {
            found_wiring(wirings, &fdt, &node);
            platform.has_imsic = true;
        } else if (fdt_string_list_has(&fdt, &node, "compatible", "riscv,iommu")) {
            platform.iommu = place;
        } else if (fdt_string_list_has(&fdt, &node, "compatible", "ns16550a")) {
            if (platform.uart.size == 0) {
                platform.uart = place;
                platform.uart_register_shift = fdt_u32(&fdt, &node, "reg-shift", 0);
            }
        } else if (fdt_string_list_has(&fdt, &node, "compatible", "virtio,mmio")) {
            if (platform.virtio_count < MAX_VIRTIO_SLOTS) platform.virtio[platform.virtio_count++] = place;
        } else if (fdt_string_list_has(&fdt, &node, "compatible", "pci-host-ecam-generic")) {
            if (!platform.has_pci) found_pci(&fdt, &node, place);
        }
    }
    for (unsigned i = 0; i < MAX_WIRINGS; i++) assign_controllers(wirings[i]);
    if (platform.memory.size == 0) panic("the device tree names no memory\n");
    if (platform.hart_count == 0) panic("the device tree names no hart\n");
    if (platform.timebase_frequency == 0) panic("the device tree has no timebase-frequency\n");
    if (platform.model == NULL) platform.model = "(no model)";
    if (platform.bootargs == NULL) platform.bootargs = "";
}
