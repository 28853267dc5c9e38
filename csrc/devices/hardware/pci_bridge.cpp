#include "devices/hardware/pci_bridge.h"

#include "base/bits.h"
#include "base/error.h"
#include "devices/hardware/pci_config.h"

namespace wirt::devices::hardware {

using namespace pci;

PciBridge::PciBridge(const PciIdentity& identity) : PciDevice(identity, PciHeader::type1) {
    define(primary_bus, 1, 0, 0xff);
    define(secondary_bus, 1, 0, 0xff);
    define(subordinate_bus, 1, 0, 0xff);
    // 3.2.5.6, 3.2.5.8: the low bits say that I/O addresses have 16 bits and prefetchable ones 64.
    define(io_base, 1, 0, 0xf0);
    define(io_limit, 1, 0, 0xf0);
    define(memory_base, 2, 0, 0xfff0);
    define(memory_limit, 2, 0, 0xfff0);
    define(prefetchable_base, 2, 1, 0xfff0);
    define(prefetchable_limit, 2, 1, 0xfff0);
    define(prefetchable_base_high, 4, 0, ~u32{0});
    define(prefetchable_limit_high, 4, 0, ~u32{0});
    define(bridge_control, 2, 0, bridge_parity | bridge_serr | bridge_isa | bridge_bus_reset);
}

PciBridge::~PciBridge() = default;

void PciBridge::attach_behind(unsigned slot, std::unique_ptr<PciDevice> device) {
    if (slot >= slot_count || children_[slot] != nullptr) {
        throw ConfigError("slot " + std::to_string(slot) + " behind the PCI bridge is taken or none");
    }
    device->attach(*this, slot);
    children_[slot] = std::move(device);
}

std::unique_ptr<PciDevice> PciBridge::detach_behind(unsigned slot) {
    if (slot >= slot_count || children_[slot] == nullptr) return nullptr;
    children_[slot]->connect(false);
    return std::move(children_[slot]);
}

// 3.2.5.4, 3.2.5.5: a type 1 configuration request goes on when its bus lies between secondary and
// subordinate, and becomes type 0 on the secondary bus.
PciDevice* PciBridge::behind(u8 wanted, unsigned slot) {
    const u8 secondary = number();
    if (!reachable_ || !link_up() || wanted < secondary || wanted > subordinate_) return nullptr;
    if (wanted == secondary) return children_[slot].get();
    for (const auto& child : children_) {
        if (child == nullptr) continue;
        if (PciDevice* const found = child->behind(wanted, slot)) return found;
    }
    return nullptr;
}

void PciBridge::for_each_behind(const std::function<void(PciDevice&)>& visit) const {
    for (const auto& child : children_) {
        if (child == nullptr) continue;
        visit(*child);
        child->for_each_behind(visit);
    }
}

void PciBridge::refresh() {
    PciDevice::refresh();
    for (const auto& child : children_) {
        if (child != nullptr) child->refresh();
    }
}

void PciBridge::pause_function() {
    for (const auto& child : children_) {
        if (child != nullptr) child->pause_function();
    }
}

void PciBridge::resume_function() {
    for (const auto& child : children_) {
        if (child != nullptr) child->resume_function();
    }
}

void PciBridge::reset_function() {
    PciDevice::reset_function();
    restored(true);
    for (const auto& child : children_) {
        if (child != nullptr) child->reset_function();
    }
}

void PciBridge::visit_function_state(StateVisitor& v) {
    PciDevice::visit_function_state(v);
    // A machine that loads was built with the same functions in the same slots; this is what tells two apart.
    u32 occupied = 0;
    for (unsigned slot = 0; slot < slot_count; ++slot) {
        occupied |= u32{children_[slot] != nullptr} << slot;
    }
    v.field("occupied", occupied);
    if (v.loading()) restored(false);
    for (unsigned i = 0; i < slot_count; ++i) {
        if (children_[i] == nullptr) continue;
        v.section("pcie-root.slot" + std::to_string(slot()) + "." + std::to_string(i), 1);
        children_[i]->visit_function_state(v);
    }
}

void PciBridge::restored(bool) {
    update_forwarding();
}

void PciBridge::configured(u32 offset, unsigned size) {
    PciDevice::configured(offset, size);
    update_forwarding();
    // 3.2.5.18: software sets the bit, and clears it when the bus has been in reset for long enough.
    if (offset <= bridge_control && bridge_control < offset + size &&
        (config(bridge_control, 2) & bridge_bus_reset) != 0) {
        for (const auto& child : children_) {
            if (child != nullptr) child->reset_function();
        }
    }
}

void PciBridge::update_forwarding() {
    const u32 command = config(pci::command, 2);
    const bool on = awake();
    secondary_.store(static_cast<u8>(config(secondary_bus, 1)), std::memory_order_release);
    subordinate_ = static_cast<u8>(config(subordinate_bus, 1));
    reachable_ = on;
    upstream_.store(on && (command & command_bus_master) != 0, std::memory_order_release);
    isa_ = (config(bridge_control, 2) & bridge_isa) != 0;

    io_ = memory_ = prefetchable_ = Window{};
    if (on && (command & command_io) != 0) {
        io_ = {u64{config(io_base, 1) & 0xf0} << 8, u64{config(io_limit, 1) & 0xf0} << 8 | 0xfff};
    }
    if (on && (command & command_memory) != 0) {
        const auto field = [this](unsigned offset) { return u64{config(offset, 2) & 0xfff0} << 16; };
        memory_ = {field(memory_base), field(memory_limit) | 0xf'ffff};
        prefetchable_ = {
            field(prefetchable_base) | u64{config(prefetchable_base_high, 4)} << 32,
            field(prefetchable_limit) | u64{config(prefetchable_limit_high, 4)} << 32 | 0xf'ffff};
    }
    for (const auto& child : children_) {
        if (child != nullptr) child->refresh();
    }
}

bool PciBridge::forwards(BarKind kind, u64 base, u64 size) const {
    if (!link_up()) return false;
    if (kind != BarKind::io) return memory_.holds(base, size) || prefetchable_.holds(base, size);
    // 3.2.5.18, ISA Enable: of each KiB only the first 256 bytes are forwarded.
    return io_.holds(base, size) && !(isa_ && (base % 1024 + size > 256));
}

void PciBridge::move_bar(memory::MmioDevice& target, BarKind kind, u64 size, std::optional<u64> bus_address) {
    if (bus_address && !forwards(kind, *bus_address, size)) bus_address.reset();
    bus()->move_bar(target, kind, size, bus_address);
}

// The bridge has one wire a pin to the bus above, which its own interrupt shares with those behind it.
void PciBridge::wire(u64 source, unsigned pin, bool level) {
    std::lock_guard lock(intx_mutex_);
    const bool before = asserted_[pin] != 0;
    asserted_[pin] = level ? asserted_[pin] | source : asserted_[pin] & ~source;
    if (before != (asserted_[pin] != 0)) PciDevice::drive_pin(pin, !before);
}

void PciBridge::set_intx(unsigned slot, unsigned pin, bool level) {
    wire(u64{1} << slot, (pin + slot) & 3, level);
}

void PciBridge::drive_pin(unsigned pin, bool level) {
    wire(u64{1} << slot_count, pin, level);
}

std::optional<u64> PciBridge::translate(u16 requester, u64 address, memory::DmaDirection direction,
                                        u64& contiguous) {
    if (!upstream_.load(std::memory_order_acquire)) return std::nullopt;
    return bus()->translate(requester, address, direction, contiguous);
}

bool PciBridge::send_message(u16 requester, u64 address, u32 data) {
    return upstream_.load(std::memory_order_acquire) && bus()->send_message(requester, address, data);
}

}  // namespace wirt::devices::hardware
