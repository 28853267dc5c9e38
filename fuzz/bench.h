// What the fuzz targets share: guest RAM, a bus, and a script of steps that the fuzzer's bytes are. A step is
// something a hostile guest can do, or something that can happen to it while a device works.
//
// The input is a sequence of 16-byte steps, so that the mutator (mutator.cpp) can insert, move and splice
// them without losing the thread, and a seed is a list of lines in seeds.py. All that a target adds is its
// devices and the windows of addresses through which the script reaches their registers.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/interrupt.h"
#include "base/state_visitor.h"
#include "memory/address_space.h"
#include "memory/dma.h"
#include "require.h"
#include "storage/block_backend.h"

namespace wirt::fuzz {

struct Step {
    enum Kind : u8 {
        poke,        // RAM[offset] = value, 1 << width bytes
        fill,        // RAM[offset, offset + 16 * count) = the low byte of value
        write,       // a store to a window; the devices then work, unless `later` is set in width
        read,        // a load from a window
        run,         // the devices' executors run `count` + 1 tasks
        meddle,      // at the `count`th translation from now: RAM[offset] = value (8 bytes)
        interleave,  // the next `count` steps happen in the middle of the disk's next transfers
        fail,        // the disk's `count`th transfer from now fails
        tamper,      // state is saved, its field number `offset` is XORed with value, and loaded again
        own,         // and all above: the target's own
    };
    static constexpr u8 later = 0x80;

    u8 kind;
    u8 width;
    u8 window;
    u8 count;
    u32 offset;
    u64 value;
};
static_assert(sizeof(Step) == 16);

// Runs tasks when the script says so: every order of a device's work and the guest's accesses is one
// thread's.
class StepExecutor final : public Executor {
  public:
    void post(Task task, unsigned) override { tasks_.push_back(std::move(task)); }
    void drain() override { run(~0u); }
    void run(unsigned tasks);
    bool idle() const { return tasks_.empty(); }

  private:
    std::deque<Task> tasks_;
};

class Bench : private InterruptSink,
              private MessageSink,
              private memory::DmaTranslator,
              private memory::DmaRemapper {
  public:
    // Small, so that random addresses meet.
    static constexpr u64 ram_base = 0x8000'0000, ram_size = 256 * KiB;

    ~Bench() override = default;
    void play(std::span<const u8> script);

    // Offsets and addresses that a mutator may like, of all windows.
    struct Landmark {
        u8 window;
        u32 offset;
        u8 width;  // log2 of the register's bytes
    };
    const std::vector<Landmark>& landmarks() const { return landmarks_; }
    std::vector<u64> window_bases() const;

  protected:
    Bench();

    memory::GuestRam& ram() { return ram_; }
    memory::AddressSpace& bus() { return bus_; }
    StepExecutor& executor() { return executor_; }
    InterruptLine line(unsigned source) { return InterruptLine(*this, source); }
    std::array<InterruptLine, 4> intx() { return {line(0), line(1), line(2), line(3)}; }
    MessageSink& messages() { return *this; }
    // Translations that change nothing but the moment: see Step::meddle.
    memory::DmaView dma() { return memory::DmaView(ram_, this); }
    memory::DmaRemapper& remapper() { return *this; }
    // A disk of `size` bytes whose transfers the script may interrupt or fail.
    std::shared_ptr<storage::BlockBackend> disk(u64 size);

    // Addresses that the script's accesses name by number; `registers` are landmarks in it.
    void add_window(u64 base, u64 size, std::span<const memory::Register> registers = {});
    // Puts a device on the bus, with a window over it.
    void add_device(u64 base, u64 size, memory::MmioDevice& device);

    virtual void visit_state(StateVisitor& v) = 0;
    virtual void own_step(const Step&) {}
    // After the script, with the devices idle if they can be.
    virtual void check() {}

  private:
    class ScriptedDisk;
    struct Window {
        u64 base;
        u64 size;
    };
    struct Meddling {
        unsigned countdown;
        u64 offset;
        u64 value;
    };

    void set_level(unsigned, bool) override {}
    bool send_message(u64, u32) override { return true; }
    std::optional<u64> translate(u64 address, memory::DmaDirection, u64&) override;
    std::optional<u64> translate(u32, u64 address, memory::DmaDirection direction, u64& contiguous) override;
    bool send_message(u32, u64, u32) override { return true; }

    bool take(Step& next);
    void execute(const Step& step);
    void access(const Step& step);
    void tamper(const Step& step);
    void require_stable_state();
    // Called by the disk in the middle of a transfer; the errno that it then returns.
    int during_transfer();

    memory::GuestRam ram_;
    memory::AddressSpace bus_;
    StepExecutor executor_;
    std::vector<Window> windows_;
    std::vector<Landmark> landmarks_;

    std::span<const u8> script_;
    std::vector<Meddling> meddlings_;
    unsigned interleaved_ = 0;
    unsigned until_failure_ = 0;
    bool broken_ = false;  // a tampered state was refused: what is left of the devices is undefined
};

// Each target defines this.
std::unique_ptr<Bench> make_bench();

}  // namespace wirt::fuzz
