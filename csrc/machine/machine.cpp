#include "machine/machine.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "machine/parts.h"

namespace wirt::machine {

Machine::Machine(MachineConfig config) : parts_(std::make_unique<Parts>(std::move(config))) {}

Machine::~Machine() {
    close();
}

// ---------------------------------------------------------------- life cycle

void Machine::start() {
    std::lock_guard lock(parts_->control);
    parts_->require_free();
    if (parts_->state == MachineState::paused) throw StateError("the machine is paused: resume() it");
    if (parts_->state != MachineState::created)
        throw StateError("the machine was started before; build a new one to start again");
    parts_->launch();
    parts_->set_running();
}

void Machine::pause() {
    std::lock_guard lock(parts_->control);
    parts_->settle_stop();
    if (parts_->state != MachineState::running) return;
    parts_->halt();
    // A guest that ended itself meanwhile is stopped, not paused.
    parts_->finish_stop();
}

void Machine::resume() {
    std::lock_guard lock(parts_->control);
    parts_->settle_stop();
    parts_->require_free();
    if (parts_->state == MachineState::running) return;
    if (parts_->state == MachineState::created) throw StateError("the machine was never run: start() it");
    if (parts_->state != MachineState::paused) throw StateError("only a paused machine can be resumed");
    parts_->stop_instructions = ~u64{0};
    parts_->launch();
    parts_->set_running();
}

void Machine::Parts::require_free() {
    if (held)
        throw StateError("the machine is being handed over to another host: vm.migration says how far it is");
}

bool Machine::hold() {
    std::lock_guard lock(parts_->control);
    parts_->require_free();
    parts_->settle_stop();
    const bool ran = parts_->state == MachineState::running;
    if (ran) {
        parts_->halt();
        parts_->finish_stop();
    }
    if (parts_->state != MachineState::paused && parts_->state != MachineState::created)
        throw StateError("the machine has ended: there is nothing to hand over");
    parts_->held = true;
    return ran;
}

void Machine::release() {
    std::lock_guard lock(parts_->control);
    parts_->held = false;
}

void Machine::set_brake(bool on) {
    parts_->brake = on;
    if (on) {
        for (auto& slot : parts_->slots) slot->hart->request_exit();
        return;
    }
    {
        std::lock_guard lock(parts_->idle_mutex);
        parts_->idle_changed.notify_all();
    }
    for (auto& slot : parts_->slots) {
        std::lock_guard lock(slot->mutex);
        slot->changed.notify_all();
    }
}

void Machine::close() {
    std::lock_guard lock(parts_->control);
    if (parts_->state == MachineState::closed) return;
    if (parts_->threads_up) {
        parts_->halt();
        parts_->closing = true;
        {
            std::lock_guard idle(parts_->idle_mutex);
            parts_->idle_changed.notify_all();
        }
        for (auto& slot : parts_->slots) {
            std::lock_guard slot_lock(slot->mutex);
            slot->changed.notify_all();
        }
        for (auto& slot : parts_->slots) {
            if (slot->thread.joinable()) slot->thread.join();
        }
        if (parts_->thread.joinable()) parts_->thread.join();
    }
    parts_->board->serial_port.close();
    parts_->board->hvc_port->close();
    {
        std::lock_guard state(parts_->state_mutex);
        parts_->state = MachineState::closed;
    }
    parts_->state_changed.notify_all();
}

bool Machine::wait(double timeout_s) {
    {
        std::unique_lock lock(parts_->state_mutex);
        const auto ended = [this] { return parts_->state != MachineState::running || !parts_->running; };
        if (timeout_s < 0) {
            parts_->state_changed.wait(lock, ended);
        } else {
            const auto limit = std::chrono::duration<double>(std::min(timeout_s, 1e9));
            if (!parts_->state_changed.wait_for(lock, limit, ended)) return false;
        }
    }
    std::lock_guard lock(parts_->control);
    parts_->settle_stop();
    return true;
}

MachineState Machine::state() const {
    std::lock_guard lock(parts_->state_mutex);
    if (parts_->state == MachineState::running && !parts_->running) {
        return parts_->stop_is_final ? MachineState::stopped : MachineState::paused;
    }
    return parts_->state;
}

StopInfo Machine::stop_info() const {
    std::lock_guard lock(parts_->state_mutex);
    return parts_->stop;
}

void Machine::step(unsigned index, u64 n) {
    std::lock_guard lock(parts_->control);
    parts_->settle_stop();
    parts_->require_free();
    if (parts_->state != MachineState::paused && parts_->state != MachineState::created) {
        throw StateError("only a paused machine can be stepped");
    }
    if (index >= parts_->slots.size()) throw ConfigError("there is no hart " + std::to_string(index));
    parts_->require_no_recording("step one hart of (run_for() runs a number of instructions)");
    parts_->step_hart(index, n);
}

void Machine::run_for(u64 instructions) {
    if (!parts_->config.deterministic)
        throw StateError("run_for() needs a deterministic machine (deterministic=True)");
    {
        std::lock_guard lock(parts_->control);
        parts_->settle_stop();
        parts_->require_free();
        if (parts_->state != MachineState::paused && parts_->state != MachineState::created) {
            throw StateError("only a paused or new machine can be run for a number of instructions");
        }
        parts_->stop_instructions = parts_->retired() + instructions;
        // A trap takes a cycle and retires nothing. Who retires something for each trap needs two cycles for
        // an instruction, on whichever hart: a guest that comes to this bound has trapped more often than
        // that.
        const u64 cycles = 2 * parts_->slots.size();
        const u64 most = ~u64{0} / cycles - Parts::slice_ns - parts_->position().cycles;
        parts_->stop_cycles =
            parts_->position().cycles + cycles * (std::min(instructions, most) + Parts::slice_ns);
        parts_->launch();
        parts_->set_running();
    }
    wait(-1);
    std::lock_guard lock(parts_->control);
    parts_->stop_instructions = parts_->stop_cycles = ~u64{0};
}

void Machine::add_breakpoint(u64 virtual_address) {
    require_still();
    auto& list = parts_->breakpoints;
    if (std::find(list.begin(), list.end(), virtual_address) == list.end()) list.push_back(virtual_address);
    for (auto& slot : parts_->slots) slot->hart->set_breakpoints(list);
}

void Machine::remove_breakpoint(u64 virtual_address) {
    require_still();
    std::erase(parts_->breakpoints, virtual_address);
    for (auto& slot : parts_->slots) slot->hart->set_breakpoints(parts_->breakpoints);
}

std::vector<u64> Machine::breakpoints() const {
    return parts_->breakpoints;
}

// ---------------------------------------------------------------- parts

const MachineConfig& Machine::config() const {
    return parts_->config;
}
unsigned Machine::hart_count() const {
    return parts_->hart_count();
}
memory::GuestRam& Machine::ram() {
    return parts_->ram;
}
memory::AddressSpace& Machine::bus() {
    return parts_->bus;
}
devices::ConsolePort& Machine::serial() {
    return parts_->board->serial_port;
}
devices::ConsolePort& Machine::hvc() {
    return *parts_->board->hvc_port;
}
devices::ConsolePort& Machine::console() {
    return *parts_->console;
}
devices::Display* Machine::display() {
    return parts_->board->display;
}
devices::InputPort* Machine::keyboard() {
    return parts_->config.input ? parts_->board->keyboard_port.get() : nullptr;
}
devices::InputPort* Machine::tablet() {
    return parts_->config.input ? parts_->board->tablet_port.get() : nullptr;
}
std::vector<u8> Machine::dtb() const {
    return parts_->dtb;
}

riscv::Hart& Machine::hart(unsigned index) {
    if (index >= parts_->slots.size()) {
        throw ConfigError("there is no hart " + std::to_string(index) + "; the machine has " +
                          std::to_string(parts_->slots.size()));
    }
    return parts_->hart(index);
}

void Machine::require_still() const {
    if (state() == MachineState::running) throw StateError("the machine is running: pause() it first");
    // A guest that stopped itself is still being brought to rest.
    std::lock_guard lock(parts_->control);
    parts_->settle_stop();
}

void Machine::map_device(u64 base, u64 size, std::unique_ptr<memory::MmioDevice> device) {
    if (state() != MachineState::created)
        throw StateError("devices are mapped before the machine is started");
    if (size == 0 || base + size < base)
        throw ConfigError("a device needs a range of at least one byte that does not wrap");
    parts_->bus.map(base, size, *device);
    parts_->board->host_devices.push_back(std::move(device));
}

devices::hardware::Iommu* Machine::iommu() {
    return parts_->board->iommu.get();
}

InterruptLine Machine::interrupt_line(unsigned source) {
    if (source < map::host_device_irq || source >= devices::hardware::Plic::source_count) {
        throw ConfigError("interrupt sources for devices of your own are 40 to 95");
    }
    return parts_->board->interrupts->line(source);
}

void Machine::new_generation() {
    if (parts_->admitted("generation", 0)) parts_->board->new_generation();
}
void Machine::reseed(u64 seed) {
    if (parts_->admitted("entropy", seed)) parts_->entropy.reseed(seed);
}
void Machine::set_wall_clock(u64 ns_since_1970) {
    if (parts_->admitted("wall-clock", ns_since_1970)) parts_->board->set_wall_clock(ns_since_1970);
}

// ---------------------------------------------------------------- observation

std::vector<HartStats> Machine::hart_stats() const {
    return parts_->hart_stats();
}

std::vector<memory::ExitCount> Machine::exits() const {
    return parts_->bus.exits();
}
std::vector<std::pair<std::string, u64>> Machine::sbi_calls() const {
    return parts_->sbi.counts();
}
std::vector<DeviceInfo> Machine::devices() const {
    return parts_->board->devices(parts_->bus);
}
std::vector<DeviceInfo> Machine::describe() const {
    return parts_->board->devices(parts_->bus, true);
}
u64 Machine::instructions() const {
    return parts_->retired();
}
u64 Machine::time_ns() const {
    return parts_->clock.now_ns();
}

std::vector<Mark> Machine::take_marks() {
    std::lock_guard lock(parts_->mark_mutex);
    return std::exchange(parts_->marks, {});
}

}  // namespace wirt::machine
