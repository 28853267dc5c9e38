#include "devices/hardware/e1000e/e1000e.h"

#include <bit>

#include "base/error.h"

namespace wirt::devices::hardware {

using namespace e1000e;

namespace {

constexpr u64 flash_bytes = 64 * KiB;
constexpr u64 io_bytes = 32;
// Capabilities in configuration space. The second version of the PCI Express one does not fit where the 82574
// has its first (9.3: 0xe0).
constexpr unsigned power_capability = 0xc8, msi_capability = 0xd0, express_capability = 0x40,
                   msix_capability = 0xa0;
constexpr unsigned msix_control = msix_capability + 2;
constexpr u32 msix_enable = 1u << 15;

// Kinds of deferred work; a queue's transmission is its number.
constexpr unsigned receive_work = 8, cable_work = 9;
// Frames that one task delivers.
constexpr unsigned frames_a_run = 64;

// 10.2.9: TIMINCA adds its low 24 bits once in as many of these as its high 8 bits say.
constexpr u64 time_unit_ns = 40;

bool is_ring_register(u32 offset, u32 first_ring, u32 which) {
    return offset == first_ring + which || offset == first_ring + ring_bytes + which;
}

}  // namespace

// 10.1: IOADDR chooses a register, IODATA reaches it. The lock order is this window's mutex, then the
// device's.
class E1000e::IoWindow final : public memory::MmioDevice {
  public:
    IoWindow(E1000e& owner, std::string name) : owner_(owner), name_(std::move(name)) {}
    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override {
        using enum memory::RegisterAccess;
        static constexpr memory::Register table[] = {
            {io_address, 4, rw, "IOADDR", 0, "82574 datasheet, 10.1"},
            {io_data, 4, rw, "IODATA", 0, "82574 datasheet, 10.1"},
        };
        return table;
    }
    u64 read(u64 offset, unsigned size) override {
        if (size != 4) return 0;
        if (offset == io_address) return address_;
        if (offset != io_data || address_ >= register_bytes) return 0;
        std::lock_guard lock(owner_.mutex());
        return owner_.read(address_ & ~u32{3}, 4);
    }
    void write(u64 offset, unsigned size, u64 value) override {
        if (size != 4) return;
        if (offset == io_address) address_ = static_cast<u32>(value);
        if (offset != io_data || address_ >= register_bytes) return;
        std::lock_guard lock(owner_.mutex());
        owner_.write(address_ & ~u32{3}, 4, value);
    }
    void reset() override { address_ = 0; }
    void visit_state(StateVisitor& v) override {
        v.section(name_, 1);
        v.field("IOADDR", address_);
    }

  private:
    static constexpr u32 io_address = 0, io_data = 4;

    E1000e& owner_;
    const std::string name_;
    u32 address_ = 0;
};

// A flash without content, which cannot be written: the NIC starts nobody.
class E1000e::FlashWindow final : public memory::MmioDevice {
  public:
    explicit FlashWindow(std::string name) : name_(std::move(name)) {}
    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override {
        static constexpr memory::Register table[] = {
            {0, flash_bytes, memory::RegisterAccess::ro, "flash", ~u64{0}, "82574 datasheet, 10.1"},
        };
        return table;
    }
    u64 read(u64, unsigned size) override { return ~u64{0} >> (64 - 8 * size); }
    void write(u64, unsigned, u64) override {}
    void reset() override {}
    void visit_state(StateVisitor&) override {}

  private:
    const std::string name_;
};

E1000e::E1000e(std::string name, std::shared_ptr<network::Port> port, const network::MacAddress& address,
               const Clock& clock, Deadlines& deadlines, Executor& executor)
    : PciDevice({.vendor = 0x8086,
                 .device = 0x10d3,
                 .revision = 0,
                 .class_code = 0x02'00'00,
                 .subsystem_vendor = 0x8086,
                 .subsystem = 0xa01f}),
      DeadlineSource(deadlines),
      name_(std::move(name)),
      port_(std::move(port)),
      clock_(clock),
      io_window_(std::make_unique<IoWindow>(*this, name_ + ".io")),
      flash_window_(std::make_unique<FlashWindow>(name_ + ".flash")),
      nvm_(address),
      interrupts_(registers_, *this, clock, counters_),
      transmitter_(registers_, interrupts_, counters_),
      receiver_(registers_, interrupts_, counters_),
      work_(executor, [this](unsigned kind) { run(kind); }) {
    if ((address[0] & 1) != 0 || address == network::MacAddress{}) {
        throw ConfigError(name_ + ": the MAC address must be a unicast address, such as 52:54:00:12:34:56");
    }
    add_bar(0, BarKind::memory32, register_bytes, *this);
    add_bar(1, BarKind::memory32, flash_bytes, *flash_window_);
    add_bar(2, BarKind::io, io_bytes, *io_window_);
    add_power_management(power_capability);
    add_msi(msi_capability);
    add_pci_express(express_capability);
    add_msix(msix_capability, 3, vector_count, name_ + ".msix");
    set_interrupt_pin(1);
    phy_.set_cable(port_ != nullptr && port_->link());
    reset();
    if (port_ == nullptr) return;
    port_->attach([this](network::FramePtr frame) { accept(std::move(frame)); }, receiver_.capabilities());
    port_->on_link_change([this] { work_.request(cable_work); });
}

E1000e::~E1000e() {
    retire();
    if (port_ != nullptr) {
        port_->attach(nullptr, {});
        port_->on_link_change(nullptr);
    }
    // Nothing asks for work any more; what was asked for refers to this device.
    work_.drain();
}

// ---------------------------------------------------------------- resets and the link

void E1000e::reset() {
    phy_.reset();
    time_origin_ = 0;
    system_time_high_ = 0;
    software_reset();
}

// 4.6: everything but the PHY, the NVM and configuration space. The station address is read from the NVM.
void E1000e::software_reset() {
    registers_.reset();
    transmitter_.reset();
    frame_has_waited_ = false;
    waiting_.clear();
    const network::MacAddress address = nvm_.address();
    registers_[RAL] = load_le<u32>(address.data());
    registers_[RAH] = load_le<u16>(address.data() + 4) | rah_av;
    link_up_ = (status() & status_lu) != 0;
    interrupts_.reset();
    update_capabilities();
}

u32 E1000e::status() const {
    const u32 control = registers_[CTRL];
    // 10.2.2: speed and duplex are what was negotiated, unless software forces them.
    const u32 speed = (control & ctrl_frcspd) != 0 ? bits(control, 8, 2) : 2;
    const bool full = (control & ctrl_frcdplx) == 0 || (control & ctrl_fd) != 0;
    const bool up = phy_.link() && (control & ctrl_slu) != 0;
    return registers_[STATUS] | (full ? status_fd : 0) | (up ? status_lu : 0) | speed << status_speed_shift |
           2u << status_asdv_shift |
           ((control & ctrl_gio_master_disable) == 0 ? status_gio_master_enable : 0);
}

// A link that came or went is told, as is one that was negotiated anew.
void E1000e::update_link(bool renegotiated) {
    const bool up = (status() & status_lu) != 0;
    if (up == link_up_ && !(renegotiated && up)) return;
    link_up_ = up;
    interrupts_.raise(icr_lsc);
    work_.request(receive_work);
}

void E1000e::look_at_cable() {
    std::lock_guard lock(mutex());
    phy_.set_cable(port_ != nullptr && port_->link());
    update_link(false);
}

void E1000e::update_capabilities() {
    if (port_ != nullptr) port_->set_capabilities(receiver_.capabilities());
}

bool E1000e::vectors_enabled() {
    return (config_read(msix_control, 2) & msix_enable) != 0;
}

// ---------------------------------------------------------------- registers

u64 E1000e::read(u64 offset, unsigned size) {
    const u32 at = static_cast<u32>(offset);
    if (size == 8) {
        const u64 low = read_register(at);
        return low | u64{read_register(at + 4)} << 32;
    }
    const u32 word = read_register(at & ~u32{3}) >> (8 * (at & 3));
    return size == 4 ? word : word & ((1u << (8 * size)) - 1);
}

// 10.2.1: registers are written as a whole.
void E1000e::write(u64 offset, unsigned size, u64 value) {
    if (size < 4) return;
    const u32 at = static_cast<u32>(offset);
    write_register(at, static_cast<u32>(value));
    if (size == 8) write_register(at + 4, static_cast<u32>(value >> 32));
}

u32 E1000e::read_register(u32 offset) {
    const RegisterSpec* spec = RegisterFile::find(offset);
    if (spec == nullptr || spec->access == memory::RegisterAccess::wo) {
        // What was caused can be seen without being cleared.
        return offset == ICS ? registers_[ICR] : 0;
    }
    switch (offset) {
        case CTRL_DUP:
            return registers_[CTRL];
        case STATUS:
            return status();
        case ICR:
            return interrupts_.read_causes();
        case SWSM: {
            // 10.2.3: the one who reads SMBI as 0 has it.
            const u32 value = registers_[SWSM];
            registers_[SWSM] |= swsm_smbi;
            return value;
        }
        case SYSTIML: {
            const u64 time = system_time();
            system_time_high_ = static_cast<u32>(time >> 32);
            return static_cast<u32>(time);
        }
        case SYSTIMH:
            return system_time_high_;
        case MPC:
            collect_missed();
            break;
        // 10.2.7: the low half is cleared with the high one.
        case GORCL + 4:
        case GOTCL + 4:
        case TORL + 4:
        case TOTL + 4:
            registers_[offset - 4] = 0;
            break;
        default:
            break;
    }
    const u32 value = registers_[offset];
    if (spec->access == memory::RegisterAccess::rc) registers_[offset] = 0;
    return value;
}

void E1000e::write_register(u32 offset, u32 value) {
    const RegisterSpec* spec = RegisterFile::find(offset);
    if (spec == nullptr) return;
    switch (offset) {
        case CTRL:
        case CTRL_DUP:
            return write_control(value);
        case STATUS:
            registers_[STATUS] &= value | ~status_phyra;
            return;
        case EEC:
            registers_.store(*spec, offset, value);
            // 10.2.2: the NVM is granted to whoever asks for it.
            registers_[EEC] = (registers_[EEC] & ~eec_ee_gnt) | ((value & eec_ee_req) != 0 ? eec_ee_gnt : 0);
            return;
        case EERD:
            registers_[EERD] = nvm_.read(value);
            return;
        case EEWR:
            registers_[EEWR] = nvm_.write(value);
            return;
        case MDIC:
            return write_mdic(value);
        case ICR:
            return interrupts_.clear_causes(value);
        case ICS:
            return interrupts_.raise(value);
        case IMS:
            return interrupts_.set_mask(value);
        case IMC:
            return interrupts_.clear_mask(value);
        case WUS:
            registers_[WUS] &= ~value;
            return;
        case SYSTIML:
        case SYSTIMH: {
            // The clock goes on from what is written.
            registers_[offset] = value;
            if (offset == SYSTIMH) time_origin_ = clock_.now_ns();
            return;
        }
        default:
            break;
    }
    registers_.store(*spec, offset, value);
    if (offset >= EITR && offset < EITR + 4 * vector_count) {
        interrupts_.interval_changed((offset - EITR) / 4);
    } else if (offset == ITR) {
        interrupts_.interval_changed(Interrupts::itr_timer);
    } else if (offset == RDTR && (value & delay_fpd) != 0) {
        interrupts_.flush_received();
    } else if (offset == TIDV && (value & delay_fpd) != 0) {
        interrupts_.flush_transmitted();
    } else if (is_ring_register(offset, TDBAL, TDT - TDBAL) ||
               is_ring_register(offset, TDBAL, TARC - TDBAL)) {
        DeviceCounters::add(counters_.notifications_received);
        work_.request(offset >= TDBAL + ring_bytes ? 1 : 0);
    } else if (offset == TCTL) {
        for (unsigned queue = 0; queue < queue_count; ++queue) work_.request(queue);
    } else if (is_ring_register(offset, RDBAL, RDT - RDBAL)) {
        DeviceCounters::add(counters_.notifications_received);
        if (!waiting_.empty()) work_.request(receive_work);
    } else if (offset == RCTL) {
        update_capabilities();
        if (!waiting_.empty()) work_.request(receive_work);
    }
}

void E1000e::write_control(u32 value) {
    u32 offset = CTRL;
    registers_.store(*RegisterFile::find(offset), CTRL, value);
    bool renegotiated = false;
    if ((value & ctrl_phy_rst) != 0) {
        phy_.reset();
        registers_[STATUS] |= status_phyra;
        renegotiated = true;
    }
    if ((value & ctrl_rst) != 0) software_reset();
    update_link(renegotiated);
}

// 10.2.2: an access to the PHY is done at once; one at an address where there is none is an error.
void E1000e::write_mdic(u32 value) {
    const unsigned number = bits(value, mdic_regadd_shift, 5);
    u32 result = (value & ~(mdic_ready | mdic_e)) | mdic_ready;
    bool changed = false;
    if (bits(value, mdic_phyadd_shift, 5) != Phy::address) {
        result |= mdic_e;
    } else if ((value & mdic_op) == mdic_op_read) {
        result = (result & ~u32{0xffff}) | phy_.read(number);
    } else if ((value & mdic_op) == mdic_op_write) {
        changed = phy_.write(number, static_cast<u16>(value));
    } else {
        result |= mdic_e;
    }
    registers_[MDIC] = result;
    if (changed) update_link(true);
    if ((value & mdic_i) != 0) interrupts_.raise(icr_mdac);
}

u64 E1000e::system_time() const {
    const u64 start = registers_[SYSTIML] | u64{registers_[SYSTIMH]} << 32;
    const u32 attributes = registers_[TIMINCA];
    const u64 period = attributes >> 24;
    if (period == 0) return start;
    return start + (clock_.now_ns() - time_origin_) / (time_unit_ns * period) * (attributes & 0xff'ffff);
}

// ---------------------------------------------------------------- frames

void E1000e::run(unsigned kind) {
    switch (kind) {
        case receive_work:
            return receive();
        case cable_work:
            return look_at_cable();
        default:
            return transmit(kind);
    }
}

void E1000e::transmit(unsigned queue) {
    std::vector<network::FramePtr> frames;
    bool connected, looped;
    {
        std::lock_guard lock(mutex());
        if (!transmitter_.enabled() || (registers_[CTRL] & ctrl_gio_master_disable) != 0) return;
        if (transmitter_.run(queue, dma(), frames)) work_.request(queue);
        looped = (registers_[RCTL] & rctl_lbm) == rctl_lbm_mac || phy_.loopback();
        connected = link_up_ && port_ != nullptr;
    }
    for (network::FramePtr& frame : frames) {
        if (looped) {
            network::OffloadCapabilities none;
            none.largest_frame = network::frame_limit;
            for (network::FramePtr& piece : network::adapt(std::move(frame), none)) accept(std::move(piece));
        } else if (connected) {
            port_->send(std::move(frame));
        }
    }
}

void E1000e::accept(network::FramePtr frame) {
    if (!waiting_.push(std::move(frame))) missed_.fetch_add(1, std::memory_order_relaxed);
    work_.request(receive_work);
}

void E1000e::collect_missed() {
    if (const u32 missed = missed_.exchange(0, std::memory_order_relaxed); missed != 0) {
        registers_.count(MPC, missed);
        registers_.count(ICRXOC);
        interrupts_.raise(icr_rxo);
    }
}

void E1000e::receive() {
    std::lock_guard lock(mutex());
    collect_missed();
    if (!receiver_.enabled() || !link_up_) {
        waiting_.clear();
        frame_has_waited_ = false;
        return;
    }
    if ((registers_[CTRL] & ctrl_gio_master_disable) != 0) return;
    const memory::DmaView view = dma();
    unsigned budget = frames_a_run;
    while (const network::FramePtr frame = waiting_.first()) {
        if (budget-- == 0) {
            work_.request(receive_work);
            break;
        }
        frame_has_waited_ = !receiver_.deliver(*frame, view, !frame_has_waited_);
        if (frame_has_waited_) break;
        waiting_.drop_first();
    }
    receiver_.notify();
}

void E1000e::on_deadline() {
    std::lock_guard lock(mutex());
    interrupts_.run_timers();
}

void E1000e::describe(DeviceDescription& out) {
    std::lock_guard lock(mutex());
    for (u32 queue = 0; queue < queue_count; ++queue) {
        const auto add = [&](const char* direction, u32 length, bool enabled) {
            const u32 size = registers_[length + queue * ring_bytes] / static_cast<u32>(Descriptor::bytes);
            out.queues.push_back({direction + std::to_string(queue), size, enabled && size != 0});
        };
        add("receive", RDLEN, receiver_.enabled());
        add("transmit", TDLEN, transmitter_.enabled());
    }
    const std::pair<const char*, bool> features[] = {
        {"extended receive descriptors", (registers_[RFCTL] & rfctl_exsten) != 0},
        {"packet split", (registers_[RCTL] & rctl_dtyp) == rctl_dtyp_split},
        {"receive-side scaling", (registers_[MRQC] & mrqc_enable) == mrqc_enable_rss},
        {"VLAN tags", (registers_[CTRL] & ctrl_vme) != 0},
        {"VLAN filter", (registers_[RCTL] & rctl_vfe) != 0},
        {"jumbo frames", (registers_[RCTL] & rctl_lpe) != 0},
        {"promiscuous", (registers_[RCTL] & rctl_upe) != 0},
    };
    for (const auto& [name, on] : features) {
        if (on) out.features.emplace_back(name);
    }
}

void E1000e::visit_state(StateVisitor& v) {
    v.section(name_, 2);
    registers_.visit_state(v);
    nvm_.visit_state(v);
    phy_.visit_state(v);
    transmitter_.visit_state(v);
    v.field("link_up", link_up_);
    v.field("time_origin", time_origin_);
    v.field("system_time_high", system_time_high_);
    v.field("frame_has_waited", frame_has_waited_);
    waiting_.visit_state(v);
    interrupts_.visit_state(v);
    v.field("missed", missed_);
    work_.visit_state(v, ((u64{1} << queue_count) - 1) | u64{1} << receive_work | u64{1} << cable_work);
    if (!v.loading()) return;
    update_capabilities();
    // The cable is that of this machine's port, and frames may have come while the state was saved.
    if (phy_.cable() != (port_ != nullptr && port_->link())) work_.request(cable_work);
    if (!waiting_.empty() && !v.quiet()) work_.request(receive_work);
}

}  // namespace wirt::devices::hardware
