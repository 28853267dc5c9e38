// Where a device's slow work runs. Host I/O never runs on a hart's thread: a device posts a task, and the
// task takes the device's mutex for the moments in which it touches device state.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "base/poll_window.h"
#include "base/types.h"

namespace wirt {

class Executor {
  public:
    using Task = std::function<void()>;

    virtual ~Executor() = default;
    // Queues `task`; tasks of one executor run one after the other in the order posted. May be called with
    // any lock held. A task must not throw.
    virtual void post(Task task) = 0;
    // Returns when every task posted before the call has run. Not to be called from a task, nor with a
    // lock held that a task takes.
    virtual void drain() = 0;
};

// One host thread.
class ThreadExecutor final : public Executor {
  public:
    ThreadExecutor();
    ~ThreadExecutor() override;
    void post(Task task) override;
    void drain() override;

  private:
    void run();

    std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable idle_;
    std::deque<Task> tasks_;
    std::atomic<bool> wanted_{false};  // a task waits, or it is time to stop; changed with the mutex held
    bool busy_ = false;
    bool stop_ = false;
    PollWindow window_;
    std::thread thread_;
};

// Deterministic mode: tasks wait until the run loop, at a point fixed by the retired-instruction count,
// calls `drain()`. `wake` is called on every post so that the loop knows there is work.
class DeferredExecutor final : public Executor {
  public:
    explicit DeferredExecutor(std::function<void()> wake) : wake_(std::move(wake)) {}
    void post(Task task) override;
    void drain() override;

  private:
    std::function<void()> wake_;
    std::mutex mutex_;
    std::deque<Task> tasks_;
};

}  // namespace wirt
