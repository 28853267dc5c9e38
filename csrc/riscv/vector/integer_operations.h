// The operations of vector integer arithmetic on one element: `a` is that of vs2, `b` the other operand's.
// Values come and go as unsigned; S is the signed type of the width.
#pragma once

#include <bit>
#include <type_traits>

#include "base/types.h"

namespace wirt::riscv::vector {

#define WIRT_OPERATION(Name, expression)                      \
    struct Name {                                             \
        template <typename T>                                 \
        static constexpr T apply(T a, T b) {                  \
            using S [[maybe_unused]] = std::make_signed_t<T>; \
            return static_cast<T>(expression);                \
        }                                                     \
    };

template <typename T>
inline constexpr unsigned width_of = 8 * sizeof(T);

// Holds the exact sum, difference or signed product of two elements.
template <typename T>
using Exact = std::conditional_t<sizeof(T) == 8, i128, i64>;

// The upper half of a product of twice the width. A negative operand is 2^width less than its pattern says.
// Written with signed products GCC 12 vectorises it as an unsigned one (-O3, 16 bits, its mulhs pattern).
template <typename T, bool a_signed, bool b_signed>
constexpr T multiply_high(T a, T b) {
    using U = std::conditional_t<sizeof(T) == 8, u128, u64>;
    using S = std::make_signed_t<T>;
    T high = static_cast<T>((U{a} * b) >> width_of<T>);
    if (a_signed) high = static_cast<T>(high - (static_cast<S>(a) < 0 ? b : T{0}));
    if (b_signed) high = static_cast<T>(high - (static_cast<S>(b) < 0 ? a : T{0}));
    return high;
}

template <typename T>
constexpr T divide_signed(T a, T b) {
    using S = std::make_signed_t<T>;
    if (b == 0) return static_cast<T>(-1);
    if (static_cast<S>(b) == -1) return static_cast<T>(0 - a);
    return static_cast<T>(static_cast<S>(a) / static_cast<S>(b));
}

template <typename T>
constexpr T remainder_signed(T a, T b) {
    using S = std::make_signed_t<T>;
    if (b == 0) return a;
    if (static_cast<S>(b) == -1) return 0;
    return static_cast<T>(static_cast<S>(a) % static_cast<S>(b));
}

WIRT_OPERATION(Add, a + b)
WIRT_OPERATION(Sub, a - b)
WIRT_OPERATION(ReverseSub, b - a)
WIRT_OPERATION(MinU, a < b ? a : b)
WIRT_OPERATION(MaxU, a > b ? a : b)
WIRT_OPERATION(Min, static_cast<S>(a) < static_cast<S>(b) ? a : b)
WIRT_OPERATION(Max, static_cast<S>(a) > static_cast<S>(b) ? a : b)
WIRT_OPERATION(And, a& b)
WIRT_OPERATION(Or, a | b)
WIRT_OPERATION(Xor, a ^ b)
WIRT_OPERATION(AndNot, a & ~b)
WIRT_OPERATION(ShiftLeft, a << (b & (width_of<T> - 1)))
WIRT_OPERATION(ShiftRight, a >> (b & (width_of<T> - 1)))
WIRT_OPERATION(ShiftRightSigned, static_cast<S>(a) >> (b & (width_of<T> - 1)))
WIRT_OPERATION(RotateLeft, std::rotl(a, static_cast<int>(b&(width_of<T> - 1))))
WIRT_OPERATION(RotateRight, std::rotr(a, static_cast<int>(b&(width_of<T> - 1))))
// 1u: a product of two u16 would else be one of two ints, and overflow.
WIRT_OPERATION(Mul, 1u * a * b)
WIRT_OPERATION(MulHighU, (multiply_high<T, false, false>(a, b)))
WIRT_OPERATION(MulHigh, (multiply_high<T, true, true>(a, b)))
WIRT_OPERATION(MulHighSU, (multiply_high<T, true, false>(a, b)))
WIRT_OPERATION(DivU, b == 0 ? static_cast<T>(-1) : a / b)
WIRT_OPERATION(RemU, b == 0 ? a : a % b)
WIRT_OPERATION(Div, divide_signed(a, b))
WIRT_OPERATION(Rem, remainder_signed(a, b))

WIRT_OPERATION(Equal, a == b)
WIRT_OPERATION(NotEqual, a != b)
WIRT_OPERATION(LessU, a < b)
WIRT_OPERATION(LessEqualU, a <= b)
WIRT_OPERATION(GreaterU, a > b)
WIRT_OPERATION(Less, static_cast<S>(a) < static_cast<S>(b))
WIRT_OPERATION(LessEqual, static_cast<S>(a) <= static_cast<S>(b))
WIRT_OPERATION(Greater, static_cast<S>(a) > static_cast<S>(b))

#undef WIRT_OPERATION

// Operations whose result has twice the width of their operands, or of their second one: how each operand is
// widened, and what is then done.
template <typename Operation, bool a_is_signed, bool b_is_signed>
struct Widening {
    static constexpr bool a_signed = a_is_signed, b_signed = b_is_signed;
    template <typename W>
    static constexpr W apply(W a, W b) {
        return Operation::apply(a, b);
    }
};
using WideAddU = Widening<Add, false, false>;
using WideAdd = Widening<Add, true, true>;
using WideSubU = Widening<Sub, false, false>;
using WideSub = Widening<Sub, true, true>;
using WideMulU = Widening<Mul, false, false>;
using WideMul = Widening<Mul, true, true>;
using WideMulSU = Widening<Mul, true, false>;
// vwmaccsu names the scalar's operand first, vwmaccus the vector's.
using WideMulSUAcc = Widening<Mul, false, true>;
using WideMulUS = Widening<Mul, true, false>;
using WideShiftLeft = Widening<ShiftLeft, false, false>;

// vd is an operand: `d`.
#define WIRT_ACCUMULATION(Name, expression)       \
    struct Name {                                 \
        template <typename T>                     \
        static constexpr T apply(T d, T a, T b) { \
            return static_cast<T>(expression);    \
        }                                         \
    };
WIRT_ACCUMULATION(MulAcc, 1u * a * b + d)
WIRT_ACCUMULATION(NegMulSac, d - 1u * a * b)
WIRT_ACCUMULATION(MulAdd, 1u * d * b + a)
WIRT_ACCUMULATION(NegMulSub, a - 1u * d * b)
#undef WIRT_ACCUMULATION

}  // namespace wirt::riscv::vector
