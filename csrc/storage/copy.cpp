// Copying a disk into a file. Memory is bounded whatever the range; the file is the host's and trusted, and
// its errors are the host's to see.

#include "storage/copy.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/bits.h"
#include "base/error.h"
#include "storage/cluster_map.h"
#include "storage/spans.h"

namespace wirt::storage {

namespace {

constexpr u64 step_bytes = 1 * MiB;
constexpr u64 cluster_bytes = ClusterMap::cluster_bytes;

// Calls `use` with each run of data that begins inside the range, cut to it.
template <typename Use>
void for_data(BlockBackend& disk, u64 offset, u64 length, Use use) {
    const u64 end = offset + length;
    while (offset < end) {
        const std::optional<Run> run = disk.next_data(offset);
        if (!run || run->offset >= end) return;
        offset = std::min(run->end(), end);
        use(Run{run->offset, offset - run->offset});
    }
}

void write_all(int file, const u8* from, u64 offset, u64 length) {
    while (length > 0) {
        const ssize_t written = ::pwrite(file, from, length, static_cast<off_t>(offset));
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) {
            const int error = written < 0 ? errno : EIO;
            const char* remedy = error == ENOSPC || error == EDQUOT || error == EFBIG
                                     ? "; make room or choose another place, and copy again"
                                     : "";
            throw StorageError("a copy of a disk cannot be written at byte " + std::to_string(offset) +
                               " of file descriptor " + std::to_string(file) + ": " + std::strerror(error) +
                               remedy);
        }
        from += written;
        offset += static_cast<u64>(written);
        length -= static_cast<u64>(written);
    }
}

// The end of the cluster that `at` lies in.
u64 cluster_end(u64 at, u64 limit) {
    return std::min(align_down(at, cluster_bytes) + cluster_bytes, limit);
}

}  // namespace

std::vector<Run> data_runs(BlockBackend& disk, u64 offset, u64 length) {
    std::vector<Run> runs;
    for_data(disk, offset, length, [&](Run run) {
        if (!runs.empty() && runs.back().end() == run.offset) {
            runs.back().length += run.length;
        } else {
            runs.push_back(run);
        }
    });
    return runs;
}

u64 copy_range(BlockBackend& disk, int file, u64 offset, u64 length) {
    std::vector<u8> buffer(std::min(length, step_bytes));
    u64 written = 0;
    for_data(disk, offset, length, [&](Run run) {
        for (u64 begin = run.offset; begin < run.end();) {
            // Steps end where clusters do, so that a cluster is looked at as a whole.
            const u64 end = std::min(run.end(), align_down(begin, step_bytes) + step_bytes);
            const iovec span{buffer.data(), static_cast<std::size_t>(std::min(end - begin, buffer.size()))};
            if (const int error = disk.read(begin, {&span, 1})) {
                throw StorageError(disk.describe() + ": cannot be read at byte " + std::to_string(begin) +
                                   ": " + std::strerror(error));
            }
            const auto zero_at = [&](u64 at) {
                return is_zero(buffer.data() + (at - begin), cluster_end(at, end) - at);
            };
            for (u64 at = begin; at < end;) {
                const u64 start = at;
                const bool zero = zero_at(at);
                while (at < end && zero_at(at) == zero) at = cluster_end(at, end);
                if (zero) continue;
                write_all(file, buffer.data() + (start - begin), start, at - start);
                written += at - start;
            }
            begin = end;
        }
    });
    return written;
}

}  // namespace wirt::storage
