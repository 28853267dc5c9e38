// What the hypervisor extension 1.0 adds to a hart's state (Privileged Architecture, "H" chapter), with the
// VS-level half of the Advanced Interrupt Architecture 1.0.
#pragma once

#include "base/types.h"

namespace wirt::riscv {

struct HypervisorState {
    u64 hstatus = u64{2} << 32;  // VSXL is fixed at 64 bits
    u64 hedeleg = 0, hideleg = 0;
    u64 hvip = 0;  // VSTIP and VSEIP; VSSIP is that of mip
    u64 hgeie = 0;
    u64 henvcfg = 0, hcounteren = 0, htimedelta = 0;
    u64 htval = 0, htinst = 0, hgatp = 0;
    u64 mtval2 = 0, mtinst = 0;

    u64 vsstatus = u64{2} << 32;  // UXL is fixed at 64 bits
    u64 vstvec = 0, vsscratch = 0, vsepc = 0, vscause = 0, vstval = 0, vsatp = 0;
    u64 vstimecmp = ~u64{0};

    u64 vsiselect = 0, hvictl = 0, hviprio1 = 0;

    bool timer_due = false;  // what vstimecmp contributes to VSTIP; not state
};

}  // namespace wirt::riscv
