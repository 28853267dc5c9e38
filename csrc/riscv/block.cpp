#include "riscv/block.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/bits.h"

namespace wirt::riscv {

JumpTargets JumpTargets::none, JumpTargets::never;

namespace {
// Memory comes in chunks as large as all before, within these bounds.
constexpr std::size_t least_chunk = 16 * KiB, most_chunk = 256 * KiB;
constexpr unsigned least_bucket_bits = 8, most_bucket_bits = 15;
}  // namespace

BlockCache::BlockCache()
    : buckets_(std::size_t{1} << least_bucket_bits, nullptr), bucket_shift_(64 - least_bucket_bits) {}

void BlockCache::grow() {
    --bucket_shift_;
    const std::vector<Block*> old =
        std::exchange(buckets_, std::vector<Block*>(2 * buckets_.size(), nullptr));
    for (Block* block : old) {
        while (block != nullptr) {
            Block* const next = block->hash_next;
            Block*& head = buckets_[bucket(block->physical)];
            block->hash_next = head;
            head = block;
            block = next;
        }
    }
}

Block* BlockCache::find(u64 physical) const {
    for (Block* block = buckets_[bucket(physical)]; block != nullptr; block = block->hash_next) {
        if (block->physical == physical) return block;
    }
    return nullptr;
}

u8* BlockCache::take(std::size_t size) {
    size = align_up(size, 16);
    if (chunk_used_ + size > chunk_size_) {
        chunk_size_ = std::clamp(bytes_, least_chunk, most_chunk);
        chunks_.push_back(std::make_unique_for_overwrite<u8[]>(chunk_size_));
        chunk_used_ = 0;
        bytes_ += chunk_size_;
    }
    u8* const taken = chunks_.back().get() + chunk_used_;
    chunk_used_ += size;
    return taken;
}

Block* BlockCache::allocate(u64 physical, u32 slots) {
    Block* block = reinterpret_cast<Block*>(take(sizeof(Block) + slots * sizeof(Insn)));
    block->physical = physical;
    block->hash_next = nullptr;
    block->page_next = nullptr;
    block->slots = slots;
    block->mark = Block::start_mark;
    return block;
}

void BlockCache::insert(Block* block, u32 generation) {
    if (++blocks_ > buckets_.size() && bucket_shift_ > 64 - most_bucket_bits) grow();
    Block*& head = buckets_[bucket(block->physical)];
    block->hash_next = head;
    head = block;
    auto [at, fresh] = pages_.try_emplace(block->physical >> page_shift, PageCode{generation, nullptr});
    block->page_next = at->second.first;
    at->second.first = block;
}

void BlockCache::remember_target(JumpTargets*& known, u64 version, u64 pc, Insn* insns) {
    if (known == &JumpTargets::never) return;
    if (known == &JumpTargets::none) {
        // Until a lookup, which sees to it, there is room: a jump is made from each block once at most.
        known = new (take(sizeof(JumpTargets))) JumpTargets;
    }
    if (known->version != version) {
        *known = {};
        known->version = version;
    }
    unsigned place = known->used;
    if (place < JumpTargets::capacity) {
        ++known->used;
    } else {
        // What comes first may be what came once: now and then another one gets a place.
        constexpr unsigned patience = 64;
        if (++known->missed % patience != 0) return;
        place = known->missed / patience % JumpTargets::capacity;
    }
    known->targets[place] = {pc, insns};
}

bool BlockCache::generation_of(u64 page, u32& generation) const {
    const auto at = pages_.find(page);
    if (at == pages_.end()) return false;
    generation = at->second.generation;
    return true;
}

void BlockCache::drop_page(u64 page) {
    const auto at = pages_.find(page);
    if (at == pages_.end()) return;
    for (Block* block = at->second.first; block != nullptr; block = block->page_next) {
        Block** link = &buckets_[bucket(block->physical)];
        while (*link != block) link = &(*link)->hash_next;
        *link = block->hash_next;
        ++dropped;
        --blocks_;
    }
    pages_.erase(at);
}

void BlockCache::clear() {
    for (const auto& [page, code] : pages_) {
        for (Block* block = code.first; block != nullptr; block = block->page_next) ++dropped;
    }
    std::fill(buckets_.begin(), buckets_.end(), nullptr);
    pages_.clear();
    chunks_.clear();
    chunk_used_ = chunk_size_ = 0;
    bytes_ = 0;
    blocks_ = 0;
}

}  // namespace wirt::riscv
