#include "memory/ram_image.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"
#include "memory/zero_page.h"

namespace wirt::memory {

namespace {
[[noreturn]] void refuse(const char* what) {
    throw ConfigError(std::string("the host cannot ") + what + ": " + std::strerror(errno));
}
}  // namespace

RamImage::RamImage(int fd, u64 size) : fd_(fd), size_(size) {
    void* mapping = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    if (mapping == MAP_FAILED) {
        close(fd_);
        refuse("map a memory image");
    }
    data_ = static_cast<const u8*>(mapping);
}

RamImage::~RamImage() {
    munmap(const_cast<u8*>(data_), size_);
    close(fd_);
}

std::shared_ptr<const RamImage> RamImage::copy_of(std::span<const u8> ram) {
    const int fd = memfd_create("wirt-ram", MFD_CLOEXEC);
    if (fd < 0) refuse("make a memory file");
    if (ftruncate(fd, static_cast<off_t>(ram.size())) != 0) {
        close(fd);
        refuse("make a memory file of the guest's size");
    }
    // Runs of pages that hold something; what is never written stays a hole.
    const u64 pages = ram.size() / page_size;
    for (u64 first = 0; first < pages;) {
        if (is_zero_page(ram.data() + first * page_size)) {
            ++first;
            continue;
        }
        u64 end = first + 1;
        while (end < pages && !is_zero_page(ram.data() + end * page_size)) ++end;
        for (u64 at = first * page_size; at < end * page_size;) {
            const ssize_t n = pwrite(fd, ram.data() + at, end * page_size - at, static_cast<off_t>(at));
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) {
                close(fd);
                refuse("fill a memory file");
            }
            at += static_cast<u64>(n);
        }
        first = end;
    }
    return std::shared_ptr<const RamImage>(new RamImage(fd, ram.size()));
}

std::shared_ptr<const RamImage> RamImage::of_file(int fd, u64 size) {
    struct stat info;
    if (fstat(fd, &info) != 0) refuse("look at a memory image");
    if (!S_ISREG(info.st_mode) || static_cast<u64>(info.st_size) < size) {
        throw ConfigError("a memory image of " + std::to_string(size) + " bytes is needed; the file has " +
                          std::to_string(info.st_size));
    }
    const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) refuse("keep a memory image open");
    return std::shared_ptr<const RamImage>(new RamImage(own, size));
}

u8* RamImage::map(u8* where) const {
    const int fixed = where != nullptr ? MAP_FIXED : 0;
    void* mapping = mmap(where, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | fixed, fd_, 0);
    return mapping == MAP_FAILED ? nullptr : static_cast<u8*>(mapping);
}

const u8* PageDelta::find(u64 page) const {
    const auto at = std::lower_bound(pages.begin(), pages.end(), page);
    if (at == pages.end() || *at != page) return nullptr;
    return content.data() + static_cast<u64>(at - pages.begin()) * page_size;
}

}  // namespace wirt::memory
