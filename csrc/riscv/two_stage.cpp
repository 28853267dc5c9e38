// Two-stage address translation of the hypervisor extension: VS-stage (vsatp), whose tables lie in guest
// physical memory, and G-stage (hgatp: Sv39x4, Sv48x4, Sv57x4); the loads and stores in a guest's address
// space, and the fences of both stages (Privileged Architecture, "H" chapter, "Two-Stage Address
// Translation").
//
// Untrusted input: both sets of page tables, and every address. Each table entry of the VS-stage costs one
// walk of the G-stage, so that a translation reads at most 35 entries.
#include "base/bits.h"
#include "riscv/hart.h"
#include "riscv/page_walk.h"

namespace wirt::riscv {

namespace {

// Pseudoinstructions for mtinst and htinst: the access of 64 bits that VS-stage translation itself made.
constexpr u32 implicit_read = 0x3000, implicit_write = 0x3020;

constexpr Exception guest_page_fault(Access access) {
    return access == Access::fetch  ? exc_fetch_guest_page
           : access == Access::load ? exc_load_guest_page
                                    : exc_store_guest_page;
}

constexpr u64 hgatp_vmid(u64 hgatp) {
    return bits(hgatp, 44, 14);
}

}  // namespace

// A guest physical address; `implicit` when VS-stage translation itself accesses its tables: `reports` is
// then what the access that is being translated is.
std::optional<Hart::Translation> Hart::walk_guest_physical(u64 gpa, u64 address, Access access,
                                                           Access reports, bool implicit, bool update) {
    const unsigned levels = levels_of(h_.hgatp);
    if (levels == 0) return Translation{gpa, page_size, true};
    const WalkRules rules{.root = bits(h_.hgatp, 0, 44) << page_shift,
                          .levels = levels,
                          .widened = 2,
                          .access = access,
                          .executes = !implicit && guest_access_ == GuestAccess::execute,
                          .user = true,
                          .sum = false,
                          .mxr = !implicit && (mstatus_ & mstatus::mxr) != 0,
                          .adue = (menvcfg_ & envcfg::adue) != 0,
                          .attributes = page_attributes(menvcfg_)};
    WalkLeaf leaf;
    WalkEnd end = WalkEnd::page_fault;
    // Bits above the guest physical address must be zero.
    if (gpa >> (14 + 9 * levels) == 0) {
        end = walk_tables(
            gpa, rules, update, ram_,
            [&](u64 entry, Access use) { return walk_entry(entry, use, reports, address, update); }, leaf);
    }
    if (end == WalkEnd::found) return Translation{leaf.physical, leaf.extent, true};
    if (end == WalkEnd::page_fault) {
        raise(guest_page_fault(reports), address);
        fault_.guest_physical = gpa;
        if (implicit) fault_.instruction = access == Access::store ? implicit_write : implicit_read;
    }
    return std::nullopt;
}

std::optional<Hart::Translation> Hart::walk_two_stage(u64 address, Access access, Privilege level,
                                                      bool update, unsigned size) {
    if (update) ++stats_.page_walks;
    const bool executes = guest_access_ == GuestAccess::execute;
    u64 gpa = address;
    u64 extent = page_size;
    if (const unsigned levels = levels_of(h_.vsatp); levels != 0) {
        const WalkRules rules{.root = bits(h_.vsatp, 0, 44) << page_shift,
                              .levels = levels,
                              .widened = 0,
                              .access = access,
                              .executes = executes,
                              .user = level == Privilege::user,
                              .sum = (h_.vsstatus & mstatus::sum) != 0,
                              .mxr = ((h_.vsstatus | mstatus_) & mstatus::mxr) != 0,
                              .adue = (effective_henvcfg() & envcfg::adue) != 0,
                              .attributes = page_attributes(effective_henvcfg())};
        WalkLeaf leaf;
        WalkEnd end = WalkEnd::page_fault;
        if (sign_extend(address, 12 + 9 * levels) == static_cast<i64>(address)) {
            const auto entry_at = [&](u64 entry, Access use) {
                const auto at = walk_guest_physical(entry, address, use, access, true, update);
                return at ? walk_entry(at->physical, use, access, address, update) : WalkEntry{nullptr, 0};
            };
            end = walk_tables(address, rules, update, ram_, entry_at, leaf);
        }
        if (end == WalkEnd::page_fault) raise(page_fault(access), address);
        if (end != WalkEnd::found) return std::nullopt;
        gpa = leaf.physical;
        extent = leaf.extent;
    }
    const auto final = walk_guest_physical(gpa, address, access, access, false, update);
    if (!final) return std::nullopt;
    bool whole = true;
    bool ignored;
    if (!pmp_allows(final->physical, size, access, level, whole) ||
        (executes && !pmp_allows(final->physical, size, Access::fetch, level, ignored))) {
        raise(access_fault(access), address);
        return std::nullopt;
    }
    // A fence of the G-stage flushes whole spaces: the extent that matters to others is the VS-stage's. What
    // an HLVX may read tells nothing of loads.
    return Translation{final->physical, extent, whole && !executes};
}

// ---------------------------------------------------------------- HLV, HLVX, HSV

// A load or store as though in VS- or VU-mode: in another translation context.
class Hart::GuestAccessScope {
  public:
    GuestAccessScope(Hart& hart, GuestAccess kind) : hart_(hart) {
        hart_.guest_access_ = kind;
        hart_.select_translation();
    }
    // Also where a device has thrown.
    ~GuestAccessScope() {
        hart_.guest_access_ = GuestAccess::none;
        hart_.select_translation();
    }
    GuestAccessScope(const GuestAccessScope&) = delete;
    GuestAccessScope& operator=(const GuestAccessScope&) = delete;

  private:
    Hart& hart_;
};

bool Hart::may_access_guest() {
    if (virtual_) {
        virtual_instruction();
        return false;
    }
    if (privilege_ == Privilege::user && (h_.hstatus & hstatus::hu) == 0) {
        illegal_instruction();
        return false;
    }
    return true;
}

bool Hart::guest_load(u64 address, unsigned size, bool execute, u64& value) {
    if (!may_access_guest()) return false;
    const GuestAccessScope scope(*this, execute ? GuestAccess::execute : GuestAccess::data);
    if (load_any(address, size, value)) return true;
    fault_.guest_address = true;
    // A hypervisor that reads an instruction for its guest, and cannot, lets the guest fetch it and fault:
    // what is cached must not keep it from that.
    if (execute) fence_guest(fault_.value, true, std::nullopt);
    return false;
}

bool Hart::guest_store(u64 address, unsigned size, u64 value) {
    if (!may_access_guest()) return false;
    const GuestAccessScope scope(*this, GuestAccess::data);
    if (store_any(address, size, value)) return true;
    fault_.guest_address = true;
    return false;
}

// ---------------------------------------------------------------- fences

Hart::Next Hart::hfence_vvma(u64 address, u64 asid, bool has_address, bool has_asid) {
    if (virtual_) return virtual_instruction();
    if (privilege_ == Privilege::user || !has_h_) return illegal_instruction();
    fence_guest(address, has_address, has_asid ? std::optional<u16>(static_cast<u16>(asid)) : std::nullopt);
    pc_ += 4;
    return Next::resume;
}

// Of the guest that hgatp names.
void Hart::fence_guest(u64 address, bool has_address, std::optional<u16> asid) {
    flush_range(has_address ? address & ~page_mask : 0, has_address ? page_size : 0,
                {.guest = true, .vmid = static_cast<u16>(hgatp_vmid(h_.hgatp)), .asid = asid});
}

// What is cached leads from guest virtual to host addresses: it does not say which guest physical page it
// goes by.
Hart::Next Hart::hfence_gvma(u64 vmid, bool has_vmid) {
    if (virtual_) return virtual_instruction();
    const bool trapped = privilege_ == Privilege::supervisor && (mstatus_ & mstatus::tvm) != 0;
    if (privilege_ == Privilege::user || trapped || !has_h_) return illegal_instruction();
    flush_range(0, 0,
                {.guest = true,
                 .vmid = has_vmid ? std::optional<u16>(hgatp_vmid(vmid << 44)) : std::nullopt,
                 .asid = {}});
    pc_ += 4;
    return Next::resume;
}

}  // namespace wirt::riscv
