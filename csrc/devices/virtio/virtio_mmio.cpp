#include "devices/virtio/virtio_mmio.h"

#include <array>

namespace wirt::devices::virtio {

namespace {

using memory::Register;
using memory::RegisterAccess;

// Table 4.1 of section 4.2.2.
enum : u32 {
    MagicValue = 0x000,
    Version = 0x004,
    DeviceID = 0x008,
    VendorID = 0x00c,
    DeviceFeatures = 0x010,
    DeviceFeaturesSel = 0x014,
    DriverFeatures = 0x020,
    DriverFeaturesSel = 0x024,
    QueueSel = 0x030,
    QueueNumMax = 0x034,
    QueueNum = 0x038,
    QueueReady = 0x044,
    QueueNotify = 0x050,
    InterruptStatus = 0x060,
    InterruptACK = 0x064,
    Status = 0x070,
    QueueDescLow = 0x080,
    QueueDescHigh = 0x084,
    QueueDriverLow = 0x090,
    QueueDriverHigh = 0x094,
    QueueDeviceLow = 0x0a0,
    QueueDeviceHigh = 0x0a4,
    SHMSel = 0x0ac,
    SHMLenLow = 0x0b0,
    SHMLenHigh = 0x0b4,
    SHMBaseLow = 0x0b8,
    SHMBaseHigh = 0x0bc,
    QueueReset = 0x0c0,
    ConfigGeneration = 0x0fc,
    Config = 0x100,
};

constexpr u32 magic = 0x74726976;   // "virt"
constexpr u32 vendor = 0x54524957;  // "WIRT"
constexpr const char* cite = "virtio 1.2, 4.2.2";

constexpr auto ro = RegisterAccess::ro;
constexpr auto rw = RegisterAccess::rw;
constexpr auto wo = RegisterAccess::wo;

constexpr std::array<Register, 30> register_table{{
    {MagicValue, 4, ro, "MagicValue", magic, cite},
    {Version, 4, ro, "Version", 2, cite},
    {DeviceID, 4, ro, "DeviceID", 0, cite},
    {VendorID, 4, ro, "VendorID", vendor, cite},
    {DeviceFeatures, 4, ro, "DeviceFeatures", 0, cite},
    {DeviceFeaturesSel, 4, wo, "DeviceFeaturesSel", 0, cite},
    {DriverFeatures, 4, wo, "DriverFeatures", 0, cite},
    {DriverFeaturesSel, 4, wo, "DriverFeaturesSel", 0, cite},
    {QueueSel, 4, wo, "QueueSel", 0, cite},
    {QueueNumMax, 4, ro, "QueueNumMax", 0, cite},
    {QueueNum, 4, wo, "QueueNum", 0, cite},
    {QueueReady, 4, rw, "QueueReady", 0, cite},
    {QueueNotify, 4, wo, "QueueNotify", 0, cite},
    {InterruptStatus, 4, ro, "InterruptStatus", 0, cite},
    {InterruptACK, 4, wo, "InterruptACK", 0, cite},
    {Status, 4, rw, "Status", 0, cite},
    {QueueDescLow, 4, wo, "QueueDescLow", 0, cite},
    {QueueDescHigh, 4, wo, "QueueDescHigh", 0, cite},
    {QueueDriverLow, 4, wo, "QueueDriverLow", 0, cite},
    {QueueDriverHigh, 4, wo, "QueueDriverHigh", 0, cite},
    {QueueDeviceLow, 4, wo, "QueueDeviceLow", 0, cite},
    {QueueDeviceHigh, 4, wo, "QueueDeviceHigh", 0, cite},
    {SHMSel, 4, wo, "SHMSel", 0, cite},
    {SHMLenLow, 4, ro, "SHMLenLow", 0xffffffff, cite},
    {SHMLenHigh, 4, ro, "SHMLenHigh", 0xffffffff, cite},
    {SHMBaseLow, 4, ro, "SHMBaseLow", 0xffffffff, cite},
    {SHMBaseHigh, 4, ro, "SHMBaseHigh", 0xffffffff, cite},
    {QueueReset, 4, rw, "QueueReset", 0, cite},
    {ConfigGeneration, 4, ro, "ConfigGeneration", 0, cite},
    {Config, 128, rw, "Config", 0, cite},
}};

}  // namespace

VirtioMmio::VirtioMmio(std::string name, std::unique_ptr<VirtioDevice> device, memory::DmaView dma,
                       InterruptLine line, VirtioOptions options)
    : VirtioTransport(std::move(device), mutex(), options), name_(std::move(name)), dma_(dma), line_(line) {}

VirtioMmio::~VirtioMmio() {
    shutdown();
}

std::span<const Register> VirtioMmio::registers() const {
    return register_table;
}

void VirtioMmio::interrupt(u8 reason, unsigned) {
    interrupt_status_ |= reason;
    line_.set(true);
}

u64 VirtioMmio::read(u64 offset, unsigned size) {
    if (offset >= Config) return device() ? core().read_config(offset - Config, size) : 0;
    // 4.2.2.2: control registers are 32 bits wide.
    return size == 4 ? read_register(offset) : 0;
}

void VirtioMmio::write(u64 offset, unsigned size, u64 value) {
    if (!device()) return;
    if (offset >= Config) {
        core().write_config(offset - Config, size, value);
    } else if (size == 4) {
        write_register(offset, static_cast<u32>(value));
    }
}

u64 VirtioMmio::read_register(u64 offset) {
    switch (offset) {
        case MagicValue:
            return magic;
        case Version:
            return 2;
        case DeviceID:
            return device() ? device()->device_id() : 0;
        default:
            break;
    }
    if (!device()) return 0;
    switch (offset) {
        case VendorID:
            return vendor;
        case DeviceFeatures:
            return core().offered_features(device_features_sel_);
        case QueueNumMax:
            return core().queue_size_max(queue_sel_);
        case QueueReady:
            return core().queue_ready(queue_sel_);
        case QueueReset:
            return core().queue_resetting(queue_sel_);
        case InterruptStatus:
            return interrupt_status_;
        case Status:
            return core().status();
        // 4.2.2: a shared memory region that does not exist has a length of -1; no device here has one.
        case SHMLenLow:
        case SHMLenHigh:
        case SHMBaseLow:
        case SHMBaseHigh:
            return 0xffffffff;
        case ConfigGeneration:
            return core().config_generation();
        default:
            return 0;
    }
}

void VirtioMmio::write_register(u64 offset, u32 value) {
    switch (offset) {
        case DeviceFeaturesSel:
            device_features_sel_ = value;
            break;
        case DriverFeaturesSel:
            driver_features_sel_ = value;
            break;
        case DriverFeatures:
            core().set_driver_features(driver_features_sel_, value);
            break;
        case QueueSel:
            queue_sel_ = value;
            break;
        case QueueNum:
            if (value <= 0xffff) core().set_queue_size(queue_sel_, static_cast<u16>(value));
            break;
        case QueueReady:
            core().set_queue_ready(queue_sel_, value & 1);
            break;
        // 4.2.3.3: the value is the queue's index, and with VIRTIO_F_NOTIFICATION_DATA what follows it says
        // how far the driver has come, which the ring says as well.
        case QueueNotify:
            core().notify(core().negotiated(feature_notification_data) ? value & 0xffff : value);
            break;
        case InterruptACK:
            interrupt_status_ &= ~value;
            line_.set(interrupt_status_ != 0);
            break;
        case Status:
            core().set_status(static_cast<u8>(value));
            // 4.2.2.1: a reset clears InterruptStatus.
            if (value == 0) {
                interrupt_status_ = 0;
                line_.set(false);
            }
            break;
        case QueueDescLow:
            core().set_queue_area(queue_sel_, &QueueConfig::descriptor_area, false, value);
            break;
        case QueueDescHigh:
            core().set_queue_area(queue_sel_, &QueueConfig::descriptor_area, true, value);
            break;
        case QueueDriverLow:
            core().set_queue_area(queue_sel_, &QueueConfig::driver_area, false, value);
            break;
        case QueueDriverHigh:
            core().set_queue_area(queue_sel_, &QueueConfig::driver_area, true, value);
            break;
        case QueueDeviceLow:
            core().set_queue_area(queue_sel_, &QueueConfig::device_area, false, value);
            break;
        case QueueDeviceHigh:
            core().set_queue_area(queue_sel_, &QueueConfig::device_area, true, value);
            break;
        case QueueReset:
            if (value == 1) core().reset_queue(queue_sel_);
            break;
        // SHMSel needs a device with shared memory.
        default:
            break;
    }
}

void VirtioMmio::reset() {
    if (!device()) return;
    core().power_on_reset();
    device_features_sel_ = driver_features_sel_ = queue_sel_ = interrupt_status_ = 0;
    line_.set(false);
}

void VirtioMmio::visit_state(StateVisitor& v) {
    v.section(name_, 1);
    v.field("device_features_sel", device_features_sel_);
    v.field("driver_features_sel", driver_features_sel_);
    v.field("queue_sel", queue_sel_);
    v.field("interrupt_status", interrupt_status_);
    visit_core_and_device(v, name_);
    if (!v.loading()) return;
    interrupt_status_ &= device() ? isr_used_buffer | isr_config_change : 0;
    line_.set(interrupt_status_ != 0);
}

}  // namespace wirt::devices::virtio
