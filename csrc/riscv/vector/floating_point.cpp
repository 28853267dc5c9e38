// Vector floating-point arithmetic (V 1.0, chapter 13, but conversions).
#include <array>
#include <cmath>

#include "riscv/vector/float_operations.h"

namespace wirt::riscv::vector {

namespace {

template <typename Operation, Form form>
Result float_binary(Op& op) {
    if (!op.same_width<form>() || !float_ready(op)) return Result::illegal;
    Arithmetic m(op);
    by_float_width(op.unit.sew(), [&]<typename B>() {
        B* const d = op.group<B>(op.vd());
        const B* const a = op.group<B>(op.vs2());
        const SecondOperand<B, form> b(op);
        op.each([&](u64 i) { d[i] = Operation::template apply<B>(a[i], b[i], m); });
    });
    op.accrue(m.flags);
    return Result::done;
}

template <typename Operation, Form form>
Result float_accumulate(Op& op) {
    if (!op.same_width<form>() || !float_ready(op)) return Result::illegal;
    Arithmetic m(op);
    by_float_width(op.unit.sew(), [&]<typename B>() {
        B* const d = op.group<B>(op.vd());
        const B* const a = op.group<B>(op.vs2());
        const SecondOperand<B, form> b(op);
        op.each([&](u64 i) { d[i] = Operation::template apply<B>(d[i], a[i], b[i], m); });
    });
    op.accrue(m.flags);
    return Result::done;
}

template <typename Operation, Form form>
Result float_widen(Op& op) {
    if (!op.widening<form>() || !float_ready(op)) return Result::illegal;
    Arithmetic m(op);
    by_narrow_float_width(op.unit.sew(), [&]<typename B>() {
        using W = Wider<B>;
        W* const d = op.group<W>(op.vd());
        const B* const a = op.group<B>(op.vs2());
        const SecondOperand<B, form> b(op);
        op.each([&](u64 i) { d[i] = Operation::template apply<W>(to_wider(a[i], m), to_wider(b[i], m), m); });
    });
    op.accrue(m.flags);
    return Result::done;
}

template <typename Operation, Form form>
Result float_widen_wide(Op& op) {
    if (!op.widening_wide<form>() || !float_ready(op)) return Result::illegal;
    Arithmetic m(op);
    by_narrow_float_width(op.unit.sew(), [&]<typename B>() {
        using W = Wider<B>;
        W* const d = op.group<W>(op.vd());
        const W* const a = op.group<W>(op.vs2());
        const SecondOperand<B, form> b(op);
        op.each([&](u64 i) { d[i] = Operation::template apply<W>(a[i], to_wider(b[i], m), m); });
    });
    op.accrue(m.flags);
    return Result::done;
}

template <typename Operation, Form form>
Result float_widen_accumulate(Op& op) {
    if (!op.widening<form>() || !float_ready(op)) return Result::illegal;
    Arithmetic m(op);
    by_narrow_float_width(op.unit.sew(), [&]<typename B>() {
        using W = Wider<B>;
        W* const d = op.group<W>(op.vd());
        const B* const a = op.group<B>(op.vs2());
        const SecondOperand<B, form> b(op);
        op.each([&](u64 i) {
            const W x = to_wider(a[i], m), y = to_wider(b[i], m);
            d[i] = Operation::template apply<W>(d[i], x, y, m);
        });
    });
    op.accrue(m.flags);
    return Result::done;
}

template <typename Operation, Form form>
Result float_compare(Op& op) {
    if (!op.to_mask<form>() || !float_ready(op)) return Result::illegal;
    Arithmetic m(op);
    const u8* const mask = op.unit.reg(0);
    const bool masked = op.masked();
    by_float_width(op.unit.sew(), [&]<typename B>() {
        const B* const a = op.group<B>(op.vs2());
        const SecondOperand<B, form> b(op);
        op.each_bit([&](u64 i) {
            // An element that is not active raises no flag.
            if (masked && !Op::bit_of(mask, i)) return false;
            return Operation::template apply<B>(a[i], b[i], m) != 0;
        });
    });
    op.accrue(m.flags);
    return Result::done;
}

// --- of one operand ---

struct FSqrt {
    template <typename B>
    static B apply(B a, Arithmetic& m) {
        if constexpr (sizeof(B) > 2) {
            if (m.fast) return fp::fast_sqrt(a, m.flags);
        }
        return fp::sqrt(a, m.rm, m.flags);
    }
};

struct FClass {
    template <typename B>
    static B apply(B a, Arithmetic&) {
        return static_cast<B>(fp::classify(a));
    }
};

// The seven leading fraction bits of an estimate, for each value of the leading bits of an operand: of all of
// them the one whose greatest relative error over the interval is least, which is how the tables of 13.9 and
// 13.10 were made.
template <typename Function>
std::array<u8, 128> estimates(Function&& interval) {
    std::array<u8, 128> table{};
    for (unsigned i = 0; i < 128; ++i) {
        const auto [low, high] = interval(i);  // the factors that would make the estimate exact
        double least = 1;
        for (unsigned t = 0; t < 128; ++t) {
            const double value = (128 + t) / 256.0;
            const double error = std::max(std::abs(value * low - 1), std::abs(value * high - 1));
            if (error < least) {
                least = error;
                table[i] = static_cast<u8>(t);
            }
        }
    }
    return table;
}

const std::array<u8, 128>& reciprocal_table() {
    static const auto table = estimates([](unsigned i) {
        return std::pair{1 + i / 128.0, 1 + (i + 1) / 128.0};
    });
    return table;
}

// The upper half is of operands with an even exponent, in [1, 2); the lower of those in [2, 4).
const std::array<u8, 128>& root_table() {
    static const auto table = estimates([](unsigned i) {
        const double scale = i < 64 ? 2 : 1;
        return std::pair{std::sqrt(scale * (1 + i % 64 / 64.0)),
                         std::sqrt(scale * (1 + (i % 64 + 1) / 64.0))};
    });
    return table;
}

// A finite positive operand as exponent and fraction, a subnormal one with an exponent of 0 or less.
template <typename B>
struct Split {
    using F = fp::Format<B>;
    explicit Split(B magnitude)
        : exponent(static_cast<int>(magnitude >> F::fraction_bits)),
          fraction(static_cast<B>(magnitude & F::fraction_mask)) {
        if (exponent != 0) return;
        const int shift =
            std::countl_zero(fraction) - (8 * static_cast<int>(sizeof(B)) - 1 - F::fraction_bits);
        exponent = 1 - shift;
        fraction = static_cast<B>(fraction << shift) & F::fraction_mask;
    }
    int exponent;
    B fraction;
};

struct FReciprocal7 {
    template <typename B>
    static B apply(B a, Arithmetic& m) {
        using F = fp::Format<B>;
        const B sign = static_cast<B>(a & F::sign), magnitude = fp::magnitude(a);
        if (fp::is_nan(a)) {
            if (fp::is_signaling_nan(a)) m.flags |= fp::NV;
            return F::canonical_nan;
        }
        if (magnitude == F::infinity) return sign;
        if (magnitude == 0) {
            m.flags |= fp::DZ;
            return static_cast<B>(sign | F::infinity);
        }
        const Split<B> x(magnitude);
        if (x.exponent < -1) {
            // Too small for its reciprocal to be a number.
            m.flags |= fp::OF | fp::NX;
            const bool to_largest = m.rm == fp::rtz || m.rm == (sign != 0 ? fp::rup : fp::rdn);
            return static_cast<B>(sign | (to_largest ? F::largest : F::infinity));
        }
        const B estimate = reciprocal_table()[x.fraction >> (F::fraction_bits - 7)];
        B fraction = static_cast<B>(estimate << (F::fraction_bits - 7));
        int exponent = 2 * F::bias - 1 - x.exponent;
        if (exponent < 1) {
            // A subnormal result: the leading one becomes a bit of the fraction.
            fraction = static_cast<B>((fraction | F::smallest_normal) >> (1 - exponent));
            exponent = 0;
        }
        return static_cast<B>(sign | static_cast<B>(exponent) << F::fraction_bits | fraction);
    }
};

struct FReciprocalRoot7 {
    template <typename B>
    static B apply(B a, Arithmetic& m) {
        using F = fp::Format<B>;
        if (fp::is_nan(a)) {
            if (fp::is_signaling_nan(a)) m.flags |= fp::NV;
            return F::canonical_nan;
        }
        if (fp::is_zero(a)) {
            m.flags |= fp::DZ;
            return static_cast<B>(a | F::infinity);
        }
        if (fp::is_negative(a)) {
            m.flags |= fp::NV;
            return F::canonical_nan;
        }
        if (a == F::infinity) return 0;
        const Split<B> x(a);
        const unsigned index =
            (x.exponent & 1) << 6 | static_cast<unsigned>(x.fraction >> (F::fraction_bits - 6));
        const B fraction = static_cast<B>(B{root_table()[index]} << (F::fraction_bits - 7));
        const int exponent = (3 * F::bias - 1 - x.exponent) >> 1;
        return static_cast<B>(static_cast<B>(exponent) << F::fraction_bits | fraction);
    }
};

template <typename Operation>
Result float_unary(Op& op) {
    if (!op.same_width<vf>() || !float_ready(op)) return Result::illegal;
    Arithmetic m(op);
    by_float_width(op.unit.sew(), [&]<typename B>() {
        B* const d = op.group<B>(op.vd());
        const B* const a = op.group<B>(op.vs2());
        op.each([&](u64 i) { d[i] = Operation::template apply<B>(a[i], m); });
    });
    op.accrue(m.flags);
    return Result::done;
}

// --- moves ---

// vfmerge, where the instruction is masked; else vfmv.v.f.
Result float_merge(Op& op) {
    if (!op.same_width<vf>() || !float_ready(op)) return Result::illegal;
    const u8* const mask = op.unit.reg(0);
    by_float_width(op.unit.sew(), [&]<typename B>() {
        B* const d = op.group<B>(op.vd());
        const B* const a = op.group<B>(op.vs2());
        const B b = op.float_rs1<B>();
        if (!op.masked()) {
            op.each([=](u64 i) { d[i] = b; });
            return;
        }
        for (u64 i = 0; i < op.unit.vl; ++i) d[i] = Op::bit_of(mask, i) ? b : a[i];
    });
    return Result::done;
}

Result float_from_first(Op& op) {
    if (!op.ready() || !float_ready(op)) return Result::illegal;
    by_float_width(op.unit.sew(), [&]<typename B>() {
        const u64 value = op.group<B>(op.vs2())[0];
        if constexpr (sizeof(B) == 8) {
            op.set_float_rd(value);
        } else {
            op.set_float_rd(~u64{0} << (8 * sizeof(B)) | value);
        }
    });
    return Result::done;
}

Result float_to_first(Op& op) {
    if (!op.ready() || !float_ready(op)) return Result::illegal;
    if (op.unit.vl == 0) return Result::done;
    by_float_width(op.unit.sew(), [&]<typename B>() { op.group<B>(op.vd())[0] = op.float_rs1<B>(); });
    return Result::done;
}

}  // namespace

#define VINSN WIRT_VECTOR_FUNCTION
#include "riscv/isa/v_float.def"
#undef VINSN

}  // namespace wirt::riscv::vector
