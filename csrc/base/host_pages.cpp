#include "base/host_pages.h"

#include <bit>
#include <string>
#include <vector>

#include "base/error.h"

namespace wirt {

namespace {

bool is_zero(const u8* page) {
    return page[0] == 0 && std::memcmp(page, page + 1, page_size - 1) == 0;
}

}  // namespace

void HostPages::visit_state(StateVisitor& v, std::string_view name) {
    const u64 pages = size_ / page_size;
    std::vector<u8> used((pages + 7) / 8);
    std::vector<u8> content;
    for (u64 page = 0; page < pages && !v.loading(); ++page) {
        const u8* const from = data_ + page * page_size;
        if (is_zero(from)) continue;
        used[page / 8] |= static_cast<u8>(1u << (page % 8));
        content.insert(content.end(), from, from + page_size);
    }
    const std::size_t used_bytes = used.size();
    v.blob(std::string(name) + " pages in use", used, used_bytes);
    v.blob(name, content, size_);
    if (!v.loading()) return;
    u64 count = 0;
    for (const u8 byte : used) count += static_cast<u64>(std::popcount(byte));
    const bool beyond = pages % 8 != 0 && used_bytes == used.size() && used.back() >> (pages % 8) != 0;
    if (used.size() != used_bytes || content.size() != count * page_size || beyond) {
        throw StateError("the saved state is broken: " + std::string(name) +
                         " is not made of the pages that it says it is");
    }
    clear(0, size_);
    const u8* from = content.data();
    for (u64 page = 0; page < pages; ++page) {
        if ((used[page / 8] >> (page % 8) & 1) == 0) continue;
        std::memcpy(data_ + page * page_size, from, page_size);
        from += page_size;
    }
}

}  // namespace wirt
