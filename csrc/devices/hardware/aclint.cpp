#include "devices/hardware/aclint.h"

#include "base/bits.h"

namespace wirt::devices::hardware {

namespace {

using memory::Register;
using memory::RegisterAccess;

constexpr u64 msip_base = 0x0;
constexpr u64 mtimecmp_base = 0x4000;
constexpr u64 mtime_offset = 0xbff8;
// ACLINT leaves MTIMECMP's reset value open; this one keeps a hart quiet until its timer is first set.
constexpr u64 mtimecmp_reset = ~u64{0};

// A 4-byte access to half of a 64-bit register, or an access to all of it.
u64 extract(u64 value, u64 offset, unsigned size) {
    return size == 8 ? value : bits(value, offset % 8 * 8, 32);
}

u64 deposit(u64 value, u64 offset, unsigned size, u64 part) {
    if (size == 8) return part;
    const unsigned shift = offset % 8 * 8;
    return (value & ~(u64{0xffff'ffff} << shift)) | (part & 0xffff'ffff) << shift;
}

}  // namespace

Aclint::Aclint(std::string name, Clock& clock, std::vector<InterruptLine> software_lines)
    : name_(std::move(name)),
      clock_(clock),
      software_lines_(std::move(software_lines)),
      msip_(software_lines_.size()),
      timecmp_(software_lines_.size()) {
    register_names_.reserve(2 * harts());  // the table points into it
    auto indexed = [this](const char* what, unsigned hart) {
        return register_names_.emplace_back(std::string(what) + "[" + std::to_string(hart) + "]").c_str();
    };
    for (unsigned hart = 0; hart < harts(); ++hart) {
        registers_.push_back({static_cast<u32>(msip_base + 4 * hart), 4, RegisterAccess::rw,
                              indexed("MSIP", hart), 0, "ACLINT 1.0-rc4, 3.2"});
    }
    for (unsigned hart = 0; hart < harts(); ++hart) {
        registers_.push_back({static_cast<u32>(mtimecmp_base + 8 * hart), 8, RegisterAccess::rw,
                              indexed("MTIMECMP", hart), mtimecmp_reset, "ACLINT 1.0-rc4, 2.3"});
    }
    registers_.push_back({mtime_offset, 8, RegisterAccess::rw, "MTIME", 0, "ACLINT 1.0-rc4, 2.2"});
    reset();
}

void Aclint::reset() {
    for (unsigned hart = 0; hart < harts(); ++hart) {
        set_msip(hart, false);
        timecmp_[hart].store(mtimecmp_reset, std::memory_order_release);
    }
    // 2.2: MTIME is zero after reset. All harts' deadlines move with it.
    clock_.set_ticks(0);
    for (unsigned hart = 0; hart < harts(); ++hart) changed(hart);
}

u64 Aclint::read(u64 offset, unsigned size) {
    if (size != 4 && size != 8) return 0;
    if (offset < mtimecmp_base) {
        const u64 hart = offset / 4;
        return size == 4 && hart < harts() ? msip_[hart] : 0;
    }
    if (offset < mtime_offset) {
        const u64 hart = (offset - mtimecmp_base) / 8;
        return hart < harts() ? extract(mtimecmp(static_cast<unsigned>(hart)), offset, size) : 0;
    }
    return offset < mtime_offset + 8 ? extract(clock_.ticks(), offset, size) : 0;
}

void Aclint::write(u64 offset, unsigned size, u64 value) {
    if (size != 4 && size != 8) return;
    if (offset < mtimecmp_base) {
        const u64 hart = offset / 4;
        // 3.2: only the least significant bit is implemented.
        if (size == 4 && hart < harts()) set_msip(static_cast<unsigned>(hart), bit(value, 0));
    } else if (offset < mtime_offset) {
        const u64 hart = (offset - mtimecmp_base) / 8;
        if (hart >= harts()) return;
        timecmp_[hart].store(deposit(timecmp_[hart].load(), offset, size, value), std::memory_order_release);
        changed(static_cast<unsigned>(hart));
    } else if (offset < mtime_offset + 8) {
        clock_.set_ticks(deposit(clock_.ticks(), offset, size, value));
        for (unsigned hart = 0; hart < harts(); ++hart) changed(hart);
    }
}

void Aclint::set_msip(unsigned hart, bool value) {
    msip_[hart] = value;
    software_lines_[hart].set(value);
}

void Aclint::changed(unsigned hart) const {
    if (listener_) listener_(hart);
}

void Aclint::visit_state(StateVisitor& v) {
    v.section("aclint/" + name_, 1);
    for (unsigned hart = 0; hart < harts(); ++hart) {
        const std::string suffix = "[" + std::to_string(hart) + "]";
        v.field("MSIP" + suffix, msip_[hart]);
        v.field("MTIMECMP" + suffix, timecmp_[hart]);
    }
    if (!v.loading()) return;
    for (unsigned hart = 0; hart < harts(); ++hart) {
        set_msip(hart, msip_[hart] & 1);
        changed(hart);
    }
}

}  // namespace wirt::devices::hardware
