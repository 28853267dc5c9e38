#include "base/deadline.h"

#include <utility>

namespace wirt {

void Deadlines::lower(u64 ns) {
    u64 held = nearest_.load(std::memory_order_seq_cst);
    while (ns < held) {
        if (!nearest_.compare_exchange_weak(held, ns, std::memory_order_seq_cst)) continue;
        if (listener_) listener_();
        return;
    }
}

void Deadlines::poll(u64 now_ns) {
    if (nearest_ns() > now_ns) return;
    std::lock_guard lock(mutex_);
    // Raised first: a deadline that is set while the others are looked at lowers it again.
    nearest_.store(never, std::memory_order_seq_cst);
    for (DeadlineSource* source : sources_) {
        if (source->deadline_.load(std::memory_order_seq_cst) <= now_ns) source->on_deadline();
        lower(source->deadline_.load(std::memory_order_seq_cst));
    }
}

DeadlineSource::DeadlineSource(Deadlines& deadlines) : deadlines_(deadlines) {
    std::lock_guard lock(deadlines.mutex_);
    deadlines.sources_.push_back(this);
}

void DeadlineSource::retire() {
    std::lock_guard lock(deadlines_.mutex_);
    std::erase(deadlines_.sources_, this);
}

}  // namespace wirt
