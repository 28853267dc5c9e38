// The triggers of a hart with Sdtrig (The RISC-V Debug Specification 1.0, chapter "Sdtrig").
#pragma once

#include "base/types.h"

namespace wirt::riscv {

struct Triggers {
    static constexpr unsigned count = 4;

    u64 tselect = 0;
    u64 tdata1[count] = {}, tdata2[count] = {};
    // What is armed, in whatever mode: fetches are checked by slots in the code, accesses to data by keeping
    // the pages in question out of the TLBs.
    bool fetch_armed = false, data_armed = false;
};

}  // namespace wirt::riscv
