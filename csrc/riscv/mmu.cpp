// Address translation (Sv39, Sv48, Sv57), physical memory protection, and memory accesses that miss the TLB.
//
// Untrusted input: page tables, PMP registers and every address. A walk is bounded by the number of levels;
// each PTE is read once, atomically, and a page-table access outside RAM is an access fault.
#include <algorithm>
#include <cstring>

#include "base/bits.h"
#include "riscv/hart.h"
#include "riscv/page_walk.h"

namespace wirt::riscv {

namespace {

enum PmpBits : u8 { pmp_r = 1, pmp_w = 2, pmp_x = 4, pmp_a = 3u << 3, pmp_l = 1u << 7 };

template <typename T>
u64 load_host(const u8* from) {
    return __atomic_load_n(reinterpret_cast<const T*>(from), __ATOMIC_RELAXED);
}

u64 load_host(const u8* from, unsigned size) {
    switch (size) {
        case 1:
            return load_host<u8>(from);
        case 2:
            return load_host<u16>(from);
        case 4:
            return load_host<u32>(from);
        default:
            return load_host<u64>(from);
    }
}

void store_host(u8* to, unsigned size, u64 value) {
    switch (size) {
        case 1:
            __atomic_store_n(to, static_cast<u8>(value), __ATOMIC_RELAXED);
            break;
        case 2:
            __atomic_store_n(reinterpret_cast<u16*>(to), static_cast<u16>(value), __ATOMIC_RELAXED);
            break;
        case 4:
            __atomic_store_n(reinterpret_cast<u32*>(to), static_cast<u32>(value), __ATOMIC_RELAXED);
            break;
        default:
            __atomic_store_n(reinterpret_cast<u64*>(to), value, __ATOMIC_RELAXED);
            break;
    }
}

// A misaligned access is atomic byte by byte only (PMA, misaligned atomicity granule).
void load_bytes(const u8* from, unsigned count, u64& value) {
    for (unsigned i = 0; i < count; ++i) value |= load_host<u8>(from + i) << (8 * i);
}

void store_bytes(u8* to, unsigned count, u64 value) {
    for (unsigned i = 0; i < count; ++i) store_host(to + i, 1, value >> (8 * i));
}

}  // namespace

// ---------------------------------------------------------------- translation

Mode Hart::data_mode() const {
    if (guest_access_ != GuestAccess::none) {
        return {(h_.hstatus & hstatus::spvp) != 0 ? Privilege::supervisor : Privilege::user, true};
    }
    if ((mstatus_ & mstatus::mprv) != 0 && privilege_ == Privilege::machine) {
        const auto level = static_cast<Privilege>((mstatus_ & mstatus::mpp) >> mstatus::mpp_shift);
        return {level, level != Privilege::machine && (mstatus_ & mstatus::mpv) != 0};
    }
    return {privilege_, virtual_};
}

bool Hart::pmp_allows(u64 physical, u64 length, Access access, Privilege mode, bool& whole_page) const {
    whole_page = true;
    if (pmp_is_open()) return true;
    const u64 page = physical & ~page_mask;
    const u64 end = physical + length;
    for (unsigned i = 0; i < 16; ++i) {
        const u8 cfg = pmpcfg_[i];
        u64 low;
        u64 high;  // exclusive
        switch ((cfg & pmp_a) >> 3) {
            case 0:
                continue;
            case 1:  // TOR
                low = i == 0 ? 0 : pmpaddr_[i - 1] << 2;
                high = pmpaddr_[i] << 2;
                break;
            case 2:  // NA4
                low = pmpaddr_[i] << 2;
                high = low + 4;
                break;
            default: {  // NAPOT: the trailing ones give the size
                const unsigned ones = static_cast<unsigned>(std::countr_one(pmpaddr_[i]));
                if (ones >= 54) {
                    low = 0;
                    high = ~u64{0};
                } else {
                    low = (pmpaddr_[i] & ~((u64{1} << (ones + 1)) - 1)) << 2;
                    high = low + (u64{8} << ones);
                }
            }
        }
        if (high <= low) continue;
        const bool touches_page = low < page + page_size && high > page;
        if (touches_page && !(low <= page && high >= page + page_size)) whole_page = false;
        if (low >= end || high <= physical) continue;
        // "The matching PMP entry must match all bytes of an access, or the access fails" (3.7.1.3).
        if (low > physical || high < end) return false;
        if (mode == Privilege::machine && (cfg & pmp_l) == 0) return true;
        const u8 need = access == Access::fetch ? pmp_x : access == Access::load ? pmp_r : pmp_w;
        return (cfg & need) != 0;
    }
    return mode == Privilege::machine;
}

// A table's entry: page tables are in RAM, and reached by PMP's leave (3.7.2).
WalkEntry Hart::walk_entry(u64 entry_address, Access use, Access reports, u64 address, bool update) {
    bool ignored;
    u8* const host = ram_.host(entry_address, 8);
    if (host == nullptr || !pmp_allows(entry_address, 8, use, Privilege::supervisor, ignored)) {
        raise(access_fault(reports), address);
        return {nullptr, 0};
    }
    if (update && use == Access::load) ++stats_.table_reads;
    return {reinterpret_cast<u64*>(host), entry_address};
}

std::optional<Hart::Translation> Hart::walk(u64 address, Access access, Mode mode, bool update,
                                            unsigned size) {
    if (mode.guest) return walk_two_stage(address, access, mode.level, update, size);
    const unsigned levels = mode.level == Privilege::machine ? 0 : levels_of(satp_);
    bool whole = true;
    if (levels == 0) {
        if (!pmp_allows(address, size, access, mode.level, whole)) {
            raise(access_fault(access), address);
            return std::nullopt;
        }
        return Translation{address, page_size, whole};
    }
    // To look without `update` is nothing that the hart does.
    if (update) ++stats_.page_walks;
    // Where the last level's table is known the walk begins there.
    TranslationSpace::Leaf* const known =
        update ? &space_for(false).leaves[(address >> 21) % TranslationSpace::leaf_entries] : nullptr;
    const bool at_leaf = known != nullptr && known->tag == address >> 21;
    const WalkRules rules{.root = at_leaf ? known->table : bits(satp_, 0, 44) << page_shift,
                          .levels = at_leaf ? 1 : levels,
                          .widened = 0,
                          .access = access,
                          .executes = false,
                          .user = mode.level == Privilege::user,
                          .sum = (mstatus_ & mstatus::sum) != 0,
                          .mxr = (mstatus_ & mstatus::mxr) != 0,
                          .adue = (menvcfg_ & envcfg::adue) != 0,
                          .attributes = page_attributes(menvcfg_)};
    WalkLeaf leaf;
    WalkEnd end = WalkEnd::page_fault;
    // Bits above the mode's virtual address must repeat its top bit (12.4.1).
    if (sign_extend(address, 12 + 9 * levels) == static_cast<i64>(address)) {
        end = walk_tables(
            address, rules, update, ram_,
            [&](u64 entry, Access use) { return walk_entry(entry, use, access, address, update); }, leaf);
    }
    if (end == WalkEnd::page_fault) raise(page_fault(access), address);
    if (end != WalkEnd::found) return std::nullopt;
    if (known != nullptr && leaf.extent == page_size) *known = {address >> 21, leaf.table};
    if (!pmp_allows(leaf.physical, size, access, mode.level, whole)) {
        raise(access_fault(access), address);
        return std::nullopt;
    }
    return Translation{leaf.physical, leaf.extent, whole};
}

std::optional<Hart::Translation> Hart::translate_for(u64 address, Access access, unsigned size) {
    ++stats_.tlb_misses;
    ++performance_.tlb_misses[static_cast<unsigned>(access)];
    const Mode mode = access == Access::fetch ? Mode{privilege_, virtual_} : data_mode();
    auto translation = walk(address, access, mode, true, size);
    if (translation && translation->page_bytes > page_size) {
        TranslationSpace& space = space_for(mode.guest);
        const u64 start = address & ~(translation->page_bytes - 1);
        space.super_low = std::min(space.super_low, start);
        space.super_high = std::max(space.super_high, start + translation->page_bytes - 1);
    }
    return translation;
}

std::optional<u64> Hart::translate(u64 virtual_address, Access access) {
    const Fault saved = fault_;
    const Mode mode = access == Access::fetch ? Mode{privilege_, virtual_} : data_mode();
    const auto translation = walk(virtual_address, access, mode, false, 1);
    fault_ = saved;
    if (!translation) return std::nullopt;
    return translation->physical;
}

// ---------------------------------------------------------------- contexts

TranslationSpace& Hart::space_for(bool guest) {
    const u64 satp = guest ? h_.vsatp : satp_;
    const u64 hgatp = guest ? h_.hgatp : TranslationSpace::no_guest;
    TranslationSpace* oldest = nullptr;
    // Slot 0 belongs to M-mode, which no satp reaches.
    for (unsigned i = 1; i < space_count; ++i) {
        TranslationSpace& space = spaces_[i];
        if (space.valid && space.satp == satp && space.hgatp == hgatp) {
            space.last_use = ++space_clock_;
            return space;
        }
        if (oldest == nullptr || space.last_use < oldest->last_use) oldest = &space;
    }
    oldest->flush();
    oldest->valid = true;
    oldest->satp = satp;
    oldest->hgatp = hgatp;
    oldest->last_use = ++space_clock_;
    return *oldest;
}

TlbSet& Hart::set_for(Mode mode, bool data) {
    unsigned kind = static_cast<unsigned>(mode.level);
    if (data) {
        const u64 status = mode.guest ? h_.vsstatus : mstatus_;
        if (mode.level == Privilege::supervisor && (status & mstatus::sum) != 0) kind = 2;
        if (guest_access_ == GuestAccess::execute) kind = 3;
        if (mode.guest && (mstatus_ & mstatus::mxr) != 0) {
            kind += 8;
        } else if ((status & mstatus::mxr) != 0) {
            kind += 4;
        } else {
            kind += pointer_bits_ == 0 ? 0 : pointer_bits_ == 7 ? 12 : 16;
        }
    }
    TranslationSpace& space = mode.level == Privilege::machine ? spaces_[0] : space_for(mode.guest);
    auto& set = space.sets[kind];
    if (!set) set = std::make_unique<TlbSet>();
    return *set;
}

void Hart::select_translation() {
    const Mode data = data_mode();
    pointer_bits_ = pointer_mask_length(data);
    pointer_signed_ = data.level != Privilege::machine && levels_of(data.guest ? h_.vsatp : satp_) != 0;
    fetch_set_ = &set_for({privilege_, virtual_}, false);
    data_set_ = &set_for(data, true);
    plain_entry_ = 0;
    if (!data.guest && pointer_bits_ == 0 && data.level != Privilege::machine && levels_of(satp_) != 0) {
        data_space_ = &space_for(false);
        plain_entry_ = pte::v | pte::r | pte::a | (data.level == Privilege::user ? pte::u : 0);
    }
    update_unit_states();
    if (performance_.active) [[unlikely]]
        performance_mode_changed();
}

// Ssnpm, Smnpm: PMLEN of explicit accesses to memory. With MXR in force nothing is masked, nor by HLVX, and
// in M-mode nothing here ever is (that would be Smmpm).
unsigned Hart::pointer_mask_length(Mode mode) const {
    const u64 mxr = (mstatus_ | (mode.guest ? h_.vsstatus : 0)) & mstatus::mxr;
    if (mode.level == Privilege::machine || mxr != 0 || guest_access_ == GuestAccess::execute) return 0;
    u64 field;
    if (mode.level == Privilege::supervisor) {
        field = bits(mode.guest ? h_.henvcfg : menvcfg_, 32, 2);
    } else if (guest_access_ != GuestAccess::none && privilege_ == Privilege::user) {
        field = bits(h_.hstatus, 48, 2);  // HUPMM
    } else {
        field = bits(senvcfg_, 32, 2);
    }
    return field == 2 ? 7 : field == 3 ? 16 : 0;
}

// Sign-extended where it is virtual, zero-extended where it is physical.
u64 Hart::masked_address(u64 pointer) const {
    const u64 high = pointer << pointer_bits_;
    return pointer_signed_ ? static_cast<u64>(static_cast<i64>(high) >> pointer_bits_)
                           : high >> pointer_bits_;
}

void Hart::flush_all() {
    ++stats_.tlb_flushes;
    for (TranslationSpace& space : spaces_) space.flush();
}

void Hart::drop_spaces() {
    for (TranslationSpace& space : spaces_) space = {};
    spaces_[0].valid = true;
}

void Hart::flush_range(u64 start, u64 size, const FenceScope& scope) {
    // Beyond this many pages looking each of them up costs more than refilling.
    constexpr u64 most_pages = 32;
    ++stats_.tlb_flushes;
    const bool everything = size == 0 || size > most_pages * page_size;
    for (unsigned i = 1; i < space_count; ++i) {
        TranslationSpace& space = spaces_[i];
        if (!space.valid || space.guest() != scope.guest ||
            (scope.asid && bits(space.satp, 44, 16) != *scope.asid) ||
            (scope.vmid && bits(space.hgatp, 44, 14) != *scope.vmid)) {
            continue;
        }
        const u64 last = start + size - 1;
        if (everything || last < start || (start <= space.super_high && last >= space.super_low)) {
            space.flush();
            continue;
        }
        for (u64 page = start & ~page_mask; page <= last; page += page_size) {
            space.leaves[(page >> 21) % TranslationSpace::leaf_entries] = {};
            for (auto& set : space.sets) {
                if (set) set->flush_page(page);
            }
            if (page + page_size < page) break;
        }
    }
}

void Hart::drop_store_entries(u64 ram_page) {
    const u64 host_page = reinterpret_cast<u64>(ram_.data()) + ram_page * page_size;
    bool had = false;
    for (TranslationSpace& space : spaces_) {
        for (auto& set : space.sets) {
            if (!set) continue;
            set->for_each_store([&](TlbEntry& entry) {
                if (entry.tag + entry.addend == host_page && entry.tag != TlbEntry::no_tag) {
                    entry = {};
                    had = true;
                }
            });
        }
    }
    // Written through such an entry perhaps, since the page was decoded: what was decoded is not trusted.
    if (had) ram_.invalidate_code(ram_page);
}

void Hart::drop_all_store_entries() {
    for (TranslationSpace& space : spaces_) {
        for (auto& set : space.sets) {
            if (set) set->flush_stores();
        }
    }
}

void Hart::drop_store_entries_of_code() {
    for (TranslationSpace& space : spaces_) {
        for (auto& set : space.sets) {
            if (!set) continue;
            set->for_each_store([&](TlbEntry& entry) {
                if (entry.tag == TlbEntry::no_tag) return;
                const u64 host = entry.tag + entry.addend;
                const u64 page = (host - reinterpret_cast<u64>(ram_.data())) >> page_shift;
                // Beyond RAM lies a device's host memory, which holds no code.
                if (page >= ram_.size() >> page_shift || !ram_.holds_code(page)) return;
                entry = {};
                ram_.invalidate_code(page);
            });
        }
    }
}

// ---------------------------------------------------------------- accesses that miss

// Most misses: of a page of RAM in a table that is known, and nothing is to be decided or updated. It finds
// what the walk would; where it does not (null) nothing has happened yet.
u8* Hart::plain_page(u64 address, unsigned size, Access access) {
    if (plain_entry_ == 0 || triggers_.data_armed || (address & (size - 1)) != 0 || !pmp_is_open())
        return nullptr;
    const TranslationSpace::Leaf& known =
        data_space_->leaves[(address >> 21) % TranslationSpace::leaf_entries];
    if (known.tag != address >> 21) return nullptr;
    const u8* const at = ram_.host(known.table + bits(address, 12, 9) * 8, 8);
    if (at == nullptr) return nullptr;
    const u64 entry = __atomic_load_n(reinterpret_cast<const u64*>(at), __ATOMIC_ACQUIRE);
    const u64 writable = access == Access::store ? pte::w | pte::d : 0;
    constexpr u64 decides = pte::v | pte::r | pte::a | pte::u | ~u64{0} << 54;
    if ((entry & (decides | writable)) != (plain_entry_ | writable)) return nullptr;
    const u64 physical = bits(entry, 10, 44) << page_shift | (address & page_mask);
    u8* const host = ram_.host(physical, size);
    if (host == nullptr || (access == Access::store && watched(physical))) return nullptr;
    ++stats_.tlb_misses;
    ++stats_.page_walks;
    ++stats_.table_reads;
    ++performance_.tlb_misses[static_cast<unsigned>(access)];
    return host;
}

// The TLBs hold pointers as they are: what they stand for is the set's own affair.
bool Hart::load_any(u64 pointer, unsigned size, u64& value) {
    if (const u8* const host = plain_page(pointer, size, Access::load)) {
        data_set_->fill_load(pointer, host);
        value = load_host(host, size);
        return true;
    }
    const u64 address = unmasked(pointer);
    if (triggers_.data_armed && trigger_fires(Access::load, address, size)) return false;
    if ((address & (size - 1)) != 0) return load_misaligned(pointer, size, value);
    const auto translation = translate_for(address, Access::load, size);
    if (!translation) return false;
    const u64 physical = translation->physical;
    if (const u8* host = bus_.host(physical, size)) {
        if (remembered(Access::load, *translation, address)) {
            data_set_->fill_load(pointer, host);
        }
        value = load_host(host, size);
        return true;
    }
    ++stats_.mmio_accesses;
    locate();
    const auto result = bus_.read(physical, size);
    if (!result) {
        raise(exc_load_access, address);
        return false;
    }
    value = *result;
    return true;
}

bool Hart::store_any(u64 pointer, unsigned size, u64 value) {
    if (u8* const host = plain_page(pointer, size, Access::store)) {
        data_set_->fill_store(pointer, host);
        store_host(host, size, value);
        return true;
    }
    const u64 address = unmasked(pointer);
    if (triggers_.data_armed && trigger_fires(Access::store, address, size)) return false;
    if ((address & (size - 1)) != 0) return store_misaligned(pointer, size, value);
    const auto translation = translate_for(address, Access::store, size);
    if (!translation) return false;
    const u64 physical = translation->physical;
    if (u8* host = bus_.host(physical, size)) {
        if (!watched(physical)) {
            if (remembered(Access::store, *translation, address)) data_set_->fill_store(pointer, host);
            store_host(host, size, value);
            return true;
        }
        ram_.will_write(physical, size);
        store_host(host, size, value);
        ram_.note_write(physical, size);
        // Only now: had it been told before, it could have been forgotten again before the store.
        if (remembered(Access::store, *translation, address) && !watched(physical))
            data_set_->fill_store(pointer, host);
        return true;
    }
    ++stats_.mmio_accesses;
    locate();
    if (!bus_.write(physical, size, value)) {
        raise(exc_store_access, address);
        return false;
    }
    return true;
}

// A misaligned access to memory works, also across pages; one to a device's registers is an access fault,
// since they cannot be split without effect (Unprivileged ISA 2.6; PMA chapter 3.6).
bool Hart::load_misaligned(u64 pointer, unsigned size, u64& value) {
    const TlbEntry& entry = data_set_->load[TlbSet::data_index(pointer)];
    if (entry.tag == (pointer & ~page_mask) && (pointer & page_mask) + size <= page_size) {
        value = 0;
        load_bytes(reinterpret_cast<const u8*>(pointer + entry.addend), size, value);
        return true;
    }
    u8 buffer[8] = {};
    const unsigned first = static_cast<unsigned>(std::min<u64>(size, page_size - (pointer & page_mask)));
    for (unsigned done = 0; done < size;) {
        const unsigned part = done == 0 ? first : size - first;
        const u64 address = unmasked(pointer + done);
        const auto translation = translate_for(address, Access::load, part);
        if (!translation) return false;
        const u8* host = bus_.host(translation->physical, part);
        if (host == nullptr) {
            raise(exc_load_access, address);
            return false;
        }
        if (remembered(Access::load, *translation, address)) data_set_->fill_load(pointer + done, host);
        u64 bytes = 0;
        load_bytes(host, part, bytes);
        std::memcpy(buffer + done, &bytes, part);
        done += part;
    }
    value = load_le<u64>(buffer);
    return true;
}

bool Hart::store_misaligned(u64 pointer, unsigned size, u64 value) {
    const TlbEntry& entry = data_set_->store[TlbSet::data_index(pointer)];
    if (entry.tag == (pointer & ~page_mask) && (pointer & page_mask) + size <= page_size) {
        store_bytes(reinterpret_cast<u8*>(pointer + entry.addend), size, value);
        return true;
    }
    struct Part {
        u8* host;
        u64 physical;
        unsigned length;
    } parts[2];
    unsigned count = 0;
    const unsigned first = static_cast<unsigned>(std::min<u64>(size, page_size - (pointer & page_mask)));
    for (unsigned done = 0; done < size; ++count) {
        const unsigned part = done == 0 ? first : size - first;
        const u64 address = unmasked(pointer + done);
        const auto translation = translate_for(address, Access::store, part);
        if (!translation) return false;
        u8* host = bus_.host(translation->physical, part);
        if (host == nullptr) {
            raise(exc_store_access, address);
            return false;
        }
        if (remembered(Access::store, *translation, address) && !watched(translation->physical)) {
            data_set_->fill_store(pointer + done, host);
        }
        parts[count] = {host, translation->physical, part};
        done += part;
    }
    for (unsigned p = 0; p < count; ++p) {
        ram_.will_write(parts[p].physical, parts[p].length);
        // The second part has what the first left; a first one of all eight bytes leaves nothing.
        store_bytes(parts[p].host, parts[p].length, p == 0 ? value : value >> (8 * parts[0].length));
        ram_.note_write(parts[p].physical, parts[p].length);
    }
    return true;
}

template <typename T>
bool Hart::load_slow(u64 address, T& value) {
    u64 wide;
    if (!load_any(address, sizeof(T), wide)) return false;
    value = static_cast<T>(wide);
    return true;
}
template <typename T>
bool Hart::store_slow(u64 address, T value) {
    return store_any(address, sizeof(T), static_cast<u64>(value));
}
template bool Hart::load_slow(u64, i8&);
template bool Hart::load_slow(u64, i16&);
template bool Hart::load_slow(u64, i32&);
template bool Hart::load_slow(u64, u8&);
template bool Hart::load_slow(u64, u16&);
template bool Hart::load_slow(u64, u32&);
template bool Hart::load_slow(u64, u64&);
template bool Hart::store_slow(u64, u8);
template bool Hart::store_slow(u64, u16);
template bool Hart::store_slow(u64, u32);
template bool Hart::store_slow(u64, u64);

u8* Hart::atomic_host(u64 pointer, unsigned size, AtomicUse use) {
    const bool store = use != AtomicUse::load;
    const u64 address = unmasked(pointer);
    const TlbEntry& entry = (store ? data_set_->store : data_set_->load)[TlbSet::data_index(pointer)];
    if (entry.tag == (pointer & (~page_mask | (size - 1)))) {
        u8* const host = reinterpret_cast<u8*>(pointer + entry.addend);
        // A device's host memory is in the TLB as well.
        if (static_cast<u64>(host - ram_.data()) < ram_.size()) return host;
        raise(store ? exc_store_access : exc_load_access, address);
        return nullptr;
    }
    if (triggers_.data_armed && ((use != AtomicUse::store && trigger_fires(Access::load, address, size)) ||
                                 (store && trigger_fires(Access::store, address, size)))) {
        return nullptr;
    }
    if ((address & (size - 1)) != 0) {
        raise(store ? exc_store_misaligned : exc_load_misaligned, address);
        return nullptr;
    }
    const auto translation = translate_for(address, store ? Access::store : Access::load, size);
    if (!translation) return nullptr;
    u8* host = ram_.host(translation->physical, size);
    if (host == nullptr) {
        // Devices support no atomics (PMA, AMONone and RsrvNone; Privileged Architecture 3.6.3).
        raise(store ? exc_store_access : exc_load_access, address);
        return nullptr;
    }
    if (store && watched(translation->physical)) {
        ram_.will_write(translation->physical, size);
        atomic_note_ = translation->physical + 1;
    } else if (remembered(store ? Access::store : Access::load, *translation, address)) {
        if (store) {
            data_set_->fill_store(pointer, host);
        } else {
            data_set_->fill_load(pointer, host);
        }
    }
    return host;
}

bool Hart::cache_block(CacheOp op, u64 pointer) {
    constexpr u64 block = 64;
    const u64 address = unmasked(pointer);
    const u64 field = op == CacheOp::zero    ? envcfg::cbze
                      : op == CacheOp::inval ? envcfg::cbie
                                             : envcfg::cbcfe;
    // Which levels may execute it is in the envcfg registers (CMO specification 1.0.1, 3.5).
    if (privilege_ != Privilege::machine) {
        const bool user_off = privilege_ == Privilege::user && (senvcfg_ & field) == 0;
        if ((menvcfg_ & field) == 0 || (!virtual_ && user_off)) {
            illegal_instruction();
            return false;
        }
        if (virtual_ && ((h_.henvcfg & field) == 0 || user_off)) {
            virtual_instruction();
            return false;
        }
    }
    const u64 start = address & ~(block - 1);
    const bool zero = op == CacheOp::zero;
    if (zero && triggers_.data_armed && trigger_fires(Access::store, start, block)) return false;
    const u64 first = pointer & ~(block - 1);
    if (const TlbEntry& entry = data_set_->store[TlbSet::data_index(first)];
        zero && entry.tag == (first & ~page_mask)) {
        u8* const host = reinterpret_cast<u8*>(first + entry.addend);
        for (u64 i = 0; i < block; i += 8) store_host(host + i, 8, 0);
        return true;
    }
    // Management is permitted where a load or a store is, hence where a load is, and does not dirty the page;
    // its fault is that of a store.
    const auto translation = translate_for(start, zero ? Access::store : Access::load, block);
    if (!translation) {
        fault_.cause = fault_.cause == exc_load_page         ? exc_store_page
                       : fault_.cause == exc_load_access     ? exc_store_access
                       : fault_.cause == exc_load_guest_page ? exc_store_guest_page
                                                             : fault_.cause;
        fault_.value = address;
        // The guest physical address is that of the operand, too, unless it is that of a table's entry.
        if (fault_.guest_physical != 0 && fault_.instruction == 0) fault_.guest_physical += address - start;
        return false;
    }
    // Registers are not cached.
    u8* host = bus_.host(translation->physical, block);
    if (host == nullptr) {
        raise(exc_store_access, address);
        return false;
    }
    if (!zero) return true;
    if (!watched(translation->physical)) {
        if (remembered(Access::store, *translation, start)) data_set_->fill_store(first, host);
        for (u64 i = 0; i < block; i += 8) store_host(host + i, 8, 0);
        return true;
    }
    ram_.will_write(translation->physical, block);
    for (u64 i = 0; i < block; i += 8) store_host(host + i, 8, 0);
    ram_.note_write(translation->physical, block);
    return true;
}

}  // namespace wirt::riscv
