// Which clusters of a disk hold content of their own: a bit each, in memory that is reserved for the whole
// disk and used as bits are set.
//
// Offsets and lengths come checked (BlockBackend). Not thread-safe: whoever has the map has a lock as well.
#pragma once

#include <algorithm>
#include <bit>
#include <optional>

#include "storage/block_backend.h"
#include "storage/host_pages.h"

namespace wirt::storage {

class ClusterMap {
  public:
    // The size in which file systems write.
    static constexpr u64 cluster_bytes = 4 * KiB;

    explicit ClusterMap(u64 disk_size) : size_(disk_size), bits_(disk_size / cluster_bytes / 8 + 8, true) {}

    bool test(u64 offset) const { return bit(word(index(offset)), index(offset) % 64); }

    // Every cluster that the range touches.
    void set(u64 offset, u64 length) {
        for_words(index(offset), index(offset + length - 1) + 1, [](u64& word, u64 mask) { word |= mask; });
    }

    // Every cluster that lies in the range as a whole; the disk's last one may be short.
    void clear(u64 offset, u64 length) {
        const u64 end = offset + length == size_ ? align_up(size_, cluster_bytes) : offset + length;
        const u64 first = index(align_up(offset, cluster_bytes)), last = index(end);
        if (first < last) for_words(first, last, [](u64& word, u64 mask) { word &= ~mask; });
    }

    // From `offset` on, how many of the next `limit` bytes are like the first.
    u64 run_length(u64 offset, u64 limit) const {
        return std::min(find(offset, !test(offset), offset + limit) - offset, limit);
    }

    // The first run at or after `from` that is set.
    std::optional<Run> next(u64 from) const {
        const u64 start = find(from, true, size_);
        if (start >= size_) return std::nullopt;
        return Run{start, std::min(find(start, false, size_), size_) - start};
    }

  private:
    static u64 index(u64 offset) { return offset / cluster_bytes; }
    u64& word(u64 cluster) const { return reinterpret_cast<u64*>(bits_.data())[cluster / 64]; }

    // Where at or after `from` the first cluster with such a bit begins; `limit` or more when none does.
    u64 find(u64 from, bool value, u64 limit) const {
        for (u64 cluster = index(from); cluster * cluster_bytes < limit;
             cluster = align_down(cluster, 64) + 64) {
            const u64 wanted = (value ? word(cluster) : ~word(cluster)) >> (cluster % 64);
            if (wanted == 0) continue;
            return std::max(from, (cluster + static_cast<u64>(std::countr_zero(wanted))) * cluster_bytes);
        }
        return std::max(from, limit);
    }

    template <typename Change>
    void for_words(u64 first, u64 end, Change change) {
        while (first < end) {
            const u64 stop = std::min(end, align_down(first, 64) + 64);
            const u64 count = stop - first;
            const u64 mask = (count == 64 ? ~u64{0} : (u64{1} << count) - 1) << (first % 64);
            change(word(first), mask);
            first = stop;
        }
    }

    u64 size_;
    HostPages bits_;
};

}  // namespace wirt::storage
