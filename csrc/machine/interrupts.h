// The board's interrupt controllers, whichever it was built with: devices get lines and somewhere to send
// messages to, and nobody else has to know which controllers there are.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "devices/hardware/aplic.h"
#include "devices/hardware/imsic.h"
#include "devices/hardware/plic.h"
#include "firmware/board_tree.h"
#include "machine/machine.h"
#include "memory/address_space.h"

namespace wirt::machine {

// Numbers a hart's interrupt inputs for InterruptLine: 32 a hart.
constexpr unsigned hart_line(unsigned hart, riscv::Interrupt which) {
    return hart * 32 + which;
}
// Those of its guest interrupt files, 1 to 63, are 64 a hart behind all others.
inline constexpr unsigned guest_lines = 1u << 31;
constexpr unsigned guest_line(unsigned hart, unsigned file) {
    return guest_lines + hart * 64 + file;
}

class Interrupts final : private MessageSink {
  public:
    Interrupts(const MachineConfig& config, memory::AddressSpace& bus, InterruptSink& hart_inputs);
    ~Interrupts() override;

    // The input that device interrupt `source` of the board's map is wired to.
    InterruptLine line(unsigned source) const { return InterruptLine(*wires_, source); }
    // Where message-signalled interrupts end; null on a board that takes none.
    MessageSink* messages() { return imsic_s_ != nullptr ? this : nullptr; }
    // Hands a hart its interrupt files, if the board has any.
    void connect(riscv::Hart& hart);
    // "plic 10", for the inspector.
    std::string describe(unsigned source) const;
    // The controllers, machine level first.
    std::vector<memory::MmioDevice*> devices() const;
    void describe_to(firmware::BoardDescription& board) const;
    void visit_state(StateVisitor& v);

  private:
    bool send_message(u64 address, u32 data) override;
    void build_aplic(const MachineConfig& config, memory::AddressSpace& bus,
                     std::vector<InterruptLine> machine, std::vector<InterruptLine> supervisor);
    void prepare_for_supervisor();

    const unsigned harts_;
    const bool firmware_;  // M-mode software runs, and sets up its part itself
    const char* kind_ = "plic";
    InterruptSink* wires_ = nullptr;
    std::unique_ptr<devices::hardware::Plic> plic_;
    std::unique_ptr<devices::hardware::Imsic> imsic_m_, imsic_s_;
    std::unique_ptr<devices::hardware::Aplic> aplic_m_, aplic_s_;
};

}  // namespace wirt::machine
