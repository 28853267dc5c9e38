// What harts have counted, with the names that the specifications give to the causes of traps (Privileged
// Architecture, table "Supervisor cause register values after trap", with those of the hypervisor extension;
// Advanced Interrupt Architecture 1.0, 1.3, for the interrupts beyond).
#include "machine/parts.h"

namespace wirt::machine {

namespace {

std::string exception_name(unsigned cause) {
    switch (cause) {
        case 0:
            return "instruction address misaligned";
        case 1:
            return "instruction access fault";
        case 2:
            return "illegal instruction";
        case 3:
            return "breakpoint";
        case 4:
            return "load address misaligned";
        case 5:
            return "load access fault";
        case 6:
            return "store/AMO address misaligned";
        case 7:
            return "store/AMO access fault";
        case 8:
            return "environment call from U-mode";
        case 9:
            return "environment call from S-mode";
        case 10:
            return "environment call from VS-mode";
        case 11:
            return "environment call from M-mode";
        case 12:
            return "instruction page fault";
        case 13:
            return "load page fault";
        case 15:
            return "store/AMO page fault";
        case 20:
            return "instruction guest-page fault";
        case 21:
            return "load guest-page fault";
        case 22:
            return "virtual instruction";
        case 23:
            return "store/AMO guest-page fault";
        default:
            return "exception " + std::to_string(cause);
    }
}

std::string interrupt_name(unsigned cause) {
    switch (cause) {
        case 1:
            return "supervisor software interrupt";
        case 2:
            return "virtual supervisor software interrupt";
        case 3:
            return "machine software interrupt";
        case 5:
            return "supervisor timer interrupt";
        case 6:
            return "virtual supervisor timer interrupt";
        case 7:
            return "machine timer interrupt";
        case 9:
            return "supervisor external interrupt";
        case 10:
            return "virtual supervisor external interrupt";
        case 11:
            return "machine external interrupt";
        case 12:
            return "supervisor guest external interrupt";
        default:
            return "interrupt " + std::to_string(cause);
    }
}

}  // namespace

std::vector<HartStats> Machine::Parts::hart_stats() const {
    static constexpr const char* modes[] = {"M", "S", "VS"};
    std::vector<HartStats> out;
    for (const auto& slot : slots) {
        const riscv::Hart& hart = *slot->hart;
        const riscv::Hart::Stats& from = hart.stats();
        HartStats stats;
        stats.instructions = hart.instructions();
        stats.traps = from.traps;
        stats.interrupts = from.interrupts;
        stats.tlb_misses = from.tlb_misses;
        stats.page_walks = from.page_walks;
        stats.table_reads = from.table_reads;
        stats.tlb_flushes = from.tlb_flushes;
        stats.blocks_built = from.blocks_built;
        stats.blocks_dropped = hart.blocks_dropped();
        stats.block_cache_bytes = hart.block_cache_bytes();
        stats.block_lookups = from.block_lookups;
        stats.mmio_accesses = from.mmio_accesses;
        stats.wfi = from.wfi;
        for (unsigned mode = 0; mode < from.trap_causes.size(); ++mode) {
            for (unsigned cause = 0; cause < from.trap_causes[mode].size(); ++cause) {
                const u64 count = from.trap_causes[mode][cause];
                if (count == 0) continue;
                stats.trap_causes.push_back(
                    {modes[mode], cause < 64 ? exception_name(cause) : interrupt_name(cause - 64), count});
            }
        }
        out.push_back(std::move(stats));
    }
    return out;
}

void subtract(HartStats& from, const HartStats& before) {
    for (u64 HartStats::*field :
         {&HartStats::instructions, &HartStats::traps, &HartStats::interrupts, &HartStats::tlb_misses,
          &HartStats::page_walks, &HartStats::table_reads, &HartStats::tlb_flushes, &HartStats::blocks_built,
          &HartStats::blocks_dropped, &HartStats::block_lookups, &HartStats::mmio_accesses,
          &HartStats::wfi}) {
        from.*field -= before.*field;
    }
    for (const TrapCount& earlier : before.trap_causes) {
        for (TrapCount& count : from.trap_causes) {
            if (count.mode == earlier.mode && count.cause == earlier.cause) count.count -= earlier.count;
        }
    }
    std::erase_if(from.trap_causes, [](const TrapCount& count) { return count.count == 0; });
}

}  // namespace wirt::machine
