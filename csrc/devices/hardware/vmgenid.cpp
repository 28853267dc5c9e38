#include "devices/hardware/vmgenid.h"

#include <cstring>

namespace wirt::devices::hardware {

namespace {
using memory::Register;
using memory::RegisterAccess;

constexpr Register register_table[] = {
    {0x0, sizeof(VmGenId::Guid), RegisterAccess::ro, "generation", 0,
     "Linux, devicetree/bindings/rng/microsoft,vmgenid.yaml: reg"},
};
}  // namespace

VmGenId::VmGenId(std::string name, InterruptLine line, const Guid& generation)
    : name_(std::move(name)), line_(line), generation_(generation) {}

std::span<const Register> VmGenId::registers() const {
    return register_table;
}

void VmGenId::set_generation(const Guid& generation) {
    std::lock_guard lock(mutex());
    generation_ = generation;
    unread_ = true;
    // An edge also where the guest has not read the ID before.
    line_.set(false);
    line_.set(true);
}

u64 VmGenId::read(u64 offset, unsigned size) {
    if (offset >= sizeof generation_) return 0;
    u64 value = 0;
    std::memcpy(&value, generation_.data() + offset, size);
    unread_ = false;
    line_.set(false);
    return value;
}

void VmGenId::visit_state(StateVisitor& v) {
    v.section("vmgenid/" + name_, 1);
    v.field("generation", generation_);
    v.field("unread", unread_);
    if (v.loading()) line_.set(unread_);
}

}  // namespace wirt::devices::hardware
