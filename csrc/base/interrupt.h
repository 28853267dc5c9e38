// Interrupts as devices see them: level-triggered lines and messages, handed out by the board.
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

}  // namespace wirt
