// Pages that arrive while the guest runs already: what a post-copy migration's destination waits for.
//
// A hart or a device that needs a page which is not there waits in GuestRam::host until somebody has brought
// it; whom it is waiting for asks here which pages are wanted.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "memory/guest_ram.h"

namespace wirt::memory {

class PageArrivals final : public PageSource {
  public:
    // Must outlive its being the memory's source. `missing` are the pages that will arrive.
    PageArrivals(GuestRam& ram, const PageSet& missing);

    // --- who needs pages: any thread ---
    bool require(u64 first, u64 count) override;

    // --- who brings them ---
    // `write(page_data)` once, if the page is still missing; then those who wait for it go on. False: it was
    // there. Any thread.
    template <typename Write>
    bool arrive(u64 page, Write write) {
        if (!claimed_.set(page)) return false;
        write(ram_.page_data(page));
        arrived(page);
        return true;
    }
    // Pages that somebody waits for and that were not given out before, at most `most`; waits `timeout_s` for
    // the first. Empty then, or when nothing is missing any more, or after give_up().
    std::vector<u64> wanted(u64 most, double timeout_s);
    // All that somebody waits for is given out once more: who was asked is gone.
    void ask_again();
    u64 missing() const { return missing_.load(); }
    PageSet missing_pages() const;
    // Ends all waiting: require() is false from now on. The machine is of no use then.
    void give_up();
    // How long each wait for a page took, in ns; the first 100,000 of them.
    std::vector<u64> waits() const;

  private:
    void arrived(u64 page);

    GuestRam& ram_;
    PageBitmap there_;
    PageBitmap claimed_;  // somebody writes it, or did
    std::atomic<u64> missing_;
    mutable std::mutex mutex_;  // a leaf
    std::condition_variable arrived_;
    std::condition_variable wanted_changed_;
    std::deque<u64> wanted_;  // not given out yet; some may be there meanwhile
    PageSet asked_;           // somebody waits for it
    std::vector<u64> waits_;
    bool over_ = false;
};

}  // namespace wirt::memory
