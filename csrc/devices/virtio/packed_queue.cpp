// Packed virtqueues (virtio 1.2, section 2.8), with indirect descriptors and event indices.
//
// Untrusted input: the descriptor ring and the driver's event suppression structure, which the driver may
// change at any moment. A descriptor is two 8-byte loads, an event suppression structure one of 4 bytes; what
// was loaded is what is checked and used. Buffer IDs are handed back as they came: they mean nothing here.
// Work per buffer is bounded by the queue size, and so is what the device holds at a time, however often a
// driver makes the same slot available.
#include <algorithm>
#include <atomic>
#include <utility>

#include "devices/virtio/descriptors.h"

namespace wirt::devices::virtio {

namespace {

// Descriptor flags of this layout (2.8.1).
constexpr u16 desc_avail = 1 << 7;
constexpr u16 desc_used = 1 << 15;

// Event suppression (2.8.14): the two fields in one word, as they lie in memory.
enum EventFlags : u32 { events_enabled = 0, events_disabled = 1, events_at_descriptor = 2 };
constexpr unsigned event_flags_shift = 16;
constexpr u32 event_wrap = 1 << 15;
constexpr u64 event_bytes = 4;

class PackedQueue final : public VirtQueue {
  public:
    PackedQueue(const memory::DmaView& dma, const QueueConfig& config, bool indirect, bool event_idx)
        : dma_(dma), config_(config), indirect_(indirect), event_idx_(event_idx) {}

    bool usable() override;
    Pop pop(Chain& out) override;
    void unpop(const Chain& chain) override;
    bool push(std::span<const Used> used) override;
    bool should_notify() override;
    void suppress_notifications() override;
    bool request_notifications() override;
    u16 size() const override { return config_.size; }
    const char* fault() const override { return fault_; }
    void visit_state(StateVisitor& v) override;

  private:
    // A slot together with its wrap counter (2.8.1), in one number: the slots of a lap whose counter is 1
    // come first, then those of a lap whose counter is 0.
    using Position = u32;

    bool fail(const char* why) {
        fault_ = why;
        return false;
    }
    Position both_laps() const { return 2 * u32{config_.size}; }
    Position after(Position at, u32 slots) const { return (at + slots) % both_laps(); }
    Position before(Position at, u32 slots) const { return (at + both_laps() - slots) % both_laps(); }
    bool wrap_counter(Position at) const { return at < config_.size; }
    u64 address(Position at) const { return config_.descriptor_area + descriptor_size * (at % config_.size); }
    bool available(u16 flags, Position at) const {
        const u16 expected = wrap_counter(at) ? desc_avail : desc_used;
        return (flags & (desc_avail | desc_used)) == expected;
    }
    bool walk(const RawDescriptor& first, ChainBuilder& chain, Chain& out) const;
    bool add_table(const RawDescriptor& descriptor, ChainBuilder& chain) const;

    const memory::DmaView dma_;
    const QueueConfig config_;
    const bool indirect_;
    const bool event_idx_;
    Position next_avail_ = 0;
    Position next_used_ = 0;
    u32 held_ = 0;             // slots popped and not pushed
    u32 unannounced_ = 0;      // slots pushed since should_notify was last asked, two laps at most
    bool suppressed_ = false;  // the device's event flags say DISABLE
    const char* fault_ = nullptr;
};

bool PackedQueue::usable() {
    using enum memory::DmaDirection;
    // 2.8.10.1; the ring is read and written.
    const u64 ring_bytes = descriptor_size * config_.size;
    if (!area_usable(dma_, config_.descriptor_area, ring_bytes, 16, to_device) ||
        !area_usable(dma_, config_.descriptor_area, ring_bytes, 16, from_device)) {
        return fail("descriptor ring misaligned or outside of RAM (2.8.10.1)");
    }
    if (!area_usable(dma_, config_.driver_area, event_bytes, 4, to_device)) {
        return fail("driver event suppression misaligned or outside of RAM (2.8.10.1)");
    }
    if (!area_usable(dma_, config_.device_area, event_bytes, 4, from_device)) {
        return fail("device event suppression misaligned or outside of RAM (2.8.10.1)");
    }
    return true;
}

VirtQueue::Pop PackedQueue::pop(Chain& out) {
    const auto first = load_descriptor(dma_, address(next_avail_));
    if (!first) {
        fail("descriptor ring left RAM (2.8.10.1)");
        return Pop::broken;
    }
    if (!available(first->words[1], next_avail_)) return Pop::empty;
    ChainBuilder chain(dma_, config_.size, out);
    if (!walk(*first, chain, out)) {
        fail(chain.fault());
        return Pop::broken;
    }
    next_avail_ = after(next_avail_, out.slots);
    held_ += out.slots;
    return Pop::chain;
}

// The driver wrote the rest of a list before the flags of its first descriptor (2.8.17), so that those of the
// rest need no look.
bool PackedQueue::walk(const RawDescriptor& first, ChainBuilder& chain, Chain& out) const {
    RawDescriptor descriptor = first;
    for (u16 slots = 1;; ++slots) {
        // 2.8.17: there is room for the whole list beside the buffers that are in use.
        if (held_ + slots > config_.size)
            return chain.fail("more buffers than the ring has room for (2.8.17)");
        const auto [id, flags] = descriptor.words;
        if (flags & desc_indirect) {
            if (slots > 1 || (flags & desc_next)) return chain.fail("indirect descriptor in a list (2.8.19)");
            if (!add_table(descriptor, chain)) return false;
        } else if (!chain.add(descriptor.address, descriptor.length, flags & desc_write)) {
            return false;
        }
        if (!(flags & desc_next)) {
            // 2.8.6: the last descriptor names the buffer.
            out.id = id;
            out.slots = slots;
            return true;
        }
        const auto following = load_descriptor(dma_, address(after(next_avail_, slots)));
        if (!following) return chain.fail("descriptor ring left RAM (2.8.10.1)");
        descriptor = *following;
    }
}

// 2.8.7: every descriptor of the table is an element; of their flags only WRITE counts.
bool PackedQueue::add_table(const RawDescriptor& descriptor, ChainBuilder& chain) const {
    DescriptorTable table;
    if (!chain.open_table(descriptor, indirect_, table)) return false;
    for (u32 i = 0; i < table.count; ++i) {
        const auto element = load_descriptor(dma_, table.address + descriptor_size * i);
        if (!element) return chain.fail("indirect table outside of RAM (2.8.7)");
        if (!chain.add(element->address, element->length, element->words[1] & desc_write)) return false;
    }
    return true;
}

void PackedQueue::unpop(const Chain& chain) {
    next_avail_ = before(next_avail_, chain.slots);
    held_ -= chain.slots;
}

bool PackedQueue::push(std::span<const Used> used) {
    u32 slots = 0;
    for (const Used& element : used) slots += element.slots;
    const Position end = after(next_used_, slots);
    // The first descriptor is written last: the driver looks for it, and then sees all. The releasing store
    // publishes ID, length and flags at once, and the data before them (2.8.9).
    Position at = end;
    for (std::size_t i = used.size(); i-- > 0;) {
        at = before(at, used[i].slots);
        const u16 flags = static_cast<u16>((wrap_counter(at) ? desc_avail | desc_used : 0) |
                                           (used[i].written > 0 ? desc_write : 0));
        const u64 word = used[i].written | u64{used[i].id} << 32 | u64{flags} << 48;
        if (!dma_.store<u64>(address(at) + 8, word)) return fail("descriptor ring left RAM (2.8.10.1)");
    }
    next_used_ = end;
    held_ -= slots;
    unannounced_ = std::min(unannounced_ + slots, both_laps());
    return true;
}

bool PackedQueue::should_notify() {
    const u32 pushed = std::exchange(unannounced_, 0);
    if (pushed == 0) return false;
    // The used descriptors must be visible before the driver's wish is read, or both sides may miss the
    // other's change (2.8.22).
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const auto wish = dma_.load<u32>(config_.driver_area);
    if (!wish) return false;
    const u32 flags = *wish >> event_flags_shift & 3;
    if (flags != events_at_descriptor || !event_idx_) return flags != events_disabled;
    const u32 slot = *wish & (event_wrap - 1);
    // 2.8.10: an offset outside of the ring names no descriptor; too much is safer than too little.
    if (slot >= config_.size || pushed == both_laps()) return true;
    const Position event = *wish & event_wrap ? slot : slot + config_.size;
    return before(next_used_, event + 1) < pushed;
}

void PackedQueue::suppress_notifications() {
    // With event indices an offset that is left behind has the same effect (2.8.10).
    if (event_idx_ || suppressed_) return;
    suppressed_ = true;
    static_cast<void>(dma_.store<u32>(config_.device_area, events_disabled << event_flags_shift));
}

bool PackedQueue::request_notifications() {
    if (event_idx_) {
        const u32 wrap = wrap_counter(next_avail_) ? event_wrap : 0;
        const u32 wish = next_avail_ % config_.size | wrap | events_at_descriptor << event_flags_shift;
        static_cast<void>(dma_.store<u32>(config_.device_area, wish));
    } else if (suppressed_) {
        suppressed_ = false;
        static_cast<void>(dma_.store<u32>(config_.device_area, events_enabled << event_flags_shift));
    }
    // As in should_notify, with the roles exchanged: store the wish, then look once more.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const auto half = dma_.load<u64>(address(next_avail_) + 8);
    return half && available(static_cast<u16>(*half >> 48), next_avail_);
}

void PackedQueue::visit_state(StateVisitor& v) {
    v.field("next_avail", next_avail_);
    v.field("next_used", next_used_);
    v.field("unannounced", unannounced_);
    v.field("suppressed", suppressed_);
    if (!v.loading()) return;
    // From a snapshot, which is untrusted; at rest nothing is held.
    next_avail_ %= both_laps();
    next_used_ %= both_laps();
    unannounced_ = std::min(unannounced_, both_laps());
}

}  // namespace

std::unique_ptr<VirtQueue> make_packed_queue(const memory::DmaView& dma, const QueueConfig& config,
                                             bool indirect, bool event_idx) {
    return std::make_unique<PackedQueue>(dma, config, indirect, event_idx);
}

}  // namespace wirt::devices::virtio
