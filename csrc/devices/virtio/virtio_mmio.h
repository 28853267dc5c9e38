// virtio over MMIO (virtio 1.2, section 4.2), register layout version 2; no legacy interface.
//
// Untrusted input: every register the driver writes, at any time and in any order.
#pragma once

#include <memory>
#include <string>

#include "base/interrupt.h"
#include "devices/virtio/virtio_transport.h"
#include "memory/dma.h"
#include "memory/mmio.h"

namespace wirt::devices::virtio {

class VirtioMmio final : public memory::MmioDevice, public VirtioTransport {
  public:
    static constexpr u64 region_size = 0x1000;

    // An empty slot when `device` is null: DeviceID reads 0 (4.2.3.1.1).
    VirtioMmio(std::string name, std::unique_ptr<VirtioDevice> device, memory::DmaView dma,
               InterruptLine line, VirtioOptions options = {});
    ~VirtioMmio() override;

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override;
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    // With the device at rest.
    void reset() override;
    void visit_state(StateVisitor& v) override;

  private:
    memory::DmaView guest_memory() override { return dma_; }
    void interrupt(u8 reason, unsigned queue) override;
    u64 read_register(u64 offset);
    void write_register(u64 offset, u32 value);

    const std::string name_;
    const memory::DmaView dma_;
    const InterruptLine line_;
    u32 device_features_sel_ = 0;
    u32 driver_features_sel_ = 0;
    u32 queue_sel_ = 0;
    u32 interrupt_status_ = 0;
};

}  // namespace wirt::devices::virtio
