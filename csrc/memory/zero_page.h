// Whether a page holds nothing: such pages are never stored nor sent.
#pragma once

#include <cstring>

#include "base/types.h"

namespace wirt::memory {

inline bool is_zero_page(const u8* page) {
    // Most pages that are not zero say so at once.
    u64 first;
    std::memcpy(&first, page, sizeof first);
    return first == 0 && std::memcmp(page, page + sizeof first, page_size - sizeof first) == 0;
}

}  // namespace wirt::memory
