// The register file.
//
// Implements: RISC-V IOMMU Architecture Specification 1.0, chapter 6, and chapter 5 (debug support: tr_req
// and tr_response).
#include "devices/hardware/iommu/csr_bits.h"
#include "devices/hardware/iommu/iommu.h"

namespace wirt::devices::hardware {

using namespace iommu;

namespace {

namespace reg {
enum : u32 {
    capabilities = 0,
    fctl = 8,
    ddtp = 16,
    cqb = 24,
    cqh = 32,
    cqt = 36,
    fqb = 40,
    fqh = 48,
    fqt = 52,
    pqb = 56,
    pqh = 64,
    pqt = 68,
    cqcsr = 72,
    fqcsr = 76,
    pqcsr = 80,
    ipsr = 84,
    iocountovf = 88,
    iocountinh = 92,
    iohpmcycles = 96,
    iohpmctr = 104,
    iohpmevt = 352,
    tr_req_iova = 600,
    tr_req_ctl = 608,
    tr_response = 616,
    icvec = 760,
    msi_cfg_tbl = Iommu::message_table,
    pending_messages = Iommu::pending_messages,
};
}  // namespace reg

constexpr unsigned message_bytes = 16;
constexpr u64 message_table_end = reg::msi_cfg_tbl + Iommu::vectors * message_bytes;

#define SPEC "RISC-V IOMMU 1.0, "
using enum memory::RegisterAccess;
constexpr memory::Register table[] = {
    {reg::capabilities, 8, ro, "capabilities", 0, SPEC "6.3"},
    {reg::fctl, 4, rw, "fctl", 0, SPEC "6.4"},
    {reg::ddtp, 8, rw, "ddtp", 0, SPEC "6.5"},
    {reg::cqb, 8, rw, "cqb", 0, SPEC "6.6"},
    {reg::cqh, 4, ro, "cqh", 0, SPEC "6.7"},
    {reg::cqt, 4, rw, "cqt", 0, SPEC "6.8"},
    {reg::fqb, 8, rw, "fqb", 0, SPEC "6.9"},
    {reg::fqh, 4, rw, "fqh", 0, SPEC "6.10"},
    {reg::fqt, 4, ro, "fqt", 0, SPEC "6.11"},
    {reg::pqb, 8, rw, "pqb", 0, SPEC "6.12"},
    {reg::pqh, 4, rw, "pqh", 0, SPEC "6.13"},
    {reg::pqt, 4, ro, "pqt", 0, SPEC "6.14"},
    {reg::cqcsr, 4, rw, "cqcsr", 0, SPEC "6.15"},
    {reg::fqcsr, 4, rw, "fqcsr", 0, SPEC "6.16"},
    {reg::pqcsr, 4, rw, "pqcsr", 0, SPEC "6.17"},
    {reg::ipsr, 4, w1c, "ipsr", 0, SPEC "6.18"},
    {reg::iocountovf, 4, ro, "iocountovf", 0, SPEC "6.19"},
    {reg::iocountinh, 4, rw, "iocountinh", 0, SPEC "6.20"},
    {reg::iohpmcycles, 8, rw, "iohpmcycles", 0, SPEC "6.21"},
    {reg::iohpmctr, 8 * PerformanceMonitor::counters, rw, "iohpmctr1-31", 0, SPEC "6.22"},
    {reg::iohpmevt, 8 * PerformanceMonitor::counters, rw, "iohpmevt1-31", 0, SPEC "6.23"},
    {reg::tr_req_iova, 8, rw, "tr_req_iova", 0, SPEC "6.24"},
    {reg::tr_req_ctl, 8, rw, "tr_req_ctl", 0, SPEC "6.25"},
    {reg::tr_response, 8, ro, "tr_response", 0, SPEC "6.26"},
    {reg::icvec, 8, rw, "icvec", 0, SPEC "6.28"},
    {reg::msi_cfg_tbl, Iommu::vectors* message_bytes, rw, "msi_cfg_tbl", 0, SPEC "6.29"},
    {reg::pending_messages, 8, ro, "pending bits", 0, "PCI 3.0, 6.8.2.10"},
};
#undef SPEC

// Registers of eight bytes, and not the pair of dwords that ends an entry of the message table.
bool is_wide(u64 offset) {
    if (offset == reg::pending_messages) return true;
    if (offset >= reg::msi_cfg_tbl) return offset < message_table_end && offset % message_bytes == 0;
    return offset == reg::capabilities || (offset >= reg::ddtp && offset < reg::cqh) || offset == reg::fqb ||
           offset == reg::pqb || (offset >= reg::iohpmcycles && offset <= reg::tr_response) ||
           offset == reg::icvec;
}

bool is_message_pair(u64 offset) {
    return offset >= reg::msi_cfg_tbl && offset < message_table_end && offset % message_bytes == 8;
}

constexpr u64 ppn_field(u64 value, unsigned pas) {
    return value & bits<u64>(~u64{0}, 0, pas - page_shift) << 10;
}

}  // namespace

std::span<const memory::Register> Iommu::registers() const {
    return table;
}

u64 Iommu::capabilities() const {
    const IommuOptions& o = options_;
    constexpr u64 version = 0x10;
    const std::pair<bool, unsigned> flags[] = {
        {o.sv32, 8},      {o.sv39, 9},      {o.sv48, 10},     {o.sv57, 11},     {o.svrsw60t59b, 14},
        {o.svpbmt, 15},   {o.sv32x4, 16},   {o.sv39x4, 17},   {o.sv48x4, 18},   {o.sv57x4, 19},
        {o.amo_mrif, 21}, {o.msi_flat, 22}, {o.msi_mrif, 23}, {o.amo_hwad, 24}, {o.ats, 25},
        {o.t2gpa, 26},    {o.end, 27},      {o.hpm, 30},      {o.dbg, 31},      {o.pd8, 38},
        {o.pd17, 39},     {o.pd20, 40},     {o.nl, 42},       {o.s, 43},
    };
    u64 value = version | static_cast<u64>(o.igs) << 28 | u64{o.pas} << 32;
    for (const auto& [present, position] : flags) value |= u64{present} << position;
    return value;
}

u64 Iommu::read(u64 offset, unsigned size) {
    if (size < 4) return 0;
    std::lock_guard lock(lock_);
    if (options_.hpm && monitor_.advance()) raise(pmip);
    const u64 wide = align_down(offset, 8);
    if (is_wide(wide)) {
        const u64 value = read_wide(wide);
        return size == 8 ? value : static_cast<u32>(offset == wide ? value : value >> 32);
    }
    if (size == 4) return read_narrow(offset);
    return is_message_pair(offset) ? read_narrow(offset) | u64{read_narrow(offset + 4)} << 32 : 0;
}

void Iommu::write(u64 offset, unsigned size, u64 value) {
    if (size < 4) return;
    std::lock_guard lock(lock_);
    if (options_.hpm && monitor_.advance()) raise(pmip);
    const u64 wide = align_down(offset, 8);
    if (is_wide(wide)) {
        if (size == 4) {
            const u64 old = read_wide(wide);
            value = offset == wide ? (old & ~u64{0xffff'ffff}) | static_cast<u32>(value)
                                   : static_cast<u32>(old) | value << 32;
        }
        write_wide(wide, value);
    } else if (size == 4) {
        write_narrow(offset, static_cast<u32>(value));
    } else if (is_message_pair(offset)) {
        write_narrow(offset, static_cast<u32>(value));
        write_narrow(offset + 4, static_cast<u32>(value >> 32));
    }
    update_interrupts();
}

u64 Iommu::read_wide(u64 offset) const {
    if (offset >= reg::iohpmcycles && offset < reg::tr_req_iova) {
        if (!options_.hpm) return 0;
        if (offset == reg::iohpmcycles) return monitor_.cycles();
        return offset < reg::iohpmevt
                   ? monitor_.counter(static_cast<unsigned>(offset - reg::iohpmctr) / 8 + 1)
                   : monitor_.event(static_cast<unsigned>(offset - reg::iohpmevt) / 8 + 1);
    }
    // Reserved where there is no MSI-X.
    if (offset == reg::pending_messages) return message_gate_ ? waiting_ : 0;
    if (offset >= reg::msi_cfg_tbl) return message_[(offset - reg::msi_cfg_tbl) / message_bytes].address;
    switch (offset) {
        case reg::capabilities:
            return capabilities();
        case reg::ddtp:
            return ddtp_;
        case reg::cqb:
            return command_.base;
        case reg::fqb:
            return fault_.base;
        case reg::pqb:
            return page_.base;
        case reg::tr_req_iova:
            return tr_req_iova_;
        case reg::tr_req_ctl:
            return tr_req_ctl_;
        case reg::tr_response:
            return tr_response_;
        case reg::icvec:
            return icvec_;
        default:
            return 0;
    }
}

u32 Iommu::read_narrow(u64 offset) const {
    if (offset >= reg::msi_cfg_tbl && offset < message_table_end) {
        const Message& message = message_[(offset - reg::msi_cfg_tbl) / message_bytes];
        return offset % message_bytes == 8 ? message.data : message.control;
    }
    switch (offset) {
        case reg::fctl:
            return fctl_;
        case reg::cqh:
            return command_.head;
        case reg::cqt:
            return command_.tail;
        case reg::fqh:
            return fault_.head;
        case reg::fqt:
            return fault_.tail;
        case reg::pqh:
            return page_.head;
        case reg::pqt:
            return page_.tail;
        case reg::cqcsr:
            return command_.csr;
        case reg::fqcsr:
            return fault_.csr;
        case reg::pqcsr:
            return page_.csr;
        case reg::ipsr:
            return ipsr_;
        case reg::iocountovf:
            return options_.hpm ? monitor_.overflow() : 0;
        case reg::iocountinh:
            return monitor_.inhibit();
        default:
            return 0;
    }
}

void Iommu::write_wide(u64 offset, u64 value) {
    if (offset >= reg::iohpmcycles && offset < reg::tr_req_iova) {
        if (!options_.hpm) return;
        if (offset == reg::iohpmcycles) {
            monitor_.set_cycles(value);
        } else if (offset < reg::iohpmevt) {
            monitor_.set_counter(static_cast<unsigned>(offset - reg::iohpmctr) / 8 + 1, value);
        } else {
            monitor_.set_event(static_cast<unsigned>(offset - reg::iohpmevt) / 8 + 1, value);
        }
        return;
    }
    if (offset == reg::pending_messages) return;
    if (offset >= reg::msi_cfg_tbl) {
        if (options_.igs == IommuInterrupts::wsi) return;
        const u64 addressable = bits<u64>(~u64{0}, 0, options_.pas) & ~u64{3};
        message_[(offset - reg::msi_cfg_tbl) / message_bytes].address = value & addressable;
        return;
    }
    switch (offset) {
        case reg::ddtp:
            return write_ddtp(value);
        case reg::cqb:
            return write_base(command_, value, &Queue::tail);
        case reg::fqb:
            return write_base(fault_, value, &Queue::head);
        case reg::pqb:
            if (options_.ats) write_base(page_, value, &Queue::head);
            return;
        case reg::tr_req_iova:
            if (options_.dbg) tr_req_iova_ = align_down(value, page_bytes);
            return;
        case reg::tr_req_ctl:
            if (options_.dbg) write_debug_request(value);
            return;
        case reg::icvec: {
            // Two bits of each field; the causes that do not exist have none.
            icvec_ = value & (0x0033 | (options_.hpm ? 0x0300 : 0) | (options_.ats ? 0x3000 : 0));
            return update_wires();
        }
        default:
            return;
    }
}

void Iommu::write_narrow(u64 offset, u32 value) {
    if (offset >= reg::msi_cfg_tbl && offset < message_table_end) {
        if (options_.igs == IommuInterrupts::wsi) return;
        const unsigned vector = static_cast<unsigned>(offset - reg::msi_cfg_tbl) / message_bytes;
        if (offset % message_bytes == 8) {
            message_[vector].data = value;
        } else {
            message_[vector].control = value & 1;
            if (bit(waiting_, vector)) send_vector(vector);
        }
        return;
    }
    switch (offset) {
        case reg::fctl:
            return write_fctl(value);
        case reg::cqt:
            command_.tail = value & command_.mask();
            DeviceCounters::add(counters_.notifications_received);
            return process_commands();
        case reg::fqh:
            fault_.head = value & fault_.mask();
            return;
        case reg::pqh:
            if (options_.ats) page_.head = value & page_.mask();
            return;
        case reg::cqcsr:
            write_csr(command_, value, &Queue::head, command_errors);
            return process_commands();
        case reg::fqcsr:
            return write_csr(fault_, value, &Queue::tail, fault_errors);
        case reg::pqcsr:
            if (options_.ats) write_csr(page_, value, &Queue::tail, page_errors);
            return;
        case reg::ipsr:
            ipsr_ &= ~value;
            return update_wires();
        case reg::iocountinh:
            if (options_.hpm) monitor_.set_inhibit(value);
            return;
        default:
            return;
    }
}

// 6.4: a change while translation or a queue is on is UNSPECIFIED; here it is ignored. In Bare mode it works,
// since Linux finds its interrupts before it turns translation on.
void Iommu::write_fctl(u32 value) {
    if (mode() > IommuMode::bare || command_.on() || fault_.on() || page_.on()) return;
    const u32 writable = (options_.end ? 1u : 0) | (options_.igs == IommuInterrupts::both ? 2u : 0) |
                         (options_.gxl_writable ? 4u : 0);
    fctl_ = (fctl_ & ~writable) | (value & writable);
    // What was cached was read in another byte order.
    ioatc_.clear();
    update_wires();
}

// 6.5: from a directory to another only by way of Off or Bare; other changes are ignored, and nothing takes
// long enough to be busy with.
void Iommu::write_ddtp(u64 value) {
    const auto next = static_cast<IommuMode>(bits<u64>(value, 0, 4));
    if (next > IommuMode::three_level) return;
    if (mode() > IommuMode::bare && next > IommuMode::bare) return;
    ddtp_ = ppn_field(value, options_.pas) | static_cast<u64>(next);
    ioatc_.forget_spaces();
    quick_mode_.store(next, std::memory_order_release);
}

void Iommu::write_base(Queue& queue, u64 value, u32 Queue::*index) {
    if (queue.on()) return;  // 6.6: UNSPECIFIED
    queue.base = ppn_field(value, options_.pas) | std::min(bits<u64>(value, 0, 5), largest_queue);
    queue.*index = 0;
}

void Iommu::write_csr(Queue& queue, u32 value, u32 Queue::*index, u32 error_bits) {
    if (((value ^ queue.csr) & csr_enable) != 0) {
        if ((value & csr_enable) != 0) {
            queue.*index = 0;
            queue.csr = csr_enable | csr_on;
        } else {
            queue.csr &= ~(csr_enable | csr_on);
        }
    }
    queue.csr &= ~((value & error_bits) | csr_interrupt_enable);
    queue.csr |= value & csr_interrupt_enable;
}

// Chapter 5. The request is carried out at once: Go/Busy reads 0 again.
void Iommu::write_debug_request(u64 value) {
    constexpr unsigned go = 0, priv = 1, exe = 2, nw = 3, pv = 32;
    constexpr u64 writable = ~(bits<u64>(~u64{0}, 0, 8) << 4 | bits<u64>(~u64{0}, 0, 7) << 33 | u64{1});
    tr_req_ctl_ = value & writable;
    if (!bit(value, go)) return;
    IommuRequest request;
    request.device_id = static_cast<u32>(bits<u64>(value, 40, 24));
    if (bit(value, pv)) request.process_id = static_cast<u32>(bits<u64>(value, 12, 20));
    request.privileged = bit(value, priv);
    request.execute = bit(value, exe);
    request.write = !bit(value, nw);
    request.address = tr_req_iova_;
    const IommuResponse response = process(request, true);
    if (response.status != IommuResponse::Status::success) {
        tr_response_ = 1;
        return;
    }
    const u64 page = ((response.address & ~(response.size - 1)) | (response.size / 2 - 1)) >> page_shift;
    tr_response_ =
        u64{response.pbmt} << 7 | u64{response.size > page_bytes} << 9 | bits<u64>(page, 0, 44) << 10;
}

}  // namespace wirt::devices::hardware
