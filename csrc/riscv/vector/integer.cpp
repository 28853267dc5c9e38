// Vector integer arithmetic (V 1.0, chapter 11).
#include "riscv/vector/integer_loops.h"

namespace wirt::riscv::vector {

namespace {

template <typename Operation>
__attribute__((noinline)) void accumulate_loop(Op& op) {
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        const T *const a = op.group<T>(op.vs2()), *const b = op.group<T>(op.vs1());
        op.each([=](u64 i) { d[i] = Operation::template apply<T>(d[i], a[i], b[i]); });
    });
}
template <typename Operation>
__attribute__((noinline)) void accumulate_loop(Op& op, u64 scalar) {
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        const T* const a = op.group<T>(op.vs2());
        const T b = static_cast<T>(scalar);
        op.each([=](u64 i) { d[i] = Operation::template apply<T>(d[i], a[i], b); });
    });
}
template <typename Operation, Form form>
Result accumulate(Op& op) {
    if (!op.same_width<form>()) return Result::illegal;
    if constexpr (form == vv) {
        accumulate_loop<Operation>(op);
    } else {
        accumulate_loop<Operation>(op, op.scalar<form>());
    }
    return Result::done;
}

template <typename Operation, Form form>
Result widen_wide(Op& op) {
    if (!op.widening_wide<form>()) return Result::illegal;
    by_narrow_width(op.unit.sew(), [&]<typename T>() {
        using W = Wider<T>;
        W* const d = op.group<W>(op.vd());
        const W* const a = op.group<W>(op.vs2());
        const T* const b = op.group<T>(op.vs1());
        const W scalar = extended<W, Operation::b_signed>(static_cast<T>(op.rs1()));
        op.each([=](u64 i) {
            d[i] = Operation::apply(a[i], form == vv ? extended<W, Operation::b_signed>(b[i]) : scalar);
        });
    });
    return Result::done;
}

template <typename Operation, Form form>
Result widen_accumulate(Op& op) {
    if (!op.widening<form>()) return Result::illegal;
    by_narrow_width(op.unit.sew(), [&]<typename T>() {
        using W = Wider<T>;
        W* const d = op.group<W>(op.vd());
        const T *const a = op.group<T>(op.vs2()), *const b = op.group<T>(op.vs1());
        const W scalar = extended<W, Operation::b_signed>(static_cast<T>(op.rs1()));
        op.each([=](u64 i) {
            const W y = form == vv ? extended<W, Operation::b_signed>(b[i]) : scalar;
            d[i] = static_cast<W>(d[i] + Operation::apply(extended<W, Operation::a_signed>(a[i]), y));
        });
    });
    return Result::done;
}

template <typename Operation, Form form>
Result narrow(Op& op) {
    if (!op.narrowing<form>()) return Result::illegal;
    by_narrow_width(op.unit.sew(), [&]<typename T>() {
        using W = Wider<T>;
        T* const d = op.group<T>(op.vd());
        const W* const a = op.group<W>(op.vs2());
        const T* const b = op.group<T>(op.vs1());
        const W scalar = static_cast<W>(form == vv ? 0 : op.scalar<form>());
        op.each([=](u64 i) {
            d[i] = static_cast<T>(Operation::template apply<W>(a[i], form == vv ? W{b[i]} : scalar));
        });
    });
    return Result::done;
}

// From SEW / factor, which must be a width that there is, with an EMUL that there is (11.3).
template <unsigned factor, bool is_signed>
Result extension(Op& op) {
    constexpr int shift = factor == 2 ? 1 : factor == 4 ? 2 : 3;
    const int lmul = op.unit.lmul(), from = lmul - shift;
    if (!op.ready() || !op.mask_kept() || static_cast<int>(op.unit.sew()) < shift || from < -3) {
        return Result::illegal;
    }
    if (op.vd() == op.vs2() || !Op::aligned(op.vd(), lmul) || !Op::aligned(op.vs2(), from) ||
        Op::overlaps_wider(op.vd(), lmul, op.vs2(), from)) {
        return Result::illegal;
    }
    by_width(op.unit.sew(), [&]<typename T>() {
        if constexpr (sizeof(T) >= factor) {
            using N = std::conditional_t<sizeof(T) / factor == 1, u8,
                                         std::conditional_t<sizeof(T) / factor == 2, u16, u32>>;
            T* const d = op.group<T>(op.vd());
            const N* const a = op.group<N>(op.vs2());
            op.each([=](u64 i) { d[i] = extended<T, is_signed>(a[i]); });
        }
    });
    return Result::done;
}
template <unsigned factor>
Result unsigned_extension(Op& op) {
    return extension<factor, false>(op);
}
template <unsigned factor>
Result signed_extension(Op& op) {
    return extension<factor, true>(op);
}

template <typename Operation>
__attribute__((noinline)) void compare_loop(Op& op) {
    by_width(op.unit.sew(), [&]<typename T>() {
        const T *const a = op.group<T>(op.vs2()), *const b = op.group<T>(op.vs1());
        op.each_bit([=](u64 i) { return Operation::template apply<T>(a[i], b[i]) != 0; });
    });
}
template <typename Operation>
__attribute__((noinline)) void compare_loop(Op& op, u64 scalar) {
    by_width(op.unit.sew(), [&]<typename T>() {
        const T* const a = op.group<T>(op.vs2());
        const T b = static_cast<T>(scalar);
        op.each_bit([=](u64 i) { return Operation::template apply<T>(a[i], b) != 0; });
    });
}
template <typename Operation, Form form>
Result compare(Op& op) {
    if (!op.to_mask<form>()) return Result::illegal;
    if constexpr (form == vv) {
        compare_loop<Operation>(op);
    } else {
        compare_loop<Operation>(op, op.scalar<form>());
    }
    return Result::done;
}

// a + b + c or a - b - c, c a bit; and whether that left the width.
struct AddCarry {
    template <typename T>
    static T apply(T a, T b, bool c) {
        return static_cast<T>(a + b + c);
    }
    template <typename T>
    static bool carries(T a, T b, bool c) {
        const T sum = static_cast<T>(a + b + c);
        return c ? sum <= a : sum < a;
    }
};
struct SubBorrow {
    template <typename T>
    static T apply(T a, T b, bool c) {
        return static_cast<T>(a - b - c);
    }
    template <typename T>
    static bool carries(T a, T b, bool c) {
        return c ? a <= b : a < b;
    }
};

template <typename Operation, Form form>
Result with_carry(Op& op) {
    if (!op.same_width<form>()) return Result::illegal;
    const u8* const carries = op.unit.reg(0);
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        const T *const a = op.group<T>(op.vs2()), *const b = op.group<T>(op.vs1());
        const T scalar = static_cast<T>(form == vv ? 0 : op.scalar<form>());
        for (u64 i = 0; i < op.unit.vl; ++i) {
            d[i] = Operation::template apply<T>(a[i], form == vv ? b[i] : scalar, Op::bit_of(carries, i));
        }
    });
    return Result::done;
}

// The mask operand is a carry, not a mask: every element is active.
template <typename Operation, Form form>
Result carry_out(Op& op) {
    if (!op.to_mask<form>()) return Result::illegal;
    const bool has_carry = op.masked();
    // vd may be v0: an element's carry is read before its byte is written.
    const u8* const carries = op.unit.reg(0);
    Op all{op.hart, op.unit, op.raw | 1u << 25};
    by_width(op.unit.sew(), [&]<typename T>() {
        const T *const a = op.group<T>(op.vs2()), *const b = op.group<T>(op.vs1());
        const T scalar = static_cast<T>(form == vv ? 0 : op.scalar<form>());
        all.each_bit([=](u64 i) {
            return Operation::template carries<T>(a[i], form == vv ? b[i] : scalar,
                                                  has_carry && Op::bit_of(carries, i));
        });
    });
    return Result::done;
}

// vmerge, where the instruction is masked; else vmv.v, whose vs2 is 0.
template <Form form>
Result merge(Op& op) {
    if (!op.same_width<form>()) return Result::illegal;
    const u8* const mask = op.unit.reg(0);
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        const T *const a = op.group<T>(op.vs2()), *const b = op.group<T>(op.vs1());
        const T scalar = static_cast<T>(form == vv ? 0 : op.scalar<form>());
        if (!op.masked()) {
            op.each([=](u64 i) { d[i] = form == vv ? b[i] : scalar; });
            return;
        }
        for (u64 i = 0; i < op.unit.vl; ++i) {
            d[i] = !Op::bit_of(mask, i) ? a[i] : form == vv ? b[i] : scalar;
        }
    });
    return Result::done;
}

}  // namespace

#define VINSN WIRT_VECTOR_FUNCTION
#include "riscv/isa/v_integer.def"
#undef VINSN

}  // namespace wirt::riscv::vector
