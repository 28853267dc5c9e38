// Checks csrc/riscv/softfloat.{h,cpp}: known vectors everywhere; on x86-64 also the host's own unit, in its
// four rounding modes and with its flags (like RISC-V it detects tininess after rounding); RMM, which no
// common host has, against exact comparisons with the midpoint; and the fast paths against the soft
// functions.
//
// Standalone: prints the first failures and a closing count, exits 0 if there are none. From the repository's
// root:
//   c++ -std=c++20 -O2 -ffp-contract=off -Wall -Wextra -Werror -Icsrc
//       tests/riscv/test_softfloat.cpp csrc/riscv/softfloat.cpp -o test_softfloat
//   ./test_softfloat [rounds [seed]]
#include "riscv/softfloat.h"

#include <array>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <string_view>

#include "support/check.h"

namespace {

using namespace wirt;
using namespace wirt::riscv::fp;

template <typename T>
struct Outcome {
    T value;
    u8 flags;
    bool operator==(const Outcome&) const = default;
};

template <typename Operation>
auto run(u8 accrued, Operation operation) {
    u8 flags = accrued;
    const auto value = operation(flags);
    return Outcome<std::remove_const_t<decltype(value)>>{value, flags};
}

// The outcome of a call that names its flags `flags`, with none, or with `accrued`, set before it.
#define RUN(call) RUN_WITH(0, call)
#define RUN_WITH(accrued, call) run(accrued, [&]([[maybe_unused]] u8& flags) { return call; })

template <typename T, typename... Operands>
void check(const char* what, int rm, Outcome<T> got, std::type_identity_t<Outcome<T>> want,
           Operands... operands) {
    if (got == want) [[likely]] {
        ++checks.passed;
        return;
    }
    if (++checks.failed > 20) return;
    std::printf("%s rm=%d:", what, rm);
    (std::printf(" %" PRIx64, static_cast<u64>(operands)), ...);
    std::printf(" -> %" PRIx64 " flags %02x, expected %" PRIx64 " flags %02x\n", static_cast<u64>(got.value),
                got.flags, static_cast<u64>(want.value), want.flags);
}

// ---- Operands ----

class Random {
  public:
    explicit Random(u64 seed) : state_(seed) {}

    u64 next() {  // SplitMix64
        u64 z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    int below(int bound) { return static_cast<int>(next() % static_cast<u64>(bound)); }

  private:
    u64 state_;
};

// A fraction of the kinds that rounding is about: random, few bits set, long runs of ones or of zeros.
template <Pattern Bits>
Bits random_fraction(Random& random) {
    using F = Format<Bits>;
    const Bits any = static_cast<Bits>(random.next()) & F::fraction_mask;
    const Bits one = Bits{1} << random.below(F::fraction_bits);
    switch (random.below(6)) {
        case 0:
            return one;
        case 1:
            return F::fraction_mask & ~(one - 1);
        case 2:
            return one - 1;
        case 3:
            return any & ~(one - 1);
        default:
            return any;
    }
}

template <Pattern Bits>
Bits with_exponent(Random& random, int biased) {
    using F = Format<Bits>;
    biased = biased < 0 ? 0 : biased > F::max_biased_exponent ? F::max_biased_exponent : biased;
    const Bits sign = random.next() & 1 ? F::sign : 0;
    return sign | static_cast<Bits>(biased) << F::fraction_bits | random_fraction<Bits>(random);
}

template <Pattern Bits>
Bits random_special(Random& random) {
    using F = Format<Bits>;
    constexpr Bits one = Bits{F::bias} << F::fraction_bits;
    constexpr std::array<Bits, 16> specials = {0,
                                               1,
                                               2,
                                               F::fraction_mask,
                                               F::smallest_normal,
                                               F::smallest_normal + 1,
                                               F::largest,
                                               F::largest - 1,
                                               F::infinity,
                                               F::infinity + 1,
                                               F::canonical_nan,
                                               F::canonical_nan + 1,
                                               one,
                                               one - 1,
                                               one + 1,
                                               one >> 1};
    const Bits sign = random.next() & 1 ? F::sign : 0;
    return sign | specials[random.next() % specials.size()];
}

template <Pattern Bits>
Bits random_operand(Random& random) {
    using F = Format<Bits>;
    switch (random.below(8)) {
        case 0:
            return random_special<Bits>(random);
        case 1:
            return static_cast<Bits>(random.next());
        case 2:
            return with_exponent<Bits>(random, random.below(4));
        case 3:
            return with_exponent<Bits>(random, F::max_biased_exponent - random.below(4));
        case 4:
            return with_exponent<Bits>(random, F::bias + random.below(140) - 70);
        default:
            return with_exponent<Bits>(random, random.below(F::max_biased_exponent));
    }
}

template <Pattern Bits>
int biased_exponent(Bits a) {
    return static_cast<int>(magnitude(a) >> Format<Bits>::fraction_bits);
}

// A partner for `a` with which one of the operations comes close to cancelling, overflowing or underflowing.
template <Pattern Bits>
Bits random_partner(Random& random, Bits a) {
    using F = Format<Bits>;
    const int exponent = biased_exponent(a);
    const int wobble = random.below(5) - 2;
    switch (random.below(8)) {
        case 0:
            return with_exponent<Bits>(random, exponent + wobble);
        case 1:
            return with_exponent<Bits>(random,
                                       exponent + random.below(2 * F::fraction_bits) - F::fraction_bits);
        case 2:
            return with_exponent<Bits>(random, F::bias - exponent + wobble);
        case 3:
            return with_exponent<Bits>(random, F::bias - exponent - random.below(F::fraction_bits));
        case 4:
            return with_exponent<Bits>(random, 3 * F::bias - exponent + wobble);
        case 5:
            return with_exponent<Bits>(random, exponent + F::bias - random.below(F::fraction_bits));
        case 6:
            return a ^ F::sign ^ static_cast<Bits>(random.below(4));
        default:
            return random_operand<Bits>(random);
    }
}

// An addend for a * b: often the product's negative, or nearly, or just out of its reach.
template <Pattern Bits>
Bits random_addend(Random& random, Bits a, Bits b) {
    u8 ignored = 0;
    const Bits product = mul(a, b, rne, ignored);
    const int exponent = biased_exponent(product);
    switch (random.below(5)) {
        case 0:
            return product ^ Format<Bits>::sign ^ static_cast<Bits>(random.below(3));
        case 1:
            return with_exponent<Bits>(random, exponent + random.below(5) - 2);
        case 2: {
            const int reach = 4 * Format<Bits>::fraction_bits;
            return with_exponent<Bits>(random, exponent + random.below(reach) - reach / 2);
        }
        default:
            return random_operand<Bits>(random);
    }
}

u64 random_integer(Random& random) {
    const u64 any = random.next();
    const u64 one = u64{1} << random.below(64);
    switch (random.below(5)) {
        case 0:
            return one + static_cast<u64>(random.below(5) - 2);
        case 1:
            return any >> random.below(64);
        case 2:
            return (any & ~(one - 1)) >> random.below(64);
        case 3:
            return static_cast<u64>(random.below(65) - 32);
        default:
            return any;
    }
}

constexpr Rounding all_modes[] = {rne, rtz, rdn, rup, rmm};

// ---- Known vectors ----

struct DoubleVector {
    const char* operation;
    Rounding rm;
    u64 a, b, c, result;
    u8 flags;
};

constexpr u64 one = 0x3ff0000000000000, two = 0x4000000000000000, three = 0x4008000000000000;
constexpr u64 inf = Format<u64>::infinity, nan = Format<u64>::canonical_nan, snan = inf | 1;
constexpr u64 minus = Format<u64>::sign, largest = Format<u64>::largest, tiniest = 1;
constexpr u64 normal = Format<u64>::smallest_normal;
constexpr u64 ulp_half = 0x3ca0000000000000;  // 2^-53: half the last place of 1

constexpr DoubleVector double_vectors[] = {
    {"add", rne, one, two, 0, three, 0},
    {"add", rne, one, ulp_half, 0, one, NX},
    {"add", rne, one + 1, ulp_half, 0, one + 2, NX},
    {"add", rmm, one, ulp_half, 0, one + 1, NX},
    {"add", rmm, one | minus, ulp_half | minus, 0, (one + 1) | minus, NX},
    {"add", rmm, one, ulp_half - 1, 0, one, NX},
    {"add", rtz, one + 1, ulp_half, 0, one + 1, NX},
    {"add", rup, one, tiniest, 0, one + 1, NX},
    {"add", rdn, one, tiniest, 0, one, NX},
    {"add", rdn, one, tiniest | minus, 0, one - 1, NX},
    {"add", rne, largest, largest, 0, inf, OF | NX},
    {"add", rtz, largest, largest, 0, largest, OF | NX},
    {"add", rdn, largest | minus, largest | minus, 0, inf | minus, OF | NX},
    {"add", rup, largest | minus, largest | minus, 0, largest | minus, OF | NX},
    {"add", rmm, largest, 0x7c90000000000000, 0, inf, OF | NX},
    {"add", rmm, largest, 0x7c8fffffffffffff, 0, largest, NX},
    {"add", rne, normal, tiniest | minus, 0, normal - 1, 0},
    {"add", rne, inf, inf | minus, 0, nan, NV},
    {"add", rne, nan | minus | 5, one, 0, nan, 0},
    {"add", rne, one, snan, 0, nan, NV},
    {"add", rne, 0, minus, 0, 0, 0},
    {"add", rdn, 0, minus, 0, minus, 0},
    {"add", rne, minus, minus, 0, minus, 0},
    {"sub", rne, one, one, 0, 0, 0},
    {"sub", rdn, one, one, 0, minus, 0},
    {"sub", rne, inf, inf, 0, nan, NV},
    {"sub", rne, three, one, 0, two, 0},
    {"mul", rne, two, three, 0, 0x4018000000000000, 0},
    {"mul", rne, 0x3fb999999999999a, three, 0, 0x3fd3333333333334, NX},
    {"mul", rne, inf, minus, 0, nan, NV},
    {"mul", rne, inf | minus, two, 0, inf | minus, 0},
    {"mul", rne, minus, two, 0, minus, 0},
    {"mul", rne, tiniest, 0x3fe0000000000000, 0, 0, UF | NX},
    {"mul", rmm, tiniest, 0x3fe0000000000000, 0, tiniest, UF | NX},
    {"mul", rup, tiniest, tiniest, 0, tiniest, UF | NX},
    {"mul", rup, tiniest, tiniest | minus, 0, minus, UF | NX},
    {"mul", rdn, tiniest, tiniest | minus, 0, tiniest | minus, UF | NX},
    // (1 + 2^-52) * (1 - 2^-53) * 2^-1022 rounds to the smallest normal even with an unbounded exponent: not
    // tiny.
    {"mul", rne, normal + 1, one - 1, 0, normal, NX},
    // (1 - 2^-53) * 2^-1022 is a value of 53 bits: tiny, although its subnormal rounding is the smallest
    // normal.
    {"mul", rne, normal, one - 1, 0, normal, UF | NX},
    {"mul", rtz, normal, one - 1, 0, normal - 1, UF | NX},
    {"mul", rne, largest, two, 0, inf, OF | NX},
    {"div", rne, one, three, 0, 0x3fd5555555555555, NX},
    {"div", rup, one, three, 0, 0x3fd5555555555556, NX},
    {"div", rne, two, three, 0, 0x3fe5555555555555, NX},
    {"div", rne, one, 0, 0, inf, DZ},
    {"div", rne, one, minus, 0, inf | minus, DZ},
    {"div", rne, 0, 0, 0, nan, NV},
    {"div", rne, inf, inf, 0, nan, NV},
    {"div", rne, inf, 0, 0, inf, 0},
    {"div", rne, one, inf | minus, 0, minus, 0},
    {"div", rne, nan, 0, 0, nan, 0},
    {"div", rne, tiniest, two, 0, 0, UF | NX},
    {"div", rne, largest, 0x3fe0000000000000, 0, inf, OF | NX},
    {"sqrt", rne, two, 0, 0, 0x3ff6a09e667f3bcd, NX},
    {"sqrt", rdn, two, 0, 0, 0x3ff6a09e667f3bcc, NX},
    {"sqrt", rne, 0x4022000000000000, 0, 0, three, 0},
    {"sqrt", rne, tiniest, 0, 0, 0x1e60000000000000, 0},
    {"sqrt", rne, minus, 0, 0, minus, 0},
    {"sqrt", rne, inf, 0, 0, inf, 0},
    {"sqrt", rne, one | minus, 0, 0, nan, NV},
    {"sqrt", rne, inf | minus, 0, 0, nan, NV},
    {"sqrt", rne, nan | minus, 0, 0, nan, 0},
    {"fma", rne, two, three, one, 0x401c000000000000, 0},
    // (1 + 2^-52)^2 - (1 + 2^-51) = 2^-104: lost if the product were rounded.
    {"fma", rne, one + 1, one + 1, (one + 2) | minus, 0x3970000000000000, 0},
    {"fma", rne, inf, 0, nan, nan, NV},
    {"fma", rne, 0, inf | minus, one, nan, NV},
    {"fma", rne, two, nan, one, nan, 0},
    {"fma", rne, two, three, snan, nan, NV},
    {"fma", rne, inf, one, inf | minus, nan, NV},
    {"fma", rne, inf, one, inf, inf, 0},
    {"fma", rne, largest, largest, inf | minus, inf | minus, 0},
    {"fma", rne, one, one, one | minus, 0, 0},
    {"fma", rdn, one, one, one | minus, minus, 0},
    {"fma", rne, minus, one, minus, minus, 0},
    {"fma", rup, one, one, tiniest, one + 1, NX},
    {"fma", rne, tiniest, ulp_half, 0, 0, UF | NX},
    {"fma", rmm, one, ulp_half, one, one + 1, NX},
};

u64 perform(const DoubleVector& v, u8& flags) {
    const std::string_view operation = v.operation;
    if (operation == "add") return add(v.a, v.b, v.rm, flags);
    if (operation == "sub") return sub(v.a, v.b, v.rm, flags);
    if (operation == "mul") return mul(v.a, v.b, v.rm, flags);
    if (operation == "div") return div(v.a, v.b, v.rm, flags);
    if (operation == "fma") return fma(v.a, v.b, v.c, v.rm, flags);
    return sqrt(v.a, v.rm, flags);
}

void test_double_vectors() {
    for (const DoubleVector& v : double_vectors) {
        check(v.operation, v.rm, RUN(perform(v, flags)), {v.result, v.flags}, v.a, v.b, v.c);
    }
}

template <typename Int, typename Host>
void expect_integer(Int (*convert)(decltype(detail::pattern(Host{})), Rounding, u8&), Rounding rm, Host value,
                    Int want, u8 want_flags) {
    const auto a = detail::pattern(value);
    check("to integer", rm, RUN(convert(a, rm, flags)), {want, want_flags}, a);
}

void test_conversion_vectors() {
    constexpr double endless = std::numeric_limits<double>::infinity();
    constexpr float no_number = std::numeric_limits<float>::quiet_NaN();
    expect_integer<i32>(to_i32, rne, 2.5, 2, NX);
    expect_integer<i32>(to_i32, rmm, 2.5, 3, NX);
    expect_integer<i32>(to_i32, rmm, -2.5, -3, NX);
    expect_integer<i32>(to_i32, rne, 3.5, 4, NX);
    expect_integer<i32>(to_i32, rdn, -0.25, -1, NX);
    expect_integer<i32>(to_i32, rup, 0.25, 1, NX);
    expect_integer<i32>(to_i32, rtz, 2147483647.5, INT32_MAX, NX);
    expect_integer<i32>(to_i32, rne, 2147483647.5, INT32_MAX, NV);
    expect_integer<i32>(to_i32, rne, -2147483648.5, INT32_MIN, NX);
    expect_integer<i32>(to_i32, rdn, -2147483648.5, INT32_MIN, NV);
    expect_integer<i32>(to_i32, rtz, no_number, INT32_MAX, NV);
    expect_integer<i32>(to_i32, rtz, -no_number, INT32_MAX, NV);
    expect_integer<i32>(to_i32, rtz, -endless, INT32_MIN, NV);
    expect_integer<u32>(to_u32, rtz, -0.75, 0, NX);
    expect_integer<u32>(to_u32, rne, -0.75, 0, NV);
    expect_integer<u32>(to_u32, rtz, -1.0, 0, NV);
    expect_integer<u32>(to_u32, rtz, -0.0f, 0, 0);
    expect_integer<u32>(to_u32, rtz, 4294967295.5, UINT32_MAX, NX);
    expect_integer<u32>(to_u32, rup, 4294967295.5, UINT32_MAX, NV);
    expect_integer<u32>(to_u32, rtz, no_number, UINT32_MAX, NV);
    expect_integer<i64>(to_i64, rtz, 0x1p63, INT64_MAX, NV);
    expect_integer<i64>(to_i64, rtz, -0x1p63, INT64_MIN, 0);
    expect_integer<i64>(to_i64, rtz, -0x1p63f, INT64_MIN, 0);
    expect_integer<i64>(to_i64, rtz, endless, INT64_MAX, NV);
    expect_integer<u64>(to_u64, rtz, 0x1p63, u64{1} << 63, 0);
    expect_integer<u64>(to_u64, rtz, 0x1p64, UINT64_MAX, NV);
    expect_integer<u64>(to_u64, rtz, -0x1p63f, 0, NV);

    check("f32_from_u32", rne, RUN(f32_from_u32(UINT32_MAX, rne, flags)), {0x4f800000, NX});
    check("f32_from_u32", rtz, RUN(f32_from_u32(UINT32_MAX, rtz, flags)), {0x4f7fffff, NX});
    check("f32_from_i32", rmm, RUN(f32_from_i32(16777217, rmm, flags)), {0x4b800001, NX});
    check("f64_from_i64", rne, RUN(f64_from_i64(INT64_MIN, rne, flags)), {0xc3e0000000000000, 0});
    check("f64_from_u64", rne, RUN(f64_from_u64(UINT64_MAX, rne, flags)), {0x43f0000000000000, NX});
    check("f64_from_i32", rdn, RUN(f64_from_i32(0, rdn, flags)), {0, 0});
    check("f64_to_f32", rne, RUN(f64_to_f32(largest, rne, flags)), {0x7f800000, OF | NX});
    check("f64_to_f32", rne, RUN(f64_to_f32(snan | minus, rne, flags)), {0x7fc00000, NV});
    check("f64_to_f32", rup, RUN(f64_to_f32(tiniest, rup, flags)), {1, UF | NX});
    check("f32_to_f64", rne, RUN(f32_to_f64(1, flags)), {0x36a0000000000000, 0});
    check("f32_to_f64", rne, RUN(f32_to_f64(0xff800001, flags)), {nan, NV});
}

// ---- Comparisons, min, max and classify against the host's own ----

template <Pattern Bits>
u64 expected_class(Bits a) {
    const auto value = std::bit_cast<typename Format<Bits>::Host>(a);
    const bool negative = std::signbit(value);
    switch (std::fpclassify(value)) {
        case FP_INFINITE:
            return negative ? 0x001 : 0x080;
        case FP_NORMAL:
            return negative ? 0x002 : 0x040;
        case FP_SUBNORMAL:
            return negative ? 0x004 : 0x020;
        case FP_ZERO:
            return negative ? 0x008 : 0x010;
        default:
            return a & Format<Bits>::quiet ? 0x200 : 0x100;
    }
}

template <Pattern Bits>
void test_comparisons(Bits a, Bits b) {
    using F = Format<Bits>;
    const auto x = std::bit_cast<typename F::Host>(a), y = std::bit_cast<typename F::Host>(b);
    const bool unordered = std::isnan(x) || std::isnan(y);
    const bool signaling = expected_class(a) == 0x100 || expected_class(b) == 0x100;
    const u8 quiet_flags = signaling ? NV : 0, signaling_flags = unordered ? NV : 0;
    Bits smaller = x < y || (x == y && std::signbit(x)) ? a : b;
    Bits greater = smaller == a ? b : a;
    if (unordered) smaller = greater = !std::isnan(x) ? a : !std::isnan(y) ? b : F::canonical_nan;
    check("eq", 0, RUN(eq(a, b, flags)), {x == y, quiet_flags}, a, b);
    check("lt", 0, RUN(lt(a, b, flags)), {x < y, signaling_flags}, a, b);
    check("le", 0, RUN(le(a, b, flags)), {x <= y, signaling_flags}, a, b);
    check("min", 0, RUN(min(a, b, flags)), {smaller, quiet_flags}, a, b);
    check("max", 0, RUN(max(a, b, flags)), {greater, quiet_flags}, a, b);
    check("classify", 0, RUN(classify(a)), {expected_class(a), 0}, a);
}

// ---- The host's unit, one instruction at a time ----

#if defined(__x86_64__)

// The rounding control of MXCSR, with every exception masked (Intel SDM volume 1, 10.2.3).
u32 mxcsr(Rounding rm) {
    constexpr u32 control[] = {0, 3, 1, 2};
    return 0x1f80 | control[rm] << 13;
}

u8 flags_of(u32 csr) {
    return (csr & 0x01 ? NV : 0) | (csr & 0x04 ? DZ : 0) | (csr & 0x08 ? OF : 0) | (csr & 0x10 ? UF : 0) |
           (csr & 0x20 ? NX : 0);
}

// Everything happens in one statement: the compiler knows nothing of MXCSR and could move arithmetic across
// it.
#define IN_MODE(instruction, result, ...)                                                     \
    asm volatile("ldmxcsr %[mode]\n\t" instruction "\n\tstmxcsr %[after]\n\tldmxcsr %[usual]" \
                 : result, [after] "=m"(after)                                                \
                 : [mode] "m"(mode), [usual] "m"(usual), __VA_ARGS__)

constexpr u32 usual = 0x1f80;

#define DEFINE_BINARY(name, instruction)                                   \
    template <typename Host>                                               \
    Outcome<Host> host_##name(Host a, Host b, Rounding rm) {               \
        const u32 mode = mxcsr(rm);                                        \
        u32 after;                                                         \
        if constexpr (sizeof(Host) == 4) {                                 \
            IN_MODE(instruction "ss %[b], %[a]", [a] "+x"(a), [b] "x"(b)); \
        } else {                                                           \
            IN_MODE(instruction "sd %[b], %[a]", [a] "+x"(a), [b] "x"(b)); \
        }                                                                  \
        return {a, flags_of(after)};                                       \
    }

DEFINE_BINARY(add, "add")
DEFINE_BINARY(sub, "sub")
DEFINE_BINARY(mul, "mul")
DEFINE_BINARY(div, "div")
DEFINE_BINARY(sqrt, "sqrt")  // of b

template <typename Host>
Outcome<Host> host_fma(Host a, Host b, Host c, Rounding rm) {
    const u32 mode = mxcsr(rm);
    u32 after;
    if constexpr (sizeof(Host) == 4) {
        IN_MODE("vfmadd213ss %[c], %[b], %[a]", [a] "+x"(a), [b] "x"(b), [c] "x"(c));
    } else {
        IN_MODE("vfmadd213sd %[c], %[b], %[a]", [a] "+x"(a), [b] "x"(b), [c] "x"(c));
    }
    return {a, flags_of(after)};
}

#define DEFINE_CONVERSION(name, To, to_constraint, From, from_constraint, instruction)                       \
    Outcome<To> host_##name(From a, Rounding rm) {                                                           \
        const u32 mode = mxcsr(rm);                                                                          \
        u32 after;                                                                                           \
        To result{};                                                                                         \
        IN_MODE(instruction " %[a], %[result]", [result] "+" to_constraint(result), [a] from_constraint(a)); \
        return {result, flags_of(after)};                                                                    \
    }

DEFINE_CONVERSION(to_i64, i64, "r", double, "x", "cvtsd2si")
DEFINE_CONVERSION(to_i64, i64, "r", float, "x", "cvtss2si")
DEFINE_CONVERSION(double_from, double, "x", i64, "r", "cvtsi2sdq")
DEFINE_CONVERSION(float_from, float, "x", i64, "r", "cvtsi2ssq")
DEFINE_CONVERSION(to_float, float, "x", double, "x", "cvtsd2ss")
DEFINE_CONVERSION(to_double, double, "x", float, "x", "cvtss2sd")

template <typename Host>
auto canonical(Outcome<Host> outcome) {
    using Bits = decltype(detail::pattern(outcome.value));
    const Bits value =
        std::isnan(outcome.value) ? Format<Bits>::canonical_nan : detail::pattern(outcome.value);
    return Outcome<Bits>{value, outcome.flags};
}

template <Pattern Bits>
void test_arithmetic_on_host(Bits a, Bits b, Bits c, Rounding rm) {
    const auto x = detail::host(a), y = detail::host(b), z = detail::host(c);
    check("add", rm, RUN(add(a, b, rm, flags)), canonical(host_add(x, y, rm)), a, b);
    check("sub", rm, RUN(sub(a, b, rm, flags)), canonical(host_sub(x, y, rm)), a, b);
    check("mul", rm, RUN(mul(a, b, rm, flags)), canonical(host_mul(x, y, rm)), a, b);
    check("div", rm, RUN(div(a, b, rm, flags)), canonical(host_div(x, y, rm)), a, b);
    check("sqrt", rm, RUN(sqrt(a, rm, flags)), canonical(host_sqrt(x, x, rm)), a);

    // x86 raises no flag for inf * 0 + qNaN, RISC-V does; the vectors have that case.
    const bool differs = std::isnan(z) && ((std::isinf(x) && y == 0) || (x == 0 && std::isinf(y)));
    if (!__builtin_cpu_supports("fma") || differs) return;
    check("fma", rm, RUN(fma(a, b, c, rm, flags)), canonical(host_fma(x, y, z, rm)), a, b, c);
}

// What a conversion to Int has to give, from a 64-bit one by the host.
template <typename Int, Pattern Bits>
void test_to_integer_on_host(const char* what, Int (*convert)(Bits, Rounding, u8&), Bits a, Rounding rm) {
    using Limits = std::numeric_limits<Int>;
    const auto x = detail::host(a);
    Int want;
    u8 want_flags = 0;
    if (std::isnan(x)) {
        want = Limits::max();
        want_flags = NV;
    } else {
        // Beyond 2^63 every value is an integer already, and up to 2^65 it fits an i128.
        constexpr auto bound = static_cast<decltype(x)>(0x1p63);
        i128 integer;
        if (std::fabs(x) < bound) {
            const auto host = host_to_i64(x, rm);
            integer = host.value;
            want_flags = host.flags;
        } else {
            integer = std::fabs(x) < 4 * bound ? static_cast<i128>(x)
                      : std::signbit(x)        ? -(i128{1} << 66)
                                               : i128{1} << 66;
        }
        want = static_cast<Int>(integer);
        if (integer < i128{Limits::min()} || integer > i128{Limits::max()}) {
            want = integer < 0 ? Limits::min() : Limits::max();
            want_flags = NV;
        }
    }
    check(what, rm, RUN(convert(a, rm, flags)), {want, want_flags}, a);
}

template <Pattern Bits>
void test_to_integers_on_host(Bits a, Rounding rm) {
    test_to_integer_on_host<i32, Bits>("to_i32", to_i32, a, rm);
    test_to_integer_on_host<u32, Bits>("to_u32", to_u32, a, rm);
    test_to_integer_on_host<i64, Bits>("to_i64", to_i64, a, rm);
    test_to_integer_on_host<u64, Bits>("to_u64", to_u64, a, rm);
}

void test_from_integer_on_host(u64 value, Rounding rm) {
    const i64 as_signed = static_cast<i64>(value);
    const i32 narrow = static_cast<i32>(value);
    const u32 narrow_unsigned = static_cast<u32>(value);
    check("f64_from_i64", rm, RUN(f64_from_i64(as_signed, rm, flags)),
          canonical(host_double_from(as_signed, rm)), value);
    check("f64_from_i32", rm, RUN(f64_from_i32(narrow, rm, flags)), canonical(host_double_from(narrow, rm)),
          value);
    check("f64_from_u32", rm, RUN(f64_from_u32(narrow_unsigned, rm, flags)),
          canonical(host_double_from(narrow_unsigned, rm)), value);
    check("f32_from_i64", rm, RUN(f32_from_i64(as_signed, rm, flags)),
          canonical(host_float_from(as_signed, rm)), value);
    check("f32_from_i32", rm, RUN(f32_from_i32(narrow, rm, flags)), canonical(host_float_from(narrow, rm)),
          value);
    check("f32_from_u32", rm, RUN(f32_from_u32(narrow_unsigned, rm, flags)),
          canonical(host_float_from(narrow_unsigned, rm)), value);

    // The host has no unsigned conversion of 64 bits: halve what is too large, with a sticky lowest bit.
    const bool large = as_signed < 0;
    const i64 halved = static_cast<i64>(large ? value >> 1 | (value & 1) : value);
    auto want_double = host_double_from(halved, rm);
    auto want_float = host_float_from(halved, rm);
    if (large) want_double.value *= 2, want_float.value *= 2;
    check("f64_from_u64", rm, RUN(f64_from_u64(value, rm, flags)), canonical(want_double), value);
    check("f32_from_u64", rm, RUN(f32_from_u64(value, rm, flags)), canonical(want_float), value);
}

void test_between_formats_on_host(u64 wide, u32 single, Rounding rm) {
    const double x = detail::host(wide);
    const float y = detail::host(single);
    check("f64_to_f32", rm, RUN(f64_to_f32(wide, rm, flags)), canonical(host_to_float(x, rm)), wide);
    check("f32_to_f64", rm, RUN(f32_to_f64(single, flags)), canonical(host_to_double(y, rm)), single);
}

#endif

// ---- RMM ----

// A binary32 magnitude as a double, with the infinity standing for the number that would follow the largest.
double boundary(u32 a) {
    if (is_finite(a)) return std::bit_cast<float>(a);
    return is_negative(a) ? -0x1p128 : 0x1p128;
}

// RMM takes the nearer of what RDN and RUP give, and of two equally near the one of larger magnitude.
// `compare` tells exactly how the unrounded result stands to a given double (of at most 25 significant bits):
// <0, 0, >0.
template <typename Operation, typename Compare>
void test_rmm(const char* what, Operation operation, Compare compare, u32 a, u32 b) {
    const Outcome<u32> down = RUN(operation(a, b, rdn, flags)), up = RUN(operation(a, b, rup, flags));
    Outcome<u32> want = down;
    if (magnitude(down.value) == 0 && magnitude(up.value) == 0) {
        want = up;  // an exact zero is -0 for RDN only
    } else if (down != up) {
        const double midpoint = (boundary(down.value) + boundary(up.value)) / 2;
        const double side = compare(midpoint);
        if (side > 0 || (side == 0 && midpoint > 0)) want = up;
    }
    // OF and NX go with the bound that was chosen; UF depends on the mode in its own way.
    Outcome<u32> got = RUN(operation(a, b, rmm, flags));
    got.flags &= ~UF;
    want.flags &= ~UF;
    check(what, rmm, got, want, a, b);
}

void test_rmm(u32 a, u32 b) {
    const double x = std::bit_cast<float>(a), y = std::bit_cast<float>(b);
    // The sum of two doubles is exactly sum + error (Knuth's two-sum); near the midpoint sum - m is exact.
    test_rmm(
        "add", [](u32 p, u32 q, Rounding rm, u8& flags) { return add(p, q, rm, flags); },
        [&](double m) {
            const double sum = x + y, back = sum - x, error = (x - (sum - back)) + (y - back);
            return (sum - m) + error;
        },
        a, b);
    // A product of two binary32 numbers, or of one with a midpoint, or a midpoint's square, is exact in
    // binary64.
    test_rmm(
        "mul", [](u32 p, u32 q, Rounding rm, u8& flags) { return mul(p, q, rm, flags); },
        [&](double m) { return x * y - m; }, a, b);
    test_rmm(
        "div", [](u32 p, u32 q, Rounding rm, u8& flags) { return div(p, q, rm, flags); },
        [&](double m) { return y > 0 ? x - m * y : m * y - x; }, a, b);
    test_rmm(
        "sqrt", [](u32 p, u32, Rounding rm, u8& flags) { return sqrt(p, rm, flags); },
        [&](double m) { return x - m * m; }, a, b);
}

template <Pattern Bits>
void test_rmm_to_integer(Bits a) {
    const auto x = std::bit_cast<typename Format<Bits>::Host>(a);
    if (!(std::fabs(x) < 0x1p62)) return;
    i64 want = static_cast<i64>(x);
    const auto fraction = x - static_cast<decltype(x)>(want);
    if (fraction >= 0.5) ++want;
    if (fraction <= -0.5) --want;
    check("to_i64", rmm, RUN(to_i64(a, rmm, flags)), {want, fraction != 0 ? NX : u8{0}}, a);
}

// ---- Fast against soft ----

template <Pattern Bits>
void test_fast_arithmetic(Bits a, Bits b, Bits c) {
    check("fast_add", rne, RUN_WITH(NX, fast_add(a, b, flags)), RUN_WITH(NX, add(a, b, rne, flags)), a, b);
    check("fast_sub", rne, RUN_WITH(NX, fast_sub(a, b, flags)), RUN_WITH(NX, sub(a, b, rne, flags)), a, b);
    check("fast_mul", rne, RUN_WITH(NX, fast_mul(a, b, flags)), RUN_WITH(NX, mul(a, b, rne, flags)), a, b);
    check("fast_div", rne, RUN_WITH(NX, fast_div(a, b, flags)), RUN_WITH(NX, div(a, b, rne, flags)), a, b);
    check("fast_sqrt", rne, RUN_WITH(NX, fast_sqrt(a, flags)), RUN_WITH(NX, sqrt(a, rne, flags)), a);
    check("fast_fma", rne, RUN_WITH(NX, fast_fma(a, b, c, flags)), RUN_WITH(NX, fma(a, b, c, rne, flags)), a,
          b, c);
}

template <Pattern Bits>
void test_fast_to_integer(Bits a, Rounding rm) {
    check("fast_to_i32", rm, RUN(fast_to_i32(a, rm, flags)), RUN(to_i32(a, rm, flags)), a);
    check("fast_to_u32", rm, RUN(fast_to_u32(a, rm, flags)), RUN(to_u32(a, rm, flags)), a);
    check("fast_to_i64", rm, RUN(fast_to_i64(a, rm, flags)), RUN(to_i64(a, rm, flags)), a);
    check("fast_to_u64", rm, RUN(fast_to_u64(a, rm, flags)), RUN(to_u64(a, rm, flags)), a);
}

void test_fast_conversions(u64 wide, u32 single, u64 integer) {
    check("fast_f64_to_f32", rne, RUN_WITH(NX, fast_f64_to_f32(wide, flags)),
          RUN_WITH(NX, f64_to_f32(wide, rne, flags)), wide);
    check("fast_f32_to_f64", rne, RUN(fast_f32_to_f64(single, flags)), RUN(f32_to_f64(single, flags)),
          single);

    const i64 as_signed = static_cast<i64>(integer);
    const i32 narrow = static_cast<i32>(integer);
    const u32 narrow_unsigned = static_cast<u32>(integer);
    check("fast_f32_from_i32", rne, RUN_WITH(NX, fast_f32_from_i32(narrow)),
          RUN_WITH(NX, f32_from_i32(narrow, rne, flags)), integer);
    check("fast_f32_from_u32", rne, RUN_WITH(NX, fast_f32_from_u32(narrow_unsigned)),
          RUN_WITH(NX, f32_from_u32(narrow_unsigned, rne, flags)), integer);
    check("fast_f32_from_i64", rne, RUN_WITH(NX, fast_f32_from_i64(as_signed)),
          RUN_WITH(NX, f32_from_i64(as_signed, rne, flags)), integer);
    check("fast_f32_from_u64", rne, RUN_WITH(NX, fast_f32_from_u64(integer)),
          RUN_WITH(NX, f32_from_u64(integer, rne, flags)), integer);
    check("fast_f64_from_i64", rne, RUN_WITH(NX, fast_f64_from_i64(as_signed)),
          RUN_WITH(NX, f64_from_i64(as_signed, rne, flags)), integer);
    check("fast_f64_from_u64", rne, RUN_WITH(NX, fast_f64_from_u64(integer)),
          RUN_WITH(NX, f64_from_u64(integer, rne, flags)), integer);
    check("fast_f64_from_i32", rdn, RUN(fast_f64_from_i32(narrow)), RUN(f64_from_i32(narrow, rdn, flags)),
          integer);
    check("fast_f64_from_u32", rdn, RUN(fast_f64_from_u32(narrow_unsigned)),
          RUN(f64_from_u32(narrow_unsigned, rdn, flags)), integer);
}

// ---- A round: one set of operands through everything ----

template <Pattern Bits>
void test_format(Bits a, Bits b, Bits c) {
    test_comparisons(a, b);
    test_fast_arithmetic(a, b, c);
    test_rmm_to_integer(a);
    for (const Rounding rm : all_modes) {
        test_fast_to_integer(a, rm);
#if defined(__x86_64__)
        if (rm == rmm) continue;
        test_arithmetic_on_host(a, b, c, rm);
        test_to_integers_on_host(a, rm);
#endif
    }
}

void test_round(Random& random) {
    const u32 a = random_operand<u32>(random), b = random_partner(random, a), c = random_addend(random, a, b);
    const u64 p = random_operand<u64>(random), q = random_partner(random, p), r = random_addend(random, p, q);
    const u64 integer = random_integer(random);
    test_format(a, b, c);
    test_format(p, q, r);
    test_rmm(a, b);

    // Binary64 numbers in the range of binary32 and about its limits, where the narrowing conversion has work
    // to do.
    const int offset = Format<u64>::bias - Format<u32>::bias;
    const u64 wide = random.next() & 1 ? p : with_exponent<u64>(random, offset - 30 + random.below(290));
    test_fast_conversions(wide, a, integer);
#if defined(__x86_64__)
    for (const Rounding rm : {rne, rtz, rdn, rup}) {
        test_from_integer_on_host(integer, rm);
        test_between_formats_on_host(wide, a, rm);
    }
#endif
}

}  // namespace

int main(int argc, char** argv) {
    const u64 rounds = argc > 1 ? std::strtoull(argv[1], nullptr, 0) : 200'000;
    Random random(argc > 2 ? std::strtoull(argv[2], nullptr, 0) : 1);
    const DefaultEnvironment environment;
    test_double_vectors();
    test_conversion_vectors();
    for (u64 i = 0; i < rounds; ++i) test_round(random);
    return checks.close();
}
