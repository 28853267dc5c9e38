// Vector reductions (V 1.0, chapter 14). Scalars are element 0 of a register, whatever LMUL is. Unordered
// sums are computed in order as well, which is one of the orders that software must expect.
#include "riscv/vector/float_operations.h"
#include "riscv/vector/integer_loops.h"

namespace wirt::riscv::vector {

namespace {

enum Order { unordered, ordered };

bool reducible(const Op& op) {
    return op.ready() && Op::aligned(op.vs2(), op.unit.lmul());
}

// Nothing is written where vl is 0.
template <typename Operation>
Result reduce(Op& op) {
    if (!reducible(op)) return Result::illegal;
    if (op.unit.vl == 0) return Result::done;
    by_width(op.unit.sew(), [&]<typename T>() {
        const T* const a = op.group<T>(op.vs2());
        T value = op.group<T>(op.vs1())[0];
        op.each([&](u64 i) { value = Operation::template apply<T>(value, a[i]); });
        op.group<T>(op.vd())[0] = value;
    });
    return Result::done;
}

template <bool is_signed>
Result reduce_widening(Op& op) {
    if (!reducible(op) || op.unit.sew() > 2) return Result::illegal;
    if (op.unit.vl == 0) return Result::done;
    by_narrow_width(op.unit.sew(), [&]<typename T>() {
        using W = Wider<T>;
        const T* const a = op.group<T>(op.vs2());
        W value = op.group<W>(op.vs1())[0];
        op.each([&](u64 i) { value = static_cast<W>(value + extended<W, is_signed>(a[i])); });
        op.group<W>(op.vd())[0] = value;
    });
    return Result::done;
}

// An unordered sum may add an identity to what it starts from, which makes a NaN canonical (14.3).
template <typename B>
B started(B value, bool any, Order order, Arithmetic& arithmetic) {
    if (order == ordered || any || !fp::is_nan(value)) return value;
    if (fp::is_signaling_nan(value)) arithmetic.flags |= fp::NV;
    return fp::Format<B>::canonical_nan;
}

template <typename Operation, Order order>
Result float_reduce(Op& op) {
    if (!reducible(op) || !float_ready(op)) return Result::illegal;
    if (op.unit.vl == 0) return Result::done;
    Arithmetic arithmetic(op);
    by_float_width(op.unit.sew(), [&]<typename B>() {
        const B* const a = op.group<B>(op.vs2());
        B value = op.group<B>(op.vs1())[0];
        bool any = false;
        op.each([&](u64 i) {
            any = true;
            value = Operation::template apply<B>(value, a[i], arithmetic);
        });
        op.group<B>(op.vd())[0] =
            std::is_same_v<Operation, FAdd> ? started<B>(value, any, order, arithmetic) : value;
    });
    op.accrue(arithmetic.flags);
    return Result::done;
}

template <Order order>
Result float_reduce_widening(Op& op) {
    if (!reducible(op) || !float_ready(op) || op.unit.sew() > 2) return Result::illegal;
    if (op.unit.vl == 0) return Result::done;
    Arithmetic arithmetic(op);
    by_narrow_float_width(op.unit.sew(), [&]<typename B>() {
        using W = Wider<B>;
        const B* const a = op.group<B>(op.vs2());
        W value = op.group<W>(op.vs1())[0];
        bool any = false;
        op.each([&](u64 i) {
            any = true;
            value = FAdd::apply<W>(value, to_wider(a[i], arithmetic), arithmetic);
        });
        op.group<W>(op.vd())[0] = started<W>(value, any, order, arithmetic);
    });
    op.accrue(arithmetic.flags);
    return Result::done;
}

}  // namespace

#define VINSN WIRT_VECTOR_FUNCTION
#include "riscv/isa/v_reduction.def"
#undef VINSN

}  // namespace wirt::riscv::vector
