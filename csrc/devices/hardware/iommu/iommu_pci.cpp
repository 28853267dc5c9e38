#include "devices/hardware/iommu/iommu_pci.h"

namespace wirt::devices::hardware {

namespace {

constexpr unsigned msix = 0x40, power_management = 0x50, pci_express = 0x60;
constexpr u8 capability_msix = 0x11;
constexpr unsigned msix_control = msix + 2, msix_table = msix + 4, msix_pending = msix + 8, msix_bytes = 12;
constexpr u16 msix_function_mask = 1 << 14, msix_enable = 1 << 15;

}  // namespace

IommuPci::IommuPci(Iommu& iommu)
    : PciDevice({.vendor = 0x1b36,
                 .device = 0x0014,
                 .revision = 0,
                 .class_code = 0x08'06'00,
                 .subsystem_vendor = 0x1af4,
                 .subsystem = 0x1100}),
      iommu_(iommu) {
    add_bar(0, BarKind::memory64, Iommu::region_size, iommu);
    add_capability(msix, capability_msix, msix_bytes);
    define(msix_control, 2, Iommu::vectors - 1, msix_enable | msix_function_mask);
    define(msix_table, 4, Iommu::message_table, 0);
    define(msix_pending, 4, Iommu::pending_messages, 0);
    add_power_management(power_management);
    add_pci_express(pci_express);
    iommu.set_message_gate([this] { return messages_open_.load(std::memory_order_acquire); });
}

void IommuPci::update_gate() {
    const u32 control = config_read(msix_control, 2);
    const bool open = (control & msix_enable) != 0 && (control & msix_function_mask) == 0 && masters_bus();
    messages_open_.store(open, std::memory_order_release);
    if (open) iommu_.release_messages();
}

void IommuPci::configured(u32, unsigned) {
    update_gate();
}

void IommuPci::reset_function() {
    messages_open_.store(false, std::memory_order_release);
    PciDevice::reset_function();
}

void IommuPci::function_level_reset() {
    messages_open_.store(false, std::memory_order_release);
    PciDevice::function_level_reset();
}

void IommuPci::visit_function_state(StateVisitor& v) {
    PciDevice::visit_function_state(v);
    if (v.loading()) update_gate();
}

}  // namespace wirt::devices::hardware
