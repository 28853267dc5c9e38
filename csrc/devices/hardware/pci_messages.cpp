// Message-signalled interrupts of a PCI function: the MSI and MSI-X capabilities and what sends the messages.
#include <bit>
#include <cstring>

#include "base/bits.h"
#include "base/error.h"
#include "devices/hardware/pci_config.h"
#include "devices/hardware/pci_msix.h"

namespace wirt::devices::hardware {

using namespace pci;

// ---------------------------------------------------------------- the MSI-X table

PciDevice::MsixRegion::MsixRegion(PciDevice& owner, std::string name, unsigned vectors)
    : owner_(owner),
      name_(std::move(name)),
      table_(vectors * entry_bytes),
      pending_(align_up(vectors, 64) / 8) {
    reset();
}

std::span<const memory::Register> PciDevice::MsixRegion::registers() const {
    using enum memory::RegisterAccess;
    static constexpr memory::Register table[] = {
        {0, pending_offset, rw, "table", 0, "PCI 3.0, 6.8.2.6 to 6.8.2.9"},
        {pending_offset, most_vectors / 8, ro, "pending bits", 0, "PCI 3.0, 6.8.2.10"},
    };
    return table;
}

u64 PciDevice::MsixRegion::read(u64 offset, unsigned size) {
    std::lock_guard lock(owner_.config_mutex_);
    u64 value = 0;
    const std::vector<u8>& from = offset < pending_offset ? table_ : pending_;
    const u64 start = offset < pending_offset ? offset : offset - pending_offset;
    if (start + size <= from.size()) std::memcpy(&value, from.data() + start, size);
    return value;
}

// Dwords and quadwords only: others are undefined (6.8.2) and here ignored.
void PciDevice::MsixRegion::write(u64 offset, unsigned size, u64 value) {
    if (size < 4 || offset + size > table_.size()) return;
    std::lock_guard lock(owner_.config_mutex_);
    std::memcpy(table_.data() + offset, &value, size);
    owner_.send_pending();
}

void PciDevice::MsixRegion::reset() {
    std::lock_guard lock(owner_.config_mutex_);
    std::fill(table_.begin(), table_.end(), u8{0});
    std::fill(pending_.begin(), pending_.end(), u8{0});
    for (u64 at = 12; at < table_.size(); at += entry_bytes) table_[at] = 1;  // masked
}

void PciDevice::MsixRegion::visit_state(StateVisitor& v) {
    v.section(name_, 1);
    const std::size_t table_bytes = table_.size();
    const std::size_t pending_bytes = pending_.size();
    v.blob("table", table_, table_bytes);
    v.blob("pending", pending_, pending_bytes);
    table_.resize(table_bytes);
    pending_.resize(pending_bytes);
}

bool PciDevice::MsixRegion::masked(unsigned vector) const {
    return (table_[vector * entry_bytes + 12] & 1) != 0;
}

u64 PciDevice::MsixRegion::address(unsigned vector) const {
    return load_le<u64>(table_.data() + vector * entry_bytes) & ~u64{3};
}

u32 PciDevice::MsixRegion::data(unsigned vector) const {
    return load_le<u32>(table_.data() + vector * entry_bytes + 8);
}

bool PciDevice::MsixRegion::pending(unsigned vector) const {
    return bit(pending_[vector / 8], vector % 8);
}

void PciDevice::MsixRegion::set_pending(unsigned vector, bool value) {
    const u8 mask = static_cast<u8>(1u << (vector % 8));
    u8& byte = pending_[vector / 8];
    byte = static_cast<u8>(value ? byte | mask : byte & ~mask);
}

// ---------------------------------------------------------------- the capabilities

void PciDevice::add_msi(unsigned offset, unsigned vectors, bool per_vector_masking) {
    if (!is_power_of_two(vectors) || vectors > msi_most_vectors) {
        throw ConfigError("MSI has 1, 2, 4, 8, 16 or 32 vectors");
    }
    msi_ = add_capability(offset, capability_msi, per_vector_masking ? msi_bytes_with_mask : msi_bytes);
    msi_vectors_ = vectors;
    msi_maskable_ = per_vector_masking;
    const u32 log2 = static_cast<u32>(std::countr_zero(vectors));
    define(msi_ + msi_control, 2,
           msi_64_bit | log2 << msi_capable_shift | (per_vector_masking ? msi_maskable : 0),
           msi_enable | (vectors > 1 ? 7u << msi_enabled_shift : 0));
    define(msi_ + msi_address, 4, 0, ~u32{3});
    define(msi_ + msi_address_high, 4, 0, ~u32{0});
    define(msi_ + msi_data, 2, 0, 0xffff);
    if (per_vector_masking) define(msi_ + msi_mask, 4, 0, static_cast<u32>((u64{1} << vectors) - 1));
}

void PciDevice::add_msix(unsigned offset, unsigned bar, unsigned vectors, std::string name) {
    if (vectors == 0 || vectors > MsixRegion::most_vectors) {
        throw ConfigError("MSI-X needs 1 to " + std::to_string(MsixRegion::most_vectors) + " vectors");
    }
    msix_region_ = std::make_unique<MsixRegion>(*this, std::move(name), vectors);
    add_bar(bar, BarKind::memory32, page_size, *msix_region_);
    msix_ = add_capability(offset, capability_msix, msix_bytes);
    define(msix_ + msix_control, 2, vectors - 1, msix_enable | msix_function_mask);
    define(msix_ + msix_table, 4, bar, 0);
    define(msix_ + msix_pba, 4, static_cast<u32>(MsixRegion::pending_offset) | bar, 0);
}

bool PciDevice::msi_enabled() const {
    return msi_ != 0 && (load(msi_ + msi_control, 2) & msi_enable) != 0;
}

bool PciDevice::msix_enabled() const {
    return msix_ != 0 && (load(msix_ + msix_control, 2) & msix_enable) != 0;
}

bool PciDevice::messages_enabled() const {
    std::lock_guard lock(config_mutex_);
    return msix_enabled() || msi_enabled();
}

// ---------------------------------------------------------------- sending

bool PciDevice::notify(unsigned vector) {
    std::lock_guard lock(config_mutex_);
    if (msix_enabled()) {
        if (vector >= msix_region_->vectors()) return false;
        msix_region_->set_pending(vector, true);
        send_pending();
        return true;
    }
    if (!msi_enabled()) return false;
    // What cannot be masked cannot wait either.
    if (!msi_maskable_ && !may_master()) return true;
    const u32 enabled = msi_enabled_vectors();
    msi_pending_ |= u32{1} << (vector < enabled ? vector : 0);
    send_pending();
    return true;
}

// 6.8.1.3: software gives the function as many vectors as it asked for, or fewer.
u32 PciDevice::msi_enabled_vectors() const {
    const u32 log2 = load(msi_ + msi_control, 2) >> msi_enabled_shift & 7;
    return std::min(u32{1} << log2, msi_vectors_);
}

// Sends what waits and what nothing holds back any more. A message is a memory write of the function's
// (PCI 3.0, 6.2.2: Bus Master).
void PciDevice::send_pending() {
    if (may_master()) {
        if (msix_enabled()) {
            send_pending_msix();
        } else if (msi_enabled()) {
            send_pending_msi();
        }
    }
    if (msi_maskable_) store(msi_ + msi_pending, 4, msi_pending_);
}

void PciDevice::send_pending_msix() {
    if ((load(msix_ + msix_control, 2) & msix_function_mask) != 0) return;
    for (unsigned vector = 0; vector < msix_region_->vectors(); ++vector) {
        if (!msix_region_->pending(vector) || msix_region_->masked(vector)) continue;
        msix_region_->set_pending(vector, false);
        bus_->send_message(requester_id(), msix_region_->address(vector), msix_region_->data(vector));
    }
}

void PciDevice::send_pending_msi() {
    const u32 masked = msi_maskable_ ? load(msi_ + msi_mask, 4) : 0;
    const u64 address = load(msi_ + msi_address, 4) | u64{load(msi_ + msi_address_high, 4)} << 32;
    // 6.8.1.4: the vector replaces the low bits of the data.
    const u32 data = load(msi_ + msi_data, 2) & ~(msi_enabled_vectors() - 1);
    for (u32 ready = msi_pending_ & ~masked; ready != 0; ready &= ready - 1) {
        bus_->send_message(requester_id(), address, data | static_cast<u32>(std::countr_zero(ready)));
    }
    msi_pending_ &= masked;
}

}  // namespace wirt::devices::hardware
