// A whole computer: which parts exist, at which address, and the life cycle of running them.
//
// All methods are thread-safe unless noted. Callers with the GIL must release it around start(), pause(),
// wait(), step(), run_for() and close(), since a Python device may need it on a hart's thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/counters.h"
#include "base/description.h"
#include "base/entropy.h"
#include "base/interrupt.h"
#include "devices/console_port.h"
#include "devices/display.h"
#include "devices/input_port.h"
#include "memory/address_space.h"
#include "network/ethernet.h"
#include "riscv/hart.h"
#include "storage/block_backend.h"

namespace wirt::devices::hardware {
class Iommu;
}

namespace wirt::machine {

enum class VirtioTransport : u8 { mmio, pci };
enum class DiskBus : u8 { virtio_mmio, virtio_pci, ahci };
enum class NicModel : u8 { virtio_mmio, virtio_pci, e1000e };
enum class InterruptControllers : u8 {
    plic,
    aplic,  // APLIC in direct delivery mode
    aia,    // APLIC in MSI delivery mode, and an IMSIC
};
enum class IommuKind : u8 { none, platform, pci };
enum class DisplayKind : u8 { none, bochs, virtio_gpu };

struct DiskConfig {
    std::shared_ptr<storage::BlockBackend> backend;
    DiskBus bus = DiskBus::virtio_mmio;
    std::string serial;   // shown to the guest, at most 20 bytes
    unsigned queues = 1;  // virtio only
};

struct NetConfig {
    std::shared_ptr<network::Port> port;
    network::MacAddress mac{};
    unsigned queue_pairs = 1;  // virtio only
    NicModel model = NicModel::virtio_mmio;
};

// The bytes of an image file, already unpacked, and what to call it in errors.
struct Image {
    std::string name;
    std::vector<u8> bytes;
    bool empty() const { return bytes.empty(); }
};

// What a machine begins with in place of images: the state of another one of the same configuration.
struct Origin {
    // None: memory is empty, and is filled before the machine runs.
    std::optional<memory::RamPoint> memory;
    // As Machine::save_state gives it. Null: load_state comes later.
    std::shared_ptr<const std::vector<u8>> state;
    std::vector<u8> dtb;  // only to be shown
};

struct MachineConfig {
    u64 memory = 256 * MiB;  // 16 MiB .. 64 GiB, a multiple of 4 KiB
    unsigned harts = 1;      // 1 .. 8
    bool deterministic = false;
    u64 seed = 0;  // deterministic mode: seed of the machine's entropy
    std::string cmdline;
    Image kernel;  // ELF or RISC-V Linux Image, started in S-mode under the monitor's SBI or after `firmware`
    Image initrd;
    Image firmware;                // M-mode ELF or raw image for 0x80000000; harts then start in M-mode
    Image dtb;                     // replaces the generated device tree
    std::optional<Origin> origin;  // no images then
    std::vector<DiskConfig> disks;
    std::vector<NetConfig> nets;
    bool rng = true;
    bool virtio_console = true;
    VirtioTransport virtio = VirtioTransport::mmio;  // of the devices that name none themselves
    bool packed_rings = false;                       // virtio devices offer VIRTIO_F_RING_PACKED
    riscv::IsaConfig isa;                            // of every hart
    InterruptControllers interrupts = InterruptControllers::plic;
    unsigned guest_files = 0;  // aia: a hart's guest interrupt files, 0..63
    IommuKind iommu = IommuKind::none;
    DisplayKind display = DisplayKind::none;
    u32 display_width = 1024, display_height = 768;  // pixels, at power-on
    bool input = false;                              // virtio keyboard and tablet
    unsigned pcie_ports = 0;                         // hot-plug root ports, 0..8
};

enum class MachineState : u8 {
    created,  // never run
    running,
    paused,
    stopped,  // the guest ended it; registers and memory can still be looked at
    closed,
};

enum class StopReason : u8 {
    none,
    poweroff,     // guest asked to be switched off
    reboot,       // guest asked for a reset (a cold reboot is the host's decision: build a new machine)
    failure,      // guest reported failure; `code` says which
    halted,       // every hart is stopped (SBI HSM) and nothing can start one
    breakpoint,   // paused at a breakpoint: `hart`
    step,         // paused after step() or run_for()
    no_progress,  // paused by run_for(): the harts did little else than trap
    host_error,   // an exception on a hart's thread (a Python device); `error` holds it
};

struct StopInfo {
    StopReason reason = StopReason::none;
    u32 code = 0;
    unsigned hart = 0;
    std::exception_ptr error;
};

// How often traps of one cause were taken into one mode.
struct TrapCount {
    std::string mode;   // "M", "S" (or HS), "VS"
    std::string cause;  // "illegal instruction"; as the privileged specification names it
    u64 count = 0;
};

struct HartStats {
    u64 instructions = 0;
    u64 traps = 0, interrupts = 0;
    u64 tlb_misses = 0, page_walks = 0, tlb_flushes = 0;
    u64 blocks_built = 0, blocks_dropped = 0, block_cache_bytes = 0, block_lookups = 0;
    u64 mmio_accesses = 0, wfi = 0;
    u64 table_reads = 0;
    std::vector<TrapCount> trap_causes;  // those that happened
};

// Makes counts differences; what is an amount (block_cache_bytes) stays.
void subtract(HartStats& from, const HartStats& before);

struct DeviceInfo {
    std::string name;  // "virtio-blk0"
    std::string kind;  // "virtio-mmio", "pci", "platform"
    std::optional<u64> base;
    u64 size = 0;
    std::string interrupt;            // "plic 1"
    DeviceCounters::Values counters;  // operations, bytes moved and copied, notifications, interrupts
    DeviceDescription description;    // with `describe` only; its interrupt is merged into the one above
    u64 exits = 0;                    // guest accesses to its registers, all its BARs together
};

// What is known of a deterministic machine's past.
struct RecordingInfo {
    u64 begin = 0, end = 0;  // instructions retired by all harts
    u64 checkpoints = 0, inputs = 0;
    u64 bytes = 0;  // of host memory, without the memory and the disks as they were at the beginning
    bool replaying = false;
};

// One measured section between the guest's mark-begin and mark-end (the vendor SBI extension 0x0A574952).
struct Mark {
    std::string name;
    u64 operations = 0, bytes = 0;
    u64 instructions = 0;  // retired by all harts
    u64 host_ns = 0;
    u64 sbi_calls = 0;
    std::vector<memory::ExitCount> exits;  // differences
    std::vector<DeviceInfo> devices;       // differences of the counters
    std::vector<HartStats> harts;          // likewise
};

class Machine {
  public:
    explicit Machine(MachineConfig config);
    ~Machine();
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;

    // --- life cycle ---
    void start();   // created -> running; StateError otherwise
    void pause();   // running -> paused: harts at an instruction boundary, device queues at rest; idempotent
    void resume();  // paused -> running
    void close();   // ends everything; idempotent; the destructor calls it
    // Waits until the state is not `running`; false on time-out. Negative: for ever.
    bool wait(double timeout_s);
    MachineState state() const;
    StopInfo stop_info() const;

    // Runs one hart for `n` instructions (created or paused; the machine is paused afterwards).
    void step(unsigned hart, u64 n = 1);
    // Deterministic mode: runs until `instructions` more were retired by all harts together, or it stops.
    void run_for(u64 instructions);
    void add_breakpoint(u64 virtual_address);
    void remove_breakpoint(u64 virtual_address);
    std::vector<u64> breakpoints() const;

    // --- parts ---
    const MachineConfig& config() const;  // images are emptied once loaded
    unsigned hart_count() const;
    riscv::Hart& hart(unsigned index);  // registers: only while not running (StateError via require_still())
    void require_still() const;         // throws StateError while running
    memory::GuestRam& ram();
    memory::AddressSpace& bus();
    devices::hardware::Iommu* iommu();  // null without one
    devices::ConsolePort& serial();     // the 16550
    devices::ConsolePort& hvc();        // virtio-console
    devices::ConsolePort& console();  // the one the command line's last console= names; also SBI DBCN output
    devices::Display* display();      // null when there is none
    devices::InputPort* keyboard();   // likewise
    devices::InputPort* tablet();
    std::vector<u8> dtb() const;
    // Maps a host-implemented device; only before start(). ConfigError on overlap.
    void map_device(u64 base, u64 size, std::unique_ptr<memory::MmioDevice> device);
    // An input of the interrupt controller for a host-implemented device; `source` 40..95.
    InterruptLine interrupt_line(unsigned source);

    // --- devices that come and go: created, running or paused ---
    // Plugs a disk (AHCI or virtio-pci) or a NIC (e1000e or virtio-pci) in and gives the device's name.
    // `slot` is one of bus 0 (4..23), where the guest has to look for it, or that of a hot-plug port
    // (24..31), which tells the guest; none: the first empty port, or else the first empty slot. ConfigError:
    // no such place, or a bus without hot-plug.
    // `name`: the one that the device had in the machine whose state will be loaded; none: a new one.
    std::string plug(const DiskConfig& disk, std::optional<unsigned> slot = {}, const std::string& name = {});
    std::string plug(const NetConfig& net, std::optional<unsigned> slot = {}, const std::string& name = {});
    // Where a device is that was plugged in. ConfigError: unknown.
    unsigned slot_of(const std::string& name);
    // Takes a device out and destroys it. Where a driver of a running guest hears the port's attention
    // button, that is pressed first and the guest has `timeout_s` to switch the slot off; whatever it does or
    // does not, the device is then gone. False: out under the hands of a driver that still used it.
    // ConfigError: unknown, or not removable.
    bool unplug(const std::string& name, double timeout_s);

    // --- state: while it does not run ---
    // All but the memory, as csrc/state/stream.h has it. StateError when the guest has ended.
    std::vector<u8> save_state();
    // created -> paused, of a machine with an origin. SnapshotError: what is stored is broken or does not
    // fit; the machine is then of no use.
    void load_state(std::shared_ptr<const std::vector<u8>> state);
    // Back to the state that was loaded and the memory it began with. How many pages were put back.
    // StateError for a machine without an origin.
    u64 reset();
    // Gives the guest a new VM generation ID, and tells it: it goes on from a copy.
    void new_generation();
    // Deterministic machines: entropy begins anew from `seed`. Others draw the host's, and nothing changes.
    void reseed(u64 seed);
    // The guest's wall clock jumps; guest time goes on where it is.
    void set_wall_clock(u64 ns_since_1970);

    // --- being handed over to another host ---
    // Pauses it if it runs, and has it stay so: until release() every call that would run it or change what
    // it consists of throws StateError. Whether it ran. StateError when the guest has ended, or it is held.
    bool hold();
    void release();
    // Harts do nothing while it is on, as if the host had no time for them; pause() and all else work.
    void set_brake(bool on);

    // --- the past of a deterministic machine, while it does not run (time_travel.cpp) ---
    // From here on all that comes in is noted, and a checkpoint is taken every so many instructions; `keep`
    // of them are kept, and about `journal_bytes` of what came in. StateError: not deterministic, recorded
    // already, or with devices in Python.
    void record(u64 checkpoint_every, u64 keep, u64 journal_bytes);
    // The past is forgotten; what is yet to come of a replay never happens.
    void end_recording();
    std::optional<RecordingInfo> recording() const;
    // The recording, to be kept with state that save_state() has just given; empty without one, and in the
    // past.
    std::vector<u8> save_recording() const;
    // What that was, for a machine that has loaded that state and was not run since. SnapshotError: it is
    // broken; the machine is to be closed then.
    void load_recording(std::span<const u8> saved);
    // To the last checkpoint before so many instructions were retired, from which run_for() goes on as
    // before; nothing if that is in the future. StateError: outside of what is recorded.
    void rewind(u64 instructions);
    // To the end of the recording, where input is taken again.
    void run_to_end();
    // To the last time before now that a hart was about to execute what is at one of the breakpoints. False:
    // there was none; the machine stays where it is.
    bool run_back();

    // --- observation ---
    std::vector<HartStats> hart_stats() const;
    std::vector<memory::ExitCount> exits() const;
    std::vector<std::pair<std::string, u64>> sbi_calls() const;  // by extension, e.g. {"TIME", 12}
    std::vector<DeviceInfo> devices() const;
    // The same with addresses, BARs, queues, features and exits.
    std::vector<DeviceInfo> describe() const;
    std::vector<Mark> take_marks();
    u64 instructions() const;  // retired by all harts
    u64 time_ns() const;       // guest time
    // SHA-256-like digest (hex) of all state through the visitor; not while running.
    std::string state_hash();
    // (section.field, value) of all integer fields, for the inspector; not while running.
    std::vector<std::pair<std::string, u64>> inspect();

  private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

}  // namespace wirt::machine
