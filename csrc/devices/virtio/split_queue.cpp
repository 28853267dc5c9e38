// Split virtqueues (virtio 1.2, section 2.7), with indirect descriptors and event indices.
//
// Untrusted input: the rings and the descriptors, which the driver may change at any moment. A descriptor is
// two 8-byte loads, an index one; what was loaded is what is checked and used. Work per buffer is bounded by
// the queue size.
#include <atomic>
#include <optional>
#include <utility>

#include "devices/virtio/virtqueue.h"

namespace wirt::devices::virtio {

namespace {

// Descriptor flags (2.7.5).
constexpr u16 desc_next = 1;
constexpr u16 desc_write = 2;
constexpr u16 desc_indirect = 4;
constexpr u64 descriptor_size = 16;

constexpr u16 avail_no_interrupt = 1;  // 2.7.6
constexpr u16 used_no_notify = 1;      // 2.7.8

// 2.7.5: a chain is at most 2^32 bytes in total.
constexpr u64 chain_limit = u64{1} << 32;

struct Descriptor {
    u64 address;
    u32 length;
    u16 flags;
    u16 next;
};

// A descriptor table: the ring's own, or an indirect one.
struct Table {
    u64 address;
    u32 count;
};

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

    // Offsets within the areas (2.7.6, 2.7.8). The areas were found in RAM by usable(), so sums do not wrap.
    u64 avail_flags() const { return config_.driver_area; }
    u64 avail_idx() const { return config_.driver_area + 2; }
    u64 avail_ring(u16 index) const { return config_.driver_area + 4 + 2 * u64{slot(index)}; }
    u64 used_event() const { return config_.driver_area + 4 + 2 * u64{config_.size}; }
    u64 used_flags() const { return config_.device_area; }
    u64 used_idx() const { return config_.device_area + 2; }
    u64 used_ring(u16 index) const { return config_.device_area + 4 + 8 * u64{slot(index)}; }
    u64 avail_event() const { return config_.device_area + 4 + 8 * u64{config_.size}; }

    std::optional<Descriptor> load(const Table& table, u16 index) const;
    bool walk(u16 head, Chain& out);
    bool add(const Descriptor& descriptor, Chain& out);

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
    std::vector<iovec> found;
    auto area = [&](u64 address, u64 length, u64 alignment, memory::DmaDirection direction) {
        return (address & (alignment - 1)) == 0 && dma_.map(address, length, direction, found);
    };
    const u64 size = config_.size;
    // 2.7: alignment and length of the three areas, the event words included.
    if (!area(config_.descriptor_area, descriptor_size * size, 16, memory::DmaDirection::to_device)) {
        return fail("descriptor table misaligned or outside of RAM (2.7)");
    }
    if (!area(config_.driver_area, 6 + 2 * size, 2, memory::DmaDirection::to_device)) {
        return fail("available ring misaligned or outside of RAM (2.7)");
    }
    if (!area(config_.device_area, 6 + 8 * size, 4, memory::DmaDirection::from_device)) {
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
    const u16 waiting = static_cast<u16>(*idx - next_avail_);
    if (waiting == 0) return Pop::empty;
    // 2.7.13.3: idx counts buffers made available, of which there are at most as many as descriptors.
    if (waiting > config_.size) {
        fail("avail.idx ran further than the queue size (2.7.6)");
        return Pop::broken;
    }
    const auto head = dma_.load<u16>(avail_ring(next_avail_));
    if (!head) {
        fail("available ring left RAM (2.7.6)");
        return Pop::broken;
    }
    if (!walk(*head, out)) return Pop::broken;
    ++next_avail_;
    return Pop::chain;
}

std::optional<Descriptor> SplitQueue::load(const Table& table, u16 index) const {
    const u64 at = table.address + descriptor_size * index;
    // An indirect table may stand at any address (2.7.5.3 asks for no alignment).
    u64 words[2];
    if ((at & 7) == 0) {
        const auto first = dma_.load<u64>(at);
        const auto second = dma_.load<u64>(at + 8);
        if (!first || !second) return std::nullopt;
        words[0] = *first;
        words[1] = *second;
    } else if (!dma_.read(at, words, sizeof words)) {
        return std::nullopt;
    }
    return Descriptor{words[0], static_cast<u32>(words[1]), static_cast<u16>(words[1] >> 32),
                      static_cast<u16>(words[1] >> 48)};
}

bool SplitQueue::walk(u16 head, Chain& out) {
    out.head = head;
    out.descriptors = 1;
    out.readable.clear();
    out.writable.clear();
    out.readable_bytes = out.writable_bytes = 0;

    Table table{config_.descriptor_area, config_.size};
    bool inside_indirect = false;
    u16 index = head;
    // 2.7.5.3.1: no chain is longer than the queue; a longer one is a cycle, or as bad.
    for (unsigned budget = config_.size;;) {
        if (index >= table.count) return fail("descriptor index out of range (2.7.5)");
        const auto descriptor = load(table, index);
        if (!descriptor) return fail("descriptor table outside of RAM (2.7.5)");

        if (descriptor->flags & desc_indirect) {
            if (!indirect_) return fail("indirect descriptor that was not negotiated (2.7.5.3.1)");
            if (inside_indirect) return fail("indirect descriptor within an indirect table (2.7.5.3.1)");
            if (descriptor->flags & desc_next) return fail("indirect descriptor with NEXT (2.7.5.3.1)");
            if (descriptor->length == 0 || descriptor->length % descriptor_size != 0) {
                return fail("indirect table length is no multiple of 16 (2.7.5.3)");
            }
            if (descriptor->length / descriptor_size > config_.size) {
                return fail("indirect table longer than the queue (2.7.5.3.1)");
            }
            // WRITE is ignored here (2.7.5.3.2).
            table = {descriptor->address, static_cast<u32>(descriptor->length / descriptor_size)};
            if (table.address + descriptor->length < table.address) {
                return fail("indirect table outside of RAM (2.7.5.3)");
            }
            inside_indirect = true;
            index = 0;
            continue;
        }

        if (budget-- == 0) return fail("descriptor chain longer than the queue, or a cycle (2.7.5.3.1)");
        if (!add(*descriptor, out)) return false;
        if (!(descriptor->flags & desc_next)) return true;
        index = descriptor->next;
    }
}

bool SplitQueue::add(const Descriptor& descriptor, Chain& out) {
    const bool writable = descriptor.flags & desc_write;
    // 2.7.4.2: device-writable elements come after device-readable ones.
    if (!writable && out.writable_bytes > 0)
        return fail("readable descriptor after a writable one (2.7.4.2)");
    // Both sums stay below 2^33: each is checked before the next descriptor, of less than 2^32, is added.
    (writable ? out.writable_bytes : out.readable_bytes) += descriptor.length;
    if (out.readable_bytes + out.writable_bytes > chain_limit) {
        return fail("descriptor chain over 4 GiB in total (2.7.5)");
    }
    if (descriptor.length == 0) return true;
    const auto direction = writable ? memory::DmaDirection::from_device : memory::DmaDirection::to_device;
    if (!dma_.map(descriptor.address, descriptor.length, direction, writable ? out.writable : out.readable)) {
        return fail("buffer outside of RAM (2.7.5)");
    }
    return true;
}

bool SplitQueue::push(std::span<const Used> used) {
    for (const Used& element : used) {
        const u64 at = used_ring(next_used_);
        if (!dma_.store<u32>(at, element.head) || !dma_.store<u32>(at + 4, element.written)) {
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
