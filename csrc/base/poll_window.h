// Whether a thread that ran out of work looks for more for a moment before it sleeps. A sleep and a wake-up
// cost the host more than a short request costs the device; a thread that looks in vain costs a core.
//
// The last wait decides: after one that was short, the next one is looked through, up to `limit`. A thread
// whose work comes in longer intervals therefore never looks, and one whose work ends looks once in vain.
// While it looks it lets others have its core. When they keep it for long, the host is busy, and sleepers are
// served sooner than those who gave way: the thread then sleeps through many waits before it looks again. On
// a host with one core nobody looks.
#pragma once

#include <chrono>
#include <thread>

namespace wirt {

class PollWindow {
  public:
    static constexpr std::chrono::microseconds limit{50};

    // True as soon as `ready()` is; false when it is time to sleep, after which slept() is to be called.
    template <typename Ready>
    bool poll(Ready&& ready) {
        began_ = Clock::now();
        if (!short_waits_) return false;
        if (sit_out_ > 0) {
            --sit_out_;
            return false;
        }
        bool found = false;
        do {
            for (int i = 0; i < looks_between_yields && !found; ++i) found = ready();
            if (!found) std::this_thread::yield();
        } while (!found && waited() < limit);
        if (waited() > 2 * limit) sit_out_ = waits_to_sit_out;
        return found;
    }
    // What was waited for has come, after sleeping.
    void slept() {
        static const bool alone = std::thread::hardware_concurrency() < 2;
        short_waits_ = !alone && waited() < limit;
    }

  private:
    using Clock = std::chrono::steady_clock;
    static constexpr int looks_between_yields = 64;
    // Many, since giving way to a thread that does not give it back costs a time slice, thousands of short
    // waits.
    static constexpr unsigned waits_to_sit_out = 2048;

    Clock::duration waited() const { return Clock::now() - began_; }

    Clock::time_point began_;
    bool short_waits_ = false;
    unsigned sit_out_ = 0;
};

}  // namespace wirt
