// AES (Zvkned), SHA-2 (Zvknha, Zvknhb) and GHASH (Zvkg): Vector Cryptography 1.0, chapter 3; FIPS 197, FIPS
// 180-4 and NIST SP 800-38D for what they compute.
//
// They work on element groups of four elements: vl is a multiple of four. None of them is masked. Nothing
// branches on an element or uses one as an index into memory (Zvkt).
#include "riscv/crypto.h"
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

// Columns 0 and 1, columns 2 and 3.
struct State {
    u64 first, second;
};
using Half = u64 (*)(u64 first, u64 second);

// Both halves of what `half` makes the first half of.
template <Half half>
State both(const State& s) {
    return {half(s.first, s.second), half(s.second, s.first)};
}
State added(const State& a, const State& b) {
    return {a.first ^ b.first, a.second ^ b.second};
}

struct AesEncryptFinal {
    static State apply(const State& state, const State& key) {
        return added(both<crypto::aes_encrypt_last>(state), key);
    }
};
struct AesEncryptMiddle {
    static State apply(const State& state, const State& key) {
        return added(both<crypto::aes_encrypt_middle>(state), key);
    }
};
struct AesDecryptFinal {
    static State apply(const State& state, const State& key) {
        return added(both<crypto::aes_decrypt_last>(state), key);
    }
};
struct AesDecryptMiddle {
    static State apply(const State& state, const State& key) {
        const State s = AesDecryptFinal::apply(state, key);
        return {crypto::aes_inverse_mix_columns(s.first), crypto::aes_inverse_mix_columns(s.second)};
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

// The next four words of the key schedule (FIPS 197, 5.2): of AES-128 from vs2 alone, of AES-256 from vs2
// and, four words before it, vd.
template <unsigned kind>
Result aes_key_forward(Op& op) {
    if (!op.same_width<vx>() || op.unit.sew() != 2 || !groups_fit(op, 16)) return Result::illegal;
    constexpr unsigned first = kind == 1 ? 1 : 2, last = kind == 1 ? 10 : 14;
    unsigned round = op.vs1() & 15;
    if (round < first || round > last) round ^= 8;
    // That of Zkne counts from 0, and 10 neither rotates nor adds a constant.
    const unsigned step = kind == 1 ? round - 1 : round % 2 == 0 ? round / 2 - 1 : 10;
    u32* const d = op.group<u32>(op.vd());
    const u32* const key = op.group<u32>(op.vs2());
    for (u64 i = 0; i < op.unit.vl; i += 4) {
        u32 word = static_cast<u32>(crypto::aes_key_schedule_1(u64{key[i + 3]} << 32, step));
        for (unsigned k = 0; k < 4; ++k) {
            word ^= kind == 1 ? key[i + k] : d[i + k];
            d[i + k] = word;
        }
    }
    return Result::done;
}

// ---------------------------------------------------------------- SHA-2

// FIPS 180-4, 4.1.2 and 4.1.3, by the width of a word.
struct Sha {
    static u32 sum0(u32 x) { return crypto::sha256_sum0(x); }
    static u32 sum1(u32 x) { return crypto::sha256_sum1(x); }
    static u32 sigma0(u32 x) { return crypto::sha256_sig0(x); }
    static u32 sigma1(u32 x) { return crypto::sha256_sig1(x); }
    static u64 sum0(u64 x) { return crypto::sha512_sum0(x); }
    static u64 sum1(u64 x) { return crypto::sha512_sum1(x); }
    static u64 sigma0(u64 x) { return crypto::sha512_sig0(x); }
    static u64 sigma1(u64 x) { return crypto::sha512_sig1(x); }
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
            const T w16 = Sha::sigma1(y[2]) + x[1] + Sha::sigma0(w[1]) + w[0];
            const T w17 = Sha::sigma1(y[3]) + x[2] + Sha::sigma0(w[2]) + w[1];
            const T w18 = Sha::sigma1(w16) + x[3] + Sha::sigma0(w[3]) + w[2];
            const T w19 = Sha::sigma1(w17) + y[0] + Sha::sigma0(x[0]) + w[3];
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
                const T t1 = h + Sha::sum1(e) + ((e & f) ^ (~e & g)) + words[round];
                const T t2 = Sha::sum0(a) + ((a & b) ^ (a & c) ^ (b & c));
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
        value |= u128{crypto::reverse_in_bytes(from[i])} << (8 * i);
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
            product ^= power & -((factor >> k) & 1);
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
