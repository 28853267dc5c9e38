#include "devices/hardware/ahci_port.h"

#include <algorithm>
#include <array>
#include <bit>

#include "base/bits.h"
#include "devices/hardware/ahci.h"
#include "devices/hardware/ahci_registers.h"
#include "storage/spans.h"

namespace wirt::devices::hardware {

using ata::Action;
using ata::Outcome;
using ata::Protocol;
using ata::Request;
using namespace ahci;

namespace {

// A transfer goes in chunks, so that an engine that is stopped stops soon: software waits 500 ms for
// PxCMD.CR (10.3.1).
constexpr u64 chunk_bytes = 1 * MiB;

constexpr u64 command_header_bytes = 32, prdt_offset = 0x80, prdt_entry_bytes = 16;

// Where each FIS lands in the received-FIS area (4.2.1).
constexpr u32 pio_setup_offset = 0x20, register_offset = 0x40, set_device_bits_offset = 0x58;
constexpr u8 register_type = 0x34, pio_setup_type = 0x5f, set_device_bits_type = 0xa1;
constexpr u8 fis_interrupt = 0x40, fis_to_host = 0x20;

constexpr u8 device_field = 0x40;  // what the Device field of a FIS reads: LBA addressing

// Walks a physical region descriptor table (4.2.3.3), reading every entry once.
class PrdtReader {
  public:
    PrdtReader(const memory::DmaView& dma, u64 address, unsigned entries)
        : dma_(dma), next_(address), left_(entries) {}

    // Appends host memory for the next `length` bytes; gives how many there were. Less than asked for: the
    // table has ended, or fault() says that it or the memory it names is out of reach.
    u64 map(u64 length, memory::DmaDirection direction, std::vector<iovec>& out) {
        u64 mapped = 0;
        while (mapped < length) {
            if (bytes_ == 0 && !advance()) break;
            const u64 step = std::min(bytes_, length - mapped);
            if (!dma_.map(address_, step, direction, out)) {
                fault_ = true;
                break;
            }
            address_ += step;
            bytes_ -= step;
            mapped += step;
        }
        return mapped;
    }

    bool fault() const { return fault_; }
    // An entry with the I bit was used: PxIS.DPS is due.
    bool interrupt() const { return interrupt_; }

  private:
    bool advance() {
        if (left_ == 0) return false;
        if (at_ == batch_size_) {
            batch_size_ = std::min<std::size_t>(left_, batch_.size() / 2);
            at_ = 0;
            if (!dma_.read(next_, batch_.data(), batch_size_ * prdt_entry_bytes)) {
                fault_ = true;
                return false;
            }
            next_ += batch_size_ * prdt_entry_bytes;
        }
        const u64 base = batch_[at_ * 2];
        const u32 description = static_cast<u32>(batch_[at_ * 2 + 1] >> 32);
        ++at_;
        --left_;
        address_ = base & ~u64{1};
        // The count is one less than the bytes, at most 4 MiB. The specification wants it even; an odd number
        // of bytes is taken as it is, which touches no more memory than the guest named.
        bytes_ = u64{bits(description, 0, 22)} + 1;
        interrupt_ = interrupt_ || bit(description, 31);
        return true;
    }

    const memory::DmaView& dma_;
    u64 next_;
    std::size_t left_;
    std::array<u64, 2 * 64> batch_;
    std::size_t batch_size_ = 0;
    std::size_t at_ = 0;
    u64 address_ = 0;
    u64 bytes_ = 0;
    bool fault_ = false;
    bool interrupt_ = false;
};

}  // namespace

// A command list entry (4.2.2), copied.
struct AhciPort::CommandHeader {
    u64 address = 0;  // of the header itself
    unsigned fis_bytes = 0;
    bool clear_busy = false;
    unsigned prdt_entries = 0;
    u64 table = 0;
};

struct AhciPort::Transfer {
    u64 moved = 0;
    bool bus_error = false;
    bool overflow = false;  // the PRDT was shorter than the command's data
    bool interrupt = false;
    Outcome outcome;
};

AhciPort::AhciPort(Ahci& hba, unsigned index, std::optional<AtaDisk> disk, Executor& executor)
    : hba_(hba), index_(index), disk_(std::move(disk)), executor_(executor) {
    reset(true);
}

u32 AhciPort::read(u32 offset) const {
    switch (offset) {
        case PxCLB:
            return static_cast<u32>(command_list_base_);
        case PxCLBU:
            return static_cast<u32>(command_list_base_ >> 32);
        case PxFB:
            return static_cast<u32>(fis_base_);
        case PxFBU:
            return static_cast<u32>(fis_base_ >> 32);
        case PxIS:
            return interrupt_status();
        case PxIE:
            return interrupt_enable_;
        case PxCMD:
            return command_and_status();
        case PxTFD:
            return status_ | u32{error_} << 8;
        case PxSIG:
            return signature_;
        case PxSSTS:
            return sata_status();
        case PxSCTL:
            return sata_control_;
        case PxSERR:
            return sata_error_;
        case PxSACT:
            return sata_active_;
        case PxCI:
            return command_issue_;
        default:
            return 0;  // PxSNTF, PxFBS, PxDEVSLP: not implemented, read-only zero
    }
}

void AhciPort::write(u32 offset, u32 value) {
    constexpr u64 high_half = 0xffff'ffff'0000'0000;
    switch (offset) {
        case PxCLB:
            command_list_base_ = (command_list_base_ & high_half) | (value & ~u32{0x3ff});
            break;
        case PxCLBU:
            command_list_base_ = static_cast<u32>(command_list_base_) | u64{value} << 32;
            break;
        case PxFB:
            fis_base_ = (fis_base_ & high_half) | (value & ~u32{0xff});
            break;
        case PxFBU:
            fis_base_ = static_cast<u32>(fis_base_) | u64{value} << 32;
            break;
        case PxIS:
            interrupt_latched_ &= ~value;
            break;
        case PxIE:
            interrupt_enable_ = value & pxie_writable;
            break;
        case PxCMD:
            write_command(value);
            break;
        case PxSCTL:
            write_sata_control(value);
            break;
        case PxSERR:
            sata_error_ &= ~value;
            break;
        case PxSACT:
            // 3.3.13 and 3.3.14: ones are set, and only while the engine is started.
            if ((command_ & pxcmd_st) != 0) sata_active_ |= value;
            return;
        case PxCI:
            DeviceCounters::add(hba_.counters_.notifications_received);
            if ((command_ & pxcmd_st) != 0) command_issue_ |= value;
            kick();
            return;
        default:
            return;
    }
    hba_.update_interrupts();
}

u32 AhciPort::interrupt_status() const {
    // 3.3.5: three bits show PxSERR and are cleared there.
    u32 value = interrupt_latched_;
    if ((sata_error_ & serr_diag_x) != 0) value |= pxis_pcs;
    if ((sata_error_ & serr_diag_n) != 0) value |= pxis_prcs;
    return value;
}

u32 AhciPort::command_and_status() const {
    u32 value = command_ | pxcmd_sud | pxcmd_pod | u32{current_slot_} << pxcmd_ccs_shift;
    if ((command_ & pxcmd_fre) != 0) value |= pxcmd_fr;
    if ((command_ & pxcmd_st) != 0 || in_flight_) value |= pxcmd_cr;
    return value;
}

u32 AhciPort::sata_status() const {
    if (!disk_) return 0;
    const u32 detection = sata_control_ & sctl_det;
    if (detection == det_offline) return det_offline;
    if (detection == det_comreset) return ssts_det_no_phy;
    const u32 speed_limit = sata_control_ >> 4 & 0xf;
    const u32 speed = speed_limit == 0 ? 3 : std::min(speed_limit, u32{3});
    return ssts_ipm_active | speed << 4 | ssts_det_established;
}

void AhciPort::write_command(u32 value) {
    const u32 before = command_;
    const u32 after = value & pxcmd_writable;
    if ((before & pxcmd_st) != 0 && (after & pxcmd_st) == 0) stop();
    // 3.3.7: a command list override is for a port whose engine has stopped.
    if ((value & pxcmd_clo) != 0 && (before & pxcmd_st) == 0) status_ &= ~(ata::status_bsy | ata::status_drq);
    command_ = after;
    if ((after & pxcmd_fre) != 0) post_signature();
    kick();
}

void AhciPort::stop() {
    incarnation_.fetch_add(1);
    command_ &= ~pxcmd_st;
    // 3.3.13, 3.3.14: both are cleared when software clears PxCMD.ST.
    command_issue_ = 0;
    sata_active_ = 0;
    current_slot_ = 0;
    halted_ = false;
}

void AhciPort::write_sata_control(u32 value) {
    const u32 before = sata_control_ & sctl_det;
    sata_control_ = value & sctl_writable;
    const u32 after = sata_control_ & sctl_det;
    if (before == after) return;
    if (after == det_comreset || after == det_offline) {
        // 10.4.2 has software stop the engine first; one that runs on finds the link gone.
        incarnation_.fetch_add(1);
        halted_ = (command_ & pxcmd_st) != 0;
        status_ = no_device_status;
        signature_ = no_signature;
    } else if (before == det_comreset || before == det_offline) {
        establish_link();
    }
}

// The disk has answered COMRESET with COMINIT and sends its signature (10.1.2, 10.4.2).
void AhciPort::establish_link() {
    software_reset_ = false;
    status_ = no_device_status;
    error_ = 0;
    signature_ = no_signature;
    if (!disk_) return;
    disk_->reset(false);
    const Outcome outcome = AtaDisk::signature();
    status_ = outcome.status;
    error_ = outcome.error;
    signature_ = ata_signature;
    sata_error_ |= serr_diag_x | serr_diag_n;
    signature_unposted_ = true;
    post_signature();
}

// 3.3.7: the first register FIS after a reset is accepted without PxCMD.FRE, and posted once that is set.
void AhciPort::post_signature() {
    if (!signature_unposted_ || (command_ & pxcmd_fre) == 0) return;
    signature_unposted_ = false;
    receive_register_fis(AtaDisk::signature(), false);
}

void AhciPort::reset(bool power_on) {
    stop();
    command_ = 0;
    interrupt_latched_ = 0;
    interrupt_enable_ = 0;
    sata_control_ = 0;
    sata_error_ = 0;
    signature_unposted_ = false;
    if (power_on) command_list_base_ = fis_base_ = 0;
    establish_link();
}

// --- the command list engine ---

std::optional<unsigned> AhciPort::next_slot() const {
    const bool linked = (sata_status() & sctl_det) == ssts_det_established;
    if (command_issue_ == 0 || (command_ & pxcmd_st) == 0 || halted_ || !linked) return std::nullopt;
    // 5.3, P:SelectCmd: round robin from the slot after the last one.
    const u32 turned = std::rotr(command_issue_, (current_slot_ + 1) % slot_count);
    return (static_cast<unsigned>(std::countr_zero(turned)) + current_slot_ + 1) % slot_count;
}

void AhciPort::kick() {
    if (paused_ || scheduled_ || !next_slot()) return;
    scheduled_ = true;
    executor_.post([this] { run(); });
}

void AhciPort::run() {
    std::unique_lock lock(hba_.mutex());
    while (!paused_) {
        const auto slot = next_slot();
        if (!slot) break;
        execute(*slot, lock);
    }
    scheduled_ = false;
}

void AhciPort::resume() {
    paused_ = false;
    kick();
}

void AhciPort::execute(unsigned slot, std::unique_lock<std::mutex>& lock) {
    current_slot_ = static_cast<u8>(slot);
    const memory::DmaView dma = hba_.dma();

    CommandHeader header;
    header.address = command_list_base_ + slot * command_header_bytes;
    std::array<u32, 4> words;
    if (!dma.read(header.address, words.data(), sizeof words)) return fatal(pxis_hbfs);
    header.fis_bytes = bits(words[0], 0, 5) * 4;
    header.clear_busy = bit(words[0], 10);
    header.prdt_entries = bits(words[0], 16, 16);
    header.table = (words[2] & ~u32{0x7f}) | u64{words[3]} << 32;

    std::array<u8, ata::CommandFis::bytes> bytes;
    if (!dma.read(header.table, bytes.data(), bytes.size())) return fatal(pxis_hbfs);
    // 4.2.2: 2 to 16 dwords; a disk refuses on the link what is not a Register Host to Device FIS.
    if (header.fis_bytes < bytes.size() || header.fis_bytes > 64 || bytes[0] != ata::CommandFis::type) {
        sata_error_ |= serr_err_p;
        return fatal(pxis_ifs);
    }
    const ata::CommandFis fis(bytes);
    if (!fis.is_command) return control_fis(slot, header, fis);

    Request request = disk_->accept(fis, slot);
    if (is_queued(request.protocol)) {
        // The disk frees the slot as soon as it has the command; PxSACT then stands for it (5.6, NCQ).
        command_issue_ &= ~(u32{1} << slot);
        receive_register_fis({.lba = fis.lba, .count = fis.count}, false);
        if (halted_) return hba_.update_interrupts();
    } else {
        status_ |= ata::status_bsy;
    }

    const u32 mine = incarnation_.load();
    in_flight_ = true;
    lock.unlock();
    const Transfer result = transfer(header, request, mine);
    lock.lock();
    in_flight_ = false;
    if (mine == incarnation_.load()) {
        complete(slot, header, request, result);
    } else {
        // Nobody waits for it any more; the disk is idle again.
        status_ &= ~(ata::status_bsy | ata::status_drq);
        if (hba_.reset_pending_) hba_.finish_hba_reset();
    }
}

// A write of the Control field: software reset (10.4.1). SRST set holds the disk, SRST cleared lets it answer
// with its signature.
void AhciPort::control_fis(unsigned slot, const CommandHeader& header, const ata::CommandFis& fis) {
    const bool srst = (fis.control & 0x04) != 0;
    command_issue_ &= ~(u32{1} << slot);
    if (srst) {
        software_reset_ = true;
        status_ |= ata::status_bsy;
        if (header.clear_busy) status_ &= ~ata::status_bsy;
    } else if (software_reset_) {
        software_reset_ = false;
        disk_->reset(true);
        receive_register_fis(AtaDisk::signature(), false);
        signature_ = ata_signature;
    }
    hba_.update_interrupts();
}

// Without the HBA's mutex. The only guest state touched is memory the PRDT names.
AhciPort::Transfer AhciPort::transfer(const CommandHeader& header, Request& request, u32 mine) {
    Transfer result;
    result.outcome = request.outcome;
    const memory::DmaView dma = hba_.dma();
    const bool in = is_in(request.protocol);
    PrdtReader prdt(dma, header.table + prdt_offset, header.prdt_entries);
    if (request.action == Action::trim) request.payload.resize(request.length);

    int error = 0;
    while (result.moved < request.length && error == 0) {
        if (mine != incarnation_.load()) return result;
        u64 step = std::min(chunk_bytes, request.length - result.moved);
        if (request.action == Action::verify) {
            error = disk_->verify(request, result.moved, step);
        } else {
            spans_.clear();
            const u64 asked = step;
            step = prdt.map(asked, in ? memory::DmaDirection::from_device : memory::DmaDirection::to_device,
                            spans_);
            result.bus_error = prdt.fault();
            result.overflow = !result.bus_error && step < asked;
            // What is short towards the disk is not sent at all; towards the host, what fits is.
            if (result.bus_error || (result.overflow && !in)) break;
            error = move(request, result.moved, spans_);
            if (in) dma.finish(spans_);
        }
        result.moved += step;
        if (result.overflow) break;
    }
    result.interrupt = prdt.interrupt();
    if (result.bus_error || result.overflow || mine != incarnation_.load()) return result;

    if (error == 0 && request.action == Action::trim && !disk_->trim(request.payload, error)) {
        result.outcome.status = ata::status_ready | ata::status_err;
        result.outcome.error = ata::error_idnf;
    }
    if (error == 0 && (request.action == Action::flush || request.flush_after)) error = disk_->flush();
    if (error != 0) result.outcome = AtaDisk::failure(request, error);
    return result;
}

int AhciPort::move(Request& request, u64 done, std::span<const iovec> spans) {
    switch (request.action) {
        case Action::read:
            return disk_->read(request, done, spans);
        case Action::write:
            return disk_->write(request, done, spans);
        case Action::reply:
            DeviceCounters::add(hba_.counters_.bytes_copied, storage::total_bytes(spans));
            storage::SpanCursor(spans).copy_in(request.payload.data() + done, storage::total_bytes(spans));
            return 0;
        case Action::trim:
            DeviceCounters::add(hba_.counters_.bytes_copied, storage::total_bytes(spans));
            storage::SpanCursor(spans).copy_out(request.payload.data() + done, storage::total_bytes(spans));
            return 0;
        default:
            return 0;
    }
}

void AhciPort::complete(unsigned slot, const CommandHeader& header, const Request& request, Transfer result) {
    if (result.bus_error) return fatal(pxis_hbfs);
    if (result.interrupt) interrupt_latched_ |= pxis_dps;
    if (result.overflow) {
        interrupt_latched_ |= pxis_ofs;
        if (!is_in(request.protocol)) {
            result.outcome.status = ata::status_ready | ata::status_err;
            result.outcome.error = ata::error_abrt;
        }
    }
    const Outcome& outcome = result.outcome;
    disk_->settle(request, outcome);
    DeviceCounters::add(hba_.counters_.operations);
    if (request.action != Action::verify) DeviceCounters::add(hba_.counters_.bytes_moved, result.moved);

    if (is_queued(request.protocol)) {
        receive_set_device_bits(outcome, outcome.failed() ? 0 : u32{1} << request.tag);
    } else {
        // 4.2.2: the PRD byte count is not for queued commands.
        if (!hba_.dma().store<u32>(header.address + 4, static_cast<u32>(result.moved)))
            return fatal(pxis_hbfs);
        const bool pio = request.protocol == Protocol::pio_in || request.protocol == Protocol::pio_out;
        if (pio && !outcome.failed()) receive_pio_setup_fis(outcome, request.protocol == Protocol::pio_in);
        if (request.protocol != Protocol::pio_in || outcome.failed()) receive_register_fis(outcome, true);
        if (!outcome.failed()) command_issue_ &= ~(u32{1} << slot);
    }
    // 6.2.2: the slots stay as they are for software to see what was outstanding.
    if (outcome.failed()) return fatal(pxis_tfes);
    hba_.update_interrupts();
}

// 5.3, ERR:WaitForClear: nothing more is fetched until software clears PxCMD.ST.
void AhciPort::fatal(u32 interrupt_bit) {
    interrupt_latched_ |= interrupt_bit;
    halted_ = true;
    hba_.update_interrupts();
}

// --- received FISes ---

void AhciPort::receive_register_fis(const Outcome& outcome, bool interrupt) {
    std::array<u8, 20> fis{};
    fis[0] = register_type;
    fis[1] = interrupt ? fis_interrupt : 0;
    fis[2] = status_ = outcome.status;
    fis[3] = error_ = outcome.error;
    store_le<u32>(&fis[4], static_cast<u32>(outcome.lba & 0xff'ffff) | u32{device_field} << 24);
    store_le<u32>(&fis[8], static_cast<u32>(outcome.lba >> 24 & 0xff'ffff));
    store_le<u16>(&fis[12], outcome.count);
    post(register_offset, fis);
    if (interrupt) interrupt_latched_ |= pxis_dhrs;
}

// Stands for the setup FISes of all DRQ blocks: each overwrites the one before, and software sees the last.
void AhciPort::receive_pio_setup_fis(const Outcome& outcome, bool to_host) {
    std::array<u8, 20> fis{};
    fis[0] = pio_setup_type;
    fis[1] = to_host ? fis_to_host | fis_interrupt : 0;
    fis[2] = static_cast<u8>(outcome.status | ata::status_drq);
    fis[3] = error_ = outcome.error;
    store_le<u32>(&fis[4], static_cast<u32>(outcome.lba & 0xff'ffff) | u32{device_field} << 24);
    store_le<u32>(&fis[8], static_cast<u32>(outcome.lba >> 24 & 0xff'ffff));
    store_le<u16>(&fis[12], outcome.count);
    fis[15] = status_ = outcome.status;  // E_STATUS: what the register holds after the data
    store_le<u16>(&fis[16], ata::sector_bytes);
    post(pio_setup_offset, fis);
    if (to_host) interrupt_latched_ |= pxis_pss;
}

void AhciPort::receive_set_device_bits(const Outcome& outcome, u32 completed) {
    // Serial ATA 3.1, 10.5: BSY and DRQ are not part of it.
    constexpr u8 carried = 0x77;
    std::array<u8, 8> fis{};
    fis[0] = set_device_bits_type;
    fis[1] = fis_interrupt;
    fis[2] = outcome.status & carried;
    fis[3] = error_ = outcome.error;
    store_le<u32>(&fis[4], completed);
    status_ = static_cast<u8>((status_ & ~carried) | (outcome.status & carried));
    sata_active_ &= ~completed;
    post(set_device_bits_offset, fis);
    interrupt_latched_ |= pxis_sdbs;
}

void AhciPort::post(u32 offset, std::span<const u8> fis) {
    if ((command_ & pxcmd_fre) == 0) return;
    if (!hba_.dma().write(fis_base_ + offset, fis.data(), fis.size())) {
        interrupt_latched_ |= pxis_hbfs;
        halted_ = true;
    }
}

void AhciPort::visit_state(StateVisitor& v) {
    v.section(std::string(hba_.name()) + ".port" + std::to_string(index_), 1);
    v.field("PxCLB", command_list_base_);
    v.field("PxFB", fis_base_);
    v.field("PxIS", interrupt_latched_);
    v.field("PxIE", interrupt_enable_);
    v.field("PxCMD", command_);
    v.field("current slot", current_slot_);
    v.field("status", status_);
    v.field("error", error_);
    v.field("PxSIG", signature_);
    v.field("PxSCTL", sata_control_);
    v.field("PxSERR", sata_error_);
    v.field("PxSACT", sata_active_);
    v.field("PxCI", command_issue_);
    v.field("halted", halted_);
    v.field("signature unposted", signature_unposted_);
    v.field("software reset", software_reset_);
    if (disk_) disk_->visit_state(v);
    if (!v.loading()) return;
    command_list_base_ &= ~u64{0x3ff};
    fis_base_ &= ~u64{0xff};
    interrupt_latched_ &= pxie_writable & ~(pxis_pcs | pxis_prcs);
    interrupt_enable_ &= pxie_writable;
    command_ &= pxcmd_writable;
    current_slot_ %= slot_count;
    sata_control_ &= sctl_writable;
    incarnation_.fetch_add(1);
}

}  // namespace wirt::devices::hardware
