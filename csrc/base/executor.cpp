#include "base/executor.h"

#include <system_error>
#include <utility>

namespace wirt {

ThreadExecutor::~ThreadExecutor() {
    std::unique_lock lock(mutex_);
    stop_ = true;
    wanted_.store(true, std::memory_order_relaxed);
    if (running_) {
        lock.unlock();
        wake_.notify_all();
    } else {
        run_without_thread(lock);
        lock.unlock();
    }
    if (thread_.joinable()) thread_.join();
}

bool ThreadExecutor::start_thread() {
    if (running_) return true;
    // The one before has let go of the mutex for the last time.
    if (thread_.joinable()) thread_.join();
    try {
        thread_ = std::thread([this] { run(); });
    } catch (const std::system_error&) {
        return false;
    }
    running_ = true;
    return true;
}

void ThreadExecutor::post(Task task, unsigned) {
    {
        std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
        wanted_.store(true, std::memory_order_relaxed);
        if (!start_thread()) return;
    }
    // Costs nothing where the thread is at work, or looks for some.
    wake_.notify_one();
}

void ThreadExecutor::drain() {
    std::unique_lock lock(mutex_);
    if (!tasks_.empty() && !start_thread()) run_without_thread(lock);
    idle_.wait(lock, [this] { return tasks_.empty() && !busy_; });
}

void ThreadExecutor::run_first(std::unique_lock<std::mutex>& lock) {
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    busy_ = true;
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
    busy_ = false;
    if (tasks_.empty()) idle_.notify_all();
}

void ThreadExecutor::run_without_thread(std::unique_lock<std::mutex>& lock) {
    // One at a time, whoever runs them; a thread that starts meanwhile takes over.
    while (!tasks_.empty() && !busy_ && !running_) {
        run_first(lock);
        idle_.notify_all();
    }
}

void ThreadExecutor::run() {
    std::unique_lock lock(mutex_);
    // Left to whoever is at the first of them for want of this thread.
    idle_.wait(lock, [this] { return !busy_; });
    for (;;) {
        if (!stop_ && tasks_.empty()) {
            wanted_.store(false, std::memory_order_relaxed);
            lock.unlock();
            const bool found = window_.poll([this] { return wanted_.load(std::memory_order_relaxed); });
            lock.lock();
            if (!found) {
                wake_.wait_for(lock, idle_limit_, [this] { return stop_ || !tasks_.empty(); });
                window_.slept();
            }
        }
        // Tasks left at destruction still run: each may hold a guest's write that was acknowledged.
        if (tasks_.empty()) {
            running_ = false;
            return;
        }
        run_first(lock);
    }
}

void DeferredExecutor::post(Task task, unsigned order) {
    {
        std::lock_guard lock(mutex_);
        tasks_.emplace(order, std::move(task));
    }
    wake_();
}

void DeferredExecutor::drain() {
    std::unique_lock lock(mutex_);
    while (!tasks_.empty()) {
        const Task task = std::move(tasks_.extract(tasks_.begin()).mapped());
        lock.unlock();
        task();
        lock.lock();
    }
}

}  // namespace wirt
