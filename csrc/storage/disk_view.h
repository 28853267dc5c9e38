// What a disk held at moments past, while it goes on being written: copy-before-write by clusters of 4 KiB.
//
// 4 KiB is what file systems write in: such a write preserves exactly what it replaces, where larger clusters
// would cost reads and memory for their rest. A large write is preserved by runs, one read for up to 256 KiB.
//
// The protocol. Who changes the disk first has the History preserve what the range held, then changes the
// base. Who reads a view first reads the base, then looks for copies, and a copy takes the place of what was
// read.
//  - Preserving reads the base, then adds the copy unless there is one by now. Every change of a cluster
//  comes
//    after a copy of it was added, so what the first one to add has read is what the cluster held.
//  - A reader who finds no copy after it has read the base has read before any change began.
// Neither waits for the other but for the moments in which copies are looked up, added and copied out, and no
// lock is held while the base works.
//
// The guest decides what is written, hence how much is preserved: at most the disk's content once a moment.
// What is known to be zero takes no copy.
#pragma once

#include <array>
#include <atomic>
#include <forward_list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "storage/block_backend.h"
#include "storage/cluster_map.h"

namespace wirt::storage {

class DiskView;

// The copies, shared by the disk and all its views; views taken with no change in between share their moment.
class History : public std::enable_shared_from_this<History> {
  public:
    static constexpr u64 cluster_bytes = ClusterMap::cluster_bytes;

    explicit History(std::shared_ptr<BlockBackend> base) : base_(std::move(base)) {}

    BlockBackend& base() const { return *base_; }
    // Host memory that copies take, without what it takes to find them.
    u64 bytes() const { return copies_.load(std::memory_order_relaxed) * cluster_bytes; }

    // The next three are for the disk. While view() runs no change of the disk is under way.
    std::shared_ptr<DiskView> view();
    // False when there is no view, hence nothing to preserve.
    bool watched() const { return newest_.load(std::memory_order_relaxed) != 0; }
    // Call it before the base is changed. What cannot be preserved breaks the views that lack it; the change
    // may go on in any case.
    void preserve(u64 offset, u64 length) noexcept;

  private:
    friend class DiskView;

    using Cluster = std::array<u8, cluster_bytes>;
    using Copy = std::unique_ptr<Cluster>;  // null for zeroes

    // A point in time at which views were taken. Numbers grow and are not used again; 0 is none.
    struct Moment {
        u64 number = 0;
        u64 views = 0;
        std::atomic<int> broken{0};  // an errno
    };

    // A copy of `cluster` for `last` and all moments before it, down to the one of the copy before.
    struct Key {
        u64 cluster;
        u64 last;
        auto operator<=>(const Key&) const = default;
    };

    // Copies are found under a lock, of which there are several, so that a thousand clones do not meet at
    // one.
    static constexpr u64 group_clusters = 64;
    static constexpr u64 group_bytes = group_clusters * cluster_bytes;
    struct Shard {
        std::mutex mutex;
        std::map<Key, Copy> copies;
        std::map<u64, std::forward_list<u64>> clusters;  // of the copies, by `last`
    };
    using Copies = std::map<Key, Copy>;

    Shard& shard_of(u64 cluster) { return shards_[cluster / group_clusters % shards_.size()]; }
    static Copies::iterator find_copy(Shard& shard, u64 first, u64 moment);
    void preserve_group(u64 first, u64 end);
    int read_absent(u64 first, const std::array<Copy, group_clusters>& room);
    void give_up(u64 first, u64 end, int error) noexcept;

    int read(const Moment& moment, u64 offset, std::span<const iovec> spans);
    std::optional<Run> next_copied_data(const Moment& moment, u64 from, u64 limit);
    void release(Moment& moment) noexcept;
    void forget(u64 number) noexcept;
    bool hand_down(Shard& shard, u64 cluster, u64 number, u64 older) noexcept;

    const std::shared_ptr<BlockBackend> base_;
    std::array<Shard, 16> shards_;
    std::mutex moments_mutex_;  // taken before a shard's
    std::map<u64, Moment> moments_;
    u64 last_number_ = 0;
    std::atomic<u64> newest_{0};  // of those that are not broken
    std::atomic<u64> copies_{0};
};

// A disk as it was. Read-only, thread-safe, and whole as long as it lives, whether the disk itself does or
// not.
class DiskView final : public BlockBackend {
  public:
    DiskView(std::shared_ptr<History> history, History::Moment& moment)
        : history_(std::move(history)), moment_(moment) {}
    ~DiskView() override { history_->release(moment_); }

    // Why reads fail with EIO: something that was about to be overwritten could not be preserved.
    std::optional<std::string> broken() const;

    u64 size() const override { return history_->base().size(); }
    bool read_only() const override { return true; }
    std::string describe() const override { return history_->base().describe() + ", as it was"; }
    int read(u64 offset, std::span<const iovec> spans) override;
    int write(u64, std::span<const iovec>) override;
    int flush() override { return 0; }
    int discard(u64, u64) override;
    int write_zeroes(u64, u64, bool) override;
    std::optional<Run> next_data(u64 from) override;

  private:
    const std::shared_ptr<History> history_;
    History::Moment& moment_;  // lasts as long as one of its views
};

}  // namespace wirt::storage
