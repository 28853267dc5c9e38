// What a device says of itself to somebody who looks at the machine. Like its counters this is no guest
// state: it is made when it is asked for, from what the guest has set up.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/types.h"

namespace wirt {

struct BarDescription {
    unsigned index = 0;
    std::string kind;  // "32-bit", "64-bit", "64-bit prefetchable", "I/O"
    u64 size = 0;
    std::optional<u64> base;  // none while it decodes nothing
};

struct QueueDescription {
    std::string name;
    u32 size = 0;  // entries
    bool enabled = false;
};

struct DeviceDescription {
    std::string address;    // on its bus, e.g. "0000:00:01.0"
    std::string identity;   // by which drivers know it, e.g. "8086:10d3" or "virtio 2"
    std::string interrupt;  // how it interrupts now
    std::vector<BarDescription> bars;
    std::vector<QueueDescription> queues;
    std::vector<std::string> features;  // that the driver has accepted
};

// A device with more to say than its registers; the board finds it by dynamic_cast.
class DescribedDevice {
  public:
    virtual ~DescribedDevice() = default;
    // Adds what it knows. Takes the locks that it needs.
    virtual void describe(DeviceDescription& out) = 0;
};

}  // namespace wirt
