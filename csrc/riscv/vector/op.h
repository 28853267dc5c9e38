// One vector instruction being executed: its operands, what it may touch of the hart, the checks of its
// encoding against vtype, and the loops over its elements.
//
// Untrusted input: the encoding, and with it every register number. A function checks before it touches a
// register; vl never exceeds VLMAX, so that an aligned group that ends within the file holds all elements.
#pragma once

#include <cstring>
#include <optional>
#include <type_traits>

#include "base/bits.h"
#include "riscv/hart.h"
#include "riscv/softfloat.h"
#include "riscv/vector/unit.h"

// Iterations do not depend on each other but where a destination lies over its own source, and then an
// iteration writes only what earlier ones have read (3.2: permitted overlaps).
#if defined(__clang__)
#define WIRT_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define WIRT_INDEPENDENT _Pragma("GCC ivdep")
#endif
#define WIRT_INLINE __attribute__((always_inline)) inline

namespace wirt::riscv::vector {

enum class Result : u8 { done, illegal, fault /* the hart's fault_ says which */ };

// Where the second operand comes from: a register group, an integer register, a signed or unsigned immediate,
// a floating-point register, the first element group of a register.
enum Form : u8 { vv, vx, vi, vu, vf, vs };

struct Op {
    Hart& hart;
    Unit& unit;
    const u32 raw;

    unsigned vd() const { return bits(raw, 7, 5); }
    unsigned vs1() const { return bits(raw, 15, 5); }
    unsigned vs2() const { return bits(raw, 20, 5); }
    bool masked() const { return !bit(raw, 25); }

    // --- the hart ---
    u64 x(unsigned number) const { return hart.x_[number]; }
    u64 rs1() const { return x(vs1()); }
    u64 rs2() const { return x(vs2()); }
    void set_rd(u64 value) { hart.x_[vd() == 0 ? 32 : vd()] = value; }
    u64 uimm() const { return vs1(); }
    u64 simm() const { return static_cast<u64>(sign_extend(vs1(), 5)); }
    template <Form form>
    u64 scalar() const {
        return form == vx ? rs1() : form == vi ? simm() : uimm();
    }
    // A value that is not NaN-boxed reads as the canonical NaN.
    template <fp::Pattern B>
    B float_rs1() const {
        const u64 value = hart.f_[vs1()];
        if constexpr (sizeof(B) == 8) {
            return value;
        } else {
            constexpr u64 box = ~u64{0} << (8 * sizeof(B));
            return (value & box) == box ? static_cast<B>(value) : fp::Format<B>::canonical_nan;
        }
    }
    void set_float_rd(u64 boxed) {
        hart.f_[vd()] = boxed;
        hart.mark_float_dirty();
    }
    bool float_enabled() const { return hart.float_state_ != 0; }
    u8 frm() const { return hart.frm_; }
    bool float_fast() const { return hart.float_fast_; }
    void accrue(u8 flags) {
        if (flags == 0) return;
        hart.fflags_ |= flags;
        hart.mark_float_dirty();
        hart.update_float_mode();
    }

    // Host memory of `address` where the TLB has its page; null is a reason to take load() or store().
    const u8* load_host(u64 address) const {
        const TlbEntry& entry = hart.data_set_->load[TlbSet::data_index(address)];
        return entry.tag == (address & ~page_mask) ? reinterpret_cast<const u8*>(address + entry.addend)
                                                   : nullptr;
    }
    u8* store_host(u64 address) const {
        const TlbEntry& entry = hart.data_set_->store[TlbSet::data_index(address)];
        return entry.tag == (address & ~page_mask) ? reinterpret_cast<u8*>(address + entry.addend) : nullptr;
    }
    bool load(u64 address, unsigned size, u64& value) { return hart.load_any(address, size, value); }
    bool store(u64 address, unsigned size, u64 value) { return hart.store_any(address, size, value); }

    // --- registers ---
    template <typename T>
    T* group(unsigned number) const {
        return reinterpret_cast<T*>(unit.reg(number));
    }
    static bool bit_of(const u8* mask, u64 i) { return (mask[i / 8] >> (i % 8)) & 1; }

    // --- checks; EMUL is given by its logarithm ---
    static constexpr unsigned registers(int emul) { return emul <= 0 ? 1 : 1u << emul; }
    static constexpr bool aligned(unsigned reg, int emul) { return (reg & (registers(emul) - 1)) == 0; }
    static constexpr bool overlap(unsigned a, int a_emul, unsigned b, int b_emul) {
        return a < b + registers(b_emul) && b < a + registers(a_emul);
    }
    // A wider destination `a` may lie over source `b` where b is its highest part and at least a register
    // (5.2).
    static constexpr bool overlaps_wider(unsigned a, int a_emul, unsigned b, int b_emul) {
        if (!overlap(a, a_emul, b, b_emul)) return false;
        return b_emul < 0 || b + registers(b_emul) != a + registers(a_emul) || a >= b;
    }
    // A masked instruction must not write v0, but where it writes a mask or a scalar (5.3).
    bool mask_kept() const { return !masked() || vd() != 0; }
    // vtype is legal. Only loads and stores leave a vstart other than 0 behind here, so that arithmetic with
    // one is illegal (3.7).
    bool ready() const { return !unit.illegal_type() && unit.vstart == 0; }
    template <Form form>
    bool same_width() const {
        const int lmul = unit.lmul();
        return ready() && mask_kept() && aligned(vd(), lmul) && aligned(vs2(), lmul) &&
               (form != vv || aligned(vs1(), lmul));
    }
    // vd has twice the width of the sources.
    template <Form form>
    bool widening() const {
        const int lmul = unit.lmul();
        if (!ready() || !mask_kept() || unit.sew() > 2 || lmul > 2) return false;
        if (!aligned(vd(), lmul + 1) || !aligned(vs2(), lmul)) return false;
        if (overlaps_wider(vd(), lmul + 1, vs2(), lmul)) return false;
        return form != vv || (aligned(vs1(), lmul) && !overlaps_wider(vd(), lmul + 1, vs1(), lmul));
    }
    // vd and vs2 have twice the width of vs1.
    template <Form form>
    bool widening_wide() const {
        const int lmul = unit.lmul();
        if (!ready() || !mask_kept() || unit.sew() > 2 || lmul > 2) return false;
        if (!aligned(vd(), lmul + 1) || !aligned(vs2(), lmul + 1)) return false;
        return form != vv || (aligned(vs1(), lmul) && !overlaps_wider(vd(), lmul + 1, vs1(), lmul));
    }
    // vs2 has twice the width of vd and vs1. A narrower destination may be the lowest part of its source.
    template <Form form>
    bool narrowing() const {
        const int lmul = unit.lmul();
        if (!ready() || !mask_kept() || unit.sew() > 2 || lmul > 2) return false;
        if (!aligned(vd(), lmul) || !aligned(vs2(), lmul + 1)) return false;
        if (vd() != vs2() && overlap(vd(), lmul, vs2(), lmul + 1)) return false;
        return form != vv || aligned(vs1(), lmul);
    }
    // vd is a mask. It may be one register of a source: the lowest.
    template <Form form>
    bool to_mask() const {
        const int lmul = unit.lmul();
        if (!ready() || !aligned(vs2(), lmul)) return false;
        if (vd() != vs2() && overlap(vd(), 0, vs2(), lmul)) return false;
        return form != vv || (aligned(vs1(), lmul) && (vd() == vs1() || !overlap(vd(), 0, vs1(), lmul)));
    }

    // --- loops ---
    // body(i) for each active element.
    template <typename Body>
    WIRT_INLINE void each(Body&& body) const {
        const u64 vl = unit.vl;
        if (!masked()) {
            WIRT_INDEPENDENT
            for (u64 i = 0; i < vl; ++i) body(i);
        } else {
            const u8* const mask = unit.reg(0);
            for (u64 i = 0; i < vl; ++i) {
                if (bit_of(mask, i)) body(i);
            }
        }
    }
    // Writes the bit test(i) of vd for each active element. vd may lie over the mask or a source: eight
    // elements are read before their byte is written, which is none of a later element.
    template <typename Test>
    WIRT_INLINE void each_bit(Test&& test) const {
        const u64 vl = unit.vl;
        u8* const d = unit.reg(vd());
        const u8* const mask = unit.reg(0);
        for (u64 base = 0; base < vl; base += 8) {
            const unsigned count = static_cast<unsigned>(vl - base < 8 ? vl - base : 8);
            unsigned set = 0;
            for (unsigned k = 0; k < count; ++k) set |= static_cast<unsigned>(test(base + k)) << k;
            unsigned active = (1u << count) - 1;
            if (masked()) active &= mask[base / 8];
            d[base / 8] = static_cast<u8>((d[base / 8] & ~active) | (set & active));
        }
    }
};

// Calls body.template operator()<T>() with that of the types, narrowest first, which is SEW wide; the last
// for any other.
template <typename T, typename... Wider, typename Body>
WIRT_INLINE void by_type(unsigned sew, Body&& body) {
    if constexpr (sizeof...(Wider) == 0) {
        body.template operator()<T>();
    } else if (sizeof(T) == std::size_t{1} << sew) {
        body.template operator()<T>();
    } else {
        by_type<Wider...>(sew, body);
    }
}
template <typename Body>
WIRT_INLINE void by_width(unsigned sew, Body&& body) {
    by_type<u8, u16, u32, u64>(sew, body);
}
// For the narrower width of an instruction that has two.
template <typename Body>
WIRT_INLINE void by_narrow_width(unsigned sew, Body&& body) {
    by_type<u8, u16, u32>(sew, body);
}

template <typename T>
struct WiderOf;
template <>
struct WiderOf<u8> {
    using type = u16;
};
template <>
struct WiderOf<u16> {
    using type = u32;
};
template <>
struct WiderOf<u32> {
    using type = u64;
};
template <>
struct WiderOf<u64> {
    using type = u128;
};
template <typename T>
using Wider = typename WiderOf<T>::type;

template <typename T>
struct SignedOf {
    using type = std::make_signed_t<T>;
};
template <>
struct SignedOf<u128> {
    using type = i128;
};
template <typename T>
using Signed = typename SignedOf<T>::type;

using Function = Result (*)(Op&);

// Those of the tables, by Opcode.
#define EXTENSION(name)
#define INSN(id, ...)
#define VINSN(id, ...) Result execute_##id(Op& op);
#include "riscv/isa/all.def"
#undef VINSN
#undef INSN
#undef EXTENSION

}  // namespace wirt::riscv::vector

// In the file that has the semantics of a table: `VINSN` makes each line a function.
#define WIRT_VECTOR_FUNCTION(id, name, mask, match, format, ...) \
    Result execute_##id(Op& op) {                                \
        return __VA_ARGS__(op);                                  \
    }
