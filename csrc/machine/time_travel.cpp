// The past of a deterministic machine: begun, ended, and gone back to.
//
// A journey is a checkpoint that is loaded, and the run loop, which from there on finds its input in the
// journal.
#include <utility>

#include "base/bits.h"
#include "base/error.h"
#include "machine/parts.h"
#include "state/stream.h"

namespace wirt::machine {

// ---------------------------------------------------------------- what a recording needs

Position Machine::Parts::position() const {
    Position here{slice.start_ns, 0, Position::Phase::open};
    for (const auto& slot : slots) here.cycles += slot->hart->cycles();
    if (!slice.open) here.phase = slice.fresh ? Position::Phase::closed : Position::Phase::idle;
    return here;
}

std::vector<u8> Machine::Parts::save() {
    forget_caches();
    state::SaveVisitor visitor;
    visit_machine(visitor);
    return visitor.finish();
}

void Machine::Parts::receive(std::string_view port, std::span<const u8> input) {
    for (devices::ConsolePort* console_port : {&board->serial_port, board->hvc_port.get()}) {
        if (console_port->name() == port) return console_port->receive(input);
    }
    for (const auto& input_port : {board->keyboard_port, board->tablet_port}) {
        if (input_port->name() == port) return static_cast<void>(input_port->receive(input));
    }
    for (const auto& weak : ports) {
        const auto nic = weak.lock();
        if (nic && nic->name() == port) return nic->receive(input);
    }
    if (input.size() != sizeof(u64)) return;
    const u64 value = load_le<u64>(input.data());
    if (port == "generation") board->new_generation();
    if (port == "entropy") entropy.reseed(value);
    if (port == "wall-clock") board->set_wall_clock(value);
}

std::vector<bool> Machine::Parts::links() const {
    std::vector<bool> out;
    for (const auto& weak : ports) {
        const auto nic = weak.lock();
        out.push_back(nic && nic->link());
    }
    return out;
}

void Machine::Parts::restore_links(const std::vector<bool>& links) {
    for (std::size_t i = 0; i < ports.size(); ++i) {
        if (const auto nic = ports[i].lock()) nic->restore_link(links[i]);
    }
}

void Machine::Parts::set_replaying(bool replaying) {
    for (const auto& weak : ports) {
        const auto nic = weak.lock();
        if (!nic) continue;
        nic->set_replaying(replaying);
        if (!replaying) nic->look_at_link();
    }
}

void Machine::Parts::wake_loop() {
    std::lock_guard lock(idle_mutex);
    idle_wake = true;
    idle_changed.notify_all();
}

void Machine::Parts::record_disk(DiskConfig& disk) {
    if (!config.deterministic) return;
    disks.push_back(std::make_shared<storage::TrackedDisk>(std::move(disk.backend)));
    disk.backend = disks.back();
}

void Machine::Parts::record_net(NetConfig& net) {
    if (!config.deterministic || !net.port) return;
    auto port = std::make_shared<GatedPort>(std::move(net.port), "net" + std::to_string(ports.size()));
    ports.push_back(port);
    net.port = std::move(port);
}

void Machine::Parts::connect(InputGate* gate) {
    for (devices::ConsolePort* port : {&board->serial_port, board->hvc_port.get()}) port->record(gate);
    for (const auto& port : {board->keyboard_port, board->tablet_port}) port->record(gate);
    for (const auto& weak : ports) {
        if (const auto port = weak.lock()) port->record(gate);
    }
}

void Machine::Parts::require_no_recording(const char* what) const {
    if (recording) {
        throw StateError(std::string("a machine that is recorded cannot be asked to ") + what +
                         ": end_recording() first");
    }
}

bool Machine::Parts::admitted(std::string_view port, u64 value) {
    if (!recording) return true;
    u8 raw[8];
    store_le<u64>(raw, value);
    switch (recording->admit(port, raw)) {
        case InputGate::Admission::now:
            return true;
        case InputGate::Admission::later:
            return false;
        case InputGate::Admission::refused:
            break;
    }
    throw StateError(
        "the machine replays its recording and takes no input: run_to() its end, or "
        "end_recording()");
}

// The caller holds `control`; the machine is paused. It may stop before: at a breakpoint, or for good.
void Machine::Parts::run_to(Position where) {
    stop_position = where;
    launch();
    set_running();
    {
        std::unique_lock lock(state_mutex);
        state_changed.wait(lock, [this] { return !running; });
    }
    settle_stop();
    stop_position.reset();
    if (stop.reason == StopReason::host_error) std::rethrow_exception(stop.error);
}

// ---------------------------------------------------------------- the machine's

namespace {

Recording& recorded(const std::unique_ptr<Recording>& recording) {
    if (!recording) throw StateError("nothing was recorded: record() the machine first");
    return *recording;
}

}  // namespace

Recording& Machine::Parts::recorded_at_rest() {
    settle_stop();
    Recording& found = recorded(recording);
    if (state == MachineState::running) throw StateError("the machine is running: pause() it first");
    return found;
}

void Machine::record(u64 checkpoint_every, u64 keep, u64 journal_bytes) {
    std::lock_guard lock(parts_->control);
    Parts& parts = *parts_;
    parts.settle_stop();
    if (!parts.config.deterministic)
        throw StateError("record() needs a deterministic machine (deterministic=True)");
    if (parts.state != MachineState::paused && parts.state != MachineState::created)
        throw StateError("only a paused or new machine can be recorded");
    parts.require_no_recording("record() once more");
    if (!parts.board->host_devices.empty())
        throw StateError(
            "a machine with devices in Python cannot be recorded: what they answer is not known");
    if (checkpoint_every == 0 || keep < 2)
        throw ConfigError("a recording has at least two checkpoints, some instructions from each other");
    parts.recording = std::make_unique<Recording>(parts, parts.ram, parts.disks,
                                                  Recording::Bounds{checkpoint_every, keep, journal_bytes});
    parts.connect(parts.recording.get());
}

void Machine::end_recording() {
    std::lock_guard lock(parts_->control);
    Parts& parts = *parts_;
    parts.settle_stop();
    if (parts.state == MachineState::running) throw StateError("the machine is running: pause() it first");
    if (!parts.recording) return;
    parts.connect(nullptr);
    parts.recording.reset();
}

std::optional<RecordingInfo> Machine::recording() const {
    require_still();
    std::lock_guard lock(parts_->control);
    if (!parts_->recording) return std::nullopt;
    const Recording& recording = *parts_->recording;
    return RecordingInfo{recording.begin_instructions(),
                         recording.end_instructions(),
                         recording.checkpoints(),
                         recording.inputs(),
                         recording.bytes(),
                         recording.replaying()};
}

std::vector<u8> Machine::save_recording() const {
    require_still();
    std::lock_guard lock(parts_->control);
    if (!parts_->recording || parts_->recording->replaying()) return {};
    return parts_->recording->save();
}

void Machine::load_recording(std::span<const u8> saved) {
    std::lock_guard lock(parts_->control);
    Parts& parts = *parts_;
    if (!parts.config.deterministic || parts.state != MachineState::paused || parts.recording)
        throw StateError(
            "a recording is loaded into a machine that has just got the state that it ends with");
    try {
        parts.recording = Recording::load(parts, parts.ram, parts.disks, saved);
    } catch (const SnapshotError&) {
        throw;
    } catch (const Error& error) {
        // A part that refuses says so in its own words.
        throw SnapshotError(error.what());
    }
    parts.connect(parts.recording.get());
}

void Machine::rewind(u64 instructions) {
    std::lock_guard lock(parts_->control);
    Parts& parts = *parts_;
    Recording& recording = parts.recorded_at_rest();
    if (parts.state == MachineState::closed) throw StateError("the machine is closed");
    if (instructions < recording.begin_instructions() || instructions > recording.end_instructions()) {
        throw StateError("the recording goes from " + std::to_string(recording.begin_instructions()) +
                         " to " + std::to_string(recording.end_instructions()) + " instructions");
    }
    if (instructions > parts.retired()) return;
    std::size_t index = recording.checkpoints() - 1;
    while (index > 0 && recording.checkpoint_instructions(index) >= instructions) --index;
    recording.go_back(index);
}

void Machine::run_to_end() {
    std::lock_guard lock(parts_->control);
    Parts& parts = *parts_;
    Recording& recording = parts.recorded_at_rest();
    if (!recording.replaying()) return;
    if (parts.position() < recording.end()) parts.run_to(recording.end());
    if (recording.replaying() && parts.position() == recording.end()) recording.finish_replay();
}

bool Machine::run_back() {
    std::lock_guard lock(parts_->control);
    Parts& parts = *parts_;
    Recording& recording = parts.recorded_at_rest();
    if (parts.state == MachineState::closed) throw StateError("the machine is closed");
    const Position now = parts.position();
    std::size_t index = recording.checkpoints();
    Position until = now;
    const auto without_breakpoints = [&](std::size_t from, Position to) {
        const std::vector<u64> list = std::exchange(parts.breakpoints, {});
        for (auto& slot : parts.slots) slot->hart->set_breakpoints({});
        recording.go_back(from);
        if (parts.position() < to) parts.run_to(to);
        parts.breakpoints = list;
        for (auto& slot : parts.slots) slot->hart->set_breakpoints(list);
    };
    while (index-- > 0) {
        if (recording.checkpoint(index) >= until) continue;
        recording.go_back(index);
        parts.passed_breakpoint.reset();
        parts.passes_breakpoints = true;
        try {
            parts.run_to(until);
        } catch (...) {
            parts.passes_breakpoints = false;
            throw;
        }
        parts.passes_breakpoints = false;
        if (const std::optional<Position> last = parts.passed_breakpoint) {
            without_breakpoints(index, *last);
            return true;
        }
        until = recording.checkpoint(index);
    }
    index = recording.checkpoints() - 1;
    while (index > 0 && recording.checkpoint(index) > now) --index;
    without_breakpoints(index, now);
    return false;
}

}  // namespace wirt::machine
