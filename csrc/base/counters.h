// What every device counts about its own work, so that two devices of a kind can be compared: exits come from
// the bus (memory/mmio.h), the rest from here. Counters are measurements of the host, not guest state: they
// are in no snapshot and no state hash.
#pragma once

#include <atomic>

#include "base/types.h"

namespace wirt {

struct DeviceCounters {
    std::atomic<u64> operations{0};    // requests, frames or console transfers completed
    std::atomic<u64> bytes_moved{0};   // payload between the guest and what stands behind the device
    std::atomic<u64> bytes_copied{0};  // of these, bytes the monitor itself copied, once a copy
    std::atomic<u64> notifications_received{0};  // doorbells the guest rang
    std::atomic<u64> interrupts_raised{0};       // times the device asked for the guest's attention

    // The same at one moment.
    struct Values {
        u64 operations = 0, bytes_moved = 0, bytes_copied = 0, notifications_received = 0,
            interrupts_raised = 0;

        friend Values operator-(const Values& now, const Values& before) {
            return {now.operations - before.operations, now.bytes_moved - before.bytes_moved,
                    now.bytes_copied - before.bytes_copied,
                    now.notifications_received - before.notifications_received,
                    now.interrupts_raised - before.interrupts_raised};
        }
    };
    Values values() const {
        const auto get = [](const std::atomic<u64>& counter) {
            return counter.load(std::memory_order_relaxed);
        };
        return {get(operations), get(bytes_moved), get(bytes_copied), get(notifications_received),
                get(interrupts_raised)};
    }

    // Counting orders nothing.
    static void add(std::atomic<u64>& counter, u64 amount = 1) {
        counter.fetch_add(amount, std::memory_order_relaxed);
    }
};

// A device with counters; the board finds it by dynamic_cast from MmioDevice.
class CountedDevice {
  public:
    virtual ~CountedDevice() = default;
    virtual const DeviceCounters& counters() const = 0;
};

}  // namespace wirt
