// The physical address space: RAM, and the regions that devices claim. Harts come here on a TLB miss or for
// MMIO; devices never do (they hold a DmaView, which reaches RAM only).
#pragma once

#include <optional>

#include "memory/guest_ram.h"
#include "memory/mmio.h"

namespace wirt::memory {

class AddressSpace {
  public:
    explicit AddressSpace(GuestRam& ram) : ram_(ram) {}

    GuestRam& ram() const { return ram_; }

    // Throws ConfigError when the range overlaps RAM or another region. `device` must outlive the region.
    // Only while no hart runs.
    void map(u64 base, u64 size, MmioDevice& device);
    // Moves, shows or hides a region while harts run (a PCI BAR): `base` nullopt hides it. A base that
    // overlaps something leaves the region hidden.
    void relocate(MmioDevice& device, std::optional<u64> base);

    // Physical accesses of `size` 1, 2, 4 or 8 bytes, naturally aligned. nullopt or false: nothing is there,
    // which a hart turns into an access fault. RAM is accessed single-copy atomically.
    std::optional<u64> read(u64 address, unsigned size);
    bool write(u64 address, unsigned size, u64 value);

    // Snapshot of all exit counters with a non-zero count.
    std::vector<ExitCount> exits() const;
    u64 total_exits() const;
    std::vector<MmioDevice*> devices() const;
    // (base, size) of a device's region; base nullopt when hidden.
    std::pair<std::optional<u64>, u64> region_of(const MmioDevice& device) const;

  private:
    struct Counter {
        std::atomic<u64> reads{0};
        std::atomic<u64> writes{0};
    };
    struct Region {
        u64 base;
        u64 size;
        bool visible;
        MmioDevice* device;
        std::span<const Register> registers;
        std::unique_ptr<Counter[]> counters;  // one a register, then "other"
    };
    // What readers search: the visible regions, sorted by base, under a sequence lock. A guest may move a BAR
    // as often as it likes while other harts look on, so a move allocates nothing, and a reader takes base
    // and region from one version of the map.
    struct Slot {
        std::atomic<u64> base;
        std::atomic<u64> size;
        std::atomic<Region*> region;
    };
    struct Hit {
        Region* region;
        u64 offset;
    };

    std::optional<Hit> find(u64 address, unsigned size) const;
    static Counter& counter(Region& region, u64 offset, unsigned size);
    void publish();

    GuestRam& ram_;
    mutable std::mutex change_;
    std::vector<std::unique_ptr<Region>> regions_;
    std::unique_ptr<Slot[]> slots_;  // one a region; replaced by map() only
    std::atomic<std::size_t> slot_count_{0};
    std::atomic<u64> sequence_{0};  // odd while the slots are rewritten
};

}  // namespace wirt::memory
