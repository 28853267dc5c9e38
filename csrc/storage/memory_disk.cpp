// A disk in host memory: zero-filled, gone with the backend. For tests, benchmarks and scratch space.
//
// Offsets and lengths come checked (BlockBackend); sizes come from the host.

#include <mutex>
#include <shared_mutex>

#include "storage/block_backend.h"
#include "storage/cluster_map.h"
#include "storage/host_pages.h"
#include "storage/spans.h"

namespace wirt::storage {

namespace {

class MemoryDisk final : public BlockBackend {
  public:
    explicit MemoryDisk(u64 size) : size_(size), written_(size), pages_(size) {}

    u64 size() const override { return size_; }
    bool read_only() const override { return false; }
    std::string describe() const override { return "memory, " + std::to_string(size_) + " bytes"; }

    int read(u64 offset, std::span<const iovec> spans) override {
        std::shared_lock lock(mutex_);
        SpanCursor(spans).copy_in(pages_.data() + offset, total_bytes(spans));
        return 0;
    }

    int write(u64 offset, std::span<const iovec> spans) override {
        const u64 length = total_bytes(spans);
        if (length == 0) return 0;
        std::unique_lock lock(mutex_);
        SpanCursor(spans).copy_out(pages_.data() + offset, length);
        written_.set(offset, length);
        return 0;
    }

    int flush() override { return 0; }

    int discard(u64 offset, u64 length) override { return write_zeroes(offset, length, true); }

    int write_zeroes(u64 offset, u64 length, bool) override {
        std::unique_lock lock(mutex_);
        pages_.clear(offset, length);
        written_.clear(offset, length);
        return 0;
    }

    std::optional<Run> next_data(u64 from) override {
        std::shared_lock lock(mutex_);
        return written_.next(from);
    }

  private:
    const u64 size_;
    std::shared_mutex mutex_;
    ClusterMap written_;
    HostPages pages_;
};

}  // namespace

std::shared_ptr<BlockBackend> make_memory_disk(u64 size) {
    if (size == 0 || size % 512 != 0) {
        throw StorageError("a disk in memory must be a positive multiple of 512 bytes, not " +
                           std::to_string(size) + "; the next one is " +
                           std::to_string((size / 512 + 1) * 512));
    }
    return std::make_shared<MemoryDisk>(size);
}

}  // namespace wirt::storage
