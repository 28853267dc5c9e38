#include "devices/console_port.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"

namespace wirt::devices {

namespace {
// What a device may leave untaken; a snapshot with more is not one of ours.
constexpr std::size_t stored_input_limit = 64 * MiB;
// Longer waits than this (infinity included) would overflow the clock's arithmetic.
constexpr double longest_wait_s = 1e8;
}  // namespace

void ConsolePort::put(std::span<const u8> bytes) {
    std::lock_guard lock(mutex_);
    const u64 known = std::min<u64>(ahead_, bytes.size());
    ahead_ -= known;
    bytes = bytes.subspan(known);
    if (bytes.empty()) return;
    output_.insert(output_.end(), bytes.begin(), bytes.end());
    // Dropping moves what stays, so it waits until as much as stays can go: amortised O(1) a byte.
    if (output_.size() / 2 > history_limit_) {
        const std::size_t excess = output_.size() - history_limit_;
        output_.erase(output_.begin(), output_.begin() + static_cast<std::ptrdiff_t>(excess));
        dropped_ += excess;
    }
    changed_.notify_all();
}

std::size_t ConsolePort::take(std::span<u8> out) {
    std::lock_guard lock(mutex_);
    const std::size_t count = std::min(out.size(), input_.size());
    const auto end = input_.begin() + static_cast<std::ptrdiff_t>(count);
    std::copy(input_.begin(), end, out.begin());
    input_.erase(input_.begin(), end);
    return count;
}

bool ConsolePort::has_input() const {
    std::lock_guard lock(mutex_);
    return !input_.empty();
}

void ConsolePort::on_input(std::function<void()> listener) {
    std::lock_guard lock(mutex_);
    listener_ = std::move(listener);
}

void ConsolePort::send(std::span<const u8> bytes) {
    if (InputGate* const gate = gate_.load(std::memory_order_acquire)) {
        switch (gate->admit(name_, bytes)) {
            case InputGate::Admission::now:
                break;
            case InputGate::Admission::later:
                return;
            case InputGate::Admission::refused:
                throw StateError(
                    "the machine replays its recording and takes no input: run_to() its end, or "
                    "end_recording()");
        }
    }
    receive(bytes);
}

void ConsolePort::record(InputGate* gate) {
    std::lock_guard lock(mutex_);
    gate_.store(gate, std::memory_order_release);
    if (gate != nullptr) return;
    const u64 kept = output_.size() - std::min<u64>(ahead_, output_.size());
    dropped_ -= ahead_ - (output_.size() - kept);
    output_.resize(kept);
    ahead_ = 0;
}

void ConsolePort::receive(std::span<const u8> bytes) {
    std::function<void()> listener;
    {
        std::lock_guard lock(mutex_);
        input_.insert(input_.end(), bytes.begin(), bytes.end());
        listener = listener_;
    }
    if (listener) listener();
}

std::vector<u8> ConsolePort::read(u64& position, double timeout_s) {
    std::unique_lock lock(mutex_);
    const auto written = [this] { return dropped_ + output_.size(); };
    if (timeout_s > 0) {
        const std::chrono::duration<double> wait(std::min(timeout_s, longest_wait_s));
        changed_.wait_for(lock, wait, [&] { return written() > position || closed_; });
    }
    if (position >= written()) return {};
    const u64 from = std::max(position, dropped_);
    position = written();
    return {output_.begin() + static_cast<std::ptrdiff_t>(from - dropped_), output_.end()};
}

u64 ConsolePort::written() const {
    std::lock_guard lock(mutex_);
    return dropped_ + output_.size();
}

void ConsolePort::close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
}

bool ConsolePort::closed() const {
    std::lock_guard lock(mutex_);
    return closed_;
}

void ConsolePort::set_history_limit(std::size_t bytes) {
    std::lock_guard lock(mutex_);
    history_limit_ = bytes;
}

// The history of output belongs to the host's end and is not the guest's state; how much was written is, so
// that positions go on where they were.
void ConsolePort::visit_state(StateVisitor& v) {
    std::function<void()> listener;
    {
        std::lock_guard lock(mutex_);
        v.section("console-port/" + name_, 1);
        const u64 end = dropped_ + output_.size();
        u64 written = end - ahead_;
        v.field("written", written);
        std::vector<u8> input(input_.begin(), input_.end());
        v.blob("input", input, stored_input_limit);
        if (!v.loading()) return;
        input_.assign(input.begin(), input.end());
        if (gate_.load(std::memory_order_relaxed) != nullptr && written <= end) {
            ahead_ = end - written;
        } else {
            output_.clear();
            dropped_ = written;
            ahead_ = 0;
        }
        if (!input_.empty() && !v.quiet()) listener = listener_;
    }
    // It may have come while the state was saved, after its device was.
    if (listener) listener();
}

}  // namespace wirt::devices
