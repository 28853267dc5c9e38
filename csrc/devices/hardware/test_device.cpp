#include "devices/hardware/test_device.h"

namespace wirt::devices::hardware {

namespace {
using memory::Register;
using memory::RegisterAccess;

constexpr Register register_table[] = {
    {0x0, 4, RegisterAccess::wo, "finisher", 0,
     "sifive,test0: command in bits 15:0, exit code in bits 31:16"},
};
}  // namespace

TestDevice::TestDevice(std::string name, std::function<void(Outcome)> finish)
    : name_(std::move(name)), finish_(std::move(finish)) {}

std::span<const Register> TestDevice::registers() const {
    return register_table;
}

u64 TestDevice::read(u64, unsigned) {
    return 0;
}

void TestDevice::write(u64 offset, unsigned size, u64 value) {
    if (offset != 0 || (size != 2 && size != 4)) return;
    const u16 command = static_cast<u16>(value);
    const u16 code = size == 4 ? static_cast<u16>(value >> 16) : 0;
    switch (command) {
        case command_pass:
            finish_({Outcome::Kind::pass, 0});
            break;
        case command_fail:
            finish_({Outcome::Kind::fail, code});
            break;
        case command_reset:
            finish_({Outcome::Kind::reset, 0});
            break;
    }
}

void TestDevice::visit_state(StateVisitor& v) {
    v.section("test-device/" + name_, 1);
}

}  // namespace wirt::devices::hardware
