// Vector mask instructions (V 1.0, chapter 15).
#include <algorithm>
#include <bit>

#include "riscv/vector/op.h"

namespace wirt::riscv::vector {

namespace {

#define WIRT_MASK(Name, expression)                                                     \
    struct Name {                                                                       \
        static u8 apply(unsigned a, unsigned b) { return static_cast<u8>(expression); } \
    };
WIRT_MASK(MaskAnd, a& b)
WIRT_MASK(MaskNand, ~(a& b))
WIRT_MASK(MaskAndNot, a & ~b)
WIRT_MASK(MaskXor, a ^ b)
WIRT_MASK(MaskOr, a | b)
WIRT_MASK(MaskNor, ~(a | b))
WIRT_MASK(MaskOrNot, a | ~b)
WIRT_MASK(MaskXnor, ~(a ^ b))
#undef WIRT_MASK

template <typename Operation>
Result mask_logical(Op& op) {
    if (!op.ready()) return Result::illegal;
    u8* const d = op.unit.reg(op.vd());
    const u8 *const a = op.unit.reg(op.vs2()), *const b = op.unit.reg(op.vs1());
    const u64 whole = op.unit.vl / 8;
    WIRT_INDEPENDENT
    for (u64 i = 0; i < whole; ++i) d[i] = Operation::apply(a[i], b[i]);
    if (const unsigned rest = op.unit.vl % 8; rest != 0) {
        const unsigned body = (1u << rest) - 1;
        d[whole] = static_cast<u8>((d[whole] & ~body) | (Operation::apply(a[whole], b[whole]) & body));
    }
    return Result::done;
}

// Eight bits of vs2, of those that are active and belong to the body.
unsigned active_bits(const Op& op, u64 byte) {
    unsigned value = op.unit.reg(op.vs2())[byte];
    if (op.masked()) value &= op.unit.reg(0)[byte];
    const u64 left = op.unit.vl - 8 * byte;
    return left < 8 ? value & ((1u << left) - 1) : value;
}

Result count_population(Op& op) {
    if (!op.ready()) return Result::illegal;
    u64 count = 0;
    for (u64 byte = 0; 8 * byte < op.unit.vl; ++byte) count += std::popcount(active_bits(op, byte));
    op.set_rd(count);
    return Result::done;
}

// The index of the first active element that is set; -1 where there is none.
u64 first_set(const Op& op) {
    for (u64 byte = 0; 8 * byte < op.unit.vl; ++byte) {
        if (const unsigned value = active_bits(op, byte); value != 0)
            return 8 * byte + std::countr_zero(value);
    }
    return ~u64{0};
}

Result find_first(Op& op) {
    if (!op.ready()) return Result::illegal;
    op.set_rd(first_set(op));
    return Result::done;
}

// Sets the bits before the first one, that one, or both.
template <bool before, bool itself>
Result set_first(Op& op) {
    if (!op.ready() || !op.mask_kept() || op.vd() == op.vs2()) return Result::illegal;
    const u64 first = first_set(op);
    op.each_bit([=](u64 i) { return i == first ? itself : before && i < first; });
    return Result::done;
}

Result iota(Op& op) {
    const int lmul = op.unit.lmul();
    if (!op.ready() || !op.mask_kept() || !Op::aligned(op.vd(), lmul) ||
        Op::overlap(op.vd(), lmul, op.vs2(), 0)) {
        return Result::illegal;
    }
    const u8* const a = op.unit.reg(op.vs2());
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        T count = 0;
        op.each([&](u64 i) {
            d[i] = count;
            count = static_cast<T>(count + Op::bit_of(a, i));
        });
    });
    return Result::done;
}

Result element_index(Op& op) {
    if (!op.ready() || !op.mask_kept() || !Op::aligned(op.vd(), op.unit.lmul())) return Result::illegal;
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        op.each([=](u64 i) { d[i] = static_cast<T>(i); });
    });
    return Result::done;
}

}  // namespace

#define VINSN WIRT_VECTOR_FUNCTION
#include "riscv/isa/v_mask.def"
#undef VINSN

}  // namespace wirt::riscv::vector
