// A set of pages that nobody changes meanwhile: what was taken out of a dirty log, and what snapshots and
// migrations compute with.
#pragma once

#include <bit>
#include <utility>
#include <vector>

#include "base/types.h"

namespace wirt::memory {

class PageSet {
  public:
    explicit PageSet(u64 pages = 0) : pages_(pages), words_((pages + 63) / 64) {}

    u64 pages() const { return pages_; }  // how many it may hold: 0 .. pages() - 1
    bool contains(u64 page) const { return page < pages_ && (words_[page / 64] >> (page % 64) & 1) != 0; }
    void insert(u64 page) { words_[page / 64] |= u64{1} << (page % 64); }
    void remove(u64 page) { words_[page / 64] &= ~(u64{1} << (page % 64)); }
    void insert_all() {
        for (u64 page = 0; page < pages_; page += 64) {
            const u64 left = pages_ - page;
            words_[page / 64] = left >= 64 ? ~u64{0} : (u64{1} << left) - 1;
        }
    }
    u64 size() const {
        u64 total = 0;
        for (const u64 word : words_) total += static_cast<u64>(std::popcount(word));
        return total;
    }
    bool empty() const {
        for (const u64 word : words_) {
            if (word != 0) return false;
        }
        return true;
    }
    u64& word(u64 index) { return words_[index]; }
    u64 word(u64 index) const { return words_[index]; }
    u64 words() const { return words_.size(); }

    // The first page at or after `from`; pages() when there is none.
    u64 next(u64 from) const {
        while (from < pages_) {
            const u64 rest = words_[from / 64] >> (from % 64);
            if (rest != 0) return from + static_cast<u64>(std::countr_zero(rest));
            from = (from / 64 + 1) * 64;
        }
        return pages_;
    }
    // (first page, count) of every run, in order.
    std::vector<std::pair<u64, u64>> runs() const {
        std::vector<std::pair<u64, u64>> out;
        for (u64 page = next(0); page < pages_; page = next(page + 1)) {
            if (!out.empty() && out.back().first + out.back().second == page) {
                ++out.back().second;
            } else {
                out.emplace_back(page, 1);
            }
        }
        return out;
    }

    // Of sets that may hold equally many.
    PageSet& operator|=(const PageSet& other) {
        for (u64 i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
        return *this;
    }
    PageSet& operator&=(const PageSet& other) {
        for (u64 i = 0; i < words_.size(); ++i) words_[i] &= other.words_[i];
        return *this;
    }
    PageSet& operator-=(const PageSet& other) {
        for (u64 i = 0; i < words_.size(); ++i) words_[i] &= ~other.words_[i];
        return *this;
    }
    bool operator==(const PageSet&) const = default;

  private:
    u64 pages_;
    std::vector<u64> words_;
};

}  // namespace wirt::memory
