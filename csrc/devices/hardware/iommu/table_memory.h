// How the IOMMU reaches the tables in memory: physical addresses, RAM only, either byte order.
//
// Implements: RISC-V IOMMU Architecture Specification 1.0, 3.10 (endianness of in-memory data structures); an
// address outside RAM or wider than capabilities.PAS is what the specification calls a violated PMA check.
//
// Untrusted input: every address.
#pragma once

#include <array>
#include <optional>

#include "devices/hardware/iommu/structures.h"
#include "memory/dma.h"

namespace wirt::devices::hardware::iommu {

constexpr u64 in_order(u64 value, unsigned bytes, bool big_endian) {
    if (!big_endian) return value;
    return bytes == 4 ? __builtin_bswap32(static_cast<u32>(value)) : __builtin_bswap64(value);
}

class TableMemory {
  public:
    TableMemory(memory::GuestRam& ram, unsigned pas) : ram_(ram), limit_(u64{1} << pas) {}

    // One entry of 4 or 8 bytes, in one access.
    std::optional<u64> load(u64 address, unsigned bytes, bool big_endian) const {
        if (address >= limit_) return std::nullopt;
        std::optional<u64> raw;
        if (bytes == 4) {
            raw = ram_.load<u32>(address);
        } else {
            raw = ram_.load<u64>(address);
        }
        return raw ? std::optional(in_order(*raw, bytes, big_endian)) : std::nullopt;
    }
    bool store(u64 address, unsigned bytes, bool big_endian, u64 value) const {
        if (address >= limit_) return false;
        const u64 raw = in_order(value, bytes, big_endian);
        return bytes == 4 ? ram_.store<u32>(address, static_cast<u32>(raw)) : ram_.store<u64>(address, raw);
    }
    template <std::size_t N>
    bool load(u64 address, bool big_endian, std::array<u64, N>& words, std::size_t count = N) const {
        for (std::size_t i = 0; i < count; ++i) {
            const auto word = load(address + 8 * i, 8, big_endian);
            if (!word) return false;
            words[i] = *word;
        }
        return true;
    }
    // Replaces an entry that still is `expected`; false when it is not, nullopt when it cannot be written.
    std::optional<bool> replace(u64 address, unsigned bytes, bool big_endian, u64 expected,
                                u64 desired) const {
        if (address >= limit_) return std::nullopt;
        expected = in_order(expected, bytes, big_endian);
        desired = in_order(desired, bytes, big_endian);
        return bytes == 4 ? ram_.compare_exchange<u32>(address, static_cast<u32>(expected),
                                                       static_cast<u32>(desired))
                          : ram_.compare_exchange<u64>(address, expected, desired);
    }
    // The value before.
    std::optional<u64> fetch_or(u64 address, bool big_endian, u64 mask) const {
        if (address >= limit_) return std::nullopt;
        const auto raw = ram_.fetch_or<u64>(address, in_order(mask, 8, big_endian));
        return raw ? std::optional(in_order(*raw, 8, big_endian)) : std::nullopt;
    }

  private:
    const memory::DmaView ram_;
    const u64 limit_;
};

}  // namespace wirt::devices::hardware::iommu
