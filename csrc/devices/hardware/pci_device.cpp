#include "devices/hardware/pci_device.h"

#include <cstdio>
#include <cstring>

#include "base/bits.h"
#include "base/error.h"
#include "devices/hardware/pci_config.h"
#include "devices/hardware/pci_msix.h"

namespace wirt::devices::hardware {

using namespace pci;

PciDevice::PciDevice(const PciIdentity& identity, PciHeader header) {
    define(vendor_id, 2, identity.vendor, 0);
    define(device_id, 2, identity.device, 0);
    define(pci::command, 2, 0,
           command_io | command_memory | command_bus_master | command_parity | command_serr |
               command_intx_disable);
    define(revision_id, 1, identity.revision, 0);
    define(class_code, 2, identity.class_code & 0xffff, 0);
    define(class_code + 2, 1, identity.class_code >> 16, 0);
    define(header_type, 1, static_cast<u32>(header), 0);
    define(interrupt_line, 1, 0, 0xff);
    if (header == PciHeader::type1) return;
    define(subsystem_vendor_id, 2, identity.subsystem_vendor, 0);
    define(subsystem_id, 2, identity.subsystem, 0);
}

PciDevice::~PciDevice() = default;

u32 PciDevice::load(unsigned offset, unsigned size) const {
    u32 value = 0;
    std::memcpy(&value, config_.data() + offset, size);
    return value;
}

void PciDevice::store(unsigned offset, unsigned size, u32 value) {
    std::memcpy(config_.data() + offset, &value, size);
}

void PciDevice::define(unsigned offset, unsigned size, u32 reset, u32 writable) {
    store(offset, size, reset);
    std::memcpy(reset_.data() + offset, &reset, size);
    std::memcpy(writable_.data() + offset, &writable, size);
}

void PciDevice::define_write_one_clears(unsigned offset, unsigned size, u32 mask) {
    std::memcpy(clears_.data() + offset, &mask, size);
}

void PciDevice::add_bar(unsigned index, BarKind kind, u64 size, memory::MmioDevice& target) {
    const bool wide = kind == BarKind::memory64 || kind == BarKind::memory64_prefetchable;
    if (index + (wide ? 1 : 0) >= bar_count || !is_power_of_two(size) ||
        size < (kind == BarKind::io ? 4u : 16u) || (!wide && size > 2 * GiB)) {
        throw ConfigError("BAR " + std::to_string(index) + " of " + std::string(target.name()) +
                          " must be a power of two in size and one of the six");
    }
    bars_[index] = Bar{&target, kind, size, std::nullopt};
    // PCI 3.0, 6.2.5.1: the bits below the size read as zero, and the lowest say what kind it is.
    static constexpr u32 type[] = {0b01, 0b0000, 0b0100, 0b1100};
    const u64 mask = ~(size - 1);
    define(bar0 + index * 4, 4, type[static_cast<unsigned>(kind)], static_cast<u32>(mask));
    if (wide) define(bar0 + index * 4 + 4, 4, 0, static_cast<u32>(mask >> 32));
}

void PciDevice::set_interrupt_pin(unsigned pin) {
    define(interrupt_pin, 1, pin, 0);
}

void PciDevice::attach(PciBus& bus, unsigned slot) {
    if (bus_ != nullptr) throw ConfigError("a PCI function can be plugged in only once");
    for (const Bar& bar : bars_) {
        if (bar.target != nullptr) bus.add_bar(*bar.target, bar.size);
    }
    bus_ = &bus;
    slot_ = slot;
    if (bus.is_root()) integrate_into_root_complex();
    connect(true);
}

void PciDevice::connect(bool connected) {
    std::lock_guard lock(config_mutex_);
    connected_ = connected;
    apply();
}

std::vector<memory::MmioDevice*> PciDevice::bar_targets() const {
    std::vector<memory::MmioDevice*> targets;
    for (const Bar& bar : bars_) {
        if (bar.target != nullptr) targets.push_back(bar.target);
    }
    return targets;
}

u32 PciDevice::config_read(u32 offset, unsigned size) {
    return config(offset, size);
}

u32 PciDevice::config(unsigned offset, unsigned size) const {
    std::lock_guard lock(config_mutex_);
    return load(offset, size);
}

void PciDevice::config_write(u32 offset, unsigned size, u32 value) {
    bool flr_asked;
    {
        std::lock_guard lock(config_mutex_);
        const u32 power_before = power_state();
        for (unsigned i = 0; i < size; ++i) {
            const u8 byte = static_cast<u8>(value >> (8 * i));
            const u8 mask = writable_[offset + i];
            u8& stored = config_[offset + i];
            stored = static_cast<u8>(((stored & ~mask) | (byte & mask)) & ~(byte & clears_[offset + i]));
        }
        // Power Management 1.2, 3.2.4: a state that is not supported changes nothing.
        if (const u32 state = power_state(); state != power_d0 && state != power_d3hot) {
            store(power_ + power_control, 1, load(power_ + power_control, 1) - state + power_before);
        }
        flr_asked = initiates_flr(offset, size, value);
        apply();
    }
    if (flr_asked) flr();
    configured(offset, size);
}

void PciDevice::configured(u32, unsigned) {}

PciDevice* PciDevice::behind(u8, unsigned) {
    return nullptr;
}

void PciDevice::for_each_behind(const std::function<void(PciDevice&)>&) const {}

void PciDevice::refresh() {
    std::lock_guard lock(config_mutex_);
    update_bars(true);
}

void PciDevice::set_config(unsigned offset, unsigned size, u32 mask, u32 value) {
    std::lock_guard lock(config_mutex_);
    store(offset, size, (load(offset, size) & ~mask) | (value & mask));
}

void PciDevice::reset_function() {
    {
        std::lock_guard lock(config_mutex_);
        config_ = reset_;
        intx_level_ = false;
        msi_pending_ = 0;
        apply();
    }
    function_level_reset();
}

void PciDevice::visit_function_state(StateVisitor& v) {
    {
        std::lock_guard lock(config_mutex_);
        std::array<u8, config_space_bytes> visited = config_;
        v.field("configuration space", visited);
        v.field("intx", intx_level_);
        if (msi_maskable_) v.field("msi pending", msi_pending_);
        if (v.loading()) {
            // What software cannot change is not taken from a snapshot either.
            for (unsigned i = 0; i < config_space_bytes; ++i) {
                const u8 mask = writable_[i] | clears_[i];
                config_[i] = static_cast<u8>((reset_[i] & ~mask) | (visited[i] & mask));
            }
            if (msi_maskable_) msi_pending_ &= static_cast<u32>((u64{1} << msi_vectors_) - 1);
            apply();
        }
    }
    for (const Bar& bar : bars_) {
        if (bar.target != nullptr) bar.target->visit_state(v);
    }
}

u16 PciDevice::requester_id() const {
    return static_cast<u16>(bus_->number() << 8 | slot_ << 3);
}

u16 PciDevice::command() const {
    return static_cast<u16>(load(pci::command, 2));
}

bool PciDevice::active() const {
    return connected_ && power_state() == power_d0;
}

bool PciDevice::may_master() const {
    return active() && (command() & command_bus_master) != 0;
}

bool PciDevice::awake() const {
    std::lock_guard lock(config_mutex_);
    return active();
}

bool PciDevice::masters_bus() const {
    std::lock_guard lock(config_mutex_);
    return may_master();
}

// Makes what configuration space says so. Everything here is idempotent.
void PciDevice::apply() {
    gate_.enabled.store(may_master(), std::memory_order_release);
    update_bars(false);
    update_intx();
    send_pending();
}

void PciDevice::update_bars(bool again) {
    if (bus_ == nullptr) return;
    for (unsigned index = 0; index < bar_count; ++index) {
        Bar& bar = bars_[index];
        if (bar.target == nullptr) continue;
        std::optional<u64> address;
        // Power Management 1.2, 5.4.1: in D3hot only configuration space answers.
        if (active() && (command() & (bar.kind == BarKind::io ? command_io : command_memory)) != 0) {
            u64 value = load(bar0 + index * 4, 4) & ~(bar.kind == BarKind::io ? u32{3} : u32{15});
            if (bar.kind == BarKind::memory64 || bar.kind == BarKind::memory64_prefetchable) {
                value |= u64{load(bar0 + index * 4 + 4, 4)} << 32;
            }
            address = value;
        }
        if (address == bar.decoded && !again) continue;
        bar.decoded = address;
        bus_->move_bar(*bar.target, bar.kind, bar.size, address);
    }
}

void PciDevice::set_intx(bool level) {
    std::lock_guard lock(config_mutex_);
    intx_level_ = level;
    update_intx();
}

void PciDevice::update_intx() {
    // PCI 3.0, 6.2.3: Interrupt Status shows the level whether or not the pin is enabled.
    const u32 shown = load(status, 1) & ~u32{status_interrupt};
    store(status, 1, shown | (intx_level_ ? +status_interrupt : 0));
    const u32 pin = load(interrupt_pin, 1);
    // 6.8.1.3 and 6.8.2.3: a function that may send messages does not use its pin.
    const bool driven = intx_level_ && active() && (command() & command_intx_disable) == 0 &&
                        !msi_enabled() && !msix_enabled();
    if (bus_ == nullptr || pin == 0 || driven == intx_driven_) return;
    intx_driven_ = driven;
    drive_pin(pin - 1, driven);
}

void PciDevice::drive_pin(unsigned pin, bool level) {
    bus_->set_intx(slot_, pin, level);
}

memory::DmaView PciDevice::dma() {
    if (bus_ == nullptr) throw StateError("a PCI function has no memory to reach before it is plugged in");
    return memory::DmaView(bus_->ram(), &gate_);
}

void PciDevice::describe_function(DeviceDescription& out) const {
    static constexpr const char* kinds[] = {"I/O", "32-bit", "64-bit", "64-bit prefetchable"};
    const u16 id = bus_ != nullptr ? requester_id() : 0;
    std::lock_guard lock(config_mutex_);
    char text[32];
    std::snprintf(text, sizeof text, "0000:%02x:%02x.%x", id >> 8, id >> 3 & 31, id & 7);
    out.address = text;
    std::snprintf(text, sizeof text, "%04x:%04x", load(vendor_id, 2), load(device_id, 2));
    out.identity = text;
    for (unsigned index = 0; index < bar_count; ++index) {
        const Bar& bar = bars_[index];
        if (bar.target == nullptr) continue;
        out.bars.push_back({index, kinds[static_cast<unsigned>(bar.kind)], bar.size, bar.decoded});
    }
    const u32 pin = load(interrupt_pin, 1);
    if (msix_enabled()) {
        unsigned unmasked = 0;
        for (unsigned vector = 0; vector < msix_region_->vectors(); ++vector) {
            unmasked += msix_region_->masked(vector) ? 0 : 1;
        }
        out.interrupt = "MSI-X, " + std::to_string(unmasked) + " of " +
                        std::to_string(msix_region_->vectors()) + " unmasked";
    } else if (msi_enabled()) {
        out.interrupt = "MSI";
    } else if (pin != 0) {
        out.interrupt = std::string("INT") + static_cast<char>('A' + pin - 1);
    }
}

}  // namespace wirt::devices::hardware
