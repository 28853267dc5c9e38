// Loads and stores (V 1.0, chapter 7).
//
// Untrusted input: addresses, strides and indices, which may lead anywhere. What the TLB holds is copied by
// pages, or by elements; everything else goes element by element through the hart's slow path. vstart names
// the element before each access that may trap or that a device answers: the instruction can go on from
// there.
#include <algorithm>
#include <bit>
#include <optional>

#include "riscv/vector/op.h"

namespace wirt::riscv::vector {

namespace {

// The register groups of a segment's fields; an access that is none of segments has one.
struct Fields {
    unsigned first;  // register
    unsigned step;   // registers a field
    unsigned count;
};

template <typename T>
WIRT_INLINE bool load_element(Op& op, u64 i, u64 address, T* to) {
    const u8* const host = op.load_host(address);
    if (host != nullptr && (address & page_mask) + sizeof(T) <= page_size) {
        std::memcpy(to, host, sizeof(T));
        return true;
    }
    op.unit.vstart = i;
    u64 value;
    if (!op.load(address, sizeof(T), value)) return false;
    *to = static_cast<T>(value);
    return true;
}

template <typename T>
WIRT_INLINE bool store_element(Op& op, u64 i, u64 address, const T* from) {
    u8* const host = op.store_host(address);
    if (host != nullptr && (address & page_mask) + sizeof(T) <= page_size) {
        std::memcpy(host, from, sizeof(T));
        return true;
    }
    op.unit.vstart = i;
    return op.store(address, sizeof(T), *from);
}

// `count` elements from vstart on that lie one behind the other on both sides.
template <typename T>
Result load_run(Op& op, u64 base, u64 count) {
    T* const to = op.group<T>(op.vd());
    for (u64 i = op.unit.vstart; i < count;) {
        const u64 address = base + i * sizeof(T);
        const u64 fit = std::min<u64>(count - i, (page_size - (address & page_mask)) / sizeof(T));
        const u8* const host = op.load_host(address);
        if (host != nullptr && fit != 0) {
            std::memcpy(to + i, host, fit * sizeof(T));
            i += fit;
        } else if (load_element(op, i, address, to + i)) {
            ++i;
        } else {
            return Result::fault;
        }
    }
    return Result::done;
}

template <typename T>
Result store_run(Op& op, u64 base, u64 count) {
    const T* const from = op.group<T>(op.vd());
    for (u64 i = op.unit.vstart; i < count;) {
        const u64 address = base + i * sizeof(T);
        const u64 fit = std::min<u64>(count - i, (page_size - (address & page_mask)) / sizeof(T));
        u8* const host = op.store_host(address);
        if (host != nullptr && fit != 0) {
            std::memcpy(host, from + i, fit * sizeof(T));
            i += fit;
        } else if (store_element(op, i, address, from + i)) {
            ++i;
        } else {
            return Result::fault;
        }
    }
    return Result::done;
}

// address(i) is that of a segment, whose fields follow one another.
template <typename T, typename Address>
WIRT_INLINE Result load_segments(Op& op, const Fields& fields, Address&& address) {
    const u8* const mask = op.unit.reg(0);
    for (u64 i = op.unit.vstart; i < op.unit.vl; ++i) {
        if (op.masked() && !Op::bit_of(mask, i)) continue;
        const u64 start = address(i);
        for (unsigned f = 0; f < fields.count; ++f) {
            T* const to = op.group<T>(fields.first + f * fields.step) + i;
            if (!load_element(op, i, start + f * sizeof(T), to)) return Result::fault;
        }
    }
    return Result::done;
}

template <typename T, typename Address>
WIRT_INLINE Result store_segments(Op& op, const Fields& fields, Address&& address) {
    const u8* const mask = op.unit.reg(0);
    for (u64 i = op.unit.vstart; i < op.unit.vl; ++i) {
        if (op.masked() && !Op::bit_of(mask, i)) continue;
        const u64 start = address(i);
        for (unsigned f = 0; f < fields.count; ++f) {
            const T* const from = op.group<T>(fields.first + f * fields.step) + i;
            if (!store_element(op, i, start + f * sizeof(T), from)) return Result::fault;
        }
    }
    return Result::done;
}

// --- checks ---

// EMUL of elements of the instruction's own width: EEW / SEW * LMUL, from 1/8 to 8 (7.3).
template <typename T>
int emul_of(const Op& op) {
    return std::countr_zero(sizeof(T)) - static_cast<int>(op.unit.sew()) + op.unit.lmul();
}

// The groups of a segment's fields take at most eight registers and end within the file (7.8).
std::optional<Fields> fields_of(const Op& op, int emul, unsigned count) {
    const unsigned step = Op::registers(emul);
    if (emul < -3 || emul > 3 || !Op::aligned(op.vd(), emul) || step * count > 8 ||
        op.vd() + step * count > 32) {
        return std::nullopt;
    }
    return Fields{op.vd(), step, count};
}

template <typename T, unsigned nf>
std::optional<Fields> plain_fields(const Op& op, bool loads) {
    if (op.unit.illegal_type() || (loads && !op.mask_kept())) return std::nullopt;
    return fields_of(op, emul_of<T>(op), nf);
}

// Data have SEW and LMUL, indices the width of the instruction (7.3).
template <typename Index, unsigned nf>
std::optional<Fields> indexed_fields(const Op& op, bool loads) {
    if (op.unit.illegal_type() || (loads && !op.mask_kept())) return std::nullopt;
    const int emul = emul_of<Index>(op), lmul = op.unit.lmul();
    if (emul < -3 || emul > 3 || !Op::aligned(op.vs2(), emul)) return std::nullopt;
    const auto fields = fields_of(op, lmul, nf);
    if (!fields || !loads) return fields;
    for (unsigned f = 0; f < nf; ++f) {
        const unsigned vd = fields->first + f * fields->step;
        // A segment's destination must not lie over the indices at all (7.8.3); another one as for any
        // instruction with two widths (5.2).
        const unsigned index_width = sizeof(Index), width = 1u << op.unit.sew();
        if (nf > 1                ? Op::overlap(vd, lmul, op.vs2(), emul)
            : index_width > width ? vd != op.vs2() && Op::overlap(vd, lmul, op.vs2(), emul)
                                  : index_width < width && Op::overlaps_wider(vd, lmul, op.vs2(), emul)) {
            return std::nullopt;
        }
    }
    return fields;
}

// --- instructions ---

template <typename T, unsigned nf>
Result load_unit(Op& op) {
    const auto fields = plain_fields<T, nf>(op, true);
    if (!fields) return Result::illegal;
    const u64 base = op.rs1();
    if (nf == 1 && !op.masked()) return load_run<T>(op, base, op.unit.vl);
    return load_segments<T>(op, *fields, [&](u64 i) { return base + i * nf * sizeof(T); });
}

template <typename T, unsigned nf>
Result store_unit(Op& op) {
    const auto fields = plain_fields<T, nf>(op, false);
    if (!fields) return Result::illegal;
    const u64 base = op.rs1();
    if (nf == 1 && !op.masked()) return store_run<T>(op, base, op.unit.vl);
    return store_segments<T>(op, *fields, [&](u64 i) { return base + i * nf * sizeof(T); });
}

// Only element 0 traps; where a later one would, vl ends before it (7.7).
template <typename T, unsigned nf>
Result load_fault_first(Op& op) {
    const Result result = load_unit<T, nf>(op);
    if (result != Result::fault || op.unit.vstart == 0) return result;
    op.unit.vl = op.unit.vstart;
    return Result::done;
}

template <typename T, unsigned nf>
Result load_strided(Op& op) {
    const auto fields = plain_fields<T, nf>(op, true);
    if (!fields) return Result::illegal;
    const u64 base = op.rs1(), stride = op.rs2();
    return load_segments<T>(op, *fields, [&](u64 i) { return base + i * stride; });
}

template <typename T, unsigned nf>
Result store_strided(Op& op) {
    const auto fields = plain_fields<T, nf>(op, false);
    if (!fields) return Result::illegal;
    const u64 base = op.rs1(), stride = op.rs2();
    return store_segments<T>(op, *fields, [&](u64 i) { return base + i * stride; });
}

template <typename Index, unsigned nf>
Result load_indexed(Op& op) {
    const auto fields = indexed_fields<Index, nf>(op, true);
    if (!fields) return Result::illegal;
    const u64 base = op.rs1();
    const Index* const indices = op.group<Index>(op.vs2());
    Result result = Result::done;
    by_width(op.unit.sew(), [&]<typename T>() {
        result = load_segments<T>(op, *fields, [&](u64 i) { return base + indices[i]; });
    });
    return result;
}

template <typename Index, unsigned nf>
Result store_indexed(Op& op) {
    const auto fields = indexed_fields<Index, nf>(op, false);
    if (!fields) return Result::illegal;
    const u64 base = op.rs1();
    const Index* const indices = op.group<Index>(op.vs2());
    Result result = Result::done;
    by_width(op.unit.sew(), [&]<typename T>() {
        result = store_segments<T>(op, *fields, [&](u64 i) { return base + indices[i]; });
    });
    return result;
}

Result load_mask(Op& op) {
    if (op.unit.illegal_type()) return Result::illegal;
    return load_run<u8>(op, op.rs1(), (op.unit.vl + 7) / 8);
}

Result store_mask(Op& op) {
    if (op.unit.illegal_type()) return Result::illegal;
    return store_run<u8>(op, op.rs1(), (op.unit.vl + 7) / 8);
}

// Whole registers do not depend on vtype (7.9).
template <typename T, unsigned count>
Result load_whole(Op& op) {
    if ((op.vd() & (count - 1)) != 0) return Result::illegal;
    return load_run<T>(op, op.rs1(), count * op.unit.vlenb() / sizeof(T));
}

template <unsigned count>
Result store_whole(Op& op) {
    if ((op.vd() & (count - 1)) != 0) return Result::illegal;
    return store_run<u8>(op, op.rs1(), count * op.unit.vlenb());
}

}  // namespace

#define VINSN WIRT_VECTOR_FUNCTION
#include "riscv/isa/v_memory.def"
#undef VINSN

}  // namespace wirt::riscv::vector
