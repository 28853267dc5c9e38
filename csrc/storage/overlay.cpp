// Copy-on-write over any backend, by clusters of 4 KiB, the size in which file systems write: such a write
// needs nothing from below. Memory is reserved for the whole disk and used as it is written.
//
// Offsets and lengths come checked (BlockBackend).

#include "storage/overlay.h"

#include <mutex>
#include <shared_mutex>

#include "storage/cluster_map.h"
#include "storage/host_pages.h"
#include "storage/spans.h"

namespace wirt::storage {

namespace {

constexpr u64 cluster_bytes = ClusterMap::cluster_bytes;

class Overlay final : public BlockBackend {
  public:
    explicit Overlay(std::shared_ptr<BlockBackend> base)
        : base_(std::move(base)), size_(base_->size()), owned_(size_), content_(size_, true) {}

    u64 size() const override { return size_; }
    bool read_only() const override { return false; }
    std::string describe() const override { return base_->describe() + ", ephemeral"; }

    int read(u64 offset, std::span<const iovec> spans) override {
        std::shared_lock lock(mutex_);
        SpanCursor cursor(spans);
        std::vector<iovec> below;
        for (u64 at = offset, left = total_bytes(spans); left > 0;) {
            const u64 length = owned_.run_length(at, left);
            if (owned_.test(at)) {
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
        owned_.set(offset, length);
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
        owned_.set(offset, length);
        return 0;
    }

    std::optional<Run> next_data(u64 from) override {
        std::shared_lock lock(mutex_);
        const std::optional<Run> ours = owned_.next(from), below = base_->next_data(from);
        return ours && (!below || ours->offset < below->offset) ? ours : below;
    }

  private:
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
        if (owned_.test(offset)) return 0;
        const u64 start = align_down(offset, cluster_bytes);
        const iovec span{content_.data() + start,
                         static_cast<std::size_t>(std::min(cluster_bytes, size_ - start))};
        return base_->read(start, {&span, 1});
    }

    const std::shared_ptr<BlockBackend> base_;
    const u64 size_;
    std::shared_mutex mutex_;
    ClusterMap owned_;
    HostPages content_;
};

}  // namespace

std::shared_ptr<BlockBackend> make_overlay(std::shared_ptr<BlockBackend> base) {
    return std::make_shared<Overlay>(std::move(base));
}

}  // namespace wirt::storage
