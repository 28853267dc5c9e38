// Checks of packed rings (virtio 1.2, 2.8) that need the ring in hand: what a driver can do to the slots that
// the device holds, buffers used out of order and over the end of the ring, and both sides' event suppression
// against its definition.
//
// Standalone: prints each failure and a closing count, exits 0 if there are none. tests/test_native.py builds
// it.
#include <optional>
#include <string>
#include <vector>

#include "devices/virtio/virtqueue.h"
#include "memory/guest_ram.h"
#include "support/check.h"

namespace {

using namespace wirt;
using namespace wirt::devices::virtio;

constexpr u64 ram_base = 0x8000'0000, ring = ram_base, driver_event = ram_base + 0x1000,
              device_event = ram_base + 0x1800, buffer = ram_base + 0x2000;
constexpr u16 next = 1, write = 2, avail = 1 << 7, used = 1 << 15;

struct Setup {
    explicit Setup(u16 size, bool event_idx = false)
        : size(size),
          queue(make_packed_queue(dma, {size, ring, driver_event, device_event}, true, event_idx)) {
        CHECK(queue->usable());
    }

    // Positions count up over the laps.
    bool wrap(u64 position) const { return position / size % 2 == 0; }
    u64 word_at(u64 position) const { return ring + 16 * (position % size) + 8; }
    void make_available(u64 position, u16 id, u16 flags = write) {
        flags |= wrap(position) ? avail : used;
        CHECK(dma.store<u64>(word_at(position) - 8, buffer));
        CHECK(dma.store<u64>(word_at(position), 8 | u64{id} << 32 | u64{flags} << 48));
    }
    struct Word {
        u32 length;
        u16 id;
        u16 flags;
    };
    Word word(u64 position) const {
        const u64 raw = *dma.load<u64>(word_at(position));
        return {static_cast<u32>(raw), static_cast<u16>(raw >> 32), static_cast<u16>(raw >> 48)};
    }
    bool is_used(u64 position) const {
        return (word(position).flags & (avail | used)) == (wrap(position) ? avail | used : 0);
    }
    Chain pop() {
        Chain chain;
        CHECK(queue->pop(chain) == VirtQueue::Pop::chain);
        return chain;
    }
    bool push(const std::vector<Chain>& chains, u32 written = 8) {
        std::vector<Used> elements;
        for (const Chain& chain : chains) elements.push_back({chain.id, chain.slots, written});
        return queue->push(elements);
    }
    void set_driver_event(u64 position, u32 flags) {
        const u32 offset = static_cast<u32>(position % size) | (wrap(position) ? 0x8000 : 0);
        CHECK(dma.store<u32>(driver_event, offset | flags << 16));
    }

    memory::GuestRam ram{ram_base, 1 * MiB};
    const memory::DmaView dma{ram};
    const u16 size;
    const std::unique_ptr<VirtQueue> queue;
};

void a_slot_that_the_device_holds_cannot_be_made_available_again() {
    Setup setup(4);
    for (u16 i = 0; i < 4; ++i) setup.make_available(i, i);
    for (unsigned i = 0; i < 4; ++i) CHECK(setup.pop().id == i);
    // The driver runs a lap ahead of the device, over a buffer that was not given back.
    setup.make_available(4, 9);
    Chain chain;
    CHECK(setup.queue->pop(chain) == VirtQueue::Pop::broken);
    CHECK(setup.queue->fault() != nullptr);
}

void a_list_that_runs_into_slots_that_the_device_holds_is_refused() {
    Setup setup(4);
    for (u16 i = 0; i < 3; ++i) setup.make_available(i, i);
    for (unsigned i = 0; i < 3; ++i) setup.pop();
    setup.make_available(4, 9);
    setup.make_available(3, 9, next | write);
    Chain chain;
    CHECK(setup.queue->pop(chain) == VirtQueue::Pop::broken);
}

void wrap_counters_decide_what_is_available() {
    Setup setup(3);
    Chain chain;
    CHECK(setup.queue->pop(chain) == VirtQueue::Pop::empty);  // all zero
    for (const u16 flags : {u16{0}, used, u16(avail | used)}) {
        CHECK(setup.dma.store<u64>(setup.word_at(0), u64{flags} << 48));
        CHECK(setup.queue->pop(chain) == VirtQueue::Pop::empty);
        CHECK(!setup.queue->request_notifications());
    }
    for (u64 position = 0; position < 20; ++position) {
        setup.make_available(position, static_cast<u16>(position));
        CHECK(setup.queue->request_notifications());
        const Chain popped = setup.pop();
        CHECK(popped.id == position && popped.slots == 1);
        CHECK(setup.queue->pop(chain) == VirtQueue::Pop::empty);
        CHECK(setup.push({popped}));
        CHECK(setup.is_used(position));
        CHECK(setup.word(position).id == position && setup.word(position).length == 8);
    }
}

void used_descriptors_follow_each_other_by_the_length_of_their_lists() {
    Setup setup(5);
    // Lists of 2, 1 and 2 descriptors, used in another order, lap after lap.
    for (u64 lap = 0; lap < 4; ++lap) {
        const u64 start = 5 * lap;
        setup.make_available(start + 4, 30);
        setup.make_available(start + 3, 0, next | write);
        setup.make_available(start + 2, 20);
        setup.make_available(start + 1, 10);
        setup.make_available(start, 0, next | write);
        const Chain first = setup.pop(), second = setup.pop(), third = setup.pop();
        CHECK(first.id == 10 && first.slots == 2 && first.writable_bytes == 16);
        CHECK(second.id == 20 && second.slots == 1 && third.id == 30 && third.slots == 2);
        CHECK(setup.push({second, first}));
        CHECK(setup.is_used(start) && setup.word(start).id == 20);
        CHECK(setup.is_used(start + 1) && setup.word(start + 1).id == 10);
        CHECK(!setup.is_used(start + 3));
        CHECK(setup.push({third}, 0));
        CHECK(setup.is_used(start + 3) && setup.word(start + 3).id == 30);
        CHECK((setup.word(start + 3).flags & write) == 0 && (setup.word(start).flags & write) != 0);
    }
}

void what_is_given_back_unread_comes_again() {
    Setup setup(4);
    setup.make_available(1, 7);
    setup.make_available(0, 0, next | write);
    setup.make_available(2, 8);
    const Chain first = setup.pop(), second = setup.pop();
    setup.queue->unpop(second);
    setup.queue->unpop(first);
    CHECK(setup.pop().id == 7);
    CHECK(setup.pop().id == 8);
}

// 2.8.10, by its words: a notification is due when the descriptor at the event's place is among those used.
void interrupts_come_when_the_event_descriptor_is_used() {
    const u16 size = 6;
    for (u64 event = 0; event < 2 * size; ++event) {
        for (unsigned batch = 1; batch <= size; ++batch) {
            Setup setup(size, true);
            setup.set_driver_event(event, 2);
            for (u64 position = 0; position + batch <= 2 * size; position += batch) {
                std::vector<Chain> chains;
                for (unsigned i = 0; i < batch; ++i) {
                    setup.make_available(position + i, static_cast<u16>(i));
                    chains.push_back(setup.pop());
                }
                CHECK(setup.push(chains));
                CHECK(setup.queue->should_notify() == (event >= position && event < position + batch));
                CHECK(!setup.queue->should_notify());  // nothing new
            }
        }
    }
}

void the_flags_of_event_suppression() {
    for (const bool event_idx : {false, true}) {
        for (u32 flags = 0; flags < 4; ++flags) {
            Setup setup(4, event_idx);
            setup.set_driver_event(3, flags);
            setup.make_available(0, 0);
            CHECK(setup.push({setup.pop()}));
            // A place that was not reached suppresses only where event indices were negotiated.
            CHECK(setup.queue->should_notify() == (flags == 0 || flags == 3 || (flags == 2 && !event_idx)));
        }
    }
    // A place outside of the ring.
    Setup setup(4, true);
    CHECK(setup.dma.store<u32>(driver_event, 0x7fff | 2 << 16));
    setup.make_available(0, 0);
    CHECK(setup.push({setup.pop()}));
    CHECK(setup.queue->should_notify());
}

void the_device_says_when_to_ring() {
    Setup plain(4);
    plain.queue->suppress_notifications();
    CHECK(*plain.dma.load<u32>(device_event) == u32{1} << 16);
    CHECK(!plain.queue->request_notifications());
    CHECK(*plain.dma.load<u32>(device_event) == 0);

    Setup indexed(3, true);
    for (u64 position = 0; position < 9; ++position) {
        CHECK(!indexed.queue->request_notifications());
        const u32 wish = *indexed.dma.load<u32>(device_event);
        CHECK(wish >> 16 == 2 && (wish & 0x7fff) == position % 3);
        CHECK(((wish & 0x8000) != 0) == indexed.wrap(position));
        indexed.make_available(position, 1);
        CHECK(indexed.push({indexed.pop()}));
    }
}

// Keeps integers in the order in which they are named.
class Shelf final : public StateVisitor {
  public:
    explicit Shelf(std::vector<u64>& values, bool load) : values_(values), load_(load) {}
    void section(std::string_view, u32) override {}
    bool loading() const override { return load_; }
    void blob(std::string_view, std::vector<u8>&, std::size_t) override {}

  protected:
    void integer(std::string_view, u64& value, unsigned) override {
        if (load_) {
            value = values_.at(at_++);
        } else {
            values_.push_back(value);
        }
    }
    void bytes(std::string_view, void*, std::size_t) override {}

  private:
    std::vector<u64>& values_;
    const bool load_;
    std::size_t at_ = 0;
};

void another_queue_goes_on_where_one_was_left() {
    Setup setup(3, true);
    for (u64 position = 0; position < 12; ++position) {
        setup.make_available(position, 1);
        CHECK(setup.push({setup.pop()}));
        std::vector<u64> values;
        Shelf save(values, false);
        setup.queue->visit_state(save);
        // Only the ring in memory and the values are left of the old one.
        const QueueConfig config{3, ring, driver_event, device_event};
        const auto other = make_packed_queue(setup.dma, config, true, true);
        Shelf load(values, true);
        other->visit_state(load);
        Chain chain;
        CHECK(other->pop(chain) == VirtQueue::Pop::empty);
        setup.set_driver_event(position, 2);
        CHECK(other->should_notify());
        CHECK(setup.queue->should_notify());
        std::vector<u64> again;
        Shelf compare(again, false);
        other->visit_state(compare);
        CHECK(again[0] == values[0] && again[1] == values[1]);
    }
    // A snapshot is untrusted: no value leads out of the ring.
    std::vector<u64> wild(4, ~u64{0});
    Shelf load(wild, true);
    setup.queue->visit_state(load);
    Chain chain;
    static_cast<void>(setup.queue->pop(chain));
    static_cast<void>(setup.queue->should_notify());
    static_cast<void>(setup.queue->request_notifications());
}

void areas_must_be_aligned_and_in_ram() {
    const auto usable = [](u64 desc, u64 driver, u64 device) {
        memory::GuestRam ram{ram_base, 1 * MiB};
        return make_packed_queue(memory::DmaView(ram), {4, desc, driver, device}, false, false)->usable();
    };
    CHECK(usable(ring, driver_event, device_event));
    CHECK(!usable(ring + 8, driver_event, device_event));
    CHECK(!usable(ring, driver_event + 2, device_event));
    CHECK(!usable(ring, driver_event, device_event + 1));
    CHECK(!usable(ram_base + 1 * MiB - 48, driver_event, device_event));
    CHECK(!usable(ring, 0x1000'0000, device_event));
    CHECK(!usable(ring, driver_event, ram_base + 1 * MiB));
    CHECK(!usable(~u64{15}, driver_event, device_event));
}

}  // namespace

int main() {
    a_slot_that_the_device_holds_cannot_be_made_available_again();
    a_list_that_runs_into_slots_that_the_device_holds_is_refused();
    wrap_counters_decide_what_is_available();
    used_descriptors_follow_each_other_by_the_length_of_their_lists();
    what_is_given_back_unread_comes_again();
    interrupts_come_when_the_event_descriptor_is_used();
    the_flags_of_event_suppression();
    the_device_says_when_to_ring();
    another_queue_goes_on_where_one_was_left();
    areas_must_be_aligned_and_in_ram();
    return checks.close();
}
