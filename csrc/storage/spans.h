// Walking scattered memory: the iovecs of one transfer seen as one run of bytes.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "base/types.h"

namespace wirt::storage {

inline u64 total_bytes(std::span<const iovec> spans) {
    u64 total = 0;
    for (const iovec& span : spans) total += span.iov_len;
    return total;
}

inline bool is_zero(const u8* bytes, u64 length) {
    return length == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, length - 1) == 0);
}

class SpanCursor {
  public:
    explicit SpanCursor(std::span<const iovec> spans) : spans_(spans) { settle(); }

    bool done() const { return index_ == spans_.size(); }

    // The next run of at most `limit` bytes that is contiguous in memory; not empty unless done().
    std::span<u8> take(u64 limit) {
        if (done()) return {};
        const iovec& span = spans_[index_];
        const u64 length = std::min<u64>(span.iov_len - within_, limit);
        u8* start = static_cast<u8*>(span.iov_base) + within_;
        within_ += length;
        settle();
        return {start, static_cast<std::size_t>(length)};
    }

    // Appends the next `length` bytes (fewer at the end) to `out`.
    void take(u64 length, std::vector<iovec>& out) {
        while (length > 0 && !done()) {
            const std::span<u8> run = take(length);
            out.push_back({run.data(), run.size()});
            length -= run.size();
        }
    }

    void skip(u64 length) {
        while (length > 0 && !done()) length -= take(length).size();
    }

    void copy_out(void* to, u64 length) {
        for (u8* out = static_cast<u8*>(to); length > 0 && !done();) {
            const std::span<u8> run = take(length);
            std::memcpy(out, run.data(), run.size());
            out += run.size();
            length -= run.size();
        }
    }

    void copy_in(const void* from, u64 length) {
        for (const u8* in = static_cast<const u8*>(from); length > 0 && !done();) {
            const std::span<u8> run = take(length);
            std::memcpy(run.data(), in, run.size());
            in += run.size();
            length -= run.size();
        }
    }

  private:
    void settle() {
        while (index_ < spans_.size() && within_ == spans_[index_].iov_len) {
            ++index_;
            within_ = 0;
        }
    }

    std::span<const iovec> spans_;
    std::size_t index_ = 0;
    u64 within_ = 0;
};

}  // namespace wirt::storage
