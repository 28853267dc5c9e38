// The capabilities of a PCI function other than messages: the lists, power management, PCI Express, and the
// function-level reset that the last one brings.
#include <cstring>
#include <set>

#include "base/error.h"
#include "devices/hardware/pci_config.h"
#include "devices/hardware/pci_device.h"

namespace wirt::devices::hardware {

using namespace pci;

unsigned PciDevice::add_capability(unsigned offset, u8 id, unsigned length) {
    if (offset < first_capability || offset % 4 != 0 || offset + length > first_extended_capability) {
        throw ConfigError("a PCI capability must lie at a multiple of 4 between 0x40 and 0xff");
    }
    define(offset, 2, id, 0);
    define(last_capability_ == 0 ? +capabilities_pointer : last_capability_ + 1, 1, offset, 0);
    define(status, 1, status_capabilities, 0);
    last_capability_ = offset;
    return offset;
}

// 7.9.3: a header of ID, version and the offset of the next; the list begins at 0x100.
unsigned PciDevice::add_extended_capability(unsigned offset, u16 id, unsigned version, unsigned length) {
    if ((last_extended_ == 0) != (offset == first_extended_capability) || offset % 4 != 0 ||
        offset < first_extended_capability || offset + length > config_space_bytes) {
        throw ConfigError("extended PCI capabilities lie at multiples of 4, the first at 0x100");
    }
    define(offset, 4, id | version << 16, 0);
    if (last_extended_ != 0) {
        define(last_extended_, 4, load(last_extended_, 4) | offset << 20, 0);
    }
    last_extended_ = offset;
    return offset;
}

void PciDevice::add_power_management(unsigned offset) {
    power_ = add_capability(offset, capability_power, power_bytes);
    define(power_ + power_capabilities, 2, power_version_1_2, 0);
    define(power_ + power_control, 2, power_no_soft_reset, power_state_mask);
}

void PciDevice::add_pci_express(unsigned offset, PcieKind kind) {
    express_ = add_capability(offset, capability_express, express_bytes);
    define(express_ + express_capabilities, 2,
           express_version_2 | static_cast<u32>(kind) << express_type_shift, 0);
    // A payload of 128 bytes at most, so that Max_Payload_Size is hardwired (7.8.4).
    define(express_ + express_device_capabilities, 4,
           device_role_based_errors | (kind == PcieKind::root_port ? 0 : device_flr_capable), 0);
    define(express_ + express_device_control, 2,
           device_relaxed_ordering | device_no_snoop | 2u << device_read_request_shift,
           device_error_reporting | device_relaxed_ordering | device_no_snoop | device_read_request_mask);
    if (kind == PcieKind::root_complex_endpoint) return;
    define(express_ + express_link_capabilities, 4, link_speed_2_5 | link_width_1, 0);
    define(express_ + express_link_control, 2, 0, link_aspm | link_common_clock | link_extended_synch);
    define(express_ + express_link_status, 2, link_speed_2_5 | link_width_1, 0);
}

// 7.8.2, 7.8.6: what is built into the root complex has no link.
void PciDevice::integrate_into_root_complex() {
    if (express_ == 0) return;
    const u32 capabilities = load(express_ + express_capabilities, 2);
    if ((capabilities & express_type_mask) != 0) return;
    const u32 type = static_cast<u32>(PcieKind::root_complex_endpoint) << express_type_shift;
    define(express_ + express_capabilities, 2, capabilities | type, 0);
    define(express_ + express_link_capabilities, 4, 0, 0);
    define(express_ + express_link_control, 2, 0, 0);
    define(express_ + express_link_status, 2, 0, 0);
}

u32 PciDevice::power_state() const {
    return power_ == 0 ? u32{power_d0} : load(power_ + power_control, 2) & power_state_mask;
}

bool PciDevice::initiates_flr(u32 offset, unsigned size, u32 value) const {
    if (express_ == 0 || (load(express_ + express_device_capabilities, 4) & device_flr_capable) == 0) {
        return false;
    }
    const u32 at = express_ + express_device_control + 1;
    return offset <= at && at < offset + size &&
           (value >> (8 * (at - offset)) & (device_initiate_flr >> 8)) != 0;
}

void PciDevice::flr() {
    {
        std::lock_guard lock(config_mutex_);
        // 6.6.2: what belongs to the link stays. Max_Payload_Size would, too, if it were not hardwired.
        const u32 link = load(express_ + express_link_control, 2);
        config_ = reset_;
        store(express_ + express_link_control, 2, link);
        intx_level_ = false;
        msi_pending_ = 0;
        apply();
    }
    function_level_reset();
}

// A device may show the same registers behind two BARs.
void PciDevice::function_level_reset() {
    std::set<memory::MmioDevice*> done;
    for (const Bar& bar : bars_) {
        if (bar.target == nullptr || !done.insert(bar.target).second) continue;
        std::lock_guard lock(bar.target->mutex());
        bar.target->reset();
    }
}

}  // namespace wirt::devices::hardware
