// What a monitor says of itself.
//
// Implements: VESA Enhanced EDID Standard, release A, revision 2 (EDID 1.4): the base block; the detailed
// timing is that of VESA Coordinated Video Timings 1.2, reduced blanking.
#pragma once

#include <array>

#include "devices/display.h"

namespace wirt::devices {

using Edid = std::array<u8, 128>;

// Of a digital monitor whose preferred mode is `mode`.
Edid make_edid(const DisplayMode& mode);

}  // namespace wirt::devices
