// Zero-filled host memory that costs nothing until it is written: as large as a disk or a framebuffer,
// resident as it is used.
#pragma once

#include <sys/mman.h>

#include <cstring>
#include <string_view>
#include <utility>

#include "base/bits.h"
#include "base/state_visitor.h"
#include "base/types.h"

namespace wirt {

class HostPages {
  public:
    HostPages() = default;
    // With `errno` set and without memory when the host refuses.
    explicit HostPages(u64 size) : size_(align_up(size, page_size)) {
        void* mapping =
            mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapping != MAP_FAILED) data_ = static_cast<u8*>(mapping);
    }
    HostPages(HostPages&& other) noexcept { swap(other); }
    HostPages& operator=(HostPages&& other) noexcept {
        swap(other);
        return *this;
    }
    ~HostPages() {
        if (data_ != nullptr) munmap(data_, size_);
    }

    explicit operator bool() const { return data_ != nullptr; }
    u8* data() const { return data_; }
    u64 size() const { return size_; }

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

    // In the caller's section, as what is not zero: pages that were never written cost next to nothing,
    // neither in a saved state nor in the machine that loads it. StateError for a saved state that
    // contradicts itself.
    void visit_state(StateVisitor& v, std::string_view name);

  private:
    void swap(HostPages& other) {
        std::swap(size_, other.size_);
        std::swap(data_, other.data_);
    }

    u64 size_ = 0;
    u8* data_ = nullptr;
};

}  // namespace wirt
