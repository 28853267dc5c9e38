// Video memory in a saved state: what was never written is neither in it nor, once it is loaded, in memory.
//
// Standalone: prints each failure and a closing count, exits 0 if there are none.
#include "base/host_pages.h"


#include "support/state_copy.h"
#include "support/check.h"

namespace {

using namespace wirt;

struct Part {
    explicit Part(u64 size) : pages(size) {}
    void visit_state(StateVisitor& v) {
        v.section("part", 1);
        pages.visit_state(v, "content");
    }
    u64 resident() const {
        std::vector<u8> core(pages.size() / page_size);
        u64 count = 0;
        if (mincore(pages.data(), pages.size(), core.data()) != 0) return ~u64{0};
        for (const u8 page : core) count += page & 1;
        return count;
    }
    HostPages pages;
};

constexpr u64 size = 16 * MiB;

bool refuses(Part& part, StateCopy copy) {
    try {
        copy.load_into(part);
    } catch (const StateError&) {
        return true;
    }
    return false;
}

void test_only_what_was_written_is_saved_and_loaded() {
    Part saved(size), loaded(size);
    for (const u64 at : {u64{0}, 5 * page_size + 1, 4095 * page_size + 4095}) saved.pages.data()[at] = 0x5a;
    // Written, and nothing in the end.
    saved.pages.data()[77 * page_size] = 1;
    saved.pages.data()[77 * page_size] = 0;
    StateCopy copy = StateCopy::of(saved);
    CHECK(copy.bytes("part.content").size() == 3 * page_size);
    CHECK(copy.size() == 3 * page_size + size / page_size / 8);

    copy.load_into(loaded);
    CHECK(loaded.resident() == 3);
    CHECK(std::memcmp(saved.pages.data(), loaded.pages.data(), size) == 0);
    CHECK(StateCopy::of(loaded) == copy);

    // What was there before goes.
    Part full(size);
    std::memset(full.pages.data(), 0xff, size);
    copy.load_into(full);
    CHECK(full.resident() == 3);
    CHECK(std::memcmp(saved.pages.data(), full.pages.data(), size) == 0);
}

void test_pages_that_do_not_add_up_are_refused() {
    Part part(11 * page_size);
    part.pages.data()[page_size] = 1;
    const StateCopy copy = StateCopy::of(part);
    const auto with = [&](auto&& change) {
        StateCopy forged = copy;
        change(forged.bytes("part.content pages in use"), forged.bytes("part.content"));
        return refuses(part, forged);
    };
    CHECK(!with([](auto&, auto&) {}));
    CHECK(with([](auto& used, auto&) { used[0] = 0; }));
    CHECK(with([](auto& used, auto&) { used[0] = 3; }));
    CHECK(with([](auto& used, auto&) { used.pop_back(); }));
    CHECK(with([](auto&, auto& content) { content.pop_back(); }));
    // A page behind the last.
    CHECK(with([](auto& used, auto&) { used[0] = 0, used[1] = 8; }));
    CHECK(!with([](auto& used, auto&) { used[0] = 0, used[1] = 4; }));
}

}  // namespace

int main() {
    test_only_what_was_written_is_saved_and_loaded();
    test_pages_that_do_not_add_up_are_refused();
    return checks.close();
}
