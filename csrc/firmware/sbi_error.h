// Standard errors of the Supervisor Binary Interface (SBI 2.0, table 1).
#pragma once

#include "base/types.h"

namespace wirt::firmware {

enum Error : i64 {
    success = 0,
    failed = -1,
    not_supported = -2,
    invalid_param = -3,
    denied = -4,
    invalid_address = -5,
    already_available = -6,
    already_started = -7,
    already_stopped = -8,
};

}  // namespace wirt::firmware
