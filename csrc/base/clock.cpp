#include "base/clock.h"

#include <ctime>

#include "base/error.h"

namespace wirt {

namespace {
// 146 years: sums with whatever a guest may set do not wrap below it.
constexpr u64 latest_ns = u64{1} << 62;

u64 host_monotonic_ns() {
    timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return static_cast<u64>(ts.tv_sec) * 1'000'000'000 + static_cast<u64>(ts.tv_nsec);
}
}  // namespace

u64 Clock::now_ns() const {
    if (source_ == Source::host) {
        const u64 origin = host_origin_.load(std::memory_order_relaxed);
        if (origin != 0) return host_monotonic_ns() - origin;
    }
    return virtual_ns_.load(std::memory_order_relaxed);
}

void Clock::resume() {
    if (source_ != Source::host || host_origin_.load() != 0) return;
    // Of a guest that is older than its host this is a negative number, modulo 2^64; 0 stands for paused, and
    // -1 ns is as good.
    const u64 origin = host_monotonic_ns() - virtual_ns_.load();
    host_origin_.store(origin != 0 ? origin : ~u64{0});
}

void Clock::pause() {
    if (source_ == Source::host && host_origin_.load() != 0) {
        virtual_ns_.store(now_ns());
        host_origin_.store(0);
    }
}

void Clock::visit_state(StateVisitor& v) {
    v.section("clock", 1);
    u64 now = now_ns();
    v.field("now_ns", now);
    v.field("tick_offset", tick_offset_);
    v.field("wall_base", wall_base_);
    if (!v.loading()) return;
    if (now > latest_ns) throw StateError("the saved clock shows a guest time beyond any machine's");
    virtual_ns_.store(now);
}

}  // namespace wirt
