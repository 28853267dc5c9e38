// The inside of a Machine: parts, hart threads, and the two ways of running them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/executor.h"
#include "base/run_delay.h"
#include "firmware/sbi.h"
#include "machine/board.h"
#include "machine/gated_port.h"
#include "machine/machine.h"
#include "machine/recording.h"

namespace wirt::machine {

struct HartSlot {
    std::unique_ptr<riscv::Hart> hart;
    std::thread thread;
    std::mutex mutex;
    std::condition_variable changed;
    std::atomic<bool> parked{false};     // waits in `changed`: whoever posts an event notifies
    std::atomic<bool> executing{false};  // inside Hart::run
    std::atomic<firmware::HartState> state{firmware::HartState::stopped};
    bool waiting = false;  // deterministic mode: in WFI
    PollWindow window;     // of its own thread
    firmware::StealTime steal_time;
    RunDelay run_delay;  // of its own thread
    unsigned polls = 0;
};

struct Machine::Parts final : riscv::HartEnvironment, firmware::SbiPlatform, InterruptSink, Recordable {
    explicit Parts(MachineConfig config);
    ~Parts() override;

    // --- riscv::HartEnvironment ---
    u64 time(const riscv::Hart& hart) override;
    u64 cycles_until(const riscv::Hart& hart, u64 deadline_ticks) override;
    bool serves_sbi() const override { return serve_sbi; }
    void supervisor_call(riscv::Hart& hart) override { sbi.call(hart); }
    void code_page_marked(const riscv::Hart& by, u64 page) override;
    void await_code_marks(riscv::Hart& self) override;
    void relax(const riscv::Hart& hart) override;
    void wake(const riscv::Hart& hart) override;
    u16 draw_entropy() override;
    bool deterministic() const override { return config.deterministic; }

    // --- firmware::SbiPlatform ---
    unsigned hart_count() const override { return static_cast<unsigned>(slots.size()); }
    riscv::Hart& hart(unsigned index) override { return *slots[index]->hart; }
    firmware::HartState hart_state(unsigned index) const override;
    bool start_hart(unsigned index, u64 address, u64 opaque) override;
    void stop_hart(riscv::Hart& self) override;
    void await_fences(riscv::Hart& self, unsigned index) override;
    void system_reset(firmware::ResetKind kind, u32 reason) override;
    firmware::StealTime& steal_time(unsigned index) override { return slots[index]->steal_time; }
    devices::ConsolePort& debug_console() override { return *console; }
    void mark(bool begin, const std::string& name, u64 operations, u64 bytes) override;

    // --- InterruptSink: the harts' inputs, numbered by hart_line() ---
    void set_level(unsigned source, bool level) override;

    // --- Recordable (time_travel.cpp) ---
    Position position() const override;
    u64 retired() const override;
    std::vector<HartStats> hart_stats() const;
    std::vector<u8> save() override;
    void load(std::span<const u8> state) override { load_state(state); }
    // Puts the harts' caches into the state that they have in a machine that was just loaded. Of a guest that
    // changes page tables without a fence, or clears accessed bits as Linux does, they decide what happens.
    void forget_caches() override;
    void receive(std::string_view port, std::span<const u8> input) override;
    std::vector<bool> links() const override;
    void restore_links(const std::vector<bool>& links) override;
    void set_replaying(bool replaying) override;
    void wake_loop() override;

    // Loads the images and puts the harts at their first instruction.
    void load();
    void begin_hart(unsigned index, u64 address, u64 opaque);

    // --- running ---
    void set_running();
    void halt();  // brings all to rest; the caller holds `control`
    void stop_with(StopInfo info, bool final);
    // After stop_with: completes the transition once the harts have come to rest. The caller holds `control`.
    void settle_stop();
    // Of a machine that stands still; StateError otherwise, or when nothing was recorded.
    Recording& recorded_at_rest();
    void finish_stop();
    void launch();  // the host threads, once
    void step_hart(unsigned index, u64 n);
    void visit_state(StateVisitor& v);  // with the memory
    void visit_machine(StateVisitor& v);
    void load_state(std::span<const u8> saved);
    void await_forgotten_stores();
    void hart_main(unsigned index);
    void park(HartSlot& slot);
    void deterministic_main();
    // One turn: runs harts until the slice ends, a stop is asked for, or the loop is where it is to stop:
    // true.
    bool deterministic_turn(u64 stop_at);
    // Whether the loop is to stop at the position where it stands.
    bool arrived(u64 stop_at) const;
    // What run_for() asked for has not come, and is not likely to.
    bool gave_up() const { return retired() < stop_instructions && position().cycles >= stop_cycles; }
    // The cycles that harts may run before the next position at which something is due.
    u64 cycles_left() const;
    void poll_deadlines(unsigned hart);
    void report_steal_time(HartSlot& slot);
    // The hart whose wait ends with the devices' deadlines: the first that is started.
    unsigned deadline_keeper() const;
    u64 next_deadline_ticks(const HartSlot& slot, unsigned index) const;
    Executor& new_executor(std::string name);
    void drain_executors();
    // Waits for what the executors of a device have left to do, and ends them once `destroy` has destroyed
    // it.
    void retire_executors(const std::string& device, const std::function<void()>& destroy);
    // Deterministic machines: what stands between devices and the host, so that a recording can come there.
    void record_disk(DiskConfig& disk);
    void record_net(NetConfig& net);
    // All input asks `gate` first; null: it comes in as it arrives.
    void connect(InputGate* gate);
    // StateError: what is asked for cannot be recorded.
    void require_no_recording(const char* what) const;
    // Whether input that is given to the machine as a whole is to be taken in now.
    bool admitted(std::string_view port, u64 value);
    void run_to(Position where);
    void require_open();  // with `control` held: StateError once the machine has ended
    void require_free();  // likewise, while it is handed over to another host
    void await_brake(HartSlot& slot);
    void await_brake_in_turns();

    MachineConfig config;
    Clock clock;
    EntropySource entropy;
    memory::GuestRam ram;
    memory::AddressSpace bus;
    struct NamedExecutor {
        std::string name;  // the device's, or "device.part"
        std::unique_ptr<Executor> executor;
    };
    std::mutex
        executors_mutex;  // the deterministic machine's thread drains them all, while others come and go
    std::vector<NamedExecutor> executors;
    std::vector<std::unique_ptr<HartSlot>> slots;
    std::unique_ptr<Board> board;
    firmware::Sbi sbi{*this};
    bool serve_sbi = true;
    devices::ConsolePort* console = nullptr;
    std::vector<u8> dtb;
    std::shared_ptr<const std::vector<u8>> origin_state;  // what reset() goes back to

    std::mutex control;  // one life-cycle call at a time
    bool held = false;   // by who hands the machine over
    std::atomic<bool> brake{false};
    mutable std::mutex state_mutex;
    std::condition_variable state_changed;
    MachineState state = MachineState::created;
    StopInfo stop;
    std::atomic<bool> running{false};
    std::atomic<bool> stepping{
        false};  // the caller of step() runs a hart: whatever wakes its own thread, it waits
    std::atomic<bool> closing{false};
    std::vector<u64> breakpoints;
    bool stop_is_final = false;
    bool threads_up = false;
    u64 stop_instructions = ~u64{0};  // deterministic mode: pause when so many were retired
    u64 stop_cycles = ~u64{0};        // or, at the latest, when all harts together had so many

    // Deterministic mode. A slice is the stretch of guest time in which each hart has one turn.
    static constexpr u64 slice_ns = 10'000;  // and as many instructions: a hart retires one a nanosecond
    std::thread thread;
    std::mutex idle_mutex;
    std::condition_variable idle_changed;
    bool idle_wake = false;
    struct Slice {
        u64 start_ns = 0;
        unsigned next = 0;  // whose turn it is
        bool open = false;
        bool fresh = true;  // time has moved here, and no slice was opened since
        u64 ran_ns = 0;     // the longest any hart of this slice ran
        std::vector<u64> start_cycles;
    } slice;
    std::atomic<bool> leave{false};         // the loop is to stop at its next position
    std::optional<Position> stop_position;  // or at this one
    bool resumed = false;  // the next hart to run may stand where a breakpoint has stopped it

    bool passes_breakpoints = false;  // they stop nobody, and the last one is noted
    std::optional<Position> passed_breakpoint;

    std::vector<std::shared_ptr<storage::TrackedDisk>> disks;
    std::vector<std::weak_ptr<GatedPort>> ports;
    std::unique_ptr<Recording> recording;

    std::mutex mark_mutex;
    struct OpenMark {
        std::string name;
        u64 instructions, host_ns, sbi_calls;
        std::vector<memory::ExitCount> exits;
        std::vector<DeviceInfo> devices;
        std::vector<HartStats> harts;
    };
    std::vector<OpenMark> open_marks;
    std::vector<Mark> marks;
};

}  // namespace wirt::machine
