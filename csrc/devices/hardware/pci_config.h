// The layout of PCI configuration space: what pci_device, pci_bridge and pcie_root_port share.
//
// Offsets and bits are those of PCI Local Bus 3.0, 6.1 to 6.8 (type 0 header, MSI, MSI-X), PCI-to-PCI
// Bridge 1.2, 3.2 (type 1 header), PCI Bus Power Management 1.2, 3.2, and PCI Express Base 3.1, 7.8
// (capability), 7.16 (ACS).
#pragma once

#include "base/types.h"

namespace wirt::devices::hardware::pci {

// --- header, both types ---

enum : unsigned {
    vendor_id = 0x00,
    device_id = 0x02,
    command = 0x04,
    status = 0x06,
    revision_id = 0x08,
    class_code = 0x09,
    header_type = 0x0e,
    bar0 = 0x10,
    capabilities_pointer = 0x34,
    interrupt_line = 0x3c,
    interrupt_pin = 0x3d,
    first_capability = 0x40,
    first_extended_capability = 0x100,
};

inline constexpr u16 command_io = 1 << 0, command_memory = 1 << 1, command_bus_master = 1 << 2,
                     command_parity = 1 << 6, command_serr = 1 << 8, command_intx_disable = 1 << 10;
inline constexpr u8 status_interrupt = 1 << 3, status_capabilities = 1 << 4;

// --- type 0 ---

enum : unsigned { subsystem_vendor_id = 0x2c, subsystem_id = 0x2e };

// --- type 1 ---

enum : unsigned {
    primary_bus = 0x18,
    secondary_bus = 0x19,
    subordinate_bus = 0x1a,
    io_base = 0x1c,
    io_limit = 0x1d,
    memory_base = 0x20,
    memory_limit = 0x22,
    prefetchable_base = 0x24,
    prefetchable_limit = 0x26,
    prefetchable_base_high = 0x28,
    prefetchable_limit_high = 0x2c,
    bridge_control = 0x3e,
};

inline constexpr u16 bridge_parity = 1 << 0, bridge_serr = 1 << 1, bridge_isa = 1 << 2,
                     bridge_bus_reset = 1 << 6;

// --- capabilities ---

inline constexpr u8 capability_power = 0x01, capability_msi = 0x05, capability_subsystem = 0x0d,
                    capability_express = 0x10, capability_msix = 0x11;

inline constexpr unsigned power_capabilities = 2, power_control = 4, power_bytes = 8;
inline constexpr u16 power_version_1_2 = 3, power_state_mask = 3, power_d0 = 0, power_d3hot = 3,
                     power_no_soft_reset = 1 << 3;

// With a 64-bit address; the last two exist with per-vector masking only.
inline constexpr unsigned msi_control = 2, msi_address = 4, msi_address_high = 8, msi_data = 12,
                          msi_mask = 16, msi_pending = 20;
inline constexpr unsigned msi_bytes = 14, msi_bytes_with_mask = 24, msi_most_vectors = 32;
inline constexpr unsigned msi_capable_shift = 1, msi_enabled_shift = 4;
inline constexpr u16 msi_enable = 1 << 0, msi_64_bit = 1 << 7, msi_maskable = 1 << 8;

inline constexpr unsigned msix_control = 2, msix_table = 4, msix_pba = 8, msix_bytes = 12;
inline constexpr u16 msix_function_mask = 1 << 14, msix_enable = 1 << 15;

// PCI Express capability, version 2.
inline constexpr unsigned express_capabilities = 0x02, express_device_capabilities = 0x04,
                          express_device_control = 0x08, express_device_status = 0x0a,
                          express_link_capabilities = 0x0c, express_link_control = 0x10,
                          express_link_status = 0x12, express_slot_capabilities = 0x14,
                          express_slot_control = 0x18, express_slot_status = 0x1a,
                          express_root_control = 0x1c, express_bytes = 0x3c;
inline constexpr u16 express_version_2 = 2, express_type_shift = 4, express_type_mask = 0xf << 4,
                     express_slot_implemented = 1 << 8;
inline constexpr u32 device_role_based_errors = 1 << 15, device_flr_capable = 1 << 28;
inline constexpr u16 device_error_reporting = 0xf, device_relaxed_ordering = 1 << 4,
                     device_no_snoop = 1 << 11, device_read_request_shift = 12,
                     device_read_request_mask = 7 << 12, device_initiate_flr = 1 << 15;
inline constexpr u32 link_speed_2_5 = 1, link_width_1 = 1 << 4, link_active_reporting = 1 << 20,
                     link_port_number_shift = 24;
inline constexpr u16 link_aspm = 3, link_disable = 1 << 4, link_common_clock = 1 << 6,
                     link_extended_synch = 1 << 7, link_active = 1 << 13;
// Slot registers (7.8.9 to 7.8.11). Events of the status register have the bits of their enables, but for the
// data link layer's.
inline constexpr u32 slot_attention_button = 1 << 0, slot_power_controller = 1 << 1,
                     slot_attention_indicator = 1 << 3, slot_power_indicator = 1 << 4, slot_surprise = 1 << 5,
                     slot_hot_plug = 1 << 6, slot_power_limit_shift = 7, slot_number_shift = 19;
inline constexpr u16 slot_event_attention = 1 << 0, slot_event_power_fault = 1 << 1,
                     slot_event_presence = 1 << 3, slot_event_command = 1 << 4, slot_event_link = 1 << 8;
inline constexpr u16 slot_enable_link = 1 << 12, slot_interrupt_enable = 1 << 5, slot_power_off = 1 << 10,
                     slot_attention_indicator_mask = 3 << 6, slot_power_indicator_mask = 3 << 8,
                     slot_attention_indicator_off = 3 << 6, slot_power_indicator_on = 1 << 8,
                     slot_power_indicator_off = 3 << 8;
inline constexpr u16 slot_present = 1 << 6;
inline constexpr u16 root_writable = 0xf;

// --- extended capabilities ---

inline constexpr u16 extended_acs = 0x000d;
inline constexpr unsigned acs_capabilities = 4, acs_control = 6, acs_bytes = 8;
inline constexpr u16 acs_source_validation = 1 << 0, acs_translation_blocking = 1 << 1,
                     acs_request_redirect = 1 << 2, acs_completion_redirect = 1 << 3,
                     acs_upstream_forwarding = 1 << 4;

}  // namespace wirt::devices::hardware::pci
