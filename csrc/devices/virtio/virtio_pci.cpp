#include "devices/virtio/virtio_pci.h"

#include <algorithm>

namespace wirt::devices::virtio {

namespace {

using memory::Register;
using enum memory::RegisterAccess;

// struct virtio_pci_common_cfg (4.1.4.3).
enum CommonField : u32 {
    device_feature_select = 0x00,
    device_feature = 0x04,
    driver_feature_select = 0x08,
    driver_feature = 0x0c,
    config_msix_vector = 0x10,
    num_queues = 0x12,
    device_status = 0x14,
    config_generation = 0x15,
    queue_select = 0x16,
    queue_size_field = 0x18,
    queue_msix_vector = 0x1a,
    queue_enable = 0x1c,
    queue_notify_off = 0x1e,
    queue_desc = 0x20,
    queue_driver = 0x28,
    queue_device = 0x30,
    queue_notify_data = 0x38,
    queue_reset = 0x3a,
};
constexpr u32 common_bytes = 0x3c;

// The structures in BAR 0.
constexpr unsigned structures_bar = 0, msix_bar = 1;
constexpr u32 common_offset = 0x0000, isr_offset = 0x1000, device_offset = 0x2000, notify_offset = 0x3000;
constexpr u32 structure_bytes = 0x1000;
// 4.1.4.4: a doorbell of its own for each queue, wide enough for VIRTIO_F_NOTIFICATION_DATA.
constexpr u32 notify_off_multiplier = 4;

constexpr u16 no_vector = 0xffff;

constexpr const char* common_cite = "virtio 1.2, 4.1.4.3";
constexpr Register common_registers[] = {
    {device_feature_select, 4, rw, "device_feature_select", 0, common_cite},
    {device_feature, 4, ro, "device_feature", 0, common_cite},
    {driver_feature_select, 4, rw, "driver_feature_select", 0, common_cite},
    {driver_feature, 4, rw, "driver_feature", 0, common_cite},
    {config_msix_vector, 2, rw, "config_msix_vector", no_vector, common_cite},
    {num_queues, 2, ro, "num_queues", 0, common_cite},
    {device_status, 1, rw, "device_status", 0, common_cite},
    {config_generation, 1, ro, "config_generation", 0, common_cite},
    {queue_select, 2, rw, "queue_select", 0, common_cite},
    {queue_size_field, 2, rw, "queue_size", 0, common_cite},
    {queue_msix_vector, 2, rw, "queue_msix_vector", no_vector, common_cite},
    {queue_enable, 2, rw, "queue_enable", 0, common_cite},
    {queue_notify_off, 2, ro, "queue_notify_off", 0, common_cite},
    {queue_desc, 8, rw, "queue_desc", 0, common_cite},
    {queue_driver, 8, rw, "queue_driver", 0, common_cite},
    {queue_device, 8, rw, "queue_device", 0, common_cite},
    {queue_notify_data, 2, ro, "queue_notify_data", 0, common_cite},
    {queue_reset, 2, rw, "queue_reset", 0, common_cite},
};

// Capabilities (4.1.4), at their places in configuration space.
constexpr u8 vendor_capability = 0x09;
constexpr unsigned msix_at = 0x40, common_at = 0x50, isr_at = 0x60, device_at = 0x70, notify_at = 0x80,
                   window_at = 0x98, power_at = 0xb0, express_at = 0xc0;
enum StructureType : u8 {
    COMMON_CFG = 1,
    NOTIFY_CFG = 2,
    ISR_CFG = 3,
    DEVICE_CFG = 4,
    PCI_CFG = 5,
};
// struct virtio_pci_cap, and what follows it in some.
constexpr unsigned cap_len = 2, cap_cfg_type = 3, cap_bar = 4, cap_offset = 8, cap_length = 12,
                   cap_bytes = 16;
constexpr unsigned window_data = window_at + cap_bytes;

// By virtio device ID (chapter 5), as PCI knows such devices.
u32 class_of(u32 device_id) {
    switch (device_id) {
        case 1:
            return 0x02'00'00;  // Ethernet controller
        case 2:
            return 0x01'80'00;  // mass storage controller
        case 3:
            return 0x07'80'00;  // communication controller
        case 16:
            return 0x03'80'00;  // display controller
        case 18:
            return 0x09'80'00;  // input device controller
        default:
            return 0xff'00'00;
    }
}

// The field that an access of `size` bytes is for; null for an access of another width than the field's. A
// 64-bit field is also its two halves (4.1.3.2).
const Register* common_field(u64 offset, unsigned size) {
    const auto hit = std::find_if(std::begin(common_registers), std::end(common_registers), [&](auto& field) {
        const bool whole = offset == field.offset && size == field.width;
        const bool half = field.width == 8 && size == 4 && offset - field.offset < 8 && offset % 4 == 0;
        return whole || half;
    });
    return hit == std::end(common_registers) ? nullptr : hit;
}

u64 QueueConfig::*area_of(u32 field) {
    return field == queue_desc     ? &QueueConfig::descriptor_area
           : field == queue_driver ? &QueueConfig::driver_area
                                   : &QueueConfig::device_area;
}

}  // namespace

// 4.1.2.1: revision 1 and a subsystem device ID above 0x40 keep legacy drivers away.
VirtioPci::VirtioPci(std::string name, std::unique_ptr<VirtioDevice> device, VirtioOptions options)
    : PciDevice({.vendor = 0x1af4,
                 .device = static_cast<u16>(0x1040 + device->device_id()),
                 .revision = 1,
                 .class_code = class_of(device->device_id()),
                 .subsystem_vendor = 0x1af4,
                 .subsystem = 0x1100}),
      VirtioTransport(std::move(device), mutex(), options),
      name_(std::move(name)),
      vectors_(core().queue_count() + 1),
      config_vector_(no_vector),
      queue_vectors_(core().queue_count(), no_vector) {
    registers_.assign(std::begin(common_registers), std::end(common_registers));
    registers_.push_back({isr_offset, 1, rc, "ISR status", 0, "virtio 1.2, 4.1.4.5"});
    registers_.push_back(
        {device_offset, structure_bytes, rw, "device configuration", 0, "virtio 1.2, 4.1.4.6"});
    notify_names_.reserve(core().queue_count());  // registers_ points into it
    for (u32 queue = 0; queue < core().queue_count(); ++queue) {
        notify_names_.push_back("notify " + std::to_string(queue));
        registers_.push_back({notify_offset + queue * notify_off_multiplier, notify_off_multiplier, wo,
                              notify_names_.back().c_str(), 0, "virtio 1.2, 4.1.4.4"});
    }

    add_bar(structures_bar, hardware::BarKind::memory32, region_size, *this);
    set_interrupt_pin(1);
    add_msix(msix_at, msix_bar, vectors_, name_ + ".msix");
    add_structures();
    add_power_management(power_at);
    add_pci_express(express_at);
}

VirtioPci::~VirtioPci() {
    shutdown();
}

void VirtioPci::add_structures() {
    const auto add = [this](unsigned at, StructureType type, unsigned extra, u32 offset, u32 length) {
        add_capability(at, vendor_capability, cap_bytes + extra);
        define(at + cap_len, 1, cap_bytes + extra, 0);
        define(at + cap_cfg_type, 1, type, 0);
        define(at + cap_bar, 1, structures_bar, type == PCI_CFG ? 0xff : 0);
        define(at + cap_offset, 4, offset, type == PCI_CFG ? ~u32{0} : 0);
        define(at + cap_length, 4, length, type == PCI_CFG ? ~u32{0} : 0);
    };
    add(common_at, COMMON_CFG, 0, common_offset, common_bytes);
    add(isr_at, ISR_CFG, 0, isr_offset, 1);
    // A page also where a device's own fields are fewer or none: the rest reads as zero.
    add(device_at, DEVICE_CFG, 0, device_offset, structure_bytes);
    add(notify_at, NOTIFY_CFG, 4, notify_offset, core().queue_count() * notify_off_multiplier);
    define(notify_at + cap_bytes, 4, notify_off_multiplier, 0);
    add(window_at, PCI_CFG, 4, 0, 0);
    define(window_data, 4, 0, ~u32{0});
}

// --- VIRTIO_PCI_CAP_PCI_CFG (4.1.4.9) ---

// What the driver must keep to is checked: an access inside the BAR of the structures, and aligned.
std::optional<VirtioPci::Window> VirtioPci::window() {
    const u32 bar = PciDevice::config_read(window_at + cap_bar, 1);
    const u32 offset = PciDevice::config_read(window_at + cap_offset, 4);
    const u32 length = PciDevice::config_read(window_at + cap_length, 4);
    if (bar != structures_bar || (length != 1 && length != 2 && length != 4)) return std::nullopt;
    if (offset % length != 0 || offset >= region_size) return std::nullopt;
    return Window{offset, length};
}

u32 VirtioPci::config_read(u32 offset, unsigned size) {
    if (offset >= window_data && offset < window_data + 4) {
        std::lock_guard lock(mutex());
        if (const auto at = window()) {
            PciDevice::config_write(window_data, at->length, static_cast<u32>(read(at->offset, at->length)));
        }
    }
    return PciDevice::config_read(offset, size);
}

void VirtioPci::config_write(u32 offset, unsigned size, u32 value) {
    PciDevice::config_write(offset, size, value);
    if (offset >= window_data && offset < window_data + 4) {
        std::lock_guard lock(mutex());
        if (const auto at = window())
            write(at->offset, at->length, PciDevice::config_read(window_data, at->length));
    }
}

// --- registers ---

u64 VirtioPci::read(u64 offset, unsigned size) {
    switch (offset & ~u64{structure_bytes - 1}) {
        case common_offset:
            return read_common(offset, size);
        case isr_offset:
            return offset == isr_offset ? read_isr() : 0;
        case device_offset:
            return core().read_config(offset - device_offset, size);
        default:
            return 0;
    }
}

void VirtioPci::write(u64 offset, unsigned size, u64 value) {
    switch (offset & ~u64{structure_bytes - 1}) {
        case common_offset:
            write_common(offset, size, value);
            break;
        case device_offset:
            core().write_config(offset - device_offset, size, value);
            break;
        case notify_offset:
            // 4.1.5.2: 16 bits, or 32 with VIRTIO_F_NOTIFICATION_DATA; the address says which queue it is.
            if ((size == 2 || size == 4) && offset % notify_off_multiplier == 0)
                core().notify(static_cast<unsigned>((offset - notify_offset) / notify_off_multiplier));
            break;
        default:
            break;
    }
}

// 4.1.4.5: reading clears, and takes the interrupt back.
u32 VirtioPci::read_isr() {
    const u8 value = isr_;
    isr_ = 0;
    set_intx(false);
    return value;
}

// On reset the largest there may be; the driver may make it smaller. 0: there is no such queue.
u16 VirtioPci::queue_size() const {
    const QueueConfig* queue = core().queue_config(queue_select_);
    return queue != nullptr && queue->size != 0 ? queue->size : core().queue_size_max(queue_select_);
}

// 4.1.5.1.2: a vector that there is not is shown as none.
u16 VirtioPci::valid_vector(u64 vector) const {
    return vector < vectors_ ? static_cast<u16>(vector) : no_vector;
}

u64 VirtioPci::read_common(u64 offset, unsigned size) {
    const Register* field = common_field(offset, size);
    if (field == nullptr) return 0;
    const bool exists = queue_select_ < queue_vectors_.size();
    switch (field->offset) {
        case device_feature_select:
            return device_feature_select_;
        case device_feature:
            return core().offered_features(device_feature_select_);
        case driver_feature_select:
            return driver_feature_select_;
        case driver_feature:
            return core().driver_features(driver_feature_select_);
        case config_msix_vector:
            return config_vector_;
        case num_queues:
            return core().queue_count();
        case device_status:
            return core().status();
        case config_generation:
            return core().config_generation() & 0xff;
        case queue_select:
            return queue_select_;
        case queue_size_field:
            return queue_size();
        case queue_msix_vector:
            return exists ? queue_vectors_[queue_select_] : no_vector;
        case queue_enable:
            return core().queue_ready(queue_select_);
        case queue_notify_off:
            return exists ? queue_select_ : 0;
        case queue_desc:
        case queue_driver:
        case queue_device: {
            const QueueConfig* queue = core().queue_config(queue_select_);
            const u64 address = queue == nullptr ? 0 : queue->*area_of(field->offset);
            const u64 part = address >> (8 * (offset - field->offset));
            return size == 8 ? part : part & 0xffffffff;
        }
        case queue_reset:
            return core().queue_resetting(queue_select_);
        // queue_notify_data needs VIRTIO_F_NOTIF_CONFIG_DATA, which is not offered.
        default:
            return 0;
    }
}

void VirtioPci::write_common(u64 offset, unsigned size, u64 value) {
    const Register* field = common_field(offset, size);
    if (field == nullptr) return;
    switch (field->offset) {
        case device_feature_select:
            device_feature_select_ = static_cast<u32>(value);
            break;
        case driver_feature_select:
            driver_feature_select_ = static_cast<u32>(value);
            break;
        case driver_feature:
            core().set_driver_features(driver_feature_select_, static_cast<u32>(value));
            break;
        case config_msix_vector:
            config_vector_ = valid_vector(value);
            break;
        case device_status:
            core().set_status(static_cast<u8>(value));
            if ((value & 0xff) == 0) forget_registers();
            break;
        case queue_select:
            queue_select_ = static_cast<u16>(value);
            break;
        case queue_size_field:
            core().set_queue_size(queue_select_, static_cast<u16>(value));
            break;
        case queue_msix_vector:
            if (queue_select_ < queue_vectors_.size()) queue_vectors_[queue_select_] = valid_vector(value);
            break;
        case queue_enable:
            // 4.1.4.3.2: the driver never writes 0.
            if (value != 1) break;
            // A driver that is content with the size offered need not write it.
            core().set_queue_size(queue_select_, queue_size());
            core().set_queue_ready(queue_select_, true);
            break;
        case queue_desc:
        case queue_driver:
        case queue_device: {
            u64 QueueConfig::*const area = area_of(field->offset);
            const bool high = offset != field->offset;
            core().set_queue_area(queue_select_, area, high, static_cast<u32>(value));
            if (size == 8) core().set_queue_area(queue_select_, area, true, static_cast<u32>(value >> 32));
            break;
        }
        case queue_reset:
            if (value == 1) core().reset_queue(queue_select_);
            break;
        default:
            break;
    }
}

// --- interrupts (4.1.5.3, 4.1.5.4) ---

void VirtioPci::interrupt(u8 reason, unsigned queue) {
    const bool config = reason == isr_config_change;
    if (messages_enabled()) {
        // 4.1.4.5.1: this bit of the ISR status is set even where nothing asks for it.
        if (config) isr_ |= isr_config_change;
        const u16 vector = config ? config_vector_ : queue_vectors_[queue];
        if (vector != no_vector) notify(vector);
    } else {
        isr_ |= reason;
        set_intx(true);
    }
}

// --- reset and state ---

// 4.1.5.1.2.1: all events are unmapped upon reset; 4.1.4.3.1 and 4.1.4.5 give the rest.
void VirtioPci::forget_registers() {
    device_feature_select_ = driver_feature_select_ = queue_select_ = 0;
    config_vector_ = no_vector;
    std::fill(queue_vectors_.begin(), queue_vectors_.end(), no_vector);
    isr_ = 0;
    set_intx(false);
}

void VirtioPci::reset() {
    core().power_on_reset();
    forget_registers();
}

void VirtioPci::visit_state(StateVisitor& v) {
    v.section(name_, 1);
    v.field("device_feature_select", device_feature_select_);
    v.field("driver_feature_select", driver_feature_select_);
    v.field("queue_select", queue_select_);
    v.field("config_msix_vector", config_vector_);
    for (u16& vector : queue_vectors_) v.field("queue_msix_vector", vector);
    v.field("isr", isr_);
    if (v.loading()) {
        config_vector_ = valid_vector(config_vector_);
        for (u16& vector : queue_vectors_) vector = valid_vector(vector);
        isr_ &= isr_used_buffer | isr_config_change;
    }
    visit_core_and_device(v, name_);
}

}  // namespace wirt::devices::virtio
