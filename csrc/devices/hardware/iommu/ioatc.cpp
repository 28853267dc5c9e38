#include "devices/hardware/iommu/ioatc.h"

#include <algorithm>
#include <bit>

namespace wirt::devices::hardware::iommu {

namespace {

constexpr u64 golden = 0x9e37'79b9'7f4a'7c15;

constexpr std::size_t hash(u64 value, unsigned result_bits) {
    return static_cast<std::size_t>(value * golden >> (64 - result_bits));
}

// A space and a size, or a space and a device, in one word; never 0.
constexpr u64 pack_space(const SpaceTag& space) {
    return u64{space.gscid} | u64{space.pscid} << 16 | u64{space.gv} << 36 | u64{space.pscv} << 37 |
           u64{1} << 38;
}
constexpr SpaceTag unpack_space(u64 word) {
    return {bit(word, 36), bit(word, 37), static_cast<u32>(bits<u64>(word, 0, 16)),
            static_cast<u32>(bits<u64>(word, 16, 20))};
}
constexpr unsigned space_bits = 39;

// The low twelve bits of Entry::from.
enum : unsigned { r1, w1, x1, user, global, d1, r2, w2, x2, d2, memory_type };

}  // namespace

Ioatc::Ioatc() : entries_(std::make_unique<Entry[]>(1u << translation_bits)) {}

u64 Ioatc::key_of(const SpaceTag& space, unsigned size_log2) {
    return pack_space(space) | u64{size_log2} << space_bits;
}

std::size_t Ioatc::slot_of(u64 key, u64 address, unsigned size_log2) const {
    return hash(key ^ (address >> size_log2) * golden, translation_bits);
}

Translation Ioatc::unpack(u64 key, u64 from, u64 to) {
    Translation t;
    t.space = unpack_space(key);
    t.size = u64{1} << (key >> space_bits);
    t.from = from & ~(page_bytes - 1);
    t.to = to & ~(page_bytes - 1);
    t.r1 = bit(from, r1);
    t.w1 = bit(from, w1);
    t.x1 = bit(from, x1);
    t.u = bit(from, user);
    t.g = bit(from, global);
    t.d1 = bit(from, d1);
    t.r2 = bit(from, r2);
    t.w2 = bit(from, w2);
    t.x2 = bit(from, x2);
    t.d2 = bit(from, d2);
    t.pbmt = static_cast<u8>(bits<u64>(from, memory_type, 2));
    t.msi = bit(to, 0);
    t.reach = u64{1} << bits<u64>(to, 1, 6);
    return t;
}

std::optional<Translation> Ioatc::probe(u64 space_key, u64 address) const {
    // A handful of sizes at most: those of page-table levels.
    for (u64 sizes = sizes_.load(std::memory_order_acquire); sizes != 0; sizes &= sizes - 1) {
        const unsigned size_log2 = static_cast<unsigned>(std::countr_zero(sizes));
        const u64 key = space_key | u64{size_log2} << space_bits;
        const Entry& entry = entries_[slot_of(key, address, size_log2)];
        const u32 before = entry.sequence.load(std::memory_order_acquire);
        if ((before & 1) != 0 || entry.key.load(std::memory_order_acquire) != key) continue;
        const u64 from = entry.from.load(std::memory_order_acquire);
        const u64 to = entry.to.load(std::memory_order_acquire);
        if (entry.sequence.load(std::memory_order_relaxed) != before) continue;
        if ((from ^ address) >> size_log2 == 0) return unpack(key, from, to);
    }
    return std::nullopt;
}

// Stores that a reader sees in order: whoever loads a new word also sees the odd sequence number before it.
void Ioatc::store(Entry& entry, u64 key, u64 from, u64 to) {
    const u32 sequence = entry.sequence.load(std::memory_order_relaxed);
    entry.sequence.store(sequence + 1, std::memory_order_relaxed);
    entry.key.store(key, std::memory_order_release);
    entry.from.store(from, std::memory_order_release);
    entry.to.store(to, std::memory_order_release);
    entry.sequence.store(sequence + 2, std::memory_order_release);
}

std::optional<u64> Ioatc::dma(u32 device_id, u64 address, bool write, u64& contiguous) const {
    const u64 word = device_spaces_[hash(device_id, device_bits)].load(std::memory_order_acquire);
    if (word == 0 || word >> space_bits != device_id) return std::nullopt;
    const u64 space = bits<u64>(word, 0, space_bits);
    if (unpack_space(space).identity()) return address;
    const auto hit = probe(space, address);
    if (!hit || (hit->space.pscv && !hit->u) || hit->msi) return std::nullopt;
    if (write ? !(hit->w1 && hit->w2 && hit->d1 && hit->d2) : !(hit->r1 && hit->r2)) return std::nullopt;
    const u64 offset = address & (hit->size - 1);
    contiguous = std::min(contiguous, hit->size - offset);
    return hit->to + offset;
}

std::optional<Translation> Ioatc::find(const SpaceTag& space, u64 address) const {
    return probe(pack_space(space), address);
}

void Ioatc::insert(const Translation& t) {
    const unsigned size_log2 = static_cast<unsigned>(std::countr_zero(t.size));
    const u64 key = key_of(t.space, size_log2);
    const u64 permissions = u64{t.r1} << r1 | u64{t.w1} << w1 | u64{t.x1} << x1 | u64{t.u} << user |
                            u64{t.g} << global | u64{t.d1} << d1 | u64{t.r2} << r2 | u64{t.w2} << w2 |
                            u64{t.x2} << x2 | u64{t.d2} << d2 | u64{t.pbmt} << memory_type;
    store(entries_[slot_of(key, t.from, size_log2)], key, t.from | permissions,
          t.to | u64{t.msi} | static_cast<u64>(std::countr_zero(t.reach)) << 1);
    broken_up_ |= t.reach > t.size;
    sizes_.store(sizes_.load(std::memory_order_relaxed) | t.size, std::memory_order_release);
}

template <typename Matches>
void Ioatc::invalidate_if(Matches&& matches) {
    u64 sizes = 0;
    broken_up_ = false;
    for (std::size_t i = 0; i < std::size_t{1} << translation_bits; ++i) {
        Entry& entry = entries_[i];
        const u64 key = entry.key.load(std::memory_order_relaxed);
        if (key == 0) continue;
        const Translation t =
            unpack(key, entry.from.load(std::memory_order_relaxed), entry.to.load(std::memory_order_relaxed));
        if (matches(t)) {
            store(entry, 0, 0, 0);
        } else {
            sizes |= t.size;
            broken_up_ |= t.reach > t.size;
        }
    }
    sizes_.store(sizes, std::memory_order_release);
}

namespace {

bool overlaps(const Translation& t, const PageRange& range) {
    const u64 from = t.from & ~(t.reach - 1);
    return from <= range.last && from + (t.reach - 1) >= range.first;
}

}  // namespace

void Ioatc::invalidate_first_stage(std::optional<u32> gscid, std::optional<u32> pscid,
                                   std::optional<PageRange> range) {
    // The command that unmapping one page gives names its space and its page: no need to look everywhere.
    if (!broken_up_ && pscid && range && range->last - range->first < page_bytes) {
        const u64 space = pack_space({gscid.has_value(), true, gscid.value_or(0), *pscid});
        for (u64 sizes = sizes_.load(std::memory_order_relaxed); sizes != 0; sizes &= sizes - 1) {
            const unsigned size_log2 = static_cast<unsigned>(std::countr_zero(sizes));
            const u64 key = space | u64{size_log2} << space_bits;
            Entry& entry = entries_[slot_of(key, range->first, size_log2)];
            const u64 from = entry.from.load(std::memory_order_relaxed);
            if (entry.key.load(std::memory_order_relaxed) == key && !bit(from, global) &&
                (from ^ range->first) >> size_log2 == 0) {
                store(entry, 0, 0, 0);
            }
        }
        return;
    }
    invalidate_if([&](const Translation& t) {
        if (gscid ? !t.space.gv || t.space.gscid != *gscid : t.space.gv) return false;
        if (pscid && (!t.space.pscv || t.space.pscid != *pscid || t.g)) return false;
        return !range || overlaps(t, *range);
    });
}

void Ioatc::invalidate_second_stage(std::optional<u32> gscid, std::optional<PageRange> range) {
    invalidate_if([&](const Translation& t) {
        if (!t.space.gv || (gscid && t.space.gscid != *gscid)) return false;
        // Through two stages an entry depends on more guest physical pages than it could be tagged with.
        return !gscid || !range || t.space.pscv || overlaps(t, *range);
    });
}

const DeviceContext* Ioatc::device(u32 device_id) const {
    const Device& slot = devices_[hash(device_id, device_bits)];
    return slot.valid && slot.id == device_id ? &slot.context : nullptr;
}

void Ioatc::insert_device(u32 device_id, const DeviceContext& context) {
    const std::size_t slot = hash(device_id, device_bits);
    devices_[slot] = {device_id, true, context};
    device_spaces_[slot].store(0, std::memory_order_release);
}

void Ioatc::publish_space(u32 device_id, const SpaceTag& space) {
    const Device& slot = devices_[hash(device_id, device_bits)];
    if (!slot.valid || slot.id != device_id) return;
    device_spaces_[hash(device_id, device_bits)].store(pack_space(space) | u64{device_id} << space_bits,
                                                       std::memory_order_release);
}

const ProcessContext* Ioatc::process(u32 device_id, u32 process_id) const {
    const Process& slot = processes_[hash(u64{device_id} << 20 | process_id, process_bits)];
    return slot.valid && slot.device_id == device_id && slot.id == process_id ? &slot.context : nullptr;
}

void Ioatc::insert_process(u32 device_id, u32 process_id, const ProcessContext& context) {
    processes_[hash(u64{device_id} << 20 | process_id, process_bits)] = {device_id, process_id, true,
                                                                         context};
}

void Ioatc::invalidate_device(std::optional<u32> device_id) {
    for (std::size_t slot = 0; slot < devices_.size(); ++slot) {
        if (device_id && devices_[slot].id != *device_id) continue;
        devices_[slot].valid = false;
        device_spaces_[slot].store(0, std::memory_order_release);
    }
    for (Process& process : processes_) {
        if (!device_id || process.device_id == *device_id) process.valid = false;
    }
}

void Ioatc::invalidate_process(u32 device_id, u32 process_id) {
    Process& slot = processes_[hash(u64{device_id} << 20 | process_id, process_bits)];
    if (slot.device_id == device_id && slot.id == process_id) slot.valid = false;
}

void Ioatc::forget_spaces() {
    for (auto& space : device_spaces_) space.store(0, std::memory_order_release);
}

void Ioatc::clear() {
    invalidate_device(std::nullopt);
    invalidate_if([](const Translation&) { return true; });
}

}  // namespace wirt::devices::hardware::iommu
