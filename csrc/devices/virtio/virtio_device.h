// What a virtio device is to its transport (virtio 1.2, chapters 2 and 5), and the rules by which devices
// run.
//
// Threads: the transport calls everything below with the device mutex held, on a hart's thread. A device does
// its work in `process`, on its executor and without the mutex: it takes the mutex to pop and to push, and
// lets go of it during host I/O. Pausing (core().pause()) leaves buffers in their rings; what was asked for
// meanwhile is remembered as pending work and done after resuming.
#pragma once

#include <atomic>
#include <span>
#include <string>
#include <string_view>

#include "base/counters.h"
#include "base/description.h"
#include "base/executor.h"
#include "devices/virtio/virtio_core.h"

namespace wirt::devices::virtio {

// A feature bit and what the specification calls it, without the prefix VIRTIO_x_F_.
struct FeatureName {
    u64 bit;
    const char* name;
};

class VirtioDevice {
  public:
    // `executor` must outlive the device.
    VirtioDevice(std::string name, Executor& executor) : name_(std::move(name)), executor_(executor) {}
    virtual ~VirtioDevice() = default;
    VirtioDevice(const VirtioDevice&) = delete;
    VirtioDevice& operator=(const VirtioDevice&) = delete;

    std::string_view name() const { return name_; }
    const DeviceCounters& counters() const { return counters_; }

    virtual u32 device_id() const = 0;  // chapter 5
    // The device's own feature bits; the core adds those of the ring and VERSION_1.
    virtual u64 features() const = 0;
    // For the inspector; bits that are not named show as numbers.
    virtual std::span<const FeatureName> feature_names() const { return {}; }
    // Whether a subset of the offered features is consistent (2.2.1).
    virtual bool accepts(u64 features) const {
        (void)features;
        return true;
    }
    virtual unsigned queue_count() const = 0;  // at most 62
    virtual u16 queue_size_max(unsigned queue) const {
        (void)queue;
        return 256;
    }

    // The whole device configuration space (2.5); the core cuts out what an access asks for.
    virtual std::span<const u8> config() = 0;
    // A driver's write of 1, 2 or 4 bytes, naturally aligned. Fields that are read-only ignore it.
    virtual void write_config(u64 offset, std::span<const u8> bytes) {
        (void)offset;
        (void)bytes;
    }

    // DRIVER_OK was set: queues and features are fixed until reset.
    virtual void activate() {}
    // Back to power-on values. Work in flight keeps no right to the device's state.
    virtual void reset() {}
    // The doorbell of a queue that is in use.
    virtual void notify(unsigned queue) { schedule(queue); }
    // The device is about to be destroyed: nothing outside may call into it any more.
    virtual void shutdown() {}
    // Opens a section of its own.
    virtual void visit_state(StateVisitor& v) = 0;

    void attach(VirtioCore& core) { core_ = &core; }
    // Posts again whatever was left undone by a pause.
    void resume();
    void drain() { executor_.drain(); }
    void visit_pending(StateVisitor& v) { v.field("pending", pending_); }
    void forget_pending() { pending_.store(0); }

  protected:
    // Runs `process(work)` soon on the executor, once however often it is asked for. `work` is a queue index,
    // or up to 63 for work of the device's own. Any thread, any lock held.
    void schedule(unsigned work);
    // On the executor, without locks. Everything must be taken from the rings and the device's state: `work`
    // may be done already, or belong to an incarnation that has been reset.
    virtual void process(unsigned work) = 0;

    // Pops from a queue, and keeps the driver from ringing for as long as it gives something. When nothing is
    // left doorbells are on again, and a pause has put the work down for later. With the device mutex held.
    bool take(unsigned queue, Chain& out);

    // Buffers that one task serves before others of the same executor have their turn.
    static constexpr unsigned task_budget = 64;

    VirtioCore& core() { return *core_; }
    const VirtioCore& core() const { return *core_; }
    DeviceCounters& count() { return counters_; }

  private:
    friend class VirtioCore;  // counts doorbells and interrupts

    void post(unsigned work);

    const std::string name_;
    Executor& executor_;
    VirtioCore* core_ = nullptr;
    DeviceCounters counters_;
    std::atomic<u64> pending_{0};  // one bit a work item asked for and not begun
};

}  // namespace wirt::devices::virtio
