// What a device puts off to its executor, by kind: each kind runs once, however often it was asked for before
// it begins.
#pragma once

#include <atomic>
#include <functional>

#include "base/executor.h"
#include "base/state_visitor.h"
#include "base/types.h"

namespace wirt {

class DeferredWork {
  public:
    // `run` is called on the executor, without locks, with kinds below 64. It must find all that there is to
    // do in the device's state: what was asked for may be done already, or belong to a time before a reset.
    DeferredWork(Executor& executor, std::function<void(unsigned kind)> run)
        : executor_(executor), run_(std::move(run)) {}

    // Any thread, any lock held.
    void request(unsigned kind) {
        const u64 mask = u64{1} << kind;
        if (!(pending_.fetch_or(mask) & mask)) post(kind);
    }
    // From here on nothing begins; what is asked for waits for resume(). What runs may go on until the
    // executor is drained.
    void pause() { paused_ = true; }
    void resume() {
        paused_ = false;
        const u64 pending = pending_;
        for (unsigned kind = 0; kind < 64; ++kind) {
            if (pending >> kind & 1) post(kind);
        }
    }
    void drain() { executor_.drain(); }
    // In the caller's section: what waits for resume(). Of a saved state only the kinds in `valid` are taken.
    void visit_state(StateVisitor& v, u64 valid) {
        u64 pending = pending_;
        v.field("pending", pending);
        if (v.loading()) pending_ = pending & valid;
    }

  private:
    void post(unsigned kind) {
        executor_.post(
            [this, kind] {
                const u64 mask = u64{1} << kind;
                if (paused_) return;
                // Cleared before the work begins: what is asked for from here on is another task.
                if (pending_.fetch_and(~mask) & mask) run_(kind);
            },
            kind);
    }

    Executor& executor_;
    const std::function<void(unsigned)> run_;
    std::atomic<u64> pending_{0};  // one bit a kind that was asked for and has not begun
    std::atomic<bool> paused_{false};
};

}  // namespace wirt
