#include "storage/block_backend.h"

#include "base/error.h"

namespace wirt::storage {

void BlockBackend::refuse_hand_over() const {
    throw StorageError(describe() + ": cannot be handed over");
}

}  // namespace wirt::storage
