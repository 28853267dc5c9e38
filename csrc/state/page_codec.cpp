#include "state/page_codec.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"
#include "memory/zero_page.h"

namespace wirt::state {

namespace {

using memory::GuestRam;
using memory::PageArrivals;
using memory::PageSet;

constexpr u64 words_per_page = page_size / sizeof(u64);
constexpr u64 header_size = 6;
constexpr u64 longest_run = 255;  // words

u64 word_at(const u8* page, u64 index) {
    u64 word;
    std::memcpy(&word, page + index * sizeof word, sizeof word);
    return word;
}

void append_header(std::vector<u8>& out, u64 page, u64 length) {
    for (unsigned i = 0; i < 4; ++i) out.push_back(static_cast<u8>(page >> 8 * i));
    for (unsigned i = 0; i < 2; ++i) out.push_back(static_cast<u8>(length >> 8 * i));
}

struct Record {
    u64 page;
    std::span<const u8> data;
};

// The next record; `left` is what follows it. Only the lengths are checked.
Record take_record(std::span<const u8>& left) {
    if (left.size() < header_size) throw SnapshotError("a batch of pages ends within a record");
    const u64 page = left[0] | u64{left[1]} << 8 | u64{left[2]} << 16 | u64{left[3]} << 24;
    const u64 length = left[4] | u64{left[5]} << 8;
    left = left.subspan(header_size);
    if (length > page_size || length > left.size())
        throw SnapshotError("a batch of pages has a record of " + std::to_string(length) + " bytes");
    const Record record{page, left.first(length)};
    left = left.subspan(length);
    return record;
}

// `use(word, data, count)` for each run of a difference. False when it is none.
template <typename Use>
bool walk_difference(std::span<const u8> data, Use use) {
    u64 word = 0;
    while (!data.empty()) {
        if (data.size() < 2) return false;
        word += data[0];
        const u64 count = data[1];
        if (word + count > words_per_page || data.size() - 2 < count * sizeof(u64)) return false;
        use(word, data.data() + 2, count);
        word += count;
        data = data.subspan(2 + count * sizeof(u64));
    }
    return true;
}

// What will be written is put into the host's page tables at one go: as faults, page by page, it would cost
// more than the content.
class Populator {
  public:
    explicit Populator(const GuestRam& ram) : ram_(ram) {}
    ~Populator() { flush(); }
    Populator(const Populator&) = delete;
    Populator& operator=(const Populator&) = delete;

    void add(u64 page) {
        if (page != end_) {
            flush();
            first_ = page;
        }
        end_ = page + 1;
    }
    void flush() {
#ifdef MADV_POPULATE_WRITE
        // A host that cannot (before Linux 5.14), or will not, has them page by page.
        static std::atomic<bool> known{true};
        if (end_ - first_ > 1 && known.load(std::memory_order_relaxed) &&
            madvise(ram_.page_data(first_), (end_ - first_) * page_size, MADV_POPULATE_WRITE) != 0 &&
            errno == EINVAL)
            known.store(false, std::memory_order_relaxed);
#endif
        first_ = end_ = 0;
    }

  private:
    const GuestRam& ram_;
    u64 first_ = 0, end_ = 0;
};

void apply(u8* page, std::span<const u8> data) {
    if (data.empty()) {
        // Writing zeroes where there are some would take host memory.
        if (!memory::is_zero_page(page)) std::memset(page, 0, page_size);
    } else if (data.size() == page_size) {
        std::memcpy(page, data.data(), page_size);
    } else {
        walk_difference(data, [page](u64 word, const u8* from, u64 count) {
            std::memcpy(page + word * sizeof(u64), from, count * sizeof(u64));
        });
    }
}

}  // namespace

PageEncoder::PageEncoder(const GuestRam& ram, u64 cache_pages)
    : ram_(ram),
      sent_(ram.pages()),
      slots_(std::clamp<u64>(cache_pages, 1, ram.pages())),
      cache_(slots_ * page_size),
      slot_(slots_) {
    if (!cache_) throw ConfigError("the host has no address space left for the cache of a migration");
}

std::vector<u8> PageEncoder::encode(PageSet& left, u64 most, bool remember) {
    std::vector<u8> out;
    if (left.pages() != ram_.pages()) throw StateError("the pages are those of another memory");
    out.reserve(std::min<u64>(most, MiB) + page_size + header_size);
    u64 page = left.next(0);
    for (; page < left.pages() && out.size() < most; page = left.next(page + 1)) {
        left.remove(page);
        append(out, page, remember);
    }
    if (page >= left.pages()) ++round_;
    return out;
}

std::vector<u8> PageEncoder::encode_all(PageSet& left, u64 most) {
    std::vector<u8> out;
    if (left.pages() != ram_.pages()) throw StateError("the pages are those of another memory");
    for (u64 page = left.next(0); page < left.pages() && out.size() < most; page = left.next(page + 1)) {
        left.remove(page);
        const u8* content = ram_.page_data(page);
        const bool zero = memory::is_zero_page(content);
        append_header(out, page, zero ? 0 : page_size);
        if (!zero) out.insert(out.end(), content, content + page_size);
        ++counts_.looked_at;
        ++(zero ? counts_.zero : counts_.whole);
    }
    return out;
}

void PageEncoder::append(std::vector<u8>& out, u64 page, bool remember) {
    ++counts_.looked_at;
    if (memory::is_zero_page(ram_.page_data(page))) {
        if (!sent_.contains(page)) return;
        ++counts_.zero;
        sent_.remove(page);
        Slot& slot = slot_[page % slots_];
        if (slot.page == page + 1) slot.page = 0;
        return append_header(out, page, 0);
    }
    // The guest may write it at this moment: what is remembered has to be what is sent.
    std::memcpy(page_, ram_.page_data(page), page_size);
    Slot& slot = slot_[page % slots_];
    u8* const before = cached(page % slots_);
    if (slot.page == page + 1) {
        slot.round = round_;
        if (std::memcmp(before, page_, page_size) == 0) {
            ++counts_.same;
            return;
        }
        const u64 start = out.size();
        const bool smaller = append_difference(out, page, before);
        std::memcpy(before, page_, page_size);
        if (smaller) {
            ++counts_.changed;
            counts_.changed_bytes += out.size() - start;
            return;
        }
    } else if (remember && (slot.page == 0 || slot.round + 1 < round_)) {
        // What was sent in this pass or the last one keeps its place.
        slot = {page + 1, round_};
        std::memcpy(before, page_, page_size);
    }
    ++counts_.whole;
    sent_.insert(page);
    append_header(out, page, page_size);
    out.insert(out.end(), page_, page_ + page_size);
}

bool PageEncoder::append_difference(std::vector<u8>& out, u64 page, const u8* before) {
    const u64 start = out.size();
    append_header(out, page, 0);
    u64 done = 0;  // words that are written down
    for (u64 word = 0; word < words_per_page;) {
        if (word_at(page_, word) == word_at(before, word)) {
            ++word;
            continue;
        }
        u64 end = word;
        while (end < words_per_page && end - word < longest_run &&
               word_at(page_, end) != word_at(before, end))
            ++end;
        for (; word - done > longest_run; done += longest_run) {
            out.push_back(longest_run);
            out.push_back(0);
        }
        out.push_back(static_cast<u8>(word - done));
        out.push_back(static_cast<u8>(end - word));
        out.insert(out.end(), page_ + word * sizeof(u64), page_ + end * sizeof(u64));
        done = word = end;
        if (out.size() - start - header_size >= page_size) {
            out.resize(start);
            return false;
        }
    }
    const u64 length = out.size() - start - header_size;
    out[start + 4] = static_cast<u8>(length);
    out[start + 5] = static_cast<u8>(length >> 8);
    return true;
}

u64 decode_pages(GuestRam& ram, std::span<const u8> batch, PageArrivals* arrivals) {
    for (std::span<const u8> left = batch; !left.empty();) {
        const Record record = take_record(left);
        if (record.page >= ram.pages()) {
            throw SnapshotError("page " + std::to_string(record.page) +
                                " is outside of the guest's memory of " + std::to_string(ram.pages()) +
                                " pages");
        }
        if (record.data.size() != page_size && !walk_difference(record.data, [](u64, const u8*, u64) {}))
            throw SnapshotError("what changed in page " + std::to_string(record.page) + " is broken");
    }
    {
        Populator populator(ram);
        for (std::span<const u8> left = batch; !left.empty();) {
            const Record record = take_record(left);
            if (record.data.size() == page_size) populator.add(record.page);
        }
    }
    u64 count = 0;
    for (std::span<const u8> left = batch; !left.empty(); ++count) {
        const Record record = take_record(left);
        if (arrivals == nullptr) {
            apply(ram.page_data(record.page), record.data);
        } else {
            arrivals->arrive(record.page, [&](u8* page) { apply(page, record.data); });
        }
    }
    return count;
}

}  // namespace wirt::state
