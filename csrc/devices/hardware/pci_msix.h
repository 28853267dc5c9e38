// The MSI-X table and pending bits of a PCI function, in a BAR of their own.
//
// Implements: PCI Local Bus 3.0, 6.8.2.6 to 6.8.2.10.
//
// Untrusted input: every write; addresses and data are looked at where a message is sent.
#pragma once

#include <string>
#include <vector>

#include "devices/hardware/pci_device.h"

namespace wirt::devices::hardware {

// Its state is guarded by the function's config_mutex_, since a message is sent with the device's mutex held
// and not this region's.
class PciDevice::MsixRegion final : public memory::MmioDevice {
  public:
    static constexpr u64 entry_bytes = 16;
    static constexpr u64 pending_offset = 0x800;
    static constexpr unsigned most_vectors = pending_offset / entry_bytes;

    MsixRegion(PciDevice& owner, std::string name, unsigned vectors);

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override;
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void reset() override;
    void visit_state(StateVisitor& v) override;

    unsigned vectors() const { return static_cast<unsigned>(table_.size() / entry_bytes); }
    bool masked(unsigned vector) const;
    u64 address(unsigned vector) const;
    u32 data(unsigned vector) const;
    bool pending(unsigned vector) const;
    void set_pending(unsigned vector, bool value);

  private:
    PciDevice& owner_;
    const std::string name_;
    std::vector<u8> table_;
    std::vector<u8> pending_;
};

}  // namespace wirt::devices::hardware
