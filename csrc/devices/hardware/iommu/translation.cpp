// From a device's request to an address in memory, or to the cause why not.
//
// Implements: RISC-V IOMMU Architecture Specification 1.0, 3.3 (process to translate an IOVA), 3.3.3
// (addresses of MSIs), 3.6 (ATS translation requests); RISC-V Advanced Interrupt Architecture 1.0, 8.3
// (memory-resident interrupt files), 8.4 (which pages they are) and 8.5 (MSI page tables).
#include "devices/hardware/iommu/iommu.h"

namespace wirt::devices::hardware {

using namespace iommu;

namespace {

using Address = IommuRequest::Address;
using Status = IommuResponse::Status;

Access access_of(const IommuRequest& request) {
    const bool ats = request.type == Address::ats_translation;
    const bool reads = ats || !request.write;
    Access access;
    // Execution without a process_id is a matter of untranslated requests: other TLPs say it in the PASID
    // prefix.
    access.execute =
        reads && request.execute && (request.type == Address::untranslated || request.process_id.has_value());
    access.read = reads && !(request.execute && request.type == Address::untranslated);
    access.write = ats ? !request.no_write : request.write;
    access.supervisor = request.process_id.has_value() && request.privileged;
    access.check = !ats;
    return access;
}

TransactionType type_of(const IommuRequest& request, const Access& access) {
    if (request.type == Address::ats_translation) return TransactionType::ats_translation;
    const auto base = request.type == Address::untranslated ? TransactionType::untranslated_execute
                                                            : TransactionType::translated_execute;
    const unsigned offset = request.write ? 2 : access.execute ? 0 : 1;
    return static_cast<TransactionType>(static_cast<unsigned>(base) + offset);
}

// The three causes of a kind are ordered execute, read, write.
Cause by_access(const Access& access, Cause execute, Cause read, Cause write) {
    return access.execute ? execute : access.read ? read : write;
}
Cause access_fault(const Access& access) {
    return by_access(access, Cause::instruction_access_fault, Cause::read_access_fault,
                     Cause::write_access_fault);
}
Cause page_fault(const Access& access) {
    return by_access(access, Cause::instruction_page_fault, Cause::read_page_fault, Cause::write_page_fault);
}
Cause guest_page_fault(const Access& access) {
    return by_access(access, Cause::instruction_guest_page_fault, Cause::read_guest_page_fault,
                     Cause::write_guest_page_fault);
}

// 3.6: how an ATS translation request that fails is answered. A soft failure is a success without permissions
// and is not reported.
enum class AtsFailure : u8 { completer_abort, unsupported_request, soft };
AtsFailure ats_failure(Cause cause) {
    switch (cause) {
        case Cause::instruction_access_fault:
        case Cause::read_access_fault:
        case Cause::write_access_fault:
        case Cause::msi_pte_load_access_fault:
        case Cause::msi_pte_misconfigured:
        case Cause::pdt_load_access_fault:
        case Cause::pdt_misconfigured:
            return AtsFailure::completer_abort;
        case Cause::all_inbound_disallowed:
        case Cause::ddt_load_access_fault:
        case Cause::ddt_not_valid:
        case Cause::ddt_misconfigured:
        case Cause::transaction_type_disallowed:
            return AtsFailure::unsupported_request;
        default:
            return AtsFailure::soft;
    }
}

// AIA 8.4: the bits of `value` under the ones of `mask`, packed.
u64 extract(u64 value, u64 mask) {
    u64 result = 0;
    for (unsigned out = 0; mask != 0; mask &= mask - 1, ++out) {
        result |= u64{(value & (mask & -mask)) != 0} << out;
    }
    return result;
}

// Page numbers of the widest guest physical address (3.1.3.6, MGPAW).
u64 guest_page_bits(const IommuOptions& options) {
    const unsigned width = options.sv57x4   ? 59
                           : options.sv48x4 ? 50
                           : options.sv39x4 ? 41
                           : options.sv32x4 ? 34
                                            : options.pas;
    return (u64{1} << (width - page_shift)) - 1;
}

bool is_virtual_interrupt_file(const DeviceContext& dc, u64 page, u64 page_bits) {
    return ((page ^ dc.msi_addr_pattern) & ~dc.msi_addr_mask & page_bits) == 0;
}

// A superpage may hold pages of virtual interrupt files, which are translated apart: the largest size that
// does not reach any from here.
u64 size_clear_of_interrupt_files(const DeviceContext& dc, u64 address, u64 size, u64 page_bits) {
    if (pointer_mode(dc.msiptp) == msiptp_off) return size;
    const u64 fixed = (~dc.msi_addr_mask & page_bits) << page_shift;
    const u64 differs = (address ^ dc.msi_addr_pattern << page_shift) & fixed;
    while (size > page_bytes && (differs & ~(size - 1)) == 0) size = std::max(size >> 9, page_bytes);
    return size;
}

}  // namespace

IommuResponse Iommu::request(const IommuRequest& request) {
    std::lock_guard lock(lock_);
    return process(request, false);
}

std::optional<u64> Iommu::translate(u32 device_id, u64 address, memory::DmaDirection direction,
                                    u64& contiguous) {
    const bool write = direction == memory::DmaDirection::from_device;
    const IommuMode mode = quick_mode_.load(std::memory_order_acquire);
    if (!monitor_.counting() && mode != IommuMode::off) {
        if (mode == IommuMode::bare) return address;
        if (const auto hit = ioatc_.dma(device_id, address, write, contiguous)) return hit;
    }
    const IommuResponse response =
        request({.device_id = device_id, .process_id = {}, .write = write, .address = address});
    if (response.status != Status::success || response.mrif) return std::nullopt;
    contiguous = std::min(contiguous, response.size - (address & (response.size - 1)));
    return response.address;
}

bool Iommu::send_message(u32 device_id, u64 address, u32 data) {
    std::lock_guard lock(lock_);
    const IommuResponse response =
        process({.device_id = device_id, .write = true, .address = address}, false);
    if (response.status != Status::success) return false;
    if (!response.mrif) return messages_ != nullptr && messages_->send_message(response.address, data);
    if (store_in_mrif(response.mrif_address, address, data)) {
        // The notice is sent after every update, in little-endian order.
        const u64 notice = align_down(response.address, page_bytes);
        if (!memory_.store(notice, 4, false, response.mrif_notice_id) && messages_ != nullptr) {
            messages_->send_message(notice, response.mrif_notice_id);
        }
        return true;
    }
    const DeviceContext* dc = ioatc_.device(device_id);
    report({.cause = Cause::mrif_access_fault,
            .type = TransactionType::untranslated_write,
            .device_id = device_id,
            .iotval = address},
           dc != nullptr && dc->dtf());
    update_interrupts();
    return false;
}

// AIA 8.5.2. False: the file is not in memory.
bool Iommu::store_in_mrif(u64 mrif, u64 address, u32 data) {
    const u32 identity = bit(address, 2) ? __builtin_bswap32(data) : data;
    if (bits<u64>(address, 3, 9) != 0 || identity > 2047) return true;  // accepted, but discarded
    // Pending and enable bits alternate by doublewords.
    return memory_.fetch_or(mrif + u64{16} * (identity / 64), false, u64{1} << (identity % 64)).has_value();
}

IommuResponse Iommu::process(const IommuRequest& request, bool debug) {
    Passage p{.request = request,
              .walk = PageWalk(memory_, options_, monitor_),
              .access = access_of(request),
              .debug = debug,
              .response = {}};
    p.walk.ids = {.device_id = request.device_id,
                  .pv = request.process_id.has_value(),
                  .process_id = request.process_id.value_or(0)};
    p.walk.gxl = gxl();
    const Cause cause = translate_request(p);
    answer(p, cause);
    if (p.walk.overflowed) raise(pmip);
    update_interrupts();
    return p.response;
}

void Iommu::answer(Passage& p, Cause cause) {
    if (cause == Cause::none) return;
    const bool ats = p.request.type == Address::ats_translation;
    const AtsFailure failure = ats ? ats_failure(cause) : AtsFailure::unsupported_request;
    const bool priv = p.request.process_id.has_value() && p.request.privileged;
    p.response = {};
    p.response.cause = static_cast<u16>(cause);
    p.response.iotval2 = p.iotval2;
    if (failure == AtsFailure::soft) {
        p.response.priv = priv;
        return;
    }
    p.response.status =
        failure == AtsFailure::completer_abort ? Status::completer_abort : Status::unsupported_request;
    report({.cause = cause,
            .type = type_of(p.request, p.access),
            .device_id = p.request.device_id,
            .process_id = p.request.process_id,
            .privileged = p.request.privileged,
            .iotval = p.request.address,
            .iotval2 = p.iotval2},
           p.dtf);
}

// 3.3; the numbers are its steps.
Cause Iommu::translate_request(Passage& p) {
    const IommuRequest& request = p.request;
    const bool untranslated = request.type == Address::untranslated;
    p.walk.count(untranslated                          ? Event::untranslated_request
                 : request.type == Address::translated ? Event::translated_request
                                                       : Event::ats_translation_request);
    p.response.address = request.address;
    // 1
    if (mode() == IommuMode::off) return Cause::all_inbound_disallowed;
    // 2
    if (mode() == IommuMode::bare) return untranslated ? Cause::none : Cause::transaction_type_disallowed;
    // 3 to 5
    if (device_id_too_wide(request.device_id)) return Cause::transaction_type_disallowed;
    // 6
    DeviceContext dc;
    if (const Cause cause = locate_device(p.walk, request.device_id, dc); cause != Cause::none) return cause;
    p.dtf = dc.dtf();
    // 7
    if (!untranslated && !dc.en_ats()) return Cause::transaction_type_disallowed;
    if (request.process_id) {
        if (!dc.pdtv()) return Cause::transaction_type_disallowed;
        const unsigned mode = pointer_mode(dc.fsc);
        const unsigned width = mode == pdtp_pd8 ? 8 : mode == pdtp_pd17 ? 17 : 20;
        if (*request.process_id >> width != 0) return Cause::transaction_type_disallowed;
    }
    // 8
    if (request.type == Address::translated && !dc.t2gpa()) return Cause::none;

    // 9 to 16: what the first stage is.
    p.walk.sxl = dc.sxl();
    p.walk.second = {dc.gmode(), pointer_ppn(dc.iohgatp), big_endian(), dc.gade()};
    SpaceTag space;
    space.gv = dc.gmode() != mode_bare;
    space.gscid = space.gv ? dc.gscid() : 0;
    u64 first_stage = 0;  // Bare
    std::optional<u32> process_id = request.process_id;
    if (request.type == Address::translated) {
        // The address is a guest physical one.
    } else if (!dc.pdtv()) {
        first_stage = dc.fsc;
        space.pscid = dc.pscid();
    } else {
        if (dc.dpe() && !process_id) process_id = 0;
        p.walk.ids.pv = process_id.has_value();
        p.walk.ids.process_id = process_id.value_or(0);
        if (process_id && pointer_mode(dc.fsc) != pdtp_bare) {
            p.walk.ids.gscv = space.gv;
            p.walk.ids.gscid = space.gscid;
            ProcessContext pc;
            if (const Cause cause = locate_process(p, dc, *process_id, pc); cause != Cause::none) {
                return cause;
            }
            if (p.access.supervisor && !pc.ens()) return Cause::transaction_type_disallowed;
            first_stage = pc.fsc;
            space.pscid = pc.pscid();
            p.access.sum = pc.sum();
        }
    }
    p.walk.first = {pointer_mode(first_stage), pointer_ppn(first_stage), dc.sbe(), dc.sade()};
    space.pscv = p.walk.first.mode != mode_bare;
    if (!space.pscv) space.pscid = 0;
    p.walk.ids.pscv = space.pscv;
    p.walk.ids.pscid = space.pscid;
    p.walk.ids.gscv = space.gv;
    p.walk.ids.gscid = space.gscid;
    // Requests that carry no process_id always go this way: the next ones need no lock.
    if (untranslated && !process_id) ioatc_.publish_space(request.device_id, space);
    return translate_address(p, dc, space);
}

// 17 to 20.
Cause Iommu::translate_address(Passage& p, const DeviceContext& dc, SpaceTag space) {
    const IommuRequest& request = p.request;
    const Access& access = p.access;
    const bool ats = request.type == Address::ats_translation;
    IommuResponse& response = p.response;
    if (!ats && !space.identity()) {
        const auto hit = ioatc_.find(space, request.address);
        const bool reachable =
            hit && (!space.pscv || (access.supervisor ? !hit->u || (access.sum && !access.execute) : hit->u));
        if (reachable && (!access.execute || (hit->x1 && hit->x2)) &&
            (!access.read || (hit->r1 && hit->r2)) &&
            (!access.write || (hit->w1 && hit->w2 && hit->d1 && hit->d2))) {
            response.size = hit->size;
            response.address = hit->to + (request.address & (hit->size - 1));
            response.pbmt = hit->pbmt;
            response.msi = hit->msi;
            return Cause::none;
        }
    }
    p.walk.count(Event::tlb_miss);
    Leaf first;
    switch (p.walk.first_stage(request.address, access, first, p.iotval2)) {
        case WalkFault::none:
            break;
        case WalkFault::page:
            return page_fault(access);
        case WalkFault::guest_page:
            return guest_page_fault(access);
        case WalkFault::access:
            return access_fault(access);
    }
    const u64 guest_address = first.address;
    Leaf second;
    if (const Cause cause = translate_msi(p, dc, guest_address, second); cause != Cause::none) return cause;
    if (response.mrif && p.debug) return Cause::transaction_type_disallowed;
    if (!response.msi) {
        switch (p.walk.second_stage(guest_address, access, false, second)) {
            case WalkFault::none:
                break;
            case WalkFault::access:
                return access_fault(access);
            default:
                p.iotval2 = guest_address & ~u64{3};
                return guest_page_fault(access);
        }
        second.size =
            size_clear_of_interrupt_files(dc, guest_address, second.size, guest_page_bits(options_));
    }

    const u64 size = std::min(first.size, second.size);
    response.size = size;
    response.address = (second.address & ~(size - 1)) | (request.address & (size - 1));
    response.pbmt = first.pbmt != 0 ? first.pbmt : second.pbmt;
    if (ats) {
        if (dc.t2gpa()) response.address = guest_address;
        const bool pasid = request.process_id.has_value();
        response.r = first.r && second.r;
        response.w = first.w && second.w && first.d && second.d;
        response.x = response.r && first.x && second.x && request.execute;
        response.u = response.mrif;
        response.global = pasid && !response.msi && first.g;
        response.priv = pasid && request.privileged;
        response.cxl_io = request.cxl && (response.pbmt != 0 || response.msi || dc.t2gpa());
    } else if (!response.mrif && !space.identity()) {
        ioatc_.insert({.space = space,
                       .from = request.address & ~(size - 1),
                       .to = response.address & ~(size - 1),
                       .size = size,
                       .reach = std::max({size, first.reach, second.reach}),
                       .r1 = first.r,
                       .w1 = first.w,
                       .x1 = first.x,
                       .u = first.u,
                       .g = first.g,
                       .d1 = first.d,
                       .r2 = second.r,
                       .w2 = second.w,
                       .x2 = second.x,
                       .d2 = second.d,
                       .pbmt = response.pbmt,
                       .msi = response.msi});
    }
    return Cause::none;
}

// 3.3.3. Sets response.msi when `address` is that of a virtual interrupt file; the entry is then in `leaf`.
Cause Iommu::translate_msi(Passage& p, const DeviceContext& dc, u64 address, Leaf& leaf) {
    if (pointer_mode(dc.msiptp) == msiptp_off) return Cause::none;
    const u64 page_bits = guest_page_bits(options_);
    const u64 page = address >> page_shift;
    if (!is_virtual_interrupt_file(dc, page, page_bits)) return Cause::none;
    const u64 file = extract(page, dc.msi_addr_mask & page_bits);
    std::array<u64, 2> entry{};
    if (!memory_.load((pointer_ppn(dc.msiptp) << page_shift) | file * 16, big_endian(), entry)) {
        return Cause::msi_pte_load_access_fault;
    }
    constexpr u64 custom = u64{1} << 63, mode_bits = 6;
    constexpr unsigned mrif_mode = 1, basic_mode = 3;
    if ((entry[0] & entry_valid) == 0) return Cause::msi_pte_not_valid;
    if ((entry[0] & custom) != 0) return Cause::msi_pte_misconfigured;
    const unsigned mode = static_cast<unsigned>((entry[0] & mode_bits) >> 1);
    constexpr u64 basic_reserved = ~(bits<u64>(~u64{0}, 0, 44) << 10 | mode_bits | entry_valid | custom);
    constexpr u64 mrif_reserved = ~(bits<u64>(~u64{0}, 0, 47) << 7 | mode_bits | entry_valid | custom);
    constexpr u64 notice_reserved =
        ~(u64{1} << 60 | bits<u64>(~u64{0}, 0, 44) << 10 | bits<u64>(~u64{0}, 0, 10));
    if (mode == basic_mode) {
        if ((entry[0] & basic_reserved) != 0) return Cause::msi_pte_misconfigured;
        leaf.address = bits<u64>(entry[0], 10, 44) << page_shift | (address & (page_bytes - 1));
    } else if (mode == mrif_mode && options_.msi_mrif) {
        if ((entry[0] & mrif_reserved) != 0 || (entry[1] & notice_reserved) != 0) {
            return Cause::msi_pte_misconfigured;
        }
        p.response.mrif = true;
        p.response.mrif_address = bits<u64>(entry[0], 7, 47) << 9;
        p.response.mrif_notice_id =
            static_cast<u32>(bits<u64>(entry[1], 0, 10) | bits<u64>(entry[1], 60, 1) << 10);
        leaf.address = bits<u64>(entry[1], 10, 44) << page_shift;
    } else {
        return Cause::msi_pte_misconfigured;
    }
    // The permissions of such an entry: R, W and U.
    leaf.x = false;
    leaf.size = page_bytes;
    p.response.msi = true;
    return p.access.execute && p.access.check ? Cause::instruction_access_fault : Cause::none;
}

}  // namespace wirt::devices::hardware
