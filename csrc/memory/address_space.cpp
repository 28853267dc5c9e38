#include "memory/address_space.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <utility>

#include "base/error.h"

namespace wirt::memory {

namespace {
std::string hex(u64 value) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

// Naturally aligned guest RAM is accessed through host atomics: other harts and device threads look on.
template <typename T>
u64 load_atomic(const u8* from) {
    return __atomic_load_n(reinterpret_cast<const T*>(from), __ATOMIC_RELAXED);
}
template <typename T>
void store_atomic(u8* to, u64 value) {
    __atomic_store_n(reinterpret_cast<T*>(to), static_cast<T>(value), __ATOMIC_RELAXED);
}
}  // namespace

void AddressSpace::map(u64 base, u64 size, MmioDevice& device) {
    std::lock_guard lock(change_);
    auto overlaps = [&](u64 other_base, u64 other_size) {
        return base < other_base + other_size && other_base < base + size;
    };
    if (overlaps(ram_.base(), ram_.size())) {
        throw ConfigError("device " + std::string(device.name()) + " at " + hex(base) +
                          " overlaps guest memory");
    }
    for (const auto& region : regions_) {
        if (region->visible && overlaps(region->base, region->size)) {
            throw ConfigError("device " + std::string(device.name()) + " at " + hex(base) + " overlaps " +
                              std::string(region->device->name()));
        }
    }
    add(std::make_unique<Region>(base, size, true, device));
}

void AddressSpace::map_hidden(u64 size, MmioDevice& device) {
    std::lock_guard lock(change_);
    add(std::make_unique<Region>(0, size, false, device));
}

void AddressSpace::map_background(u64 base, u64 size, MmioDevice& device) {
    std::lock_guard lock(change_);
    background_.push_back(std::make_unique<Region>(base, size, true, device));
}

void AddressSpace::add(std::unique_ptr<Region> region) {
    if (region->host_pages != nullptr) {
        if (((region->base | region->size) & page_mask) != 0 || region->host_pages->size() != region->size) {
            throw ConfigError("device " + std::string(region->device->name()) + " at " + hex(region->base) +
                              " has host memory and must consist of whole pages");
        }
        any_host_pages_ = true;
    }
    regions_.push_back(std::move(region));
    if (regions_.size() > index_storage_->capacity) {
        auto larger = std::make_unique<Index>(2 * index_storage_->capacity);
        // Readers may be in the old one for a while yet, and whoever maps may hold a mutex that they wait
        // for.
        outgrown_.push_back(std::exchange(index_storage_, std::move(larger)));
    }
    publish();
}

void AddressSpace::unmap(MmioDevice& device) {
    std::vector<std::unique_ptr<Region>> gone;
    {
        std::lock_guard lock(change_);
        const auto first = std::stable_partition(
            regions_.begin(), regions_.end(), [&](const auto& region) { return region->device != &device; });
        std::move(first, regions_.end(), std::back_inserter(gone));
        regions_.erase(first, regions_.end());
        publish();
        for (const auto& region : gone) {
            if (region->host_pages != nullptr) retired_pages_.push_back(region->host_pages);
        }
        if (!retired_pages_.empty() && moved_listener_) moved_listener_();
    }
    accesses_.synchronize();
}

void AddressSpace::relocate(MmioDevice& device, std::optional<u64> base) {
    std::lock_guard lock(change_);
    bool host_pages_moved = false;
    for (const auto& region : regions_) {
        if (region->device != &device) continue;
        if (region->visible ? base == region->base : !base) return;
        host_pages_moved |= region->visible && region->host_pages != nullptr;
        region->visible = false;
        if (base) {
            auto clash = [&](u64 other_base, u64 other_size) {
                return *base < other_base + other_size && other_base < *base + region->size;
            };
            bool free = *base + region->size > *base && !clash(ram_.base(), ram_.size()) &&
                        (region->host_pages == nullptr || (*base & page_mask) == 0);
            for (const auto& other : regions_)
                free = free && !(other->visible && clash(other->base, other->size));
            region->base = *base;
            region->visible = free;
        }
    }
    publish();
    if (host_pages_moved && moved_listener_) moved_listener_();
}

void AddressSpace::publish() {
    std::vector<Region*> visible;
    for (const auto& region : regions_) {
        if (region->visible) visible.push_back(region.get());
    }
    std::sort(visible.begin(), visible.end(),
              [](const Region* a, const Region* b) { return a->base < b->base; });

    // Release and acquire on the slots themselves: a reader that has seen any of the new ones sees the odd
    // sequence number as well. The sequence number's own order is total, as GracePeriod asks for.
    Index& index = *index_storage_;
    sequence_.fetch_add(1);
    for (std::size_t i = 0; i < visible.size(); ++i) {
        index.slots[i].base.store(visible[i]->base, std::memory_order_release);
        index.slots[i].size.store(visible[i]->size, std::memory_order_release);
        index.slots[i].region.store(visible[i], std::memory_order_release);
    }
    index.count.store(visible.size(), std::memory_order_release);
    index_.store(&index, std::memory_order_release);
    sequence_.fetch_add(1);
}

std::optional<AddressSpace::Hit> AddressSpace::find(u64 address, u64 size) const {
    if (const std::optional<Hit> hit = find_mapped(address, size)) return hit;
    for (const auto& region : background_) {
        if (range_inside(address, size, region->base, region->size))
            return Hit{region.get(), address - region->base};
    }
    return std::nullopt;
}

std::optional<AddressSpace::Hit> AddressSpace::find_mapped(u64 address, u64 size) const {
    for (;;) {
        const u64 before = sequence_.load();
        const Index& index = *index_.load(std::memory_order_acquire);
        std::size_t low = 0;
        std::size_t high = index.count.load(std::memory_order_acquire);
        while (low < high) {
            const std::size_t middle = (low + high) / 2;
            if (index.slots[middle].base.load(std::memory_order_acquire) <= address) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        std::optional<Hit> hit;
        if (low > 0) {
            const Slot& slot = index.slots[low - 1];
            const u64 base = slot.base.load(std::memory_order_acquire);
            if (range_inside(address, size, base, slot.size.load(std::memory_order_acquire))) {
                hit = Hit{slot.region.load(std::memory_order_acquire), address - base};
            }
        }
        if ((before & 1) == 0 && sequence_.load(std::memory_order_acquire) == before) return hit;
    }
}

u8* AddressSpace::host_pages(u64 address, u64 length) const {
    const GracePeriod::Reader reader(accesses_);
    const std::optional<Hit> hit = find_mapped(address, length);
    return hit && hit->region->host_pages != nullptr ? hit->region->host_pages->data() + hit->offset
                                                     : nullptr;
}

AddressSpace::Counter& AddressSpace::counter(Region& region, u64 offset, unsigned size) {
    const auto& registers = region.registers;
    auto after = std::upper_bound(registers.begin(), registers.end(), offset + size - 1,
                                  [](u64 value, const Register& r) { return value < r.offset; });
    if (after != registers.begin()) {
        const auto hit = std::prev(after);
        if (offset < u64{hit->offset} + hit->width) {
            return region.counters[static_cast<std::size_t>(hit - registers.begin())];
        }
    }
    return region.counters[registers.size()];
}

std::optional<u64> AddressSpace::read(u64 address, unsigned size) {
    if (const u8* from = host(address, size)) {
        switch (size) {
            case 1:
                return load_atomic<u8>(from);
            case 2:
                return load_atomic<u16>(from);
            case 4:
                return load_atomic<u32>(from);
            default:
                return load_atomic<u64>(from);
        }
    }
    const GracePeriod::Reader reader(accesses_);
    const std::optional<Hit> hit = find(address, size);
    if (!hit) return std::nullopt;
    const auto [region, offset] = *hit;
    counter(*region, offset, size).reads.fetch_add(1, std::memory_order_relaxed);
    std::lock_guard lock(region->device->mutex());
    return region->device->read(offset, size);
}

bool AddressSpace::write(u64 address, unsigned size, u64 value) {
    if (u8* to = host(address, size)) {
        ram_.will_write(address, size);
        switch (size) {
            case 1:
                store_atomic<u8>(to, value);
                break;
            case 2:
                store_atomic<u16>(to, value);
                break;
            case 4:
                store_atomic<u32>(to, value);
                break;
            default:
                store_atomic<u64>(to, value);
                break;
        }
        ram_.note_write(address, size);
        return true;
    }
    const GracePeriod::Reader reader(accesses_);
    const std::optional<Hit> hit = find(address, size);
    if (!hit) return false;
    const auto [region, offset] = *hit;
    counter(*region, offset, size).writes.fetch_add(1, std::memory_order_relaxed);
    std::lock_guard lock(region->device->mutex());
    region->device->write(offset, size, value);
    return true;
}

std::vector<ExitCount> AddressSpace::exits() const {
    std::lock_guard lock(change_);
    std::vector<ExitCount> result;
    for (const auto* regions : {&regions_, &background_}) {
        for (const auto& region : *regions) {
            for (std::size_t i = 0; i <= region->registers.size(); ++i) {
                const u64 reads = region->counters[i].reads.load(std::memory_order_relaxed);
                const u64 writes = region->counters[i].writes.load(std::memory_order_relaxed);
                if (reads + writes == 0) continue;
                result.push_back({std::string(region->device->name()),
                                  i < region->registers.size() ? region->registers[i].name : "other", reads,
                                  writes});
            }
        }
    }
    return result;
}

u64 AddressSpace::total_exits() const {
    u64 total = 0;
    for (const ExitCount& count : exits()) total += count.reads + count.writes;
    return total;
}

std::vector<MmioDevice*> AddressSpace::devices() const {
    std::lock_guard lock(change_);
    std::vector<MmioDevice*> result;
    for (const auto& region : regions_) result.push_back(region->device);
    return result;
}

std::pair<std::optional<u64>, u64> AddressSpace::region_of(const MmioDevice& device) const {
    std::lock_guard lock(change_);
    for (const auto& region : regions_) {
        if (region->device == &device) {
            return {region->visible ? std::optional<u64>(region->base) : std::nullopt, region->size};
        }
    }
    throw AddressError("device " + std::string(device.name()) + " is not on the bus");
}

}  // namespace wirt::memory
