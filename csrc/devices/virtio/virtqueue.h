// Virtqueues as devices see them (virtio 1.2, section 2.6): buffers come out, used buffers go back. How a
// ring is laid out in memory stays behind this seam: split rings (section 2.7) and packed ones (section 2.8).
//
// Untrusted input: everything a queue reads from guest memory. Each ring field and each descriptor is read
// exactly once and copied before it is checked, so that a guest that changes it meanwhile changes nothing.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <span>
#include <vector>

#include "base/state_visitor.h"
#include "memory/dma.h"

namespace wirt::devices::virtio {

// One buffer of the driver: a descriptor chain with its elements mapped to host memory. Elements of length
// zero are left out; neighbours that are adjacent in host memory are one span.
struct Chain {
    u16 id = 0;     // by which the driver knows the buffer: its first descriptor, or its buffer ID
    u16 slots = 0;  // entries of the ring it takes
    u64 epoch = 0;  // incarnation of the queue it came from
    std::vector<iovec> readable;
    std::vector<iovec> writable;
    u64 readable_bytes = 0;
    u64 writable_bytes = 0;
};

// A buffer given back, with the number of bytes written from the start of its writable part (2.7.8.1, 2.8.4).
struct Used {
    u16 id;
    u16 slots;
    u32 written;
};

// What the driver told the transport about a queue (2.7, 2.8, 4.1.4.3, 4.2.2).
struct QueueConfig {
    u16 size = 0;
    u64 descriptor_area = 0;
    u64 driver_area = 0;
    u64 device_area = 0;
};

class VirtQueue {
  public:
    enum class Pop : u8 { empty, chain, broken };

    virtual ~VirtQueue() = default;

    // Whether the areas are aligned and lie in RAM; asked once, when the driver sets DRIVER_OK.
    virtual bool usable() = 0;
    // Takes the next available buffer into `out`, whose vectors are reused. `broken`: the ring breaks a rule
    // of the specification, `fault()` says which; the ring is then as before.
    virtual Pop pop(Chain& out) = 0;
    // Makes the chain popped last available again; several are returned last first.
    virtual void unpop(const Chain& chain) = 0;
    // Gives buffers back. The driver sees all of them at once. False: broken.
    virtual bool push(std::span<const Used> used) = 0;
    // Whether the driver wants to hear of what was pushed since this was last asked (2.7.7.2, 2.8.10).
    virtual bool should_notify() = 0;
    // Tells the driver to ring the doorbell no more, or again (2.7.10, 2.8.10). The latter is true when
    // buffers were made available in between, for which no doorbell may come.
    virtual void suppress_notifications() = 0;
    virtual bool request_notifications() = 0;

    virtual u16 size() const = 0;
    virtual const char* fault() const = 0;
    virtual void visit_state(StateVisitor& v) = 0;
};

// `indirect` and `event_idx` say whether VIRTIO_F_INDIRECT_DESC and VIRTIO_F_EVENT_IDX were negotiated.
std::unique_ptr<VirtQueue> make_split_queue(const memory::DmaView& dma, const QueueConfig& config,
                                            bool indirect, bool event_idx);
std::unique_ptr<VirtQueue> make_packed_queue(const memory::DmaView& dma, const QueueConfig& config,
                                             bool indirect, bool event_idx);

}  // namespace wirt::devices::virtio
