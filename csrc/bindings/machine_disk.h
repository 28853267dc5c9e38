// A disk as long as its machine is open.
#pragma once

#include <cerrno>
#include <memory>

#include "storage/block_backend.h"

namespace wirt::bindings {

// Stands between a machine and a backend, so that closing the machine closes the file (and gives up its lock)
// although the machine's statistics and consoles are still being looked at.
class MachineDisk final : public storage::BlockBackend {
  public:
    explicit MachineDisk(std::shared_ptr<storage::BlockBackend> inner)
        : inner_(std::move(inner)), size_(inner_->size()), read_only_(inner_->read_only()) {}

    // While the machine does not run: another backend of the same size, with another content.
    void replace(std::shared_ptr<storage::BlockBackend> inner) { inner_ = std::move(inner); }
    // Once the machine is closed: no device uses the disk any more.
    void release() { inner_.reset(); }

    u64 size() const override { return size_; }
    bool read_only() const override { return read_only_; }
    std::string describe() const override { return inner_ ? inner_->describe() : "a closed disk"; }
    int read(u64 offset, std::span<const iovec> spans) override {
        return inner_ ? inner_->read(offset, spans) : EIO;
    }
    int write(u64 offset, std::span<const iovec> spans) override {
        return inner_ ? inner_->write(offset, spans) : EIO;
    }
    int flush() override { return inner_ ? inner_->flush() : EIO; }
    int discard(u64 offset, u64 length) override { return inner_ ? inner_->discard(offset, length) : EIO; }
    int write_zeroes(u64 offset, u64 length, bool may_unmap) override {
        return inner_ ? inner_->write_zeroes(offset, length, may_unmap) : EIO;
    }

  private:
    std::shared_ptr<storage::BlockBackend> inner_;
    const u64 size_;
    const bool read_only_;
};

}  // namespace wirt::bindings
