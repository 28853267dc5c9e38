#include "base/run_delay.h"

#include <charconv>

#include <fcntl.h>
#include <unistd.h>

namespace wirt {

namespace {

// "running waiting slices": the second of three numbers. False when it is not there.
bool read_delay(int file, u64& delay) {
    char text[96];
    const ssize_t length = pread(file, text, sizeof text, 0);
    if (length <= 0) return false;
    const char* const end = text + length;
    u64 running;
    const auto first = std::from_chars(text, end, running);
    if (first.ec != std::errc() || first.ptr == end) return false;
    return std::from_chars(first.ptr + 1, end, delay).ec == std::errc();
}

}  // namespace

RunDelay::~RunDelay() {
    if (file_ >= 0) ::close(file_);
}

bool RunDelay::open() {
    tried_ = true;
    file_ = ::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    return file_ >= 0 && read_delay(file_, last_);
}

u64 RunDelay::since_last() {
    if (!tried_) {
        open();
        return 0;
    }
    u64 now;
    if (file_ < 0 || !read_delay(file_, now)) return 0;
    const u64 before = last_;
    last_ = now;
    return now > before ? now - before : 0;
}

}  // namespace wirt
