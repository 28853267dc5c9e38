// A machine's state: saved, loaded, hashed, and put back to where it began.
#include <thread>

#include "base/error.h"
#include "machine/parts.h"
#include "state/state_hash.h"
#include "state/stream.h"

namespace wirt::machine {

using firmware::HartState;

void Machine::Parts::visit_machine(StateVisitor& v) {
    v.section("machine", 4);
    // Only ever compared.
    u64 memory = config.memory;
    auto harts = static_cast<u32>(slots.size());
    bool deterministic = config.deterministic;
    v.field("memory", memory);
    v.field("harts", harts);
    v.field("deterministic", deterministic);
    v.field("serves_sbi", serve_sbi);
    if (memory != config.memory || harts != slots.size() || deterministic != config.deterministic) {
        throw SnapshotError("the saved state is that of a machine with another configuration");
    }
    for (unsigned i = 0; i < slots.size(); ++i) {
        v.field("hart_state" + std::to_string(i), slots[i]->state);
        v.field("hart_waiting" + std::to_string(i), slots[i]->waiting);
        v.field("slice_cycles" + std::to_string(i), slice.start_cycles[i]);
    }
    for (unsigned i = 0; i < slots.size(); ++i) {
        slots[i]->steal_time.visit_state(v, "steal" + std::to_string(i));
    }
    v.field("slice_start", slice.start_ns);
    v.field("slice_ran", slice.ran_ns);
    v.field("slice_next", slice.next);
    v.field("slice_open", slice.open);
    v.field("slice_fresh", slice.fresh);
    clock.visit_state(v);
    for (auto& slot : slots) slot->hart->visit_state(v);
    if (v.loading()) {
        for (unsigned i = 0; i < slots.size(); ++i) {
            const HartState state = slots[i]->state.load();
            if (state != HartState::started && state != HartState::stopped)
                throw SnapshotError("the saved state is broken: a hart is neither started nor stopped");
            // What a turn has yet to run is computed from these.
            if (slice.start_cycles[i] > slots[i]->hart->cycles())
                throw SnapshotError("the saved state is broken: a turn began after its end");
        }
        if (slice.next > slots.size() || slice.ran_ns > slice_ns * 2)
            throw SnapshotError("the saved state is broken: no such turn");
    }
    board->visit_state(v);
}

void Machine::Parts::visit_state(StateVisitor& v) {
    visit_machine(v);
    ram.visit_state(v);
}

void Machine::Parts::load_state(std::span<const u8> saved) {
    // What devices put off while they are loaded waits for resume(), as what was loaded as put off does.
    board->pause();
    drain_executors();
    state::LoadVisitor visitor(saved, config.deterministic);
    try {
        visit_machine(visitor);
    } catch (const SnapshotError&) {
        throw;
    } catch (const Error& error) {
        // A part that refuses says so in its own words.
        throw SnapshotError(error.what());
    }
    visitor.finish();
    // Of a stale translation a guest may see something: a deterministic machine begins with none, as its twin
    // does.
    if (config.deterministic) forget_caches();
    std::lock_guard lock(state_mutex);
    state = MachineState::paused;
    stop = {};
    stop_is_final = false;
    stop_instructions = stop_cycles = ~u64{0};
}

void Machine::Parts::forget_caches() {
    for (auto& slot : slots) slot->hart->forget_caches();
    ram.forget_code();
}

// On the caller's thread, which is no hart's, but for checkpoints.
void Machine::Parts::await_forgotten_stores() {
    if (std::this_thread::get_id() == thread.get_id()) {
        for (auto& slot : slots) slot->hart->forget_stores();
        for (auto& slot : slots) slot->hart->forget_stores_now();
        return;
    }
    for (auto& slot : slots) slot->hart->forget_stores();
    for (auto& slot : slots) {
        const HartSlot& runs = config.deterministic ? *slots[0] : *slot;
        while (!slot->hart->stores_forgotten() && runs.executing.load(std::memory_order_seq_cst))
            std::this_thread::yield();
    }
}

std::vector<u8> Machine::save_state() {
    require_still();
    std::lock_guard lock(parts_->control);
    if (parts_->state == MachineState::stopped || parts_->state == MachineState::closed)
        throw StateError("the machine has ended: there is no state to go on from");
    // From here on it has to go the way of its copies.
    if (parts_->config.deterministic) parts_->forget_caches();
    if (parts_->recording) parts_->recording->note_forgotten_caches();
    state::SaveVisitor visitor;
    parts_->visit_machine(visitor);
    return visitor.finish();
}

void Machine::load_state(std::shared_ptr<const std::vector<u8>> saved) {
    std::lock_guard lock(parts_->control);
    if (!parts_->config.origin || parts_->origin_state || parts_->state != MachineState::created)
        throw StateError("state is loaded once, into a machine that was made for it");
    parts_->load_state(*saved);
    parts_->origin_state = std::move(saved);
}

u64 Machine::reset() {
    std::lock_guard lock(parts_->control);
    parts_->require_free();
    parts_->settle_stop();
    if (parts_->state == MachineState::running) throw StateError("the machine is running: pause() it first");
    if (parts_->state == MachineState::closed) throw StateError("the machine is closed");
    parts_->require_no_recording("reset");
    if (!parts_->origin_state) {
        throw StateError(
            "the machine did not begin from a snapshot or as a clone: there is nothing to go "
            "back to; fork() it, and reset() the clone");
    }
    const u64 pages = parts_->ram.reset();
    parts_->load_state(*parts_->origin_state);
    return pages;
}

std::string Machine::state_hash() {
    require_still();
    state::HashVisitor visitor;
    parts_->visit_state(visitor);
    return visitor.hex();
}

std::vector<std::pair<std::string, u64>> Machine::inspect() {
    require_still();
    state::InspectVisitor visitor;
    parts_->visit_state(visitor);
    return std::move(visitor.fields);
}

}  // namespace wirt::machine
