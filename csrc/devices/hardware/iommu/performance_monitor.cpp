#include "devices/hardware/iommu/performance_monitor.h"

#include "base/bits.h"

namespace wirt::devices::hardware::iommu {

namespace {

constexpr u64 overflow_bit = u64{1} << 63;
constexpr u64 highest_event = static_cast<u64>(Event::second_stage_walk);

// 6.23: table "filtering options".
bool matches(u64 selector, Event event, const EventIds& ids) {
    if (bits<u64>(selector, 0, 15) != static_cast<u64>(event)) return false;
    const u32 low_id = static_cast<u32>(bits<u64>(selector, 16, 20));
    const u32 high_id = static_cast<u32>(bits<u64>(selector, 36, 24));
    const bool low_valid = bit(selector, 60), high_valid = bit(selector, 61), contexts = bit(selector, 62);
    // DMASK: the bits up to and including the lowest zero are not compared.
    const u32 mask = bit(selector, 15) ? ~(high_id ^ (high_id + 1)) : ~u32{0};
    const auto same = [mask](u32 a, u32 b) { return ((a ^ b) & mask & 0xff'ffff) == 0; };
    if (!contexts) {
        return (!low_valid || (ids.pv && ids.process_id == low_id)) &&
               (!high_valid || same(ids.device_id, high_id));
    }
    // Table "Standard Events list": only these know their soft contexts.
    if (event != Event::tlb_miss && event != Event::first_stage_walk && event != Event::second_stage_walk) {
        return false;
    }
    return (!low_valid || (ids.pscv && ids.pscid == low_id)) &&
           (!high_valid || (ids.gscv && same(ids.gscid, high_id)));
}

}  // namespace

bool PerformanceMonitor::count(Event event, const EventIds& ids) {
    if (!counting()) return false;
    bool pending = false;
    for (unsigned i = 0; i < counters; ++i) {
        if (bit(inhibit_, i + 1) || !matches(event_[i], event, ids)) continue;
        if (++counter_[i] != 0) continue;
        pending |= (event_[i] & overflow_bit) == 0;
        event_[i] |= overflow_bit;
    }
    return pending;
}

bool PerformanceMonitor::advance() {
    const u64 now = clock_.now_ns();
    const u64 passed = now - last_ns_;
    last_ns_ = now;
    if (bit(inhibit_, 0)) return false;
    const u64 was_set = cycles_ & overflow_bit;
    const u64 sum = (cycles_ & ~overflow_bit) + passed;
    cycles_ = sum | was_set;
    return (sum & overflow_bit) != 0 && was_set == 0;
}

u32 PerformanceMonitor::overflow() const {
    u32 result = static_cast<u32>(cycles_ >> 63);
    for (unsigned i = 0; i < counters; ++i) result |= static_cast<u32>(event_[i] >> 63) << (i + 1);
    return result;
}

void PerformanceMonitor::set_inhibit(u32 value) {
    inhibit_ = value;
    update_counting();
}

void PerformanceMonitor::set_event(unsigned n, u64 value) {
    constexpr u64 id_bits = bits<u64>(~u64{0}, 0, 15);
    // WARL: an event that does not exist leaves the one that was.
    if ((value & id_bits) > highest_event) value = (value & ~id_bits) | (event_[n - 1] & id_bits);
    event_[n - 1] = value;
    update_counting();
}

void PerformanceMonitor::update_counting() {
    bool any = false;
    for (unsigned i = 0; i < counters; ++i) any |= !bit(inhibit_, i + 1) && bits<u64>(event_[i], 0, 15) != 0;
    counting_.store(any, std::memory_order_relaxed);
}

void PerformanceMonitor::reset() {
    last_ns_ = clock_.now_ns();
    cycles_ = 0;
    inhibit_ = 0;
    counter_.fill(0);
    event_.fill(0);
    update_counting();
}

void PerformanceMonitor::visit_fields(StateVisitor& v) {
    v.field("iohpmcycles.seen_ns", last_ns_);
    v.field("iohpmcycles", cycles_);
    v.field("iocountinh", inhibit_);
    v.field("iohpmctr", counter_);
    v.field("iohpmevt", event_);
    if (v.loading()) update_counting();
}

}  // namespace wirt::devices::hardware::iommu
