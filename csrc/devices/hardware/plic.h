// SiFive's platform-level interrupt controller, `sifive,plic-1.0.0`.
//
// Implements: RISC-V Platform-Level Interrupt Controller Specification 1.0.0; sizes as on the `virt` board:
// sources 1 to 95, priorities 0 to 7, and a machine and a supervisor context for each hart
// (context = 2 * hart + (supervisor ? 1 : 0)). All gateways are level-triggered.
//
// Untrusted input: every register write, its offset and its size.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "base/interrupt.h"
#include "memory/mmio.h"

namespace wirt::devices::hardware {

class Plic final : public memory::MmioDevice, public InterruptSink {
  public:
    static constexpr u64 region_size = 0x600000;
    static constexpr unsigned source_count = 96;  // including source 0, which does not exist
    static constexpr unsigned max_priority = 7;

    // One output line a context, in context order.
    Plic(std::string name, std::vector<InterruptLine> outputs);

    // InterruptSink: a device's line. Sources that do not exist are ignored.
    void set_level(unsigned source, bool level) override;

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override { return registers_; }
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void reset() override;
    void visit_state(StateVisitor& v) override;

  private:
    static constexpr unsigned word_count = source_count / 32;
    using SourceSet = std::array<u32, word_count>;

    struct Context {
        InterruptLine output;
        SourceSet enabled{};
        u32 threshold = 0;
        bool asserted = false;
    };

    u32 read_word(u64 offset);
    void write_word(u64 offset, u32 value);
    unsigned best_source(const Context& context, u32 above_priority) const;
    u32 claim(Context& context);
    void complete(Context& context, u32 source);
    void forward(unsigned source);
    void set_priority(unsigned source, u32 priority);
    void update(Context& context);
    void update_all();

    const std::string name_;
    std::vector<Context> contexts_;
    std::vector<std::string> register_names_;
    std::vector<memory::Register> registers_;

    SourceSet level_{};    // the wires
    SourceSet pending_{};  // IP bits
    SourceSet claimed_{};  // claimed and not completed: the gateway forwards nothing
    std::array<u8, source_count> priority_{};
    // The sources of each priority, so that a claim looks at words and not at sources.
    std::array<SourceSet, max_priority + 1> by_priority_{};
};

}  // namespace wirt::devices::hardware
