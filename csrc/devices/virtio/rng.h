// virtio entropy device (virtio 1.2, section 5.4): fills the driver's buffers from the machine's entropy
// source.
//
// Untrusted input: the length and number of buffers; one task serves a bounded number of bounded requests.
#pragma once

#include "base/entropy.h"
#include "devices/virtio/virtio_device.h"

namespace wirt::devices::virtio {

class VirtioRng final : public VirtioDevice {
  public:
    VirtioRng(std::string name, EntropySource& source, Executor& executor)
        : VirtioDevice(std::move(name), executor), source_(source) {}

    u32 device_id() const override { return 4; }
    u64 features() const override { return 0; }
    unsigned queue_count() const override { return 1; }
    std::span<const u8> config() override { return {}; }
    void visit_state(StateVisitor& v) override;

  private:
    void process(unsigned work) override;

    EntropySource& source_;
};

}  // namespace wirt::devices::virtio
