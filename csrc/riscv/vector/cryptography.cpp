// AES (Zvkned), SHA-2 (Zvknha, Zvknhb) and GHASH (Zvkg): Vector Cryptography 1.0, chapter 3; FIPS 197, FIPS
// 180-4 and NIST SP 800-38D for what they compute.
//
// They work on element groups of four elements: vl is a multiple of four. None of them is masked.
// Their time depends on the data: tables and branches. What Zvkt promises, this host's software cannot keep
// against one who measures the host (docs/limitations.md).
#include <array>
#include <bit>

#include "riscv/vector/op.h"

namespace wirt::riscv::vector {

namespace {

// A group of `bytes` fits the register group (2.3 of that specification).
bool groups_fit(const Op& op, unsigned bytes) {
    const int lmul = op.unit.lmul();
    const unsigned group = lmul >= 0 ? op.unit.vlenb() << lmul : op.unit.vlenb() >> -lmul;
    return bytes <= group && op.unit.vl % 4 == 0;
}

// ---------------------------------------------------------------- AES

using State = std::array<u8, 16>;  // column by column

constexpr u8 times_x(u8 a) {
    return static_cast<u8>(a << 1 ^ (a >> 7) * 0x1b);
}
constexpr u8 multiply(u8 a, u8 b) {
    u8 product = 0;
    for (; b != 0; b >>= 1, a = times_x(a)) {
        if ((b & 1) != 0) product ^= a;
    }
    return product;
}

// FIPS 197, 5.1.1: the inverse in GF(2^8), then an affine map.
constexpr std::array<u8, 256> make_sbox() {
    std::array<u8, 256> box{};
    for (unsigned i = 0; i < 256; ++i) {
        u8 inverse = 1;
        // i^254.
        for (unsigned n = 0; n < 254; ++n) inverse = multiply(inverse, static_cast<u8>(i));
        u8 value = 0x63;
        for (unsigned r = 0; r < 5; ++r) value ^= std::rotl(inverse, static_cast<int>(r));
        box[i] = value;
    }
    return box;
}
const std::array<u8, 256> sbox = make_sbox();

const std::array<u8, 256> inverse_sbox = [] {
    std::array<u8, 256> box{};
    for (unsigned i = 0; i < 256; ++i) box[sbox[i]] = static_cast<u8>(i);
    return box;
}();

State substituted(const State& state, const std::array<u8, 256>& box) {
    State out;
    for (unsigned i = 0; i < 16; ++i) out[i] = box[state[i]];
    return out;
}

// Row r is rotated by r columns.
State rows_shifted(const State& state, bool inverse) {
    State out;
    for (unsigned column = 0; column < 4; ++column) {
        for (unsigned row = 0; row < 4; ++row) {
            const unsigned from = inverse ? column - row : column + row;
            out[4 * column + row] = state[4 * (from & 3) + row];
        }
    }
    return out;
}

State columns_mixed(const State& state, const std::array<u8, 4>& factors) {
    State out;
    for (unsigned column = 0; column < 16; column += 4) {
        for (unsigned row = 0; row < 4; ++row) {
            u8 sum = 0;
            for (unsigned k = 0; k < 4; ++k) sum ^= multiply(state[column + k], factors[(k - row) & 3]);
            out[column + row] = sum;
        }
    }
    return out;
}
constexpr std::array<u8, 4> mix = {2, 3, 1, 1}, inverse_mix = {14, 11, 13, 9};

State added(const State& a, const State& b) {
    State out;
    for (unsigned i = 0; i < 16; ++i) out[i] = a[i] ^ b[i];
    return out;
}

struct AesEncryptFinal {
    static State apply(const State& state, const State& key) {
        return added(rows_shifted(substituted(state, sbox), false), key);
    }
};
struct AesEncryptMiddle {
    static State apply(const State& state, const State& key) {
        return added(columns_mixed(rows_shifted(substituted(state, sbox), false), mix), key);
    }
};
struct AesDecryptFinal {
    static State apply(const State& state, const State& key) {
        return added(substituted(rows_shifted(state, true), inverse_sbox), key);
    }
};
struct AesDecryptMiddle {
    static State apply(const State& state, const State& key) {
        return columns_mixed(AesDecryptFinal::apply(state, key), inverse_mix);
    }
};
struct AesRoundZero {
    static State apply(const State& state, const State& key) { return added(state, key); }
};

template <typename Round, Form form>
Result aes_round(Op& op) {
    // With .vs one group, which fits any register, is the key of all, and vd must not lie over it.
    const bool shaped = form == vs ? op.ready() && Op::aligned(op.vd(), op.unit.lmul()) &&
                                         !Op::overlap(op.vd(), op.unit.lmul(), op.vs2(), 0)
                                   : op.same_width<vx>();
    if (!shaped || op.unit.sew() != 2 || !groups_fit(op, 16)) return Result::illegal;
    State* const d = op.group<State>(op.vd());
    const State* const keys = op.group<State>(op.vs2());
    for (u64 i = 0; i < op.unit.vl / 4; ++i) d[i] = Round::apply(d[i], keys[form == vs ? 0 : i]);
    return Result::done;
}

u32 substituted(u32 word) {
    u32 out = 0;
    for (unsigned i = 0; i < 32; i += 8) out |= u32{sbox[bits(word, i, 8)]} << i;
    return out;
}

constexpr u8 round_constant(unsigned index) {  // from 1
    u8 value = 1;
    for (unsigned i = 1; i < index; ++i) value = times_x(value);
    return value;
}

// The next four words of the key schedule (FIPS 197, 5.2): of AES-128 from vs2 alone, of AES-256 from vs2
// and, four words before it, vd.
template <unsigned kind>
Result aes_key_forward(Op& op) {
    if (!op.same_width<vx>() || op.unit.sew() != 2 || !groups_fit(op, 16)) return Result::illegal;
    constexpr unsigned first = kind == 1 ? 1 : 2, last = kind == 1 ? 10 : 14;
    unsigned round = op.vs1() & 15;
    if (round < first || round > last) round ^= 8;
    const bool rotates = kind == 1 || round % 2 == 0;
    const u8 constant = rotates ? round_constant(kind == 1 ? round : round / 2) : 0;
    u32* const d = op.group<u32>(op.vd());
    const u32* const key = op.group<u32>(op.vs2());
    for (u64 i = 0; i < op.unit.vl; i += 4) {
        const u32 before = key[i + 3];
        u32 word = substituted(rotates ? std::rotr(before, 8) : before) ^ constant;
        for (unsigned k = 0; k < 4; ++k) {
            word ^= kind == 1 ? key[i + k] : d[i + k];
            d[i + k] = word;
        }
    }
    return Result::done;
}

// ---------------------------------------------------------------- SHA-2

// FIPS 180-4, 4.1.2 and 4.1.3: what is rotated by how much.
template <typename T>
struct Sha {
    static constexpr bool wide = sizeof(T) == 8;
    static T rotations(T x, int a, int b, int c) {
        return std::rotr(x, a) ^ std::rotr(x, b) ^ std::rotr(x, c);
    }
    static T sum0(T x) { return wide ? rotations(x, 28, 34, 39) : rotations(x, 2, 13, 22); }
    static T sum1(T x) { return wide ? rotations(x, 14, 18, 41) : rotations(x, 6, 11, 25); }
    static T sigma0(T x) {
        return wide ? std::rotr(x, 1) ^ std::rotr(x, 8) ^ x >> 7
                    : std::rotr(x, 7) ^ std::rotr(x, 18) ^ x >> 3;
    }
    static T sigma1(T x) {
        return wide ? std::rotr(x, 19) ^ std::rotr(x, 61) ^ x >> 6
                    : std::rotr(x, 17) ^ std::rotr(x, 19) ^ x >> 10;
    }
};

bool sha2_ready(const Op& op) {
    const unsigned sew = op.unit.sew();
    return op.same_width<vv>() && (sew == 2 || (sew == 3 && op.unit.has_sha512())) &&
           groups_fit(op, 4u << sew) && op.vd() != op.vs1() && op.vd() != op.vs2();
}

template <typename Body>
void by_sha_width(unsigned sew, Body&& body) {
    if (sew == 2) {
        body.template operator()<u32>();
    } else {
        body.template operator()<u64>();
    }
}

// Four words of the message schedule, 16 after those in vd.
Result sha2_schedule(Op& op) {
    if (!sha2_ready(op)) return Result::illegal;
    by_sha_width(op.unit.sew(), [&]<typename T>() {
        for (u64 i = 0; i < op.unit.vl; i += 4) {
            T* const w = op.group<T>(op.vd()) + i;         // W0..W3
            const T* const x = op.group<T>(op.vs2()) + i;  // W4, W9, W10, W11
            const T* const y = op.group<T>(op.vs1()) + i;  // W12, (W13), W14, W15
            const T w16 = Sha<T>::sigma1(y[2]) + x[1] + Sha<T>::sigma0(w[1]) + w[0];
            const T w17 = Sha<T>::sigma1(y[3]) + x[2] + Sha<T>::sigma0(w[2]) + w[1];
            const T w18 = Sha<T>::sigma1(w16) + x[3] + Sha<T>::sigma0(w[3]) + w[2];
            const T w19 = Sha<T>::sigma1(w17) + y[0] + Sha<T>::sigma0(x[0]) + w[3];
            w[0] = w16, w[1] = w17, w[2] = w18, w[3] = w19;
        }
    });
    return Result::done;
}

// Two rounds, with the upper or the lower two of the four words in vs1.
template <bool upper>
Result sha2_compress(Op& op) {
    if (!sha2_ready(op)) return Result::illegal;
    by_sha_width(op.unit.sew(), [&]<typename T>() {
        for (u64 i = 0; i < op.unit.vl; i += 4) {
            T* const s = op.group<T>(op.vd()) + i;
            const T* const t = op.group<T>(op.vs2()) + i;
            const T* const words = op.group<T>(op.vs1()) + i + (upper ? 2 : 0);
            T h = s[0], g = s[1], d = s[2], c = s[3], f = t[0], e = t[1], b = t[2], a = t[3];
            for (unsigned round = 0; round < 2; ++round) {
                const T t1 = h + Sha<T>::sum1(e) + ((e & f) ^ (~e & g)) + words[round];
                const T t2 = Sha<T>::sum0(a) + ((a & b) ^ (a & c) ^ (b & c));
                h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
            }
            s[0] = f, s[1] = e, s[2] = b, s[3] = a;
        }
    });
    return Result::done;
}

// ---------------------------------------------------------------- GHASH

// GCM numbers the bits of a byte from the highest; here they are from the lowest.
u128 load_reflected(const u8* from) {
    u128 value = 0;
    for (unsigned i = 0; i < 16; ++i) {
        u8 byte = 0;
        for (unsigned k = 0; k < 8; ++k) byte |= static_cast<u8>(((from[i] >> k) & 1) << (7 - k));
        value |= u128{byte} << (8 * i);
    }
    return value;
}
void store_reflected(u8* to, u128 value) {
    u8 bytes[16];
    for (unsigned i = 0; i < 16; ++i) bytes[i] = static_cast<u8>(value >> (8 * i));
    const u128 reflected = load_reflected(bytes);
    for (unsigned i = 0; i < 16; ++i) to[i] = static_cast<u8>(reflected >> (8 * i));
}

// vd = (vd ^ vs1) * vs2 in GF(2^128), or vd * vs2.
template <bool adds>
Result ghash(Op& op) {
    const bool shaped = adds ? op.same_width<vv>() : op.same_width<vx>();
    if (!shaped || op.unit.sew() != 2 || !groups_fit(op, 16)) return Result::illegal;
    for (u64 i = 0; i < op.unit.vl / 4; ++i) {
        u8* const d = op.unit.reg(op.vd()) + 16 * i;
        u128 factor = load_reflected(d);
        if (adds) factor ^= load_reflected(op.unit.reg(op.vs1()) + 16 * i);
        u128 power = load_reflected(op.unit.reg(op.vs2()) + 16 * i);
        u128 product = 0;
        for (unsigned k = 0; k < 128; ++k) {
            if (((factor >> k) & 1) != 0) product ^= power;
            // Modulo x^128 + x^7 + x^2 + x + 1.
            power = power << 1 ^ (power >> 127) * 0x87;
        }
        store_reflected(d, product);
    }
    return Result::done;
}

}  // namespace

#define VINSN WIRT_VECTOR_FUNCTION
#include "riscv/isa/zvkg.def"
#include "riscv/isa/zvkned.def"
#include "riscv/isa/zvknh.def"
#undef VINSN

}  // namespace wirt::riscv::vector
