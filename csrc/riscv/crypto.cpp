// AES and carry-less products: by the host's instructions where it has them, else computed on eight bytes at
// once, without tables.
#include "riscv/crypto.h"

#include "base/bits.h"

namespace wirt::riscv::crypto {

namespace {

constexpr u64 each = 0x0101010101010101;

// Eight products in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197, 4.2).
constexpr u64 doubled(u64 a) {
    return (a & (0x7f * each)) << 1 ^ ((a >> 7) & each) * 0x1b;
}
constexpr u64 product(u64 a, u64 b) {
    u64 result = 0;
    for (unsigned i = 0; i < 8; ++i) {
        result ^= a & ((b >> i) & each) * 0xff;
        a = doubled(a);
    }
    return result;
}

// x^254: the multiplicative inverse, and zero of zero.
constexpr u64 inverse(u64 x) {
    const u64 x2 = product(x, x), x3 = product(x2, x), x6 = product(x3, x3), x12 = product(x6, x6);
    u64 y = product(x12, x3);  // x^15
    for (unsigned i = 0; i < 4; ++i) y = product(y, y);
    return product(product(y, x12), x2);
}

constexpr u64 rotated(u64 x, unsigned by) {
    return (x << by & ((0xff << by & 0xff) * each)) | (x >> (8 - by) & ((0xffu >> (8 - by)) * each));
}

constexpr u64 substitute(u64 x) {
    const u64 y = inverse(x);
    return y ^ rotated(y, 1) ^ rotated(y, 2) ^ rotated(y, 3) ^ rotated(y, 4) ^ 0x63 * each;
}
constexpr u64 substitute_back(u64 x) {
    return inverse(rotated(x, 1) ^ rotated(x, 3) ^ rotated(x, 6) ^ 0x05 * each);
}
static_assert(substitute(0x5301) == 0x6363636363630000 + 0xed7c &&
              substitute_back(substitute(0x5301)) == 0x5301);

// The first two columns once the rows are shifted: row r comes from r columns ahead, or behind.
constexpr u64 shifted(u64 first, u64 second, bool back) {
    u64 result = 0;
    for (unsigned column = 0; column < 2; ++column) {
        for (unsigned row = 0; row < 4; ++row) {
            const unsigned from = (column + (back ? 4 - row : row)) % 4;
            const u64 half = from < 2 ? first : second;
            result |= (half >> (32 * (from % 2) + 8 * row) & 0xff) << (32 * column + 8 * row);
        }
    }
    return result;
}

// The bytes of each column moved up by so many rows.
constexpr u64 rows_up(u64 columns, unsigned rows) {
    return u64{std::rotr(static_cast<u32>(columns >> 32), int(8 * rows))} << 32 |
           std::rotr(static_cast<u32>(columns), int(8 * rows));
}

constexpr u64 mix(u64 columns) {
    const u64 next = rows_up(columns, 1);
    return doubled(columns ^ next) ^ next ^ rows_up(columns, 2) ^ rows_up(columns, 3);
}
constexpr u64 mix_back(u64 columns) {
    // The inverse is the mixing after one more product, by 4 x^2 + 5 (FIPS 197, 5.3.3).
    const u64 four = doubled(doubled(columns ^ rows_up(columns, 2)));
    return mix(columns ^ four);
}

#if defined(__x86_64__)
const bool host_has_aes = (__builtin_cpu_init(), __builtin_cpu_supports("aes") != 0);
const bool host_has_product = (__builtin_cpu_init(), __builtin_cpu_supports("pclmul") != 0);

using Vector = long long __attribute__((vector_size(16)));

// In assembly because a function with a target attribute cannot be inlined into code built for the baseline.
#define WIRT_AES_ROUND(name, instruction)                                               \
    u64 name(u64 first, u64 second) {                                                   \
        Vector state = {static_cast<long long>(first), static_cast<long long>(second)}; \
        const Vector key = {};                                                          \
        asm(instruction " %1, %0" : "+x"(state) : "x"(key));                            \
        return static_cast<u64>(state[0]);                                              \
    }
WIRT_AES_ROUND(host_encrypt_middle, "aesenc")
WIRT_AES_ROUND(host_encrypt_last, "aesenclast")
WIRT_AES_ROUND(host_decrypt_middle, "aesdec")
WIRT_AES_ROUND(host_decrypt_last, "aesdeclast")
#undef WIRT_AES_ROUND

u64 host_inverse_mix(u64 columns) {
    Vector state = {static_cast<long long>(columns), 0};
    asm("aesimc %0, %0" : "+x"(state));
    return static_cast<u64>(state[0]);
}

Product host_product(u64 a, u64 b) {
    Vector x = {static_cast<long long>(a), 0};
    const Vector y = {static_cast<long long>(b), 0};
    asm("pclmulqdq $0, %1, %0" : "+x"(x) : "x"(y));
    return {static_cast<u64>(x[0]), static_cast<u64>(x[1])};
}
#else
constexpr bool host_has_aes = false, host_has_product = false;
u64 host_encrypt_middle(u64 first, u64 second) {
    return plain::aes_encrypt_middle(first, second);
}
u64 host_encrypt_last(u64 first, u64 second) {
    return plain::aes_encrypt_last(first, second);
}
u64 host_decrypt_middle(u64 first, u64 second) {
    return plain::aes_decrypt_middle(first, second);
}
u64 host_decrypt_last(u64 first, u64 second) {
    return plain::aes_decrypt_last(first, second);
}
u64 host_inverse_mix(u64 columns) {
    return plain::aes_inverse_mix_columns(columns);
}
Product host_product(u64 a, u64 b) {
    return plain::carryless_product(a, b);
}
#endif

}  // namespace

namespace plain {

Product carryless_product(u64 a, u64 b) {
    Product sum{0, 0};
    for (unsigned i = 0; i < 64; ++i) {
        const u64 mask = -((b >> i) & 1);
        sum.low ^= a << i & mask;
        sum.high ^= (a >> 1) >> (63 - i) & mask;
    }
    return sum;
}

u64 aes_encrypt_middle(u64 first, u64 second) {
    return mix(substitute(shifted(first, second, false)));
}
u64 aes_encrypt_last(u64 first, u64 second) {
    return substitute(shifted(first, second, false));
}
u64 aes_decrypt_middle(u64 first, u64 second) {
    return mix_back(substitute_back(shifted(first, second, true)));
}
u64 aes_decrypt_last(u64 first, u64 second) {
    return substitute_back(shifted(first, second, true));
}
u64 aes_inverse_mix_columns(u64 columns) {
    return mix_back(columns);
}

}  // namespace plain

Product carryless_product(u64 a, u64 b) {
    return host_has_product ? host_product(a, b) : plain::carryless_product(a, b);
}
u64 aes_encrypt_middle(u64 first, u64 second) {
    return host_has_aes ? host_encrypt_middle(first, second) : plain::aes_encrypt_middle(first, second);
}
u64 aes_encrypt_last(u64 first, u64 second) {
    return host_has_aes ? host_encrypt_last(first, second) : plain::aes_encrypt_last(first, second);
}
u64 aes_decrypt_middle(u64 first, u64 second) {
    return host_has_aes ? host_decrypt_middle(first, second) : plain::aes_decrypt_middle(first, second);
}
u64 aes_decrypt_last(u64 first, u64 second) {
    return host_has_aes ? host_decrypt_last(first, second) : plain::aes_decrypt_last(first, second);
}
u64 aes_inverse_mix_columns(u64 columns) {
    return host_has_aes ? host_inverse_mix(columns) : plain::aes_inverse_mix_columns(columns);
}

u64 aes_key_schedule_1(u64 words, unsigned round) {
    constexpr unsigned last_round = 10;
    u32 word = static_cast<u32>(words >> 32);
    if (round != last_round) word = std::rotr(word, 8);
    // Where all columns are alike, shifting rows changes nothing: the last round substitutes.
    const u64 columns = u64{word} << 32 | word;
    word = static_cast<u32>(aes_encrypt_last(columns, columns));
    if (round != last_round) {
        u64 constant = 1;
        for (unsigned i = 0; i < round; ++i) constant = doubled(constant);
        word ^= static_cast<u32>(constant);
    }
    return u64{word} << 32 | word;
}

}  // namespace wirt::riscv::crypto
