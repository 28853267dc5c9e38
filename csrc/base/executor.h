// Where a device's slow work runs. Host I/O never runs on a hart's thread: a device posts a task, and the
// task takes the device's mutex for the moments in which it touches device state.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "base/poll_window.h"
#include "base/types.h"

namespace wirt {

class Executor {
  public:
    using Task = std::function<void()>;

    virtual ~Executor() = default;
    // Queues `task`; tasks of one executor run one after the other. May be called with any lock held. A task
    // must not throw. `order` is for deterministic machines, see there; others run tasks in the order posted.
    virtual void post(Task task, unsigned order = 0) = 0;
    // Returns when every task posted before the call has run. Not to be called from a task, nor with a
    // lock held that a task takes.
    virtual void drain() = 0;
};

// One host thread, which is there while there is work: it starts with the first task and ends when there was
// none for `idle_limit`, so that a thousand machines that wait cost no thousands of threads. Where the host
// refuses a thread the tasks wait: each post and drain() asks again, and drain() and the destructor run what
// is left themselves if they have to.
class ThreadExecutor final : public Executor {
  public:
    static constexpr std::chrono::milliseconds usual_idle_limit{10'000};

    explicit ThreadExecutor(std::chrono::milliseconds idle_limit = usual_idle_limit)
        : idle_limit_(idle_limit) {}
    ~ThreadExecutor() override;
    void post(Task task, unsigned order = 0) override;
    void drain() override;

  private:
    // These three with the mutex held.
    bool start_thread();
    void run_first(std::unique_lock<std::mutex>& lock);
    void run_without_thread(std::unique_lock<std::mutex>& lock);
    void run();

    const std::chrono::milliseconds idle_limit_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable idle_;
    std::deque<Task> tasks_;
    std::atomic<bool> wanted_{false};  // a task waits, or it is time to stop; changed with the mutex held
    bool busy_ = false;
    bool stop_ = false;
    bool running_ = false;  // thread_ will look at tasks_ again
    PollWindow window_;
    std::thread thread_;
};

// Deterministic mode: tasks wait until the run loop, at a point fixed by the retired-instruction count,
// calls `drain()`. `wake` is called on every post so that the loop knows there is work.
//
// Of the tasks that wait, the one with the lowest `order` runs first. State says which work of a device is to
// be done, and not in which order it was asked for: a machine that was loaded has to do it in the same one.
class DeferredExecutor final : public Executor {
  public:
    explicit DeferredExecutor(std::function<void()> wake) : wake_(std::move(wake)) {}
    void post(Task task, unsigned order = 0) override;
    void drain() override;

  private:
    std::function<void()> wake_;
    std::mutex mutex_;
    std::multimap<unsigned, Task> tasks_;  // equal ones in the order posted
};

}  // namespace wirt
