#include "memory/nonzero_pages.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "memory/guest_ram.h"
#include "memory/zero_page.h"

namespace wirt::memory {

namespace {

// Linux, Documentation/admin-guide/mm/pagemap.rst: 64 bits a page, of which these say that it is in memory,
// and that it is swapped out. Without both, and without a file behind it, a page has never been written.
constexpr u64 pagemap_there = u64{1} << 63 | u64{1} << 62;

// The entries of `count` pages at `from`; false when the host does not tell.
bool read_pagemap(int fd, const u8* from, u64 count, std::vector<u64>& entries) {
    entries.resize(count);
    const u64 at = reinterpret_cast<std::uintptr_t>(from) / page_size * sizeof(u64);
    const ssize_t wanted = static_cast<ssize_t>(count * sizeof(u64));
    return fd >= 0 && pread(fd, entries.data(), count * sizeof(u64), static_cast<off_t>(at)) == wanted;
}

}  // namespace

PageSet nonzero_pages(int fd, u64 size) {
    PageSet found((size + page_size - 1) / page_size);
    std::vector<u8> buffer(256 * KiB);
    const auto refuse_reading = [](int error) {
        throw StorageError(std::string("a file of a snapshot cannot be read: ") + std::strerror(error));
    };
    for (u64 at = 0; at < size;) {
        const off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
        if (data < 0 && errno == ENXIO) {  // no data up to the end of the file
            const off_t end = lseek(fd, 0, SEEK_END);
            if (end < 0 || static_cast<u64>(end) < size) refuse_reading(end < 0 ? errno : ENODATA);
            break;
        }
        // A file system that knows no holes says EINVAL: then all of it is data.
        if (data < 0 && errno != EINVAL) refuse_reading(errno);
        if (data > 0) at = std::max(at, static_cast<u64>(data) / page_size * page_size);
        const off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
        const u64 end = hole < 0 ? size : std::min(size, static_cast<u64>(hole));
        while (at < end) {
            const u64 wanted = std::min<u64>(buffer.size(), size - at);
            u64 have = 0;
            while (have < wanted) {
                const ssize_t n =
                    pread(fd, buffer.data() + have, wanted - have, static_cast<off_t>(at + have));
                if (n < 0 && errno == EINTR) continue;
                if (n <= 0) refuse_reading(n < 0 ? errno : ENODATA);
                have += static_cast<u64>(n);
            }
            std::memset(buffer.data() + have, 0, (page_size - have % page_size) % page_size);
            for (u64 offset = 0; offset < have; offset += page_size) {
                if (!is_zero_page(buffer.data() + offset)) found.insert((at + offset) / page_size);
            }
            at += have;
        }
    }
    return found;
}

PageSet used_pages(const GuestRam& ram) {
    constexpr u64 batch = 32 * KiB;  // pages
    PageSet found(ram.pages());
    std::vector<u64> entries;
    // Another size of the host's pages, and what is said here would be of another page.
    const bool same_size = sysconf(_SC_PAGESIZE) == static_cast<long>(page_size);
    const int fd = same_size ? open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC) : -1;
    for (u64 first = 0; first < ram.pages(); first += batch) {
        const u64 count = std::min(batch, ram.pages() - first);
        // In this order: once it is shared, a page that is not there may be one of the file's.
        const bool told = read_pagemap(fd, ram.page_data(first), count, entries) && !ram.shared();
        for (u64 page = first; page < first + count; ++page) {
            if (told && (entries[page - first] & pagemap_there) == 0) continue;
            if (!is_zero_page(ram.page_data(page))) found.insert(page);
        }
    }
    if (fd >= 0) close(fd);
    return found;
}

}  // namespace wirt::memory
