#include "devices/virtio/rng.h"

#include <algorithm>

#include "base/error.h"

namespace wirt::devices::virtio {

namespace {
// 5.4.6.2: at least one byte, and no more than the buffer; a driver that wants more asks again.
constexpr u64 request_limit = 4 * KiB;
}  // namespace

void VirtioRng::process(unsigned queue) {
    std::lock_guard lock(core().mutex());
    Chain chain;
    unsigned budget = task_budget;
    while (take(queue, chain)) {
        u64 filled = 0;
        try {
            for (const iovec& span : chain.writable) {
                const u64 part = std::min<u64>(span.iov_len, request_limit - filled);
                source_.fill({static_cast<u8*>(span.iov_base), part});
                filled += part;
            }
        } catch (const Error&) {
            core().unpop(queue, chain);
            core().needs_reset("the host refused random bytes");
            return;
        }
        core().push(queue, chain, static_cast<u32>(filled));
        DeviceCounters::add(count().operations);
        DeviceCounters::add(count().bytes_moved, filled);
        if (--budget == 0) {
            schedule(queue);
            break;
        }
    }
    core().notify_driver(queue);
}

void VirtioRng::visit_state(StateVisitor& v) {
    v.section("virtio-rng", 1);
}

}  // namespace wirt::devices::virtio
