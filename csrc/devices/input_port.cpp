#include "devices/input_port.h"

#include <vector>

#include "base/bits.h"
#include "base/error.h"

namespace wirt::devices {

namespace {
// linux/input-event-codes.h
constexpr u16 EV_SYN = 0, SYN_REPORT = 0;
constexpr u16 led_count = 16;
constexpr std::size_t event_bytes = 8;

void append(std::vector<u8>& to, const InputEvent& event) {
    u8 raw[event_bytes];
    store_le<u16>(raw, event.type);
    store_le<u16>(raw + 2, event.code);
    store_le<u32>(raw + 4, event.value);
    to.insert(to.end(), raw, raw + event_bytes);
}

InputEvent event_at(const u8* raw) {
    return {load_le<u16>(raw), load_le<u16>(raw + 2), load_le<u32>(raw + 4)};
}
}  // namespace

bool InputPort::send(std::span<const InputEvent> report) {
    std::vector<u8> raw;
    for (const InputEvent& event : report) append(raw, event);
    if (InputGate* const gate = gate_.load(std::memory_order_acquire)) {
        switch (gate->admit(name_, raw)) {
            case InputGate::Admission::now:
                break;
            case InputGate::Admission::later:
                return true;
            case InputGate::Admission::refused:
                throw StateError(
                    "the machine replays its recording and takes no input: run_to() its end, or "
                    "end_recording()");
        }
    }
    return receive(raw);
}

bool InputPort::receive(std::span<const u8> report) {
    std::function<void()> listener;
    {
        std::lock_guard lock(mutex_);
        if (events_.size() + report.size() / event_bytes + 1 > most_events) return false;
        for (std::size_t at = 0; at + event_bytes <= report.size(); at += event_bytes)
            events_.push_back(event_at(report.data() + at));
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
    std::vector<u8> waiting;
    for (const InputEvent& event : events_) append(waiting, event);
    v.blob("waiting", waiting, most_events * event_bytes);
    v.field("leds", leds_);
    if (!v.loading()) return;
    events_.clear();
    for (std::size_t at = 0; at + event_bytes <= waiting.size(); at += event_bytes)
        events_.push_back(event_at(waiting.data() + at));
    // It may have come while the state was saved, after its device was.
    const std::function<void()> listener = events_.empty() || v.quiet() ? nullptr : listener_;
    lock.unlock();
    if (listener) listener();
}

}  // namespace wirt::devices
