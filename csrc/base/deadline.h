// What devices have to do at a moment of the machine's clock: an alarm, the end of an interrupt's delay.
//
// A device publishes its earliest moment, and the run loop calls it at or after that. In between nothing asks
// the host for the time, so that a deterministic machine's timers are a matter of its instructions.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <vector>

#include "base/types.h"

namespace wirt {

class DeadlineSource;

// The machine's. Lock order: the mutex inside comes before devices'; nearest_ns() and what on_nearer() calls
// take none of both.
class Deadlines {
  public:
    static constexpr u64 never = ~u64{0};

    // The Clock::now_ns() at which some device is due (possibly past). Any thread, any lock held.
    u64 nearest_ns() const { return nearest_.load(std::memory_order_seq_cst); }
    // Has every device that is due by `now_ns` do what it has to. No device's lock may be held.
    void poll(u64 now_ns);
    // Called whenever nearest_ns() has come nearer, with a device's mutex held. Set before anything runs.
    void on_nearer(std::function<void()> listener) { listener_ = std::move(listener); }

  private:
    friend class DeadlineSource;

    void lower(u64 ns);

    std::mutex mutex_;
    std::vector<DeadlineSource*> sources_;
    std::atomic<u64> nearest_{never};
    std::function<void()> listener_;
};

class DeadlineSource {
  public:
    explicit DeadlineSource(Deadlines& deadlines);
    virtual ~DeadlineSource() = default;
    DeadlineSource(const DeadlineSource&) = delete;
    DeadlineSource& operator=(const DeadlineSource&) = delete;

  protected:
    static constexpr u64 never = Deadlines::never;

    // Does what is due. Called at or after the deadline, without any of the device's locks.
    virtual void on_deadline() = 0;
    // The one deadline of this device from here on; ~0: none.
    void set_deadline(u64 ns) {
        if (deadline_.exchange(ns, std::memory_order_seq_cst) != ns) deadlines_.lower(ns);
    }
    // To be called first in the destructor: on_deadline() is not called any more once it returns.
    void retire();

  private:
    friend class Deadlines;

    Deadlines& deadlines_;
    std::atomic<u64> deadline_{never};
};

}  // namespace wirt
