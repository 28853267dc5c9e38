#include "devices/virtio/virtio_transport.h"

#include "base/error.h"

namespace wirt::devices::virtio {

namespace {
// For a transport with no device.
const DeviceCounters no_counters;
}  // namespace

VirtioTransport::VirtioTransport(std::unique_ptr<VirtioDevice> device, std::mutex& mutex,
                                 VirtioOptions options)
    : device_(std::move(device)), mutex_(mutex) {
    if (device_)
        core_ =
            std::make_unique<VirtioCore>(*device_, static_cast<TransportServices&>(*this), mutex, options);
}

VirtioTransport::~VirtioTransport() = default;

const DeviceCounters& VirtioTransport::counters() const {
    return device_ ? device_->counters() : no_counters;
}

void VirtioTransport::describe(DeviceDescription& out) {
    std::lock_guard lock(mutex_);
    if (core_) core_->describe(out);
}

void VirtioTransport::shutdown() {
    if (!device_) return;
    device_->shutdown();
    pause();
}

void VirtioTransport::pause() {
    if (!device_) return;
    {
        std::lock_guard lock(mutex_);
        core_->pause();
    }
    device_->drain();
}

void VirtioTransport::resume() {
    if (!device_) return;
    {
        std::lock_guard lock(mutex_);
        core_->unpause();
    }
    device_->resume();
}

std::string VirtioTransport::fault() {
    std::lock_guard lock(mutex_);
    return core_ && core_->fault() != nullptr ? core_->fault() : "";
}

void VirtioTransport::visit_core_and_device(StateVisitor& v, const std::string& name) {
    u32 id = device_ ? device_->device_id() : 0;
    const u32 expected = id;
    v.field("device_id", id);
    if (id != expected) {
        throw StateError("the saved state of " + name + " belongs to a device of another kind");
    }
    if (!core_) return;
    core_->visit_state(v);
    device_->visit_state(v);
}

}  // namespace wirt::devices::virtio
