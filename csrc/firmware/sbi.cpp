#include "firmware/sbi.h"

#include <algorithm>

#include "base/bits.h"
#include "firmware/sbi_error.h"

namespace wirt::firmware {

using riscv::Hart;

namespace {

constexpr u64 id_base = 0x10, id_time = 0x54494d45, id_ipi = 0x735049, id_rfence = 0x52464e43,
              id_hsm = 0x48534d, id_srst = 0x53525354, id_dbcn = 0x4442434e, id_pmu = 0x504d55,
              id_sta = 0x535441, id_wirt = 0x0a574952;

constexpr u64 spec_version = u64{2} << 24;
// "WIRT": no registered implementation ID exists for this monitor.
constexpr u64 implementation_id = 0x57495254;
constexpr u64 implementation_version = 1;

// A debug-console call moves at most this much; the caller asks again for the rest (12.1, 12.2).
constexpr u64 console_chunk = 64 * KiB;

u64 argument(const Hart& hart, unsigned index) {
    return hart.x(10 + index);
}

}  // namespace

Sbi::Extension Sbi::extension_of(u64 id) {
    switch (id) {
        case id_base:
            return ext_base;
        case id_time:
            return ext_time;
        case id_ipi:
            return ext_ipi;
        case id_rfence:
            return ext_rfence;
        case id_hsm:
            return ext_hsm;
        case id_srst:
            return ext_srst;
        case id_dbcn:
            return ext_dbcn;
        case id_pmu:
            return ext_pmu;
        case id_sta:
            return ext_sta;
        case id_wirt:
            return ext_wirt;
        default:
            return ext_legacy_or_unknown;
    }
}

void Sbi::call(Hart& hart) {
    const Extension extension = extension_of(hart.x(17));
    const u64 function = hart.x(16);
    counts_[extension].fetch_add(1, std::memory_order_relaxed);
    Result result{not_supported, 0};
    bool silent = false;
    switch (extension) {
        case ext_base:
            result = base(function, argument(hart, 0));
            break;
        case ext_time:
            result = time(hart, function);
            break;
        case ext_ipi:
            result = ipi(hart, function);
            break;
        case ext_rfence:
            result = rfence(hart, function);
            break;
        case ext_hsm:
            result = hsm(hart, function, silent);
            break;
        case ext_srst:
            result = srst(hart, function);
            break;
        case ext_dbcn:
            result = dbcn(hart, function);
            break;
        case ext_pmu:
            result = pmu(hart, function);
            break;
        case ext_sta:
            result = sta(hart, function);
            break;
        case ext_wirt:
            result = wirt(hart, function);
            break;
        default:
            break;
    }
    // A hart that stopped itself has new registers, or none that matter.
    if (silent) return;
    hart.set_x(10, static_cast<u64>(result.error));
    hart.set_x(11, result.value);
}

std::vector<std::pair<std::string, u64>> Sbi::counts() const {
    static constexpr const char* names[ext_count] = {"BASE", "TIME", "IPI", "RFENCE", "HSM",  "SRST",
                                                     "DBCN", "PMU",  "STA", "WIRT",   "other"};
    std::vector<std::pair<std::string, u64>> out;
    for (unsigned i = 0; i < ext_count; ++i) {
        if (const u64 n = counts_[i].load(std::memory_order_relaxed)) out.emplace_back(names[i], n);
    }
    return out;
}

u64 Sbi::total_calls() const {
    u64 total = 0;
    for (const auto& count : counts_) total += count.load(std::memory_order_relaxed);
    return total;
}

void Sbi::prepare(Hart& hart, u64 entry, u64 a1) {
    using namespace riscv;
    hart.reset(entry, Privilege::machine);
    // Everything goes to S-mode but its own ecalls, which the monitor takes before they trap.
    hart.poke_csr(csr_medeleg, 0xf0'b5ff);
    hart.poke_csr(csr_mideleg, 0x2222);
    hart.poke_csr(csr_mcounteren, ~u64{0});
    // Where Svade is named the bits of page tables are the guest's affair, until it asks for another rule.
    const u64 adue = hart.isa().has(riscv::Extension::svade) ? 0 : envcfg::adue;
    hart.poke_csr(csr_menvcfg,
                  adue | envcfg::stce | envcfg::pbmte | envcfg::cbze | envcfg::cbcfe | envcfg::cbie);
    for (u16 i = 0; i < 4; ++i) hart.poke_csr(static_cast<u16>(csr_mstateen0 + i), ~u64{0});
    // S-mode draws entropy itself (Linux does so early, without asking).
    hart.poke_csr(csr_mseccfg, mseccfg::sseed);
    hart.poke_csr(csr_stimecmp, ~u64{0});
    // One PMP entry that opens all of memory.
    hart.poke_csr(csr_pmpaddr0, ~u64{0});
    hart.poke_csr(csr_pmpcfg0, 0x1f);
    hart.set_x(10, hart.id());
    hart.set_x(11, a1);
    hart.set_privilege(Privilege::supervisor);
}

bool Sbi::targets(u64 mask, u64 base, std::vector<unsigned>& out) const {
    if (base == ~u64{0}) {
        for (unsigned i = 0; i < platform_.hart_count(); ++i) out.push_back(i);
        return true;
    }
    for (unsigned i = 0; i < 64; ++i) {
        if (!bit(mask, i)) continue;
        if (base >= platform_.hart_count() || base + i >= platform_.hart_count()) return false;
        out.push_back(static_cast<unsigned>(base + i));
    }
    return true;
}

Sbi::Result Sbi::base(u64 function, u64 argument) {
    switch (function) {
        case 0:
            return {success, spec_version};
        case 1:
            return {success, implementation_id};
        case 2:
            return {success, implementation_version};
        case 3:
            return {success, extension_of(argument) != ext_legacy_or_unknown};
        case 4:  // mvendorid
        case 5:  // marchid
        case 6:
            return {success, 0};  // mimpid
        default:
            return {not_supported, 0};
    }
}

Sbi::Result Sbi::time(Hart& hart, u64 function) {
    if (function != 0) return {not_supported, 0};
    hart.poke_csr(riscv::csr_stimecmp, argument(hart, 0));
    return {success, 0};
}

Sbi::Result Sbi::ipi(Hart& hart, u64 function) {
    if (function != 0) return {not_supported, 0};
    std::vector<unsigned> to;
    if (!targets(argument(hart, 0), argument(hart, 1), to)) return {invalid_param, 0};
    for (const unsigned index : to) platform_.hart(index).set_interrupt(riscv::irq_ssi, true);
    return {success, 0};
}

Sbi::Result Sbi::rfence(Hart& hart, u64 function) {
    // From 3 on they are about guests: HFENCE.GVMA, with and without a VMID, HFENCE.VVMA likewise with an
    // ASID.
    if (function > 6 || (function > 2 && !hart.has_hypervisor())) return {not_supported, 0};
    std::vector<unsigned> to;
    if (!targets(argument(hart, 0), argument(hart, 1), to)) return {invalid_param, 0};
    const u64 start = argument(hart, 2);
    const u64 size = argument(hart, 3);
    // Size 0 with start 0, or a size of all ones, means the whole address space (8.1).
    const bool all = (start == 0 && size == 0) || size == ~u64{0};
    for (const unsigned index : to) {
        Hart& target = platform_.hart(index);
        if (function == 0) {
            target.request_fence_i();
        } else {
            const auto last = static_cast<u16>(argument(hart, 4));
            Hart::FenceScope scope{.guest = function > 2};
            if (function == 2 || function == 5) scope.asid = last;
            if (function == 3) scope.vmid = last & 0x3fff;
            if (function >= 5) scope.vmid = hart.vmid();
            // A guest physical range says nothing of what is cached by guest virtual address.
            const bool whole = all || function == 3 || function == 4;
            target.request_sfence(whole ? 0 : start, whole ? 0 : size, scope);
        }
    }
    for (const unsigned index : to) platform_.await_fences(hart, index);
    return {success, 0};
}

Sbi::Result Sbi::hsm(Hart& hart, u64 function, bool& silent) {
    const u64 index = argument(hart, 0);
    switch (function) {
        case 0: {
            if (index >= platform_.hart_count()) return {invalid_param, 0};
            const u64 address = argument(hart, 1);
            if (!platform_.hart(0).ram_contains(address)) return {invalid_address, 0};
            if (!platform_.start_hart(static_cast<unsigned>(index), address, argument(hart, 2))) {
                return {already_available, 0};
            }
            return {success, 0};
        }
        case 1:
            platform_.stop_hart(hart);
            silent = true;
            return {success, 0};
        case 2:
            if (index >= platform_.hart_count()) return {invalid_param, 0};
            return {success, static_cast<u64>(platform_.hart_state(static_cast<unsigned>(index)))};
        case 3:
            // Default retentive suspend is a WFI; the non-retentive kind is not offered (9.4).
            if (static_cast<u32>(index) != 0) return {not_supported, 0};
            hart.suspend();
            return {success, 0};
        default:
            return {not_supported, 0};
    }
}

Sbi::Result Sbi::srst(Hart& hart, u64 function) {
    if (function != 0) return {not_supported, 0};
    const u32 type = static_cast<u32>(argument(hart, 0));
    const u32 reason = static_cast<u32>(argument(hart, 1));
    if (type > 2) return {invalid_param, 0};
    if (type == 0) {
        platform_.system_reset(reason == 0 ? ResetKind::shutdown : ResetKind::failure, reason);
    } else {
        platform_.system_reset(ResetKind::reboot, reason);
    }
    return {success, 0};
}

Sbi::Result Sbi::dbcn(Hart& hart, u64 function) {
    devices::ConsolePort& console = platform_.debug_console();
    if (function == 2) {
        const u8 byte = static_cast<u8>(argument(hart, 0));
        console.put({&byte, 1});
        return {success, 0};
    }
    if (function > 2) return {not_supported, 0};
    const u64 size = std::min(argument(hart, 0), console_chunk);
    const u64 address = argument(hart, 1);
    if (argument(hart, 2) != 0) return {invalid_param, 0};
    std::span<u8> range = hart.ram_range(address, size);
    if (range.size() != size) return {invalid_param, 0};
    if (function == 0) {
        console.put(range);
        return {success, size};
    }
    std::vector<u8> input(size);
    const u64 taken = console.take(input);
    hart.write_ram(range, address, std::span(input).first(taken));
    return {success, taken};
}

Sbi::Result Sbi::sta(Hart& hart, u64 function) {
    if (function != 0) return {not_supported, 0};
    return {platform_.steal_time(hart.id()).set_memory(hart, argument(hart, 0), argument(hart, 1),
                                                       argument(hart, 2)),
            0};
}

Sbi::Result Sbi::wirt(Hart& hart, u64 function) {
    if (function > 1) return {not_supported, 0};
    constexpr u64 longest_name = 128;
    std::string name;
    for (u64 at = argument(hart, 0); name.size() < longest_name; ++at) {
        const auto byte = hart.ram_range(at, 1);
        if (byte.empty()) return {invalid_address, 0};
        if (byte[0] == 0) break;
        name += byte[0] >= 0x20 && byte[0] < 0x7f ? static_cast<char>(byte[0]) : '?';
    }
    platform_.mark(function == 0, name, argument(hart, 1), argument(hart, 2));
    return {success, 0};
}

}  // namespace wirt::firmware
