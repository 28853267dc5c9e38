// An 82574 that is saved at rest and goes on elsewhere: what waits is still waiting, what is due is still
// due.
//
// Standalone: prints each failure and a closing count, exits 0 if there are none.
#include <cstring>

#include "devices/hardware/e1000e/e1000e.h"
#include "network/end_point.h"
#include "pci_machine.h"
#include "support/state_copy.h"
#include "support/check.h"

namespace {

using namespace wirt::devices::hardware::e1000e;

constexpr u64 microsecond = 1000;

// What outlives the devices.
struct Surroundings {
    Clock clock{Clock::Source::instructions};
    Deadlines deadlines;
    DeferredExecutor executor{[] {}};
};

struct NicMachine : Surroundings, Machine {
    explicit NicMachine(std::shared_ptr<network::Port> port)
        : nic(plug<E1000e>(1, "e1000e0", std::move(port), network::MacAddress{2, 0, 0, 0, 0, 1}, clock,
                           deadlines, executor)) {}
    void set(u32 offset, u32 value) { bus.write(window + offset, 4, value); }
    u32 get(u32 offset) { return static_cast<u32>(bus.read(window + offset, 4).value_or(~u64{0})); }
    // A receive ring of eight descriptors of which the first `count` are the hardware's, interrupts that wait
    // for `delay` microseconds.
    void start(u32 count, u32 delay) {
        configure(1, bar0, 4, window);
        configure(1, command, 2, 0x6);
        for (u64 i = 0; i < 8; ++i) {
            const u64 buffer = ram_base + 0x10'000 + i * 0x1000;
            std::memcpy(ram.data() + 0x1000 + 16 * i, &buffer, sizeof buffer);
        }
        set(RDBAL, ram_base + 0x1000);
        set(RDLEN, 128);
        set(RDTR, delay);
        set(IMS, icr_rxt0);
        set(RDT, count);
        set(RCTL, rctl_en | rctl_upe);
    }
    void take_state_of(NicMachine& other, StateCopy& saved) {
        root.pause();
        std::memcpy(ram.data(), other.ram.data(), ram.size());
        clock.advance_to_ns(other.clock.now_ns());
        saved.load_into(root);
    }

    E1000e& nic;
};

std::vector<u8> frame() {
    std::vector<u8> bytes(60, 7);
    bytes[0] = 2;
    bytes[6] = 2;
    bytes[7] = 9;
    return bytes;
}

void test_it_goes_on_where_it_was() {
    const auto lan = network::Switch::create();
    network::EndPoint peer(lan->add_port("peer"));
    NicMachine from(lan->add_port("nic"));
    from.start(2, 100);
    peer.send(frame());
    from.executor.drain();  // delivered; its interrupt is delayed
    CHECK(from.get(RDH) == 1 && !from.lines.levels[1]);
    from.root.pause();
    peer.send(frame());  // arrives while the machine is paused
    from.executor.drain();
    CHECK(from.get(RDH) == 1);

    const auto new_port = lan->add_port("new nic");
    NicMachine to(new_port);
    StateCopy saved = StateCopy::of(from.root);
    to.take_state_of(from, saved);
    CHECK(StateCopy::of(to.root) == saved);
    to.executor.drain();
    CHECK(to.get(RDH) == 1);
    to.root.resume();
    to.executor.drain();
    CHECK(to.get(RDH) == 2);
    const u64 due = 100 * 1024;
    CHECK(to.deadlines.nearest_ns() <= due);
    to.clock.advance_to_ns(due - microsecond);
    to.deadlines.poll(to.clock.now_ns());
    CHECK(!to.lines.levels[1]);
    to.clock.advance_to_ns(due);
    to.deadlines.poll(due);
    CHECK(to.lines.levels[1]);
}

void test_nothing_is_done_that_the_other_would_not_do() {
    const auto lan = network::Switch::create();
    NicMachine from(lan->add_port("nic")), to(lan->add_port("new nic"));
    from.start(2, 0);
    from.executor.drain();
    from.root.pause();
    StateCopy saved = StateCopy::of(from.root);
    to.take_state_of(from, saved);
    to.root.resume();
    to.executor.drain();
    CHECK(StateCopy::of(to.root) == saved);
}

void test_the_cable_is_that_of_the_new_machine() {
    const auto lan = network::Switch::create();
    NicMachine from(lan->add_port("nic")), to(nullptr);
    from.start(2, 0);
    from.set(IMS, icr_lsc);
    from.executor.drain();
    CHECK((from.get(STATUS) & status_lu) != 0);
    from.root.pause();
    StateCopy saved = StateCopy::of(from.root);
    to.take_state_of(from, saved);
    to.root.resume();
    to.executor.drain();
    CHECK((to.get(STATUS) & status_lu) == 0);
    CHECK(to.lines.levels[1]);
}

void test_work_that_there_is_not_is_not_done() {
    const auto lan = network::Switch::create();
    NicMachine from(lan->add_port("nic"));
    from.start(2, 0);
    from.executor.drain();
    from.root.pause();
    StateCopy saved = StateCopy::of(from.root);
    saved.set("e1000e0.pending", ~u64{0});
    saved.load_into(from.root);
    CHECK(StateCopy::of(from.root).get("e1000e0.pending") == 0x303);
    from.root.resume();
    from.executor.drain();
    CHECK(StateCopy::of(from.root).get("e1000e0.pending") == 0);
}

}  // namespace

int main() {
    test_it_goes_on_where_it_was();
    test_nothing_is_done_that_the_other_would_not_do();
    test_the_cable_is_that_of_the_new_machine();
    test_work_that_there_is_not_is_not_done();
    return checks.close();
}
