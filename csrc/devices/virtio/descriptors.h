// What split and packed rings do alike (virtio 1.2, 2.7.5, 2.8.5): check their areas, load a descriptor, add
// an element to a buffer, open an indirect table.
//
// Untrusted input: descriptors and tables. Each is loaded once; what was loaded is what is checked and used.
#pragma once

#include <optional>

#include "devices/virtio/virtqueue.h"

namespace wirt::devices::virtio {

// Flags that both layouts share (2.7.5, 2.8.3, 2.8.6, 2.8.7).
inline constexpr u16 desc_next = 1;
inline constexpr u16 desc_write = 2;
inline constexpr u16 desc_indirect = 4;
inline constexpr u64 descriptor_size = 16;

// Whether an area of a ring is aligned (a power of two) and lies in RAM as a whole.
bool area_usable(const memory::DmaView& dma, u64 address, u64 length, u64 alignment,
                 memory::DmaDirection direction);

// The sixteen bytes of a descriptor. What the last two words are differs between the layouts.
struct RawDescriptor {
    u64 address;
    u32 length;
    u16 words[2];
};

// `at` need not be aligned: an indirect table may stand at any address (2.7.5.3, 2.8.7). The second half,
// with the flags, is loaded first and acquires: a packed ring publishes a descriptor by its flags (2.8.21.1).
std::optional<RawDescriptor> load_descriptor(const memory::DmaView& dma, u64 at);

// A descriptor table: the ring's own, or an indirect one.
struct DescriptorTable {
    u64 address;
    u32 count;
};

// Builds one chain. Every function that fails says why in fault().
class ChainBuilder {
  public:
    // `out` is emptied; its vectors are reused. A chain is no longer than the queue (2.7.5.3.1, 2.8.17).
    ChainBuilder(const memory::DmaView& dma, u16 queue_size, Chain& out);

    bool add(u64 address, u32 length, bool writable);
    // What a descriptor with INDIRECT refers to.
    bool open_table(const RawDescriptor& descriptor, bool negotiated, DescriptorTable& table);
    bool fail(const char* why) {
        fault_ = why;
        return false;
    }
    const char* fault() const { return fault_; }

  private:
    const memory::DmaView& dma_;
    const u16 queue_size_;
    unsigned budget_;
    Chain& out_;
    const char* fault_ = nullptr;
};

}  // namespace wirt::devices::virtio
