// The command queue.
//
// Implements: RISC-V IOMMU Architecture Specification 1.0, 4.1 (IOTINVAL, IOFENCE, IODIR, ATS), 7.2 and 7.3
// (NL and S operands). Commands take effect in order and at once, except ATS.INVAL, which waits for its
// device: an IOFENCE.C behind it holds the queue until the answer or the time-out.
//
// IOFENCE.C's PR and PW: a translation that a device has been given before is no longer in any cache here,
// but a transfer that is under way with it (a disk's, say) is not waited for. A driver stops its device
// before it takes the memory back, as it must in front of a real one.
#include <bit>

#include "devices/hardware/iommu/csr_bits.h"
#include "devices/hardware/iommu/iommu.h"

namespace wirt::devices::hardware {

using namespace iommu;

namespace {

constexpr u64 ones(unsigned low, unsigned width) {
    return bits<u64>(~u64{0}, 0, width) << low;
}

// 9.3: the lowest zero of a NAPOT range says how large it is.
PageRange range_of(u64 page, bool napot) {
    const u64 inside = napot ? (page ^ (page + 1)) & ones(0, 52) : 0;
    return {(page & ~inside) << page_shift, (page | inside) << page_shift | (page_bytes - 1)};
}

}  // namespace

bool Iommu::command_queue_ready() const {
    return command_.on() && (command_.csr & command_stops) == 0 && command_.head != command_.tail;
}

void Iommu::process_commands() {
    while (command_queue_ready()) {
        std::array<u64, 2> words{};
        if (!memory_.load(command_.address(command_.head, command_bytes), big_endian(), words)) {
            command_.csr |= csr_memory_fault;
            break;
        }
        const Execution execution = execute({words[0], words[1]});
        if (execution == Execution::illegal) command_.csr |= csr_command_illegal;
        if (execution != Execution::done) break;
        command_.head = command_.next(command_.head);
        DeviceCounters::add(counters_.operations);
    }
    update_interrupts();
}

Iommu::Execution Iommu::execute(const Command& command) {
    switch (static_cast<Opcode>(bits<u64>(command.low, 0, 7))) {
        case Opcode::iotinval:
            return execute_iotinval(command);
        case Opcode::iofence:
            return execute_iofence(command);
        case Opcode::iodir:
            return execute_iodir(command);
        case Opcode::ats:
            return execute_ats(command);
    }
    return Execution::illegal;
}

Iommu::Execution Iommu::execute_iotinval(const Command& command) {
    const u64 low = command.low, high = command.high;
    const u64 function = bits<u64>(low, 7, 3);
    const bool av = bit(low, 10), pscv = bit(low, 32), gv = bit(low, 33), nl = bit(low, 34), s = bit(high, 9);
    constexpr u64 reserved_low = ones(11, 1) | ones(35, 9) | ones(60, 4),
                  reserved_high = ones(0, 9) | ones(62, 2);
    if ((low & reserved_low) != 0 || (high & reserved_high) != 0) return Execution::illegal;
    if ((nl && !options_.nl) || (s && !options_.s)) return Execution::illegal;
    const auto gscid = gv ? std::optional(static_cast<u32>(bits<u64>(low, 44, 16))) : std::nullopt;
    const auto pscid = pscv ? std::optional(static_cast<u32>(bits<u64>(low, 12, 20))) : std::nullopt;
    const auto range = av ? std::optional(range_of(bits<u64>(high, 10, 52), s)) : std::nullopt;
    // No entry of an inner level is cached: NL has nothing more to invalidate.
    if (function == 0) {
        ioatc_.invalidate_first_stage(gscid, pscid, range);
    } else if (function == 1 && !pscv) {
        ioatc_.invalidate_second_stage(gscid, range);
    } else {
        return Execution::illegal;
    }
    return Execution::done;
}

Iommu::Execution Iommu::execute_iofence(const Command& command) {
    const bool av = bit(command.low, 10), wsi = bit(command.low, 11);
    constexpr u64 reserved_low = ones(7, 3) | ones(14, 18), reserved_high = ones(62, 2);
    if ((command.low & reserved_low) != 0 || (command.high & reserved_high) != 0) return Execution::illegal;
    if (wsi && !wired()) return Execution::illegal;
    for (const Invalidation& invalidation : invalidations_) {
        if (invalidation.waiting) return Execution::stalled;
    }
    if (invalidation_timed_out_) {
        invalidation_timed_out_ = false;
        command_.csr |= csr_command_timeout;
        return Execution::stalled;
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (av && !write_word(command.high << 2, static_cast<u32>(command.low >> 32))) {
        command_.csr |= csr_memory_fault;
        return Execution::stalled;
    }
    if (wsi) command_.csr |= csr_fence_interrupt;
    return Execution::done;
}

Iommu::Execution Iommu::execute_iodir(const Command& command) {
    const u64 low = command.low;
    const u64 function = bits<u64>(low, 7, 3);
    const bool dv = bit(low, 33);
    const u32 pid = static_cast<u32>(bits<u64>(low, 12, 20)), did = static_cast<u32>(bits<u64>(low, 40, 24));
    constexpr u64 reserved_low = ones(10, 2) | ones(32, 1) | ones(34, 6);
    if ((low & reserved_low) != 0 || command.high != 0) return Execution::illegal;
    if (dv && device_id_too_wide(did)) return Execution::illegal;
    if (function == 0) {
        if (pid != 0) return Execution::illegal;
        ioatc_.invalidate_device(dv ? std::optional(did) : std::nullopt);
    } else if (function == 1 && dv) {
        const unsigned width = options_.pd20 ? 20 : options_.pd17 ? 17 : 8;
        if (pid >> width != 0) return Execution::illegal;
        ioatc_.invalidate_process(did, pid);
    } else {
        return Execution::illegal;
    }
    return Execution::done;
}

Iommu::Execution Iommu::execute_ats(const Command& command) {
    const u64 low = command.low;
    const u64 function = bits<u64>(low, 7, 3);
    constexpr u64 reserved_low = ones(10, 2) | ones(34, 6);
    if (!options_.ats || (low & reserved_low) != 0 || function > 1) return Execution::illegal;
    AtsMessage message;
    message.code = function == 0 ? AtsMessage::invalidation_request : AtsMessage::page_request_group_response;
    message.rid = static_cast<u16>(bits<u64>(low, 40, 16));
    message.dsv = bit(low, 33);
    message.dseg = message.dsv ? static_cast<u8>(bits<u64>(low, 56, 8)) : 0;
    message.pv = bit(low, 32);
    message.pid = message.pv ? static_cast<u32>(bits<u64>(low, 12, 20)) : 0;
    message.payload = command.high;
    if (function == 1) {
        if (ats_link_ != nullptr) ats_link_->send(message);
        return Execution::done;
    }
    unsigned tag = 0;
    while (tag < invalidations_.size() && invalidations_[tag].waiting) ++tag;
    if (tag == invalidations_.size()) return Execution::stalled;
    message.tag = static_cast<u8>(tag);
    if (ats_link_ != nullptr && ats_link_->send(message)) {
        invalidations_[tag] = {.waiting = true, .dsv = message.dsv, .dseg = message.dseg, .rid = message.rid};
    } else {
        invalidation_timed_out_ = true;
    }
    return Execution::done;
}

bool Iommu::invalidation_completed(const AtsMessage& message) {
    std::lock_guard lock(lock_);
    const u32 tags = static_cast<u32>(message.payload);
    const u8 completions = static_cast<u8>(bits<u64>(message.payload, 32, 3));  // 0: eight of them
    for (unsigned tag = 0; tag < invalidations_.size(); ++tag) {
        if (!bit(tags, tag)) continue;
        Invalidation& invalidation = invalidations_[tag];
        if (!invalidation.waiting || invalidation.rid != message.rid) return false;
        if (invalidation.dsv && (!message.dsv || message.dseg != invalidation.dseg)) return false;
        invalidation.responses = (invalidation.responses + 1) & 7;
        if (invalidation.responses == completions) invalidation.waiting = false;
    }
    process_commands();
    return true;
}

void Iommu::invalidation_timed_out(u32 itags) {
    std::lock_guard lock(lock_);
    for (unsigned tag = 0; tag < invalidations_.size(); ++tag) {
        if (!bit(itags, tag) || !invalidations_[tag].waiting) continue;
        invalidations_[tag].waiting = false;
        invalidation_timed_out_ = true;
    }
    process_commands();
}

}  // namespace wirt::devices::hardware
