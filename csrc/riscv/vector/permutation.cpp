// Vector permutations (V 1.0, chapter 16).
//
// Untrusted input: offsets and indices. What lies at VLMAX or beyond reads as 0.
#include <algorithm>

#include "riscv/vector/float_operations.h"
#include "riscv/vector/op.h"

namespace wirt::riscv::vector {

namespace {

Result move_from_first(Op& op) {
    if (!op.ready()) return Result::illegal;
    by_width(op.unit.sew(), [&]<typename T>() {
        op.set_rd(static_cast<u64>(i64{static_cast<Signed<T>>(op.group<T>(op.vs2())[0])}));
    });
    return Result::done;
}

Result move_to_first(Op& op) {
    if (!op.ready()) return Result::illegal;
    if (op.unit.vl == 0) return Result::done;
    by_width(op.unit.sew(), [&]<typename T>() { op.group<T>(op.vd())[0] = static_cast<T>(op.rs1()); });
    return Result::done;
}

// Destinations that must not be their source need not be looked at for more: groups are aligned.
bool slides(const Op& op, bool apart) {
    return op.same_width<vx>() && !(apart && op.vd() == op.vs2());
}

template <Form form>
Result slide_up(Op& op) {
    if (!slides(op, true)) return Result::illegal;
    const u64 offset = op.scalar<form>();
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        const T* const a = op.group<T>(op.vs2());
        const u64 vl = op.unit.vl;
        if (!op.masked()) {
            if (offset < vl) std::memcpy(d + offset, a, (vl - offset) * sizeof(T));
            return;
        }
        const u8* const mask = op.unit.reg(0);
        for (u64 i = offset; i < vl; ++i) {
            if (Op::bit_of(mask, i)) d[i] = a[i - offset];
        }
    });
    return Result::done;
}

template <Form form>
Result slide_down(Op& op) {
    if (!slides(op, false)) return Result::illegal;
    const u64 offset = op.scalar<form>();
    const u64 vlmax = op.unit.vlmax();
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        const T* const a = op.group<T>(op.vs2());
        // Elements from `inside` on come from beyond the group.
        const u64 inside = offset < vlmax ? vlmax - offset : 0;
        op.each([=](u64 i) { d[i] = i < inside ? a[i + offset] : T{0}; });
    });
    return Result::done;
}

template <typename T>
void slide_one_up(Op& op, T value) {
    T* const d = op.group<T>(op.vd());
    const T* const a = op.group<T>(op.vs2());
    op.each([=](u64 i) { d[i] = i == 0 ? value : a[i - 1]; });
}
template <typename T>
void slide_one_down(Op& op, T value) {
    T* const d = op.group<T>(op.vd());
    const T* const a = op.group<T>(op.vs2());
    const u64 last = op.unit.vl - 1;
    op.each([=](u64 i) { d[i] = i == last ? value : a[i + 1]; });
}

Result slide_one_up(Op& op) {
    if (!slides(op, true)) return Result::illegal;
    by_width(op.unit.sew(), [&]<typename T>() { slide_one_up<T>(op, static_cast<T>(op.rs1())); });
    return Result::done;
}
Result slide_one_down(Op& op) {
    if (!slides(op, false)) return Result::illegal;
    by_width(op.unit.sew(), [&]<typename T>() { slide_one_down<T>(op, static_cast<T>(op.rs1())); });
    return Result::done;
}
Result float_slide_one_up(Op& op) {
    if (!slides(op, true) || !float_ready(op)) return Result::illegal;
    by_float_width(op.unit.sew(), [&]<typename B>() { slide_one_up<B>(op, op.float_rs1<B>()); });
    return Result::done;
}
Result float_slide_one_down(Op& op) {
    if (!slides(op, false) || !float_ready(op)) return Result::illegal;
    by_float_width(op.unit.sew(), [&]<typename B>() { slide_one_down<B>(op, op.float_rs1<B>()); });
    return Result::done;
}

Result gather(Op& op) {
    if (!op.same_width<vv>() || op.vd() == op.vs2() || op.vd() == op.vs1()) return Result::illegal;
    const u64 vlmax = op.unit.vlmax();
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        const T *const a = op.group<T>(op.vs2()), *const index = op.group<T>(op.vs1());
        op.each([=](u64 i) { d[i] = index[i] < vlmax ? a[index[i]] : T{0}; });
    });
    return Result::done;
}

Result gather_indexed_by_16(Op& op) {
    if (!op.same_width<vx>() || op.vd() == op.vs2()) return Result::illegal;
    const int lmul = op.unit.lmul(), emul = 1 - static_cast<int>(op.unit.sew()) + lmul;
    if (emul < -3 || emul > 3 || !Op::aligned(op.vs1(), emul) || Op::overlap(op.vd(), lmul, op.vs1(), emul)) {
        return Result::illegal;
    }
    const u64 vlmax = op.unit.vlmax();
    const u16* const index = op.group<u16>(op.vs1());
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        const T* const a = op.group<T>(op.vs2());
        op.each([=](u64 i) { d[i] = index[i] < vlmax ? a[index[i]] : T{0}; });
    });
    return Result::done;
}

template <Form form>
Result gather_one(Op& op) {
    if (!op.same_width<form>() || op.vd() == op.vs2()) return Result::illegal;
    const u64 index = op.scalar<form>();
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        const T value = index < op.unit.vlmax() ? op.group<T>(op.vs2())[index] : T{0};
        op.each([=](u64 i) { d[i] = value; });
    });
    return Result::done;
}

Result compress(Op& op) {
    const int lmul = op.unit.lmul();
    if (!op.same_width<vx>() || op.vd() == op.vs2() || Op::overlap(op.vd(), lmul, op.vs1(), 0)) {
        return Result::illegal;
    }
    const u8* const chosen = op.unit.reg(op.vs1());
    by_width(op.unit.sew(), [&]<typename T>() {
        T* d = op.group<T>(op.vd());
        const T* const a = op.group<T>(op.vs2());
        for (u64 i = 0; i < op.unit.vl; ++i) {
            if (Op::bit_of(chosen, i)) *d++ = a[i];
        }
    });
    return Result::done;
}

template <unsigned count>
Result move_whole(Op& op) {
    if (!op.ready() || ((op.vd() | op.vs2()) & (count - 1)) != 0) return Result::illegal;
    std::memmove(op.unit.reg(op.vd()), op.unit.reg(op.vs2()), count * op.unit.vlenb());
    return Result::done;
}

}  // namespace

#define VINSN WIRT_VECTOR_FUNCTION
#include "riscv/isa/v_permutation.def"
#undef VINSN

}  // namespace wirt::riscv::vector
