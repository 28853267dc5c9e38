#include "devices/virtio/descriptors.h"

namespace wirt::devices::virtio {

namespace {
// 2.7.5: a chain is at most 2^32 bytes in total. 2.8 sets no limit of its own; this one bounds the work.
constexpr u64 chain_limit = u64{1} << 32;
}  // namespace

bool area_usable(const memory::DmaView& dma, u64 address, u64 length, u64 alignment,
                 memory::DmaDirection direction) {
    std::vector<iovec> found;
    return (address & (alignment - 1)) == 0 && dma.map(address, length, direction, found);
}

std::optional<RawDescriptor> load_descriptor(const memory::DmaView& dma, u64 at) {
    u64 halves[2];
    if ((at & 7) == 0) {
        const auto second = dma.load<u64>(at + 8);
        const auto first = dma.load<u64>(at);
        if (!first || !second) return std::nullopt;
        halves[0] = *first;
        halves[1] = *second;
    } else if (!dma.read(at, halves, sizeof halves)) {
        return std::nullopt;
    }
    return RawDescriptor{halves[0],
                         static_cast<u32>(halves[1]),
                         {static_cast<u16>(halves[1] >> 32), static_cast<u16>(halves[1] >> 48)}};
}

ChainBuilder::ChainBuilder(const memory::DmaView& dma, u16 queue_size, Chain& out)
    : dma_(dma), queue_size_(queue_size), budget_(queue_size), out_(out) {
    out.readable.clear();
    out.writable.clear();
    out.readable_bytes = out.writable_bytes = 0;
}

bool ChainBuilder::add(u64 address, u32 length, bool writable) {
    if (budget_-- == 0) return fail("descriptor chain longer than the queue, or a cycle (2.7.5.3.1, 2.8.17)");
    // 2.7.4.2, 2.8.17: device-writable elements come after device-readable ones.
    if (!writable && out_.writable_bytes > 0)
        return fail("readable descriptor after a writable one (2.7.4.2, 2.8.17)");
    // Both sums stay below 2^33: each is checked before the next descriptor, of less than 2^32, is added.
    (writable ? out_.writable_bytes : out_.readable_bytes) += length;
    if (out_.readable_bytes + out_.writable_bytes > chain_limit) {
        return fail("descriptor chain over 4 GiB in total (2.7.5)");
    }
    if (length == 0) return true;
    const auto direction = writable ? memory::DmaDirection::from_device : memory::DmaDirection::to_device;
    if (!dma_.map(address, length, direction, writable ? out_.writable : out_.readable)) {
        return fail("buffer outside of RAM (2.7.5, 2.8.4)");
    }
    return true;
}

bool ChainBuilder::open_table(const RawDescriptor& descriptor, bool negotiated, DescriptorTable& table) {
    if (!negotiated) return fail("indirect descriptor that was not negotiated (2.7.5.3.1, 2.8.19)");
    if (descriptor.length == 0 || descriptor.length % descriptor_size != 0) {
        return fail("indirect table length is no multiple of 16 (2.7.5.3, 2.8.7)");
    }
    if (descriptor.length / descriptor_size > queue_size_) {
        return fail("indirect table longer than the queue (2.7.5.3.1, 2.8.19)");
    }
    if (descriptor.address + descriptor.length < descriptor.address) {
        return fail("indirect table outside of RAM (2.7.5.3, 2.8.7)");
    }
    table = {descriptor.address, static_cast<u32>(descriptor.length / descriptor_size)};
    return true;
}

}  // namespace wirt::devices::virtio
