// What every transport has and the machine asks of it: a device with its core, brought to rest and woken up.
#pragma once

#include <memory>
#include <string>

#include "base/counters.h"
#include "base/description.h"
#include "devices/virtio/virtio_device.h"

namespace wirt::devices::virtio {

class VirtioTransport : public CountedDevice, public DescribedDevice, protected TransportServices {
  public:
    ~VirtioTransport() override;

    const DeviceCounters& counters() const override;
    void describe(DeviceDescription& out) override;

    // Brings the queues to rest: returns when nothing is in flight. Not to be called with the mutex held.
    void pause();
    void resume();

    VirtioDevice* device() { return device_.get(); }
    // Why the device is in DEVICE_NEEDS_RESET; empty when it is not.
    std::string fault();

  protected:
    // `device` null: there is none, and core() must not be used. `mutex` is the device mutex.
    VirtioTransport(std::unique_ptr<VirtioDevice> device, std::mutex& mutex, VirtioOptions options);

    // For a derived class's destructor: first nobody calls in any more, then what was posted runs out.
    void shutdown();
    // With the device at rest. `name` is the section's, for errors.
    void visit_core_and_device(StateVisitor& v, const std::string& name);
    VirtioCore& core() { return *core_; }
    const VirtioCore& core() const { return *core_; }

  private:
    const std::unique_ptr<VirtioDevice> device_;
    std::mutex& mutex_;
    std::unique_ptr<VirtioCore> core_;
};

}  // namespace wirt::devices::virtio
