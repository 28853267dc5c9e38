// Vector floating-point operations on one element, and the checks that their instructions share
// (V 1.0, chapter 13; Zvfh and Zvfhmin 1.0 for SEW = 16).
#pragma once

#include "riscv/vector/op.h"

namespace wirt::riscv::vector {

// The rounding mode of an instruction, and the flags that its elements raise.
struct Arithmetic {
    explicit Arithmetic(const Op& op) : rm(static_cast<fp::Rounding>(op.frm())), fast(op.float_fast()) {}
    const fp::Rounding rm;
    const bool fast;  // see the fast paths of softfloat.h
    u8 flags = 0;
};

// Of any vector floating-point instruction: also one that does not round is reserved with such an frm (13.1).
inline bool float_usable(const Op& op) {
    return op.float_enabled() && op.frm() <= 4 && !op.unit.illegal_type();
}
// SEW is a width of arithmetic.
inline bool float_ready(const Op& op) {
    if (!float_usable(op)) return false;
    return op.unit.sew() >= 2 || (op.unit.sew() == 1 && op.unit.half() == HalfPrecision::full);
}

template <typename Body>
WIRT_INLINE void by_float_width(unsigned sew, Body&& body) {
    by_type<u16, u32, u64>(sew, body);
}
template <typename Body>
WIRT_INLINE void by_narrow_float_width(unsigned sew, Body&& body) {
    by_type<u16, u32>(sew, body);
}

// The operand that vs1 or rs1 names: a value for each element, or one for all.
template <typename B, Form form>
struct SecondOperand {
    explicit SecondOperand(Op& op)
        : elements(op.group<B>(op.vs1())), scalar(form == vv ? B{0} : op.float_rs1<B>()) {}
    B operator[](u64 i) const { return form == vv ? elements[i] : scalar; }
    const B* const elements;
    const B scalar;
};

inline u32 to_wider(u16 value, Arithmetic& arithmetic) {
    return fp::f16_to_f32(value, arithmetic.flags);
}
inline u64 to_wider(u32 value, Arithmetic& arithmetic) {
    return fp::fast_f32_to_f64(value, arithmetic.flags);
}

template <typename B>
constexpr B negated(B value) {
    return static_cast<B>(value ^ fp::Format<B>::sign);
}

// The host's arithmetic where it is exactly this one's; there is none of binary16.
#define WIRT_FLOAT_ARITHMETIC(Name, function, x, y)                    \
    struct Name {                                                      \
        template <typename B>                                          \
        static B apply(B a, B b, Arithmetic& m) {                      \
            static_cast<void>(a), static_cast<void>(b);                \
            if constexpr (sizeof(B) > 2) {                             \
                if (m.fast) return fp::fast_##function(x, y, m.flags); \
            }                                                          \
            return fp::function(x, y, m.rm, m.flags);                  \
        }                                                              \
    };
WIRT_FLOAT_ARITHMETIC(FAdd, add, a, b)
WIRT_FLOAT_ARITHMETIC(FSub, sub, a, b)
WIRT_FLOAT_ARITHMETIC(FReverseSub, sub, b, a)
WIRT_FLOAT_ARITHMETIC(FMul, mul, a, b)
WIRT_FLOAT_ARITHMETIC(FDiv, div, a, b)
WIRT_FLOAT_ARITHMETIC(FReverseDiv, div, b, a)
#undef WIRT_FLOAT_ARITHMETIC

template <typename B>
B multiply_add(B a, B b, B c, Arithmetic& m) {
    if constexpr (sizeof(B) > 2) {
        if (m.fast) return fp::fast_fma(a, b, c, m.flags);
    }
    return fp::fma(a, b, c, m.rm, m.flags);
}

#define WIRT_FLOAT(Name, expression)                                 \
    struct Name {                                                    \
        template <typename B>                                        \
        static B apply(B a, B b, [[maybe_unused]] Arithmetic& m) {   \
            constexpr B sign [[maybe_unused]] = fp::Format<B>::sign; \
            return static_cast<B>(expression);                       \
        }                                                            \
    };
WIRT_FLOAT(FMin, fp::min(a, b, m.flags))
WIRT_FLOAT(FMax, fp::max(a, b, m.flags))
WIRT_FLOAT(FSign, (a & ~sign) | (b & sign))
WIRT_FLOAT(FSignNot, (a & ~sign) | (~b & sign))
WIRT_FLOAT(FSignXor, a ^ (b & sign))
WIRT_FLOAT(FEqual, fp::eq(a, b, m.flags))
WIRT_FLOAT(FNotEqual, !fp::eq(a, b, m.flags))
WIRT_FLOAT(FLess, fp::lt(a, b, m.flags))
WIRT_FLOAT(FLessEqual, fp::le(a, b, m.flags))
WIRT_FLOAT(FGreater, fp::lt(b, a, m.flags))
WIRT_FLOAT(FGreaterEqual, fp::le(b, a, m.flags))
#undef WIRT_FLOAT

// vd = ±(x * y) ± z, of which vd is one.
#define WIRT_FLOAT_ACCUMULATION(Name, x, y, z)         \
    struct Name {                                      \
        template <typename B>                          \
        static B apply(B d, B a, B b, Arithmetic& m) { \
            return multiply_add<B>(x, y, z, m);        \
        }                                              \
    };
WIRT_FLOAT_ACCUMULATION(FMacc, b, a, d)
WIRT_FLOAT_ACCUMULATION(FNmacc, negated(b), a, negated(d))
WIRT_FLOAT_ACCUMULATION(FMsac, b, a, negated(d))
WIRT_FLOAT_ACCUMULATION(FNmsac, negated(b), a, d)
WIRT_FLOAT_ACCUMULATION(FMadd, d, b, a)
WIRT_FLOAT_ACCUMULATION(FNmadd, negated(d), b, negated(a))
WIRT_FLOAT_ACCUMULATION(FMsub, d, b, negated(a))
WIRT_FLOAT_ACCUMULATION(FNmsub, negated(d), b, a)
#undef WIRT_FLOAT_ACCUMULATION

}  // namespace wirt::riscv::vector
