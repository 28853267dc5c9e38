// Scalar cryptography (The RISC-V Instruction Set Manual, Volume I, chapters "Scalar Cryptography" and "Bit
// Manipulation"): what Zbkb, Zbkx, Zbc, Zbkc, Zknd, Zkne and Zknh compute.
//
// Every operand is legal. Nothing here branches on one, nor uses one as an index into memory, so that what
// Zkt promises of the timing of these instructions holds.
#pragma once

#include <bit>

#include "base/types.h"

namespace wirt::riscv::crypto {

// BREV8: the bits of each byte in reverse.
constexpr u64 reverse_in_bytes(u64 value) {
    value = (value & 0x5555555555555555) << 1 | ((value >> 1) & 0x5555555555555555);
    value = (value & 0x3333333333333333) << 2 | ((value >> 2) & 0x3333333333333333);
    return (value & 0x0f0f0f0f0f0f0f0f) << 4 | ((value >> 4) & 0x0f0f0f0f0f0f0f0f);
}

// XPERM4, XPERM8: each element of `indices` becomes the element of `table` that it names, or zero.
template <unsigned width>
constexpr u64 crossbar(u64 table, u64 indices) {
    constexpr u64 mask = (u64{1} << width) - 1;
    u64 result = 0;
    for (unsigned at = 0; at < 64; at += width) {
        const u64 place = ((indices >> at) & mask) * width;
        const u64 there = -u64{place < 64};
        result |= ((table >> (place & 63)) & mask & there) << at;
    }
    return result;
}

struct Product {
    u64 low, high;
};
Product carryless_product(u64 a, u64 b);
// CLMULR: bits 126 to 63.
inline u64 carryless_product_reversed(u64 a, u64 b) {
    const Product product = carryless_product(a, b);
    return product.high << 1 | product.low >> 63;
}

// FIPS 180-4, 4.1.2 and 4.1.3.
constexpr u32 sha256_sum0(u32 x) {
    return std::rotr(x, 2) ^ std::rotr(x, 13) ^ std::rotr(x, 22);
}
constexpr u32 sha256_sum1(u32 x) {
    return std::rotr(x, 6) ^ std::rotr(x, 11) ^ std::rotr(x, 25);
}
constexpr u32 sha256_sig0(u32 x) {
    return std::rotr(x, 7) ^ std::rotr(x, 18) ^ (x >> 3);
}
constexpr u32 sha256_sig1(u32 x) {
    return std::rotr(x, 17) ^ std::rotr(x, 19) ^ (x >> 10);
}
constexpr u64 sha512_sum0(u64 x) {
    return std::rotr(x, 28) ^ std::rotr(x, 34) ^ std::rotr(x, 39);
}
constexpr u64 sha512_sum1(u64 x) {
    return std::rotr(x, 14) ^ std::rotr(x, 18) ^ std::rotr(x, 41);
}
constexpr u64 sha512_sig0(u64 x) {
    return std::rotr(x, 1) ^ std::rotr(x, 8) ^ (x >> 7);
}
constexpr u64 sha512_sig1(u64 x) {
    return std::rotr(x, 19) ^ std::rotr(x, 61) ^ (x >> 6);
}

// AES (FIPS 197). A state is `first`, its columns 0 and 1, and `second`, its columns 2 and 3; the result is
// the first half of the next one. A middle round mixes the columns, the last one does not.
u64 aes_encrypt_middle(u64 first, u64 second);
u64 aes_encrypt_last(u64 first, u64 second);
u64 aes_decrypt_middle(u64 first, u64 second);
u64 aes_decrypt_last(u64 first, u64 second);
u64 aes_inverse_mix_columns(u64 columns);
// `round` is 0 to 10; 10 neither rotates nor adds a round constant.
u64 aes_key_schedule_1(u64 words, unsigned round);
constexpr u64 aes_key_schedule_2(u64 a, u64 b) {
    const u32 low = static_cast<u32>(a >> 32) ^ static_cast<u32>(b);
    return u64{low ^ static_cast<u32>(b >> 32)} << 32 | low;
}

// The same without the host's instructions, for hosts that have none; tests compare both.
namespace plain {
Product carryless_product(u64 a, u64 b);
u64 aes_encrypt_middle(u64 first, u64 second);
u64 aes_encrypt_last(u64 first, u64 second);
u64 aes_decrypt_middle(u64 first, u64 second);
u64 aes_decrypt_last(u64 first, u64 second);
u64 aes_inverse_mix_columns(u64 columns);
}  // namespace plain

}  // namespace wirt::riscv::crypto
