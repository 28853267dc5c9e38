// A disk with a write cache that loses its content with the power, for testing what a guest makes of FLUSH.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "storage/block_backend.h"

namespace wirt::storage {

// What is written stays in memory until it is flushed, then goes to `base`. A clean end (destruction)
// flushes.
class VolatileCache final : public BlockBackend {
  public:
    explicit VolatileCache(std::shared_ptr<BlockBackend> base);
    ~VolatileCache() override;

    // Some sectors that were not flushed reach `base`, chosen by the seed, the others are lost; from then on
    // every request fails with EIO. Returns how many were lost. Before a flush a disk may keep any of them,
    // in any order (virtio 1.2, 5.2.6.2; FLUSH CACHE EXT of ACS-3).
    u64 lose_power(u64 seed);

    u64 size() const override { return base_->size(); }
    bool read_only() const override { return false; }
    std::string describe() const override { return base_->describe() + ", volatile cache"; }

    int read(u64 offset, std::span<const iovec> spans) override;
    int write(u64 offset, std::span<const iovec> spans) override;
    int flush() override;
    int discard(u64 offset, u64 length) override { return write_zeroes(offset, length, true); }
    int write_zeroes(u64 offset, u64 length, bool may_unmap) override;

  private:
    using Sector = std::vector<u8>;

    Sector* sector_to_write(u64 number, bool whole);
    int write_back();

    const std::shared_ptr<BlockBackend> base_;
    std::mutex mutex_;
    std::unordered_map<u64, Sector> unflushed_;
    bool powered_ = true;
};

}  // namespace wirt::storage
