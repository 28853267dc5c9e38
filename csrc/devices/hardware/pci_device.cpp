#include "devices/hardware/pci_device.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bits.h"
#include "base/error.h"

namespace wirt::devices::hardware {

namespace {

// The type 0 header (PCI 3.0, 6.1) and the bits of its command and status registers (6.2.2, 6.2.3).
constexpr u16 command_io = 1 << 0, command_memory = 1 << 1, command_bus_master = 1 << 2,
              command_parity = 1 << 6, command_serr = 1 << 8, command_intx_disable = 1 << 10;
constexpr u8 status_interrupt = 1 << 3, status_capabilities = 1 << 4;

enum : unsigned {
    vendor_id = 0x00,
    device_id = 0x02,
    command_register = 0x04,
    status_register = 0x06,
    revision_id = 0x08,
    class_code = 0x09,
    bar0 = 0x10,
    subsystem_vendor_id = 0x2c,
    subsystem_id = 0x2e,
    capabilities_pointer = 0x34,
    interrupt_line = 0x3c,
    interrupt_pin = 0x3d,
};

constexpr u8 capability_msi = 0x05, capability_msix = 0x11;

// MSI (PCI 3.0, 6.8.1) with a 64-bit address and no per-vector masking.
constexpr unsigned msi_control = 2, msi_address = 4, msi_address_high = 8, msi_data = 12, msi_bytes = 14;
constexpr u16 msi_enable = 1 << 0, msi_64_bit = 1 << 7;

// MSI-X (PCI 3.0, 6.8.2).
constexpr unsigned msix_control = 2, msix_table = 4, msix_pba = 8, msix_bytes = 12;
constexpr u16 msix_function_mask = 1 << 14, msix_enable = 1 << 15;
constexpr u64 msix_entry_bytes = 16;
constexpr u64 msix_pba_offset = 0x800;
constexpr unsigned msix_most_vectors = msix_pba_offset / msix_entry_bytes;

}  // namespace

// The BAR that holds the MSI-X table and the pending bits. Its state is guarded by the function's
// config_mutex_, since a message is sent with the device's mutex held and not this region's.
class PciDevice::MsixRegion final : public memory::MmioDevice {
  public:
    MsixRegion(PciDevice& owner, std::string name, unsigned vectors)
        : owner_(owner),
          name_(std::move(name)),
          table_(vectors * msix_entry_bytes),
          pending_(align_up(vectors, 64) / 8) {
        reset();
    }

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override {
        using enum memory::RegisterAccess;
        static constexpr memory::Register table[] = {
            {0, msix_pba_offset, rw, "table", 0, "PCI 3.0, 6.8.2.6 to 6.8.2.9"},
            {msix_pba_offset, msix_most_vectors / 8, ro, "pending bits", 0, "PCI 3.0, 6.8.2.10"},
        };
        return table;
    }

    u64 read(u64 offset, unsigned size) override {
        std::lock_guard lock(owner_.config_mutex_);
        u64 value = 0;
        const std::vector<u8>& from = offset < msix_pba_offset ? table_ : pending_;
        const u64 start = offset < msix_pba_offset ? offset : offset - msix_pba_offset;
        if (start + size <= from.size()) std::memcpy(&value, from.data() + start, size);
        return value;
    }

    // Dwords and quadwords only: others are undefined (6.8.2) and here ignored.
    void write(u64 offset, unsigned size, u64 value) override {
        if (size < 4 || offset + size > table_.size()) return;
        std::lock_guard lock(owner_.config_mutex_);
        std::memcpy(table_.data() + offset, &value, size);
        owner_.send_pending();
    }

    void reset() override {
        std::lock_guard lock(owner_.config_mutex_);
        std::fill(table_.begin(), table_.end(), u8{0});
        std::fill(pending_.begin(), pending_.end(), u8{0});
        for (u64 at = 12; at < table_.size(); at += msix_entry_bytes) table_[at] = 1;  // masked
    }

    void visit_state(StateVisitor& v) override {
        v.section(name_, 1);
        const std::size_t table_bytes = table_.size();
        const std::size_t pending_bytes = pending_.size();
        v.blob("table", table_, table_bytes);
        v.blob("pending", pending_, pending_bytes);
        table_.resize(table_bytes);
        pending_.resize(pending_bytes);
    }

    unsigned vectors() const { return static_cast<unsigned>(table_.size() / msix_entry_bytes); }
    bool masked(unsigned vector) const { return (table_[vector * msix_entry_bytes + 12] & 1) != 0; }
    u64 address(unsigned vector) const {
        return load_le<u64>(table_.data() + vector * msix_entry_bytes) & ~u64{3};
    }
    u32 data(unsigned vector) const { return load_le<u32>(table_.data() + vector * msix_entry_bytes + 8); }
    bool pending(unsigned vector) const { return (pending_[vector / 8] >> (vector % 8)) & 1; }
    void set_pending(unsigned vector, bool value) {
        const u8 mask = static_cast<u8>(1u << (vector % 8));
        pending_[vector / 8] =
            static_cast<u8>(value ? pending_[vector / 8] | mask : pending_[vector / 8] & ~mask);
    }

  private:
    PciDevice& owner_;
    const std::string name_;
    std::vector<u8> table_;
    std::vector<u8> pending_;
};

PciDevice::PciDevice(const PciIdentity& identity) {
    define(vendor_id, 2, identity.vendor, 0);
    define(device_id, 2, identity.device, 0);
    define(command_register, 2, 0,
           command_io | command_memory | command_bus_master | command_parity | command_serr |
               command_intx_disable);
    define(revision_id, 1, identity.revision, 0);
    define(class_code, 2, identity.class_code & 0xffff, 0);
    define(class_code + 2, 1, identity.class_code >> 16, 0);
    define(subsystem_vendor_id, 2, identity.subsystem_vendor, 0);
    define(subsystem_id, 2, identity.subsystem, 0);
    define(interrupt_line, 1, 0, 0xff);
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

unsigned PciDevice::add_capability(unsigned offset, u8 id, unsigned length) {
    if (offset < 0x40 || offset % 4 != 0 || offset + length > 0x100) {
        throw ConfigError("a PCI capability must lie at a multiple of 4 between 0x40 and 0xff");
    }
    define(offset, 2, id, 0);
    define(last_capability_ == 0 ? +capabilities_pointer : last_capability_ + 1, 1, offset, 0);
    define(status_register, 1, status_capabilities, 0);
    last_capability_ = offset;
    return offset;
}

void PciDevice::set_interrupt_pin(unsigned pin) {
    define(interrupt_pin, 1, pin, 0);
}

void PciDevice::add_msi(unsigned offset) {
    msi_ = add_capability(offset, capability_msi, msi_bytes);
    define(msi_ + msi_control, 2, msi_64_bit, msi_enable);
    define(msi_ + msi_address, 4, 0, ~u32{3});
    define(msi_ + msi_address_high, 4, 0, ~u32{0});
    define(msi_ + msi_data, 2, 0, 0xffff);
}

void PciDevice::add_msix(unsigned offset, unsigned bar, unsigned vectors, std::string name) {
    if (vectors == 0 || vectors > msix_most_vectors) {
        throw ConfigError("MSI-X needs 1 to " + std::to_string(msix_most_vectors) + " vectors");
    }
    msix_region_ = std::make_unique<MsixRegion>(*this, std::move(name), vectors);
    add_bar(bar, BarKind::memory32, page_size, *msix_region_);
    msix_ = add_capability(offset, capability_msix, msix_bytes);
    define(msix_ + msix_control, 2, vectors - 1, msix_enable | msix_function_mask);
    define(msix_ + msix_table, 4, bar, 0);
    define(msix_ + msix_pba, 4, static_cast<u32>(msix_pba_offset) | bar, 0);
}

void PciDevice::attach(PciBus& bus, unsigned slot) {
    if (bus_ != nullptr) throw ConfigError("a PCI function can be plugged in only once");
    for (const Bar& bar : bars_) {
        if (bar.target != nullptr) bus.add_bar(*bar.target, bar.size);
    }
    bus_ = &bus;
    slot_ = slot;
}

u32 PciDevice::config_read(u32 offset, unsigned size) const {
    std::lock_guard lock(config_mutex_);
    return load(offset, size);
}

void PciDevice::config_write(u32 offset, unsigned size, u32 value) {
    std::lock_guard lock(config_mutex_);
    for (unsigned i = 0; i < size; ++i) {
        const u8 mask = writable_[offset + i];
        const u8 byte = static_cast<u8>(value >> (8 * i));
        config_[offset + i] = static_cast<u8>((config_[offset + i] & ~mask) | (byte & mask));
    }
    apply();
}

void PciDevice::reset_function() {
    {
        std::lock_guard lock(config_mutex_);
        config_ = reset_;
        intx_level_ = false;
        apply();
    }
    for (const Bar& bar : bars_) {
        if (bar.target != nullptr) bar.target->reset();
    }
}

void PciDevice::visit_function_state(StateVisitor& v) {
    {
        std::lock_guard lock(config_mutex_);
        std::array<u8, config_space_bytes> visited = config_;
        v.field("configuration space", visited);
        v.field("intx", intx_level_);
        if (v.loading()) {
            // What software cannot write is not taken from a snapshot either.
            for (unsigned i = 0; i < config_space_bytes; ++i) {
                config_[i] = static_cast<u8>((reset_[i] & ~writable_[i]) | (visited[i] & writable_[i]));
            }
            apply();
        }
    }
    for (const Bar& bar : bars_) {
        if (bar.target != nullptr) bar.target->visit_state(v);
    }
}

u16 PciDevice::command() const {
    return static_cast<u16>(load(command_register, 2));
}

bool PciDevice::msi_enabled() const {
    return msi_ != 0 && (load(msi_ + msi_control, 2) & msi_enable) != 0;
}

bool PciDevice::msix_enabled() const {
    return msix_ != 0 && (load(msix_ + msix_control, 2) & msix_enable) != 0;
}

// Makes what configuration space says so. Everything here is idempotent.
void PciDevice::apply() {
    gate_.enabled.store((command() & command_bus_master) != 0, std::memory_order_release);
    update_bars();
    update_intx();
    send_pending();
}

void PciDevice::update_bars() {
    if (bus_ == nullptr) return;
    for (unsigned index = 0; index < bar_count; ++index) {
        Bar& bar = bars_[index];
        if (bar.target == nullptr) continue;
        std::optional<u64> address;
        if ((command() & (bar.kind == BarKind::io ? command_io : command_memory)) != 0) {
            u64 value = load(bar0 + index * 4, 4) & ~(bar.kind == BarKind::io ? u32{3} : u32{15});
            if (bar.kind == BarKind::memory64 || bar.kind == BarKind::memory64_prefetchable) {
                value |= u64{load(bar0 + index * 4 + 4, 4)} << 32;
            }
            address = value;
        }
        if (address == bar.decoded) continue;
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
    const u32 status = load(status_register, 1);
    store(status_register, 1, intx_level_ ? status | status_interrupt : status & ~u32{status_interrupt});
    const u32 pin = load(interrupt_pin, 1);
    // 6.8.1.3 and 6.8.2.3: a function that may send messages does not use its pin.
    const bool driven =
        intx_level_ && (command() & command_intx_disable) == 0 && !msi_enabled() && !msix_enabled();
    if (bus_ == nullptr || pin == 0 || driven == intx_driven_) return;
    intx_driven_ = driven;
    bus_->set_intx(slot_, pin - 1, driven);
}

bool PciDevice::messages_enabled() const {
    std::lock_guard lock(config_mutex_);
    return msix_enabled() || msi_enabled();
}

bool PciDevice::notify(unsigned vector) {
    std::lock_guard lock(config_mutex_);
    if (msix_enabled()) {
        if (vector >= msix_region_->vectors()) return false;
        msix_region_->set_pending(vector, true);
        send_pending();
        return true;
    }
    if (!msi_enabled()) return false;
    // A message is a memory write of the function's (PCI 3.0, 6.2.2: Bus Master).
    if (bus_ != nullptr && (command() & command_bus_master) != 0) {
        const u64 address = load(msi_ + msi_address, 4) | u64{load(msi_ + msi_address_high, 4)} << 32;
        bus_->send_message(slot_, address, load(msi_ + msi_data, 2));
    }
    return true;
}

// Sends the MSI-X messages that wait and that nothing masks any more.
void PciDevice::send_pending() {
    if (bus_ == nullptr || !msix_enabled() || (command() & command_bus_master) == 0) return;
    if ((load(msix_ + msix_control, 2) & msix_function_mask) != 0) return;
    for (unsigned vector = 0; vector < msix_region_->vectors(); ++vector) {
        if (!msix_region_->pending(vector) || msix_region_->masked(vector)) continue;
        msix_region_->set_pending(vector, false);
        bus_->send_message(slot_, msix_region_->address(vector), msix_region_->data(vector));
    }
}

memory::DmaView PciDevice::dma() {
    if (bus_ == nullptr) throw StateError("a PCI function has no memory to reach before it is plugged in");
    return memory::DmaView(bus_->ram(), &gate_);
}

}  // namespace wirt::devices::hardware
