// IEEE 754-2019 binary32 and binary64 arithmetic as the F and D extensions define it (The RISC-V Instruction
// Set Manual, Volume I, chapters "F" and "D"), and of binary16 for Zfh and Zvfh: five rounding modes, accrued
// flags, canonical NaNs, tininess detected after rounding, saturating conversions to integers.
//
// Values are raw bit patterns, and every pattern is a legal input: all of them are untrusted and none needs a
// check by the caller. NaN boxing is not handled here. Flags are ORed into the caller's `flags`. `rm` must be
// one of the five modes: the caller has resolved DYN and trapped on the reserved encodings.
//
// Two sets of functions give the same bits and the same flags:
//   - the soft ones (add, mul, ...) use integer arithmetic only and hold in every mode;
//   - the fast ones (fast_add, fast_mul, ...) let the host's floating-point unit do the common case and call
//   the
//     soft ones for the rest. What they require of the caller is stated above them.
#pragma once

#include <bit>
#include <cfenv>
#include <cfloat>
#include <cmath>
#include <concepts>
#include <limits>
#include <type_traits>

#include "base/types.h"

// The fast paths rest on each host operation being rounded by itself, once, to its own format. A contraction
// of a * b + c into one operation would break that unseen: compile with -ffp-contract=off.
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "Wirt's floating point needs IEEE 754 semantics from the compiler: build without -ffast-math"
#endif
static_assert(FLT_EVAL_METHOD == 0, "float and double must be evaluated in their own format (not x87)");
static_assert(std::numeric_limits<float>::is_iec559 && std::numeric_limits<double>::is_iec559);

namespace wirt::riscv::fp {

// The encoding of `rm` and `frm`.
enum Rounding : u8 { rne = 0, rtz = 1, rdn = 2, rup = 3, rmm = 4 };

// The bits of `fflags`.
inline constexpr u8 NX = 1, UF = 2, OF = 4, DZ = 8, NV = 16;

template <typename T>
concept Pattern = std::same_as<T, u16> || std::same_as<T, u32> || std::same_as<T, u64>;

// The parameters of an interchange format (IEEE 754-2019, table 3.5), named by the type of its bit pattern.
template <Pattern Bits>
struct Format {
    // The host's type of the format; it has none of binary16.
    using Host = std::conditional_t<sizeof(Bits) == 8, double, float>;

    static constexpr int fraction_bits = sizeof(Bits) == 2 ? 10 : sizeof(Bits) == 4 ? 23 : 52;
    static constexpr int bias = sizeof(Bits) == 2 ? 15 : sizeof(Bits) == 4 ? 127 : 1023;
    static constexpr int max_biased_exponent = 2 * bias + 1;

    static constexpr Bits sign = Bits{1} << (sizeof(Bits) * 8 - 1);
    static constexpr Bits infinity = Bits{max_biased_exponent} << fraction_bits;
    static constexpr Bits largest = infinity - 1;
    static constexpr Bits smallest_normal = Bits{1} << fraction_bits;
    static constexpr Bits quiet = Bits{1} << (fraction_bits - 1);
    static constexpr Bits canonical_nan = infinity | quiet;
    static constexpr Bits fraction_mask = smallest_normal - 1;
};

template <Pattern Bits>
constexpr Bits magnitude(Bits a) {
    return a & ~Format<Bits>::sign;
}

template <Pattern Bits>
constexpr bool is_negative(Bits a) {
    return a & Format<Bits>::sign;
}

template <Pattern Bits>
constexpr bool is_nan(Bits a) {
    return magnitude(a) > Format<Bits>::infinity;
}

template <Pattern Bits>
constexpr bool is_signaling_nan(Bits a) {
    return is_nan(a) && !(a & Format<Bits>::quiet);
}

template <Pattern Bits>
constexpr bool is_zero(Bits a) {
    return magnitude(a) == 0;
}

template <Pattern Bits>
constexpr bool is_finite(Bits a) {
    return magnitude(a) < Format<Bits>::infinity;
}

// ---- Arithmetic, in any rounding mode ----

u16 add(u16 a, u16 b, Rounding rm, u8& flags);
u32 add(u32 a, u32 b, Rounding rm, u8& flags);
u64 add(u64 a, u64 b, Rounding rm, u8& flags);
u16 sub(u16 a, u16 b, Rounding rm, u8& flags);
u32 sub(u32 a, u32 b, Rounding rm, u8& flags);
u64 sub(u64 a, u64 b, Rounding rm, u8& flags);
u16 mul(u16 a, u16 b, Rounding rm, u8& flags);
u32 mul(u32 a, u32 b, Rounding rm, u8& flags);
u64 mul(u64 a, u64 b, Rounding rm, u8& flags);
u16 div(u16 a, u16 b, Rounding rm, u8& flags);
u32 div(u32 a, u32 b, Rounding rm, u8& flags);
u64 div(u64 a, u64 b, Rounding rm, u8& flags);
u16 sqrt(u16 a, Rounding rm, u8& flags);
u32 sqrt(u32 a, Rounding rm, u8& flags);
u64 sqrt(u64 a, Rounding rm, u8& flags);
// a * b + c, rounded once. The other three of the family are this one with signs flipped:
// FMSUB flips c, FNMSUB flips a, FNMADD flips a and c.
u16 fma(u16 a, u16 b, u16 c, Rounding rm, u8& flags);
u32 fma(u32 a, u32 b, u32 c, Rounding rm, u8& flags);
u64 fma(u64 a, u64 b, u64 c, Rounding rm, u8& flags);

// ---- Conversions, in any rounding mode ----

// FCVT to an integer: NaN and what lies out of range saturate and raise NV alone (table "Domains of
// float-to-integer conversions"). The caller sign-extends 32-bit results, FCVT.WU's too.
i32 to_i32(u32 a, Rounding rm, u8& flags);
i32 to_i32(u64 a, Rounding rm, u8& flags);
u32 to_u32(u32 a, Rounding rm, u8& flags);
u32 to_u32(u64 a, Rounding rm, u8& flags);
i64 to_i64(u32 a, Rounding rm, u8& flags);
i64 to_i64(u64 a, Rounding rm, u8& flags);
u64 to_u64(u32 a, Rounding rm, u8& flags);
u64 to_u64(u64 a, Rounding rm, u8& flags);

u32 f32_from_i32(i32 value, Rounding rm, u8& flags);
u32 f32_from_u32(u32 value, Rounding rm, u8& flags);
u32 f32_from_i64(i64 value, Rounding rm, u8& flags);
u32 f32_from_u64(u64 value, Rounding rm, u8& flags);
u64 f64_from_i32(i32 value, Rounding rm, u8& flags);
u64 f64_from_u32(u32 value, Rounding rm, u8& flags);
u64 f64_from_i64(i64 value, Rounding rm, u8& flags);
u64 f64_from_u64(u64 value, Rounding rm, u8& flags);

u32 f64_to_f32(u64 a, Rounding rm, u8& flags);
u64 f32_to_f64(u32 a, u8& flags);
u16 f32_to_f16(u32 a, Rounding rm, u8& flags);
u32 f16_to_f32(u16 a, u8& flags);
u16 f64_to_f16(u64 a, Rounding rm, u8& flags);
u64 f16_to_f64(u16 a, u8& flags);

// The same by type, for those that are written once for all widths; from any format to any integer of at
// least 8 bits.
template <std::integral Int, Pattern Bits>
Int to_integer(Bits a, Rounding rm, u8& flags);
template <Pattern Bits>
Bits from_signed(i64 value, Rounding rm, u8& flags);
template <Pattern Bits>
Bits from_unsigned(u64 value, Rounding rm, u8& flags);

// ---- Comparisons: bit tests, needing neither the host's unit nor a rounding mode ----

namespace detail {

// Maps the non-NaN patterns to unsigned integers of the same order, -0 below +0.
template <Pattern Bits>
constexpr Bits ordered(Bits a) {
    return is_negative(a) ? ~a : a | Format<Bits>::sign;
}

// The same with both zeros equal: -0 moves up to +0.
template <Pattern Bits>
constexpr Bits ordered_by_value(Bits a) {
    return ordered(is_zero(a) ? Bits{0} : a);
}

template <Pattern Bits, typename Choose>
constexpr Bits minimum_or_maximum(Bits a, Bits b, u8& flags, Choose first_wins) {
    if (is_nan(a) || is_nan(b)) [[unlikely]] {
        if (is_signaling_nan(a) || is_signaling_nan(b)) flags |= NV;
        if (!is_nan(a)) return a;
        return is_nan(b) ? Format<Bits>::canonical_nan : b;
    }
    return first_wins(ordered(a), ordered(b)) ? a : b;
}

}  // namespace detail

// FEQ: quiet.
template <Pattern Bits>
constexpr bool eq(Bits a, std::type_identity_t<Bits> b, u8& flags) {
    if (is_nan(a) || is_nan(b)) [[unlikely]] {
        if (is_signaling_nan(a) || is_signaling_nan(b)) flags |= NV;
        return false;
    }
    return a == b || (is_zero(a) && is_zero(b));
}

// FLT: signaling.
template <Pattern Bits>
constexpr bool lt(Bits a, std::type_identity_t<Bits> b, u8& flags) {
    if (is_nan(a) || is_nan(b)) [[unlikely]] {
        flags |= NV;
        return false;
    }
    return detail::ordered_by_value(a) < detail::ordered_by_value(b);
}

// FLE: signaling.
template <Pattern Bits>
constexpr bool le(Bits a, std::type_identity_t<Bits> b, u8& flags) {
    if (is_nan(a) || is_nan(b)) [[unlikely]] {
        flags |= NV;
        return false;
    }
    return detail::ordered_by_value(a) <= detail::ordered_by_value(b);
}

// FMIN, FMAX: minimumNumber and maximumNumber (version 2.2 of F): a NaN loses to a number, and -0 < +0.
template <Pattern Bits>
constexpr Bits min(Bits a, std::type_identity_t<Bits> b, u8& flags) {
    return detail::minimum_or_maximum(a, b, flags, [](Bits x, Bits y) { return x < y; });
}

template <Pattern Bits>
constexpr Bits max(Bits a, std::type_identity_t<Bits> b, u8& flags) {
    return detail::minimum_or_maximum(a, b, flags, [](Bits x, Bits y) { return x > y; });
}

// FCLASS: the one-hot mask of the table "Format of result of FCLASS instruction".
template <Pattern Bits>
constexpr u64 classify(Bits a) {
    if (is_nan(a)) return a & Format<Bits>::quiet ? 1 << 9 : 1 << 8;
    // 0 infinite, 1 normal, 2 subnormal, 3 zero, as counted from bit 0 for negative and down from bit 7 for
    // positive.
    const unsigned kind = magnitude(a) == Format<Bits>::infinity          ? 0
                          : magnitude(a) >= Format<Bits>::smallest_normal ? 1
                          : !is_zero(a)                                   ? 2
                                                                          : 3;
    return u64{1} << (is_negative(a) ? kind : 7 - kind);
}

// ---- The fast paths ----

// Holds the host thread in IEEE 754's default environment: round to nearest, no traps, no flushing of
// subnormals. The code around may have left another one (a library built with -ffast-math switches flushing
// on as it is loaded), so a hart's thread runs guest code inside one of these.
class DefaultEnvironment {
  public:
    DefaultEnvironment() {
        std::fegetenv(&outer_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~DefaultEnvironment() { std::fesetenv(&outer_); }
    DefaultEnvironment(const DefaultEnvironment&) = delete;
    DefaultEnvironment& operator=(const DefaultEnvironment&) = delete;

  private:
    std::fenv_t outer_;
};

namespace detail {

template <Pattern Bits>
typename Format<Bits>::Host host(Bits a) {
    return std::bit_cast<typename Format<Bits>::Host>(a);
}

inline u32 pattern(float a) {
    return std::bit_cast<u32>(a);
}
inline u64 pattern(double a) {
    return std::bit_cast<u64>(a);
}

// A normal number beyond smallest_normal. Such a rounded result raised nothing but perhaps NX;
// smallest_normal itself may have been rounded up to, and then UF is for the soft function to decide.
template <Pattern Bits>
constexpr bool is_plain(Bits result) {
    using F = Format<Bits>;
    return magnitude(result) - (F::smallest_normal + 1) < F::infinity - (F::smallest_normal + 1);
}

#if defined(__x86_64__) && !defined(__FMA__)
inline const bool host_has_fma = (__builtin_cpu_init(), __builtin_cpu_supports("fma") != 0);

// In assembly because a function with target("fma") cannot be inlined into code built for the baseline.
inline float host_fma(float a, float b, float c) {
    asm("vfmadd213ss %2, %1, %0" : "+x"(a) : "x"(b), "x"(c));
    return a;
}
inline double host_fma(double a, double b, double c) {
    asm("vfmadd213sd %2, %1, %0" : "+x"(a) : "x"(b), "x"(c));
    return a;
}
#else
#if defined(__FMA__) || defined(__aarch64__) || defined(__riscv_d)
inline constexpr bool host_has_fma = true;
#else
inline constexpr bool host_has_fma = false;  // std::fma may be a library's, of unknown quality
#endif
inline float host_fma(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}
inline double host_fma(double a, double b, double c) {
    return __builtin_fma(a, b, c);
}
#endif

// Whether `a` cut to an integer is an Int. For an unsigned one only +0 and above count: a set sign bit makes
// the pattern compare as large.
template <std::integral Int, Pattern Bits>
constexpr bool truncates_into(Bits a) {
    using F = Format<Bits>;
    constexpr Bits limit = Bits{F::bias + std::numeric_limits<Int>::digits} << F::fraction_bits;
    return (std::signed_integral<Int> ? magnitude(a) : a) < limit;
}

// Requires truncates_into<Int>(a).
template <std::integral Int, Pattern Bits>
Int truncate(Bits a, u8& flags) {
    using Host = typename Format<Bits>::Host;
    const Int result = static_cast<Int>(host(a));
    if (static_cast<Host>(result) != host(a)) flags |= NX;
    return result;
}

}  // namespace detail

// These require a DefaultEnvironment, the rounding mode RNE, and NX already set in `flags`: once NX is
// accrued, a result that the host rounded to a plain number tells all there is to know. Anything else (a flag
// that may have to be raised, a NaN to make canonical) goes to the soft function.

// No flag but NX can come with a finite sum: a subnormal one is exact.
template <Pattern Bits>
Bits fast_add(Bits a, std::type_identity_t<Bits> b, u8& flags) {
    const Bits result = detail::pattern(detail::host(a) + detail::host(b));
    if (is_finite(result)) [[likely]]
        return result;
    return add(a, b, rne, flags);
}

template <Pattern Bits>
Bits fast_sub(Bits a, std::type_identity_t<Bits> b, u8& flags) {
    const Bits result = detail::pattern(detail::host(a) - detail::host(b));
    if (is_finite(result)) [[likely]]
        return result;
    return sub(a, b, rne, flags);
}

template <Pattern Bits>
Bits fast_mul(Bits a, std::type_identity_t<Bits> b, u8& flags) {
    const Bits result = detail::pattern(detail::host(a) * detail::host(b));
    if (detail::is_plain(result)) [[likely]]
        return result;
    if (is_zero(result) && (is_zero(a) || is_zero(b))) return result;
    return mul(a, b, rne, flags);
}

template <Pattern Bits>
Bits fast_div(Bits a, std::type_identity_t<Bits> b, u8& flags) {
    // Dividing by an infinity gives a zero, and by a zero an infinity: neither is plain, and DZ is not lost.
    const Bits result = detail::pattern(detail::host(a) / detail::host(b));
    if (detail::is_plain(result)) [[likely]]
        return result;
    if (is_zero(result) && is_zero(a)) return result;
    return div(a, b, rne, flags);
}

// The root of a positive finite number is never subnormal and never overflows.
template <Pattern Bits>
Bits fast_sqrt(Bits a, u8& flags) {
    if (a < Format<Bits>::infinity) [[likely]]
        return detail::pattern(std::sqrt(detail::host(a)));
    return sqrt(a, rne, flags);
}

template <Pattern Bits>
Bits fast_fma(Bits a, std::type_identity_t<Bits> b, std::type_identity_t<Bits> c, u8& flags) {
    if (detail::host_has_fma) [[likely]] {
        const Bits result =
            detail::pattern(detail::host_fma(detail::host(a), detail::host(b), detail::host(c)));
        if (detail::is_plain(result)) [[likely]]
            return result;
    }
    return fma(a, b, c, rne, flags);
}

inline u32 fast_f64_to_f32(u64 a, u8& flags) {
    const u32 result = detail::pattern(static_cast<float>(detail::host(a)));
    if (detail::is_plain(result) || is_zero(a)) [[likely]]
        return result;
    return f64_to_f32(a, rne, flags);
}

// An integer never overflows binary32, so no flag but NX is possible.
inline u32 fast_f32_from_i32(i32 value) {
    return detail::pattern(static_cast<float>(value));
}
inline u32 fast_f32_from_u32(u32 value) {
    return detail::pattern(static_cast<float>(value));
}
inline u32 fast_f32_from_i64(i64 value) {
    return detail::pattern(static_cast<float>(value));
}
inline u32 fast_f32_from_u64(u64 value) {
    return detail::pattern(static_cast<float>(value));
}
inline u64 fast_f64_from_i64(i64 value) {
    return detail::pattern(static_cast<double>(value));
}
inline u64 fast_f64_from_u64(u64 value) {
    return detail::pattern(static_cast<double>(value));
}

// The rest require a DefaultEnvironment only: they hold for any `rm` and any `flags`.

inline u64 fast_f64_from_i32(i32 value) {
    return detail::pattern(static_cast<double>(value));
}
inline u64 fast_f64_from_u32(u32 value) {
    return detail::pattern(static_cast<double>(value));
}

inline u64 fast_f32_to_f64(u32 a, u8& flags) {
    if (!is_nan(a)) [[likely]]
        return detail::pattern(static_cast<double>(detail::host(a)));
    return f32_to_f64(a, flags);
}

// Fast for RTZ, the mode that compilers emit for a cast.
template <Pattern Bits>
i32 fast_to_i32(Bits a, Rounding rm, u8& flags) {
    if (rm == rtz && detail::truncates_into<i32>(a)) [[likely]]
        return detail::truncate<i32>(a, flags);
    return to_i32(a, rm, flags);
}

template <Pattern Bits>
u32 fast_to_u32(Bits a, Rounding rm, u8& flags) {
    if (rm == rtz && detail::truncates_into<u32>(a)) [[likely]]
        return detail::truncate<u32>(a, flags);
    return to_u32(a, rm, flags);
}

template <Pattern Bits>
i64 fast_to_i64(Bits a, Rounding rm, u8& flags) {
    if (rm == rtz && detail::truncates_into<i64>(a)) [[likely]]
        return detail::truncate<i64>(a, flags);
    return to_i64(a, rm, flags);
}

template <Pattern Bits>
u64 fast_to_u64(Bits a, Rounding rm, u8& flags) {
    if (rm == rtz && detail::truncates_into<u64>(a)) [[likely]]
        return detail::truncate<u64>(a, flags);
    return to_u64(a, rm, flags);
}

}  // namespace wirt::riscv::fp
