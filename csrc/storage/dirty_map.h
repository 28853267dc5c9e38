// Which granules of a disk were written: a bit each, set by those who write and taken by the one who mirrors.
//
// Offsets and lengths come checked (BlockBackend). All methods are thread-safe.
#pragma once

#include <atomic>
#include <bit>
#include <vector>

#include "base/bits.h"
#include "storage/block_backend.h"
#include "storage/host_pages.h"

namespace wirt::storage {

class DirtyMap {
  public:
    // `granularity` is a power of two.
    DirtyMap(u64 disk_size, u64 granularity)
        : size_(disk_size),
          shift_(static_cast<unsigned>(std::countr_zero(granularity))),
          granules_((disk_size + granularity - 1) >> shift_),
          words_((granules_ / 64 + 1) * sizeof(u64), true) {}

    // Called when the content has changed. The bits are written although they may be set already: to look
    // first would let the look pass ahead of the change itself, and a take() between the two lose it.
    void mark(u64 offset, u64 length) {
        if (length == 0) return;
        const u64 end = ((offset + length - 1) >> shift_) + 1;
        for (u64 first = offset >> shift_; first < end;) {
            const u64 stop = std::min(end, align_down(first, 64) + 64);
            const u64 count = stop - first;
            const u64 mask = (count == 64 ? ~u64{0} : (u64{1} << count) - 1) << (first % 64);
            word(first / 64).fetch_or(mask);
            first = stop;
        }
    }

    // Hands over what is marked and clears it. A mark set meanwhile is in this answer or in the next.
    std::vector<Run> take() {
        std::vector<Run> runs;
        for (u64 index = 0; index * 64 < granules_; ++index) {
            if (word(index).load(std::memory_order_relaxed) == 0) continue;
            u64 dirty = word(index).exchange(0);
            while (dirty != 0) {
                const auto first = static_cast<unsigned>(std::countr_zero(dirty));
                const auto count = static_cast<unsigned>(std::countr_one(dirty >> first));
                append(runs, index * 64 + first, count);
                dirty &= first + count == 64 ? 0 : ~u64{0} << (first + count);
            }
        }
        return runs;
    }

  private:
    std::atomic_ref<u64> word(u64 index) const {
        return std::atomic_ref<u64>(reinterpret_cast<u64*>(words_.data())[index]);
    }

    void append(std::vector<Run>& runs, u64 granule, u64 count) const {
        const u64 offset = granule << shift_;
        const u64 length = std::min(count << shift_, size_ - offset);
        if (!runs.empty() && runs.back().end() == offset) {
            runs.back().length += length;
        } else {
            runs.push_back({offset, length});
        }
    }

    const u64 size_;
    const unsigned shift_;
    const u64 granules_;
    HostPages words_;
};

}  // namespace wirt::storage
