// What goes into the IOMMU and what comes out: a device's memory request, the answer, ATS messages.
//
// Implements: RISC-V IOMMU Architecture Specification 1.0, 2.3 (placement and data flow), 3.3 (process to
// translate an IOVA), 3.6 (ATS translation requests), 3.7 (page requests).
#pragma once

#include <optional>

#include "base/types.h"

namespace wirt::devices::hardware {

enum class IommuMode : u8 { off = 0, bare = 1, one_level = 2, two_level = 3, three_level = 4 };
enum class IommuInterrupts : u8 { msi = 0, wsi = 1, both = 2 };

// What an instance can do: its `capabilities` register (6.3), and what its reset leaves open.
struct IommuOptions {
    bool sv32 = true, sv39 = true, sv48 = true, sv57 = true;
    bool sv32x4 = true, sv39x4 = true, sv48x4 = true, sv57x4 = true;
    bool svrsw60t59b = false, svpbmt = true;
    bool msi_flat = true, msi_mrif = true, amo_mrif = true, amo_hwad = true;
    bool ats = true, t2gpa = true, end = true, hpm = true, dbg = true;
    bool pd8 = true, pd17 = true, pd20 = true;
    bool nl = true, s = true;  // extensions: non-leaf PTE and address range invalidation
    u8 pas = 56;
    IommuInterrupts igs = IommuInterrupts::wsi;
    IommuMode reset_mode = IommuMode::bare;  // off or bare
    bool gxl_writable = true;                // fctl.GXL, and so DC.tc.SXL
};

struct IommuRequest {
    enum class Address : u8 { untranslated = 0, ats_translation = 1, translated = 2 };

    u32 device_id = 0;                   // 24 bits
    std::optional<u32> process_id = {};  // 20 bits
    Address type = Address::untranslated;
    bool write = false;    // or an atomic operation; an ATS translation request is a read
    bool execute = false;  // read for execute
    bool privileged = false;
    bool no_write = false;  // ATS translation request: read permission is enough
    bool cxl = false;       // from a CXL device of type 1 or 2
    u64 address = 0;
};

struct IommuResponse {
    enum class Status : u8 { success = 0, unsupported_request = 1, completer_abort = 4 };

    Status status = Status::success;
    u16 cause = 0;    // why not; an ATS translation that fails softly is a success with a cause
    u64 iotval2 = 0;  // as in the fault record
    u64 address = 0;  // translated, with the page offset
    u64 size = 4096;  // of the naturally aligned range that is translated alike
    u8 pbmt = 0;
    bool msi = false;   // the address of a virtual interrupt file
    bool mrif = false;  // one that lives in memory: `address` is then where the notice goes
    u64 mrif_address = 0;
    u32 mrif_notice_id = 0;
    // ATS translation completion; N and AMA are 0.
    bool r = false, w = false, x = false;
    bool u = false;  // untranslated access only
    bool global = false, priv = false, cxl_io = false;
};

// PCI Express 3.1, 2.2.8 and ATS 1.1, chapters 3 and 4.
struct AtsMessage {
    static constexpr u8 invalidation_request = 0x01, invalidation_completion = 0x02, page_request = 0x04,
                        page_request_group_response = 0x05;

    u8 code = 0;
    u8 tag = 0;  // ITag of an invalidation
    u16 rid = 0;
    bool dsv = false;  // `dseg` is valid
    u8 dseg = 0;
    bool pv = false;
    u32 pid = 0;
    bool privileged = false, execute = false;
    u64 payload = 0;
};

// Where messages to devices go: the bus.
class AtsLink {
  public:
    virtual ~AtsLink() = default;
    // Called with the IOMMU's lock held: an answer is given later, never from in here. False: no device of
    // that name takes messages; an invalidation has then timed out.
    virtual bool send(const AtsMessage& message) = 0;
};

}  // namespace wirt::devices::hardware
