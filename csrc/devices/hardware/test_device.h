// SiFive's test finisher, `sifive,test0`: how a guest ends or restarts the machine; also the register behind
// the device tree's syscon-poweroff and syscon-reboot nodes.
//
// Implements: the single register of SiFive's test device as the `virt` board has it.
//
// Untrusted input: every register write, its offset and its size.
#pragma once

#include <functional>
#include <string>

#include "memory/mmio.h"

namespace wirt::devices::hardware {

class TestDevice final : public memory::MmioDevice {
  public:
    static constexpr u64 region_size = 0x1000;
    static constexpr u32 command_fail = 0x3333;
    static constexpr u32 command_pass = 0x5555;
    static constexpr u32 command_reset = 0x7777;

    struct Outcome {
        enum class Kind : u8 { pass, fail, reset };
        Kind kind;
        u16 code;  // the guest's exit code when it failed, else 0
    };

    // `finish` is called on the writing hart's thread with mutex() held: it asks the machine to stop, it does
    // not wait for that.
    TestDevice(std::string name, std::function<void(Outcome)> finish);

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override;
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void reset() override {}
    void visit_state(StateVisitor& v) override;

  private:
    const std::string name_;
    const std::function<void(Outcome)> finish_;
};

}  // namespace wirt::devices::hardware
