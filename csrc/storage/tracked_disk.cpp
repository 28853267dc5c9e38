// Offsets and lengths come checked (BlockBackend).

#include "storage/tracked_disk.h"

#include <cerrno>

#include "base/error.h"
#include "storage/spans.h"

namespace wirt::storage {

std::shared_ptr<DiskView> TrackedDisk::view() {
    std::unique_lock lock(gate_);
    return history_->view();
}

void TrackedDisk::start_tracking(u64 granularity) {
    if (!is_power_of_two(granularity) || granularity < 512 || granularity > GiB) {
        throw ConfigError("a granularity of " + std::to_string(granularity) +
                          " bytes: it is a power of two from 512 to 1073741824, for example 65536");
    }
    auto map = std::make_unique<DirtyMap>(size(), granularity);
    std::unique_lock lock(gate_);
    if (dirty_)
        throw StateError(describe() + ": what is written is being tracked; call stop_tracking() first");
    dirty_ = std::move(map);
}

std::vector<Run> TrackedDisk::take_dirty() {
    std::shared_lock lock(gate_);
    if (!dirty_) {
        throw StateError(describe() + ": what is written is not being tracked; call start_tracking() first");
    }
    return dirty_->take();
}

void TrackedDisk::mark_dirty(u64 offset, u64 length) {
    std::shared_lock lock(gate_);
    if (dirty_) dirty_->mark(offset, length);
}

void TrackedDisk::stop_tracking() {
    std::unique_lock lock(gate_);
    dirty_.reset();
}

int TrackedDisk::write(u64 offset, std::span<const iovec> spans) {
    if (read_only()) return EROFS;
    std::shared_lock lock(gate_);
    if (history_->watched()) history_->preserve(offset, total_bytes(spans));
    const int error = base_->write(offset, spans);
    if (dirty_) dirty_->mark(offset, total_bytes(spans));
    return error;
}

int TrackedDisk::discard(u64 offset, u64 length) {
    return zero(offset, length, [&] { return base_->discard(offset, length); });
}

int TrackedDisk::write_zeroes(u64 offset, u64 length, bool may_unmap) {
    return zero(offset, length, [&] { return base_->write_zeroes(offset, length, may_unmap); });
}

// Holes need no preserving, as they stay what they are: a guest may discard a large and empty disk at no
// cost.
template <typename Change>
int TrackedDisk::zero(u64 offset, u64 length, Change change) {
    if (read_only()) return EROFS;
    std::shared_lock lock(gate_);
    const u64 end = offset + length;
    for (u64 at = offset; at < end && history_->watched();) {
        const std::optional<Run> run = base_->next_data(at);
        if (!run || run->offset >= end) break;
        at = std::min(run->end(), end);
        history_->preserve(run->offset, at - run->offset);
    }
    const int error = change();
    if (dirty_) dirty_->mark(offset, length);
    return error;
}

}  // namespace wirt::storage
