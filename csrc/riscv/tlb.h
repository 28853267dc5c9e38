// Cached translations of one translation context, and the pool of contexts of a hart.
//
// A context is what a translation depends on beside the address: satp (in a guest vsatp and hgatp), the
// effective privilege, SUM, MXR and how many bits of a pointer are ignored. Each has its own TlbSet, so that
// a trap, a return or a switch between processes changes a pointer and flushes nothing. An entry's tag is the
// virtual page; the low bits of an access that must be zero (its alignment) are part of the comparison, so
// that a misaligned access misses and is handled out of line.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <memory>

#include "base/types.h"

namespace wirt::riscv {

struct Block;

struct TlbEntry {
    static constexpr u64 no_tag = ~u64{0};  // page bits of a tag are never all ones with low bits set
    u64 tag = no_tag;
    u64 addend = 0;  // host address = virtual address + addend
};

struct FetchEntry {
    u64 tag = TlbEntry::no_tag;
    u64 page = 0;  // index of the page in guest RAM
};

struct JumpEntry {
    u64 pc = 1;  // odd: matches no program counter
    Block* block = nullptr;
};

struct TlbSet {
    // The 4 MiB that a program strides through fit.
    static constexpr unsigned data_entries = 1024;
    static constexpr unsigned fetch_entries = 128;
    static constexpr unsigned jump_entries = 1024;
    static constexpr unsigned ignored_bits = 16;  // at most, of a pointer

    std::array<TlbEntry, data_entries> load;
    std::array<TlbEntry, data_entries> store;
    std::array<FetchEntry, fetch_entries> fetch;
    std::array<JumpEntry, jump_entries> jump;
    // Of what `jump` holds: JumpTargets found under another one are void. No two sets ever have the same.
    u64 jump_version = new_jump_version();
    // Which virtual pages `jump` may lead into, hashed: most flushes of one page need not touch it.
    std::array<u64, 16> jump_pages{};
    // Which runs of entries of `load` and `store` were written to since the last flush.
    u64 used_groups = 0;
    static constexpr unsigned group_entries = data_entries / 64;

    static unsigned data_index(u64 address) { return (address >> page_shift) % data_entries; }
    static unsigned fetch_index(u64 address) { return (address >> page_shift) % fetch_entries; }
    static unsigned jump_index(u64 pc) { return (pc >> 1) % jump_entries; }

    void fill_load(u64 address, const u8* host) { fill(load, address, host); }
    void fill_store(u64 address, const u8* host) { fill(store, address, host); }
    void flush() {
        for_each_used([&](unsigned group) {
            std::fill_n(load.begin() + group * group_entries, group_entries, TlbEntry{});
            std::fill_n(store.begin() + group * group_entries, group_entries, TlbEntry{});
        });
        used_groups = 0;
        fetch.fill({});
        flush_jumps();
    }
    void flush_stores() {
        for_each_used([&](unsigned group) {
            std::fill_n(store.begin() + group * group_entries, group_entries, TlbEntry{});
        });
    }
    template <typename Fn>
    void for_each_store(Fn&& fn) {
        for_each_used([&](unsigned group) {
            for (unsigned i = 0; i < group_entries; ++i) fn(store[group * group_entries + i]);
        });
    }
    void remember_jump(u64 pc, Block* block) {
        jump[jump_index(pc)] = {pc, block};
        const unsigned hash = jump_page_hash(pc);
        jump_pages[hash / 64] |= u64{1} << (hash % 64);
    }
    void flush_jumps() {
        if (jump_pages == decltype(jump_pages){}) return;
        jump.fill({});
        jump_pages = {};
        jump_version = new_jump_version();
    }
    void flush_page(u64 address) {
        // By all pointers to it: bits that are ignored in some sets are not compared.
        const auto drop = [page = address & ~page_mask](TlbEntry& entry) {
            if (((entry.tag ^ page) << ignored_bits) == 0) entry = {};
        };
        drop(load[data_index(address)]);
        drop(store[data_index(address)]);
        fetch[fetch_index(address)] = {};
        const unsigned hash = jump_page_hash(address);
        if ((jump_pages[hash / 64] >> (hash % 64)) & 1) flush_jumps();
    }

  private:
    static u64 new_jump_version() {
        static std::atomic<u64> last{0};
        return last.fetch_add(1, std::memory_order_relaxed) + 1;
    }
    void fill(std::array<TlbEntry, data_entries>& table, u64 address, const u8* host) {
        const unsigned index = data_index(address);
        used_groups |= u64{1} << (index / group_entries);
        table[index] = {address & ~page_mask, reinterpret_cast<u64>(host) - address};
    }
    template <typename Fn>
    void for_each_used(Fn&& fn) const {
        for (u64 rest = used_groups; rest != 0; rest &= rest - 1) {
            fn(static_cast<unsigned>(std::countr_zero(rest)));
        }
    }
    static unsigned jump_page_hash(u64 pc) { return ((pc >> page_shift) ^ (pc >> (page_shift + 10))) % 1024; }
};

// All sets of one satp value, or of one pair of vsatp and hgatp.
struct TranslationSpace {
    // (user, supervisor, supervisor+SUM, machine or HLVX) x (as it is, MXR of the mode itself, in a guest
    // HS-level MXR, pointers masked by 7 bits, by 16 bits)
    static constexpr unsigned kinds = 20;
    static constexpr u64 no_guest = ~u64{0};  // no value of hgatp
    u64 satp = 0;
    u64 hgatp = no_guest;
    bool valid = false;
    u64 last_use = 0;
    // Where the walk of a page table's last level begins, by the bits of the address above it: the walk of a
    // neighbouring page begins there. Flushed with whatever is flushed of the space.
    struct Leaf {
        u64 tag = ~u64{0};
        u64 table = 0;  // physical
    };
    static constexpr unsigned leaf_entries = 64;
    std::array<Leaf, leaf_entries> leaves;
    // Virtual range covered by superpage entries: their flush by one address must drop all their fragments.
    u64 super_low = ~u64{0};
    u64 super_high = 0;
    std::array<std::unique_ptr<TlbSet>, kinds> sets;

    bool guest() const { return hgatp != no_guest; }
    void flush() {
        for (auto& set : sets) {
            if (set) set->flush();
        }
        leaves.fill({});
        super_low = ~u64{0};
        super_high = 0;
    }
};

}  // namespace wirt::riscv
