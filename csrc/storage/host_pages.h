// Zero-filled host memory that costs nothing until it is written: as large as a disk, resident as it is used.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "base/bits.h"
#include "base/error.h"
#include "base/types.h"

namespace wirt::storage {

class HostPages {
  public:
    explicit HostPages(u64 size) : size_(align_up(size, page_size)) {
        void* mapping =
            mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapping == MAP_FAILED) {
            throw StorageError("the host cannot reserve " + std::to_string(size / MiB) +
                               " MiB of address space for a disk in memory: " + std::strerror(errno) +
                               "; use a smaller disk or raise the limit (ulimit -v, vm.overcommit_memory)");
        }
        data_ = static_cast<u8*>(mapping);
    }
    ~HostPages() { munmap(data_, size_); }
    HostPages(const HostPages&) = delete;
    HostPages& operator=(const HostPages&) = delete;

    u8* data() const { return data_; }

    // Zeroes [offset, offset + length) and gives whole pages of it back to the host.
    void clear(u64 offset, u64 length) {
        const u64 first = align_up(offset, page_size);
        const u64 last = align_down(offset + length, page_size);
        if (first >= last || madvise(data_ + first, last - first, MADV_DONTNEED) != 0) {
            std::memset(data_ + offset, 0, length);
            return;
        }
        std::memset(data_ + offset, 0, first - offset);
        std::memset(data_ + last, 0, offset + length - last);
    }

  private:
    const u64 size_;
    u8* data_ = nullptr;
};

}  // namespace wirt::storage
