// Fuzzes virtio-pci, with packed virtqueues in the seeds. Windows 0 to 3 are the devices' registers (BAR 0),
// 4 to 7 their configuration spaces, 8 to 11 their MSI-X tables.
#include "virtio.h"

namespace wirt::fuzz {

std::unique_ptr<Bench> make_bench() {
    return std::make_unique<VirtioBench>(VirtioBench::Transport::pci);
}

}  // namespace wirt::fuzz
