#include "base/executor.h"

#include <utility>

namespace wirt {

ThreadExecutor::ThreadExecutor() : thread_([this] { run(); }) {}

ThreadExecutor::~ThreadExecutor() {
    {
        std::lock_guard lock(mutex_);
        stop_ = true;
        wanted_.store(true, std::memory_order_relaxed);
    }
    wake_.notify_all();
    thread_.join();
}

void ThreadExecutor::post(Task task) {
    {
        std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
        wanted_.store(true, std::memory_order_relaxed);
    }
    // Costs nothing where the thread is at work, or looks for some.
    wake_.notify_one();
}

void ThreadExecutor::drain() {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return tasks_.empty() && !busy_; });
}

void ThreadExecutor::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        if (!stop_ && tasks_.empty()) {
            wanted_.store(false, std::memory_order_relaxed);
            lock.unlock();
            const bool found = window_.poll([this] { return wanted_.load(std::memory_order_relaxed); });
            lock.lock();
            if (!found) {
                wake_.wait(lock, [this] { return stop_ || !tasks_.empty(); });
                window_.slept();
            }
        }
        // Tasks left at destruction still run: each may hold a guest's write that was acknowledged.
        if (tasks_.empty()) return;
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
}

void DeferredExecutor::post(Task task) {
    {
        std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
    }
    wake_();
}

void DeferredExecutor::drain() {
    std::unique_lock lock(mutex_);
    while (!tasks_.empty()) {
        Task task = std::move(tasks_.front());
        tasks_.pop_front();
        lock.unlock();
        task();
        lock.lock();
    }
}

}  // namespace wirt
