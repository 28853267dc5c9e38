// Copy-on-write over any backend, by clusters of 4 KiB, the size in which file systems write: such a write
// needs nothing from below. Memory is reserved for the whole disk and used as it is written.
//
// Offsets and lengths come checked (BlockBackend).

#include "storage/overlay.h"

#include <mutex>
#include <shared_mutex>

#include "storage/host_pages.h"
#include "storage/spans.h"

namespace wirt::storage {

namespace {

constexpr u64 cluster_bytes = 4 * KiB;

class Overlay final : public BlockBackend {
  public:
    explicit Overlay(std::shared_ptr<BlockBackend> base)
        : base_(std::move(base)),
          size_(base_->size()),
          owned_(size_ / cluster_bytes / 8 + 1),
          content_(size_) {}

    u64 size() const override { return size_; }
    bool read_only() const override { return false; }
    std::string describe() const override { return base_->describe() + ", ephemeral"; }

    int read(u64 offset, std::span<const iovec> spans) override {
        std::shared_lock lock(mutex_);
        SpanCursor cursor(spans);
        std::vector<iovec> below;
        for (u64 at = offset, left = total_bytes(spans); left > 0;) {
            const u64 length = run_length(at, left);
            if (owned(at)) {
                cursor.copy_in(content_.data() + at, length);
            } else {
                below.clear();
                cursor.take(length, below);
                if (const int error = base_->read(at, below)) return error;
            }
            at += length;
            left -= length;
        }
        return 0;
    }

    int write(u64 offset, std::span<const iovec> spans) override {
        std::unique_lock lock(mutex_);
        const u64 length = total_bytes(spans);
        if (length == 0) return 0;
        if (const int error = keep_edges(offset, length)) return error;
        SpanCursor(spans).copy_out(content_.data() + offset, length);
        own(offset, length);
        return 0;
    }

    // Nothing here outlives the backend, so there is nothing to make stable.
    int flush() override { return 0; }

    int discard(u64 offset, u64 length) override { return write_zeroes(offset, length, true); }

    int write_zeroes(u64 offset, u64 length, bool) override {
        std::unique_lock lock(mutex_);
        if (length == 0) return 0;
        if (const int error = keep_edges(offset, length)) return error;
        content_.clear(offset, length);
        own(offset, length);
        return 0;
    }

  private:
    bool owned(u64 offset) const {
        const u64 cluster = offset / cluster_bytes;
        return (owned_.data()[cluster / 8] >> (cluster % 8)) & 1;
    }

    void own(u64 offset, u64 length) {
        for (u64 cluster = offset / cluster_bytes; cluster <= (offset + length - 1) / cluster_bytes;
             ++cluster) {
            owned_.data()[cluster / 8] |= static_cast<u8>(1u << (cluster % 8));
        }
    }

    // From `offset` on, how many of the next `limit` bytes are like the first: ours, or from below.
    u64 run_length(u64 offset, u64 limit) const {
        const bool ours = owned(offset);
        u64 end = align_down(offset, cluster_bytes) + cluster_bytes;
        while (end - offset < limit && owned(end) == ours) end += cluster_bytes;
        return std::min(end - offset, limit);
    }

    // A cluster that is about to be owned keeps what the write does not cover.
    int keep_edges(u64 offset, u64 length) {
        const u64 end = offset + length;
        if (offset % cluster_bytes != 0) {
            if (const int error = fetch(offset)) return error;
        }
        const bool same = align_down(offset, cluster_bytes) == align_down(end - 1, cluster_bytes);
        if (end % cluster_bytes == 0 || (same && offset % cluster_bytes != 0)) return 0;
        return fetch(end - 1);
    }

    // Not yet owned: a failed write leaves the disk as it was.
    int fetch(u64 offset) {
        if (owned(offset)) return 0;
        const u64 start = align_down(offset, cluster_bytes);
        const iovec span{content_.data() + start,
                         static_cast<std::size_t>(std::min(cluster_bytes, size_ - start))};
        return base_->read(start, {&span, 1});
    }

    const std::shared_ptr<BlockBackend> base_;
    const u64 size_;
    std::shared_mutex mutex_;
    HostPages owned_;  // a bit a cluster
    HostPages content_;
};

}  // namespace

std::shared_ptr<BlockBackend> make_overlay(std::shared_ptr<BlockBackend> base) {
    return std::make_shared<Overlay>(std::move(base));
}

}  // namespace wirt::storage
