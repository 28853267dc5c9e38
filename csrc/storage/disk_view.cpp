// Offsets and lengths come checked (BlockBackend). What disk_view.h says of the protocol is not said again.

#include "storage/disk_view.h"

#include <bitset>
#include <cerrno>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "base/bits.h"
#include "storage/spans.h"

namespace wirt::storage {

namespace {

constexpr u64 cluster_bytes = History::cluster_bytes;

u64 clusters_end(u64 offset, u64 length) {
    return (offset + length - 1) / cluster_bytes + 1;
}

}  // namespace

// The first copy at or after cluster `first` that shows what was there at `moment`.
History::Copies::iterator History::find_copy(Shard& shard, u64 first, u64 moment) {
    auto found = shard.copies.lower_bound({first, moment});
    while (found != shard.copies.end() && found->first.last < moment) {
        found = shard.copies.lower_bound({found->first.cluster, moment});
    }
    return found;
}

std::shared_ptr<DiskView> History::view() {
    std::lock_guard lock(moments_mutex_);
    const u64 newest = newest_.load();
    bool changed = newest == 0;
    // With no copy made for the newest moment nothing has changed since.
    for (Shard& shard : shards_) {
        std::lock_guard guard(shard.mutex);
        changed = changed || shard.clusters.contains(newest);
    }
    const u64 number = changed ? last_number_ + 1 : newest;
    Moment& moment = moments_[number];
    moment.number = number;
    std::shared_ptr<DiskView> view;
    try {
        view = std::make_shared<DiskView>(shared_from_this(), moment);
    } catch (const std::bad_alloc&) {
        if (moment.views == 0) moments_.erase(number);
        throw;
    }
    ++moment.views;
    last_number_ = std::max(last_number_, number);
    newest_.store(number);
    return view;
}

void History::preserve(u64 offset, u64 length) noexcept {
    if (length == 0) return;
    const u64 end = clusters_end(offset, length);
    for (u64 first = offset / cluster_bytes; first < end && watched();) {
        const u64 stop = std::min(end, align_down(first, group_clusters) + group_clusters);
        try {
            preserve_group(first, stop);
        } catch (const std::bad_alloc&) {
            give_up(first, stop, ENOMEM);
        }
        first = stop;
    }
}

void History::preserve_group(u64 first, u64 end) {
    Shard& shard = shard_of(first);
    std::array<Copy, group_clusters> copies;
    bool complete = true;
    {
        std::lock_guard lock(shard.mutex);
        const u64 newest = newest_.load();
        for (u64 cluster = first; cluster < end; ++cluster) {
            const auto found = shard.copies.lower_bound({cluster, newest});
            if (found != shard.copies.end() && found->first.cluster == cluster) continue;
            copies[cluster - first] = std::make_unique_for_overwrite<Cluster>();
            complete = false;
        }
    }
    if (complete) return;
    if (const int error = read_absent(first, copies)) {
        give_up(first, end, error);
        return;
    }
    std::bitset<group_clusters> wanted;
    for (u64 cluster = first; cluster < end; ++cluster) {
        Copy& copy = copies[cluster - first];
        if (!copy) continue;
        wanted.set(cluster - first);
        const u64 length = std::min(cluster_bytes, base_->size() - cluster * cluster_bytes);
        if (is_zero(copy->data(), length)) copy.reset();
    }
    std::lock_guard lock(shard.mutex);
    // Views may have gone meanwhile: then a copy serves the newest that is left. Nobody can add a view.
    const u64 newest = newest_.load();
    if (newest == 0) return;
    for (u64 cluster = first; cluster < end; ++cluster) {
        if (!wanted[cluster - first]) continue;
        const auto place = shard.copies.lower_bound({cluster, newest});
        if (place != shard.copies.end() && place->first.cluster == cluster) continue;
        shard.clusters[newest].push_front(cluster);
        const bool counts = copies[cluster - first] != nullptr;
        shard.copies.emplace_hint(place, Key{cluster, newest}, std::move(copies[cluster - first]));
        if (counts) copies_.fetch_add(1, std::memory_order_relaxed);
    }
}

// Fills the clusters from `first` on for which there is room.
int History::read_absent(u64 first, const std::array<Copy, group_clusters>& room) {
    std::vector<iovec> spans;
    for (u64 index = 0; index < room.size();) {
        if (!room[index]) {
            ++index;
            continue;
        }
        const u64 offset = (first + index) * cluster_bytes;
        u64 left = base_->size() - offset;
        for (spans.clear(); index < room.size() && room[index]; ++index) {
            const u64 length = std::min(left, cluster_bytes);
            spans.push_back({room[index]->data(), static_cast<std::size_t>(length)});
            left -= length;
        }
        if (const int error = base_->read(offset, spans)) return error;
    }
    return 0;
}

// Breaks the views that need a copy of these clusters and have none.
void History::give_up(u64 first, u64 end, int error) noexcept {
    u64 served = std::numeric_limits<u64>::max();  // moments up to it have all copies
    {
        Shard& shard = shard_of(first);
        std::lock_guard lock(shard.mutex);
        for (u64 cluster = first; cluster < end; ++cluster) {
            const auto next = shard.copies.lower_bound({cluster + 1, 0});
            const bool found = next != shard.copies.begin() && std::prev(next)->first.cluster == cluster;
            served = std::min(served, found ? std::prev(next)->first.last : 0);
        }
    }
    std::lock_guard lock(moments_mutex_);
    for (auto at = moments_.rbegin(); at != moments_.rend() && at->first > served; ++at) {
        if (at->second.broken.load() != 0) continue;
        at->second.broken.store(error);
        forget(at->first);
    }
}

int History::read(const Moment& moment, u64 offset, std::span<const iovec> spans) {
    const u64 first = offset / cluster_bytes, end = clusters_end(offset, total_bytes(spans));
    Shard& shard = shard_of(first);
    std::bitset<group_clusters> copied;
    const auto for_copies = [&](auto use) {
        std::lock_guard lock(shard.mutex);
        for (auto at = find_copy(shard, first, moment.number);
             at != shard.copies.end() && at->first.cluster < end;
             at = find_copy(shard, at->first.cluster + 1, moment.number)) {
            use(at->first.cluster, at->second);
        }
    };
    for_copies([&](u64 cluster, const Copy&) { copied.set(cluster - first); });

    const u64 limit = offset + total_bytes(spans);
    const auto begin_of = [&](u64 cluster) { return std::clamp(cluster * cluster_bytes, offset, limit); };
    SpanCursor from_base(spans);
    std::vector<iovec> below;
    for (u64 cluster = first; cluster < end;) {
        const u64 start = cluster;
        const bool skipped = copied[cluster - first];
        while (cluster < end && copied[cluster - first] == skipped) ++cluster;
        const u64 length = begin_of(cluster) - begin_of(start);
        if (skipped) {
            from_base.skip(length);
            continue;
        }
        below.clear();
        from_base.take(length, below);
        if (const int error = base_->read(begin_of(start), below)) return error;
    }

    static constexpr Cluster zeroes{};
    SpanCursor cursor(spans);
    u64 at = offset;
    for_copies([&](u64 cluster, const Copy& copy) {
        const u64 start = begin_of(cluster), length = begin_of(cluster + 1) - start;
        cursor.skip(start - at);
        cursor.copy_in((copy ? *copy : zeroes).data() + start % cluster_bytes, length);
        at = start + length;
    });
    return 0;
}

// Copies at or after `from`, and before `limit`, that are not zero: the first run of them, or a part of it.
std::optional<Run> History::next_copied_data(const Moment& moment, u64 from, u64 limit) {
    // By groups, so that zeroes are passed over once, however many the guest has made of them.
    while (from < limit) {
        u64 next = clusters_end(0, limit);
        for (Shard& shard : shards_) {
            std::lock_guard lock(shard.mutex);
            const auto at = find_copy(shard, from / cluster_bytes, moment.number);
            if (at != shard.copies.end()) next = std::min(next, at->first.cluster);
        }
        if (next * cluster_bytes >= limit) break;
        const u64 group_end = align_down(next, group_clusters) + group_clusters;
        Shard& shard = shard_of(next);
        std::lock_guard lock(shard.mutex);
        auto at = find_copy(shard, next, moment.number);
        const auto here = [&] { return at != shard.copies.end() && at->first.cluster < group_end; };
        while (here() && !at->second) at = find_copy(shard, at->first.cluster + 1, moment.number);
        if (here()) {
            const u64 begin = std::max(from, at->first.cluster * cluster_bytes);
            u64 end = at->first.cluster;
            while (here() && at->first.cluster == end && at->second) {
                at = find_copy(shard, ++end, moment.number);
            }
            if (begin >= limit) break;
            return Run{begin, std::min(end * cluster_bytes, base_->size()) - begin};
        }
        from = group_end * cluster_bytes;
    }
    return std::nullopt;
}

void History::release(Moment& moment) noexcept {
    std::lock_guard lock(moments_mutex_);
    if (--moment.views > 0) return;
    const auto at = moments_.find(moment.number);
    const bool whole = at->second.broken.load() == 0;
    at->second.broken.store(ECANCELED);  // forget() looks for those that are left
    if (whole) forget(moment.number);
    moments_.erase(at);
}

// The moment no longer needs its copies. With moments_mutex_ held.
void History::forget(u64 number) noexcept {
    u64 newest = 0, older = 0;
    for (const auto& [other, moment] : moments_) {
        if (moment.broken.load() != 0) continue;
        newest = other;
        if (other < number) older = other;
    }
    // First, so that whoever adds a copy after its shard was seen to does not add it for this moment.
    newest_.store(newest);
    for (Shard& shard : shards_) {
        std::lock_guard lock(shard.mutex);
        // By moving nodes: nothing here may need memory.
        auto node = shard.clusters.extract(number);
        if (!node) continue;
        std::forward_list<u64>& clusters = node.mapped();
        clusters.remove_if([&](u64 cluster) { return !hand_down(shard, cluster, number, older); });
        if (clusters.empty()) continue;
        if (const auto at = shard.clusters.find(older); at != shard.clusters.end()) {
            at->second.splice_after(at->second.before_begin(), clusters);
        } else {
            node.key() = older;
            shard.clusters.insert(std::move(node));
        }
    }
}

// Gives the copy to the next older moment, if that needs it, or frees it.
bool History::hand_down(Shard& shard, u64 cluster, u64 number, u64 older) noexcept {
    const auto at = shard.copies.find({cluster, number});
    if (at == shard.copies.end()) return false;  // memory ran out before it was added
    const bool own = at != shard.copies.begin() && std::prev(at)->first.cluster == cluster &&
                     std::prev(at)->first.last >= older;
    if (older == 0 || own) {
        if (at->second) copies_.fetch_sub(1, std::memory_order_relaxed);
        shard.copies.erase(at);
        return false;
    }
    auto node = shard.copies.extract(at);
    node.key().last = older;
    shard.copies.insert(std::move(node));
    return true;
}

std::optional<std::string> DiskView::broken() const {
    const int error = moment_.broken.load();
    if (error == 0) return std::nullopt;
    return describe() +
           ": what the disk held could not be preserved before it was overwritten: " + std::strerror(error);
}

int DiskView::read(u64 offset, std::span<const iovec> spans) {
    if (moment_.broken.load() != 0) return EIO;
    SpanCursor cursor(spans);
    std::vector<iovec> piece;
    for (u64 left = total_bytes(spans); left > 0;) {
        const u64 length = std::min(left, History::group_bytes - offset % History::group_bytes);
        piece.clear();
        cursor.take(length, piece);
        if (const int error = history_->read(moment_, offset, piece)) return error;
        offset += length;
        left -= length;
    }
    // A view breaks before the change that breaks it begins: what was read until here is what there was.
    return moment_.broken.load() != 0 ? EIO : 0;
}

int DiskView::write(u64, std::span<const iovec>) {
    return EROFS;
}

int DiskView::discard(u64, u64) {
    return EROFS;
}

int DiskView::write_zeroes(u64, u64, bool) {
    return EROFS;
}

std::optional<Run> DiskView::next_data(u64 from) {
    // The base first: what became zero since has been copied by now.
    const std::optional<Run> below = history_->base().next_data(from);
    const std::optional<Run> copied =
        history_->next_copied_data(moment_, from, below ? below->offset : size());
    return copied ? copied : below;
}

}  // namespace wirt::storage
