// The physical address space: RAM, and the regions that devices claim. Harts come here on a TLB miss or for
// MMIO; devices never do (they hold a DmaView, which reaches RAM only).
#pragma once

#include <functional>
#include <optional>

#include "base/grace_period.h"
#include "memory/guest_ram.h"
#include "memory/mmio.h"

namespace wirt::memory {

class AddressSpace {
  public:
    explicit AddressSpace(GuestRam& ram) : ram_(ram) {}

    GuestRam& ram() const { return ram_; }

    // Regions come and go while harts run. `device` must outlive its region. Throws ConfigError when the
    // range overlaps RAM or another region.
    void map(u64 base, u64 size, MmioDevice& device);
    // A region that decodes nothing until relocate() gives it a base.
    void map_hidden(u64 size, MmioDevice& device);
    // A region that answers where no other does: a bus whose accesses end without an error even where nothing
    // is. Overlaps anything. Only while no hart runs, and for as long as this lives.
    void map_background(u64 base, u64 size, MmioDevice& device);
    // Takes the device's region away. When this returns no access is inside the device and none will be: it
    // may be destroyed. Not to be called from inside an access, nor with a mutex held that one waits for.
    void unmap(MmioDevice& device);
    // Moves, shows or hides a region while harts run (a PCI BAR): `base` nullopt hides it. A base that
    // overlaps something leaves the region hidden.
    void relocate(MmioDevice& device, std::optional<u64> base);

    // Physical accesses of `size` 1, 2, 4 or 8 bytes, naturally aligned. nullopt or false: nothing is there,
    // which a hart turns into an access fault. RAM is accessed single-copy atomically.
    std::optional<u64> read(u64 address, unsigned size);
    bool write(u64 address, unsigned size, u64 value);
    // What harts may access directly: RAM, or the host memory of a region that has some. Null for all else.
    u8* host(u64 address, u64 length) const {
        u8* const in_ram = ram_.host(address, length);
        return in_ram != nullptr || !any_host_pages_.load(std::memory_order_relaxed)
                   ? in_ram
                   : host_pages(address, length);
    }
    // Called, with a lock of this class held, after host memory was moved or hidden: harts then forget where
    // they saw it.
    void on_host_pages_moved(std::function<void()> listener) { moved_listener_ = std::move(listener); }

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
        Region(u64 at, u64 bytes, bool shown, MmioDevice& target)
            : base(at),
              size(bytes),
              visible(shown),
              device(&target),
              host_pages(target.host_pages()),
              registers(target.registers()),
              counters(std::make_unique<Counter[]>(registers.size() + 1)) {}
        u64 base;
        u64 size;
        bool visible;
        MmioDevice* device;
        const std::shared_ptr<HostPages> host_pages;
        std::span<const Register> registers;
        std::unique_ptr<Counter[]> counters;  // one a register, then "other"
    };
    // What readers search: the visible regions, sorted by base, under a sequence lock. A guest may move a BAR
    // as often as it likes while other harts look on, so a move allocates nothing, and a reader takes base
    // and region from one version of the map. What a reader may still hold is destroyed a grace period after
    // it was taken out.
    struct Slot {
        std::atomic<u64> base;
        std::atomic<u64> size;
        std::atomic<Region*> region;
    };
    struct Index {
        explicit Index(std::size_t room) : capacity(room), slots(std::make_unique<Slot[]>(room)) {}
        const std::size_t capacity;
        std::atomic<std::size_t> count{0};
        std::unique_ptr<Slot[]> slots;
    };
    struct Hit {
        Region* region;
        u64 offset;
    };

    std::optional<Hit> find(u64 address, u64 size) const;
    std::optional<Hit> find_mapped(u64 address, u64 size) const;
    u8* host_pages(u64 address, u64 length) const;
    static Counter& counter(Region& region, u64 offset, unsigned size);
    void add(std::unique_ptr<Region> region);
    void publish();

    GuestRam& ram_;
    mutable std::mutex change_;
    std::vector<std::unique_ptr<Region>> regions_;
    std::vector<std::unique_ptr<Region>> background_;
    std::unique_ptr<Index> index_storage_{std::make_unique<Index>(64)};
    std::vector<std::unique_ptr<Index>> outgrown_;  // each half of the next: never more than one of them all
    std::atomic<Index*> index_{index_storage_.get()};
    std::atomic<u64> sequence_{0};  // odd while the slots are rewritten
    mutable GracePeriod accesses_;
    std::atomic<bool> any_host_pages_{false};
    // Of devices that were taken away: a hart may have them in its TLB for a while yet.
    std::vector<std::shared_ptr<HostPages>> retired_pages_;
    std::function<void()> moved_listener_;
};

}  // namespace wirt::memory
