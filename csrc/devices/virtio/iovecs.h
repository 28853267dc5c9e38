// Byte streams over scattered buffers: a structure may be split over descriptors in any way (2.7.4.2).
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "base/types.h"

namespace wirt::devices::virtio {

// Copies out of `from`, beginning `offset` bytes into it; returns how many bytes there were.
inline std::size_t gather(std::span<const iovec> from, u64 offset, void* to, std::size_t length) {
    std::size_t done = 0;
    for (const iovec& span : from) {
        if (done == length) break;
        if (offset >= span.iov_len) {
            offset -= span.iov_len;
            continue;
        }
        const std::size_t part = std::min<std::size_t>(span.iov_len - offset, length - done);
        std::memcpy(static_cast<u8*>(to) + done, static_cast<const u8*>(span.iov_base) + offset, part);
        done += part;
        offset = 0;
    }
    return done;
}

// Copies into `to`, beginning `offset` bytes into it; returns how many bytes found room.
inline std::size_t scatter(std::span<const iovec> to, u64 offset, const void* from, std::size_t length) {
    std::size_t done = 0;
    for (const iovec& span : to) {
        if (done == length) break;
        if (offset >= span.iov_len) {
            offset -= span.iov_len;
            continue;
        }
        const std::size_t part = std::min<std::size_t>(span.iov_len - offset, length - done);
        std::memcpy(static_cast<u8*>(span.iov_base) + offset, static_cast<const u8*>(from) + done, part);
        done += part;
        offset = 0;
    }
    return done;
}

// The `length` bytes from `offset` on, as spans; replaces the content of `out`.
inline void slice(std::span<const iovec> of, u64 offset, u64 length, std::vector<iovec>& out) {
    out.clear();
    for (const iovec& span : of) {
        if (length == 0) break;
        if (offset >= span.iov_len) {
            offset -= span.iov_len;
            continue;
        }
        const u64 part = std::min<u64>(span.iov_len - offset, length);
        out.push_back({static_cast<u8*>(span.iov_base) + offset, part});
        length -= part;
        offset = 0;
    }
}

}  // namespace wirt::devices::virtio
