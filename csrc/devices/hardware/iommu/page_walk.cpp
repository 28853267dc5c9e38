#include "devices/hardware/iommu/page_walk.h"

namespace wirt::devices::hardware::iommu {

namespace {

// A guest hart that keeps changing an entry could keep its walk going for ever (Privileged
// Architecture, 12.3.2, step 9: start again). After this many lost races the entry counts as not accessible.
constexpr unsigned most_races = 32;

constexpr u64 entry_ppn(u64 entry, unsigned entry_bytes) {
    return bits<u64>(entry, 10, entry_bytes == 4 ? 22 : 44);
}

// Svnapot: the one size there is. Its sixteen entries are the same, and are looked at one by one.
constexpr u64 napot_bytes = u64{64} << 10;

// A Bare stage changes nothing anywhere; 3.6 recommends to report a large range.
constexpr u64 bare_size = u64{1} << 30;

}  // namespace

PageWalk::Geometry PageWalk::geometry(unsigned mode, bool narrow, bool second_stage) {
    // 21.5.1: the second stage's root is four times as large.
    const unsigned extra = second_stage ? 2 : 0;
    if (narrow) return {2, 10, 4, 32 + extra};
    const unsigned levels = 3 + (mode - mode_8);
    return {levels, 9, 8, page_shift + 9 * levels + extra};
}

PageWalk::Kind PageWalk::classify(u64 entry, unsigned level, const Geometry& shape) const {
    if ((entry & pte::v) == 0 || (entry & (pte::r | pte::w)) == pte::w) return Kind::invalid;
    if ((entry & pte::reserved) != 0) return Kind::invalid;
    if ((entry & pte::reserved_for_software) != 0 && !options_.svrsw60t59b) return Kind::invalid;
    const u8 pbmt = pte::pbmt(entry);
    if (pbmt == 3 || (pbmt != 0 && !options_.svpbmt)) return Kind::invalid;
    const bool napot = (entry & pte::n) != 0;
    // Svnapot: only 64 KiB at the lowest level.
    if (napot && level != 0) return Kind::invalid;
    if ((entry & (pte::r | pte::x)) != 0) {
        return napot && (entry_ppn(entry, shape.entry_bytes) & 0xf) != 8 ? Kind::invalid : Kind::leaf;
    }
    if (level == 0 || pbmt != 0 || (entry & (pte::d | pte::a | pte::u)) != 0) return Kind::invalid;
    return Kind::pointer;
}

// False: a misaligned superpage.
bool PageWalk::finish_leaf(u64 entry, unsigned level, const Geometry& shape, u64 address, Leaf& leaf) {
    u64 ppn = entry_ppn(entry, shape.entry_bytes);
    const unsigned low_bits = shape.index_bits * level;
    if (bits<u64>(ppn, 0, low_bits) != 0 && low_bits != 0) return false;
    if ((entry & pte::n) != 0) ppn = (ppn & ~u64{0xf}) | bits<u64>(address, page_shift, 4);
    leaf.size = page_bytes << low_bits;
    leaf.reach = (entry & pte::n) != 0 ? napot_bytes : leaf.size;
    leaf.address = (ppn << page_shift & ~(leaf.size - 1)) | (address & (leaf.size - 1));
    leaf.r = (entry & pte::r) != 0;
    leaf.w = (entry & pte::w) != 0;
    leaf.x = (entry & pte::x) != 0;
    leaf.u = (entry & pte::u) != 0;
    leaf.g = (entry & pte::g) != 0;
    leaf.d = (entry & pte::d) != 0;
    leaf.pbmt = shape.entry_bytes == 8 ? pte::pbmt(entry) : 0;
    return true;
}

WalkFault PageWalk::second_stage(u64 address, const Access& access, bool implicit, Leaf& leaf) {
    if (second.mode == mode_bare) {
        leaf = Leaf{};
        leaf.address = address;
        leaf.size = bare_size;
        return WalkFault::none;
    }
    const Geometry shape = geometry(second.mode, gxl, true);
    // 3.1.3.1, SXL: 34 bits of guest physical address at most.
    if (address >> shape.address_bits != 0 || (sxl && address >> 34 != 0)) return WalkFault::page;
    // An access to a first-stage entry may turn into the update of its A and D: where that is enabled, D is
    // set ahead of it if the page may be written (21.5, Svadu).
    const bool write_intent = implicit && first.update_ad;
    unsigned races = 0;
    unsigned level = shape.levels - 1;
    u64 table = second.root_ppn << page_shift;
    while (true) {
        const unsigned shift = page_shift + shape.index_bits * level;
        const unsigned width = shape.index_bits + (level == shape.levels - 1 ? 2 : 0);
        const u64 at = table + bits<u64>(address, shift, width) * shape.entry_bytes;
        count(Event::second_stage_walk);
        const auto entry = memory_.load(at, shape.entry_bytes, second.big_endian);
        if (!entry) return WalkFault::access;
        switch (classify(*entry, level, shape)) {
            case Kind::invalid:
                return WalkFault::page;
            case Kind::pointer:
                table = entry_ppn(*entry, shape.entry_bytes) << page_shift;
                --level;
                continue;
            case Kind::leaf:
                break;
        }
        if (!finish_leaf(*entry, level, shape, address, leaf)) return WalkFault::page;
        if (access.check &&
            ((access.execute && !leaf.x) || (access.read && !leaf.r) || (access.write && !leaf.w))) {
            return WalkFault::page;
        }
        // 3.3: every access is checked as one of a user.
        if (!leaf.u) return WalkFault::page;
        const bool needs_d = leaf.w && !leaf.d && (access.write || write_intent);
        if ((*entry & pte::a) != 0 && !needs_d) return WalkFault::none;
        if (!second.update_ad) return WalkFault::page;
        const u64 updated = *entry | pte::a | (needs_d ? pte::d : 0);
        count(Event::second_stage_walk);
        const auto replaced = memory_.replace(at, shape.entry_bytes, second.big_endian, *entry, updated);
        if (!replaced) return WalkFault::access;
        if (*replaced) {
            leaf.d = (updated & pte::d) != 0;
            return WalkFault::none;
        }
        if (++races == most_races) return WalkFault::access;
    }
}

WalkFault PageWalk::first_stage(u64 iova, const Access& access, Leaf& leaf, u64& iotval2) {
    if (first.mode == mode_bare) {
        leaf = Leaf{};
        leaf.address = iova;
        leaf.size = bare_size;
        leaf.g = true;
        return WalkFault::none;
    }
    const Geometry shape = geometry(first.mode, sxl, false);
    // 3.1.3.1, SXL; otherwise the address is sign-extended (Privileged Architecture, 12.4.1).
    if (sxl ? iova >> 32 != 0 : static_cast<u64>(sign_extend(iova, shape.address_bits)) != iova) {
        return WalkFault::page;
    }
    const auto guest_fault = [&](u64 address, bool write) {
        iotval2 = (address & ~u64{3}) | (write ? 2 : 0) | 1;
        return WalkFault::guest_page;
    };
    const Access implicit{.read = true};
    bool global = false;
    unsigned races = 0;
    unsigned level = shape.levels - 1;
    u64 table = first.root_ppn << page_shift;
    while (true) {
        const unsigned shift = page_shift + shape.index_bits * level;
        const u64 guest_at = table + bits<u64>(iova, shift, shape.index_bits) * shape.entry_bytes;
        Leaf where;
        switch (second_stage(guest_at, implicit, true, where)) {
            case WalkFault::none:
                break;
            case WalkFault::access:
                return WalkFault::access;
            default:
                return guest_fault(guest_at, false);
        }
        count(Event::first_stage_walk);
        const auto entry = memory_.load(where.address, shape.entry_bytes, first.big_endian);
        if (!entry) return WalkFault::access;
        switch (classify(*entry, level, shape)) {
            case Kind::invalid:
                return WalkFault::page;
            case Kind::pointer:
                global |= (*entry & pte::g) != 0;
                table = entry_ppn(*entry, shape.entry_bytes) << page_shift;
                --level;
                continue;
            case Kind::leaf:
                break;
        }
        if (!finish_leaf(*entry, level, shape, iova, leaf)) return WalkFault::page;
        if (access.check &&
            ((access.execute && !leaf.x) || (access.read && !leaf.r) || (access.write && !leaf.w))) {
            return WalkFault::page;
        }
        // 3.2.3, SUM: a supervisor never executes a user's page, and reads and writes it only with SUM.
        if (access.supervisor ? leaf.u && (access.execute || !access.sum) : !leaf.u) return WalkFault::page;
        leaf.g |= global;
        const bool needs_d = access.write && leaf.w && !leaf.d;
        if ((*entry & pte::a) != 0 && !needs_d) return WalkFault::none;
        if (!first.update_ad) return WalkFault::page;
        if (!where.w) return guest_fault(guest_at, true);
        const u64 updated = *entry | pte::a | (needs_d ? pte::d : 0);
        count(Event::first_stage_walk);
        const auto replaced =
            memory_.replace(where.address, shape.entry_bytes, first.big_endian, *entry, updated);
        if (!replaced) return WalkFault::access;
        if (*replaced) {
            leaf.d = (updated & pte::d) != 0;
            return WalkFault::none;
        }
        if (++races == most_races) return WalkFault::access;
    }
}

}  // namespace wirt::devices::hardware::iommu
