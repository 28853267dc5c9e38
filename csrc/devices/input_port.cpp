#include "devices/input_port.h"

#include <algorithm>

#include "base/bits.h"

namespace wirt::devices {

namespace {
// linux/input-event-codes.h
constexpr u16 EV_SYN = 0, SYN_REPORT = 0;
constexpr u16 led_count = 16;
constexpr std::size_t event_bytes = 8;
}  // namespace

bool InputPort::send(std::span<const InputEvent> report) {
    std::function<void()> listener;
    {
        std::lock_guard lock(mutex_);
        if (events_.size() + report.size() + 1 > most_events) return false;
        events_.insert(events_.end(), report.begin(), report.end());
        events_.push_back({EV_SYN, SYN_REPORT, 0});
        listener = listener_;
    }
    if (listener) listener();
    return true;
}

u32 InputPort::leds() const {
    std::lock_guard lock(mutex_);
    return leds_;
}

bool InputPort::has_events() const {
    std::lock_guard lock(mutex_);
    return !events_.empty();
}

bool InputPort::take(InputEvent& out) {
    std::lock_guard lock(mutex_);
    if (events_.empty()) return false;
    out = events_.front();
    events_.pop_front();
    return true;
}

void InputPort::set_led(u16 code, bool on) {
    if (code >= led_count) return;
    std::lock_guard lock(mutex_);
    leds_ = on ? leds_ | 1u << code : leds_ & ~(1u << code);
}

void InputPort::on_input(std::function<void()> listener) {
    std::lock_guard lock(mutex_);
    listener_ = std::move(listener);
}

void InputPort::visit_state(StateVisitor& v) {
    v.section("input-port/" + name_, 1);
    std::unique_lock lock(mutex_);
    std::vector<u8> waiting(events_.size() * event_bytes);
    for (std::size_t i = 0; i < events_.size(); ++i) {
        u8* at = waiting.data() + i * event_bytes;
        store_le<u16>(at, events_[i].type);
        store_le<u16>(at + 2, events_[i].code);
        store_le<u32>(at + 4, events_[i].value);
    }
    v.blob("waiting", waiting, most_events * event_bytes);
    v.field("leds", leds_);
    if (!v.loading()) return;
    events_.clear();
    for (std::size_t at = 0; at + event_bytes <= waiting.size(); at += event_bytes) {
        const u8* from = waiting.data() + at;
        events_.push_back({load_le<u16>(from), load_le<u16>(from + 2), load_le<u32>(from + 4)});
    }
    // It may have come while the state was saved, after its device was.
    const std::function<void()> listener = events_.empty() ? nullptr : listener_;
    lock.unlock();
    if (listener) listener();
}

}  // namespace wirt::devices
