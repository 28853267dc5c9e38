// A disk whose writes stay in host memory: what is below it is only read.
#pragma once

#include <memory>

#include "storage/block_backend.h"

namespace wirt::storage {

// `base` must not change while the overlay lives (open_raw holds a shared lock on the file for that).
std::shared_ptr<BlockBackend> make_overlay(std::shared_ptr<BlockBackend> base);

}  // namespace wirt::storage
