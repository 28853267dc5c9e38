// Device and process directories: the way from device_id and process_id to a context.
//
// Implements: RISC-V IOMMU Architecture Specification 1.0, 3.1 (device directory table and context, with its
// configuration checks), 3.2 (process directory table and context), 3.3.1 and 3.3.2 (how they are located).
#include "devices/hardware/iommu/iommu.h"

namespace wirt::devices::hardware {

using namespace iommu;

namespace {

struct DeviceIndices {
    u32 at[3];
};

// 3.1: the extended format has half as many contexts a page.
constexpr DeviceIndices device_indices(u32 device_id, bool extended) {
    const unsigned leaf = extended ? 6 : 7;
    return {{bits(device_id, 0, leaf), bits(device_id, leaf, 9), bits(device_id, leaf + 9, 15 - leaf)}};
}

constexpr u32 process_index(u32 process_id, unsigned level) {
    return level == 0 ? bits(process_id, 0, 8) : bits(process_id, 8 + 9 * (level - 1), level == 1 ? 9 : 3);
}

}  // namespace

bool Iommu::device_id_too_wide(u32 device_id) const {
    const DeviceIndices indices = device_indices(device_id, options_.msi_flat);
    switch (mode()) {
        case IommuMode::one_level:
            return indices.at[1] != 0 || indices.at[2] != 0;
        case IommuMode::two_level:
            return indices.at[2] != 0;
        default:
            return device_id >> 24 != 0;
    }
}

Cause Iommu::locate_device(PageWalk& walk, u32 device_id, DeviceContext& dc) {
    if (const DeviceContext* cached = ioatc_.device(device_id)) {
        dc = *cached;
        return Cause::none;
    }
    const DeviceIndices indices = device_indices(device_id, options_.msi_flat);
    u64 table = bits<u64>(ddtp_, 10, 44) << page_shift;
    for (unsigned level = static_cast<unsigned>(mode()) - static_cast<unsigned>(IommuMode::one_level);
         level > 0; --level) {
        walk.count(Event::device_directory_walk);
        const auto entry = memory_.load(table + u64{8} * indices.at[level], 8, big_endian());
        if (!entry) return Cause::ddt_load_access_fault;
        if ((*entry & entry_valid) == 0) return Cause::ddt_not_valid;
        if ((*entry & non_leaf_reserved) != 0) return Cause::ddt_misconfigured;
        table = non_leaf_ppn(*entry) << page_shift;
    }
    walk.count(Event::device_directory_walk);
    std::array<u64, 8> words{};
    const std::size_t count = options_.msi_flat ? 8 : 4;
    if (!memory_.load(table + 8 * count * indices.at[0], big_endian(), words, count)) {
        return Cause::ddt_load_access_fault;
    }
    dc = {words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7]};
    if ((dc.tc & entry_valid) == 0) return Cause::ddt_not_valid;
    if (!well_configured(dc)) return Cause::ddt_misconfigured;
    ioatc_.insert_device(device_id, dc);
    return Cause::none;
}

bool Iommu::first_stage_mode_exists(unsigned mode, bool sxl) const {
    switch (mode) {
        case mode_bare:
            return true;
        case mode_8:
            return sxl ? options_.sv32 : options_.sv39;
        case mode_9:
            return !sxl && options_.sv48;
        case mode_10:
            return !sxl && options_.sv57;
        default:
            return false;
    }
}

// 3.1.4, device-context configuration checks.
bool Iommu::well_configured(const DeviceContext& dc) const {
    const IommuOptions& o = options_;
    if ((dc.tc & tc_reserved) != 0 || (dc.ta & dc_ta_reserved) != 0 || dc.reserved != 0) return false;
    if (pointer_middle(dc.fsc) != 0 || pointer_middle(dc.msiptp) != 0) return false;
    if (((dc.msi_addr_mask | dc.msi_addr_pattern) & ~msi_address_bits) != 0) return false;
    if (!o.ats && (dc.en_ats() || dc.en_pri() || dc.prpr())) return false;
    if (!dc.en_ats() && (dc.t2gpa() || dc.en_pri())) return false;
    if (!dc.en_pri() && dc.prpr()) return false;
    if (dc.t2gpa() && (!o.t2gpa || dc.gmode() == mode_bare)) return false;

    // SXL and SBE are as free as fctl.GXL and fctl.BE.
    if (gxl() ? !dc.sxl() : dc.sxl() && !o.gxl_writable) return false;
    if (!o.end && dc.sbe() != big_endian()) return false;
    const unsigned mode = pointer_mode(dc.fsc);
    if (dc.pdtv()) {
        const bool exists = mode == pdtp_bare || (mode == pdtp_pd8 && o.pd8) ||
                            (mode == pdtp_pd17 && o.pd17) || (mode == pdtp_pd20 && o.pd20);
        if (!exists) return false;
    } else if (dc.dpe() || !first_stage_mode_exists(mode, dc.sxl())) {
        return false;
    }

    switch (dc.gmode()) {
        case mode_bare:
            // Without a second stage there is no address space to tag MSI translations with.
            if (pointer_mode(dc.msiptp) != msiptp_off) return false;
            break;
        case mode_8:
            if (gxl() ? !o.sv32x4 : !o.sv39x4) return false;
            break;
        case mode_9:
            if (gxl() || !o.sv48x4) return false;
            break;
        case mode_10:
            if (gxl() || !o.sv57x4) return false;
            break;
        default:
            return false;
    }
    // The second stage's root is 16 KiB.
    if (dc.gmode() != mode_bare && (pointer_ppn(dc.iohgatp) & 3) != 0) return false;
    if (pointer_mode(dc.msiptp) > msiptp_flat) return false;
    return o.amo_hwad || !(dc.sade() || dc.gade());
}

Cause Iommu::locate_process(Passage& p, const DeviceContext& dc, u32 process_id, ProcessContext& pc) {
    if (const ProcessContext* cached = ioatc_.process(p.request.device_id, process_id)) {
        pc = *cached;
        return Cause::none;
    }
    // Reads of the directory are implicit accesses of a reader; what they fault with is the request's own.
    const auto locate = [&](u64& address) {
        Leaf where;
        switch (p.walk.second_stage(address, Access{.read = true}, false, where)) {
            case WalkFault::none:
                address = where.address;
                return Cause::none;
            case WalkFault::access:
                return Cause::pdt_load_access_fault;
            default:
                p.iotval2 = (address & ~u64{3}) | 1;
                return p.access.execute ? Cause::instruction_guest_page_fault
                       : p.access.read  ? Cause::read_guest_page_fault
                                        : Cause::write_guest_page_fault;
        }
    };
    u64 table = pointer_ppn(dc.fsc) << page_shift;
    for (unsigned level = pointer_mode(dc.fsc) - pdtp_pd8; level > 0; --level) {
        u64 at = table + u64{8} * process_index(process_id, level);
        if (const Cause cause = locate(at); cause != Cause::none) return cause;
        p.walk.count(Event::process_directory_walk);
        const auto entry = memory_.load(at, 8, dc.sbe());
        if (!entry) return Cause::pdt_load_access_fault;
        if ((*entry & entry_valid) == 0) return Cause::pdt_not_valid;
        if ((*entry & non_leaf_reserved) != 0) return Cause::pdt_misconfigured;
        table = non_leaf_ppn(*entry) << page_shift;
    }
    u64 at = table + u64{16} * process_index(process_id, 0);
    if (const Cause cause = locate(at); cause != Cause::none) return cause;
    p.walk.count(Event::process_directory_walk);
    std::array<u64, 2> words{};
    if (!memory_.load(at, dc.sbe(), words)) return Cause::pdt_load_access_fault;
    pc = {words[0], words[1]};
    if ((pc.ta & entry_valid) == 0) return Cause::pdt_not_valid;
    if (!well_configured(dc, pc)) return Cause::pdt_misconfigured;
    ioatc_.insert_process(p.request.device_id, process_id, pc);
    return Cause::none;
}

// 3.2.4, process-context configuration checks.
bool Iommu::well_configured(const DeviceContext& dc, const ProcessContext& pc) const {
    return (pc.ta & pc_ta_reserved) == 0 && pointer_middle(pc.fsc) == 0 &&
           first_stage_mode_exists(pointer_mode(pc.fsc), dc.sxl());
}

}  // namespace wirt::devices::hardware
