// The IOMMU's address translation cache: finished translations, and the directory entries that lead to them.
//
// Implements: RISC-V IOMMU Architecture Specification 1.0, 3.8 (caching in-memory data structures), 4.1.1 and
// 4.1.3 (what an invalidation must reach). As there, a cached entry is used until software invalidates it: a
// guest that forgets an IOTINVAL or IODIR sees its old mapping.
//
// Changes are made under the owner's lock. dma() reads without it, from any thread: an entry is rewritten
// under a sequence number of its own, and a reader that sees it move misses.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <optional>

#include "devices/hardware/iommu/structures.h"

namespace wirt::devices::hardware::iommu {

// The address space of a translation (3.8, table "Identifiers used to tag IOATC entries").
struct SpaceTag {
    bool gv = false, pscv = false;
    u32 gscid = 0, pscid = 0;

    bool operator==(const SpaceTag&) const = default;
    bool identity() const { return !gv && !pscv; }
};

struct Translation {
    SpaceTag space;
    u64 from = 0, to = 0;  // first byte of either range
    u64 size = 0;
    // Of the largest page-table leaf that it was made from: an invalidation names any address in that.
    u64 reach = 0;
    // Of the first and of the second stage.
    bool r1 = false, w1 = false, x1 = false, u = false, g = false, d1 = false;
    bool r2 = false, w2 = false, x2 = false, d2 = false;
    u8 pbmt = 0;
    bool msi = false;
};

// A range of pages: one, or a naturally aligned power of two (extension "address range invalidation").
struct PageRange {
    u64 first = 0, last = 0;  // inclusive byte addresses
};

class Ioatc {
  public:
    Ioatc();

    // --- without the lock ---

    // A request without process_id and privilege: the address in memory, and in `contiguous` (on entry: what
    // is wanted) how far that is good. Only what is cached and allowed.
    std::optional<u64> dma(u32 device_id, u64 address, bool write, u64& contiguous) const;

    // --- under the owner's lock ---

    std::optional<Translation> find(const SpaceTag& space, u64 address) const;
    void insert(const Translation& translation);
    // IOTINVAL.VMA.
    void invalidate_first_stage(std::optional<u32> gscid, std::optional<u32> pscid,
                                std::optional<PageRange> range);
    // IOTINVAL.GVMA.
    void invalidate_second_stage(std::optional<u32> gscid, std::optional<PageRange> range);

    const DeviceContext* device(u32 device_id) const;
    void insert_device(u32 device_id, const DeviceContext& context);
    // Lets dma() know the space of a cached device's requests without process_id.
    void publish_space(u32 device_id, const SpaceTag& space);
    const ProcessContext* process(u32 device_id, u32 process_id) const;
    void insert_process(u32 device_id, u32 process_id, const ProcessContext& context);
    // IODIR.INVAL_DDT (no device: all) and IODIR.INVAL_PDT.
    void invalidate_device(std::optional<u32> device_id);
    void invalidate_process(u32 device_id, u32 process_id);
    // From here on dma() misses until spaces are published anew.
    void forget_spaces();
    void clear();

  private:
    static constexpr unsigned translation_bits = 12, device_bits = 8, process_bits = 8;

    // Words of an entry: space and size; source page and permissions; destination and reach.
    struct Entry {
        std::atomic<u32> sequence{0};  // odd while it is rewritten
        std::atomic<u64> key{0};       // 0: empty
        std::atomic<u64> from{0};
        std::atomic<u64> to{0};
    };
    struct Device {
        u32 id = 0;
        bool valid = false;
        DeviceContext context;
    };
    struct Process {
        u32 device_id = 0, id = 0;
        bool valid = false;
        ProcessContext context;
    };

    static u64 key_of(const SpaceTag& space, unsigned size_log2);
    static Translation unpack(u64 key, u64 from, u64 to);
    std::size_t slot_of(u64 key, u64 address, unsigned size_log2) const;
    std::optional<Translation> probe(u64 space_key, u64 address) const;
    void store(Entry& entry, u64 key, u64 from, u64 to);
    template <typename Matches>
    void invalidate_if(Matches&& matches);

    std::unique_ptr<Entry[]> entries_;
    std::atomic<u64> sizes_{0};  // bit n: some entry covers 2^n bytes
    bool broken_up_ = false;     // some entry covers less than its leaf
    // Per slot of devices_: device_id and space, for dma(); 0: none.
    std::array<std::atomic<u64>, 1 << device_bits> device_spaces_{};
    std::array<Device, 1 << device_bits> devices_;
    std::array<Process, 1 << process_bits> processes_;
};

}  // namespace wirt::devices::hardware::iommu
