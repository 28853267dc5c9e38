// Loops of integer instructions that several tables share. A scalar operand is a function argument, so that
// the forms with a register and with an immediate are one piece of code.
#pragma once

#include "riscv/vector/integer_operations.h"
#include "riscv/vector/op.h"

namespace wirt::riscv::vector {

template <typename Operation>
__attribute__((noinline)) void binary_loop(Op& op) {
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        const T *const a = op.group<T>(op.vs2()), *const b = op.group<T>(op.vs1());
        op.each([=](u64 i) { d[i] = Operation::template apply<T>(a[i], b[i]); });
    });
}
template <typename Operation>
__attribute__((noinline)) void binary_loop(Op& op, u64 scalar) {
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        const T* const a = op.group<T>(op.vs2());
        const T b = static_cast<T>(scalar);
        op.each([=](u64 i) { d[i] = Operation::template apply<T>(a[i], b); });
    });
}
template <typename Operation, Form form>
Result binary(Op& op) {
    if (!op.same_width<form>()) return Result::illegal;
    if constexpr (form == vv) {
        binary_loop<Operation>(op);
    } else {
        binary_loop<Operation>(op, op.scalar<form>());
    }
    return Result::done;
}

// `value` as W, a type of the same or twice the width.
template <typename W, bool is_signed, typename T>
WIRT_INLINE W extended(T value) {
    if constexpr (is_signed) {
        return static_cast<W>(static_cast<Signed<W>>(static_cast<Signed<T>>(value)));
    } else {
        return static_cast<W>(value);
    }
}

template <typename Operation>
__attribute__((noinline)) void widen_loop(Op& op) {
    by_narrow_width(op.unit.sew(), [&]<typename T>() {
        using W = Wider<T>;
        W* const d = op.group<W>(op.vd());
        const T *const a = op.group<T>(op.vs2()), *const b = op.group<T>(op.vs1());
        op.each([=](u64 i) {
            d[i] = Operation::apply(extended<W, Operation::a_signed>(a[i]),
                                    extended<W, Operation::b_signed>(b[i]));
        });
    });
}
template <typename Operation>
__attribute__((noinline)) void widen_loop(Op& op, u64 scalar) {
    by_narrow_width(op.unit.sew(), [&]<typename T>() {
        using W = Wider<T>;
        W* const d = op.group<W>(op.vd());
        const T* const a = op.group<T>(op.vs2());
        const W b = extended<W, Operation::b_signed>(static_cast<T>(scalar));
        op.each([=](u64 i) { d[i] = Operation::apply(extended<W, Operation::a_signed>(a[i]), b); });
    });
}
template <typename Operation, Form form>
Result widen(Op& op) {
    if (!op.widening<form>()) return Result::illegal;
    if constexpr (form == vv) {
        widen_loop<Operation>(op);
    } else {
        widen_loop<Operation>(op, op.scalar<form>());
    }
    return Result::done;
}

}  // namespace wirt::riscv::vector
