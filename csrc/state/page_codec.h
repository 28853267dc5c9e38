// Pages of guest RAM as they travel to another host: a batch of records, numbers little-endian.
//
//   record   page:u32 length:u16 data
//
//   length 0       the page holds zeroes
//   length 4096    its content
//   less           what changed since it was sent last: skip:u8 count:u8 and `count` words of eight bytes,
//                  over and over, the new words behind `skip` that stay (QEMU's XBZRLE is the idea)
//
// Pages of zeroes that the other side never had otherwise are not sent, nor are pages that are as they were.
//
// Untrusted input: all that is decoded. A batch is checked as a whole before a byte of it is applied.
#pragma once

#include <span>
#include <vector>

#include "base/host_pages.h"
#include "memory/guest_ram.h"
#include "memory/page_arrivals.h"
#include "memory/page_set.h"

namespace wirt::state {

// What one stream of a migration sends. Pages must arrive in the order of the batches: a difference is one to
// what was sent last. One caller at a time; the guest may go on meanwhile, and a page that it writes while it
// is encoded must be sent again (GuestRam::take_dirty says so).
class PageEncoder {
  public:
    // Remembers at most `cache_pages` pages (rounded up to one) to find differences.
    PageEncoder(const memory::GuestRam& ram, u64 cache_pages);

    struct Counts {
        u64 looked_at = 0;  // all that follow, and zero pages that were not sent
        u64 zero = 0, whole = 0, changed = 0, same = 0;
        u64 changed_bytes = 0;  // of the records in `changed`
    };

    // Takes pages out of `left` in order, until the batch has `most` bytes or no page is left. The batch may
    // be empty although pages were taken. `remember`: they are likely to be sent again.
    std::vector<u8> encode(memory::PageSet& left, u64 most, bool remember);
    // The same with a record for every page, whatever the other side has: it waits for each.
    std::vector<u8> encode_all(memory::PageSet& left, u64 most);
    const Counts& counts() const { return counts_; }

  private:
    struct Slot {
        u64 page = 0;  // plus one; 0: empty
        u32 round = 0;
    };

    void append(std::vector<u8>& out, u64 page, bool remember);
    u8* cached(u64 slot) { return cache_.data() + slot * page_size; }
    // False when the difference would not be smaller than the page.
    bool append_difference(std::vector<u8>& out, u64 page, const u8* before);

    const memory::GuestRam& ram_;
    memory::PageSet sent_;  // the other side has something else than zeroes
    u64 slots_;
    HostPages cache_;  // lazily allocated
    std::vector<Slot> slot_;
    u32 round_ = 0;  // one a pass over the pages: `encode` emptied its set
    Counts counts_;
    alignas(8) u8 page_[page_size];  // a copy that the guest does not change
};

// Checks a batch and applies it to the memory of a machine that does not run, or, with `arrivals`, to pages
// of it that were missing: those that are there already are passed over. Throws SnapshotError and changes
// nothing when it is broken. How many pages it has.
u64 decode_pages(memory::GuestRam& ram, std::span<const u8> batch, memory::PageArrivals* arrivals);

}  // namespace wirt::state
