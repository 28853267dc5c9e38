#include "devices/virtio/virtio_core.h"

#include <algorithm>
#include <utility>

#include "base/bits.h"
#include "base/error.h"
#include "devices/virtio/virtio_device.h"

namespace wirt::devices::virtio {

VirtioCore::VirtioCore(VirtioDevice& device, TransportServices& transport, std::mutex& mutex,
                       VirtioOptions options)
    : device_(device),
      transport_(transport),
      mutex_(mutex),
      offered_(device.features() | feature_version_1 | feature_indirect_desc | feature_event_idx |
               feature_notification_data | feature_ring_reset |
               (options.packed_rings ? feature_ring_packed : 0) |
               (options.behind_iommu ? feature_access_platform : 0)),
      // 6.2: no driver from before version 1. 6.1: a device that is limited to translated addresses fails
      // FEATURES_OK for a driver that gives others.
      required_(feature_version_1 | (options.behind_iommu ? feature_access_platform : 0)),
      queues_(device.queue_count()) {
    device_.attach(*this);
}

// See the head of virtio_core.h.
template <typename Done>
void VirtioCore::settle(Done done) {
    if (done()) return;
    std::unique_lock lock(mutex_, std::adopt_lock);
    landed_.wait_for(lock, settle_limit, done);
    lock.release();  // the caller's lock goes on
}

// --- features and status (2.1, 2.2, 3.1.1) ---

void VirtioCore::set_driver_features(u32 window, u32 features) {
    // 3.1.1 step 5: nothing is accepted any more once FEATURES_OK is set.
    if (window > 1 || resetting() || (status_ & status_features_ok)) return;
    const unsigned shift = 32 * window;
    accepted_ = (accepted_ & ~(u64{0xffffffff} << shift)) | u64{features} << shift;
}

u8 VirtioCore::status() {
    settle([this] { return !resetting(); });
    return status_;
}

void VirtioCore::set_status(u8 value) {
    settle([this] { return !resetting(); });
    if (resetting()) return;
    if (value == 0) {
        begin_reset();
        return;
    }
    // 2.1.1: the driver sets bits and clears none; DEVICE_NEEDS_RESET is the device's own.
    const u8 set = static_cast<u8>(value & ~status_ & ~status_device_needs_reset);
    status_ |= set & (status_acknowledge | status_driver | status_failed);
    if (set & status_features_ok) {
        const bool subset = (accepted_ & ~offered_) == 0;
        // 2.2.2: an inconsistent choice leaves FEATURES_OK clear.
        if (subset && negotiated(required_) && device_.accepts(accepted_)) status_ |= status_features_ok;
    }
    // 3.1.1: DRIVER_OK is the last step; without FEATURES_OK it is not taken.
    if ((set & status_driver_ok) && (status_ & status_features_ok)) {
        status_ |= status_driver_ok;
        start();
    }
    // 2.1: the driver has given up on the device.
    if (set & status_failed) running_ = false;
}

std::unique_ptr<VirtQueue> VirtioCore::make_ring(const QueueConfig& config) {
    dma_ = transport_.guest_memory();
    return (negotiated(feature_ring_packed) ? make_packed_queue : make_split_queue)(
        *dma_, config, negotiated(feature_indirect_desc), negotiated(feature_event_idx));
}

void VirtioCore::start() {
    running_ = !(status_ & status_failed);
    for (Queue& queue : queues_) {
        if (queue.ready && !start_queue(queue)) return;
    }
    device_.activate();
}

bool VirtioCore::start_queue(Queue& queue) {
    queue.ring = make_ring(queue.config);
    if (queue.ring->usable()) return true;
    needs_reset(queue.ring->fault());
    return false;
}

// --- reset (2.4) ---

bool VirtioCore::in_flight() const {
    return std::any_of(queues_.begin(), queues_.end(),
                       [](const Queue& queue) { return queue.in_flight > 0; });
}

void VirtioCore::retire(Queue& queue) {
    queue.ready = false;
    queue.ring.reset();
    ++queue.epoch;
}

void VirtioCore::begin_reset() {
    running_ = false;
    for (Queue& queue : queues_) {
        retire(queue);
        queue.config = {};
        queue.reset = false;
    }
    fault_ = nullptr;
    device_.reset();
    if (in_flight()) {
        reset_requested_ = true;
    } else {
        complete_reset();
    }
}

void VirtioCore::complete_reset() {
    reset_requested_ = false;
    status_ = 0;
    accepted_ = 0;
}

void VirtioCore::power_on_reset() {
    begin_reset();
    config_generation_ = 0;
    device_.forget_pending();
    settle([this] { return !resetting(); });
}

void VirtioCore::landed(Queue& queue) {
    --queue.in_flight;
    if (resetting() && !in_flight()) complete_reset();
    if (queue.in_flight == 0) landed_.notify_all();
}

// --- queue configuration (4.2.2.2, 4.1.4.3.2) ---

// Sizes and addresses belong to the driver until it declares the queue ready; after that writes are ignored.
// After DRIVER_OK it may configure those queues that it has reset (2.6.1).
VirtioCore::Queue* VirtioCore::configurable(unsigned queue) {
    if (queue >= queues_.size() || resetting()) return nullptr;
    Queue& selected = queues_[queue];
    if (selected.ready || selected.in_flight > 0) return nullptr;
    return !(status_ & status_driver_ok) || selected.reset ? &selected : nullptr;
}

const QueueConfig* VirtioCore::queue_config(unsigned queue) const {
    return queue < queues_.size() ? &queues_[queue].config : nullptr;
}

u16 VirtioCore::queue_size_max(unsigned queue) const {
    return queue < queues_.size() ? device_.queue_size_max(queue) : 0;
}

// 2.7: a power of two, and at most what the device offers. 2.8.10.1: a packed ring may have any length.
bool VirtioCore::size_valid(unsigned queue, u16 size) const {
    return size != 0 && size <= device_.queue_size_max(queue) &&
           (is_power_of_two(size) || negotiated(feature_ring_packed));
}

void VirtioCore::set_queue_size(unsigned queue, u16 size) {
    Queue* selected = configurable(queue);
    if (selected != nullptr && size_valid(queue, size)) selected->config.size = size;
}

void VirtioCore::set_queue_area(unsigned queue, u64 QueueConfig::*area, bool high, u32 half) {
    Queue* selected = configurable(queue);
    if (selected == nullptr) return;
    u64& address = selected->config.*area;
    address = high ? (address & 0xffffffff) | u64{half} << 32 : (address & ~u64{0xffffffff}) | half;
}

bool VirtioCore::queue_ready(unsigned queue) {
    if (queue >= queues_.size()) return false;
    Queue& selected = queues_[queue];
    // A queue taken out of service reads as ready until the device has let go of its last buffer.
    settle([&] { return selected.ready || selected.in_flight == 0; });
    return selected.ready || selected.in_flight > 0;
}

void VirtioCore::set_queue_ready(unsigned queue, bool ready) {
    if (!ready) {
        if (queue < queues_.size() && queues_[queue].ready) retire(queues_[queue]);
        return;
    }
    Queue* selected = configurable(queue);
    // The features may have changed since the size was written.
    if (selected == nullptr || !size_valid(queue, selected->config.size)) return;
    selected->ready = true;
    if (running_) start_queue(*selected);
}

void VirtioCore::reset_queue(unsigned queue) {
    if (queue >= queues_.size() || !negotiated(feature_ring_reset) || !(status_ & status_driver_ok)) return;
    Queue& selected = queues_[queue];
    if (!selected.ready) return;
    retire(selected);
    selected.config = {};
    selected.reset = true;
}

bool VirtioCore::queue_resetting(unsigned queue) {
    if (queue >= queues_.size()) return false;
    const Queue& selected = queues_[queue];
    const auto done = [&] { return selected.ready || selected.in_flight == 0; };
    settle(done);
    return !done();
}

void VirtioCore::notify(unsigned queue) {
    // Doorbells before DRIVER_OK, after a reset, or for no queue are ignored (3.1.1, 2.4.1).
    if (!has_queue(queue)) return;
    DeviceCounters::add(device_.counters_.notifications_received);
    device_.notify(queue);
}

// --- configuration space (2.5) ---

u64 VirtioCore::read_config(u64 offset, unsigned size) const {
    const std::span<const u8> config = device_.config();
    u64 value = 0;
    for (unsigned i = 0; i < size && offset + i < config.size(); ++i)
        value |= u64{config[offset + i]} << (8 * i);
    return value;
}

void VirtioCore::write_config(u64 offset, unsigned size, u64 value) {
    if (resetting() || offset >= device_.config().size()) return;
    u8 bytes[8];
    store_le<u64>(bytes, value);
    device_.write_config(offset, std::span(bytes, size));
}

void VirtioCore::config_changed() {
    ++config_generation_;
    // 2.3, 3.1.1: no notification before DRIVER_OK.
    if (status_ & status_driver_ok && !resetting()) {
        DeviceCounters::add(device_.counters_.interrupts_raised);
        transport_.interrupt(isr_config_change, 0);
    }
}

void VirtioCore::needs_reset(const char* reason) {
    if (status_ & status_device_needs_reset) return;
    running_ = false;
    fault_ = reason;
    status_ |= status_device_needs_reset;
    // 2.1.2: with DRIVER_OK set, the driver is told.
    config_changed();
}

// --- queues in use ---

bool VirtioCore::pop(unsigned queue, Chain& out) {
    if (!live() || !has_queue(queue)) return false;
    Queue& from = queues_[queue];
    switch (from.ring->pop(out)) {
        case VirtQueue::Pop::empty:
            return false;
        case VirtQueue::Pop::broken:
            needs_reset(from.ring->fault());
            return false;
        case VirtQueue::Pop::chain:
            break;
    }
    out.epoch = from.epoch;
    ++from.in_flight;
    return true;
}

void VirtioCore::unpop(unsigned queue, const Chain& chain) {
    Queue& to = queues_[queue];
    if (to.ring && chain.epoch == to.epoch) to.ring->unpop(chain);
    landed(to);
}

bool VirtioCore::push(unsigned queue, const Chain& chain, u32 written, u64 touched) {
    note_written(chain, std::max<u64>(written, touched));
    const Used used{chain.id, chain.slots, written};
    return give_back(queue, chain.epoch, std::span(&used, 1));
}

bool VirtioCore::push(unsigned queue, std::span<const Chain> chains, std::span<const u32> written) {
    used_.clear();
    for (std::size_t i = 0; i < chains.size(); ++i) {
        note_written(chains[i], written[i]);
        used_.push_back({chains[i].id, chains[i].slots, written[i]});
    }
    return used_.empty() || give_back(queue, chains.front().epoch, used_);
}

// Also for a chain that will not be pushed: its memory was written all the same.
void VirtioCore::note_written(const Chain& chain, u64 bytes) {
    touched_.clear();
    for (const iovec& span : chain.writable) {
        if (bytes == 0) break;
        const u64 part = std::min<u64>(bytes, span.iov_len);
        touched_.push_back({span.iov_base, part});
        bytes -= part;
    }
    dma_->finish(touched_);
}

bool VirtioCore::give_back(unsigned queue, u64 epoch, std::span<const Used> used) {
    Queue& to = queues_[queue];
    const bool current = to.ring && epoch == to.epoch && running_;
    if (current && !to.ring->push(used)) needs_reset(to.ring->fault());
    for (std::size_t i = 0; i < used.size(); ++i) landed(to);
    return current;
}

void VirtioCore::notify_driver(unsigned queue) {
    if (!has_queue(queue) || !queues_[queue].ring->should_notify()) return;
    DeviceCounters::add(device_.counters_.interrupts_raised);
    transport_.interrupt(isr_used_buffer, queue);
}

void VirtioCore::suppress_notifications(unsigned queue) {
    if (has_queue(queue)) queues_[queue].ring->suppress_notifications();
}

bool VirtioCore::request_notifications(unsigned queue) {
    return has_queue(queue) && queues_[queue].ring->request_notifications();
}

// --- description ---

void VirtioCore::describe(DeviceDescription& out) const {
    static constexpr FeatureName of_the_ring[] = {
        {feature_indirect_desc, "INDIRECT_DESC"}, {feature_event_idx, "EVENT_IDX"},
        {feature_version_1, "VERSION_1"},         {feature_access_platform, "ACCESS_PLATFORM"},
        {feature_ring_packed, "RING_PACKED"},     {feature_notification_data, "NOTIFICATION_DATA"},
        {feature_ring_reset, "RING_RESET"},
    };
    out.identity = "virtio " + std::to_string(device_.device_id());
    for (unsigned i = 0; i < queue_count(); ++i) {
        out.queues.push_back({std::to_string(i), queues_[i].config.size, queues_[i].ring != nullptr});
    }
    if ((status_ & status_features_ok) == 0) return;
    u64 left = accepted_;
    const auto name = [&](std::span<const FeatureName> names) {
        for (const FeatureName& feature : names) {
            if ((left & feature.bit) == 0) continue;
            out.features.emplace_back(feature.name);
            left &= ~feature.bit;
        }
    };
    name(device_.feature_names());
    name(of_the_ring);
    for (unsigned bit = 0; bit < 64; ++bit) {
        if ((left >> bit & 1) != 0) out.features.push_back(std::to_string(bit));
    }
}

// --- state ---

void VirtioCore::visit_state(StateVisitor& v) {
    v.section("virtio-core", 1);
    v.field("status", status_);
    v.field("accepted_features", accepted_);
    v.field("config_generation", config_generation_);
    v.field("running", running_);
    // A snapshot is untrusted: nothing is rebuilt that the registers would not have let through.
    auto require = [&](bool condition, const char* what) {
        if (v.loading() && !condition) {
            throw StateError("the saved state of " + std::string(device_.name()) + " is broken: " + what);
        }
    };
    require((accepted_ & ~offered_) == 0, "features that the device does not offer");
    require(!(status_ & status_features_ok) || (negotiated(required_) && device_.accepts(accepted_)),
            "features that do not go together");
    device_.visit_pending(v);
    for (unsigned i = 0; i < queue_count(); ++i) {
        Queue& queue = queues_[i];
        bool started = queue.ring != nullptr;
        v.field("queue_size", queue.config.size);
        v.field("descriptor_area", queue.config.descriptor_area);
        v.field("driver_area", queue.config.driver_area);
        v.field("device_area", queue.config.device_area);
        v.field("queue_ready", queue.ready);
        v.field("queue_reset", queue.reset);
        v.field("queue_started", started);
        require(queue.config.size == 0 ? !queue.ready : size_valid(i, queue.config.size), "queue size");
        require(!started || queue.ready, "a queue in use that is not ready");
        if (v.loading()) {
            // Whether the areas can be reached is not asked again: Bus Master or the IOMMU's tables may have
            // changed since DRIVER_OK, and every access to a ring looks for itself.
            queue.ring = started ? make_ring(queue.config) : nullptr;
            ++queue.epoch;
        }
        if (queue.ring) queue.ring->visit_state(v);
    }
    if (v.loading()) {
        running_ = running_ && (status_ & status_driver_ok) && (status_ & status_features_ok) &&
                   !(status_ & (status_device_needs_reset | status_failed));
        fault_ = status_ & status_device_needs_reset ? "needed a reset when it was saved" : nullptr;
        reset_requested_ = false;
    }
}

}  // namespace wirt::devices::virtio
