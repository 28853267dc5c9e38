// The machine's entropy: two copies of one seeded stream part where one of them is reseeded.
//
// Standalone: prints each failure and a closing count, exits 0 if there are none.
#include <array>

#include "base/entropy.h"
#include "support/check.h"

namespace {

using namespace wirt;

using Bytes = std::array<u8, 32>;

Bytes draw(EntropySource& from) {
    Bytes bytes{};
    from.fill(bytes);
    return bytes;
}

void test_copies_of_a_seeded_stream_part_where_one_is_reseeded() {
    EntropySource one, other;
    one.seed(1);
    other.seed(1);
    CHECK(draw(one) == draw(other));
    other.reseed(2);
    CHECK(draw(one) != draw(other));
    // Equal seeds give equal streams, wherever they are set.
    one.reseed(3);
    other.reseed(3);
    const Bytes again = draw(one);
    CHECK(again == draw(other));
    CHECK(again != draw(one));
    EntropySource fresh;
    fresh.seed(3);
    CHECK(again == draw(fresh));
}

void test_the_hosts_entropy_takes_no_seed() {
    EntropySource one, other;
    one.reseed(1);
    other.reseed(1);
    CHECK(draw(one) != draw(other));
    CHECK(draw(one) != Bytes{});
}

}  // namespace

int main() {
    test_copies_of_a_seeded_stream_part_where_one_is_reseeded();
    test_the_hosts_entropy_takes_no_seed();
    return checks.close();
}
