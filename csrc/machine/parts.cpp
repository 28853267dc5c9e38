#include "machine/parts.h"

#include <algorithm>
#include <chrono>

#include "base/bits.h"
#include "base/error.h"
#include "firmware/fdt.h"
#include "firmware/loaders.h"

namespace wirt::machine {

using firmware::HartState;
using riscv::Hart;
using riscv::RunResult;

namespace {

// Host-clock machines look at the time this often (cycles): a timer interrupt is late by no more than this.
constexpr u64 poll_cycles = 20'000;
// The deterministic machine's calendar starts here: 2026-01-01.
constexpr u64 deterministic_epoch_ns = u64{1'767'225'600} * 1'000'000'000;

const MachineConfig& checked(const MachineConfig& config) {
    if (config.memory < 16 * MiB || config.memory > 64 * GiB || (config.memory & page_mask) != 0) {
        throw ConfigError("memory must be 16 MiB to 64 GiB in steps of 4 KiB, not " +
                          std::to_string(config.memory) + " bytes");
    }
    if (config.harts < 1 || config.harts > 8) {
        throw ConfigError("a machine has 1 to 8 harts, not " + std::to_string(config.harts));
    }
    // What Linux takes is 1024 or 2048 bytes by architecture; the device tree allows no zero byte.
    if (config.cmdline.size() > 4095 || config.cmdline.find('\0') != std::string::npos) {
        throw ConfigError("the command line must have at most 4095 bytes and no zero byte");
    }
    return config;
}

memory::GuestRam make_ram(const MachineConfig& config) {
    if (config.origin && config.origin->memory) return {map::dram, config.memory, *config.origin->memory};
    return {map::dram, config.memory};
}

u64 host_ns() {
    return static_cast<u64>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                std::chrono::steady_clock::now().time_since_epoch())
                                .count());
}

// The console that the last console= of a Linux command line names; the UART where there is none.
bool wants_hvc(const std::string& cmdline) {
    const std::size_t at = cmdline.rfind("console=");
    return at != std::string::npos && cmdline.compare(at + 8, 3, "hvc") == 0;
}

}  // namespace

Machine::Parts::Parts(MachineConfig given)
    : config(std::move(given)),
      clock(config.deterministic ? Clock::Source::instructions : Clock::Source::host),
      ram(make_ram(checked(config))),
      bus(ram) {
    if (config.deterministic) {
        clock.set_wall_base(deterministic_epoch_ns);
    } else {
        clock.set_wall_base(static_cast<u64>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                                 std::chrono::system_clock::now().time_since_epoch())
                                                 .count()));
    }
    for (unsigned i = 0; i < config.harts; ++i) {
        slots.push_back(std::make_unique<HartSlot>());
        slots.back()->hart = std::make_unique<Hart>(i, bus, *this, config.isa);
    }
    slice.start_cycles.resize(slots.size());
    if (config.deterministic) {
        entropy.seed(config.seed);
        for (DiskConfig& disk : config.disks) record_disk(disk);
        for (NetConfig& net : config.nets) record_net(net);
    }
    board = std::make_unique<Board>(
        config, ram, bus, clock, entropy, *this,
        [this](std::string name) -> Executor& { return new_executor(std::move(name)); },
        [this](devices::hardware::TestDevice::Outcome outcome) {
            using Kind = devices::hardware::TestDevice::Outcome::Kind;
            switch (outcome.kind) {
                case Kind::pass:
                    system_reset(firmware::ResetKind::shutdown, 0);
                    break;
                case Kind::fail:
                    system_reset(firmware::ResetKind::failure, outcome.code);
                    break;
                case Kind::reset:
                    system_reset(firmware::ResetKind::reboot, 0);
                    break;
            }
        });
    for (auto& slot : slots) board->interrupts->connect(*slot->hart);
    console =
        wants_hvc(config.cmdline) && config.virtio_console ? board->hvc_port.get() : &board->serial_port;
    serve_sbi = config.firmware.empty();
    ram.on_code_write([this] {
        for (auto& slot : slots) slot->hart->note_code_write();
    });
    bus.on_host_pages_moved([this] {
        for (auto& slot : slots) slot->hart->note_host_pages_moved();
    });
    board->aclint->on_change([this](unsigned index) { slots[index]->hart->request_settle(); });
    ram.on_stores_watched([this] { await_forgotten_stores(); });
    board->deadlines.on_nearer([this] { wake(*slots[deadline_keeper()]->hart); });
    if (!config.origin) {
        load();
        return;
    }
    dtb = std::move(config.origin->dtb);
    origin_state = std::move(config.origin->state);
    config.origin->memory.reset();
    if (origin_state) load_state(*origin_state);
}

Machine::Parts::~Parts() {
    if (recording) connect(nullptr);
    recording.reset();
    // Devices post to executors until they are gone; tasks refer to devices.
    drain_executors();
    board.reset();
}

Executor& Machine::Parts::new_executor(std::string name) {
    std::unique_ptr<Executor> executor;
    if (config.deterministic) {
        executor = std::make_unique<DeferredExecutor>([this] {
            std::lock_guard lock(idle_mutex);
            idle_wake = true;
            idle_changed.notify_all();
        });
    } else {
        executor = std::make_unique<ThreadExecutor>();
    }
    std::lock_guard lock(executors_mutex);
    executors.push_back({std::move(name), std::move(executor)});
    return *executors.back().executor;
}

void Machine::Parts::drain_executors() {
    std::lock_guard lock(executors_mutex);
    for (auto& [name, executor] : executors) executor->drain();
}

void Machine::Parts::retire_executors(const std::string& device, const std::function<void()>& destroy) {
    std::lock_guard lock(executors_mutex);
    const auto first = std::stable_partition(executors.begin(), executors.end(), [&](const auto& e) {
        return e.name != device && !e.name.starts_with(device + ".");
    });
    for (auto e = first; e != executors.end(); ++e) e->executor->drain();
    destroy();
    executors.erase(first, executors.end());
}

// ---------------------------------------------------------------- images

void Machine::Parts::load() {
    using namespace firmware;
    if (config.kernel.empty() && config.firmware.empty()) return;
    std::optional<LoadedImage> firmware_image;
    std::optional<LoadedImage> kernel_image;
    if (!config.firmware.empty()) {
        firmware_image =
            load_kernel(ram, config.firmware.bytes, config.firmware.name, map::dram, RawBinary::allow);
    }
    if (!config.kernel.empty()) {
        kernel_image = load_kernel(ram, config.kernel.bytes, config.kernel.name,
                                   firmware_image ? map::kernel : map::dram,
                                   firmware_image ? RawBinary::allow : RawBinary::refuse);
    }
    if (firmware_image && kernel_image)
        check_apart(*firmware_image, config.firmware.name, *kernel_image, config.kernel.name);
    const LoadedImage& last = kernel_image ? *kernel_image : *firmware_image;

    // A tree's size does not depend on the address that it states for the initrd: built twice.
    const bool own_tree = !config.dtb.empty();
    if (own_tree) config.dtb.bytes.resize(check_dtb(config.dtb.bytes, config.dtb.name));
    const u64 initrd_size = config.initrd.bytes.size();
    const auto tree = [&](u64 initrd) {
        return own_tree ? with_chosen(config.dtb.bytes, config.cmdline, initrd, initrd + initrd_size)
                        : board->device_tree(config, initrd, initrd_size);
    };
    dtb = tree(0);
    const u64 dtb_address = place_dtb(ram, last, dtb.size());
    // The page below the tree is for fw_dynamic's information.
    const u64 info_address = dtb_address - page_size;
    if (info_address < last.end)
        throw ImageError(config.kernel.name + ": no room is left above it for the device tree");
    u64 initrd_address = 0;
    if (!config.initrd.empty()) {
        initrd_address = place_initrd(ram, last, info_address, initrd_size);
        write_image(ram, initrd_address, config.initrd.bytes);
        dtb = tree(initrd_address);
    }
    write_image(ram, dtb_address, dtb);

    if (serve_sbi) {
        begin_hart(0, kernel_image->entry, dtb_address);
    } else {
        // What fw_dynamic finds at a2: where the next stage is, and in which mode it runs (OpenSBI,
        // fw_dynamic.h).
        const u64 info[6] = {0x4942534f /* "OSBI" */, 2, kernel_image ? kernel_image->entry : 0,
                             1 /* S-mode */,          0, 0};
        write_image(ram, info_address, {reinterpret_cast<const u8*>(info), sizeof info});
        for (unsigned i = 0; i < slots.size(); ++i) {
            Hart& hart = *slots[i]->hart;
            hart.reset(firmware_image->entry, riscv::Privilege::machine);
            hart.set_x(10, i);
            hart.set_x(11, dtb_address);
            hart.set_x(12, info_address);
            slots[i]->state = HartState::started;
        }
    }
    // What was loaded is in guest memory now. (Assigning {} would keep the storage.)
    for (Image* image : {&config.kernel, &config.initrd, &config.firmware, &config.dtb}) {
        std::vector<u8>().swap(image->bytes);
    }
}

void Machine::Parts::begin_hart(unsigned index, u64 address, u64 opaque) {
    firmware::Sbi::prepare(*slots[index]->hart, address, opaque);
    slots[index]->waiting = false;
    slots[index]->steal_time.stop();
    slots[index]->state = HartState::started;
}

// ---------------------------------------------------------------- what the harts ask

u64 Machine::Parts::time(const Hart& hart) {
    if (!config.deterministic) return clock.ticks();
    const u64 ran = slice.open ? hart.cycles() - slice.start_cycles[hart.id()] : 0;
    return clock.ticks_at(slice.start_ns + ran);
}

u64 Machine::Parts::cycles_until(const Hart& hart, u64 deadline_ticks) {
    poll_deadlines(hart.id());
    if (!config.deterministic) {
        report_steal_time(*slots[hart.id()]);
        return poll_cycles;
    }
    const u64 deadline = std::min(deadline_ticks, next_deadline_ticks(*slots[hart.id()], hart.id()));
    const u64 now = time(hart);
    if (deadline <= now || deadline - now > slice_ns / Clock::ns_per_tick) return slice_ns;
    // To the first instruction at which `now` reaches the deadline.
    const u64 now_ns = slice.start_ns + hart.cycles() - slice.start_cycles[hart.id()];
    return (deadline - now) * Clock::ns_per_tick - now_ns % Clock::ns_per_tick;
}

u64 Machine::Parts::next_deadline_ticks(const HartSlot& slot, unsigned index) const {
    u64 deadline = slot.hart->timer_deadline();
    const u64 now = clock.ticks();
    const u64 machine_timer = board->aclint->mtimecmp(index);
    if (machine_timer > now) deadline = std::min(deadline, machine_timer);
    if (index == deadline_keeper()) {
        const u64 due = board->deadlines.nearest_ns();
        const u64 now_ns = clock.now_ns();
        if (due != Deadlines::never) {
            deadline = std::min(deadline, now + (due > now_ns ? (due - now_ns) / Clock::ns_per_tick + 1 : 0));
        }
    }
    return deadline;
}

unsigned Machine::Parts::deadline_keeper() const {
    unsigned index = 0;
    while (index + 1 < slots.size() && slots[index]->state.load() != HartState::started) ++index;
    return index;
}

void Machine::Parts::poll_deadlines(unsigned index) {
    Hart& hart = *slots[index]->hart;
    if (!serve_sbi) hart.set_interrupt(riscv::irq_mti, time(hart) >= board->aclint->mtimecmp(index));
    if (board->deadlines.nearest_ns() != Deadlines::never) board->deadlines.poll(clock.now_ns());
}

// Of a deterministic machine nothing is stolen: its time is the count of its instructions.
void Machine::Parts::report_steal_time(HartSlot& slot) {
    constexpr unsigned polls_between = 128;  // some milliseconds: the host is asked by a system call
    if (!slot.steal_time.reporting() || ++slot.polls % polls_between != 0) return;
    slot.steal_time.report(*slot.hart, slot.run_delay.since_last());
}

void Machine::Parts::code_page_marked(const Hart& by, u64 page) {
    for (auto& slot : slots) {
        if (slot->hart.get() != &by) slot->hart->note_code_page(page);
    }
}

// A store goes past the mark of a page as code as long as its hart has the page in its store TLB. It is
// noticed when the entry is dropped, and a fence after the store must not come before that.
void Machine::Parts::await_code_marks(Hart& self) {
    // In turns a hart takes note of everything before it runs.
    if (config.deterministic) return;
    const auto open = [&] {
        return ram.marking() || std::any_of(slots.begin(), slots.end(), [&](const auto& slot) {
                   return slot->hart.get() != &self && !slot->hart->code_marks_taken() &&
                          slot->executing.load(std::memory_order_seq_cst);
               });
    };
    while (open()) {
        // Others may be waiting for this hart in the same way.
        self.take_code_marks();
        std::this_thread::yield();
    }
}

void Machine::Parts::relax(const Hart&) {
    // With fewer host cores than harts, the holder of a guest's lock may be waiting for this very core.
    if (!config.deterministic && slots.size() > 1) std::this_thread::yield();
}

u16 Machine::Parts::draw_entropy() {
    u8 bytes[2];
    entropy.fill(bytes);
    return load_le<u16>(bytes);
}

void Machine::Parts::wake(const Hart& hart) {
    if (config.deterministic) {
        std::lock_guard lock(idle_mutex);
        idle_wake = true;
        idle_changed.notify_all();
        return;
    }
    HartSlot& slot = *slots[hart.id()];
    if (!slot.parked.load(std::memory_order_seq_cst)) return;
    std::lock_guard lock(slot.mutex);
    slot.changed.notify_all();
}

void Machine::Parts::set_level(unsigned source, bool level) {
    if (source >= guest_lines) {
        const unsigned line = source - guest_lines;
        slots[line / 64]->hart->set_guest_interrupt(line % 64, level);
        return;
    }
    slots[source / 32]->hart->set_interrupt(static_cast<riscv::Interrupt>(source % 32), level);
}

// ---------------------------------------------------------------- what the SBI asks

HartState Machine::Parts::hart_state(unsigned index) const {
    const HartSlot& slot = *slots[index];
    const HartState state = slot.state.load();
    // Its thread has not left the last block yet.
    const bool leaving = state == HartState::stopped && !config.deterministic && slot.executing.load();
    return leaving ? HartState::stop_pending : state;
}

bool Machine::Parts::start_hart(unsigned index, u64 address, u64 opaque) {
    HartSlot& slot = *slots[index];
    std::unique_lock lock(slot.mutex);
    if (slot.state.load() != HartState::stopped) return false;
    // Its thread may still be on its way to where it waits: from having stopped, or since the machine began.
    if (!config.deterministic) slot.changed.wait(lock, [&] { return !slot.executing.load(); });
    begin_hart(index, address, opaque);
    slot.changed.notify_all();
    return true;
}

void Machine::Parts::stop_hart(Hart& self) {
    HartSlot& slot = *slots[self.id()];
    slot.state = HartState::stopped;
    slot.steal_time.stop();
    self.request_exit();
    // Another one keeps the devices' deadlines from here on.
    wake(*slots[deadline_keeper()]->hart);
    const bool any = std::any_of(slots.begin(), slots.end(),
                                 [](const auto& s) { return s->state.load() != HartState::stopped; });
    if (!any) stop_with({StopReason::halted, 0, self.id(), nullptr}, true);
}

void Machine::Parts::await_fences(Hart& self, unsigned index) {
    HartSlot& target = *slots[index];
    if (target.hart.get() == &self) {
        self.service_fences();
        return;
    }
    // A hart that is not executing carries out its requests before its next instruction.
    if (config.deterministic) return;
    while (!target.hart->fences_done() && target.executing.load(std::memory_order_seq_cst)) {
        // The target may be waiting for this hart in the same way.
        self.service_fences();
        self.take_code_marks();
        std::this_thread::yield();
    }
}

void Machine::Parts::system_reset(firmware::ResetKind kind, u32 reason) {
    const StopReason why = kind == firmware::ResetKind::shutdown ? StopReason::poweroff
                           : kind == firmware::ResetKind::reboot ? StopReason::reboot
                                                                 : StopReason::failure;
    stop_with({why, reason, 0, nullptr}, true);
}

void Machine::Parts::mark(bool begin, const std::string& name, u64 operations, u64 bytes) {
    if (recording && recording->replaying()) return;
    std::lock_guard lock(mark_mutex);
    // A guest that only ever begins must not fill the host's memory.
    constexpr std::size_t most_open = 16, most_kept = 4096;
    if (begin) {
        if (open_marks.size() >= most_open) open_marks.erase(open_marks.begin());
        open_marks.push_back(
            {name, retired(), 0, sbi.total_calls(), bus.exits(), board->devices(bus), hart_stats()});
        open_marks.back().host_ns = config.deterministic ? clock.now_ns() : host_ns();
        return;
    }
    const u64 now = config.deterministic ? clock.now_ns() : host_ns();
    const auto open = std::find_if(open_marks.rbegin(), open_marks.rend(),
                                   [&](const OpenMark& m) { return m.name == name; });
    if (open == open_marks.rend() || marks.size() >= most_kept) return;
    Mark mark;
    mark.name = name;
    mark.operations = operations;
    mark.bytes = bytes;
    mark.instructions = retired() - open->instructions;
    mark.host_ns = now - open->host_ns;
    // The call that ends the section is not part of it.
    mark.sbi_calls = sbi.total_calls() - open->sbi_calls - 1;
    for (memory::ExitCount count : bus.exits()) {
        for (const memory::ExitCount& before : open->exits) {
            if (before.device == count.device && before.cause == count.cause) {
                count.reads -= before.reads;
                count.writes -= before.writes;
            }
        }
        if (count.reads + count.writes != 0) mark.exits.push_back(count);
    }
    for (DeviceInfo device : board->devices(bus)) {
        for (const DeviceInfo& before : open->devices) {
            if (before.name != device.name) continue;
            device.counters = device.counters - before.counters;
        }
        mark.devices.push_back(device);
    }
    mark.harts = hart_stats();
    for (std::size_t i = 0; i < mark.harts.size(); ++i) subtract(mark.harts[i], open->harts[i]);
    marks.push_back(std::move(mark));
    open_marks.erase(std::next(open).base());
}

u64 Machine::Parts::retired() const {
    u64 total = 0;
    for (const auto& slot : slots) total += slot->hart->instructions();
    return total;
}

}  // namespace wirt::machine
