// Guest RAM: one host mapping, and per page what the fast paths must not see (code, dirty).
//
// The store fast path of a hart writes pages without telling anyone. It may do so only for a page whose
// flags are clear of what wants to be told: a page that holds decoded code is left out of the store TLB, so
// a store to it comes through `note_write`.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>

#include "base/bits.h"
#include "base/state_visitor.h"
#include "base/types.h"

namespace wirt::memory {

class GuestRam {
  public:
    // Reserves `size` bytes (a multiple of the page size) of lazily allocated zero pages that the guest sees
    // at `base`. Throws ConfigError when the host has not enough address space.
    GuestRam(u64 base, u64 size);
    ~GuestRam();
    GuestRam(const GuestRam&) = delete;
    GuestRam& operator=(const GuestRam&) = delete;

    u64 base() const { return base_; }
    u64 size() const { return size_; }
    u8* data() const { return data_; }
    std::span<u8> bytes() const { return {data_, size_}; }
    bool contains(u64 address, u64 length) const { return range_inside(address, length, base_, size_); }
    // Null when any byte of the range lies outside RAM.
    u8* host(u64 address, u64 length) const {
        return contains(address, length) ? data_ + (address - base_) : nullptr;
    }

    // --- code tracking: written by harts when they decode, read by every writer ---

    bool holds_code(u64 page_index) const { return code_[page_index].load(std::memory_order_relaxed) & 1; }
    // Marks a page as decoded from. True when it was not marked before; the caller then has every hart drop
    // its store-TLB entries for the page.
    bool mark_code(u64 page_index) {
        return (code_[page_index].fetch_or(1, std::memory_order_seq_cst) & 1) == 0;
    }
    // Counts the writes that hit a page while it held code: decoded blocks are good for one generation.
    u32 code_generation(u64 page_index) const {
        return code_[page_index].load(std::memory_order_acquire) >> 1;
    }
    // Changes whenever any page's generation does.
    u64 code_epoch() const { return code_epoch_.load(std::memory_order_acquire); }
    void invalidate_code(u64 page_index);

    // Every write that does not come through a hart's store TLB: slow-path stores, DMA, the host.
    void note_write(u64 address, u64 length);

    // Called (from any thread) after code was overwritten; the machine uses it to interrupt the harts.
    void on_code_write(std::function<void()> listener) { code_listener_ = std::move(listener); }

    void visit_state(StateVisitor& v);

  private:
    const u64 base_;
    const u64 size_;
    u8* data_ = nullptr;
    // Per page: bit 0 "holds code", bits 31..1 generation.
    std::unique_ptr<std::atomic<u32>[]> code_;
    std::atomic<u64> code_epoch_{0};
    std::function<void()> code_listener_;
};

}  // namespace wirt::memory
