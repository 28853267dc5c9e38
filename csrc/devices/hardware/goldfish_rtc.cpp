#include "devices/hardware/goldfish_rtc.h"

#include "base/bits.h"

namespace wirt::devices::hardware {

namespace {

using memory::Register;
using memory::RegisterAccess;

enum Offset : u32 {
    TIME_LOW = 0x00,
    TIME_HIGH = 0x04,
    ALARM_LOW = 0x08,
    ALARM_HIGH = 0x0c,
    IRQ_ENABLED = 0x10,
    CLEAR_ALARM = 0x14,
    ALARM_STATUS = 0x18,
    CLEAR_INTERRUPT = 0x1c,
};

constexpr const char* cite = "Goldfish Virtual Hardware, Goldfish timer";
constexpr Register register_table[] = {
    {TIME_LOW, 4, RegisterAccess::rw, "TIME_LOW", 0, cite},
    {TIME_HIGH, 4, RegisterAccess::rw, "TIME_HIGH", 0, cite},
    {ALARM_LOW, 4, RegisterAccess::rw, "ALARM_LOW", 0, cite},
    {ALARM_HIGH, 4, RegisterAccess::rw, "ALARM_HIGH", 0, cite},
    {IRQ_ENABLED, 4, RegisterAccess::rw, "IRQ_ENABLED", 0, cite},
    {CLEAR_ALARM, 4, RegisterAccess::wo, "CLEAR_ALARM", 0, cite},
    {ALARM_STATUS, 4, RegisterAccess::ro, "ALARM_STATUS", 0, cite},
    {CLEAR_INTERRUPT, 4, RegisterAccess::wo, "CLEAR_INTERRUPT", 0, cite},
};

u64 with_low(u64 value, u32 low) {
    return (value & ~u64{0xffff'ffff}) | low;
}
u64 with_high(u64 value, u32 high) {
    return (value & 0xffff'ffff) | u64{high} << 32;
}

}  // namespace

GoldfishRtc::GoldfishRtc(std::string name, Clock& clock, Deadlines& deadlines, InterruptLine line)
    : DeadlineSource(deadlines), name_(std::move(name)), clock_(clock), line_(line) {}

std::span<const Register> GoldfishRtc::registers() const {
    return register_table;
}

void GoldfishRtc::reset() {
    // The time keeps running through a reset, as on a battery; what the guest set stays set.
    time_high_ = 0;
    alarm_ns_ = 0;
    alarm_armed_ = false;
    interrupt_enabled_ = false;
    interrupt_pending_ = false;
    alarm_changed();
    update_line();
}

void GoldfishRtc::on_deadline() {
    std::lock_guard lock(mutex());
    fire_if_due();
}

void GoldfishRtc::wall_clock_changed() {
    std::lock_guard lock(mutex());
    fire_if_due();
    alarm_changed();
}

u64 GoldfishRtc::read(u64 offset, unsigned size) {
    if (size != 4) return 0;
    switch (offset) {
        case TIME_LOW: {
            // Latches the high half, so that the two reads give one moment.
            const u64 now = time_ns();
            time_high_ = static_cast<u32>(now >> 32);
            return now & 0xffff'ffff;
        }
        case TIME_HIGH:
            return time_high_;
        case ALARM_LOW:
            return alarm_ns_ & 0xffff'ffff;
        case ALARM_HIGH:
            return alarm_ns_ >> 32;
        case IRQ_ENABLED:
            return interrupt_enabled_;
        case ALARM_STATUS:
            return alarm_armed_;
        default:
            return 0;
    }
}

void GoldfishRtc::write(u64 offset, unsigned size, u64 value) {
    if (size != 4) return;
    const u32 word = static_cast<u32>(value);
    const u64 now = time_ns();
    switch (offset) {
        case TIME_LOW:
            time_offset_ += with_low(now, word) - now;
            break;
        case TIME_HIGH:
            time_offset_ += with_high(now, word) - now;
            break;
        // The driver writes ALARM_HIGH first; ALARM_LOW arms.
        case ALARM_LOW:
            alarm_ns_ = with_low(alarm_ns_, word);
            alarm_armed_ = true;
            break;
        case ALARM_HIGH:
            alarm_ns_ = with_high(alarm_ns_, word);
            break;
        case IRQ_ENABLED:
            interrupt_enabled_ = bit(word, 0);
            break;
        case CLEAR_ALARM:
            alarm_armed_ = false;
            break;
        case CLEAR_INTERRUPT:
            interrupt_pending_ = false;
            break;
        default:
            return;
    }
    fire_if_due();
    alarm_changed();
    update_line();
}

u64 GoldfishRtc::deadline() const {
    if (!alarm_armed_) return never;
    const u64 now = clock_.now_ns();
    const u64 time = clock_.wall_base() + now + time_offset_;
    if (alarm_ns_ <= time) return now;
    const u64 remaining = alarm_ns_ - time;
    // An alarm beyond the end of the clock is never due.
    return remaining < never - now ? now + remaining : never;
}

void GoldfishRtc::alarm_changed() {
    set_deadline(deadline());
}

void GoldfishRtc::fire_if_due() {
    if (!alarm_armed_ || alarm_ns_ > time_ns()) return;
    alarm_armed_ = false;
    interrupt_pending_ = true;
    set_deadline(never);
    update_line();
}

void GoldfishRtc::update_line() const {
    line_.set(interrupt_pending_ && interrupt_enabled_);
}

// The machine restores its clock before its devices: the deadline is computed from it.
void GoldfishRtc::visit_state(StateVisitor& v) {
    v.section("goldfish-rtc/" + name_, 1);
    v.field("time_offset", time_offset_);
    v.field("time_high", time_high_);
    v.field("alarm", alarm_ns_);
    v.field("alarm_armed", alarm_armed_);
    v.field("interrupt_enabled", interrupt_enabled_);
    v.field("interrupt_pending", interrupt_pending_);
    if (!v.loading()) return;
    alarm_changed();
    update_line();
}

}  // namespace wirt::devices::hardware
