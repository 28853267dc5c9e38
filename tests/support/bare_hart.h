// A hart with a little memory and nothing else, counting in a loop.
#pragma once

#include <cstring>

#include "riscv/hart.h"

namespace wirt {

struct LoneEnvironment final : riscv::HartEnvironment {
    u64 time(const riscv::Hart&) override { return 0; }
    u64 cycles_until(const riscv::Hart&, u64) override { return 1000; }
    bool serves_sbi() const override { return false; }
    void supervisor_call(riscv::Hart&) override {}
    void code_page_marked(const riscv::Hart&, u64) override {}
    void await_code_marks(riscv::Hart&) override {}
    void relax(const riscv::Hart&) override {}
    void wake(const riscv::Hart&) override {}
    u16 draw_entropy() override { return 0; }
    bool deterministic() const override { return true; }
};

struct BareHart {
    static constexpr u64 ram_base = 0x8000'0000;
    BareHart() {
        const u32 code[] = {0x0010'8093, 0xffdf'f06f};  // addi ra, ra, 1; j back to it
        std::memcpy(ram.data(), code, sizeof code);
    }
    memory::GuestRam ram{ram_base, 64 * KiB};
    memory::AddressSpace bus{ram};
    LoneEnvironment environment;
    riscv::Hart hart{0, bus, environment};
};

}  // namespace wirt
