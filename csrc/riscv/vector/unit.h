// The state of the vector extension V 1.0 (The RISC-V Instruction Set Manual, Volume I, chapter "V"): 32
// registers of VLEN bits, vl, vtype, vstart, vxrm and vxsat.
//
// Element i of type T of a register group is at i * sizeof(T) from the group's first register: registers lie
// behind one another in host memory, little-endian, as the mapping of chapter 31.4 has it for any LMUL.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "base/state_visitor.h"
#include "base/types.h"
#include "riscv/isa_config.h"

namespace wirt::riscv::vector {

// What floating point with SEW = 16 may do.
enum class HalfPrecision : u8 { none, conversions /* Zvfhmin */, full /* Zvfh */ };

class Unit {
  public:
    static constexpr u64 vill = u64{1} << 63;

    explicit Unit(const IsaConfig& isa);
    void reset();
    // Throws StateError where what is loaded could not have come about.
    void visit_state(StateVisitor& v, std::string_view section);

    unsigned vlen() const { return vlenb_ * 8; }
    unsigned vlenb() const { return vlenb_; }
    HalfPrecision half() const { return half_; }
    bool has_sha512() const { return sha512_; }
    u8* reg(unsigned number) { return file_[0].bytes + number * vlenb_; }
    std::span<u8> bytes(unsigned number) { return {reg(number), vlenb_}; }

    u64 vtype() const { return vtype_; }
    bool illegal_type() const { return (vtype_ & vill) != 0; }
    // log2 of SEW in bytes and of LMUL; only where vtype is legal.
    unsigned sew() const { return sew_; }
    int lmul() const { return lmul_; }
    u64 vlmax() const { return vlmax_; }
    // Takes a new vtype; one that is not supported sets vill and makes VLMAX 0.
    void set_vtype(u64 value);

    u64 vl = 0;
    u64 vstart = 0;
    u8 vxrm = 0;
    bool vxsat = false;

    // vstart, vxsat, vxrm, vcsr, vl, vtype and vlenb; the last three are not written.
    u64 read_csr(u16 number) const;
    void write_csr(u16 number, u64 value);

  private:
    struct alignas(64) Line {
        u8 bytes[64];
    };
    bool type_is_legal(u64 value) const;

    unsigned vlenb_;
    HalfPrecision half_;
    bool sha512_;
    u64 vtype_ = vill;
    u64 vlmax_ = 0;
    unsigned sew_ = 0;
    int lmul_ = 0;
    std::unique_ptr<Line[]> file_;
};

}  // namespace wirt::riscv::vector
