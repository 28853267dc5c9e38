// Vector conversions between floating point and integers, and between formats (V 1.0, 13.17 to 13.19).
#include "riscv/vector/float_operations.h"

namespace wirt::riscv::vector {

namespace {

enum Sign { as_unsigned, as_signed };
// The width of the result beside that of the operand.
enum Width { same, wider, narrower };

template <unsigned bytes>
using Bits =
    std::conditional_t<bytes == 1, u8,
                       std::conditional_t<bytes == 2, u16, std::conditional_t<bytes == 4, u32, u64>>>;

template <Width width>
bool shaped(const Op& op) {
    return width == same ? op.same_width<vf>() : width == wider ? op.widening<vf>() : op.narrowing<vf>();
}

// Calls body.operator()<From, To>() with the sizes in bytes that SEW means; `sew` is that of the narrower.
template <Width width, typename Body>
void by_sizes(unsigned sew, Body&& body) {
    const auto call = [&]<unsigned size>() {
        if constexpr (width == same) {
            body.template operator()<size, size>();
        } else if constexpr (width == wider) {
            body.template operator()<size, 2 * size>();
        } else {
            body.template operator()<2 * size, size>();
        }
    };
    switch (sew) {
        case 0:
            call.template operator()<1>();
            break;
        case 1:
            call.template operator()<2>();
            break;
        case 2:
            call.template operator()<4>();
            break;
        default:
            if constexpr (width == same) call.template operator()<8>();
            break;
    }
}

// Whether there is arithmetic in a format of so many bytes.
bool has_format(const Op& op, unsigned bytes) {
    return bytes >= 4 || (bytes == 2 && op.unit.half() == HalfPrecision::full);
}

template <Width width>
unsigned operand_bytes(const Op& op) {
    return (width == narrower ? 2u : 1u) << op.unit.sew();
}
template <Width width>
unsigned result_bytes(const Op& op) {
    return (width == wider ? 2u : 1u) << op.unit.sew();
}

template <Sign sign, Width width, bool towards_zero = false>
Result to_integer(Op& op) {
    if (!shaped<width>(op) || !float_usable(op) || !has_format(op, operand_bytes<width>(op))) {
        return Result::illegal;
    }
    Arithmetic m(op);
    const fp::Rounding rm = towards_zero ? fp::rtz : m.rm;
    by_sizes<width>(op.unit.sew(), [&]<unsigned from, unsigned to>() {
        if constexpr (from > 1) {
            using I = std::conditional_t<sign == as_signed, std::make_signed_t<Bits<to>>, Bits<to>>;
            Bits<to>* const d = op.group<Bits<to>>(op.vd());
            const Bits<from>* const a = op.group<Bits<from>>(op.vs2());
            op.each([&](u64 i) { d[i] = static_cast<Bits<to>>(fp::to_integer<I>(a[i], rm, m.flags)); });
        }
    });
    op.accrue(m.flags);
    return Result::done;
}

template <Sign sign, Width width>
Result from_integer(Op& op) {
    if (!shaped<width>(op) || !float_usable(op) || !has_format(op, result_bytes<width>(op))) {
        return Result::illegal;
    }
    Arithmetic m(op);
    by_sizes<width>(op.unit.sew(), [&]<unsigned from, unsigned to>() {
        if constexpr (to > 1) {
            Bits<to>* const d = op.group<Bits<to>>(op.vd());
            const Bits<from>* const a = op.group<Bits<from>>(op.vs2());
            op.each([&](u64 i) {
                if constexpr (sign == as_signed) {
                    const i64 value = static_cast<std::make_signed_t<Bits<from>>>(a[i]);
                    d[i] = fp::from_signed<Bits<to>>(value, m.rm, m.flags);
                } else {
                    d[i] = fp::from_unsigned<Bits<to>>(a[i], m.rm, m.flags);
                }
            });
        }
    });
    op.accrue(m.flags);
    return Result::done;
}

// Between formats: from and to binary16 these are all that Zvfhmin has.
bool between_formats(const Op& op) {
    return op.unit.sew() == 2 || (op.unit.sew() == 1 && op.unit.half() != HalfPrecision::none);
}

Result float_to_wider(Op& op) {
    if (!op.widening<vf>() || !float_usable(op) || !between_formats(op)) return Result::illegal;
    Arithmetic m(op);
    by_narrow_float_width(op.unit.sew(), [&]<typename B>() {
        using W = Wider<B>;
        W* const d = op.group<W>(op.vd());
        const B* const a = op.group<B>(op.vs2());
        op.each([&](u64 i) { d[i] = to_wider(a[i], m); });
    });
    op.accrue(m.flags);
    return Result::done;
}

u16 to_narrower(u32 value, fp::Rounding rm, u8& flags) {
    return fp::f32_to_f16(value, rm, flags);
}
u32 to_narrower(u64 value, fp::Rounding rm, u8& flags) {
    return fp::f64_to_f32(value, rm, flags);
}

// To odd: cut off, and where something was lost the last bit set (13.19). What overflows is the largest
// number.
template <bool to_odd>
Result float_to_narrower(Op& op) {
    if (!op.narrowing<vf>() || !float_usable(op) || !between_formats(op)) return Result::illegal;
    if (to_odd && !has_format(op, result_bytes<narrower>(op))) return Result::illegal;
    Arithmetic m(op);
    by_narrow_float_width(op.unit.sew(), [&]<typename B>() {
        using W = Wider<B>;
        B* const d = op.group<B>(op.vd());
        const W* const a = op.group<W>(op.vs2());
        op.each([&](u64 i) {
            u8 flags = 0;
            B value = to_narrower(a[i], to_odd ? fp::rtz : m.rm, flags);
            if (to_odd && (flags & fp::NX) != 0) value |= 1;
            d[i] = value;
            m.flags |= flags;
        });
    });
    op.accrue(m.flags);
    return Result::done;
}

}  // namespace

#define VINSN WIRT_VECTOR_FUNCTION
#include "riscv/isa/v_conversion.def"
#undef VINSN

}  // namespace wirt::riscv::vector
