// The Supervisor Binary Interface, served by the monitor itself: a guest kernel starts straight in S-mode.
//
// Implements SBI 2.0: BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN, PMU and STA, and one vendor extension, "Wirt"
// (0x0A574952), by which a guest marks the sections that it wants measured. Untrusted input: every argument.
// Addresses are checked against RAM; a bad one gives SBI_ERR_INVALID_ADDRESS or SBI_ERR_INVALID_PARAM.
#pragma once

#include <array>
#include <atomic>
#include <string>
#include <vector>

#include "devices/console_port.h"
#include "firmware/steal_time.h"
#include "riscv/hart.h"

namespace wirt::firmware {

// Hart states of the HSM extension (9.1).
enum class HartState : u8 { started = 0, stopped = 1, stop_pending = 3 };

enum class ResetKind : u8 { shutdown, reboot, failure };

// What the SBI needs of the machine.
class SbiPlatform {
  public:
    virtual ~SbiPlatform() = default;
    virtual unsigned hart_count() const = 0;
    virtual riscv::Hart& hart(unsigned index) = 0;
    virtual HartState hart_state(unsigned index) const = 0;
    // False when the hart is not stopped. It begins in S-mode at `address` with a0 = hart id, a1 = opaque.
    virtual bool start_hart(unsigned index, u64 address, u64 opaque) = 0;
    virtual void stop_hart(riscv::Hart& self) = 0;
    // Returns when the fences requested of hart `index` have taken effect.
    virtual void await_fences(riscv::Hart& self, unsigned index) = 0;
    virtual void system_reset(ResetKind kind, u32 reason) = 0;
    virtual StealTime& steal_time(unsigned index) = 0;
    virtual devices::ConsolePort& debug_console() = 0;
    virtual void mark(bool begin, const std::string& name, u64 operations, u64 bytes) = 0;
};

class Sbi {
  public:
    explicit Sbi(SbiPlatform& platform) : platform_(platform) {}

    // An ecall from S-mode: a7 extension, a6 function, a0.. arguments; the result goes to a0 and a1.
    void call(riscv::Hart& hart);
    // Calls so far by extension.
    std::vector<std::pair<std::string, u64>> counts() const;
    u64 total_calls() const;
    // The state that S-mode software finds (delegation, counters, timer, PMP): what a firmware sets up.
    static void prepare(riscv::Hart& hart, u64 entry, u64 a1);

  private:
    struct Result {
        i64 error;
        u64 value;
    };
    enum Extension : u8 {
        ext_base,
        ext_time,
        ext_ipi,
        ext_rfence,
        ext_hsm,
        ext_srst,
        ext_dbcn,
        ext_pmu,
        ext_sta,
        ext_wirt,
        ext_legacy_or_unknown,
        ext_count
    };

    static Extension extension_of(u64 id);
    Result base(u64 function, u64 argument);
    Result time(riscv::Hart& hart, u64 function);
    Result ipi(riscv::Hart& hart, u64 function);
    Result rfence(riscv::Hart& hart, u64 function);
    Result hsm(riscv::Hart& hart, u64 function, bool& silent);
    Result srst(riscv::Hart& hart, u64 function);
    Result dbcn(riscv::Hart& hart, u64 function);
    Result pmu(riscv::Hart& hart, u64 function);
    Result pmu_configure(riscv::Hart& hart);
    Result pmu_switch(riscv::Hart& hart, bool start);
    Result sta(riscv::Hart& hart, u64 function);
    Result wirt(riscv::Hart& hart, u64 function);
    // The harts of (hart_mask, hart_mask_base); false when one does not exist (3.1).
    bool targets(u64 mask, u64 base, std::vector<unsigned>& out) const;

    SbiPlatform& platform_;
    std::array<std::atomic<u64>, ext_count> counts_{};
};

}  // namespace wirt::firmware
