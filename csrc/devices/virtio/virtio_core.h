// The part of a virtio device that every transport shares (virtio 1.2, chapter 2 and 3.1): device status,
// feature negotiation, queues, configuration space, notifications, reset. A transport is a set of registers
// over this.
//
// Reset and work in flight. A buffer popped from a queue may be the target of host I/O that cannot be called
// back, and a driver may reuse its memory as soon as a reset is complete. So a chain counts as in flight from
// pop to push, and a reset is complete only when none is: until then the status register keeps its old,
// non-zero value (2.4.2: the driver takes the reset as complete when it reads 0). Linux's virtio-mmio driver
// does not poll, so reading or writing the status first waits for the stragglers, but for no longer than
// `settle_limit`; a driver that goes on regardless finds its writes ignored and gives up. From the moment
// reset is written nothing is popped, and a chain of the old incarnation, told by its epoch, is not pushed
// into the ring. Taking one queue out of service (QueueReady = 0, queue_reset = 1) follows the same rule.
//
// Untrusted input: all values written by the driver.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/description.h"
#include "devices/virtio/virtqueue.h"

namespace wirt::devices::virtio {

class VirtioDevice;

// Device status bits (2.1).
inline constexpr u8 status_acknowledge = 1;
inline constexpr u8 status_driver = 2;
inline constexpr u8 status_driver_ok = 4;
inline constexpr u8 status_features_ok = 8;
inline constexpr u8 status_device_needs_reset = 64;
inline constexpr u8 status_failed = 128;

// Reserved feature bits (chapter 6).
inline constexpr u64 feature_indirect_desc = u64{1} << 28;
inline constexpr u64 feature_event_idx = u64{1} << 29;
inline constexpr u64 feature_version_1 = u64{1} << 32;
inline constexpr u64 feature_access_platform = u64{1} << 33;
inline constexpr u64 feature_ring_packed = u64{1} << 34;
inline constexpr u64 feature_notification_data = u64{1} << 38;
inline constexpr u64 feature_ring_reset = u64{1} << 40;

// Which of a driver's interrupts a device raises (2.3); bits of the MMIO InterruptStatus and of the PCI ISR.
inline constexpr u8 isr_used_buffer = 1;
inline constexpr u8 isr_config_change = 2;

// What the board decides about a device.
struct VirtioOptions {
    bool packed_rings = false;  // offers VIRTIO_F_RING_PACKED
    // The device's addresses are translated: it offers VIRTIO_F_ACCESS_PLATFORM and does not work without
    // (6.1).
    bool behind_iommu = false;
};

// What a transport does for its device; called with the device mutex held.
class TransportServices {
  public:
    virtual ~TransportServices() = default;
    // The guest memory that queues live in, asked for whenever one starts.
    virtual memory::DmaView guest_memory() = 0;
    // Interrupts the driver: `queue` is meaningful for isr_used_buffer.
    virtual void interrupt(u8 reason, unsigned queue) = 0;
};

class VirtioCore {
  public:
    static constexpr std::chrono::milliseconds settle_limit{100};

    // `mutex` is the device mutex; unless said otherwise, everything below is called with it held.
    VirtioCore(VirtioDevice& device, TransportServices& transport, std::mutex& mutex, VirtioOptions options);

    // --- for transports ---

    u64 driver_features() const { return accepted_; }
    // The 32 feature bits from 32 * `window` on. Windows other than 0 and 1 name features that no device has.
    u32 offered_features(u32 window) const { return word(offered_, window); }
    u32 driver_features(u32 window) const { return word(accepted_, window); }
    void set_driver_features(u32 window, u32 features);
    u8 status();
    void set_status(u8 value);
    unsigned queue_count() const { return static_cast<unsigned>(queues_.size()); }
    // Configuration of a queue; null when there is none of that number.
    const QueueConfig* queue_config(unsigned queue) const;
    u16 queue_size_max(unsigned queue) const;
    bool queue_ready(unsigned queue);
    void set_queue_size(unsigned queue, u16 size);
    // Changes the low or the high half of an area of a queue that is not ready: `area` points into
    // QueueConfig.
    void set_queue_area(unsigned queue, u64 QueueConfig::*area, bool high, u32 half);
    void set_queue_ready(unsigned queue, bool ready);
    // VIRTIO_F_RING_RESET (2.6.1): the queue forgets its configuration, and may be given another.
    void reset_queue(unsigned queue);
    bool queue_resetting(unsigned queue);
    void notify(unsigned queue);
    u64 read_config(u64 offset, unsigned size) const;
    void write_config(u64 offset, unsigned size, u64 value);
    // Identity, queues, and the features that the driver accepted.
    void describe(DeviceDescription& out) const;
    u32 config_generation() const { return config_generation_; }
    // Power-on or function-level reset: it waits for what is in flight as long as a driver would.
    void power_on_reset();

    // --- for devices ---

    std::mutex& mutex() { return mutex_; }
    // For addresses that a driver gives inside its requests; with a buffer in hand.
    memory::DmaView dma() const { return *dma_; }
    // DRIVER_OK, healthy, not paused: the only state in which queues move.
    bool live() const { return running_ && !paused_; }
    bool negotiated(u64 feature) const { return (accepted_ & feature) == feature; }
    bool has_queue(unsigned queue) const { return running_ && queue < queues_.size() && queues_[queue].ring; }
    // Takes the next buffer of a queue. False when there is none, when the device is not live, and when the
    // ring turned out to be broken, which puts the device into DEVICE_NEEDS_RESET.
    bool pop(unsigned queue, Chain& out);
    void unpop(unsigned queue, const Chain& chain);
    // Gives a buffer back without a notification; false when it belongs to a past incarnation. `touched` is
    // how many bytes from the start of the writable part may have changed, when that is more than `written`.
    bool push(unsigned queue, const Chain& chain, u32 written, u64 touched = 0);
    // The same for several at once: the driver sees none or all.
    bool push(unsigned queue, std::span<const Chain> chains, std::span<const u32> written);
    // Whether a chain in flight is still the driver's wish: false after a reset.
    bool current(unsigned queue, const Chain& chain) const {
        return running_ && chain.epoch == queues_[queue].epoch;
    }
    // Raises the used buffer notification unless the driver suppressed it.
    void notify_driver(unsigned queue);
    void suppress_notifications(unsigned queue);
    bool request_notifications(unsigned queue);
    u16 queue_size(unsigned queue) const { return queues_[queue].config.size; }
    // The configuration space changed by itself (2.5, 2.3): new generation, interrupt.
    void config_changed();
    // The driver broke a rule that leaves no other way (2.1.2). `reason` is a literal.
    void needs_reset(const char* reason);

    // --- for the machine ---

    // Stops queues from moving; tasks under way finish their current buffer. With Executor::drain the device
    // is at rest.
    void pause() { paused_ = true; }
    void unpause() { paused_ = false; }
    bool paused() const { return paused_; }
    // Why the device needs a reset; null when it does not.
    const char* fault() const { return fault_; }
    // With the device at rest.
    void visit_state(StateVisitor& v);

  private:
    struct Queue {
        QueueConfig config;
        bool ready = false;
        bool reset = false;  // by itself, since DRIVER_OK
        u64 epoch = 0;
        unsigned in_flight = 0;
        std::unique_ptr<VirtQueue> ring;  // from DRIVER_OK on
    };

    bool in_flight() const;
    bool resetting() const { return reset_requested_; }
    void begin_reset();
    void complete_reset();
    // Waits, with the mutex released, for in-flight chains; see the head of this file.
    template <typename Done>
    void settle(Done done);
    void landed(Queue& queue);
    void note_written(const Chain& chain, u64 bytes);
    bool give_back(unsigned queue, u64 epoch, std::span<const Used> used);
    void start();
    bool start_queue(Queue& queue);
    bool size_valid(unsigned queue, u16 size) const;
    static u32 word(u64 features, u32 window) {
        return window < 2 ? static_cast<u32>(features >> (32 * window)) : 0;
    }
    void retire(Queue& queue);
    Queue* configurable(unsigned queue);
    std::unique_ptr<VirtQueue> make_ring(const QueueConfig& config);

    VirtioDevice& device_;
    TransportServices& transport_;
    std::optional<memory::DmaView> dma_;  // from the first DRIVER_OK on
    std::mutex& mutex_;
    std::condition_variable landed_;
    const u64 offered_;
    const u64 required_;
    u64 accepted_ = 0;
    u8 status_ = 0;
    bool running_ = false;
    bool paused_ = false;
    bool reset_requested_ = false;
    u32 config_generation_ = 0;
    const char* fault_ = nullptr;
    std::vector<Queue> queues_;
    std::vector<Used> used_;      // scratch of push
    std::vector<iovec> touched_;  // scratch of note_written
};

}  // namespace wirt::devices::virtio
