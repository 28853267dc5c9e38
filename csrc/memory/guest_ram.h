// Guest RAM: one host mapping, and per page what the fast paths must not see (code, dirty, preserved,
// absent).
//
// The store fast path of a hart writes pages without telling anyone. It may do so only for a page that
// nobody wants to hear of (`stores_unwatched`): a page that holds decoded code, that a dirty log counts as
// clean, or that a capture has yet to preserve is left out of the store TLB, so that a store to it comes
// through `will_write` and `note_write`. Whoever makes a page clean again calls the listener of
// `on_stores_watched`, which returns when every hart has forgotten its store TLB. So none of this costs the
// fast path anything, and what is off costs the slow path one comparison.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "base/bits.h"
#include "base/state_visitor.h"
#include "base/types.h"
#include "memory/page_bitmap.h"
#include "memory/page_set.h"
#include "memory/ram_image.h"

namespace wirt::memory {

class PageCapture;

// Who wants to know which pages were written. Each has a log of its own.
enum class DirtyLog : u8 {
    point,      // since the content was last shared with clones, or taken from a point
    snapshot,   // since the last snapshot
    migration,  // since they were sent
    replay,     // since the last checkpoint
};
inline constexpr unsigned dirty_logs = 4;

// Where pages come from that are not there yet: the other host of a post-copy migration.
class PageSource {
  public:
    virtual ~PageSource() = default;
    // Returns when all pages of [first, first + count) are there; false when they will never be. Any thread.
    virtual bool require(u64 first, u64 count) = 0;
};

class GuestRam {
  public:
    // Reserves `size` bytes (a multiple of the page size) of lazily allocated zero pages that the guest sees
    // at `base`. Throws ConfigError when the host has not enough address space.
    GuestRam(u64 base, u64 size);
    // The content of `point`, copy-on-write, of which the `point` log then counts the difference.
    GuestRam(u64 base, u64 size, RamPoint point);
    ~GuestRam();
    GuestRam(const GuestRam&) = delete;
    GuestRam& operator=(const GuestRam&) = delete;

    u64 base() const { return base_; }
    u64 size() const { return size_; }
    u64 pages() const { return size_ >> page_shift; }
    // The whole mapping. Not to be looked into while a page source is set.
    u8* data() const { return data_; }
    std::span<u8> bytes() const { return {data_, size_}; }
    bool contains(u64 address, u64 length) const { return range_inside(address, length, base_, size_); }
    // Null when any byte of the range lies outside RAM. Waits for pages that are not there yet.
    u8* host(u64 address, u64 length) const {
        if (!contains(address, length)) return nullptr;
        if (source_.load(std::memory_order_acquire) != nullptr && !require(address, length)) return nullptr;
        return data_ + (address - base_);
    }
    u8* page_data(u64 page) const { return data_ + page * page_size; }
    // Whether there is a file behind it, which clones or a snapshot share; never false again.
    bool shared() const { return shared_.load(std::memory_order_seq_cst); }

    // --- code tracking: written by harts when they decode, read by every writer ---

    bool holds_code(u64 page_index) const { return code(page_index).load(std::memory_order_relaxed) & 1; }
    // Marks a page as decoded from. True when it was not marked before; the caller then has every hart drop
    // its store-TLB entries for the page.
    bool mark_code(u64 page_index) {
        return (code(page_index).fetch_or(1, std::memory_order_seq_cst) & 1) == 0;
    }
    // Around marking a page and telling the other harts so: while one does, a store that went through an
    // entry of before the mark may not have been noticed yet.
    void begin_marking() { marking_.fetch_add(1, std::memory_order_seq_cst); }
    void end_marking() { marking_.fetch_sub(1, std::memory_order_seq_cst); }
    bool marking() const { return marking_.load(std::memory_order_seq_cst) != 0; }
    // Counts the writes that hit a page while it held code: decoded blocks are good for one generation.
    u32 code_generation(u64 page_index) const {
        return code(page_index).load(std::memory_order_acquire) >> 1;
    }
    // Changes whenever any page's generation does.
    u64 code_epoch() const { return code_epoch_.load(std::memory_order_acquire); }
    void invalidate_code(u64 page_index);
    // While no hart runs, or has decoded code: no page holds any.
    void forget_code() { code_.clear(0, code_.size()); }
    // Called (from any thread) after code was overwritten; the machine uses it to interrupt the harts.
    void on_code_write(std::function<void()> listener) { code_listener_ = std::move(listener); }

    // --- writing: every write that does not come through a hart's store TLB ---

    // Before the write: what the range holds is preserved where somebody still needs it.
    void will_write(u64 address, u64 length) {
        if ((watches_.load(std::memory_order_acquire) & capture_watch) != 0) preserve(address, length);
    }
    // After it: code is noticed, and the pages are dirty.
    void note_write(u64 address, u64 length);
    // Whether stores to the page need be told to nobody, so that it may be in a store TLB.
    bool stores_unwatched(u64 page) const {
        return !holds_code(page) && (watches_.load(std::memory_order_acquire) == 0 || seen_by_all(page));
    }
    // Returns when no hart has an entry of before the call in its store TLB.
    void on_stores_watched(std::function<void()> listener) { watch_listener_ = std::move(listener); }

    // --- dirty logs ---

    // From here on the log counts pages that are written; none is dirty.
    void start_log(DirtyLog log);
    void stop_log(DirtyLog log);
    bool log_active(DirtyLog log) const { return (watches_.load() >> static_cast<unsigned>(log) & 1) != 0; }
    u64 dirty_count(DirtyLog log) const;
    // The log's pages. While harts run it is out of date at once.
    PageSet dirty(DirtyLog log) const;
    // Hands the dirty pages over and makes them clean. A write that the caller does not see when it reads a
    // page afterwards makes the page dirty again. Not on a hart's thread.
    PageSet take_dirty(DirtyLog log);

    // --- content at one moment ---

    // These are called while no hart runs and no DMA is under way.
    // Whoever has the capture can read the present content of `pages` while the guest goes on. One at a time:
    // StateError while there is another.
    std::unique_ptr<PageCapture> begin_capture(PageSet pages);
    // The present content as a point from which others can start. `clones` is how many will: so many times a
    // page that differs from the last point would be copied.
    RamPoint freeze(u64 clones);
    // Puts the content back with which this object began, by undoing what was written since; how many pages
    // that were. StateError when it began with none.
    u64 reset();

    // --- content that is not there yet ---

    // While no hart runs, but for null: all is there, and `source` stays until the memory goes.
    void set_source(PageSource* source) { source_.store(source, std::memory_order_release); }
    // Waits for all of it.
    bool require_all() const { return host(base_, size_) != nullptr; }

    void visit_state(StateVisitor& v);

  private:
    friend class PageCapture;
    static constexpr u32 capture_watch = 1u << dirty_logs;

    std::atomic<u32>& code(u64 page) const { return reinterpret_cast<std::atomic<u32>*>(code_.data())[page]; }
    bool seen_by_all(u64 page) const;
    PageBitmap& log_of(DirtyLog log) const { return *logs_[static_cast<unsigned>(log)]; }
    bool require(u64 address, u64 length) const;
    void preserve(u64 address, u64 length);
    void end_capture();
    void watch(u32 bits);

    const u64 base_;
    const u64 size_;
    u8* data_ = nullptr;
    // Per page: bit 0 "holds code", bits 31..1 generation.
    HostPages code_;
    std::atomic<u64> code_epoch_{0};
    std::atomic<u32> marking_{0};
    std::function<void()> code_listener_;

    std::atomic<u32> watches_{0};  // a bit for each active log, and one for the capture
    // Made when first started, and kept: a writer may still be looking at a log that was stopped.
    std::array<std::unique_ptr<PageBitmap>, dirty_logs> logs_;
    std::function<void()> watch_listener_;
    std::unique_ptr<PageBitmap> preserved_;  // pages that the capture needs no more; kept like the logs
    std::mutex capture_mutex_;               // held by a writer that preserves, and to end the capture
    PageCapture* capture_ = nullptr;
    std::optional<RamPoint> origin_;  // what it began with
    std::optional<RamPoint> point_;   // what it shares with clones: the `point` log has the difference
    std::atomic<bool> shared_{false};
    PageSet since_origin_;  // pages in which `point_` differs from `origin_`
    std::atomic<PageSource*> source_{nullptr};
};

}  // namespace wirt::memory
