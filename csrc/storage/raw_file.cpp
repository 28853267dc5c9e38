// Raw disk images and block-device files.
//
// Guest data goes between the caller's memory and the file in one preadv or pwritev, with no copy of ours.
// Errors of opening are the host's mistakes and are exceptions; errors of a transfer are the guest's to see
// and are returned.
//
// Locks (F_OFD_SETLK) belong to the open file and go with it, in this process and against all others. A
// reader has a shared one and a writer an exclusive one, on all bytes: a disk that changes underneath a
// reader is no disk. Byte 0 is that of whoever is to keep others out, the rest that of whoever writes. A file
// is handed over by giving up the rest and keeping byte 0, and is taken by locking the rest: so there is no
// moment in which a third one, who asks for all of it, could come in between.

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/bits.h"
#include "base/error.h"
#include "storage/block_backend.h"
#include "storage/overlay.h"
#include "storage/spans.h"

namespace wirt::storage {

namespace {

constexpr u64 sector_bytes = 512;

class FileDescriptor {
  public:
    explicit FileDescriptor(int value) : value_(value) {}
    ~FileDescriptor() {
        if (value_ >= 0) ::close(value_);
    }
    FileDescriptor(FileDescriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
    FileDescriptor(const FileDescriptor&) = delete;
    FileDescriptor& operator=(const FileDescriptor&) = delete;
    int get() const { return value_; }

  private:
    int value_;
};

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
    throw StorageError("disk image " + path + ": " + reason);
}

// The file system or the kernel has no such operation, as opposed to: it failed.
bool is_unsupported(int error) {
    return error == EOPNOTSUPP || error == ENOSYS || error == EINVAL || error == ENOTTY;
}

FileDescriptor open_file(const std::string& path, bool read_only);
u64 size_of(const FileDescriptor& file, const std::string& path);

// What a lock covers.
enum class Part { all, writer };

struct flock lock_request(short type, Part part) {
    struct flock request {};
    request.l_type = type;
    request.l_whence = SEEK_SET;
    request.l_start = part == Part::writer ? 1 : 0;
    return request;
}

// Also where the file system has no locks (ENOLCK, EINVAL, ...), which leaves the care to the user.
bool try_lock(const FileDescriptor& file, short type, Part part) {
    struct flock request = lock_request(type, part);
    return ::fcntl(file.get(), F_OFD_SETLK, &request) == 0 || (errno != EAGAIN && errno != EACCES);
}

class RawFile final : public BlockBackend {
  public:
    RawFile(FileDescriptor file, std::string path, u64 size, bool read_only, bool incoming)
        : file_(std::move(file)),
          path_(std::move(path)),
          size_(size),
          read_only_(read_only),
          incoming_(incoming),
          ours_(!incoming) {
        // Now, since the working directory may be another one later.
        std::error_code ignored;
        canonical_ = std::filesystem::canonical(path_, ignored).string();
    }

    u64 size() const override { return size_; }
    bool read_only() const override { return read_only_; }
    std::string describe() const override { return path_ + (read_only_ ? ", read-only" : ""); }

    int read(u64 offset, std::span<const iovec> spans) override {
        return transfer(offset, spans, [this](const iovec* v, int count, off_t at) {
            return ::preadv(file_.get(), v, count, at);
        });
    }

    int write(u64 offset, std::span<const iovec> spans) override {
        if (const int error = refuse_change()) return error;
        return transfer(offset, spans, [this](const iovec* v, int count, off_t at) {
            return ::pwritev(file_.get(), v, count, at);
        });
    }

    int flush() override {
        if (read_only_ || !ours_.load(std::memory_order_relaxed)) return 0;
        while (::fdatasync(file_.get()) != 0) {
            if (errno == EINTR) continue;
            // A special file with nothing to synchronise says so with EINVAL.
            return errno == EINVAL ? 0 : errno;
        }
        return 0;
    }

    int discard(u64 offset, u64 length) override {
        if (const int error = refuse_change()) return error;
        const int error = deallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, can_punch_, offset, length);
        // The content may stay as it was, so a file system without holes has done its part.
        return is_unsupported(error) ? 0 : error;
    }

    int write_zeroes(u64 offset, u64 length, bool may_unmap) override {
        if (const int error = refuse_change()) return error;
        int error = EOPNOTSUPP;
        if (may_unmap) {
            error = deallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, can_punch_, offset, length);
        }
        if (is_unsupported(error)) {
            error = deallocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, can_zero_, offset, length);
        }
        return is_unsupported(error) ? write_zero_bytes(offset, length) : error;
    }

    // As exact as the file system's knowledge of its holes; one that has none says that all is data.
    std::optional<Run> next_data(u64 from) override {
        if (from >= size_) return std::nullopt;
        const off_t start = ::lseek(file_.get(), static_cast<off_t>(from), SEEK_DATA);
        if (start < 0) return errno == ENXIO ? std::nullopt : BlockBackend::next_data(from);
        const u64 begin = static_cast<u64>(start);
        if (begin >= size_) return std::nullopt;
        const off_t hole = ::lseek(file_.get(), start, SEEK_HOLE);
        // None when another thread has just made a hole of it: then this much is not known to be zero.
        const u64 end = hole > start ? std::min(static_cast<u64>(hole), size_) : size_;
        return Run{begin, end - begin};
    }

    std::optional<FileIdentity> identity() override {
        struct stat status;
        if (::fstat(file_.get(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
        if (status.st_nlink == 0 || canonical_.empty()) return std::nullopt;
        return FileIdentity{.path = canonical_,
                            .size = size_,
                            .device = status.st_dev,
                            .inode = status.st_ino,
                            .mtime_ns = i64{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
    }

    bool can_hand_over() const override { return !read_only_; }

    void expect_hand_over() override {
        struct flock request = lock_request(F_RDLCK, Part::all);
        if (::fcntl(file_.get(), F_OFD_GETLK, &request) != 0)
            refuse(path_, "its file system has no locks, and cannot tell who has it");
        if (request.l_type == F_UNLCK)
            refuse(path_, "nobody has it open: it is not the file of the machine that is to come");
    }

    void hand_over() override {
        if (read_only_) refuse_hand_over();
        // One that was taken itself lacks byte 0 until now.
        if (!try_lock(file_, F_WRLCK, Part::all))
            refuse(path_, "whoever handed it over has not let go of it");
        if (const int error = flush()) refuse(path_, std::strerror(error));
        let_go();
    }

    void take() override {
        if (read_only_) refuse_hand_over();
        if (incoming_) {
            // What another host has written shows when the file is opened (NFS, close-to-open), and is not in
            // this one's cache.
            const FileDescriptor now = open_file(canonical_.empty() ? path_ : canonical_, false);
            if (size_of(now, path_) != size_) refuse(path_, "its size has changed");
            lock_writer(now);
            ::posix_fadvise(now.get(), 0, 0, POSIX_FADV_DONTNEED);
            if (::dup3(now.get(), file_.get(), O_CLOEXEC) < 0) refuse(path_, std::strerror(errno));
            incoming_ = false;
        } else {
            lock_writer(file_);
        }
        ours_.store(true);
    }

    void let_go() override {
        ours_.store(false);
        try_lock(file_, F_UNLCK, Part::writer);
    }

  private:
    int refuse_change() const {
        if (read_only_) return EROFS;
        return ours_.load(std::memory_order_relaxed) ? 0 : EIO;
    }

    void lock_writer(const FileDescriptor& file) const {
        if (!try_lock(file, F_WRLCK, Part::writer)) refuse(path_, "is in use by another machine");
    }

    // Calls `move` until all spans are through: in pieces of IOV_MAX spans, and again where the host stopped
    // early.
    template <typename Move>
    int transfer(u64 offset, std::span<const iovec> spans, Move&& move) {
        std::array<iovec, IOV_MAX> rest;  // only for what is left of a span that was cut
        std::size_t index = 0;
        u64 within = 0;
        for (;;) {
            while (index < spans.size() && within == spans[index].iov_len) {
                ++index;
                within = 0;
            }
            if (index == spans.size()) return 0;
            const std::size_t count = std::min<std::size_t>(spans.size() - index, IOV_MAX);
            const iovec* from = spans.data() + index;
            if (within != 0) {
                std::copy_n(from, count, rest.begin());
                rest[0].iov_base = static_cast<u8*>(rest[0].iov_base) + within;
                rest[0].iov_len -= within;
                from = rest.data();
            }
            const ssize_t moved = move(from, static_cast<int>(count), static_cast<off_t>(offset));
            if (moved < 0) {
                if (errno == EINTR) continue;
                return errno;
            }
            // The disk's size was fixed when it was opened: the file must have been cut behind our back.
            if (moved == 0) return EIO;
            offset += static_cast<u64>(moved);
            for (u64 left = static_cast<u64>(moved); left > 0;) {
                const u64 step = std::min<u64>(left, spans[index].iov_len - within);
                within += step;
                left -= step;
                if (within == spans[index].iov_len) {
                    ++index;
                    within = 0;
                }
            }
        }
    }

    // fallocate, until the file system is known not to have it.
    int deallocate(int mode, std::atomic<bool>& supported, u64 offset, u64 length) {
        if (length == 0) return 0;
        if (!supported.load(std::memory_order_relaxed)) return EOPNOTSUPP;
        while (::fallocate(file_.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) {
            if (errno == EINTR) continue;
            if (errno == EOPNOTSUPP || errno == ENOSYS) supported.store(false, std::memory_order_relaxed);
            return errno;
        }
        return 0;
    }

    int write_zero_bytes(u64 offset, u64 length) {
        static const std::array<u8, 64 * KiB> zeroes{};
        std::array<iovec, 16> spans;
        while (length > 0) {
            u64 batch = 0;
            std::size_t count = 0;
            for (; count < spans.size() && batch < length; ++count) {
                const u64 piece = std::min<u64>(zeroes.size(), length - batch);
                spans[count] = {const_cast<u8*>(zeroes.data()), static_cast<std::size_t>(piece)};
                batch += piece;
            }
            if (const int error = write(offset, {spans.data(), count})) return error;
            offset += batch;
            length -= batch;
        }
        return 0;
    }

    const FileDescriptor file_;
    const std::string path_;
    std::string canonical_;
    const u64 size_;
    const bool read_only_;
    bool incoming_;  // and never taken
    std::atomic<bool> ours_;
    std::atomic<bool> can_punch_{true};
    std::atomic<bool> can_zero_{true};
};

FileDescriptor open_file(const std::string& path, bool read_only) {
    int fd;
    do {
        fd = ::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
    } while (fd < 0 && errno == EINTR);
    if (fd >= 0) return FileDescriptor(fd);
    const int error = errno;
    const std::string reason = std::strerror(error);
    if (error == ENOENT) refuse(path, reason + "; create it first, for example with: truncate -s 1G " + path);
    if (!read_only && (error == EACCES || error == EPERM || error == EROFS)) {
        refuse(path, "cannot be opened for writing (" + reason +
                         "); pass read_only=True or ephemeral=True, or " + "change its permissions");
    }
    refuse(path, reason);
}

u64 size_of(const FileDescriptor& file, const std::string& path) {
    struct stat status;
    if (::fstat(file.get(), &status) != 0) refuse(path, std::strerror(errno));
    u64 size = 0;
    if (S_ISREG(status.st_mode)) {
        size = static_cast<u64>(status.st_size);
    } else if (S_ISBLK(status.st_mode)) {
        if (::ioctl(file.get(), BLKGETSIZE64, &size) != 0) refuse(path, std::strerror(errno));
    } else {
        refuse(path, std::string(S_ISDIR(status.st_mode) ? "is a directory"
                                                         : "is neither a file nor a block device") +
                         "; give the path of a raw image or of a block device");
    }
    if (size == 0) refuse(path, "is empty; give it a size first, for example with: truncate -s 1G " + path);
    if (size % sector_bytes != 0) {
        refuse(path, "its size of " + std::to_string(size) +
                         " bytes is not a multiple of 512; extend it with: truncate -s " +
                         std::to_string(align_up(size, sector_bytes)) + " " + path);
    }
    return size;
}

void lock(const FileDescriptor& file, const std::string& path, bool read_only) {
    if (try_lock(file, read_only ? F_RDLCK : F_WRLCK, Part::all)) return;
    refuse(path,
           read_only
               ? "is being written by another machine or Disk; close that one first, or give each a copy"
               : "is in use by another machine or Disk; close that one first, or pass read_only=True or "
                 "ephemeral=True to both");
}

}  // namespace

std::shared_ptr<BlockBackend> open_raw(const std::string& path, FileOptions options) {
    const bool read_only = options.read_only || options.ephemeral;
    FileDescriptor file = open_file(path, read_only);
    const u64 size = size_of(file, path);
    if (!options.incoming) lock(file, path, read_only);
    auto disk = std::make_shared<RawFile>(std::move(file), path, size, read_only, options.incoming);
    // Asked for both, the guest sees a read-only disk: there is nothing to keep in memory.
    if (options.ephemeral && !options.read_only) return make_overlay(std::move(disk));
    return disk;
}

}  // namespace wirt::storage
