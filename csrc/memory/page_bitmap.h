// A bit for each page of guest RAM, that any thread may set while others look: what dirty logs are made of.
// Costs nothing until a bit is set.
#pragma once

#include <bit>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/host_pages.h"
#include "base/types.h"

namespace wirt::memory {

class PageBitmap {
  public:
    // Throws ConfigError when the host has not enough address space.
    explicit PageBitmap(u64 pages) : words_((pages + 63) / 64), storage_(words_ * sizeof(u64)) {
        if (!storage_) {
            throw ConfigError(std::string("the host cannot reserve a bitmap of pages: ") +
                              std::strerror(errno));
        }
    }

    u64 words() const { return words_; }
    bool test(u64 page) const { return (load(page / 64) >> (page % 64) & 1) != 0; }
    // True when it was clear. Looks first: a bit that is set already costs no exclusive access.
    bool set(u64 page) {
        const u64 bit = u64{1} << (page % 64);
        if ((load(page / 64) & bit) != 0) return false;
        return (__atomic_fetch_or(at(page / 64), bit, __ATOMIC_SEQ_CST) & bit) == 0;
    }
    void unset(u64 page) { __atomic_fetch_and(at(page / 64), ~(u64{1} << (page % 64)), __ATOMIC_SEQ_CST); }
    u64 load(u64 word) const { return __atomic_load_n(at(word), __ATOMIC_SEQ_CST); }
    // Sets the bits of `mask`; those of them that were clear.
    u64 set_word(u64 word, u64 mask) { return mask & ~__atomic_fetch_or(at(word), mask, __ATOMIC_SEQ_CST); }
    // Hands a word over and clears it.
    u64 take_word(u64 word) {
        return load(word) == 0 ? 0 : __atomic_exchange_n(at(word), u64{0}, __ATOMIC_SEQ_CST);
    }
    void clear() { storage_.clear(0, storage_.size()); }
    u64 count() const {
        u64 total = 0;
        for (u64 word = 0; word < words_; ++word) total += static_cast<u64>(std::popcount(load(word)));
        return total;
    }

  private:
    u64* at(u64 word) const { return reinterpret_cast<u64*>(storage_.data()) + word; }

    u64 words_;
    HostPages storage_;
};

}  // namespace wirt::memory
