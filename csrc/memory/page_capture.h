// The content of pages as it was at one moment, read while the guest goes on writing them: whoever is about
// to write a page that was not read yet copies it first (GuestRam::will_write).
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "memory/guest_ram.h"

namespace wirt::memory {

class PageCapture {
  public:
    ~PageCapture();
    PageCapture(const PageCapture&) = delete;
    PageCapture& operator=(const PageCapture&) = delete;

    struct Batch {
        std::vector<u64> pages;   // in no order
        std::vector<u8> content;  // page_size bytes each; zero pages are left out of both
        u64 visited = 0;          // with those of zeroes; 0: all were read
    };
    // The next pages, about `most` of them. One reader at a time.
    Batch read(u64 most);
    // Pages that are still to be read.
    u64 remaining() const { return remaining_.load(); }
    // How many pages the guest wrote before they were read.
    u64 preserved() const { return preserved_count_.load(); }

  private:
    friend class GuestRam;
    PageCapture(GuestRam& ram, PageSet pages);

    // With the lock of captures held, for a page that GuestRam::preserved_ does not have.
    void preserve(u64 page);

    GuestRam& ram_;
    const PageSet wanted_;
    PageBitmap claimed_;  // somebody copies it, or did
    std::atomic<u64> remaining_;
    std::atomic<u64> preserved_count_{0};
    u64 next_ = 0;  // the reader's place

    struct Preserved {
        u64 page;
        std::unique_ptr<u8[]> content;
    };
    std::mutex mutex_;
    std::deque<Preserved> kept_;
};

}  // namespace wirt::memory
