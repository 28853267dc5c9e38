// What the SBI's steal time leaves in the guest's memory, and where.
//
// Standalone: prints each failure and a closing count, exits 0 if there are none.
#include <atomic>
#include <thread>
#include <vector>

#include "base/bits.h"
#include "base/run_delay.h"
#include "firmware/steal_time.h"
#include "support/bare_hart.h"
#include "support/check.h"
#include "support/state_copy.h"

namespace {

using namespace wirt;
using firmware::StealTime;

constexpr u64 shared = BareHart::ram_base + 0x1000, none = ~u64{0};

struct Told {
    u32 sequence;
    u64 nanoseconds;
    explicit Told(const BareHart& bare)
        : sequence(load_le<u32>(bare.ram.data() + 0x1000)),
          nanoseconds(load_le<u64>(bare.ram.data() + 0x1008)) {}
};

void test_times_add_up() {
    BareHart bare;
    StealTime steal;
    steal.report(bare.hart, 5);
    CHECK(Told(bare).sequence == 0);
    CHECK(steal.set_memory(bare.hart, shared, 0, 0) == firmware::success);
    steal.report(bare.hart, 5);
    steal.report(bare.hart, 0);
    steal.report(bare.hart, 70);
    CHECK(Told(bare).sequence == 4);
    CHECK(Told(bare).nanoseconds == 75);
    CHECK(bare.ram.data()[0x1010] == 0);
    // What the guest writes there is not believed.
    store_le<u32>(bare.ram.data() + 0x1000, 77);
    store_le<u64>(bare.ram.data() + 0x1008, 1);
    steal.report(bare.hart, 25);
    CHECK(Told(bare).sequence == 6);
    CHECK(Told(bare).nanoseconds == 100);
    steal.stop();
    steal.report(bare.hart, 25);
    CHECK(Told(bare).nanoseconds == 100);
    CHECK(steal.set_memory(bare.hart, shared, 0, 0) == firmware::success);
    CHECK(Told(bare).nanoseconds == 0);
    CHECK(steal.set_memory(bare.hart, none, none, 0) == firmware::success);
    CHECK(!steal.reporting());
}

// As a part of the machine's state is: with a prefix.
struct Saved {
    StealTime& steal;
    void visit_state(StateVisitor& v) {
        v.section("steal", 1);
        steal.visit_state(v, "steal0");
    }
};

void test_it_goes_on_in_a_copy() {
    BareHart bare;
    StealTime one, other;
    CHECK(one.set_memory(bare.hart, shared, 0, 0) == firmware::success);
    one.report(bare.hart, 40);
    Saved saved{one}, loaded{other};
    StateCopy::of(saved).load_into(loaded);
    CHECK(other.reporting());
    other.report(bare.hart, 2);
    CHECK(Told(bare).sequence == 4);
    CHECK(Told(bare).nanoseconds == 42);
}

void test_who_waits_for_a_processor_is_told_so() {
    RunDelay delay;
    CHECK(delay.since_last() == 0);
    // More threads than processors, until somebody has had to wait.
    std::atomic<bool> enough{false};
    std::vector<std::thread> others;
    for (unsigned i = 0; i < 2 * std::thread::hardware_concurrency(); ++i) {
        others.emplace_back([&] {
            while (!enough) {
            }
        });
    }
    u64 waited = 0;
    while (waited == 0) waited = delay.since_last();
    enough = true;
    for (std::thread& other : others) other.join();
    CHECK(waited > 0);
}

}  // namespace

int main() {
    test_times_add_up();
    test_it_goes_on_in_a_copy();
    test_who_waits_for_a_processor_is_told_so();
    return checks.close();
}
