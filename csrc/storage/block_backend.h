// What stands behind a disk. Devices see bytes, offsets and errno; formats and hosts stay behind this seam.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <span>
#include <string>

#include "base/state_visitor.h"
#include "base/types.h"

namespace wirt::storage {

class BlockBackend {
  public:
    virtual ~BlockBackend() = default;

    virtual u64 size() const = 0;  // bytes; a multiple of 512
    virtual bool read_only() const = 0;
    virtual std::string describe() const = 0;

    // Thread-safe. Return 0, or a positive errno (EIO, ENOSPC, EROFS, ...). The caller has checked that the
    // range lies inside the disk; `spans` may be guest memory that changes meanwhile. Short transfers are
    // retried inside.
    virtual int read(u64 offset, std::span<const iovec> spans) = 0;
    virtual int write(u64 offset, std::span<const iovec> spans) = 0;
    // Returns when everything written before is on stable storage.
    virtual int flush() = 0;
    // The content of the range becomes undefined (in fact: zero, or as it was).
    virtual int discard(u64 offset, u64 length) = 0;
    // The range reads as zero afterwards; `may_unmap` lets it become sparse.
    virtual int write_zeroes(u64 offset, u64 length, bool may_unmap) = 0;
};

struct FileOptions {
    bool read_only = false;
    // Writes are kept in memory and dropped with the backend; the file is opened read-only.
    bool ephemeral = false;
};

// A raw file or a block-device file. Throws StorageError with the path and the reason.
std::shared_ptr<BlockBackend> open_raw(const std::string& path, FileOptions options);
// A disk in host memory, zero-filled, for tests and benchmarks.
std::shared_ptr<BlockBackend> make_memory_disk(u64 size);

}  // namespace wirt::storage
