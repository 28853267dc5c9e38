// The machine's only source of randomness: the host's, or a seeded stream in deterministic mode.
#pragma once

#include <mutex>
#include <span>

#include "base/state_visitor.h"
#include "base/types.h"

namespace wirt {

class EntropySource {
  public:
    // Host entropy (getrandom) until seeded.
    EntropySource() = default;
    // From now on a reproducible stream (SplitMix64), for deterministic machines; not for secrets.
    void seed(u64 value) {
        seeded_ = true;
        state_ = value;
    }

    // What copies of a machine are told apart by: a seeded stream begins anew from `value`. The host's
    // entropy is another for each of them anyway, and stays. Any thread.
    void reseed(u64 value);

    void fill(std::span<u8> out);
    void visit_state(StateVisitor& v);

  private:
    std::mutex mutex_;
    bool seeded_ = false;
    u64 state_ = 0;
};

}  // namespace wirt
