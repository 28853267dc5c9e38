// The in-memory structures of the RISC-V IOMMU: encodings only, no behaviour.
//
// Implements: RISC-V IOMMU Architecture Specification 1.0, chapter 3 (data structures), chapter 4 (queues);
// RISC-V Privileged Architecture, 12.3 to 12.6 (page-table entries); RISC-V Advanced Interrupt
// Architecture 1.0, chapter 9 (MSI page tables and memory-resident interrupt files).
#pragma once

#include "base/bits.h"
#include "base/types.h"

namespace wirt::devices::hardware::iommu {

constexpr u64 page_bytes = 4096;
constexpr unsigned page_shift = 12;

// --- what goes wrong: table "Fault record CAUSE field encodings" ---

enum class Cause : u16 {
    none = 0,
    instruction_access_fault = 1,
    read_access_fault = 5,
    write_access_fault = 7,
    instruction_page_fault = 12,
    read_page_fault = 13,
    write_page_fault = 15,
    instruction_guest_page_fault = 20,
    read_guest_page_fault = 21,
    write_guest_page_fault = 23,
    all_inbound_disallowed = 256,
    ddt_load_access_fault = 257,
    ddt_not_valid = 258,
    ddt_misconfigured = 259,
    transaction_type_disallowed = 260,
    msi_pte_load_access_fault = 261,
    msi_pte_not_valid = 262,
    msi_pte_misconfigured = 263,
    mrif_access_fault = 264,
    pdt_load_access_fault = 265,
    pdt_not_valid = 266,
    pdt_misconfigured = 267,
    msi_write_access_fault = 273,
};

// Table "Fault record TTYP field encodings".
enum class TransactionType : u8 {
    none = 0,
    untranslated_execute = 1,
    untranslated_read = 2,
    untranslated_write = 3,
    translated_execute = 5,
    translated_read = 6,
    translated_write = 7,
    ats_translation = 8,
    message = 9,
};

// --- pointers: mode in the top four bits, page number in the low 44 ---

constexpr u64 pointer_ppn(u64 pointer) {
    return bits<u64>(pointer, 0, 44);
}
constexpr unsigned pointer_mode(u64 pointer) {
    return static_cast<unsigned>(pointer >> 60);
}
// Bits 59:44, reserved in iosatp, pdtp and msiptp; GSCID in iohgatp.
constexpr u32 pointer_middle(u64 pointer) {
    return static_cast<u32>(bits<u64>(pointer, 44, 16));
}

// iosatp.MODE and iohgatp.MODE; 8 is Sv32 or Sv32x4 under SXL or GXL.
constexpr unsigned mode_bare = 0, mode_8 = 8, mode_9 = 9, mode_10 = 10;
constexpr unsigned pdtp_bare = 0, pdtp_pd8 = 1, pdtp_pd17 = 2, pdtp_pd20 = 3;
constexpr unsigned msiptp_off = 0, msiptp_flat = 1;

// --- directory entries ---

constexpr u64 entry_valid = 1;
constexpr u64 non_leaf_reserved = ~(bits<u64>(~u64{0}, 0, 44) << 10 | entry_valid);
constexpr u64 non_leaf_ppn(u64 entry) {
    return bits<u64>(entry, 10, 44);
}

// A device context in the extended format; the base format has the first four (the others are then 0).
struct DeviceContext {
    u64 tc = 0, iohgatp = 0, ta = 0, fsc = 0;
    u64 msiptp = 0, msi_addr_mask = 0, msi_addr_pattern = 0, reserved = 0;

    bool en_ats() const { return bit(tc, 1); }
    bool en_pri() const { return bit(tc, 2); }
    bool t2gpa() const { return bit(tc, 3); }
    bool dtf() const { return bit(tc, 4); }
    bool pdtv() const { return bit(tc, 5); }
    bool prpr() const { return bit(tc, 6); }
    bool gade() const { return bit(tc, 7); }
    bool sade() const { return bit(tc, 8); }
    bool dpe() const { return bit(tc, 9); }
    bool sbe() const { return bit(tc, 10); }
    bool sxl() const { return bit(tc, 11); }
    unsigned gmode() const { return pointer_mode(iohgatp); }
    u32 gscid() const { return pointer_middle(iohgatp); }
    u32 pscid() const { return static_cast<u32>(bits<u64>(ta, 12, 20)); }
};
// Bits 31:24 are for custom use.
constexpr u64 tc_reserved = 0xffff'ffff'00ff'f000;
// RCID and MCID are reserved without capabilities.QOSID.
constexpr u64 dc_ta_reserved = ~(bits<u64>(~u64{0}, 0, 20) << 12);
constexpr u64 msi_address_bits = bits<u64>(~u64{0}, 0, 52);

struct ProcessContext {
    u64 ta = 0, fsc = 0;

    bool ens() const { return bit(ta, 1); }
    bool sum() const { return bit(ta, 2); }
    u32 pscid() const { return static_cast<u32>(bits<u64>(ta, 12, 20)); }
};
constexpr u64 pc_ta_reserved = ~(bits<u64>(~u64{0}, 0, 20) << 12 | u64{7});

// --- page-table entries ---

namespace pte {
constexpr u64 v = 1 << 0, r = 1 << 1, w = 1 << 2, x = 1 << 3, u = 1 << 4, g = 1 << 5, a = 1 << 6, d = 1 << 7;
constexpr u64 reserved = u64{0x1f} << 54, reserved_for_software = u64{3} << 59, n = u64{1} << 63;
constexpr u8 pbmt(u64 entry) {
    return static_cast<u8>(bits<u64>(entry, 61, 2));
}
}  // namespace pte

// --- commands (4.1) ---

enum class Opcode : u8 { iotinval = 1, iofence = 2, iodir = 3, ats = 4 };
constexpr u64 command_bytes = 16, fault_record_bytes = 32, page_request_bytes = 16;

}  // namespace wirt::devices::hardware::iommu
