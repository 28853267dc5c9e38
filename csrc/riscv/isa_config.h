// Which extensions a hart has, and the names by which a user asks for them.
#pragma once

#include <bitset>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"
#include "riscv/isa.h"

namespace wirt::riscv {

class IsaConfig {
  public:
    // What a machine has that asks for nothing else.
    static constexpr std::string_view standard =
        "rv64gc_zicbom_zicbop_zicboz_zicntr_zihintpause_zihpm_zawrs_zba_zbb_zbs_sstc_svadu_svinval";

    IsaConfig() : IsaConfig(standard) {}
    // An ISA string: "rv64" and single letters ("g" is imafd with Zicsr and Zifencei, "b" is Zba, Zbb and
    // Zbs), or the name of a profile; further extensions behind underscores. What an extension needs comes
    // with it. ConfigError: unknown, or not to be had.
    explicit IsaConfig(std::string_view text);

    bool has(Extension extension) const { return extensions_[static_cast<std::size_t>(extension)]; }
    bool has(Opcode opcode) const { return opcodes_[static_cast<std::size_t>(opcode)]; }
    bool has(CompressedOpcode opcode) const { return compressed_opcodes_[static_cast<std::size_t>(opcode)]; }
    // Bits of a vector register; 0 without V.
    unsigned vlen() const;
    // In canonical order, one by one; and as an ISA string, which makes the same again.
    std::vector<std::string> names() const;
    std::string text() const;
    bool operator==(const IsaConfig& other) const { return extensions_ == other.extensions_; }

  private:
    void add(Extension extension);
    void add(std::string_view name);

    std::bitset<static_cast<std::size_t>(Extension::count)> extensions_;
    std::bitset<static_cast<std::size_t>(Opcode::illegal) + 1> opcodes_;
    std::bitset<static_cast<std::size_t>(CompressedOpcode::count)> compressed_opcodes_;
};

}  // namespace wirt::riscv
