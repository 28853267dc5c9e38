// A write cache by sectors of 512 bytes, the unit that a disk writes whole or not at all.
//
// Offsets and lengths come checked (BlockBackend). Memory grows with what the guest writes between two
// flushes, at most to the size of the disk: it is meant for tests.

#include "storage/volatile_cache.h"

#include <cerrno>
#include <random>

#include "base/error.h"
#include "storage/spans.h"

namespace wirt::storage {

namespace {

constexpr u64 sector_bytes = 512;

}  // namespace

VolatileCache::VolatileCache(std::shared_ptr<BlockBackend> base) : base_(std::move(base)) {
    if (base_->read_only()) {
        throw StorageError(base_->describe() + ": is read-only, so it has no use for a write cache");
    }
}

VolatileCache::~VolatileCache() {
    std::lock_guard lock(mutex_);
    if (powered_) write_back();
}

u64 VolatileCache::lose_power(u64 seed) {
    std::lock_guard lock(mutex_);
    powered_ = false;
    std::mt19937_64 random(seed);
    u64 lost = 0;
    // Each way of losing is as likely as the other two: all of it, a random half, none.
    const u64 way = random() % 3;
    for (auto& [number, content] : unflushed_) {
        const bool survives = way == 2 || (way == 1 && (random() & 1) != 0);
        const iovec span{content.data(), content.size()};
        if (!survives || base_->write(number * sector_bytes, {&span, 1}) != 0) ++lost;
    }
    unflushed_.clear();
    return lost;
}

int VolatileCache::read(u64 offset, std::span<const iovec> spans) {
    std::lock_guard lock(mutex_);
    if (!powered_) return EIO;
    if (const int error = base_->read(offset, spans)) return error;
    SpanCursor cursor(spans);
    std::vector<iovec> passed;
    for (u64 at = offset, left = total_bytes(spans); left > 0;) {
        const u64 within = at % sector_bytes;
        const u64 length = std::min(sector_bytes - within, left);
        if (const auto found = unflushed_.find(at / sector_bytes); found != unflushed_.end()) {
            cursor.copy_in(found->second.data() + within, length);
        } else {
            passed.clear();
            cursor.take(length, passed);
        }
        at += length;
        left -= length;
    }
    return 0;
}

int VolatileCache::write(u64 offset, std::span<const iovec> spans) {
    std::lock_guard lock(mutex_);
    if (!powered_) return EIO;
    SpanCursor cursor(spans);
    for (u64 at = offset, left = total_bytes(spans); left > 0;) {
        const u64 within = at % sector_bytes;
        const u64 length = std::min(sector_bytes - within, left);
        Sector* sector = sector_to_write(at / sector_bytes, length == sector_bytes);
        if (sector == nullptr) return EIO;
        cursor.copy_out(sector->data() + within, length);
        at += length;
        left -= length;
    }
    return 0;
}

int VolatileCache::write_zeroes(u64 offset, u64 length, bool) {
    std::lock_guard lock(mutex_);
    if (!powered_) return EIO;
    for (u64 at = offset, left = length; left > 0;) {
        const u64 within = at % sector_bytes;
        const u64 part = std::min(sector_bytes - within, left);
        Sector* sector = sector_to_write(at / sector_bytes, part == sector_bytes);
        if (sector == nullptr) return EIO;
        std::fill_n(sector->begin() + static_cast<std::ptrdiff_t>(within), part, u8{0});
        at += part;
        left -= part;
    }
    return 0;
}

int VolatileCache::flush() {
    std::lock_guard lock(mutex_);
    if (!powered_) return EIO;
    return write_back();
}

// The cached sector, made and (unless all of it is about to be overwritten) filled from below. Null when
// the disk below cannot be read.
VolatileCache::Sector* VolatileCache::sector_to_write(u64 number, bool whole) {
    const auto [entry, is_new] = unflushed_.try_emplace(number, sector_bytes);
    if (is_new && !whole) {
        const iovec span{entry->second.data(), sector_bytes};
        if (base_->read(number * sector_bytes, {&span, 1}) != 0) {
            unflushed_.erase(entry);
            return nullptr;
        }
    }
    return &entry->second;
}

int VolatileCache::write_back() {
    for (auto& [number, content] : unflushed_) {
        const iovec span{content.data(), content.size()};
        if (const int error = base_->write(number * sector_bytes, {&span, 1})) return error;
    }
    unflushed_.clear();
    return base_->flush();
}

}  // namespace wirt::storage
