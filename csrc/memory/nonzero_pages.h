// Which pages hold something. Of a file: what a snapshot's digests are over, and what is copied of it. Of
// guest memory: what has to be sent when it moves.
#pragma once

#include "base/types.h"
#include "memory/page_set.h"

namespace wirt::memory {

// Of the file's first `size` bytes, those that are not all zeroes; the last page may be cut off. Holes are
// not read. Throws StorageError when the file cannot be read, or is shorter.
PageSet nonzero_pages(int fd, u64 size);

class GuestRam;

// Of guest memory, each page looked at at another moment. Memory that was never touched is not read, and so
// takes no page of the host's.
PageSet used_pages(const GuestRam& ram);

}  // namespace wirt::memory
