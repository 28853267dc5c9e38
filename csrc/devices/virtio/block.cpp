#include "devices/virtio/block.h"

#include <cerrno>

#include "base/bits.h"
#include "base/error.h"
#include "devices/virtio/iovecs.h"

namespace wirt::devices::virtio {

namespace {

// 5.2.3
constexpr u64 feature_size_max = u64{1} << 1;
constexpr u64 feature_seg_max = u64{1} << 2;
constexpr u64 feature_ro = u64{1} << 5;
constexpr u64 feature_blk_size = u64{1} << 6;
constexpr u64 feature_flush = u64{1} << 9;
constexpr u64 feature_topology = u64{1} << 10;
constexpr u64 feature_config_wce = u64{1} << 11;
constexpr u64 feature_mq = u64{1} << 12;
constexpr u64 feature_discard = u64{1} << 13;
constexpr u64 feature_write_zeroes = u64{1} << 14;

// struct virtio_blk_config (5.2.4)
constexpr u64 config_capacity = 0;
constexpr u64 config_size_max = 8;
constexpr u64 config_seg_max = 12;
constexpr u64 config_blk_size = 20;
constexpr u64 config_physical_block_exp = 24;
constexpr u64 config_min_io_size = 26;
constexpr u64 config_opt_io_size = 28;
constexpr u64 config_writeback = 32;
constexpr u64 config_num_queues = 34;
constexpr u64 config_max_discard_sectors = 36;
constexpr u64 config_max_discard_seg = 40;
constexpr u64 config_discard_sector_alignment = 44;
constexpr u64 config_max_write_zeroes_sectors = 48;
constexpr u64 config_max_write_zeroes_seg = 52;
constexpr u64 config_write_zeroes_may_unmap = 56;

// Request types and status (5.2.6).
enum : u32 { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
constexpr u8 S_OK = 0;
constexpr u8 S_IOERR = 1;
constexpr u8 S_UNSUPP = 2;

struct RequestHeader {
    u32 type;
    u32 reserved;
    u64 sector;
};

struct Segment {
    u64 sector;
    u32 num_sectors;
    u32 flags;
};
constexpr u32 segment_unmap = 1;

constexpr u64 sector_size = 512;
constexpr u64 id_bytes = 20;
constexpr u32 max_segment_bytes = 4 * MiB;
constexpr u32 max_deallocate_sectors = 1u << 22;  // 2 GiB
constexpr unsigned max_deallocate_segments = 64;

u8 status_of(int error) {
    if (error == 0) return S_OK;
    return error == EOPNOTSUPP || error == ENOTSUP ? S_UNSUPP : S_IOERR;
}

}  // namespace

VirtioBlock::VirtioBlock(std::string name, std::shared_ptr<storage::BlockBackend> backend, Executor& executor,
                         Options options)
    : VirtioDevice(std::move(name), executor), backend_(std::move(backend)), options_(std::move(options)) {
    auto require = [](bool condition, const char* what) {
        if (!condition) throw ConfigError(std::string("virtio-blk: ") + what);
    };
    require(options_.queues >= 1 && options_.queues <= 16, "give it 1 to 16 queues");
    require(options_.serial.size() <= id_bytes, "a serial number has at most 20 bytes");
    require(is_power_of_two(options_.block_size) && options_.block_size >= 512 && options_.block_size <= 4096,
            "the block size is 512, 1024, 2048 or 4096 bytes");
    require(is_power_of_two(options_.physical_block) && options_.physical_block >= options_.block_size &&
                options_.physical_block <= 1 * MiB,
            "the physical block size is a power of two from the block size to 1 MiB");
    require(is_power_of_two(options_.queue_size) && options_.queue_size >= 4 && options_.queue_size <= 1024,
            "the queue size is a power of two from 4 to 1024");

    const u32 blocks = options_.physical_block / options_.block_size;
    store_le<u64>(&config_[config_capacity], backend_->size() / sector_size);
    store_le<u32>(&config_[config_size_max], max_segment_bytes);
    // A chain is no longer than the queue, and two of its descriptors are header and status.
    store_le<u32>(&config_[config_seg_max], options_.queue_size - 2u);
    store_le<u32>(&config_[config_blk_size], options_.block_size);
    config_[config_physical_block_exp] = static_cast<u8>(std::countr_zero(blocks));
    store_le<u16>(&config_[config_min_io_size], static_cast<u16>(blocks));
    store_le<u32>(&config_[config_opt_io_size], 0);
    store_le<u16>(&config_[config_num_queues], static_cast<u16>(options_.queues));
    store_le<u32>(&config_[config_max_discard_sectors], max_deallocate_sectors);
    store_le<u32>(&config_[config_max_discard_seg], max_deallocate_segments);
    store_le<u32>(&config_[config_discard_sector_alignment], options_.block_size / sector_size);
    store_le<u32>(&config_[config_max_write_zeroes_sectors], max_deallocate_sectors);
    store_le<u32>(&config_[config_max_write_zeroes_seg], max_deallocate_segments);
    config_[config_write_zeroes_may_unmap] = 1;
    config_[config_writeback] = 1;
}

std::span<const FeatureName> VirtioBlock::feature_names() const {
    static constexpr FeatureName names[] = {
        {feature_size_max, "SIZE_MAX"},         {feature_seg_max, "SEG_MAX"}, {feature_ro, "RO"},
        {feature_blk_size, "BLK_SIZE"},         {feature_flush, "FLUSH"},     {feature_topology, "TOPOLOGY"},
        {feature_config_wce, "CONFIG_WCE"},     {feature_mq, "MQ"},           {feature_discard, "DISCARD"},
        {feature_write_zeroes, "WRITE_ZEROES"},
    };
    return names;
}

u64 VirtioBlock::features() const {
    u64 features = feature_size_max | feature_seg_max | feature_blk_size | feature_flush | feature_topology |
                   feature_config_wce;
    if (options_.queues > 1) features |= feature_mq;
    return features | (backend_->read_only() ? feature_ro : feature_discard | feature_write_zeroes);
}

void VirtioBlock::activate() {
    // 5.2.5.2: CONFIG_WCE without FLUSH starts as write-through.
    if (core().negotiated(feature_config_wce) && !core().negotiated(feature_flush))
        config_[config_writeback] = 0;
    // 5.2.6.2: a driver that can neither flush nor choose finds every completed write on stable storage.
    policy_.write_through = core().negotiated(feature_config_wce) ? config_[config_writeback] == 0
                                                                  : !core().negotiated(feature_flush);
    policy_.discard = core().negotiated(feature_discard);
    policy_.write_zeroes = core().negotiated(feature_write_zeroes);
}

void VirtioBlock::reset() {
    config_[config_writeback] = 1;
    policy_ = {};
}

void VirtioBlock::write_config(u64 offset, std::span<const u8> bytes) {
    // 5.2.5.1: writeback is the one field a driver may write, after it negotiated CONFIG_WCE.
    if (offset != config_writeback || bytes.size() != 1 || !core().negotiated(feature_config_wce)) return;
    config_[config_writeback] = bytes[0] & 1;
    policy_.write_through = !(bytes[0] & 1);
}

void VirtioBlock::process(unsigned queue) {
    std::unique_lock lock(core().mutex());
    Chain chain;
    for (unsigned budget = task_budget; take(queue, chain); --budget) {
        if (budget == 0) {
            core().unpop(queue, chain);
            schedule(queue);
            return;
        }
        if (chain.writable_bytes == 0) {
            core().unpop(queue, chain);
            core().needs_reset("block request without a status byte (5.2.6)");
            return;
        }
        const Policy policy = policy_;
        lock.unlock();
        const Outcome outcome = execute(chain, policy);
        scatter(chain.writable, chain.writable_bytes - 1, &outcome.status, 1);
        lock.lock();
        // 2.7.8.1: `written` counts from the start of the buffer. The status byte is its last one, so it
        // counts only where everything before it was filled.
        const u64 data = chain.writable_bytes - 1;
        const u64 written = outcome.data_written == data ? data + 1 : outcome.data_written;
        // 2^32 - 1 is the most that the field can say of a chain of 2^32 bytes.
        core().push(queue, chain, static_cast<u32>(std::min<u64>(written, 0xffffffff)), chain.writable_bytes);
        core().notify_driver(queue);
    }
}

VirtioBlock::Outcome VirtioBlock::execute(const Chain& chain, Policy policy) {
    DeviceCounters::add(count().operations);
    RequestHeader header;
    if (gather(chain.readable, 0, &header, sizeof header) < sizeof header) return {S_IOERR, 0};
    switch (header.type) {
        case T_IN:
            return read(chain, header.sector);
        case T_OUT:
            return write(chain, header.sector, policy);
        // 5.2.6.2: what was completed before is durable when the flush is.
        case T_FLUSH:
            return {status_of(backend_->flush()), 0};
        case T_GET_ID:
            return get_id(chain);
        case T_DISCARD:
        case T_WRITE_ZEROES:
            return deallocate(chain, header.type, policy);
        default:
            return {S_UNSUPP, 0};
    }
}

// Both factors are bounded before they are multiplied, so that no sum wraps.
bool VirtioBlock::inside(u64 sector, u64 bytes) const {
    const u64 capacity = backend_->size();
    return sector <= capacity / sector_size && bytes <= capacity - sector * sector_size;
}

VirtioBlock::Outcome VirtioBlock::read(const Chain& chain, u64 sector) {
    const u64 length = chain.writable_bytes - 1;
    // 5.2.6.1: data is a multiple of 512 bytes; 5.2.5.1: and inside the capacity.
    if (length % sector_size != 0 || !inside(sector, length)) return {S_IOERR, 0};
    slice(chain.writable, 0, length, spans_);
    const int error = length == 0 ? 0 : backend_->read(sector * sector_size, spans_);
    if (error != 0) return {status_of(error), 0};
    DeviceCounters::add(count().bytes_moved, length);
    return {S_OK, length};
}

VirtioBlock::Outcome VirtioBlock::write(const Chain& chain, u64 sector, Policy policy) {
    const u64 length = chain.readable_bytes - sizeof(RequestHeader);
    // 5.2.6.2: IOERR for a write where RO is offered, and no data is written.
    if (backend_->read_only() || length % sector_size != 0 || !inside(sector, length)) return {S_IOERR, 0};
    slice(chain.readable, sizeof(RequestHeader), length, spans_);
    int error = length == 0 ? 0 : backend_->write(sector * sector_size, spans_);
    if (error == 0 && policy.write_through) error = backend_->flush();
    if (error != 0) return {status_of(error), 0};
    DeviceCounters::add(count().bytes_moved, length);
    return {S_OK, 0};
}

VirtioBlock::Outcome VirtioBlock::get_id(const Chain& chain) {
    // 5.2.6: padded with NUL to 20 bytes, without a terminator when it is that long.
    std::array<u8, id_bytes> id{};
    std::copy(options_.serial.begin(), options_.serial.end(), id.begin());
    const u64 length = std::min<u64>(id_bytes, chain.writable_bytes - 1);
    return {S_OK, scatter(chain.writable, 0, id.data(), length)};
}

VirtioBlock::Outcome VirtioBlock::deallocate(const Chain& chain, u32 type, Policy policy) {
    if (!(type == T_DISCARD ? policy.discard : policy.write_zeroes)) return {S_UNSUPP, 0};
    const u64 length = chain.readable_bytes - sizeof(RequestHeader);
    // 5.2.6.1: a multiple of the segment's size, and at most max_*_seg segments.
    if (length == 0 || length % sizeof(Segment) != 0 || length / sizeof(Segment) > max_deallocate_segments) {
        return {S_IOERR, 0};
    }
    std::array<Segment, max_deallocate_segments> segments;
    gather(chain.readable, sizeof(RequestHeader), segments.data(), length);
    const std::span wanted(segments.data(), length / sizeof(Segment));
    for (const Segment& segment : wanted) {
        // 5.2.6.2: UNSUPP for unknown flags, and for unmap with a discard.
        if (segment.flags & ~(type == T_DISCARD ? 0 : segment_unmap)) return {S_UNSUPP, 0};
        if (segment.num_sectors > max_deallocate_sectors ||
            !inside(segment.sector, segment.num_sectors * sector_size)) {
            return {S_IOERR, 0};
        }
    }
    int error = 0;
    for (const Segment& segment : wanted) {
        const u64 offset = segment.sector * sector_size;
        const u64 bytes = segment.num_sectors * sector_size;
        if (bytes == 0) continue;
        error = type == T_DISCARD ? backend_->discard(offset, bytes)
                                  : backend_->write_zeroes(offset, bytes, segment.flags & segment_unmap);
        if (error != 0) break;
    }
    if (error == 0 && policy.write_through) error = backend_->flush();
    return {status_of(error), 0};
}

void VirtioBlock::visit_state(StateVisitor& v) {
    v.section("virtio-blk", 1);
    v.field("writeback", config_[config_writeback]);
    v.field("write_through", policy_.write_through);
    v.field("discard", policy_.discard);
    v.field("write_zeroes", policy_.write_zeroes);
    if (!v.loading()) return;
    config_[config_writeback] &= 1;
    policy_.discard = policy_.discard && core().negotiated(feature_discard);
    policy_.write_zeroes = policy_.write_zeroes && core().negotiated(feature_write_zeroes);
}

}  // namespace wirt::devices::virtio
