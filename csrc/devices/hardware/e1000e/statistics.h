// The counters of good packets by size and kind, the same for both directions (82574 datasheet, 10.2.7).
#pragma once

#include "devices/hardware/e1000e/register_file.h"

namespace wirt::devices::hardware::e1000e {

inline constexpr u32 fcs_length = 4;
inline constexpr u32 shortest_frame = 60;  // without FCS (IEEE 802.3, 3.2.8)
// 9 KB jumbo frames (1.3), without FCS.
inline constexpr u32 longest_frame = 9234;

// `length` is that of one frame on the wire, FCS included; `first` the first of six counters.
inline void count_size(RegisterFile& registers, u32 first, u32 length, u32 frames) {
    const u32 bucket = length <= 64    ? 0
                       : length < 128  ? 1
                       : length < 256  ? 2
                       : length < 512  ? 3
                       : length < 1024 ? 4
                                       : 5;
    registers.count(first + 4 * bucket, frames);
}

}  // namespace wirt::devices::hardware::e1000e
