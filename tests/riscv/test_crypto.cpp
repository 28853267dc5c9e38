// What is computed without the host's instructions is what they compute; vectors of FIPS 197 (appendix A.1,
// B).
#include "riscv/crypto.h"

#include <random>

#include "support/check.h"

namespace {

using namespace wirt;
using namespace wirt::riscv;

void test_both_ways_agree() {
    std::mt19937_64 random(1);
    for (unsigned i = 0; i < 20'000; ++i) {
        const u64 a = random(), b = random();
        CHECK(crypto::aes_encrypt_middle(a, b) == crypto::plain::aes_encrypt_middle(a, b));
        CHECK(crypto::aes_encrypt_last(a, b) == crypto::plain::aes_encrypt_last(a, b));
        CHECK(crypto::aes_decrypt_middle(a, b) == crypto::plain::aes_decrypt_middle(a, b));
        CHECK(crypto::aes_decrypt_last(a, b) == crypto::plain::aes_decrypt_last(a, b));
        CHECK(crypto::aes_inverse_mix_columns(a) == crypto::plain::aes_inverse_mix_columns(a));
        const crypto::Product one = crypto::carryless_product(a, b);
        const crypto::Product other = crypto::plain::carryless_product(a, b);
        CHECK(one.low == other.low && one.high == other.high);
    }
}

void test_a_block_of_fips_197() {
    // The key 2b7e1516..., the block 3243f6a8..., little-endian halves.
    u64 key[2] = {0xa6d2'ae28'1615'7e2b, 0x3c4f'cf09'8815'f7ab};
    u64 state[2] = {0x8d30'5a88'a8f6'4332 ^ key[0], 0x3407'37e0'a298'3131 ^ key[1]};
    for (unsigned round = 0; round < 10; ++round) {
        const u64 word = crypto::aes_key_schedule_1(key[1], round);
        key[0] = crypto::aes_key_schedule_2(word, key[0]);
        key[1] = crypto::aes_key_schedule_2(key[0], key[1]);
        const bool last = round == 9;
        const u64 first = last ? crypto::aes_encrypt_last(state[0], state[1])
                               : crypto::aes_encrypt_middle(state[0], state[1]);
        const u64 second = last ? crypto::aes_encrypt_last(state[1], state[0])
                                : crypto::aes_encrypt_middle(state[1], state[0]);
        state[0] = first ^ key[0];
        state[1] = second ^ key[1];
    }
    CHECK(state[0] == 0xfb09'dc02'1d84'2539 && state[1] == 0x320b'6a19'9785'11dc);
    CHECK(key[0] == 0x8925'eec9'a8f9'14d0 && key[1] == 0xa60c'63b6'c80c'3fe1);
}

}  // namespace

int main() {
    test_both_ways_agree();
    test_a_block_of_fips_197();
    return checks.close();
}
