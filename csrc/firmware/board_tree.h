// The device tree of the `virt` board, built from a plain description.
//
// Implements: Devicetree Specification 0.4 and the bindings that Linux documents for each node's
// `compatible`; addresses and interrupt numbers come from the caller's description, whose defaults are the
// board's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/types.h"

namespace wirt::firmware {

struct AddressRange {
    u64 base = 0;
    u64 size = 0;
};

// A device with one register region and one interrupt of the PLIC or APLIC.
struct DeviceNode {
    AddressRange reg;
    u32 interrupt = 0;
};

// An APLIC of two domains.
struct AplicNodes {
    std::optional<AddressRange> machine;  // for M-mode software
    AddressRange supervisor;
    u32 sources = 0;  // riscv,num-sources: the highest source
};

// The interrupt files of all harts.
struct ImsicNodes {
    std::optional<AddressRange> machine;  // for M-mode software
    AddressRange supervisor;
    u32 identities = 0;        // riscv,num-ids
    u32 guest_index_bits = 0;  // of the supervisor level
};

struct PcieNode {
    AddressRange ecam{0x3000'0000, 0x1000'0000};
    AddressRange io{0x0300'0000, 0x1'0000};  // CPU address; bus address 0
    AddressRange mmio32{0x4000'0000, 0x4000'0000};
    AddressRange mmio64{0x4'0000'0000, 0x4'0000'0000};
    u32 first_interrupt = 32;  // INTA of device 0; four in a row, swizzled (PCI-to-PCI Bridge 1.2, 9.1)
};

// A platform device, or a function of bus 0 of the PCIe node.
struct IommuNode {
    std::optional<AddressRange> reg;
    u32 first_interrupt = 0;  // of a platform device: four in a row
    unsigned slot = 0;        // of a function
};

// The device_id of virtio-mmio slot 0; PCI functions have 16 bits.
inline constexpr u32 virtio_mmio_device_id = 0x1'0000;

struct BoardDescription {
    AddressRange memory{0x8000'0000, 0};
    unsigned harts = 1;
    u32 timebase_hz = 10'000'000;

    // Of every hart: "i", "m", ..., "zicsr", ...; in any order. The legacy `riscv,isa` is composed from it.
    std::vector<std::string> isa_extensions;
    std::string mmu_type = "riscv,sv57";
    u32 cache_block_size = 64;  // Zicbom, Zicbop, Zicboz

    AddressRange plic{0x0c00'0000, 0x60'0000};
    u32 plic_sources = 95;            // riscv,ndev: the highest source
    std::optional<AplicNodes> aplic;  // instead of the PLIC
    std::optional<ImsicNodes> imsic;  // then the APLIC sends messages, as PCI functions do
    // The ACLINT is for M-mode: leave it out where the monitor serves the SBI.
    std::optional<AddressRange> aclint;
    std::optional<DeviceNode> uart = DeviceNode{{0x1000'0000, 0x100}, 10};
    u32 uart_clock_hz = 3'686'400;
    std::optional<DeviceNode> rtc = DeviceNode{{0x10'1000, 0x1000}, 11};
    std::optional<DeviceNode> vmgenid = DeviceNode{{0x10'2000, 0x1000}, 12};
    std::optional<AddressRange> test = AddressRange{0x10'0000, 0x1000};
    unsigned virtio_mmio_slots = 8;  // slot n: base + n * 0x1000, interrupt 1 + n
    u64 virtio_mmio_base = 0x1000'1000;
    std::optional<PcieNode> pcie = PcieNode{};
    std::optional<IommuNode> iommu;  // in front of all PCI functions and virtio-mmio slots
    // mhpmcounter3.. that can be programmed, as a mask of counter numbers; no value: no pmu node.
    std::optional<u32> pmu_counters = 0;
    // What they can count, by the SBI's event numbers, which are mhpmevent's selectors as well.
    std::vector<u32> pmu_events;

    // /chosen
    std::string bootargs;
    std::optional<AddressRange> initrd;
    std::vector<u8> rng_seed;
};

// Throws ConfigError when the description names no hart or no memory.
std::vector<u8> build_board_tree(const BoardDescription& board);

// The `riscv,isa` string of a 64-bit hart: single letters in the canonical order of the unprivileged
// specification's chapter "ISA Extension Naming Conventions", then the others, joined by underscores.
std::string legacy_isa_string(const std::vector<std::string>& extensions);

}  // namespace wirt::firmware
