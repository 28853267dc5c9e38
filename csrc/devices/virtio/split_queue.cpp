// Split virtqueues (virtio 1.2, section 2.7), with indirect descriptors and event indices.
//
// Untrusted input: the rings and the descriptors, which the driver may change at any moment. A descriptor is
// two 8-byte loads, an index one; what was loaded is what is checked and used. Work per buffer is bounded by
// the queue size.
#include <atomic>
#include <utility>

#include "devices/virtio/descriptors.h"

namespace wirt::devices::virtio {

namespace {

constexpr u16 avail_no_interrupt = 1;  // 2.7.6
constexpr u16 used_no_notify = 1;      // 2.7.8

class SplitQueue final : public VirtQueue {
  public:
    SplitQueue(const memory::DmaView& dma, const QueueConfig& config, bool indirect, bool event_idx)
        : dma_(dma), config_(config), indirect_(indirect), event_idx_(event_idx) {}

    bool usable() override;
    Pop pop(Chain& out) override;
    void unpop(const Chain&) override { --next_avail_; }
    bool push(std::span<const Used> used) override;
    bool should_notify() override;
    void suppress_notifications() override;
    bool request_notifications() override;
    u16 size() const override { return config_.size; }
    const char* fault() const override { return fault_; }
    void visit_state(StateVisitor& v) override;

  private:
    bool fail(const char* why) {
        fault_ = why;
        return false;
    }
    u16 slot(u16 index) const { return index & static_cast<u16>(config_.size - 1); }

    // Offsets within the areas (2.7.6, 2.7.8). The areas were found in RAM by usable(), so sums do not wrap;
    // where a snapshot says otherwise they end outside of RAM.
    u64 avail_flags() const { return config_.driver_area; }
    u64 avail_idx() const { return config_.driver_area + 2; }
    u64 avail_ring(u16 index) const { return config_.driver_area + 4 + 2 * u64{slot(index)}; }
    u64 used_event() const { return config_.driver_area + 4 + 2 * u64{config_.size}; }
    u64 used_flags() const { return config_.device_area; }
    u64 used_idx() const { return config_.device_area + 2; }
    u64 used_ring(u16 index) const { return config_.device_area + 4 + 8 * u64{slot(index)}; }
    u64 avail_event() const { return config_.device_area + 4 + 8 * u64{config_.size}; }

    bool walk(u16 head, ChainBuilder& chain) const;

    const memory::DmaView dma_;
    const QueueConfig config_;
    const bool indirect_;
    const bool event_idx_;
    u16 next_avail_ = 0;
    u16 next_used_ = 0;
    u16 notified_used_ = 0;    // used.idx when should_notify was last asked
    bool suppressed_ = false;  // used.flags says NO_NOTIFY
    const char* fault_ = nullptr;
};

bool SplitQueue::usable() {
    using enum memory::DmaDirection;
    const u64 size = config_.size;
    // 2.7: alignment and length of the three areas, the event words included.
    if (!area_usable(dma_, config_.descriptor_area, descriptor_size * size, 16, to_device)) {
        return fail("descriptor table misaligned or outside of RAM (2.7)");
    }
    if (!area_usable(dma_, config_.driver_area, 6 + 2 * size, 2, to_device)) {
        return fail("available ring misaligned or outside of RAM (2.7)");
    }
    if (!area_usable(dma_, config_.device_area, 6 + 8 * size, 4, from_device)) {
        return fail("used ring misaligned or outside of RAM (2.7)");
    }
    return true;
}

VirtQueue::Pop SplitQueue::pop(Chain& out) {
    // The acquiring load orders the reads of the ring entry and of the descriptors behind it (2.7.13.3).
    const auto idx = dma_.load<u16>(avail_idx());
    if (!idx) {
        fail("available ring left RAM (2.7.6)");
        return Pop::broken;
    }
    if (*idx == next_avail_) return Pop::empty;
    // 2.7.13.3: idx counts buffers made available, of which there are at most as many as descriptors: those
    // that wait and those in the device's hands.
    if (static_cast<u16>(*idx - next_used_) > config_.size) {
        fail("avail.idx ran further than the queue size (2.7.6)");
        return Pop::broken;
    }
    const auto head = dma_.load<u16>(avail_ring(next_avail_));
    if (!head) {
        fail("available ring left RAM (2.7.6)");
        return Pop::broken;
    }
    ChainBuilder chain(dma_, config_.size, out);
    if (!walk(*head, chain)) {
        fail(chain.fault());
        return Pop::broken;
    }
    out.id = *head;
    out.slots = 1;
    ++next_avail_;
    return Pop::chain;
}

bool SplitQueue::walk(u16 head, ChainBuilder& chain) const {
    DescriptorTable table{config_.descriptor_area, config_.size};
    bool inside_indirect = false;
    for (u16 index = head;;) {
        if (index >= table.count) return chain.fail("descriptor index out of range (2.7.5)");
        const auto descriptor = load_descriptor(dma_, table.address + descriptor_size * index);
        if (!descriptor) return chain.fail("descriptor table outside of RAM (2.7.5)");
        const auto [flags, next] = descriptor->words;

        if (flags & desc_indirect) {
            if (inside_indirect)
                return chain.fail("indirect descriptor within an indirect table (2.7.5.3.1)");
            if (flags & desc_next) return chain.fail("indirect descriptor with NEXT (2.7.5.3.1)");
            // WRITE is ignored here (2.7.5.3.2).
            if (!chain.open_table(*descriptor, indirect_, table)) return false;
            inside_indirect = true;
            index = 0;
            continue;
        }
        // The chain's budget ends a cycle.
        if (!chain.add(descriptor->address, descriptor->length, flags & desc_write)) return false;
        if (!(flags & desc_next)) return true;
        index = next;
    }
}

bool SplitQueue::push(std::span<const Used> used) {
    for (const Used& element : used) {
        const u64 at = used_ring(next_used_);
        if (!dma_.store<u32>(at, element.id) || !dma_.store<u32>(at + 4, element.written)) {
            return fail("used ring left RAM (2.7.8)");
        }
        ++next_used_;
    }
    // The releasing store publishes the elements and the data before the index (2.7.8.1).
    return dma_.store<u16>(used_idx(), next_used_) || fail("used ring left RAM (2.7.8)");
}

bool SplitQueue::should_notify() {
    const u16 before = std::exchange(notified_used_, next_used_);
    if (before == next_used_) return false;
    // The store of used.idx must be visible before the driver's wish is read, or both sides may miss the
    // other's change (2.7.7.2).
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (event_idx_) {
        const auto event = dma_.load<u16>(used_event());
        // True when used.idx passed the event index since the last time (2.7.7.2).
        return event && static_cast<u16>(next_used_ - *event - 1) < static_cast<u16>(next_used_ - before);
    }
    const auto flags = dma_.load<u16>(avail_flags());
    return flags && !(*flags & avail_no_interrupt);
}

void SplitQueue::suppress_notifications() {
    // With event indices an avail_event that is left behind has the same effect (2.7.10).
    if (event_idx_ || suppressed_) return;
    suppressed_ = true;
    static_cast<void>(dma_.store<u16>(used_flags(), used_no_notify));
}

bool SplitQueue::request_notifications() {
    if (event_idx_) {
        static_cast<void>(dma_.store<u16>(avail_event(), next_avail_));
    } else if (suppressed_) {
        suppressed_ = false;
        static_cast<void>(dma_.store<u16>(used_flags(), 0));
    }
    // As in should_notify, with the roles exchanged: store the wish, then look once more.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const auto idx = dma_.load<u16>(avail_idx());
    return idx && *idx != next_avail_;
}

void SplitQueue::visit_state(StateVisitor& v) {
    v.field("next_avail", next_avail_);
    v.field("next_used", next_used_);
    v.field("notified_used", notified_used_);
    v.field("suppressed", suppressed_);
}

}  // namespace

std::unique_ptr<VirtQueue> make_split_queue(const memory::DmaView& dma, const QueueConfig& config,
                                            bool indirect, bool event_idx) {
    return std::make_unique<SplitQueue>(dma, config, indirect, event_idx);
}

}  // namespace wirt::devices::virtio
