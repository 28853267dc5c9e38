// What a memory-mapped device looks like to the bus, and how its exits are counted.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/host_pages.h"
#include "base/state_visitor.h"
#include "base/types.h"

namespace wirt::memory {

enum class RegisterAccess : u8 { ro, rw, wo, rc /* read clears */, w1c /* write one clears */ };

// One register of a device: the single table that reads, writes, exit counters and the documentation share.
struct Register {
    u32 offset;
    u32 width;  // bytes; more than 8 for an array of registers that is counted as one
    RegisterAccess access;
    const char* name;
    u64 reset;
    const char* cite;  // specification and section
};

// A device, or one BAR of it, as the bus sees it.
class MmioDevice {
  public:
    virtual ~MmioDevice() = default;

    // The instance's name in statistics, the inspector and errors, e.g. "virtio-blk0".
    virtual std::string_view name() const = 0;
    // Sorted by offset. An access that hits none is counted as "other".
    virtual std::span<const Register> registers() const = 0;

    // `offset` is from the start of the region, `size` is 1, 2, 4 or 8 and the access is naturally aligned
    // and inside the region. Called with mutex() held. An access the specification leaves undefined must
    // have a defined result here: reads give 0, writes are ignored.
    virtual u64 read(u64 offset, unsigned size) = 0;
    virtual void write(u64 offset, unsigned size, u64 value) = 0;

    // Host memory that harts access in place of read and write, as fast as RAM and with no exit: a
    // framebuffer. As many pages as the region has; asked for once. It is no RAM: nothing is fetched from it,
    // no atomic works on it (PMA: AMONone, RsrvNone), and no DMA reaches it.
    virtual std::shared_ptr<HostPages> host_pages() { return nullptr; }

    virtual void reset() = 0;
    virtual void visit_state(StateVisitor& v) = 0;

    // Guards the device's state between harts and the device's own threads. Lock order: device, then
    // interrupt controller. A device never takes another device's mutex.
    std::mutex& mutex() { return mutex_; }

  private:
    std::mutex mutex_;
};

struct ExitCount {
    std::string device;
    std::string cause;  // the register's name
    u64 reads = 0;
    u64 writes = 0;
};

}  // namespace wirt::memory
