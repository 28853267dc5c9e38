// Decoded guest code: basic blocks of pre-decoded instructions, found by physical address.
//
// A block lies within one page and ends at a control transfer, at an instruction that may change how what
// follows is decoded or translated, or at the next multiple of `span` bytes. Because of the last rule block
// boundaries depend on addresses only, not on where execution entered: a machine that stops and goes on
// takes its interrupts at the same instructions as one that did not stop.
//
// Blocks are chained within their page only. So all that a page's loss leaves dangling are the jump caches.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "base/types.h"

namespace wirt::riscv {

struct Block;

// One pre-decoded instruction. x0 as destination is register 32, which nobody reads.
struct Insn {
    const void* handler;
    i32 imm;  // immediate; CSR number; for floating point rs3 | rm << 8; for branches relative to the block
    u8 rd;    // for branches: length of the instruction in bytes
    u8 rs1;
    u8 rs2;
    u8 offset;  // from the block's start, in halfwords
};
static_assert(sizeof(Insn) == 16);

// Stands behind the last instruction of a block.
struct Exit {
    Block* taken;
    Block* next;
};
static_assert(sizeof(Exit) == sizeof(Insn));

struct Block {
    u64 physical;  // of the first instruction
    Block* hash_next;
    Block* page_next;
    u32 count;    // guest instructions
    u32 slots;    // Insn slots before the Exit
    bool cached;  // found by lookup again; a scratch block runs once and is never linked to
    Insn insns[];

    Exit& exit() { return *reinterpret_cast<Exit*>(insns + slots); }
};

class BlockCache {
  public:
    static constexpr u64 span = 256;  // bytes of guest code; blocks end at its multiples
    static constexpr unsigned max_slots = 2 * span / 2 + 2;  // a check may precede each instruction
    static constexpr std::size_t capacity = 64 * MiB;

    BlockCache();
    Block* find(u64 physical) const;
    // Space for a block of `slots` instructions. Call `make_room` first, at a point where no block is in use.
    Block* allocate(u64 physical, u32 slots);
    void insert(Block* block, u32 generation);
    bool full() const { return bytes_ + 64 * KiB > capacity; }

    // The generation that a page's blocks were decoded from; false when it has none.
    bool generation_of(u64 page, u32& generation) const;
    template <typename Fn>
    void for_each_page(Fn&& fn) const {
        for (const auto& [page, code] : pages_) fn(page, code.generation);
    }
    void drop_page(u64 page);
    void clear();

    std::size_t bytes() const { return bytes_; }
    u64 dropped = 0;

  private:
    struct PageCode {
        u32 generation;
        Block* first;
    };
    // A hash table that grows with the code: thousands of clones that hardly run have one each.
    std::size_t bucket(u64 physical) const {
        return ((physical >> 1) * 0x9e3779b97f4a7c15u) >> bucket_shift_;
    }
    void grow();

    std::vector<Block*> buckets_;
    unsigned bucket_shift_;
    std::size_t blocks_ = 0;
    std::unordered_map<u64, PageCode> pages_;  // by physical page number
    std::vector<std::unique_ptr<u8[]>> chunks_;
    std::size_t chunk_used_ = 0, chunk_size_ = 0;  // of the last chunk
    std::size_t bytes_ = 0;
};

}  // namespace wirt::riscv
