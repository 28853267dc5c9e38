// The integer implementation behind softfloat.h, written once for all formats (IEEE 754-2019; the RISC-V
// chapters "F" and "D" where 754 leaves a choice). Every bit pattern is a legal, untrusted input.
//
// Each operation settles NaNs, infinities and zeros on the patterns, unpacks what is left, computes the exact
// result or one that is exact but for a *sticky* lowest bit, and hands that to round_and_pack. A sticky bit
// is the OR of all the bits shifted out below it: as long as it stays under the half of the last place kept,
// it says all that rounding needs to know.
#include "riscv/softfloat.h"

#include <algorithm>
#include <utility>

namespace wirt::riscv::fp {

namespace {

// A finite non-zero number: significand * 2^(exponent - 62), negated if `negative`. The leading one of the
// significand is bit 62, so that the sum of two still fits. Below the fraction of binary64 this leaves ten
// bits (of binary32, 39) for rounding.
struct Number {
    bool negative;
    int exponent;
    u64 significand;
};

constexpr int leading = 62;

// Shifts right and keeps what falls out as the sticky lowest bit.
template <typename Unsigned>
constexpr Unsigned shift_right_sticky(Unsigned value, int distance) {
    constexpr int width = sizeof(Unsigned) * 8;
    if (distance == 0) return value;
    if (distance >= width) return value != 0;
    return (value >> distance) | ((value << (width - distance)) != 0);
}

constexpr int leading_zeros(u128 value) {
    const u64 high = static_cast<u64>(value >> 64);
    return high != 0 ? std::countl_zero(high) : 64 + std::countl_zero(static_cast<u64>(value));
}

// Moves the leading one of a non-zero significand to bit 62.
constexpr Number normalized(bool negative, int exponent, u64 significand) {
    const int shift = std::countl_zero(significand) - (63 - leading);
    if (shift < 0) return {negative, exponent + 1, shift_right_sticky(significand, 1)};
    return {negative, exponent - shift, significand << shift};
}

// The same from 128 bits, whose bit 124 has the weight 2^exponent.
constexpr Number normalized(bool negative, int exponent, u128 significand) {
    const int zeros = leading_zeros(significand);
    const u64 narrowed = static_cast<u64>(shift_right_sticky(significand << zeros, 127 - leading));
    return {negative, exponent + 3 - zeros, narrowed};
}

// Requires a finite non-zero pattern.
template <Pattern Bits>
constexpr Number unpack(Bits a) {
    using F = Format<Bits>;
    const int biased = static_cast<int>(magnitude(a) >> F::fraction_bits);
    const u64 fraction = static_cast<u64>(a & F::fraction_mask) << (leading - F::fraction_bits);
    if (biased == 0) return normalized(is_negative(a), 1 - F::bias, fraction);
    return {is_negative(a), biased - F::bias, (u64{1} << leading) | fraction};
}

template <Pattern Bits>
constexpr Bits signed_pattern(bool negative, Bits positive) {
    return negative ? positive | Format<Bits>::sign : positive;
}

// What to add to a magnitude so that cutting off the bits under `mask` then rounds it. RNE still has to clear
// the last place after a tie.
constexpr u64 rounding_increment(Rounding rm, bool negative, u64 mask) {
    switch (rm) {
        case rtz:
            return 0;
        case rdn:
            return negative ? mask : 0;
        case rup:
            return negative ? 0 : mask;
        default:
            return (mask >> 1) + 1;
    }
}

template <Pattern Bits>
Bits overflow(bool negative, Rounding rm, u8& flags) {
    using F = Format<Bits>;
    flags |= OF | NX;
    const bool to_infinity = rm == rne || rm == rmm || rm == (negative ? rdn : rup);
    return signed_pattern<Bits>(negative, to_infinity ? F::infinity : F::largest);
}

template <Pattern Bits>
Bits round_and_pack(const Number& number, Rounding rm, u8& flags) {
    using F = Format<Bits>;
    constexpr int dropped_bits = leading - F::fraction_bits;
    constexpr u64 mask = (u64{1} << dropped_bits) - 1;
    constexpr u64 half = (mask >> 1) + 1;
    const u64 increment = rounding_increment(rm, number.negative, mask);

    int biased = number.exponent + F::bias;
    u64 significand = number.significand;
    bool tiny = false;
    if (biased < 1) [[unlikely]] {
        // Tininess is detected after rounding: as if the exponent had no bound, would the result stay below
        // the smallest normal? Only from the binade just under it can rounding carry that far.
        tiny = biased < 0 || significand + increment < u64{1} << (leading + 1);
        significand = shift_right_sticky(significand, 1 - biased);
        biased = 1;
    } else if (biased >= F::max_biased_exponent) [[unlikely]] {
        return overflow<Bits>(number.negative, rm, flags);
    }

    const u64 dropped = significand & mask;
    u64 rounded = (significand + increment) >> dropped_bits;
    if (rm == rne && dropped == half) rounded &= ~u64{1};
    // The implicit one, where there is one, is added into the exponent field; so is a carry out of rounding.
    const Bits packed = (static_cast<Bits>(biased - 1) << F::fraction_bits) + static_cast<Bits>(rounded);
    if (packed >= F::infinity) [[unlikely]]
        return overflow<Bits>(number.negative, rm, flags);
    if (dropped != 0) flags |= tiny ? UF | NX : NX;
    return signed_pattern<Bits>(number.negative, packed);
}

template <Pattern Bits>
Bits invalid(u8& flags) {
    flags |= NV;
    return Format<Bits>::canonical_nan;
}

// The result of an operation of which at least one operand is a NaN: payloads are not propagated.
template <Pattern Bits, typename... More>
Bits nan_result(u8& flags, Bits a, More... more) {
    if (is_signaling_nan(a) || (is_signaling_nan(more) || ...)) flags |= NV;
    return Format<Bits>::canonical_nan;
}

// The zero that an exact sum of opposite numbers is (IEEE 754-2019, 6.3).
template <Pattern Bits>
Bits cancelled(Rounding rm) {
    return signed_pattern<Bits>(rm == rdn, 0);
}

template <Pattern Bits>
Bits sum_with_zero(Bits a, Bits b, Rounding rm) {
    if (!is_zero(a)) return a;
    if (!is_zero(b)) return b;
    return a == b ? a : cancelled<Bits>(rm);
}

template <Pattern Bits>
Bits add_patterns(Bits a, Bits b, Rounding rm, u8& flags) {
    if (is_nan(a) || is_nan(b)) return nan_result(flags, a, b);
    if (!is_finite(a)) return is_finite(b) || a == b ? a : invalid<Bits>(flags);
    if (!is_finite(b)) return b;
    if (is_zero(a) || is_zero(b)) return sum_with_zero(a, b, rm);

    if (magnitude(a) < magnitude(b)) std::swap(a, b);
    const Number larger = unpack(a), smaller = unpack(b);
    const u64 aligned = shift_right_sticky(smaller.significand, larger.exponent - smaller.exponent);
    // Sticky bits survive the subtraction: where one was made the shift was by more than ten, so that at most
    // one leading bit cancels and the sticky one stays far below the last place.
    const u64 significand =
        larger.negative == smaller.negative ? larger.significand + aligned : larger.significand - aligned;
    if (significand == 0) return cancelled<Bits>(rm);
    return round_and_pack<Bits>(normalized(larger.negative, larger.exponent, significand), rm, flags);
}

template <Pattern Bits>
Bits multiply_patterns(Bits a, Bits b, Rounding rm, u8& flags) {
    using F = Format<Bits>;
    if (is_nan(a) || is_nan(b)) return nan_result(flags, a, b);
    const bool negative = is_negative(a) != is_negative(b);
    if (!is_finite(a) || !is_finite(b)) {
        if (is_zero(a) || is_zero(b)) return invalid<Bits>(flags);
        return signed_pattern<Bits>(negative, F::infinity);
    }
    if (is_zero(a) || is_zero(b)) return signed_pattern<Bits>(negative, 0);

    const Number x = unpack(a), y = unpack(b);
    // The leading one of the product is bit 124 or 125.
    const u64 product = static_cast<u64>(shift_right_sticky(u128{x.significand} * y.significand, leading));
    return round_and_pack<Bits>(normalized(negative, x.exponent + y.exponent, product), rm, flags);
}

// The quotient of two significands, with a sticky lowest bit; its leading one is bit 62 or 61.
template <Pattern Bits>
u64 divide_significands(u64 dividend, u64 divisor) {
    if constexpr (sizeof(Bits) <= 4) {
        // With the divisor cut to the 24 bits that it has, 64-bit division gives 39 or 40 bits of quotient;
        // with the 11 of binary16, 52 or 53.
        constexpr int fraction_bits = Format<Bits>::fraction_bits;
        const u64 narrow = divisor >> (leading - fraction_bits);
        return (dividend / narrow) << fraction_bits | (dividend % narrow != 0);
    } else {
        const u128 wide = u128{dividend} << leading;
        const u64 quotient = static_cast<u64>(wide / divisor);
        return quotient | (u128{quotient} * divisor != wide);
    }
}

template <Pattern Bits>
Bits divide_patterns(Bits a, Bits b, Rounding rm, u8& flags) {
    using F = Format<Bits>;
    if (is_nan(a) || is_nan(b)) return nan_result(flags, a, b);
    const bool negative = is_negative(a) != is_negative(b);
    if (!is_finite(a)) {
        return is_finite(b) ? signed_pattern<Bits>(negative, F::infinity) : invalid<Bits>(flags);
    }
    if (is_zero(b)) {
        if (is_zero(a)) return invalid<Bits>(flags);
        flags |= DZ;
        return signed_pattern<Bits>(negative, F::infinity);
    }
    if (is_zero(a) || !is_finite(b)) return signed_pattern<Bits>(negative, 0);

    const Number x = unpack(a), y = unpack(b);
    const u64 quotient = divide_significands<Bits>(x.significand, y.significand);
    return round_and_pack<Bits>(normalized(negative, x.exponent - y.exponent, quotient), rm, flags);
}

template <Pattern Bits>
Bits square_root_pattern(Bits a, Rounding rm, u8& flags) {
    using F = Format<Bits>;
    if (is_nan(a)) return nan_result(flags, a);
    if (is_zero(a)) return a;
    if (is_negative(a)) return invalid<Bits>(flags);
    if (!is_finite(a)) return a;

    // One bit of the root at a time, as with pencil and paper: `remainder` is what the radicand leaves over
    // the square of the root found so far, scaled up by two for each bit. One bit more than the precision is
    // found, which is the first one dropped, and the final remainder makes the sticky bit below it.
    const Number x = unpack(a);
    const int odd = x.exponent & 1;
    constexpr int root_leading = F::fraction_bits + 1;
    u64 remainder = x.significand >> (leading - root_leading) << odd;
    u64 root = 0;
    for (u64 next = u64{1} << root_leading; next != 0; next >>= 1) {
        // (root + next)^2 - root^2, over the scale of `remainder`.
        const u64 needed = 2 * root + next;
        // Masks, not a branch: the bits of a root cannot be predicted.
        const u64 fits = -u64{remainder >= needed};
        remainder -= needed & fits;
        root += next & fits;
        remainder <<= 1;
    }
    const u64 significand = (root << (leading - root_leading)) | (remainder != 0);
    return round_and_pack<Bits>({false, (x.exponent - odd) / 2, significand}, rm, flags);
}

template <Pattern Bits>
Bits multiply_add_patterns(Bits a, Bits b, Bits c, Rounding rm, u8& flags) {
    using F = Format<Bits>;
    // An infinity times zero is invalid even where c is a quiet NaN (chapter "F", on the FMA instructions).
    if ((magnitude(a) == F::infinity && is_zero(b)) || (is_zero(a) && magnitude(b) == F::infinity)) {
        return invalid<Bits>(flags);
    }
    if (is_nan(a) || is_nan(b) || is_nan(c)) return nan_result(flags, a, b, c);
    const bool negative = is_negative(a) != is_negative(b);
    if (!is_finite(a) || !is_finite(b)) {
        const Bits product = signed_pattern<Bits>(negative, F::infinity);
        return is_finite(c) || c == product ? product : invalid<Bits>(flags);
    }
    if (!is_finite(c)) return c;
    if (is_zero(a) || is_zero(b)) return sum_with_zero(signed_pattern<Bits>(negative, 0), c, rm);

    const Number x = unpack(a), y = unpack(b);
    const int product_exponent = x.exponent + y.exponent;
    const u128 product = u128{x.significand} * y.significand;
    if (is_zero(c)) return round_and_pack<Bits>(normalized(negative, product_exponent, product), rm, flags);

    // The exact product and c side by side, bit 124 weighing 2^exponent of each; sums stay below bit 127. The
    // low 20 bits of the product and the low 72 of c are zeros, so that a sticky bit comes only from a shift
    // too long for more than two leading bits to cancel.
    const Number z = unpack(c);
    const u128 addend = u128{z.significand} << leading;
    const int exponent = std::max(product_exponent, z.exponent);
    const u128 p = shift_right_sticky(product, exponent - product_exponent);
    const u128 q = shift_right_sticky(addend, exponent - z.exponent);
    if (negative == z.negative) return round_and_pack<Bits>(normalized(negative, exponent, p + q), rm, flags);
    if (p == q) return cancelled<Bits>(rm);
    const Number difference =
        p > q ? normalized(negative, exponent, p - q) : normalized(z.negative, exponent, q - p);
    return round_and_pack<Bits>(difference, rm, flags);
}

template <Pattern Bits>
Bits from_magnitude(bool negative, u64 value, Rounding rm, u8& flags) {
    if (value == 0) return 0;
    return round_and_pack<Bits>(normalized(negative, leading, value), rm, flags);
}

template <Pattern To, Pattern From>
To convert(From a, Rounding rm, u8& flags) {
    if (is_nan(a)) {
        nan_result(flags, a);
        return Format<To>::canonical_nan;
    }
    if (!is_finite(a)) return signed_pattern<To>(is_negative(a), Format<To>::infinity);
    if (is_zero(a)) return signed_pattern<To>(is_negative(a), 0);
    return round_and_pack<To>(unpack(a), rm, flags);
}

}  // namespace

u16 add(u16 a, u16 b, Rounding rm, u8& flags) {
    return add_patterns(a, b, rm, flags);
}
u32 add(u32 a, u32 b, Rounding rm, u8& flags) {
    return add_patterns(a, b, rm, flags);
}
u64 add(u64 a, u64 b, Rounding rm, u8& flags) {
    return add_patterns(a, b, rm, flags);
}

// A flipped sign keeps a NaN what it is, and payloads are not seen in results.
u16 sub(u16 a, u16 b, Rounding rm, u8& flags) {
    return add_patterns(a, static_cast<u16>(b ^ Format<u16>::sign), rm, flags);
}
u32 sub(u32 a, u32 b, Rounding rm, u8& flags) {
    return add_patterns(a, b ^ Format<u32>::sign, rm, flags);
}
u64 sub(u64 a, u64 b, Rounding rm, u8& flags) {
    return add_patterns(a, b ^ Format<u64>::sign, rm, flags);
}

u16 mul(u16 a, u16 b, Rounding rm, u8& flags) {
    return multiply_patterns(a, b, rm, flags);
}
u32 mul(u32 a, u32 b, Rounding rm, u8& flags) {
    return multiply_patterns(a, b, rm, flags);
}
u64 mul(u64 a, u64 b, Rounding rm, u8& flags) {
    return multiply_patterns(a, b, rm, flags);
}

u16 div(u16 a, u16 b, Rounding rm, u8& flags) {
    return divide_patterns(a, b, rm, flags);
}
u32 div(u32 a, u32 b, Rounding rm, u8& flags) {
    return divide_patterns(a, b, rm, flags);
}
u64 div(u64 a, u64 b, Rounding rm, u8& flags) {
    return divide_patterns(a, b, rm, flags);
}

u16 sqrt(u16 a, Rounding rm, u8& flags) {
    return square_root_pattern(a, rm, flags);
}
u32 sqrt(u32 a, Rounding rm, u8& flags) {
    return square_root_pattern(a, rm, flags);
}
u64 sqrt(u64 a, Rounding rm, u8& flags) {
    return square_root_pattern(a, rm, flags);
}

u16 fma(u16 a, u16 b, u16 c, Rounding rm, u8& flags) {
    return multiply_add_patterns(a, b, c, rm, flags);
}
u32 fma(u32 a, u32 b, u32 c, Rounding rm, u8& flags) {
    return multiply_add_patterns(a, b, c, rm, flags);
}
u64 fma(u64 a, u64 b, u64 c, Rounding rm, u8& flags) {
    return multiply_add_patterns(a, b, c, rm, flags);
}

template <std::integral Int, Pattern Bits>
Int to_integer(Bits a, Rounding rm, u8& flags) {
    using Limits = std::numeric_limits<Int>;
    const auto saturated = [&](bool low) {
        flags |= NV;
        return low ? Limits::min() : Limits::max();
    };
    if (is_nan(a)) return saturated(false);
    if (is_zero(a)) return 0;
    if (!is_finite(a)) return saturated(is_negative(a));
    const Number x = unpack(a);
    if (x.exponent > 63) return saturated(x.negative);

    // Fixed point: the integer in the upper half, the fraction in the lower. With an exponent of 63 there is
    // no fraction, so rounding cannot carry out of the top.
    const u128 unit = u128{1} << 64;
    u128 fixed = u128{x.significand} << (128 - leading - 1);
    fixed = shift_right_sticky(fixed, 63 - x.exponent);
    const u64 fraction = static_cast<u64>(fixed);
    u64 integer = static_cast<u64>((fixed + rounding_increment(rm, x.negative, ~u64{0})) / unit);
    if (rm == rne && fraction == u64{1} << 63) integer &= ~u64{1};

    const u64 limit = !x.negative                 ? static_cast<u64>(Limits::max())
                      : std::signed_integral<Int> ? static_cast<u64>(Limits::max()) + 1
                                                  : 0;
    if (integer > limit) return saturated(x.negative);
    if (fraction != 0) flags |= NX;
    return static_cast<Int>(x.negative ? -integer : integer);
}

template <Pattern Bits>
Bits from_signed(i64 value, Rounding rm, u8& flags) {
    const u64 unsigned_value = static_cast<u64>(value);
    return from_magnitude<Bits>(value < 0, value < 0 ? -unsigned_value : unsigned_value, rm, flags);
}

template <Pattern Bits>
Bits from_unsigned(u64 value, Rounding rm, u8& flags) {
    return from_magnitude<Bits>(false, value, rm, flags);
}

#define WIRT_INSTANCES(Bits)                             \
    template i8 to_integer<i8>(Bits, Rounding, u8&);     \
    template u8 to_integer<u8>(Bits, Rounding, u8&);     \
    template i16 to_integer<i16>(Bits, Rounding, u8&);   \
    template u16 to_integer<u16>(Bits, Rounding, u8&);   \
    template i32 to_integer<i32>(Bits, Rounding, u8&);   \
    template u32 to_integer<u32>(Bits, Rounding, u8&);   \
    template i64 to_integer<i64>(Bits, Rounding, u8&);   \
    template u64 to_integer<u64>(Bits, Rounding, u8&);   \
    template Bits from_signed<Bits>(i64, Rounding, u8&); \
    template Bits from_unsigned<Bits>(u64, Rounding, u8&);
WIRT_INSTANCES(u16)
WIRT_INSTANCES(u32)
WIRT_INSTANCES(u64)
#undef WIRT_INSTANCES

i32 to_i32(u32 a, Rounding rm, u8& flags) {
    return to_integer<i32>(a, rm, flags);
}
i32 to_i32(u64 a, Rounding rm, u8& flags) {
    return to_integer<i32>(a, rm, flags);
}
u32 to_u32(u32 a, Rounding rm, u8& flags) {
    return to_integer<u32>(a, rm, flags);
}
u32 to_u32(u64 a, Rounding rm, u8& flags) {
    return to_integer<u32>(a, rm, flags);
}
i64 to_i64(u32 a, Rounding rm, u8& flags) {
    return to_integer<i64>(a, rm, flags);
}
i64 to_i64(u64 a, Rounding rm, u8& flags) {
    return to_integer<i64>(a, rm, flags);
}
u64 to_u64(u32 a, Rounding rm, u8& flags) {
    return to_integer<u64>(a, rm, flags);
}
u64 to_u64(u64 a, Rounding rm, u8& flags) {
    return to_integer<u64>(a, rm, flags);
}

u32 f32_from_i32(i32 value, Rounding rm, u8& flags) {
    return from_signed<u32>(value, rm, flags);
}
u32 f32_from_u32(u32 value, Rounding rm, u8& flags) {
    return from_magnitude<u32>(false, value, rm, flags);
}
u32 f32_from_i64(i64 value, Rounding rm, u8& flags) {
    return from_signed<u32>(value, rm, flags);
}
u32 f32_from_u64(u64 value, Rounding rm, u8& flags) {
    return from_magnitude<u32>(false, value, rm, flags);
}
u64 f64_from_i32(i32 value, Rounding rm, u8& flags) {
    return from_signed<u64>(value, rm, flags);
}
u64 f64_from_u32(u32 value, Rounding rm, u8& flags) {
    return from_magnitude<u64>(false, value, rm, flags);
}
u64 f64_from_i64(i64 value, Rounding rm, u8& flags) {
    return from_signed<u64>(value, rm, flags);
}
u64 f64_from_u64(u64 value, Rounding rm, u8& flags) {
    return from_magnitude<u64>(false, value, rm, flags);
}

u32 f64_to_f32(u64 a, Rounding rm, u8& flags) {
    return convert<u32>(a, rm, flags);
}
u64 f32_to_f64(u32 a, u8& flags) {
    return convert<u64>(a, rne, flags);
}
u16 f32_to_f16(u32 a, Rounding rm, u8& flags) {
    return convert<u16>(a, rm, flags);
}
u32 f16_to_f32(u16 a, u8& flags) {
    return convert<u32>(a, rne, flags);
}
u16 f64_to_f16(u64 a, Rounding rm, u8& flags) {
    return convert<u16>(a, rm, flags);
}
u64 f16_to_f64(u16 a, u8& flags) {
    return convert<u64>(a, rne, flags);
}

}  // namespace wirt::riscv::fp
