// Copying a disk: which parts of it need copying, and into a file, sparsely and in steps.
#pragma once

#include <vector>

#include "storage/block_backend.h"

namespace wirt::storage {

// What of the range may hold anything but zeroes, in order; touching runs are one.
std::vector<Run> data_runs(BlockBackend& disk, u64 offset, u64 length);

// Writes the range to `file` at the same offset, but for clusters of zeroes: there the file must read as zero
// already, as a new one does. Returns the bytes written. Throws StorageError.
u64 copy_range(BlockBackend& disk, int file, u64 offset, u64 length);

}  // namespace wirt::storage
