#include "machine/interrupts.h"

#include <bit>

#include "base/error.h"

namespace wirt::machine {

using namespace devices;
using hardware::Aplic;
using hardware::Imsic;

namespace {
constexpr u64 plic_base = 0x0c00'0000, aplic_m_base = 0x0c00'0000, aplic_s_base = 0x0d00'0000,
              imsic_m_base = 0x2400'0000, imsic_s_base = 0x2800'0000;
}  // namespace

Interrupts::Interrupts(const MachineConfig& config, memory::AddressSpace& bus, InterruptSink& hart_inputs)
    : harts_(config.harts), firmware_(!config.firmware.empty()) {
    std::vector<InterruptLine> machine;
    std::vector<InterruptLine> supervisor;
    for (unsigned hart = 0; hart < harts_; ++hart) {
        machine.emplace_back(hart_inputs, hart_line(hart, riscv::irq_mei));
        supervisor.emplace_back(hart_inputs, hart_line(hart, riscv::irq_sei));
    }
    const bool aia = config.interrupts == InterruptControllers::aia;
    if (config.guest_files > Imsic::most_guest_files || (config.guest_files != 0 && !aia)) {
        throw ConfigError("guest_files is 0 to " + std::to_string(Imsic::most_guest_files) +
                          " and needs interrupts=\"aia\"");
    }
    if (config.interrupts == InterruptControllers::plic) {
        std::vector<InterruptLine> contexts;
        for (unsigned hart = 0; hart < harts_; ++hart)
            contexts.insert(contexts.end(), {machine[hart], supervisor[hart]});
        plic_ = std::make_unique<hardware::Plic>("plic", std::move(contexts));
        wires_ = plic_.get();
        bus.map(plic_base, hardware::Plic::region_size, *plic_);
        return;
    }
    if (aia) {
        imsic_m_ = std::make_unique<Imsic>("imsic-m", imsic_m_base, std::move(machine));
        std::vector<InterruptLine> guests;
        for (unsigned hart = 0; hart < harts_; ++hart) {
            for (unsigned file = 1; file <= config.guest_files; ++file)
                guests.emplace_back(hart_inputs, guest_line(hart, file));
        }
        imsic_s_ = std::make_unique<Imsic>("imsic-s", imsic_s_base, std::move(supervisor), std::move(guests));
        bus.map(imsic_m_base, imsic_m_->region_size(), *imsic_m_);
        bus.map(imsic_s_base, imsic_s_->region_size(), *imsic_s_);
        machine.clear();
        supervisor.clear();
        for (unsigned hart = 0; hart < harts_; ++hart) {
            machine.emplace_back(*imsic_m_, hart);
            supervisor.emplace_back(*imsic_s_, hart);
        }
    }
    build_aplic(config, bus, std::move(machine), std::move(supervisor));
}

Interrupts::~Interrupts() = default;

void Interrupts::build_aplic(const MachineConfig& config, memory::AddressSpace& bus,
                             std::vector<InterruptLine> machine, std::vector<InterruptLine> supervisor) {
    kind_ = "aplic";
    aplic_m_ = std::make_unique<Aplic>("aplic-m", Aplic::Level::machine,
                                       Aplic::Delivery{std::move(machine), messages(), 0});
    aplic_s_ =
        std::make_unique<Aplic>("aplic-s", Aplic::Level::supervisor,
                                Aplic::Delivery{std::move(supervisor), messages(), config.guest_files});
    aplic_m_->adopt(*aplic_s_);
    wires_ = aplic_m_.get();
    bus.map(aplic_m_base, Aplic::region_size, *aplic_m_);
    bus.map(aplic_s_base, Aplic::region_size, *aplic_s_);
    if (!firmware_) prepare_for_supervisor();
}

// What firmware does before it starts a kernel, and a kernel that the monitor starts finds done.
void Interrupts::prepare_for_supervisor() {
    // AIA 1.0, 4.5.2: every source is the supervisor domain's.
    constexpr u32 delegate_to_child_0 = 1u << 10;
    for (unsigned source = 1; source <= Aplic::last_source; ++source)
        aplic_m_->write(4 * source, 4, delegate_to_child_0);
    if (imsic_s_ == nullptr) return;
    // 4.5.3, 4.5.4: where the interrupt files are, for good.
    constexpr u64 mmsiaddrcfg = 0x1bc0, mmsiaddrcfgh = 0x1bc4, smsiaddrcfg = 0x1bc8, smsiaddrcfgh = 0x1bcc;
    constexpr u32 lock = 1u << 31;
    const u32 LHXW = static_cast<u32>(std::bit_width(harts_ - 1));
    const u32 LHXS = imsic_s_->guest_index_bits();
    aplic_m_->write(mmsiaddrcfg, 4, imsic_m_base >> page_shift);
    aplic_m_->write(smsiaddrcfg, 4, imsic_s_base >> page_shift);
    aplic_m_->write(smsiaddrcfgh, 4, LHXS << 20);
    aplic_m_->write(mmsiaddrcfgh, 4, lock | LHXW << 12);
}

bool Interrupts::send_message(u64 address, u32 data) {
    return imsic_s_->send_message(address, data) || imsic_m_->send_message(address, data);
}

void Interrupts::connect(riscv::Hart& hart) {
    if (imsic_s_ == nullptr) return;
    std::vector<InterruptFile*> guests;
    for (unsigned file = 1; file <= imsic_s_->guest_files(); ++file)
        guests.push_back(&imsic_s_->file(hart.id(), file));
    hart.connect_imsic(imsic_m_->file(hart.id()), imsic_s_->file(hart.id()), std::move(guests));
}

std::string Interrupts::describe(unsigned source) const {
    return std::string(kind_) + " " + std::to_string(source);
}

std::vector<memory::MmioDevice*> Interrupts::devices() const {
    std::vector<memory::MmioDevice*> out;
    const auto add = [&](const auto& device) {
        if (device != nullptr) out.push_back(device.get());
    };
    add(plic_);
    add(aplic_m_);
    add(aplic_s_);
    add(imsic_m_);
    add(imsic_s_);
    return out;
}

void Interrupts::describe_to(firmware::BoardDescription& board) const {
    // Machine level is for firmware: under the monitor's SBI there is none to see.
    if (aplic_s_ != nullptr) {
        firmware::AplicNodes nodes;
        if (firmware_) nodes.machine = {aplic_m_base, Aplic::region_size};
        nodes.supervisor = {aplic_s_base, Aplic::region_size};
        nodes.sources = Aplic::last_source;
        board.aplic = nodes;
    }
    if (imsic_s_ != nullptr) {
        firmware::ImsicNodes nodes;
        if (firmware_) nodes.machine = {imsic_m_base, harts_ * page_size};
        nodes.supervisor = {imsic_s_base, harts_ * page_size << imsic_s_->guest_index_bits()};
        nodes.identities = Imsic::identities;
        nodes.guest_index_bits = imsic_s_->guest_index_bits();
        board.imsic = nodes;
        board.isa_extensions.insert(board.isa_extensions.end(), {"smaia", "ssaia"});
    }
}

void Interrupts::visit_state(StateVisitor& v) {
    if (plic_) plic_->visit_state(v);
    if (imsic_m_) imsic_m_->visit_state(v);
    if (imsic_s_) imsic_s_->visit_state(v);
    // Root before child: the child's sources are what the root delegates.
    if (aplic_m_) aplic_m_->visit_state(v);
    if (aplic_s_) aplic_s_->visit_state(v);
}

}  // namespace wirt::machine
