#include "devices/hardware/pcie_root_port.h"

#include "base/error.h"
#include "devices/hardware/pci_config.h"

namespace wirt::devices::hardware {

using namespace pci;

namespace {

constexpr unsigned subsystem = 0x40, power = 0x48, express = 0x50, msi = 0x90;

constexpr u16 events = slot_event_attention | slot_event_power_fault | slot_event_presence |
                       slot_event_command | slot_event_link;
constexpr u16 events_enabled_in_place = events & ~slot_event_link;
constexpr u16 slot_control_writable = events_enabled_in_place | slot_interrupt_enable |
                                      slot_attention_indicator_mask | slot_power_indicator_mask |
                                      slot_power_off | slot_enable_link;
constexpr u32 slot_power_watts = 25;

constexpr u16 access_controls = acs_source_validation | acs_translation_blocking | acs_request_redirect |
                                acs_completion_redirect | acs_upstream_forwarding;

}  // namespace

PcieRootPort::PcieRootPort(unsigned physical_slot)
    : PciBridge({.vendor = 0x1b36, .device = 0x000c, .revision = 0, .class_code = 0x06'04'00}) {
    set_interrupt_pin(1);
    add_capability(subsystem, capability_subsystem, 8);
    define(subsystem + 4, 4, 0x1100'1af4, 0);
    add_power_management(power);

    add_pci_express(express, PcieKind::root_port);
    define(express + express_capabilities, 2,
           express_version_2 | static_cast<u32>(PcieKind::root_port) << express_type_shift |
               express_slot_implemented,
           0);
    define(express + express_link_capabilities, 4,
           link_speed_2_5 | link_width_1 | link_active_reporting | physical_slot << link_port_number_shift,
           0);
    define(express + express_link_control, 2, 0,
           link_aspm | link_disable | link_common_clock | link_extended_synch);
    define(express + express_slot_capabilities, 4,
           slot_attention_button | slot_power_controller | slot_attention_indicator | slot_power_indicator |
               slot_surprise | slot_hot_plug | slot_power_watts << slot_power_limit_shift |
               physical_slot << slot_number_shift,
           0);
    // The slot has power from the start: an operating system without a hot-plug driver finds what is in it.
    define(express + express_slot_control, 2, slot_attention_indicator_off | slot_power_indicator_off,
           slot_control_writable);
    define(express + express_slot_status, 2, 0, 0);
    define_write_one_clears(express + express_slot_status, 2, events);
    define(express + express_root_control, 2, 0, root_writable);

    add_msi(msi, 1, true);

    const unsigned acs = add_extended_capability(first_extended_capability, extended_acs, 1, acs_bytes);
    define(acs + acs_capabilities, 2, access_controls, 0);
    define(acs + acs_control, 2, 0, access_controls);
}

void PcieRootPort::attach_behind(unsigned slot, std::unique_ptr<PciDevice> device) {
    if (slot != 0) throw ConfigError("a PCIe root port has one slot");
    PciBridge::attach_behind(slot, std::move(device));
    device_behind(0)->connect(false);
    update_link(true);
    raise(slot_event_presence);
}

std::unique_ptr<PciDevice> PcieRootPort::detach_behind(unsigned slot) {
    auto device = PciBridge::detach_behind(slot);
    if (device == nullptr) return nullptr;
    update_link(true);
    raise(slot_event_presence);
    return device;
}

void PcieRootPort::press_attention_button() {
    raise(slot_event_attention);
}

bool PcieRootPort::button_heard() const {
    constexpr u32 both = slot_event_attention | slot_interrupt_enable;
    return (config(express + express_slot_control, 2) & both) == both;
}

bool PcieRootPort::powered() const {
    return (config(express + express_slot_control, 2) & slot_power_off) == 0;
}

void PcieRootPort::raise(u16 happened) {
    set_config(express + express_slot_status, 2, happened, happened);
    update_interrupt(true);
}

// Power, presence and the link (6.7.3.3, 7.8.7). A link that goes down resets what is behind it (6.6.1).
void PcieRootPort::update_link(bool tell) {
    PciDevice* const device = device_behind(0);
    const bool enabled = (config(express + express_link_control, 2) & link_disable) == 0;
    const bool up = device != nullptr && powered() && enabled;
    const bool changed = up != link_up_;
    link_up_ = up;
    set_config(express + express_link_status, 2, link_active, up ? +link_active : 0);
    set_config(express + express_slot_status, 2, slot_present, device != nullptr ? +slot_present : 0);
    if (device != nullptr) {
        if (changed && !up) device->reset_function();
        device->connect(up);
    }
    if (changed && tell) raise(slot_event_link);
}

// 6.7.3.4: one interrupt for all events, at the moment when the first of them is there.
void PcieRootPort::update_interrupt(bool tell) {
    const u32 status = config(express + express_slot_status, 2);
    const u32 control = config(express + express_slot_control, 2);
    u32 enabled = control & events_enabled_in_place;
    if ((control & slot_enable_link) != 0) enabled |= slot_event_link;
    const bool wanted = (control & slot_interrupt_enable) != 0 && (status & enabled) != 0;
    const bool fresh = wanted && !interrupt_;
    interrupt_ = wanted;
    if (fresh && tell) notify(0);
    PciDevice::set_intx(wanted);
}

void PcieRootPort::restored(bool by_reset) {
    update_link(false);
    if (by_reset) {
        set_config(express + express_slot_control, 2, slot_power_indicator_mask,
                   device_behind(0) != nullptr ? slot_power_indicator_on : slot_power_indicator_off);
    }
    update_interrupt(false);
    PciBridge::restored(by_reset);
}

void PcieRootPort::configured(u32 offset, unsigned size) {
    update_link(true);
    PciBridge::configured(offset, size);
    constexpr u32 control = express + express_slot_control;
    if (offset < control + 2 && control < offset + size) {
        // 6.7.3.2: every write is a command, and here it is carried out at once.
        raise(slot_event_command);
        controlled_.notify_all();
    }
    update_interrupt(true);
}

}  // namespace wirt::devices::hardware
