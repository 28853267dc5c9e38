// Interrupts as devices see them: level-triggered lines and messages, handed out by the board. And as a hart
// sees those that came as messages: the interrupt files of its IMSIC.
#pragma once

#include "base/types.h"

namespace wirt {

// An interrupt controller's inputs. Implementations are thread-safe and never call back into a device,
// so that a line may be driven with the device's own mutex held.
class InterruptSink {
  public:
    virtual ~InterruptSink() = default;
    virtual void set_level(unsigned source, bool level) = 0;
};

class InterruptLine {
  public:
    InterruptLine() = default;
    InterruptLine(InterruptSink& sink, unsigned source) : sink_(&sink), source_(source) {}
    void set(bool level) const {
        if (sink_ != nullptr) sink_->set_level(source_, level);
    }
    unsigned source() const { return source_; }

  private:
    InterruptSink* sink_ = nullptr;
    unsigned source_ = 0;
};

// Where message-signalled interrupts go. Messages travel apart from DMA, which reaches RAM only.
class MessageSink {
  public:
    virtual ~MessageSink() = default;
    // False when no interrupt file is at `address`; the write is then dropped, as on a bus with no target.
    virtual bool send_message(u64 address, u32 data) = 0;
};

// One interrupt file of an IMSIC, by what a hart's CSRs do with it (RISC-V Advanced Interrupt
// Architecture 1.0, 3.8 to 3.10). Messages arrive at any time on other threads, hence each call is one step.
// That an interrupt is pending is told through an InterruptLine.
class InterruptFile {
  public:
    virtual ~InterruptFile() = default;
    // The 64-bit register `select` (0x70 to 0xff): the bits of `mask` become those of `value`, as far as they
    // can; `old` is what was there. False: there is no such register.
    virtual bool modify(u32 select, u64 mask, u64 value, u64& old) = 0;
    // The value of a *topei CSR: identity << 16 | priority, or 0. Claiming clears that pending bit.
    virtual u32 top(bool claim) = 0;
};

}  // namespace wirt
