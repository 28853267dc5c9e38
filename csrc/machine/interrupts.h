// The board's interrupt controllers, whichever it was built with: devices get lines and somewhere to send
// messages to, and nobody else has to know which controllers there are.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "devices/hardware/aplic.h"
#include "devices/hardware/plic.h"
#include "firmware/board_tree.h"
#include "machine/machine.h"
#include "memory/address_space.h"

namespace wirt::machine {

// Numbers a hart's interrupt inputs for InterruptLine: 32 a hart.
constexpr unsigned hart_line(unsigned hart, riscv::Interrupt which) {
    return hart * 32 + which;
}

class Interrupts {
  public:
    Interrupts(const MachineConfig& config, memory::AddressSpace& bus, InterruptSink& hart_inputs);
    ~Interrupts();

    // The input that device interrupt `source` of the board's map is wired to.
    InterruptLine line(unsigned source) const { return InterruptLine(*wires_, source); }
    // "plic 10", for the inspector.
    std::string describe(unsigned source) const;
    // Each device with its kind, in the order of their addresses.
    std::vector<const memory::MmioDevice*> devices() const;
    void describe_to(firmware::BoardDescription& board) const;
    void visit_state(StateVisitor& v);

  private:
    void delegate_to_supervisor();

    const bool firmware_;  // M-mode software runs, and sets up its part itself
    const char* kind_ = "plic";
    InterruptSink* wires_ = nullptr;
    std::unique_ptr<devices::hardware::Plic> plic_;
    std::unique_ptr<devices::hardware::Aplic> aplic_s_, aplic_m_;
};

}  // namespace wirt::machine
