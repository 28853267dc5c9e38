// The 82574's registers as plain storage: one table says where each is, what it resets to and which of its
// bits software may write (Intel 82574 GbE Controller Family Datasheet, 10.2).
#pragma once

#include <span>
#include <vector>

#include "base/state_visitor.h"
#include "devices/hardware/e1000e/registers.h"
#include "memory/mmio.h"

namespace wirt::devices::hardware::e1000e {

struct RegisterSpec {
    u32 offset;
    u32 bytes;  // more than 4: an array of registers
    memory::RegisterAccess access;
    const char* name;
    u32 reset;
    u32 writable;
    const char* cite;
};

class RegisterFile {
  public:
    RegisterFile();

    // In the form that the bus wants.
    static std::span<const memory::Register> table();
    // The register at `offset`, which may be the address of old of a register that has moved since
    // (10.2.1.1); null when there is none. `offset` becomes that of today.
    static const RegisterSpec* find(u32& offset);

    // A register that there is.
    u32& operator[](u32 offset) { return values_[index_of(offset)]; }
    u32 operator[](u32 offset) const { return values_[index_of(offset)]; }

    // Stores the bits that software may write.
    void store(const RegisterSpec& spec, u32 offset, u32 value) {
        u32& held = (*this)[offset];
        held = (held & ~spec.writable) | (value & spec.writable);
    }
    // Statistics stay at their largest value (10.2.7).
    void count(u32 offset, u32 amount = 1) {
        u32& counter = (*this)[offset];
        counter = amount > ~counter ? ~u32{0} : counter + amount;
    }
    void count_octets(u32 low_offset, u64 amount) {
        const u64 sum = ((*this)[low_offset] | u64{(*this)[low_offset + 4]} << 32) + amount;
        (*this)[low_offset] = static_cast<u32>(sum);
        (*this)[low_offset + 4] = static_cast<u32>(sum >> 32);
    }

    void reset();
    void visit_state(StateVisitor& v);

  private:
    static std::size_t index_of(u32 offset);

    std::vector<u32> values_;
};

}  // namespace wirt::devices::hardware::e1000e
