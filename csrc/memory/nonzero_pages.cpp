#include "memory/nonzero_pages.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "memory/zero_page.h"

namespace wirt::memory {

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

}  // namespace wirt::memory
