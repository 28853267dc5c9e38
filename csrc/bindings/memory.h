#pragma once

#include "bindings/handle.h"

namespace wirt::bindings {

struct Memory {
    HandlePtr handle;
};

struct Bus {
    HandlePtr handle;
};

}  // namespace wirt::bindings
