// Content of guest RAM that never changes again, and that any number of machines map copy-on-write: a memory
// file, or a snapshot's file.
//
// A file that somebody shortens while it is mapped ends the process (SIGBUS): snapshots are not to be written
// to while machines use them. Removing them does no harm.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/types.h"

namespace wirt::memory {

class RamImage {
  public:
    // Copies `ram`, a multiple of the page size, but for its pages of zeroes. Throws ConfigError when the
    // host has no memory or no descriptor left.
    static std::shared_ptr<const RamImage> copy_of(std::span<const u8> ram);
    // `fd` stays the caller's. Throws ConfigError when the file is shorter than `size` or cannot be mapped.
    static std::shared_ptr<const RamImage> of_file(int fd, u64 size);
    ~RamImage();
    RamImage(const RamImage&) = delete;
    RamImage& operator=(const RamImage&) = delete;

    u64 size() const { return size_; }
    const u8* data() const { return data_; }
    const u8* page(u64 index) const { return data_ + index * page_size; }
    // Maps it copy-on-write: at `where` in place of what is there, or anywhere for null. Null: no room.
    u8* map(u8* where) const;

  private:
    RamImage(int fd, u64 size);

    int fd_;  // its own
    u64 size_;
    const u8* data_ = nullptr;
};

// Pages that differ from an image, in ascending order.
struct PageDelta {
    std::vector<u64> pages;
    std::vector<u8> content;  // page_size bytes each, in the order of `pages`

    // Null when it is not among them.
    const u8* find(u64 page) const;
};

// The whole of guest RAM at one moment.
struct RamPoint {
    std::shared_ptr<const RamImage> image;
    std::shared_ptr<const PageDelta> delta;  // null: nothing differs

    const u8* page(u64 index) const {
        const u8* changed = delta ? delta->find(index) : nullptr;
        return changed != nullptr ? changed : image->page(index);
    }
};

}  // namespace wirt::memory
