#pragma once

#include "bindings/handle.h"
#include "devices/console_port.h"

namespace wirt::bindings {

struct Console {
    HandlePtr handle;  // owns the port
    devices::ConsolePort* port;
};

}  // namespace wirt::bindings
