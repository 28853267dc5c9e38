// A disk that can be looked at as it was, and that knows what was written: what fork, snapshots and the
// migration of storage stand on. It decorates any backend. While nobody uses either, a read costs nothing and
// a change an uncontended shared lock.
//
// All changes must come through it: what is written to the base by another way is neither preserved nor
// marked.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <vector>

#include "storage/dirty_map.h"
#include "storage/disk_view.h"

namespace wirt::storage {

class TrackedDisk final : public BlockBackend {
  public:
    explicit TrackedDisk(std::shared_ptr<BlockBackend> base)
        : base_(std::move(base)), history_(std::make_shared<History>(base_)) {}

    // The disk as it is at this moment: with everything that is complete, and with what is under way, whose
    // end it waits for. It lives on its own, and keeps the base alive.
    std::shared_ptr<DiskView> view();
    // Host memory that holds what views show and the base no longer does.
    u64 preserved_bytes() const { return history_->bytes(); }

    // The dirty map, for one mirror at a time. A change is marked after it reached the base and before its
    // completion is told, also one that failed. So when start_tracking() has returned, and each time that
    // take_dirty() has:
    //  - whoever reads the content now sees every change that was complete, or is marked for the next time;
    //  - what is read while it is changed may be a mixture, and will be marked for the next time.
    // A mirror copies everything after start_tracking(), then the dirty granules, and again, and the last
    // ones when no change is under way any more (the machine is paused): then the copy is exact.
    // `granularity` is a power of two from 512 bytes to 1 GiB. Throws ConfigError or StateError.
    void start_tracking(u64 granularity);
    // What was marked since the last time, as runs of granules, cut at the disk's end; clears it.
    std::vector<Run> take_dirty();
    // As if it had been written; nothing without start_tracking().
    void mark_dirty(u64 offset, u64 length);
    void stop_tracking();

    u64 size() const override { return base_->size(); }
    bool read_only() const override { return base_->read_only(); }
    std::string describe() const override { return base_->describe(); }
    int read(u64 offset, std::span<const iovec> spans) override { return base_->read(offset, spans); }
    int write(u64 offset, std::span<const iovec> spans) override;
    int flush() override { return base_->flush(); }
    int discard(u64 offset, u64 length) override;
    int write_zeroes(u64 offset, u64 length, bool may_unmap) override;
    std::optional<Run> next_data(u64 from) override { return base_->next_data(from); }
    std::optional<FileIdentity> identity() override { return base_->identity(); }
    bool can_hand_over() const override { return base_->can_hand_over(); }
    void expect_hand_over() override { base_->expect_hand_over(); }
    void hand_over() override { base_->hand_over(); }
    void take() override { base_->take(); }
    void let_go() override { base_->let_go(); }

  private:
    // A shared mutex whose exclusive side gets its turn however many share it: the host's prefers readers.
    class Gate {
      public:
        void lock_shared() {
            if (closing_.load(std::memory_order_relaxed)) std::lock_guard turn(turnstile_);
            mutex_.lock_shared();
        }
        void unlock_shared() { mutex_.unlock_shared(); }
        void lock() {
            turnstile_.lock();
            closing_.store(true, std::memory_order_relaxed);
            mutex_.lock();
        }
        void unlock() {
            mutex_.unlock();
            closing_.store(false, std::memory_order_relaxed);
            turnstile_.unlock();
        }

      private:
        std::mutex turnstile_;
        std::atomic<bool> closing_{false};
        std::shared_mutex mutex_;
    };

    template <typename Change>
    int zero(u64 offset, u64 length, Change change);

    const std::shared_ptr<BlockBackend> base_;
    const std::shared_ptr<History> history_;
    Gate gate_;  // shared by changes from before they preserve until they are marked
    std::unique_ptr<DirtyMap> dirty_;
};

}  // namespace wirt::storage
