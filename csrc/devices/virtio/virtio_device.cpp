#include "devices/virtio/virtio_device.h"

namespace wirt::devices::virtio {

void VirtioDevice::schedule(unsigned work) {
    const u64 mask = u64{1} << work;
    if (!(pending_.fetch_or(mask) & mask)) post(work);
}

void VirtioDevice::post(unsigned work) {
    executor_.post(
        [this, work] {
            const u64 mask = u64{1} << work;
            {
                // While paused the bit stays, for resume() to find.
                std::lock_guard lock(core().mutex());
                if (core().paused()) return;
                // Cleared before the work begins: what is asked for from here on is another task.
                if (!(pending_.fetch_and(~mask) & mask)) return;
            }
            process(work);
        },
        work);
}

bool VirtioDevice::take(unsigned queue, Chain& out) {
    // Twice, and then as a new task: a driver that moves avail.idx to and fro must not keep us here.
    for (int attempt = 0; attempt < 2; ++attempt) {
        if (core().pop(queue, out)) {
            core().suppress_notifications(queue);
            return true;
        }
        if (core().paused()) break;
        if (!core().request_notifications(queue)) return false;
    }
    schedule(queue);
    return false;
}

void VirtioDevice::resume() {
    const u64 pending = pending_.load();
    for (unsigned work = 0; work < 64; ++work) {
        if (pending >> work & 1) post(work);
    }
}

}  // namespace wirt::devices::virtio
