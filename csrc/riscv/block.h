// Decoded guest code: runs of pre-decoded instructions, found by physical address.
//
// A block lies within one page and ends at an unconditional control transfer, at an instruction that may
// change how what follows is decoded or translated, or at the next multiple of `span` bytes. It goes on
// behind a conditional branch: a branch that is taken leaves it early, through an exit of its own. Because of
// these rules where a block ends depends on addresses only, not on where execution entered or stopped.
//
// Blocks are chained within their page only. So all that a page's loss leaves dangling are the jump caches.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "base/types.h"

namespace wirt::riscv {

struct Block;
struct Insn;

// Where a jump through a register has gone to. The interpreter compares the target with each: which one it is
// the host's branch predictor says beforehand, while a table found by the target's bits has to wait for them.
// All that follows hangs on the address of the next slot.
struct JumpTargets {
    static constexpr unsigned capacity = 8;
    static constexpr u64 no_pc = 1;
    u64 version = 0;  // TlbSet::jump_version that they were found under
    struct Target {
        u64 pc = no_pc;
        Insn* insns = nullptr;
    } targets[capacity];
    u32 used = 0;
    u32 missed = 0;  // since all are used
    // Of a jump that has not been made, and of one that does not remember: its block runs once.
    static JumpTargets none, never;
};

// One pre-decoded instruction. x0 as destination is register 32, which nobody reads. What has no destination
// register keeps SlotBits in `rd`.
struct Insn {
    const void* handler;
    i32 imm;  // immediate; CSR number; for floating point rs3 | rm << 8; for AUIPC and for targets known when
              // decoding relative to the page
    u8 rd;
    u8 offset;  // from the block's start, in halfwords
    u8 rs1;     // for JAL rs1 and rs2 hold the link address, relative to the page
    u8 rs2;
};
static_assert(sizeof(Insn) == 16);

enum SlotBits : u8 {
    slot_uncounted = 0x40,  // no guest instruction: a check, or the end of the block
    slot_has_exit = 0x80,   // an Exit follows in the next slot, and then the block goes on
};

// Stands behind an instruction that goes to a known place.
struct Exit {
    // What to add to the count as of the end of the block that is left to have it as of the end of `target`:
    // the instructions of the one less those that are skipped in the other. Without a target it is so large
    // that the count passes every limit, so that one comparison asks both questions.
    u64 adjust;
    Insn* target;
    static constexpr u64 unlinked = u64{1} << 62;
};
static_assert(sizeof(Exit) == sizeof(Insn));

// Stands behind an instruction that ends its block and goes to a place not known, or may do so.
struct Place {
    u32 address;  // of the instruction, relative to the page
    u32 next;     // of what follows it
    JumpTargets* targets;
};
static_assert(sizeof(Place) == sizeof(Insn));

struct Block {
    u64 physical;  // of the first instruction
    Block* hash_next;
    Block* page_next;
    u32 slots;    // behind the header
    bool cached;  // found by lookup again; a scratch block runs once and is never linked to
    u64 mark;     // start_mark: what tells the header from a slot, to who walks back from an instruction
    u64 count;    // guest instructions
    Insn insns[];

    // No address of a handler, and no adjustment of an Exit, nor a Place.
    static constexpr u64 start_mark = 0xffff'0000'5741'5254;
    static Block* of(Insn* first) { return reinterpret_cast<Block*>(first) - 1; }
};
static_assert(sizeof(Block) % sizeof(Insn) == 0);

class BlockCache {
  public:
    static constexpr u64 span = 256;  // bytes of guest code; blocks end at its multiples
    // Two checks may precede each instruction, and an exit follow it.
    static constexpr unsigned max_slots = 4 * span / 2 + 2;
    static constexpr std::size_t capacity = 64 * MiB;

    BlockCache();
    Block* find(u64 physical) const;
    // Space for a block of `slots` instructions. Call `make_room` first, at a point where no block is in use.
    Block* allocate(u64 physical, u32 slots);
    void insert(Block* block, u32 generation);
    // Adds one to what is known of a jump's targets; `version` is that of the set they were found in.
    void remember_target(JumpTargets*& known, u64 version, u64 pc, Insn* insns);
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
    u8* take(std::size_t size);

    std::vector<Block*> buckets_;
    unsigned bucket_shift_;
    std::size_t blocks_ = 0;
    std::unordered_map<u64, PageCode> pages_;  // by physical page number
    std::vector<std::unique_ptr<u8[]>> chunks_;
    std::size_t chunk_used_ = 0, chunk_size_ = 0;  // of the last chunk
    std::size_t bytes_ = 0;
};

}  // namespace wirt::riscv
