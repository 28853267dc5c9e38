#include "base/entropy.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace wirt {

void EntropySource::reseed(u64 value) {
    std::lock_guard lock(mutex_);
    if (seeded_) state_ = value;
}

void EntropySource::fill(std::span<u8> out) {
    std::lock_guard lock(mutex_);
    if (!seeded_) {
        std::size_t done = 0;
        while (done < out.size()) {
            const ssize_t n = getrandom(out.data() + done, out.size() - done, 0);
            if (n < 0 && errno != EINTR)
                throw Error("the host refuses random bytes: " + std::string(std::strerror(errno)));
            if (n > 0) done += static_cast<std::size_t>(n);
        }
        return;
    }
    for (std::size_t at = 0; at < out.size(); at += 8) {
        u64 z = state_ += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        z ^= z >> 31;
        std::memcpy(out.data() + at, &z, std::min<std::size_t>(8, out.size() - at));
    }
}

void EntropySource::visit_state(StateVisitor& v) {
    std::lock_guard lock(mutex_);
    v.section("entropy", 1);
    v.field("state", state_);
}

}  // namespace wirt
