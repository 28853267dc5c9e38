#include "firmware/steal_time.h"

#include <atomic>

#include "base/bits.h"
#include "base/error.h"

namespace wirt::firmware {

namespace {

// In the shared memory (table "STA Shared Memory Structure").
constexpr u64 sequence_offset = 0, steal_offset = 8;

template <typename T>
void put(riscv::Hart& hart, u64 address, T value) {
    u8 bytes[sizeof value];
    store_le<T>(bytes, value);
    hart.write_ram(hart.ram_range(address, sizeof value), address, bytes);
    std::atomic_thread_fence(std::memory_order_release);
}

}  // namespace

i64 StealTime::set_memory(riscv::Hart& hart, u64 low, u64 high, u64 flags) {
    if (flags != 0) return invalid_param;
    if (low == none && high == none) {
        stop();
        return success;
    }
    if (low % structure_size != 0) return invalid_param;
    const std::span<u8> range = hart.ram_range(low, structure_size);
    if (high != 0 || range.empty()) return invalid_address;
    const u8 zeroes[structure_size] = {};
    hart.write_ram(range, low, zeroes);
    address_ = low;
    sequence_ = 0;
    nanoseconds_ = 0;
    return success;
}

void StealTime::report(riscv::Hart& hart, u64 stolen) {
    // Its RAM may be gone: pages that another host was to send, and never will.
    if (!reporting() || stolen == 0 || hart.ram_range(address_, structure_size).empty()) return;
    nanoseconds_ += stolen;
    put<u32>(hart, address_ + sequence_offset, ++sequence_);
    put<u64>(hart, address_ + steal_offset, nanoseconds_);
    put<u32>(hart, address_ + sequence_offset, ++sequence_);
}

void StealTime::visit_state(StateVisitor& v, const std::string& prefix) {
    if (v.loading()) *this = {};  // as it was before there was any
    v.field(prefix + "_address", address_);
    v.field(prefix + "_sequence", sequence_);
    v.field(prefix + "_time", nanoseconds_);
    if (v.loading() && ((address_ != none && address_ % structure_size != 0) || sequence_ % 2 != 0))
        throw SnapshotError("the saved state is broken: steal time in a place where there can be none");
}

}  // namespace wirt::firmware
