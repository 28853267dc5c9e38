// The machine's only source of randomness: the host's, or a seeded stream in deterministic mode.
#pragma once

#include <mutex>
#include <span>

#include "base/state_visitor.h"
#include "base/types.h"

namespace wirt {

class EntropySource {
  public:
    // Host entropy (getrandom).
    EntropySource() = default;
    // A reproducible stream (SplitMix64) for deterministic machines; not for secrets.
    explicit EntropySource(u64 seed) : seeded_(true), state_(seed) {}

    void fill(std::span<u8> out);
    void visit_state(StateVisitor& v);

  private:
    std::mutex mutex_;
    bool seeded_ = false;
    u64 state_ = 0;
};

}  // namespace wirt
