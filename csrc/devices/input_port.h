// The host's end of a guest's keyboard or pointing device: reports of events wait until the guest takes them.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <string>

#include "base/input_gate.h"
#include "base/state_visitor.h"
#include "base/types.h"

namespace wirt::devices {

// Linux evdev's, whose numbers virtio-input uses (virtio 1.2, 5.8.6).
struct InputEvent {
    u16 type;
    u16 code;
    u32 value;
};

class InputPort {
  public:
    explicit InputPort(std::string name) : name_(std::move(name)) {}
    const std::string& name() const { return name_; }

    // --- host side ---
    // One report: what changed at one moment; the closing SYN_REPORT is added. False when the guest has taken
    // nothing for so long that there is no room: the report is then dropped as a whole.
    // StateError while the machine replays a recording.
    bool send(std::span<const InputEvent> report);
    // What send() does once the gate lets it, with eight little-endian bytes an event.
    bool receive(std::span<const u8> report);
    // While the machine is recorded, at rest: input asks `gate` first. Null: as usual.
    void record(InputGate* gate) { gate_.store(gate, std::memory_order_release); }
    // Bit n is the guest's wish for LED n (LED_NUML is 0).
    u32 leds() const;

    // --- device side (any thread, device mutex may be held) ---
    bool has_events() const;
    bool take(InputEvent& out);
    void set_led(u16 code, bool on);
    // Called (on the host's thread, without locks) whenever a report arrives.
    void on_input(std::function<void()> listener);

    void visit_state(StateVisitor& v);

  private:
    static constexpr std::size_t most_events = 4096;

    const std::string name_;
    mutable std::mutex mutex_;
    std::deque<InputEvent> events_;
    std::atomic<InputGate*> gate_{nullptr};
    u32 leds_ = 0;
    std::function<void()> listener_;
};

}  // namespace wirt::devices
