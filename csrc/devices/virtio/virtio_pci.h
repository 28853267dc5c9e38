// virtio over PCI (virtio 1.2, section 4.1): a modern device, with no legacy interface. Its structures lie in
// BAR 0, a page each; BAR 1 holds the MSI-X table, with a vector for each queue and one for changes of the
// configuration.
//
// Untrusted input: every register the driver writes, at any time and in any order, directly or through the
// window in configuration space (4.1.4.9).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "devices/hardware/pci_device.h"
#include "devices/virtio/virtio_transport.h"

namespace wirt::devices::virtio {

class VirtioPci final : public hardware::PciDevice, public memory::MmioDevice, public VirtioTransport {
  public:
    static constexpr u64 region_size = 0x4000;

    VirtioPci(std::string name, std::unique_ptr<VirtioDevice> device, VirtioOptions options = {});
    ~VirtioPci() override;

    u32 config_read(u32 offset, unsigned size) override;
    void config_write(u32 offset, unsigned size, u32 value) override;
    void pause_function() override { pause(); }
    void resume_function() override { resume(); }

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override { return registers_; }
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    // Also a function-level reset, with work in flight.
    void reset() override;
    void visit_state(StateVisitor& v) override;

  private:
    // Where VIRTIO_PCI_CAP_PCI_CFG looks into BAR 0.
    struct Window {
        u32 offset;
        unsigned length;
    };

    memory::DmaView guest_memory() override { return dma(); }
    void interrupt(u8 reason, unsigned queue) override;

    void add_structures();
    std::optional<Window> window();
    u64 read_common(u64 offset, unsigned size);
    void write_common(u64 offset, unsigned size, u64 value);
    u32 read_isr();
    u16 queue_size() const;
    u16 valid_vector(u64 vector) const;
    void forget_registers();

    const std::string name_;
    const unsigned vectors_;
    std::vector<std::string> notify_names_;
    std::vector<memory::Register> registers_;
    u32 device_feature_select_ = 0;
    u32 driver_feature_select_ = 0;
    u16 queue_select_ = 0;
    u16 config_vector_;
    std::vector<u16> queue_vectors_;
    u8 isr_ = 0;
};

}  // namespace wirt::devices::virtio
