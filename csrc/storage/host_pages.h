// Host memory for what stands behind a disk.
#pragma once

#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/host_pages.h"

namespace wirt::storage {

class HostPages : public wirt::HostPages {
  public:
    // Throws StorageError when the host refuses. `sparse` memory is written here and there: it takes no huge
    // pages, which would hold 2 MiB for each place, on a host that hands them out unasked.
    explicit HostPages(u64 size, bool sparse = false) : wirt::HostPages(size) {
        if (*this) {
            if (sparse) madvise(data(), this->size(), MADV_NOHUGEPAGE);
            return;
        }
        throw StorageError("the host cannot reserve " + std::to_string(size / MiB) +
                           " MiB of address space for a disk in memory: " + std::strerror(errno) +
                           "; use a smaller disk or raise the limit (ulimit -v, vm.overcommit_memory)");
    }
};

}  // namespace wirt::storage
