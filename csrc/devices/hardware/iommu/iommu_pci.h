// The IOMMU as a function of the PCI bus: configuration space in front of the same registers.
//
// Implements: RISC-V IOMMU Architecture Specification 1.0, 8.1 (integrating an IOMMU as a PCIe device); PCI
// Local Bus 3.0, 6.8.2 (MSI-X), whose table is msi_cfg_tbl in BAR 0. The identity 1b36:0014 is that of QEMU's
// riscv-iommu-pci, which Linux knows.
//
// Untrusted input: every configuration write.
#pragma once

#include <atomic>

#include "devices/hardware/iommu/iommu.h"
#include "devices/hardware/pci_device.h"

namespace wirt::devices::hardware {

class IommuPci final : public PciDevice {
  public:
    // `iommu` must outlive the function and signal by messages only.
    explicit IommuPci(Iommu& iommu);

    void reset_function() override;
    void visit_function_state(StateVisitor& v) override;

  protected:
    void function_level_reset() override;
    void configured(u32 offset, unsigned size) override;

  private:
    void update_gate();

    Iommu& iommu_;
    // What the IOMMU asks with its own lock held, so that it takes no lock of the function's.
    std::atomic<bool> messages_open_{false};
};

}  // namespace wirt::devices::hardware
