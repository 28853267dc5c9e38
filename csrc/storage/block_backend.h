// What stands behind a disk. Devices see bytes, offsets and errno; formats and hosts stay behind this seam.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/state_visitor.h"
#include "base/types.h"

namespace wirt::storage {

// A run of a disk's bytes.
struct Run {
    u64 offset = 0;
    u64 length = 0;
    u64 end() const { return offset + length; }
    bool operator==(const Run&) const = default;
};

// What a snapshot notes of a file that it refers to instead of including it, to refuse later when the two no
// longer belong together. It is the evidence that the host's file system keeps, not a digest: two changes
// within one tick of the file system's clock (up to 10 ms) leave one mtime, and whoever sets times (touch,
// rsync -t) can hide a change.
struct FileIdentity {
    std::string path;  // canonical, as it was when the file was opened
    u64 size = 0;
    u64 device = 0;
    u64 inode = 0;
    i64 mtime_ns = 0;  // since 1970
    bool operator==(const FileIdentity&) const = default;
};

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

    // The first run at or after `from` that may hold anything but zeroes; none when the rest reads as zero.
    // What is passed over was zero at some moment of the call.
    virtual std::optional<Run> next_data(u64 from) {
        if (from >= size()) return std::nullopt;
        return Run{from, size() - from};
    }
    // None where a reference would not do, and the content must be included: disks in memory, files without a
    // name, and block devices, whose mtime does not tell of writes.
    virtual std::optional<FileIdentity> identity() { return std::nullopt; }

    // --- a file that two hosts see, and that goes from one to the other (docs/migration.md) ---

    // Whether it can; the rest throws StorageError where it cannot.
    virtual bool can_hand_over() const { return false; }
    // Before: whoever is to hand it over has it. Throws StorageError when nobody has.
    virtual void expect_hand_over() { refuse_hand_over(); }
    // All is on stable storage, the next one can take it, and nobody else. Throws StorageError, and it is
    // ours still.
    virtual void hand_over() { refuse_hand_over(); }
    // It is ours, or ours again. Throws StorageError when somebody else has it.
    virtual void take() { refuse_hand_over(); }
    // As if it had not been taken; nothing was written since.
    virtual void let_go() { refuse_hand_over(); }

  protected:
    [[noreturn]] void refuse_hand_over() const;
};

struct FileOptions {
    bool read_only = false;
    // Writes are kept in memory and dropped with the backend; the file is opened read-only.
    bool ephemeral = false;
    // Somebody else has it, and hands it over: until take() it is not locked, and every write is refused.
    bool incoming = false;
};

// A raw file or a block-device file. Throws StorageError with the path and the reason.
std::shared_ptr<BlockBackend> open_raw(const std::string& path, FileOptions options);
// A disk in host memory, zero-filled, for tests and benchmarks.
std::shared_ptr<BlockBackend> make_memory_disk(u64 size);

}  // namespace wirt::storage
