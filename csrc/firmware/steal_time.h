// What a hart of the guest has waited for a processor of the host: the SBI's steal-time accounting (SBI 2.0,
// chapter 16, "STA"), which the guest reads in memory of its own.
//
// Untrusted input: the address, and what the guest writes to that memory: nothing of it is read back.
#pragma once

#include "base/state_visitor.h"
#include "firmware/sbi_error.h"
#include "riscv/hart.h"

namespace wirt::firmware {

class StealTime {
  public:
    // sbi_steal_time_set_shmem. Called on the hart's own thread, as all here.
    i64 set_memory(riscv::Hart& hart, u64 low, u64 high, u64 flags);
    // The hart begins anew, or stops: what it had asked for is void.
    void stop() { address_ = none; }
    bool reporting() const { return address_ != none; }
    // Adds to what is reported, nanoseconds.
    void report(riscv::Hart& hart, u64 stolen);
    void visit_state(StateVisitor& v, const std::string& prefix);

  private:
    static constexpr u64 none = ~u64{0};
    static constexpr u64 structure_size = 64;
    u64 address_ = none;
    u32 sequence_ = 0;  // odd while the time changes
    u64 nanoseconds_ = 0;
};

}  // namespace wirt::firmware
