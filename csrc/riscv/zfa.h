// What the Zfa extension adds to softfloat.h (The RISC-V Instruction Set Manual, Volume I, chapter "Zfa"),
// for every format. Every pattern is a legal, untrusted input.
#pragma once

#include <array>
#include <bit>

#include "riscv/softfloat.h"

namespace wirt::riscv::fp {

namespace detail {

// Table "Immediate values loaded by FLI". Numbers 1, 30 and 31 are the format's own: see immediate_patterns.
inline constexpr double immediates[32] = {-1.0, 1.0,    0x1p-16, 0x1p-15, 0x1p-8, 0x1p-7, 0.0625, 0.125,
                                          0.25, 0.3125, 0.375,   0.4375,  0.5,    0.625,  0.75,   0.875,
                                          1.0,  1.25,   1.5,     1.75,    2.0,    2.5,    3.0,    4.0,
                                          8.0,  16.0,   128.0,   256.0,   0x1p15, 0x1p16, 1.0,    1.0};

// All of them but 2^16 in binary16, which then is infinity, are numbers of every format.
template <Pattern Bits>
constexpr Bits exactly(double value) {
    using F = Format<Bits>;
    using Wide = Format<u64>;
    constexpr int narrower = Wide::fraction_bits - F::fraction_bits;
    const u64 wide = std::bit_cast<u64>(value);
    const int exponent = static_cast<int>(magnitude(wide) >> Wide::fraction_bits) - Wide::bias;
    const u64 significand = (wide & Wide::fraction_mask) | Wide::smallest_normal;
    Bits pattern = F::infinity;
    if (exponent < 1 - F::bias) {
        pattern = static_cast<Bits>(significand >> (narrower + 1 - F::bias - exponent));
    } else if (exponent <= F::bias) {
        pattern = static_cast<Bits>((significand >> narrower) - F::smallest_normal +
                                    (static_cast<u64>(exponent + F::bias) << F::fraction_bits));
    }
    return static_cast<Bits>(pattern | (is_negative(wide) ? F::sign : 0));
}

template <Pattern Bits>
constexpr std::array<Bits, 32> immediate_patterns() {
    std::array<Bits, 32> patterns{};
    for (unsigned i = 0; i < 30; ++i) patterns[i] = exactly<Bits>(immediates[i]);
    patterns[1] = Format<Bits>::smallest_normal;
    patterns[30] = Format<Bits>::infinity;
    patterns[31] = Format<Bits>::canonical_nan;
    return patterns;
}

template <Pattern Bits>
inline constexpr std::array<Bits, 32> loaded_immediates = immediate_patterns<Bits>();

}  // namespace detail

// FLI; `index` is below 32.
template <Pattern Bits>
constexpr Bits load_immediate(unsigned index) {
    return detail::loaded_immediates<Bits>[index];
}

// FMINM, FMAXM: minimum and maximum of IEEE 754-2019, of which a NaN wins.
template <Pattern Bits>
constexpr Bits minimum(Bits a, std::type_identity_t<Bits> b, u8& flags) {
    const Bits number = min(a, b, flags);
    return is_nan(a) || is_nan(b) ? Format<Bits>::canonical_nan : number;
}
template <Pattern Bits>
constexpr Bits maximum(Bits a, std::type_identity_t<Bits> b, u8& flags) {
    const Bits number = max(a, b, flags);
    return is_nan(a) || is_nan(b) ? Format<Bits>::canonical_nan : number;
}

// FLTQ, FLEQ: as FLT and FLE, but a quiet NaN raises nothing.
template <Pattern Bits>
constexpr bool lt_quiet(Bits a, std::type_identity_t<Bits> b, u8& flags) {
    if (is_nan(a) || is_nan(b)) return eq(a, b, flags);
    return lt(a, b, flags);
}
template <Pattern Bits>
constexpr bool le_quiet(Bits a, std::type_identity_t<Bits> b, u8& flags) {
    if (is_nan(a) || is_nan(b)) return eq(a, b, flags);
    return le(a, b, flags);
}

// FROUND, and with `inexact` FROUNDNX, which says when it changed the value.
template <Pattern Bits>
constexpr Bits round_to_integral(Bits a, Rounding rm, bool inexact, u8& flags) {
    using F = Format<Bits>;
    if (is_nan(a)) {
        if (is_signaling_nan(a)) flags |= NV;
        return F::canonical_nan;
    }
    const int exponent = static_cast<int>(magnitude(a) >> F::fraction_bits) - F::bias;
    if (exponent >= F::fraction_bits || is_zero(a)) return a;
    const bool negative = is_negative(a);
    const Bits one = static_cast<Bits>(Bits{F::bias} << F::fraction_bits);
    const Bits half = static_cast<Bits>(one - F::smallest_normal);
    if (exponent < 0) {
        if (inexact) flags |= NX;
        const Bits size = magnitude(a);
        const bool up = rm == rne   ? size > half
                        : rm == rmm ? size >= half
                        : rm == rdn ? negative
                        : rm == rup ? !negative
                                    : false;
        return static_cast<Bits>((up ? one : 0) | (negative ? F::sign : 0));
    }
    const Bits mask = static_cast<Bits>((Bits{1} << (F::fraction_bits - exponent)) - 1);
    const Bits dropped = a & mask;
    if (dropped == 0) return a;
    if (inexact) flags |= NX;
    const Bits middle = static_cast<Bits>((mask >> 1) + 1);
    const bool odd = (a & (mask + 1)) != 0 || exponent == 0;  // of 1.x the integer's last bit is implicit
    const bool up = rm == rne   ? dropped > middle || (dropped == middle && odd)
                    : rm == rmm ? dropped >= middle
                    : rm == rdn ? negative
                    : rm == rup ? !negative
                                : false;
    // A carry out of the fraction is one into the exponent.
    return static_cast<Bits>((a & ~mask) + (up ? mask + 1 : 0));
}

// FCVTMOD.W.D: cut to an integer, modulo 2^32; NV where FCVT.W.D would have raised it.
constexpr u32 to_integer_modular(u64 a, u8& flags) {
    using F = Format<u64>;
    if (!is_finite(a)) {
        flags |= NV;
        return 0;
    }
    const int exponent = static_cast<int>(magnitude(a) >> F::fraction_bits) - F::bias;
    if (exponent < 0) {
        if (!is_zero(a)) flags |= NX;
        return 0;
    }
    const u64 significand = (a & F::fraction_mask) | F::smallest_normal;
    u64 size = 0;
    bool inexact = false;
    if (exponent <= F::fraction_bits) {
        const int fraction = F::fraction_bits - exponent;
        size = significand >> fraction;
        inexact = (significand & ((u64{1} << fraction) - 1)) != 0;
    } else if (exponent < F::fraction_bits + 32) {
        size = significand << (exponent - F::fraction_bits);
    }
    const bool fits = exponent < 31 || (is_negative(a) && exponent == 31 && size == u64{1} << 31);
    if (!fits) {
        flags |= NV;
    } else if (inexact) {
        flags |= NX;
    }
    const u32 low = static_cast<u32>(size);
    return is_negative(a) ? 0 - low : low;
}

}  // namespace wirt::riscv::fp
