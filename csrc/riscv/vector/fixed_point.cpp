// Vector fixed-point arithmetic (V 1.0, chapter 12): saturation, which is noted in vxsat, and rounding by
// vxrm.
#include <limits>

#include "riscv/vector/integer_operations.h"
#include "riscv/vector/op.h"

namespace wirt::riscv::vector {

namespace {

// value / 2^shift, rounded as vxrm says (3.8): to nearest with ties up, to nearest with ties to even, down,
// or to odd.
template <typename V>
V rounded_shift(V value, unsigned shift, u8 vxrm) {
    if (shift == 0) return value;
    const V kept = static_cast<V>(value >> shift);
    const V dropped = static_cast<V>(value & ((V{1} << shift) - 1));
    const V half = static_cast<V>(V{1} << (shift - 1));
    bool up = false;
    switch (vxrm) {
        case 0:
            up = (dropped & half) != 0;
            break;
        case 1:
            up = (dropped & half) != 0 && ((dropped & (half - 1)) != 0 || (kept & 1) != 0);
            break;
        case 2:
            break;
        default:
            up = dropped != 0 && (kept & 1) == 0;
            break;
    }
    return static_cast<V>(kept + V{up});
}

struct Rounding {
    u8 vxrm;
    bool saturated;

    template <typename T, typename V>
    T clip(V value) {
        using L = std::numeric_limits<T>;
        if (value < V{L::min()} || value > V{L::max()}) {
            saturated = true;
            return value < 0 ? L::min() : L::max();
        }
        return static_cast<T>(value);
    }
};

// `a` of vs2, `b` the other operand; `r` rounds and notes saturation.
#define WIRT_FIXED(Name, expression)                          \
    struct Name {                                             \
        template <typename T>                                 \
        static T apply(T a, T b, Rounding& r) {               \
            using S [[maybe_unused]] = std::make_signed_t<T>; \
            using V [[maybe_unused]] = Exact<T>;              \
            return static_cast<T>(expression);                \
        }                                                     \
    };
#define SIGNED(value)         \
    V {                       \
        static_cast<S>(value) \
    }
WIRT_FIXED(SatAddU, r.clip<T>(V{a} + V{b}))
WIRT_FIXED(SatAdd, r.clip<S>(SIGNED(a) + SIGNED(b)))
WIRT_FIXED(SatSubU, r.clip<T>(V{a} - V{b}))
WIRT_FIXED(SatSub, r.clip<S>(SIGNED(a) - SIGNED(b)))
WIRT_FIXED(AvgAddU, rounded_shift<V>(V{a} + V{b}, 1, r.vxrm))
WIRT_FIXED(AvgAdd, rounded_shift<V>(SIGNED(a) + SIGNED(b), 1, r.vxrm))
WIRT_FIXED(AvgSubU, rounded_shift<V>(V{a} - V{b}, 1, r.vxrm))
WIRT_FIXED(AvgSub, rounded_shift<V>(SIGNED(a) - SIGNED(b), 1, r.vxrm))
WIRT_FIXED(FractionalMul, r.clip<S>(rounded_shift<V>(SIGNED(a) * SIGNED(b), width_of<T> - 1, r.vxrm)))
WIRT_FIXED(ScalingShift, rounded_shift<T>(a, b&(width_of<T> - 1), r.vxrm))
WIRT_FIXED(ScalingShiftSigned, rounded_shift<V>(SIGNED(a), b&(width_of<T> - 1), r.vxrm))
#undef SIGNED
#undef WIRT_FIXED

template <typename Operation, Form form>
Result binary_fixed(Op& op) {
    if (!op.same_width<form>()) return Result::illegal;
    Rounding rounding{op.unit.vxrm, false};
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        const T *const a = op.group<T>(op.vs2()), *const b = op.group<T>(op.vs1());
        const T scalar = static_cast<T>(form == vv ? 0 : op.scalar<form>());
        op.each(
            [&](u64 i) { d[i] = Operation::template apply<T>(a[i], form == vv ? b[i] : scalar, rounding); });
    });
    op.unit.vxsat |= rounding.saturated;
    return Result::done;
}

// From W to the narrower T, shifted and rounded.
struct ClipU {
    template <typename T, typename W>
    static T apply(W a, unsigned shift, Rounding& r) {
        return r.clip<T>(Exact<W>{rounded_shift<W>(a, shift, r.vxrm)});
    }
};
struct Clip {
    template <typename T, typename W>
    static T apply(W a, unsigned shift, Rounding& r) {
        const Exact<W> value = rounded_shift<Exact<W>>(static_cast<std::make_signed_t<W>>(a), shift, r.vxrm);
        return static_cast<T>(r.clip<std::make_signed_t<T>>(value));
    }
};

template <typename Operation, Form form>
Result clip(Op& op) {
    if (!op.narrowing<form>()) return Result::illegal;
    Rounding rounding{op.unit.vxrm, false};
    by_narrow_width(op.unit.sew(), [&]<typename T>() {
        using W = Wider<T>;
        T* const d = op.group<T>(op.vd());
        const W* const a = op.group<W>(op.vs2());
        const T* const b = op.group<T>(op.vs1());
        const u64 scalar = form == vv ? 0 : op.scalar<form>();
        op.each([&](u64 i) {
            const unsigned shift = static_cast<unsigned>((form == vv ? b[i] : scalar) & (width_of<W> - 1));
            d[i] = Operation::template apply<T, W>(a[i], shift, rounding);
        });
    });
    op.unit.vxsat |= rounding.saturated;
    return Result::done;
}

}  // namespace

#define VINSN WIRT_VECTOR_FUNCTION
#include "riscv/isa/v_fixed.def"
#undef VINSN

}  // namespace wirt::riscv::vector
