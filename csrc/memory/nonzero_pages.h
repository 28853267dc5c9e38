// Which pages of a file hold something: what a snapshot's digests are over, and what is copied of it.
#pragma once

#include "base/types.h"
#include "memory/page_set.h"

namespace wirt::memory {

// Of the file's first `size` bytes, those that are not all zeroes; the last page may be cut off. Holes are
// not read. Throws StorageError when the file cannot be read, or is shorter.
PageSet nonzero_pages(int fd, u64 size);

}  // namespace wirt::memory
