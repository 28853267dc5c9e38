// Whether a thread that ran out of work looks for more for a moment before it sleeps. A sleep and a wake-up
// cost the host more than a short request costs the device; a thread that looks in vain costs a core.
//
// The last wait decides: after one that was short, the next one is looked through, up to `limit`. A thread
// whose work comes in longer intervals therefore never looks, one whose work ends looks once in vain, and
// while it looks it lets others have its core. On a host with one core nobody looks.
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
        began_ = std::chrono::steady_clock::now();
        if (!short_waits_) return false;
        do {
            for (int i = 0; i < looks_between_yields; ++i) {
                if (ready()) return true;
            }
            std::this_thread::yield();
        } while (std::chrono::steady_clock::now() - began_ < limit);
        return false;
    }
    // What was waited for has come, after sleeping.
    void slept() {
        static const bool alone = std::thread::hardware_concurrency() < 2;
        short_waits_ = !alone && std::chrono::steady_clock::now() - began_ < limit;
    }

  private:
    static constexpr int looks_between_yields = 64;

    std::chrono::steady_clock::time_point began_;
    bool short_waits_ = false;
};

}  // namespace wirt
