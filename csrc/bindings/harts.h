#pragma once

#include "bindings/handle.h"

namespace wirt::bindings {

struct HartView {
    HandlePtr handle;
    unsigned index;

    // Throws StateError while the machine runs: registers are then in motion.
    riscv::Hart& still() const {
        handle->machine.require_still();
        return handle->machine.hart(index);
    }
};

}  // namespace wirt::bindings
