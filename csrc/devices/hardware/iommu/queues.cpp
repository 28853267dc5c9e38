// What the IOMMU tells software: fault records, page requests, interrupts.
//
// Implements: RISC-V IOMMU Architecture Specification 1.0, 4.2 (fault queue), 4.3 (page-request queue), 3.7
// (who gets which answer to a page request), 6.18 (ipsr), 6.28 and 6.29 (icvec, msi_cfg_tbl).
#include "devices/hardware/iommu/csr_bits.h"
#include "devices/hardware/iommu/iommu.h"

namespace wirt::devices::hardware {

using namespace iommu;

namespace {

// Table "Fault record CAUSE field encodings": what DC.tc.DTF does not silence.
bool reported_in_spite_of_dtf(Cause cause) {
    switch (cause) {
        case Cause::all_inbound_disallowed:
        case Cause::ddt_load_access_fault:
        case Cause::ddt_not_valid:
        case Cause::ddt_misconfigured:
        case Cause::msi_write_access_fault:
            return true;
        default:
            return false;
    }
}

// A page request's payload, and the answer's (PCI Express ATS 1.1, 4.1).
constexpr unsigned payload_r = 0, payload_w = 1, payload_l = 2;
constexpr u64 response_success = 0, response_invalid = 1, response_failure = 0xf;

}  // namespace

bool Iommu::Queue::on() const {
    return (csr & csr_on) != 0;
}

void Iommu::report(const FaultRecord& record, bool dtf) {
    if (!fault_.on() || (fault_.csr & fault_errors) != 0) return;
    if (dtf && !reported_in_spite_of_dtf(record.cause)) return;
    if (fault_.next(fault_.tail) == fault_.head) {
        fault_.csr |= csr_overflow;
        return;
    }
    u64 header = static_cast<u64>(record.cause) | static_cast<u64>(record.type) << 34 |
                 u64{record.device_id & 0xff'ffff} << 40;
    if (record.process_id) {
        header |= u64{*record.process_id} << 12 | u64{1} << 32 | u64{record.privileged} << 33;
    }
    const u64 at = fault_.address(fault_.tail, fault_record_bytes);
    const bool be = big_endian();
    const bool stored = memory_.store(at, 8, be, header) && memory_.store(at + 8, 8, be, 0) &&
                        memory_.store(at + 16, 8, be, record.iotval) &&
                        memory_.store(at + 24, 8, be, record.iotval2);
    if (!stored) {
        fault_.csr |= csr_memory_fault;
        return;
    }
    fault_.tail = fault_.next(fault_.tail);
    if ((fault_.csr & csr_interrupt_enable) != 0) raise(fip);
}

void Iommu::page_request(const AtsMessage& message) {
    std::lock_guard lock(lock_);
    handle_page_request(message);
    update_interrupts();
}

void Iommu::handle_page_request(const AtsMessage& message) {
    const u32 device_id = message.rid | (message.dsv ? u32{message.dseg} << 16 : 0);
    const auto refuse = [&](Cause cause, bool dtf) {
        report({.cause = cause,
                .type = TransactionType::message,
                .device_id = device_id,
                .process_id = message.pv ? std::optional(message.pid) : std::nullopt,
                .privileged = message.privileged,
                .iotval = AtsMessage::page_request},
               dtf);
    };
    // Without a device context PRPR counts as 0.
    if (mode() == IommuMode::off) {
        refuse(Cause::all_inbound_disallowed, false);
        return respond_to_page_request(message, response_failure, true);
    }
    if (mode() == IommuMode::bare || device_id_too_wide(device_id)) {
        refuse(Cause::transaction_type_disallowed, false);
        return respond_to_page_request(message, response_invalid, false);
    }
    PageWalk walk(memory_, options_, monitor_);
    walk.ids = {.device_id = device_id, .pv = message.pv, .process_id = message.pid};
    DeviceContext dc;
    const Cause cause = locate_device(walk, device_id, dc);
    if (walk.overflowed) raise(pmip);
    if (cause != Cause::none) {
        refuse(cause, false);
        return respond_to_page_request(message, response_failure, true);
    }
    if (!dc.en_pri()) {
        refuse(Cause::transaction_type_disallowed, dc.dtf());
        return respond_to_page_request(message, response_invalid, dc.prpr());
    }
    if (!page_.on() || (page_.csr & csr_memory_fault) != 0) {
        return respond_to_page_request(message, response_failure, true);
    }
    if ((page_.csr & csr_overflow) != 0 || page_.next(page_.tail) == page_.head) {
        page_.csr |= csr_overflow;
        return respond_to_page_request(message, response_success, dc.prpr());
    }
    u64 header = u64{device_id} << 40;
    if (message.pv) {
        header |= u64{message.pid & 0xf'ffff} << 12 | u64{1} << 32 | u64{message.privileged} << 33 |
                  u64{message.execute} << 34;
    }
    const u64 at = page_.address(page_.tail, page_request_bytes);
    if (!memory_.store(at, 8, big_endian(), header) ||
        !memory_.store(at + 8, 8, big_endian(), message.payload)) {
        page_.csr |= csr_memory_fault;
        return respond_to_page_request(message, response_failure, true);
    }
    page_.tail = page_.next(page_.tail);
    if ((page_.csr & csr_interrupt_enable) != 0) raise(pip);
}

void Iommu::respond_to_page_request(const AtsMessage& message, u64 code, bool with_pasid) {
    const bool stop_marker = !bit(message.payload, payload_r) && !bit(message.payload, payload_w);
    if (!bit(message.payload, payload_l) || stop_marker || ats_link_ == nullptr) return;
    AtsMessage response;
    response.code = AtsMessage::page_request_group_response;
    response.rid = message.rid;
    response.dsv = message.dsv;
    response.dseg = message.dseg;
    response.pv = with_pasid && message.pv;
    response.pid = response.pv ? message.pid : 0;
    response.payload = u64{message.rid} << 48 | code << 44 | bits<u64>(message.payload, 3, 9) << 32;
    ats_link_->send(response);
}

// An interrupt message or the write of an IOFENCE.C: four bytes to memory, or to whatever takes messages
// there.
bool Iommu::write_word(u64 address, u32 data) {
    if (address >> options_.pas != 0) return false;
    if (memory_.store(address, 4, big_endian(), data)) return true;
    return messages_ != nullptr &&
           messages_->send_message(address, static_cast<u32>(in_order(data, 4, big_endian())));
}

void Iommu::raise(InterruptCause cause) {
    if (bit(ipsr_, cause)) return;
    ipsr_ |= u32{1} << cause;
    DeviceCounters::add(counters_.interrupts_raised);
    if (wired()) {
        update_wires();
    } else {
        send_vector(static_cast<unsigned>(bits<u64>(icvec_, 4 * cause, 4)));
    }
}

// 6.18: what keeps an interrupt pending although software has cleared it.
void Iommu::update_interrupts() {
    const auto check = [&](const Queue& queue, u32 errors, InterruptCause cause) {
        if ((queue.csr & csr_interrupt_enable) != 0 && (queue.csr & errors) != 0) raise(cause);
    };
    check(command_, command_errors, cip);
    check(fault_, fault_errors, fip);
    check(page_, page_errors, pip);
}

void Iommu::update_wires() {
    u32 levels = 0;
    for (unsigned cause = 0; wired() && cause < 4; ++cause) {
        if (bit(ipsr_, cause)) levels |= u32{1} << bits<u64>(icvec_, 4 * cause, 4);
    }
    for (unsigned vector = 0; vector < vectors; ++vector) wires_[vector].set(bit(levels, vector));
}

void Iommu::send_vector(unsigned vector) {
    const Message message = message_[vector];
    if ((message.control & 1) != 0 || (message_gate_ && !message_gate_())) {
        waiting_ |= u32{1} << vector;
        return;
    }
    waiting_ &= ~(u32{1} << vector);
    if (!write_word(message.address, message.data)) {
        report({.cause = Cause::msi_write_access_fault, .iotval = message.address}, false);
    }
}

void Iommu::release_messages() {
    std::lock_guard lock(lock_);
    for (unsigned vector = 0; vector < vectors; ++vector) {
        if (bit(waiting_, vector)) send_vector(vector);
    }
    update_interrupts();
}

}  // namespace wirt::devices::hardware
