#include "machine/interrupts.h"

namespace wirt::machine {

using namespace devices;

namespace map {
namespace {
constexpr u64 plic = 0x0c00'0000, aplic_m = 0x0c00'0000, aplic_s = 0x0d00'0000;
}  // namespace
}  // namespace map

Interrupts::Interrupts(const MachineConfig& config, memory::AddressSpace& bus, InterruptSink& hart_inputs)
    : firmware_(!config.firmware.empty()) {
    std::vector<InterruptLine> machine;
    std::vector<InterruptLine> supervisor;
    for (unsigned hart = 0; hart < config.harts; ++hart) {
        machine.emplace_back(hart_inputs, hart_line(hart, riscv::irq_mei));
        supervisor.emplace_back(hart_inputs, hart_line(hart, riscv::irq_sei));
    }
    if (config.interrupts == InterruptControllers::plic) {
        std::vector<InterruptLine> contexts;
        for (unsigned hart = 0; hart < config.harts; ++hart)
            contexts.insert(contexts.end(), {machine[hart], supervisor[hart]});
        plic_ = std::make_unique<hardware::Plic>("plic", std::move(contexts));
        wires_ = plic_.get();
        bus.map(map::plic, hardware::Plic::region_size, *plic_);
        return;
    }
    using hardware::Aplic;
    kind_ = "aplic";
    aplic_m_ =
        std::make_unique<Aplic>("aplic-m", Aplic::Level::machine, Aplic::Delivery{machine, nullptr, 0});
    aplic_s_ =
        std::make_unique<Aplic>("aplic-s", Aplic::Level::supervisor, Aplic::Delivery{supervisor, nullptr, 0});
    aplic_m_->adopt(*aplic_s_);
    wires_ = aplic_m_.get();
    bus.map(map::aplic_m, Aplic::region_size, *aplic_m_);
    bus.map(map::aplic_s, Aplic::region_size, *aplic_s_);
    if (!firmware_) delegate_to_supervisor();
}

Interrupts::~Interrupts() = default;

// What firmware does before it starts a kernel, and a kernel that the monitor starts finds done: every source
// is the supervisor domain's (AIA 1.0, 4.5.2).
void Interrupts::delegate_to_supervisor() {
    constexpr u32 delegate_to_child_0 = 1u << 10;
    for (unsigned source = 1; source <= hardware::Aplic::last_source; ++source)
        aplic_m_->write(4 * source, 4, delegate_to_child_0);
}

std::string Interrupts::describe(unsigned source) const {
    return std::string(kind_) + " " + std::to_string(source);
}

std::vector<const memory::MmioDevice*> Interrupts::devices() const {
    std::vector<const memory::MmioDevice*> out;
    for (const memory::MmioDevice* device : {static_cast<const memory::MmioDevice*>(plic_.get()),
                                             static_cast<const memory::MmioDevice*>(aplic_m_.get()),
                                             static_cast<const memory::MmioDevice*>(aplic_s_.get())}) {
        if (device != nullptr) out.push_back(device);
    }
    return out;
}

void Interrupts::describe_to(firmware::BoardDescription& board) const {
    if (aplic_s_ == nullptr) return;
    firmware::AplicNodes nodes;
    // Machine-level domains are for firmware: under the monitor's SBI there is none to see.
    if (firmware_) nodes.machine = {map::aplic_m, hardware::Aplic::region_size};
    nodes.supervisor = {map::aplic_s, hardware::Aplic::region_size};
    nodes.sources = hardware::Aplic::last_source;
    board.aplic = nodes;
}

void Interrupts::visit_state(StateVisitor& v) {
    if (plic_) plic_->visit_state(v);
    // Root before child: what the root delegates is there for the child.
    if (aplic_m_) aplic_m_->visit_state(v);
    if (aplic_s_) aplic_s_->visit_state(v);
}

}  // namespace wirt::machine
