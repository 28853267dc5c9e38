// Small bit helpers that the specifications' field notation maps onto.
#pragma once

#include <bit>
#include <cstring>
#include <type_traits>

#include "base/types.h"

namespace wirt {

static_assert(std::endian::native == std::endian::little,
              "guest memory is little-endian and is accessed through host loads and stores");

// Bits [low, low + width) of `value`, right-aligned.
template <typename T>
constexpr T bits(T value, unsigned low, unsigned width) {
    using U = std::make_unsigned_t<T>;
    const U mask = width >= sizeof(T) * 8 ? ~U{0} : static_cast<U>((U{1} << width) - 1);
    return static_cast<T>((static_cast<U>(value) >> low) & mask);
}

constexpr bool bit(u64 value, unsigned position) {
    return (value >> position) & 1;
}

// Sign-extends the low `width` bits of `value`.
constexpr i64 sign_extend(u64 value, unsigned width) {
    return static_cast<i64>(value << (64 - width)) >> (64 - width);
}

constexpr bool is_power_of_two(u64 value) {
    return value != 0 && (value & (value - 1)) == 0;
}

constexpr u64 align_up(u64 value, u64 alignment) {
    return (value + alignment - 1) & ~(alignment - 1);
}

constexpr u64 align_down(u64 value, u64 alignment) {
    return value & ~(alignment - 1);
}

// True when [start, start + length) lies inside [base, base + size), with no sum that could wrap.
constexpr bool range_inside(u64 start, u64 length, u64 base, u64 size) {
    return start >= base && length <= size && start - base <= size - length;
}

// Unaligned little-endian access to host bytes.
template <typename T>
T load_le(const void* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <typename T>
void store_le(void* to, std::type_identity_t<T> value) {
    std::memcpy(to, &value, sizeof value);
}

}  // namespace wirt
