// Fuzzes virtio-mmio, with split virtqueues in the seeds.
#include "virtio.h"

namespace wirt::fuzz {

std::unique_ptr<Bench> make_bench() {
    return std::make_unique<VirtioBench>(VirtioBench::Transport::mmio);
}

}  // namespace wirt::fuzz
