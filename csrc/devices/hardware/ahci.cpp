#include "devices/hardware/ahci.h"

#include <algorithm>

#include "base/error.h"
#include "devices/hardware/ahci_registers.h"

namespace wirt::devices::hardware {

using namespace ahci;

namespace {

constexpr u64 abar_bytes = 0x1000;
constexpr u32 version_1_3_1 = 0x0001'0301;
constexpr u32 capabilities = cap_s64a | cap_sncq | cap_sclo | cap_iss_gen3 | cap_sam | cap_pmd | cap_ncs_32;

using enum memory::RegisterAccess;

constexpr memory::Register host_registers[] = {
    {CAP, 4, ro, "CAP", capabilities, "AHCI 1.3.1, 3.1.1"},
    {GHC, 4, rw, "GHC", ghc_ae, "AHCI 1.3.1, 3.1.2"},
    {IS, 4, w1c, "IS", 0, "AHCI 1.3.1, 3.1.3"},
    {PI, 4, ro, "PI", 0, "AHCI 1.3.1, 3.1.4"},
    {VS, 4, ro, "VS", version_1_3_1, "AHCI 1.3.1, 3.1.5"},
    {CCC_CTL, 4, ro, "CCC_CTL", 0, "AHCI 1.3.1, 3.1.6"},
    {CCC_PORTS, 4, ro, "CCC_PORTS", 0, "AHCI 1.3.1, 3.1.7"},
    {EM_LOC, 4, ro, "EM_LOC", 0, "AHCI 1.3.1, 3.1.8"},
    {EM_CTL, 4, ro, "EM_CTL", 0, "AHCI 1.3.1, 3.1.9"},
    {CAP2, 4, ro, "CAP2", 0, "AHCI 1.3.1, 3.1.10"},
    {BOHC, 4, ro, "BOHC", 0, "AHCI 1.3.1, 3.1.11"},
};

// Of one port; `x` in the name becomes its number.
constexpr memory::Register port_registers[] = {
    {PxCLB, 4, rw, "PxCLB", 0, "AHCI 1.3.1, 3.3.1"},
    {PxCLBU, 4, rw, "PxCLBU", 0, "AHCI 1.3.1, 3.3.2"},
    {PxFB, 4, rw, "PxFB", 0, "AHCI 1.3.1, 3.3.3"},
    {PxFBU, 4, rw, "PxFBU", 0, "AHCI 1.3.1, 3.3.4"},
    {PxIS, 4, w1c, "PxIS", 0, "AHCI 1.3.1, 3.3.5"},
    {PxIE, 4, rw, "PxIE", 0, "AHCI 1.3.1, 3.3.6"},
    {PxCMD, 4, rw, "PxCMD", pxcmd_sud | pxcmd_pod, "AHCI 1.3.1, 3.3.7"},
    {PxTFD, 4, ro, "PxTFD", no_device_status, "AHCI 1.3.1, 3.3.8"},
    {PxSIG, 4, ro, "PxSIG", no_signature, "AHCI 1.3.1, 3.3.9"},
    {PxSSTS, 4, ro, "PxSSTS", 0, "AHCI 1.3.1, 3.3.10"},
    {PxSCTL, 4, rw, "PxSCTL", 0, "AHCI 1.3.1, 3.3.11"},
    {PxSERR, 4, w1c, "PxSERR", 0, "AHCI 1.3.1, 3.3.12"},
    {PxSACT, 4, rw, "PxSACT", 0, "AHCI 1.3.1, 3.3.13"},
    {PxCI, 4, rw, "PxCI", 0, "AHCI 1.3.1, 3.3.14"},
    {PxSNTF, 4, ro, "PxSNTF", 0, "AHCI 1.3.1, 3.3.15"},
    {PxFBS, 4, ro, "PxFBS", 0, "AHCI 1.3.1, 3.3.16"},
    {PxDEVSLP, 4, ro, "PxDEVSLP", 0, "AHCI 1.3.1, 3.3.17"},
};

bool writes_clear(u32 offset) {
    if (offset < first_port) return offset == IS;
    const u32 within = offset % port_bytes;
    return within == PxIS || within == PxSERR;
}

}  // namespace

Ahci::Ahci(std::string name, std::vector<Disk> disks, ExecutorFactory executors)
    : PciDevice({.vendor = 0x8086,
                 .device = 0x2922,
                 .revision = 0x02,
                 .class_code = 0x01'06'01,  // AHCI 1.3.1, 2.1.5: mass storage, serial ATA, AHCI
                 .subsystem_vendor = 0x1af4,
                 .subsystem = 0x1100}),
      name_(std::move(name)) {
    if (disks.size() > max_ports) {
        throw ConfigError("an AHCI controller has room for " + std::to_string(max_ports) + " disks, not " +
                          std::to_string(disks.size()) + "; put the others on virtio");
    }
    // AHCI 1.3.1, 3.1.4 wants a port even where nothing is plugged in.
    const unsigned count = std::max<unsigned>(1, static_cast<unsigned>(disks.size()));
    for (unsigned i = 0; i < count; ++i) {
        std::optional<AtaDisk> disk;
        if (i < disks.size()) {
            std::string serial = disks[i].serial.empty() ? "WIRT-" + std::to_string(i) : disks[i].serial;
            disk.emplace(std::move(disks[i].backend), std::move(serial));
        }
        ports_.push_back(std::make_unique<AhciPort>(*this, i, std::move(disk),
                                                    executors(name_ + "." + std::to_string(i))));
    }

    registers_.assign(std::begin(host_registers), std::end(host_registers));
    register_names_.reserve(count * std::size(port_registers));  // registers_ points into it
    for (unsigned i = 0; i < count; ++i) {
        for (memory::Register r : port_registers) {
            register_names_.push_back("P" + std::to_string(i) + (r.name + 2));
            r.offset += first_port + i * port_bytes;
            r.name = register_names_.back().c_str();
            registers_.push_back(r);
        }
    }

    add_bar(5, BarKind::memory32, abar_bytes, *this);  // AHCI 1.3.1, 2.1.11
    set_interrupt_pin(1);
    // Where ICH9 has power management and messages; it is older than PCI Express, which a hot-plug port
    // needs.
    add_power_management(0x70);
    add_msi(0x80);
    add_pci_express(0xc0);
    // Of ICH9 itself: the address map says AHCI mode with six ports, and the driver enables the ports it
    // finds in port control and status.
    define(0x90, 2, 0x0040, 0);
    define(0x92, 2, (1u << count) - 1, 0x003f);
}

Ahci::~Ahci() = default;

u32 Ahci::read_register(u32 offset) const {
    switch (offset) {
        case CAP:
            return capabilities | (static_cast<u32>(ports_.size()) - 1);
        case GHC:
            return ghc_ae | (interrupt_enable_ ? ghc_ie : 0) | (reset_pending_ ? ghc_hr : 0);
        case IS:
            return interrupt_status_;
        case PI:
            return (1u << ports_.size()) - 1;
        case VS:
            return version_1_3_1;
        default:
            break;
    }
    if (offset < first_port) return 0;
    const u32 port = (offset - first_port) / port_bytes;
    return port < ports_.size() ? ports_[port]->read(offset % port_bytes) : 0;
}

void Ahci::write_register(u32 offset, u32 value) {
    if (offset >= first_port) {
        const u32 port = (offset - first_port) / port_bytes;
        if (port < ports_.size()) ports_[port]->write(offset % port_bytes, value);
        return;
    }
    if (offset == GHC) {
        if ((value & ghc_hr) != 0) return begin_hba_reset();
        const bool was = interrupt_enable_;
        interrupt_enable_ = (value & ghc_ie) != 0;
        update_interrupts(!was);
    } else if (offset == IS) {
        interrupt_status_ &= ~value;
        update_interrupts(true);
    }
}

u64 Ahci::read(u64 offset, unsigned size) {
    const u32 at = static_cast<u32>(offset);
    if (size == 8) return read_register(at) | u64{read_register(at + 4)} << 32;
    const u32 word = read_register(at & ~u32{3}) >> (8 * (at & 3));
    return size == 4 ? word : word & ((1u << (8 * size)) - 1);
}

void Ahci::write(u64 offset, unsigned size, u64 value) {
    const u32 at = static_cast<u32>(offset);
    if (size >= 4) {
        write_register(at, static_cast<u32>(value));
        if (size == 8) write_register(at + 4, static_cast<u32>(value >> 32));
        return;
    }
    // A part of a register: the rest is written as it reads, or as nothing to clear.
    const u32 whole = at & ~u32{3};
    const unsigned shift = 8 * (at & 3);
    const u32 mask = ((1u << (8 * size)) - 1) << shift;
    const u32 rest = writes_clear(whole) ? 0 : read_register(whole) & ~mask;
    write_register(whole, rest | (static_cast<u32>(value) << shift & mask));
}

void Ahci::begin_hba_reset() {
    for (const auto& port : ports_) port->stop();
    reset_pending_ = true;
    finish_hba_reset();
}

void Ahci::finish_hba_reset() {
    for (const auto& port : ports_) {
        if (port->in_flight()) return;
    }
    reset_pending_ = false;
    interrupt_enable_ = false;
    interrupt_status_ = 0;
    for (const auto& port : ports_) port->reset(false);
    update_interrupts();
}

void Ahci::reset() {
    reset_pending_ = false;
    interrupt_enable_ = false;
    interrupt_status_ = 0;
    for (const auto& port : ports_) port->reset(true);
    update_interrupts();
}

void Ahci::pause_function() {
    std::lock_guard lock(mutex());
    for (const auto& port : ports_) port->pause();
}

void Ahci::resume_function() {
    std::lock_guard lock(mutex());
    for (const auto& port : ports_) port->resume();
}

// AHCI 1.3.1, 10.6: a port with an enabled event sets its bit of IS, which stays until software clears it and
// comes back at once if the event is still there. The pin shows IS; a message announces each bit that is set,
// and again what software left set, so that none is lost between a read and a write of IS.
void Ahci::update_interrupts(bool repeat_message) {
    u32 pending = 0;
    for (std::size_t i = 0; i < ports_.size(); ++i) {
        if (ports_[i]->interrupt_pending()) pending |= 1u << i;
    }
    const u32 fresh = pending & ~interrupt_status_;
    interrupt_status_ |= pending;
    const bool level = interrupt_enable_ && interrupt_status_ != 0;
    if (level && (fresh != 0 || repeat_message)) {
        DeviceCounters::add(counters_.interrupts_raised);
        notify(0);
    }
    set_intx(level);
}

void Ahci::visit_state(StateVisitor& v) {
    v.section(name_, 1);
    v.field("GHC.IE", interrupt_enable_);
    v.field("GHC.HR", reset_pending_);
    v.field("IS", interrupt_status_);
    for (const auto& port : ports_) port->visit_state(v);
    if (!v.loading()) return;
    interrupt_status_ &= (1u << ports_.size()) - 1;
    if (reset_pending_) finish_hba_reset();
    update_interrupts();
}

}  // namespace wirt::devices::hardware
