#include "devices/hardware/pcie_root.h"

#include "base/bits.h"
#include "base/error.h"

namespace wirt::devices::hardware {

namespace {

constexpr u64 bus_bytes = u64{1} << 20;
constexpr u64 slot_bytes = u64{1} << 15;  // eight functions of 4 KiB
constexpr u64 function_bytes = u64{1} << 12;

// The host bridge as a function of its own bus: it has an identity and nothing else.
class HostBridge final : public PciDevice {
  public:
    HostBridge()
        : PciDevice({.vendor = 0x1b36,
                     .device = 0x0008,
                     .revision = 0,
                     .class_code = 0x06'00'00,
                     .subsystem_vendor = 0x1af4,
                     .subsystem = 0x1100}) {}
};

#define SLOT(n) \
    { n *slot_bytes, slot_bytes, memory::RegisterAccess::rw, "slot " #n, 0, "PCI Express 3.1, 7.2.2" }
constexpr memory::Register slot_registers[] = {
    SLOT(0),  SLOT(1),  SLOT(2),  SLOT(3),  SLOT(4),  SLOT(5),  SLOT(6),  SLOT(7),
    SLOT(8),  SLOT(9),  SLOT(10), SLOT(11), SLOT(12), SLOT(13), SLOT(14), SLOT(15),
    SLOT(16), SLOT(17), SLOT(18), SLOT(19), SLOT(20), SLOT(21), SLOT(22), SLOT(23),
    SLOT(24), SLOT(25), SLOT(26), SLOT(27), SLOT(28), SLOT(29), SLOT(30), SLOT(31),
};
#undef SLOT

}  // namespace

PcieRoot::PcieRoot(memory::AddressSpace& bus, memory::GuestRam& ram, std::array<InterruptLine, 4> intx,
                   MessageSink* messages, PcieWindows windows)
    : bus_(bus), ram_(ram), intx_(intx), messages_(messages), windows_(windows) {
    bus_.map_background(windows_.io.base, windows_.io.size, io_);
    bus_.map_background(windows_.mmio32.base, windows_.mmio32.size, mmio32_);
    bus_.map_background(windows_.mmio64.base, windows_.mmio64.size, mmio64_);
    slots_[0] = std::make_unique<HostBridge>();
    slots_[0]->attach(*this, 0);
}

PcieRoot::~PcieRoot() = default;

void PcieRoot::attach(unsigned slot, std::unique_ptr<PciDevice> device) {
    if (slot >= slot_count) {
        throw ConfigError("PCIe slot " + std::to_string(slot) + " does not exist; use 1 to 31");
    }
    std::lock_guard lock(mutex());
    if (slots_[slot] != nullptr) throw ConfigError("PCIe slot " + std::to_string(slot) + " is taken");
    device->attach(*this, slot);
    slots_[slot] = std::move(device);
}

std::unique_ptr<PciDevice> PcieRoot::detach(unsigned slot) {
    std::unique_ptr<PciDevice> device;
    {
        std::lock_guard lock(mutex());
        if (slot == 0 || slot >= slot_count || slots_[slot] == nullptr) return nullptr;
        slots_[slot]->connect(false);
        device = std::move(slots_[slot]);
    }
    unmap_bars(*device);
    return device;
}

void PcieRoot::unmap_bars(PciDevice& device) {
    for (memory::MmioDevice* const target : device.bar_targets()) bus_.unmap(*target);
}

void PcieRoot::for_each(const std::function<void(PciDevice&)>& visit) const {
    for (const auto& device : slots_) {
        if (device == nullptr) continue;
        visit(*device);
        device->for_each_behind(visit);
    }
}

std::span<const memory::Register> PcieRoot::registers() const {
    return slot_registers;
}

PciDevice* PcieRoot::function_at(u64 offset) const {
    const u8 number = static_cast<u8>(offset / bus_bytes);
    const unsigned slot = static_cast<unsigned>(offset / slot_bytes % slot_count);
    if (offset % slot_bytes >= function_bytes) return nullptr;  // functions 1 to 7
    if (number == 0) return slots_[slot].get();
    for (const auto& device : slots_) {
        if (device == nullptr) continue;
        if (PciDevice* const found = device->behind(number, slot)) return found;
    }
    return nullptr;
}

u64 PcieRoot::read(u64 offset, unsigned size) {
    PciDevice* function = function_at(offset);
    if (function == nullptr) return ~u64{0} >> (64 - 8 * size);
    const u32 at = static_cast<u32>(offset % function_bytes);
    if (size < 8) return function->config_read(at, size);
    return function->config_read(at, 4) | u64{function->config_read(at + 4, 4)} << 32;
}

void PcieRoot::write(u64 offset, unsigned size, u64 value) {
    PciDevice* function = function_at(offset);
    if (function == nullptr) return;
    const u32 at = static_cast<u32>(offset % function_bytes);
    function->config_write(at, std::min(size, 4u), static_cast<u32>(value));
    if (size == 8) function->config_write(at + 4, 4, static_cast<u32>(value >> 32));
}

void PcieRoot::reset() {
    for (const auto& device : slots_) {
        if (device) device->reset_function();
    }
}

void PcieRoot::pause() {
    std::lock_guard lock(mutex());
    for (const auto& device : slots_) {
        if (device) device->pause_function();
    }
}

void PcieRoot::resume() {
    std::lock_guard lock(mutex());
    for (const auto& device : slots_) {
        if (device) device->resume_function();
    }
}

void PcieRoot::visit_state(StateVisitor& v) {
    v.section("pcie-root", 1);
    u32 occupied = 0;
    for (unsigned slot = 0; slot < slot_count; ++slot) occupied |= u32{slots_[slot] != nullptr} << slot;
    v.field("occupied", occupied);  // only ever compared: a machine that loads was built with the same slots
    for (unsigned slot = 0; slot < slot_count; ++slot) {
        if (slots_[slot] == nullptr) continue;
        v.section("pcie-root.slot" + std::to_string(slot), 1);
        slots_[slot]->visit_function_state(v);
    }
}

void PcieRoot::set_intx(unsigned slot, unsigned pin, bool level) {
    const unsigned line = (pin + slot) & 3;
    std::lock_guard lock(intx_mutex_);
    const u32 mask = u32{1} << slot;
    asserted_[line] = level ? asserted_[line] | mask : asserted_[line] & ~mask;
    intx_[line].set(asserted_[line] != 0);
}

std::optional<u64> PcieRoot::translate(u16 requester, u64 address, memory::DmaDirection direction,
                                       u64& contiguous) {
    if (remapper_ == nullptr) return address;
    return remapper_->translate(requester, address, direction, contiguous);
}

bool PcieRoot::send_message(u16 requester, u64 address, u32 data) {
    if (remapper_ != nullptr) return remapper_->send_message(requester, address, data);
    return messages_ != nullptr && messages_->send_message(address, data);
}

void PcieRoot::add_bar(memory::MmioDevice& target, u64 size) {
    bus_.map_hidden(size, target);
}

void PcieRoot::move_bar(memory::MmioDevice& target, BarKind kind, u64 size, std::optional<u64> bus_address) {
    std::optional<u64> address;
    if (bus_address && kind == BarKind::io) {
        if (range_inside(*bus_address, size, 0, windows_.io.size)) address = windows_.io.base + *bus_address;
    } else if (bus_address) {
        const u64 base = *bus_address;
        if (range_inside(base, size, windows_.mmio32.base, windows_.mmio32.size) ||
            range_inside(base, size, windows_.mmio64.base, windows_.mmio64.size)) {
            address = base;
        }
    }
    bus_.relocate(target, address);
}

}  // namespace wirt::devices::hardware
