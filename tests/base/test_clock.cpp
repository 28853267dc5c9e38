// The clock of a machine that is paused, saved, loaded and made to jump, and the alarm of an RTC across that.
//
// Standalone: prints each failure and a closing count, exits 0 if there are none.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/deadline.h"
#include "base/error.h"
#include "devices/hardware/goldfish_rtc.h"
#include "support/check.h"

namespace {

using namespace wirt;
using devices::hardware::GoldfishRtc;

constexpr u64 second = 1'000'000'000, year = 365 * 86'400 * second;
constexpr u64 epoch = 1'767'225'600 * second;

// Saves integers in order, and loads them again.
class Copy final : public StateVisitor {
  public:
    void section(std::string_view, u32) override {}
    bool loading() const override { return loading_; }
    void blob(std::string_view, std::vector<u8>&, std::size_t) override {}
    void rewind() {
        loading_ = true;
        next_ = 0;
    }
    std::vector<u64> values;

  private:
    void integer(std::string_view, u64& value, unsigned) override {
        if (loading_) {
            value = values.at(next_++);
        } else {
            values.push_back(value);
        }
    }
    void bytes(std::string_view, void*, std::size_t) override {}
    bool loading_ = false;
    std::size_t next_ = 0;
};

template <typename From, typename To>
void transfer(From& from, To& to) {
    Copy copy;
    from.visit_state(copy);
    copy.rewind();
    to.visit_state(copy);
}

void test_a_loaded_clock_goes_on_where_it_was() {
    Clock saved(Clock::Source::instructions);
    saved.set_wall_base(epoch);
    saved.advance_to_ns(5 * second);
    saved.set_ticks(7);
    // Older than any host, so that the origin of the host's clock is a negative number.
    for (const u64 age : {5 * second, 100 * year}) {
        saved.advance_to_ns(age);
        Clock loaded(Clock::Source::host);
        loaded.set_wall_base(1);
        transfer(saved, loaded);
        CHECK(loaded.now_ns() == age);
        CHECK(loaded.ticks() == saved.ticks());
        CHECK(loaded.wall_ns() == epoch + age);
        loaded.resume();
        const u64 first = loaded.now_ns();
        CHECK(first >= age && first < age + year);
        CHECK(loaded.now_ns() >= first);
        loaded.pause();
        const u64 stopped = loaded.now_ns();
        CHECK(stopped >= first);
        CHECK(loaded.now_ns() == stopped);
    }
}

void test_a_forged_time_is_refused() {
    Copy copy;
    copy.values = {~u64{0}, 0, 0};
    copy.rewind();
    Clock clock(Clock::Source::instructions);
    clock.advance_to_ns(3);
    bool refused = false;
    try {
        clock.visit_state(copy);
    } catch (const StateError&) {
        refused = true;
    }
    CHECK(refused);
    CHECK(clock.now_ns() == 3);
}

void test_only_the_wall_clock_jumps() {
    Clock clock(Clock::Source::instructions);
    clock.set_wall_base(epoch);
    clock.advance_to_ns(5 * second);
    const u64 ticks = clock.ticks();
    clock.set_wall(epoch + year);
    CHECK(clock.wall_ns() == epoch + year);
    CHECK(clock.now_ns() == 5 * second);
    CHECK(clock.ticks() == ticks);
    clock.advance_to_ns(6 * second);
    CHECK(clock.wall_ns() == epoch + year + second);
    // Back to before the machine was built: the base is then a negative number.
    clock.set_wall(second);
    CHECK(clock.wall_ns() == second);
    clock.advance_to_ns(7 * second);
    CHECK(clock.wall_ns() == 2 * second);
}

struct Line final : InterruptSink {
    void set_level(unsigned, bool to) override { level = to; }
    bool level = false;
};

struct Rtc {
    Clock clock{Clock::Source::instructions};
    Deadlines deadlines;
    Line line;
    GoldfishRtc device{"rtc", clock, deadlines, InterruptLine(line, 0)};

    explicit Rtc(u64 alarm) {
        clock.set_wall_base(epoch);
        clock.advance_to_ns(second);
        const std::lock_guard lock(device.mutex());
        device.write(0x0c, 4, alarm >> 32);
        device.write(0x08, 4, alarm & 0xffff'ffff);
        device.write(0x10, 4, 1);
    }
    bool armed() {
        const std::lock_guard lock(device.mutex());
        return device.read(0x18, 4) != 0;
    }
    void jump(u64 wall) {
        clock.set_wall(wall);
        device.wall_clock_changed();
    }
};

void test_an_alarm_rings_by_the_wall_clock() {
    Rtc rtc(epoch + 100 * second);
    CHECK(rtc.deadlines.nearest_ns() == 100 * second);

    // Nearer, but not there.
    rtc.jump(epoch + 90 * second);
    CHECK(rtc.deadlines.nearest_ns() == 11 * second);
    CHECK(rtc.armed() && !rtc.line.level);
    // Further away again: the deadline that was published is looked at, and nothing rings.
    rtc.jump(epoch);
    rtc.clock.advance_to_ns(11 * second);
    rtc.deadlines.poll(11 * second);
    CHECK(rtc.armed() && !rtc.line.level);
    CHECK(rtc.deadlines.nearest_ns() == 101 * second);
    // Passed.
    rtc.jump(epoch + year);
    CHECK(!rtc.armed() && rtc.line.level);
    // What was published before is looked at once more, and leads to nothing.
    rtc.deadlines.poll(101 * second);
    CHECK(rtc.deadlines.nearest_ns() == Deadlines::never);
}

void test_a_loaded_alarm_is_armed_again() {
    Rtc saved(epoch + 100 * second);
    Rtc loaded(epoch + 2 * second);
    transfer(saved.clock, loaded.clock);
    transfer(saved.device, loaded.device);
    loaded.clock.advance_to_ns(2 * second);
    loaded.deadlines.poll(2 * second);
    CHECK(loaded.armed() && !loaded.line.level);
    CHECK(loaded.deadlines.nearest_ns() == 100 * second);
    loaded.clock.advance_to_ns(100 * second);
    loaded.deadlines.poll(100 * second);
    CHECK(!loaded.armed() && loaded.line.level);
}

}  // namespace

int main() {
    test_a_loaded_clock_goes_on_where_it_was();
    test_a_forged_time_is_refused();
    test_only_the_wall_clock_jumps();
    test_an_alarm_rings_by_the_wall_clock();
    test_a_loaded_alarm_is_armed_again();
    return checks.close();
}
