#include "devices/hardware/e1000e/filters.h"

#include <algorithm>
#include <array>

#include "base/bits.h"
#include "network/ethernet.h"

namespace wirt::devices::hardware::e1000e {

namespace {

using network::address_length;
using network::load_be16;

// RAL and RAH hold an address as it is on the wire, its first byte lowest.
bool matches_address(const RegisterFile& registers, const u8* to) {
    const u32 low = load_le<u32>(to);
    const u32 high = load_le<u16>(to + 4);
    for (u32 i = 0; i < receive_address_count; ++i) {
        const u32 rah = registers[RAH + 8 * i];
        // Only destination addresses are compared (10.2.5: RAH.ASEL).
        if ((rah & (rah_av | rah_asel)) != rah_av) continue;
        if (registers[RAL + 8 * i] == low && (rah & 0xffff) == high) return true;
    }
    return false;
}

// RCTL.MO chooses which twelve bits of the address's last sixteen are looked up.
bool in_multicast_table(const RegisterFile& registers, const u8* to) {
    static constexpr unsigned shifts[] = {4, 3, 2, 0};
    const unsigned offset = registers[RCTL] >> rctl_mo_shift & 3;
    const u32 bits = (load_le<u16>(to + 4) >> shifts[offset]) & 0xfff;
    return registers[MTA + 4 * (bits >> 5)] >> (bits & 31) & 1;
}

bool passes_vlan(const RegisterFile& registers, std::span<const u8> frame) {
    const u32 control = registers[RCTL];
    if ((control & rctl_vfe) == 0 || !is_tagged(registers, frame)) return true;
    const u16 tag = load_be16(&frame[14]);
    const bool format = (tag >> 12 & 1) != 0;
    if ((control & rctl_cfien) != 0 && format != ((control & rctl_cfi) != 0)) return false;
    const u32 id = tag & 0xfff;
    return registers[VFTA + 4 * (id >> 5)] >> (id & 31) & 1;
}

// The Toeplitz hash with the key of RSSRK, whose first byte is its most significant (7.1.9).
u32 toeplitz(const RegisterFile& registers, std::span<const u8> input) {
    const auto key_byte = [&](std::size_t i) -> u32 {
        return registers[RSSRK + i / 4 * 4] >> (8 * (i % 4)) & 0xff;
    };
    u32 window = key_byte(0) << 24 | key_byte(1) << 16 | key_byte(2) << 8 | key_byte(3);
    u32 hash = 0;
    for (std::size_t i = 0; i < input.size(); ++i) {
        const u32 next = key_byte(i + 4);
        for (unsigned bit = 8; bit-- > 0;) {
            if (input[i] >> bit & 1) hash ^= window;
            window = window << 1 | (next >> bit & 1);
        }
    }
    return hash;
}

}  // namespace

bool is_tagged(const RegisterFile& registers, std::span<const u8> frame) {
    return frame.size() >= network::ethernet_header_length + network::vlan_tag_length &&
           load_be16(&frame[12]) == registers[VET];
}

FilterResult filter(const RegisterFile& registers, std::span<const u8> frame) {
    const u32 control = registers[RCTL];
    const u8* to = frame.data();
    FilterResult result;
    result.broadcast = std::all_of(to, to + address_length, [](u8 byte) { return byte == 0xff; });
    result.multicast = !result.broadcast && (to[0] & 1) != 0;
    if (!passes_vlan(registers, frame)) return result;
    if (matches_address(registers, to)) {
        result.pass = true;
    } else if (result.broadcast) {
        result.pass = (control & (rctl_bam | rctl_mpe)) != 0;
    } else if (!result.multicast) {
        result.pass = (control & rctl_upe) != 0;
    } else if ((control & rctl_mpe) != 0) {
        result.pass = true;
    } else {
        result.pass = result.inexact = in_multicast_table(registers, to);
    }
    return result;
}

Steering steer(const RegisterFile& registers, std::span<const u8> frame,
               const std::optional<network::Headers>& headers) {
    Steering result;
    const u32 control = registers[MRQC];
    // 10.2.5: the hash takes the place of the packet checksum in the descriptor, and exists in extended ones
    // only.
    if ((control & mrqc_enable) != mrqc_enable_rss || (registers[RXCSUM] & rxcsum_pcsd) == 0 ||
        (registers[RFCTL] & rfctl_exsten) == 0 || !headers) {
        return result;
    }
    // Types as the descriptor states them, with what has to be enabled; ports are hashed for the first ones.
    enum : u8 { tcp_v4 = 1, v4 = 2, tcp_v6 = 3, v6_extended = 4, v6 = 5 };
    const bool tcp = headers->protocol == network::protocol_tcp && !headers->fragment &&
                     frame.size() >= headers->transport + 4;
    const bool plain = !headers->extended || (registers[RFCTL] & rfctl_ipv6_ex_dis) == 0;
    const auto enabled = [control](u32 field) { return (control & field) != 0; };
    if (!headers->v6) {
        result.type = tcp && enabled(mrqc_tcp_ipv4) ? tcp_v4 : enabled(mrqc_ipv4) ? v4 : 0;
    } else {
        result.type = tcp && plain && enabled(mrqc_tcp_ipv6) ? tcp_v6
                      : plain && enabled(mrqc_ipv6_ex)       ? v6_extended
                      : enabled(mrqc_ipv6)                   ? v6
                                                             : 0;
    }
    if (result.type == 0) return result;

    std::array<u8, 36> input;
    const std::size_t length = headers->v6 ? 32 : 8;
    std::copy_n(&frame[headers->network + (headers->v6 ? 8 : 12)], length, input.begin());
    const bool ports = result.type == tcp_v4 || result.type == tcp_v6;
    if (ports)
        std::copy_n(&frame[headers->transport], 4, input.begin() + static_cast<std::ptrdiff_t>(length));
    result.hash = toeplitz(registers, std::span(input).first(length + (ports ? 4 : 0)));
    const u32 entry = result.hash & 0x7f;
    result.queue = registers[RETA + entry / 4 * 4] >> (8 * (entry % 4) + 7) & 1;
    return result;
}

}  // namespace wirt::devices::hardware::e1000e
