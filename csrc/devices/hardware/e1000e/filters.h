// Which frames the 82574 takes, and on which of its queues.
//
// Implements: Intel 82574 GbE Controller Family Datasheet, 7.1.1 (packet address filtering), 7.1.9
// (receive-side scaling), 7.5 (VLAN filtering); the registers RCTL, RAL, RAH, MTA, VFTA, VET, MRQC, RETA and
// RSSRK of 10.2.5.
//
// Untrusted input: the frame.
#pragma once

#include <optional>
#include <span>

#include "devices/hardware/e1000e/register_file.h"
#include "network/headers.h"

namespace wirt::devices::hardware::e1000e {

struct FilterResult {
    bool pass = false;
    bool inexact = false;  // by the multicast table alone: software has to look (7.1.4: PIF)
    bool broadcast = false;
    bool multicast = false;
};

// `frame` has an Ethernet header.
FilterResult filter(const RegisterFile& registers, std::span<const u8> frame);

// Whether the frame carries the tag that VET names, in whole.
bool is_tagged(const RegisterFile& registers, std::span<const u8> frame);

struct Steering {
    u8 type = 0;  // which fields were hashed; 0: none (7.1.5: MRQ)
    u32 hash = 0;
    unsigned queue = 0;
};

// `headers` may be those of a frame that carries no IP.
Steering steer(const RegisterFile& registers, std::span<const u8> frame,
               const std::optional<network::Headers>& headers);

}  // namespace wirt::devices::hardware::e1000e
