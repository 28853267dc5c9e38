// virtio over MMIO (virtio 1.2, section 4.2), register layout version 2; no legacy interface.
//
// Untrusted input: every register the driver writes, at any time and in any order.
#pragma once

#include <memory>
#include <string>

#include "base/counters.h"
#include "base/interrupt.h"
#include "devices/virtio/virtio_device.h"
#include "memory/dma.h"
#include "memory/mmio.h"

namespace wirt::devices::virtio {

class VirtioMmio final : public memory::MmioDevice, public CountedDevice {
  public:
    static constexpr u64 region_size = 0x1000;

    // An empty slot when `device` is null: DeviceID reads 0 (4.2.3.1.1).
    VirtioMmio(std::string name, std::unique_ptr<VirtioDevice> device, memory::DmaView dma,
               InterruptLine line);
    ~VirtioMmio() override;

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override;
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    // With the device at rest.
    void reset() override;
    void visit_state(StateVisitor& v) override;
    const DeviceCounters& counters() const override;

    // Brings the queues to rest: returns when nothing is in flight. Not to be called with the mutex held.
    void pause();
    void resume();

    VirtioDevice* device() { return device_.get(); }
    // Why the device is in DEVICE_NEEDS_RESET; empty when it is not.
    std::string fault();

  private:
    u64 read_register(u64 offset);
    void write_register(u64 offset, u32 value);
    void set_half(u64 QueueConfig::*area, bool high, u32 value);
    void interrupt(u8 reason);

    const std::string name_;
    const std::unique_ptr<VirtioDevice> device_;
    const InterruptLine line_;
    std::unique_ptr<VirtioCore> core_;  // null for an empty slot
    u32 device_features_sel_ = 0;
    u32 driver_features_sel_ = 0;
    u32 queue_sel_ = 0;
    u32 interrupt_status_ = 0;
};

}  // namespace wirt::devices::virtio
