// Fuzzes the hart: random bytes as code and as page tables, from fetch to trap, in every privilege mode. The
// first 16 bytes choose mode, satp, mstatus and where the code begins; the rest is placed in memory.
#include <algorithm>
#include <cstring>

#include "base/types.h"
#include "require.h"
#include "riscv/hart.h"
#include "state/state_hash.h"

namespace {

using namespace wirt;
using namespace wirt::riscv;

constexpr u64 ram_base = 0x8000'0000, ram_size = 256 * KiB;
constexpr u64 cycles = 4096;

class Environment final : public HartEnvironment {
  public:
    u64 time(const Hart& hart) override { return hart.cycles() / 16; }
    u64 cycles_until(const Hart&, u64) override { return 256; }
    bool serves_sbi() const override { return false; }
    void supervisor_call(Hart&) override {}
    void code_page_marked(const Hart&, u64) override {}
    void await_code_marks(Hart&) override {}
    void relax(const Hart&) override {}
    void wake(const Hart&) override {}
    u16 draw_entropy() override { return 0x5eed; }
    bool deterministic() const override { return true; }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    struct Start {
        u8 privilege;
        u8 translation;
        u16 page;
        u32 status;
        u64 pc;
    } start;
    if (size < sizeof start) return 0;
    std::memcpy(&start, data, sizeof start);
    memory::GuestRam ram(ram_base, ram_size);
    memory::AddressSpace bus(ram);
    Environment environment;
    // With everything that a hart can have.
    static const IsaConfig isa(
        "rv64gcb_zicbom_zicboz_zicntr_zihpm_zawrs_zihintpause_sstc_svadu_svinval_zicond_zimop_zabha_zacas_"
        "zfa_zfh_zcb"
        "_zcmop_zbc_zk_sdtrig_smnpm_smstateen_sscofpmf_ssnpm_svnapot_svpbmt");
    Hart hart(0, bus, environment, isa);

    const u64 bytes = std::min<u64>(size - sizeof start, ram_size);
    std::memcpy(ram.data(), data + sizeof start, bytes);
    hart.reset(ram_base, Privilege::machine);
    for (unsigned i = 1; i < 32; ++i) hart.set_x(i, ram_base + i * 0x1238);
    static constexpr u64 modes[] = {0, 8, 9, 10};
    hart.poke_csr(0x3a0, 0x1f);                        // pmpcfg0: everything is allowed
    hart.poke_csr(0x3b0, ~u64{0});                     // pmpaddr0
    hart.poke_csr(0x305, ram_base + 0x40);             // mtvec
    hart.poke_csr(0x105, ram_base + 0x80);             // stvec
    hart.poke_csr(0x302, start.status);                // medeleg
    hart.poke_csr(0x300, u64{start.status} | 0x6000);  // mstatus, with floating point
    hart.poke_csr(0x180, modes[start.translation & 3] << 60 | ((ram_base >> 12) + start.page % 64));
    static constexpr Privilege privileges[] = {Privilege::machine, Privilege::supervisor, Privilege::user};
    hart.set_privilege(privileges[start.privilege % 3]);
    hart.set_pc((start.privilege & 0x80 ? start.pc : ram_base + start.pc % ram_size) & ~u64{1});
    while (hart.cycles() < cycles) {
        if (hart.run(cycles) != RunResult::limit) break;
    }
    FUZZ_REQUIRE(hart.x(0) == 0 && hart.pc() % 2 == 0);
    state::HashVisitor first, second;
    hart.visit_state(first);
    hart.visit_state(second);
    FUZZ_REQUIRE(first.hex() == second.hex());
    return 0;
}
