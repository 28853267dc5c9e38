// A hart's saved state: it goes to another hart as it is, and one that no guest could have brought about is
// refused and leaves a hart that runs.
//
// Standalone: prints each failure and a closing count, exits 0 if there are none.
#include <cstdio>
#include <cstring>

#include "riscv/hart.h"
#include "support/bare_hart.h"
#include "support/check.h"
#include "support/state_copy.h"

namespace {

using namespace wirt;
using namespace wirt::riscv;

void test_a_state_goes_on_in_another_hart() {
    BareHart one, other;
    one.hart.poke_csr(csr_mstatus, mstatus::fs | mstatus::sum);
    one.hart.poke_csr(csr_fcsr, 0x61);
    one.hart.poke_csr(csr_satp, u64{9} << 60 | BareHart::ram_base >> 12);
    one.hart.poke_csr(csr_pmpcfg0, 0x1f);
    one.hart.poke_csr(csr_pmpaddr0, ~u64{0});
    one.hart.run(101);
    StateCopy copy = StateCopy::of(one.hart);
    copy.load_into(other.hart);
    CHECK(StateCopy::of(other.hart) == copy);
    one.hart.run(202);
    other.hart.run(202);
    CHECK(other.hart.x(1) == 101);
    CHECK(StateCopy::of(other.hart) == StateCopy::of(one.hart));
}

void test_what_no_guest_brings_about_is_refused() {
    struct {
        const char* field;
        u64 value;
    } const forgeries[] = {
        {"privilege", 2},
        {"privilege", 0xff},
        {"pc", BareHart::ram_base + 1},
        {"cycles", ~u64{0}},
        {"exceptions", u64{1} << 40},
        {"fflags", 0x20},
        {"frm", 8},
        {"mstatus", u64{2} << 32 | u64{2} << 34 | u64{2} << mstatus::mpp_shift},
        {"mstatus", u64{1} << 32 | u64{2} << 34},
        {"mstatus", u64{2} << 32 | u64{2} << 34 | mstatus::vs},
        {"mstatus", u64{2} << 32 | u64{2} << 34 | mstatus::sd},
        {"mip", u64{1} << 63},
        {"mie", 1},
        {"mideleg", irq_bit(irq_mti)},
        {"medeleg", u64{1} << exc_ecall_m},
        {"mtvec", 2},
        {"stvec", 3},
        {"mepc", 1},
        {"sepc", 1},
        {"satp", u64{1} << 60},
        {"satp", u64{11} << 60},
        {"menvcfg", u64{2} << 4},
        {"menvcfg", 2},
        {"senvcfg", envcfg::stce},
        {"mcounteren", u64{1} << 32},
        {"mcountinhibit", 2},
        {"pmpcfg", 0x02},
        {"pmpcfg", 0x60},
        {"pmpaddr", ~u64{0}},
    };
    for (const auto& [field, value] : forgeries) {
        BareHart m;
        m.hart.run(10);
        StateCopy copy = StateCopy::of(m.hart);
        copy.set(std::string("hart0.") + field, value);
        bool refused = false;
        try {
            copy.load_into(m.hart);
        } catch (const StateError&) {
            refused = true;
        }
        CHECK(refused);
        if (!refused) std::printf("    %s = %#llx\n", field, static_cast<unsigned long long>(value));
        // As after a reset.
        CHECK(m.hart.pc() == BareHart::ram_base && m.hart.privilege() == Privilege::machine);
        const u64 cycles = m.hart.cycles();
        CHECK(m.hart.run(cycles + 20) == RunResult::limit);
        CHECK(m.hart.cycles() == cycles + 20);
    }
}

}  // namespace

int main() {
    test_a_state_goes_on_in_another_hart();
    test_what_no_guest_brings_about_is_refused();
    return checks.close();
}
