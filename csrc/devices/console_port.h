// The host's end of a guest console: bytes out of the guest are kept for the host to read, bytes from the
// host wait until the guest's device takes them. UART, virtio-console and the SBI debug console share it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/input_gate.h"
#include "base/state_visitor.h"
#include "base/types.h"

namespace wirt::devices {

class ConsolePort {
  public:
    explicit ConsolePort(std::string name) : name_(std::move(name)) {}
    const std::string& name() const { return name_; }

    // --- device side (any thread, device mutex may be held) ---
    // Guest output. Never blocks; when nobody reads, the oldest bytes beyond `history_limit` are dropped.
    void put(std::span<const u8> bytes);
    // Takes up to out.size() bytes of pending input; returns how many.
    std::size_t take(std::span<u8> out);
    bool has_input() const;
    // Called (on the host's thread, without locks) whenever input arrives.
    void on_input(std::function<void()> listener);

    // --- host side ---
    // StateError while the machine replays a recording.
    void send(std::span<const u8> bytes);
    // What send() does once the gate lets it.
    void receive(std::span<const u8> bytes);
    // While the machine is recorded, at rest: input asks `gate` first, and a state that is loaded keeps the
    // output. What the guest then writes again is not kept twice. Null: as usual; output that the guest has
    // yet to write again is dropped.
    void record(InputGate* gate);
    // Output has absolute positions since the machine was built. Copies what is available from `position`
    // on (bytes already dropped are skipped) and sets `position` behind it. Waits up to `timeout_s` seconds
    // for at least one byte, or for close(); empty on time-out.
    std::vector<u8> read(u64& position, double timeout_s);
    u64 written() const;
    // Wakes all readers; later reads do not wait.
    void close();
    bool closed() const;
    void set_history_limit(std::size_t bytes);

    void visit_state(StateVisitor& v);

  private:
    const std::string name_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<u8> input_;
    std::vector<u8> output_;
    std::atomic<InputGate*> gate_{nullptr};
    u64 ahead_ = 0;    // bytes at the end of the output that the guest has yet to write again
    u64 dropped_ = 0;  // absolute position of output_[0]
    std::size_t history_limit_ = 4 * MiB;
    bool closed_ = false;
    std::function<void()> listener_;
};

}  // namespace wirt::devices
