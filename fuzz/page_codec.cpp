// Fuzzes the pages of a migration (csrc/state/page_codec.h): batches as another host sends them, into the
// memory of a machine that never ran, or into pages that a running one waits for. A second reading of the
// format, written from its description, says what must come of each batch. What is then in memory is encoded,
// in passes and as a whole, and must arrive as it is.
//
// The first byte chooses the kind of memory; with arrivals, eight bytes say which pages are missing. Then
// come batches, each behind two bytes with its length.
#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "memory/guest_ram.h"
#include "memory/page_arrivals.h"
#include "require.h"
#include "state/page_codec.h"

namespace {

using namespace wirt;
using memory::GuestRam;
using memory::PageArrivals;
using memory::PageSet;

constexpr u64 base = 0x8000'0000;
constexpr u64 pages = 48;  // no multiple of 64: a set of them has bits that stand for nothing
constexpr u8 with_arrivals = 0x80;
constexpr u8 not_empty = 0x40;

class Input {
  public:
    explicit Input(std::span<const u8> data) : data_(data) {}
    bool empty() const { return data_.empty(); }
    std::span<const u8> take(u64 count) {
        const auto out = data_.first(std::min<u64>(count, data_.size()));
        data_ = data_.subspan(out.size());
        return out;
    }
    u64 number(u64 bytes) {
        u64 value = 0, shift = 0;
        for (const u8 byte : take(bytes)) value |= u64{byte} << shift++ * 8;
        return value;
    }

  private:
    std::span<const u8> data_;
};

struct Patch {
    u64 at;
    std::vector<u8> data;
};
struct Change {
    u64 page;
    std::vector<Patch> patches;
};

// None when the batch is to be refused as a whole.
std::optional<std::vector<Change>> read_batch(std::span<const u8> batch) {
    std::vector<Change> out;
    Input input(batch);
    u64 left = batch.size();
    while (left != 0) {
        if (left < 6) return std::nullopt;
        Change change{input.number(4), {}};
        const u64 length = input.number(2);
        left -= 6;
        if (length > page_size || length > left || change.page >= pages) return std::nullopt;
        left -= length;
        const std::span<const u8> data = input.take(length);
        if (length == 0 || length == page_size) {
            change.patches.push_back({0, std::vector<u8>(data.begin(), data.end())});
            change.patches.back().data.resize(page_size);
        } else {
            for (u64 i = 0, at = 0; i != length;) {
                if (length - i < 2) return std::nullopt;
                at += u64{data[i]} * 8;
                const u64 count = u64{data[i + 1]} * 8;
                i += 2;
                if (count > length - i || at + count > page_size) return std::nullopt;
                const std::span<const u8> run = data.subspan(i, count);
                change.patches.push_back({at, {run.begin(), run.end()}});
                at += count;
                i += count;
            }
        }
        out.push_back(std::move(change));
    }
    return out;
}

bool same(const GuestRam& ram, const std::vector<u8>& content) {
    return std::memcmp(ram.data(), content.data(), content.size()) == 0;
}

void arrives(const GuestRam& ram, u8 choice) {
    GuestRam other(base, pages * page_size);
    state::PageEncoder encoder(ram, choice % 8 + 1);
    const u64 most = choice % 3 == 0 ? 1 : 3 * page_size;
    for (unsigned pass = 0; pass < 3; ++pass) {
        PageSet left(pages);
        left.insert_all();
        while (!left.empty()) {
            const std::vector<u8> batch = encoder.encode(left, most, choice % 2 == 0);
            FUZZ_REQUIRE(read_batch(batch).has_value());
            state::decode_pages(other, batch, nullptr);
        }
        FUZZ_REQUIRE(std::memcmp(ram.data(), other.data(), ram.size()) == 0);
        // The guest goes on, and writes a word, a page, and zeroes.
        if (pass == 0) ram.page_data(choice % pages)[choice * 8] ^= 1;
        if (pass == 1) {
            std::memset(ram.page_data(choice % pages), 0, page_size);
            std::memset(ram.page_data((choice + 1) % pages), choice, page_size);
        }
    }
    PageSet left(pages);
    left.insert_all();
    GuestRam whole(base, pages * page_size);
    std::memset(whole.data(), 0xa5, whole.size());
    PageArrivals arrivals(whole, left);
    while (!left.empty()) state::decode_pages(whole, encoder.encode_all(left, most), &arrivals);
    FUZZ_REQUIRE(arrivals.missing() == 0);
    FUZZ_REQUIRE(std::memcmp(ram.data(), whole.data(), ram.size()) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input({data, size});
    const u8 choice = static_cast<u8>(input.number(1));
    GuestRam ram(base, pages * page_size);
    std::vector<u8> expected(ram.size());
    if (choice & not_empty) {
        for (u64 i = 0; i < expected.size(); i += 5) expected[i] = static_cast<u8>(i * 7 + 1);
        std::memcpy(ram.data(), expected.data(), expected.size());
    }
    PageSet missing(pages);
    std::optional<PageArrivals> arrivals;
    if (choice & with_arrivals) {
        missing.word(0) = input.number(8) & ((u64{1} << pages) - 1);
        arrivals.emplace(ram, missing);
    }
    while (!input.empty()) {
        const std::span<const u8> batch = input.take(input.number(2));
        const auto changes = read_batch(batch);
        u64 count = 0;
        try {
            count = state::decode_pages(ram, batch, arrivals ? &*arrivals : nullptr);
        } catch (const SnapshotError&) {
            FUZZ_REQUIRE(!changes);
            FUZZ_REQUIRE(same(ram, expected));
            continue;
        }
        FUZZ_REQUIRE(changes && count == changes->size());
        for (const Change& change : *changes) {
            if (arrivals && !missing.contains(change.page)) continue;
            missing.remove(change.page);
            for (const Patch& patch : change.patches) {
                std::copy(patch.data.begin(), patch.data.end(),
                          expected.begin() + static_cast<i64>(change.page * page_size + patch.at));
            }
        }
        FUZZ_REQUIRE(same(ram, expected));
        if (arrivals) {
            FUZZ_REQUIRE(arrivals->missing() == missing.size());
            FUZZ_REQUIRE(arrivals->missing_pages() == missing);
        }
    }
    // Nobody waits here for what is not there.
    if (!arrivals) arrives(ram, choice);
    return 0;
}
