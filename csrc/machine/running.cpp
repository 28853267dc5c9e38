// The two ways of running: each hart on its own host thread against the host's clock, or all in turns on one
// thread against the count of instructions.
#include <algorithm>
#include <chrono>
#include <utility>

#include "base/error.h"
#include "machine/parts.h"

namespace wirt::machine {

using firmware::HartState;
using riscv::Hart;
using riscv::RunResult;

void Machine::Parts::set_running() {
    board->resume();
    clock.resume();
    resumed = true;
    if (recording) recording->begin_running();
    {
        std::lock_guard lock(state_mutex);
        state = MachineState::running;
        stop = {};
        running = true;
    }
    state_changed.notify_all();
    if (config.deterministic) {
        std::lock_guard lock(idle_mutex);
        idle_changed.notify_all();
        return;
    }
    for (auto& slot : slots) {
        std::lock_guard lock(slot->mutex);
        slot->changed.notify_all();
    }
}

void Machine::Parts::halt() {
    if (recording) {
        // It comes to a position in no time, and a replay has to be able to stop there.
        leave = true;
        std::unique_lock lock(idle_mutex);
        idle_changed.notify_all();
        idle_changed.wait(lock, [this] { return !running || !slots[0]->executing.load(); });
        leave = false;
    }
    running = false;
    for (auto& slot : slots) slot->hart->request_exit();
    if (config.deterministic) {
        std::unique_lock lock(idle_mutex);
        idle_changed.notify_all();
        idle_changed.wait(lock, [this] { return !slots[0]->executing.load(); });
    } else {
        for (auto& slot : slots) {
            std::unique_lock lock(slot->mutex);
            slot->changed.notify_all();
            slot->changed.wait(lock, [&] { return !slot->executing.load(); });
        }
    }
    // Queues first, so that what runs is the last; then wait for it.
    board->pause();
    drain_executors();
    clock.pause();
    if (recording) recording->end_running();
}

// Called on a hart's thread, or by a life-cycle call: the first reason given is kept.
void Machine::Parts::stop_with(StopInfo info, bool final) {
    {
        std::lock_guard lock(state_mutex);
        if (state != MachineState::running || !running) return;
        running = false;
        stop = std::move(info);
        stop_is_final = final;
    }
    for (auto& slot : slots) slot->hart->request_exit();
    // Whoever waits brings the rest to a halt: this thread cannot wait for itself.
    state_changed.notify_all();
}

void Machine::Parts::settle_stop() {
    {
        std::lock_guard lock(state_mutex);
        if (state != MachineState::running || running) return;
    }
    halt();
    finish_stop();
}

void Machine::Parts::finish_stop() {
    {
        std::lock_guard lock(state_mutex);
        state =
            stop.reason != StopReason::none && stop_is_final ? MachineState::stopped : MachineState::paused;
    }
    state_changed.notify_all();
}

void Machine::Parts::launch() {
    if (threads_up) return;
    threads_up = true;
    if (config.deterministic) {
        thread = std::thread([this] { deterministic_main(); });
        return;
    }
    for (unsigned i = 0; i < slots.size(); ++i) {
        slots[i]->executing = true;  // until the thread has come to its waiting place
        slots[i]->thread = std::thread([this, i] { hart_main(i); });
    }
}

void Machine::Parts::step_hart(unsigned index, u64 n) {
    HartSlot& slot = *slots[index];
    if (slot.state.load() != HartState::started)
        throw StateError("hart " + std::to_string(index) + " is stopped");
    if (config.deterministic && !slice.open) {
        for (unsigned i = 0; i < slots.size(); ++i) slice.start_cycles[i] = slots[i]->hart->cycles();
    }
    // The caller's thread runs it; the hart's own is at rest. Time stands still for the host's clock.
    {
        std::lock_guard lock(state_mutex);
        state = MachineState::running;
        stop = {};
        stepping = true;
        running = true;
    }
    StopInfo info{StopReason::step, 0, index, nullptr};
    bool final = false;
    try {
        const u64 until = slot.hart->cycles() + n;
        while (slot.hart->cycles() < until && running) {
            const RunResult result = slot.hart->run(until);
            if (result == RunResult::breakpoint) {
                info.reason = StopReason::breakpoint;
                break;
            }
            // Stepping over a WFI that has nothing to wait for yet: it is a hint, and stepping goes on.
        }
    } catch (...) {
        info = {StopReason::host_error, 0, index, std::current_exception()};
    }
    {
        std::lock_guard lock(state_mutex);
        if (stop.reason == StopReason::none) {
            stop = info;
        } else {
            final = stop_is_final;
        }
        running = false;
        stepping = false;
        stop_is_final = final;
    }
    drain_executors();
    finish_stop();
}

// ---------------------------------------------------------------- a thread a hart

void Machine::Parts::park(HartSlot& slot) {
    const auto awake = [&] { return !running || slot.hart->has_events() || slot.hart->wakeup_pending(); };
    if (slot.window.poll(awake)) return;
    std::unique_lock lock(slot.mutex);
    slot.parked.store(true, std::memory_order_seq_cst);
    while (!awake()) {
        const u64 deadline = next_deadline_ticks(slot, slot.hart->id());
        const u64 now = clock.ticks();
        if (deadline == ~u64{0}) {
            slot.changed.wait(lock);
        } else if (deadline > now) {
            // A guest may set a deadline that is centuries away: the wait is cut into hours.
            const u64 ticks = std::min<u64>(deadline - now, u64{3600} * Clock::timebase_hz);
            slot.changed.wait_for(lock, std::chrono::nanoseconds(ticks * Clock::ns_per_tick));
        } else {
            break;
        }
    }
    slot.parked.store(false, std::memory_order_seq_cst);
    slot.window.slept();
}

// The hart does what others ask of it, an instruction at a time, and nothing else.
void Machine::Parts::await_brake(HartSlot& slot) {
    while (brake && running && slot.state.load() == HartState::started) {
        if (slot.hart->has_events()) {
            slot.hart->run(slot.hart->cycles() + 1);
            continue;
        }
        std::unique_lock lock(slot.mutex);
        slot.parked.store(true, std::memory_order_seq_cst);
        slot.changed.wait(lock, [&] { return !brake || !running || slot.hart->has_events(); });
        slot.parked.store(false, std::memory_order_seq_cst);
    }
}

void Machine::Parts::hart_main(unsigned index) {
    HartSlot& slot = *slots[index];
    for (;;) {
        {
            std::unique_lock lock(slot.mutex);
            slot.executing = false;
            slot.changed.notify_all();
            slot.changed.wait(lock, [&] {
                return closing || (running && !stepping && slot.state.load() == HartState::started);
            });
            if (closing) return;
            slot.executing = true;
        }
        try {
            while (running && slot.state.load() == HartState::started) {
                if (brake) await_brake(slot);
                const RunResult result = slot.hart->run(~u64{0});
                if (result == RunResult::wfi) park(slot);
                if (result == RunResult::breakpoint) {
                    stop_with({StopReason::breakpoint, 0, index, nullptr}, false);
                }
            }
        } catch (...) {
            stop_with({StopReason::host_error, 0, index, std::current_exception()}, false);
        }
    }
}

// ---------------------------------------------------------------- in turns

bool Machine::Parts::arrived(u64 stop_at) const {
    return retired() >= stop_at || leave || gave_up() || (stop_position && position() >= *stop_position);
}

u64 Machine::Parts::cycles_left() const {
    const Position here = position();
    u64 left = stop_cycles - std::min(stop_cycles, here.cycles);
    for (const std::optional<Position>& due :
         {stop_position, recording ? recording->next_due() : std::nullopt}) {
        if (due && due->time_ns == here.time_ns && due->cycles > here.cycles)
            left = std::min(left, due->cycles - here.cycles);
    }
    return left;
}

bool Machine::Parts::deterministic_turn(u64 stop_at) {
    if (!slice.open) {
        if (slice.fresh) {
            if (arrived(stop_at)) return true;
            if (recording) recording->take_in();
        }
        slice.fresh = false;
        drain_executors();
        for (unsigned i = 0; i < slots.size(); ++i) slice.start_cycles[i] = slots[i]->hart->cycles();
        slice.next = 0;
        slice.ran_ns = 0;
        slice.open = true;
    }
    bool somebody_ran = slice.ran_ns != 0;
    for (; slice.next < slots.size(); ++slice.next) {
        const unsigned i = slice.next;
        HartSlot& slot = *slots[i];
        if (slot.state.load() != HartState::started) continue;
        slot.hart->forget_stores_now();
        if (slot.waiting) {
            // What ends a wait is the hart's state alone, never an event: what comes of a state must not
            // depend on how the host got there.
            poll_deadlines(i);
            if (!slot.hart->wakeup_pending()) continue;
        }
        slot.waiting = false;
        const u64 end = slice.start_cycles[i] + slice_ns;
        while (slot.hart->cycles() < end && slot.state.load() == HartState::started) {
            if (arrived(stop_at)) return true;
            if (recording) recording->take_in();
            // Instructions that trap count as cycles and not as retired: the bound is approached.
            const u64 left = std::min({stop_at - retired(), slice_ns, cycles_left()});
            const u64 before = slot.hart->cycles();
            const RunResult result = slot.hart->run(std::min(end, before + left), resumed);
            resumed = resumed && slot.hart->cycles() == before;
            slice.ran_ns = std::max(slice.ran_ns, slot.hart->cycles() - slice.start_cycles[i]);
            somebody_ran = true;
            if (result == RunResult::breakpoint && passes_breakpoints) {
                passed_breakpoint = position();
                resumed = true;
                continue;
            }
            if (result == RunResult::breakpoint) {
                stop_with({StopReason::breakpoint, 0, i, nullptr}, false);
                return false;
            }
            if (result == RunResult::wfi) {
                slot.waiting = true;
                break;
            }
            if (!running) return false;
        }
    }
    // All had their turn. Time goes on by what the busiest ran, or, when all wait, to the next deadline.
    slice.open = false;
    const bool all_wait = std::all_of(slots.begin(), slots.end(), [](const auto& slot) {
        return slot->state.load() != HartState::started || slot->waiting;
    });
    const u64 passed = all_wait ? slice.ran_ns : slice_ns;
    slice.start_ns += passed;
    slice.fresh = passed != 0;
    clock.advance_to_ns(slice.start_ns);
    if (somebody_ran || !all_wait) return false;
    bool work = false;
    {
        std::lock_guard lock(idle_mutex);
        work = std::exchange(idle_wake, false);
    }
    if (work) return false;
    u64 deadline = ~u64{0};
    for (unsigned i = 0; i < slots.size(); ++i) {
        if (slots[i]->state.load() == HartState::started)
            deadline = std::min(deadline, next_deadline_ticks(*slots[i], i));
    }
    if (deadline == ~u64{0}) {
        // Nothing will ever happen unless the host makes it happen.
        if (arrived(stop_at)) return true;
        if (recording) recording->take_in();
        std::unique_lock lock(idle_mutex);
        idle_changed.wait(lock, [this] { return idle_wake || !running || closing || leave; });
        idle_wake = false;
        return false;
    }
    if (deadline > clock.ticks()) {
        slice.start_ns +=
            (deadline - clock.ticks()) * Clock::ns_per_tick - slice.start_ns % Clock::ns_per_tick;
        slice.fresh = true;
        clock.advance_to_ns(slice.start_ns);
    }
    for (unsigned i = 0; i < slots.size(); ++i) poll_deadlines(i);
    return false;
}

void Machine::Parts::await_brake_in_turns() {
    std::unique_lock lock(idle_mutex);
    while (brake && running && !closing) {
        for (auto& slot : slots) slot->hart->forget_stores_now();
        idle_changed.wait_for(lock, std::chrono::milliseconds(1));
    }
}

void Machine::Parts::deterministic_main() {
    for (;;) {
        {
            std::unique_lock lock(idle_mutex);
            slots[0]->executing = false;
            idle_changed.notify_all();
            idle_changed.wait(lock, [this] { return closing || (running && !stepping); });
            if (closing) return;
            slots[0]->executing = true;
        }
        try {
            while (running) {
                if (brake) await_brake_in_turns();
                if (!deterministic_turn(stop_instructions)) continue;
                if (leave) {
                    running = false;
                    break;
                }
                stop_with({gave_up() ? StopReason::no_progress : StopReason::step, 0, 0, nullptr}, false);
            }
        } catch (...) {
            stop_with({StopReason::host_error, 0, slice.next, std::current_exception()}, false);
        }
        if (recording) recording->end_running();
    }
}

}  // namespace wirt::machine
