#include "machine/board.h"

#include <map>
#include <utility>

#include "base/error.h"
#include "devices/hardware/bochs_display.h"
#include "devices/hardware/e1000e/e1000e.h"
#include "devices/virtio/block.h"
#include "devices/virtio/console.h"
#include "devices/virtio/gpu.h"
#include "devices/virtio/input.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/virtio_pci.h"
#include "firmware/board_tree.h"

namespace wirt::machine {

using namespace devices;

namespace {
void check_ports(const MachineConfig& config) {
    if (config.pcie_ports > map::port_slots) {
        throw ConfigError("a machine has 0 to " + std::to_string(map::port_slots) + " hot-plug ports, not " +
                          std::to_string(config.pcie_ports));
    }
}

hardware::VmGenId::Guid random_guid(EntropySource& entropy) {
    hardware::VmGenId::Guid guid;
    entropy.fill(guid);
    return guid;
}
}  // namespace

Board::Board(const MachineConfig& config, memory::GuestRam& ram, memory::AddressSpace& bus, Clock& clock,
             EntropySource& entropy, InterruptSink& hart_inputs, ExecutorFactory executors,
             std::function<void(hardware::TestDevice::Outcome)> finish)
    : clock_(clock),
      entropy_(entropy),
      executors_(std::move(executors)),
      virtio_options_{.packed_rings = config.packed_rings, .behind_iommu = config.iommu != IommuKind::none} {
    check_ports(config);
    std::vector<InterruptLine> software;
    for (unsigned hart = 0; hart < config.harts; ++hart)
        software.emplace_back(hart_inputs, hart_line(hart, riscv::irq_msi));
    interrupts = std::make_unique<Interrupts>(config, bus, hart_inputs);
    const auto line = [&](unsigned source) { return interrupts->line(source); };
    aclint = std::make_unique<hardware::Aclint>("aclint", clock, std::move(software));
    uart = std::make_unique<hardware::Uart16550>("uart0", serial_port, line(map::uart_irq));
    rtc = std::make_unique<hardware::GoldfishRtc>("rtc", clock, deadlines, line(map::rtc_irq));
    test = std::make_unique<hardware::TestDevice>("test", std::move(finish));
    vmgenid = std::make_unique<hardware::VmGenId>("vmgenid", line(map::vmgenid_irq), random_guid(entropy));
    bus.map(map::aclint, hardware::Aclint::region_size, *aclint);
    bus.map(map::uart, hardware::Uart16550::region_size, *uart);
    bus.map(map::rtc, hardware::GoldfishRtc::region_size, *rtc);
    bus.map(map::test, hardware::TestDevice::region_size, *test);
    bus.map(map::vmgenid, hardware::VmGenId::region_size, *vmgenid);

    pcie = std::make_unique<hardware::PcieRoot>(bus, ram,
                                                std::array{line(map::pcie_irq), line(map::pcie_irq + 1),
                                                           line(map::pcie_irq + 2), line(map::pcie_irq + 3)},
                                                interrupts->messages());
    bus.map(0x3000'0000, 0x1000'0000, *pcie);
    if (config.iommu != IommuKind::none) add_iommu(config, ram, bus, clock);

    std::vector<hardware::Ahci::Disk> sata;
    std::vector<std::unique_ptr<virtio::VirtioDevice>> on_mmio;
    const auto plug = [&](VirtioTransport transport, std::unique_ptr<virtio::VirtioDevice> device) {
        if (transport == VirtioTransport::mmio) {
            on_mmio.push_back(std::move(device));
        } else {
            pcie->attach(next_slot(), on_pci(std::move(device)));
        }
    };
    const auto executor = [&](const std::string& name) -> Executor& { return executors_(name); };
    if (config.virtio_console) {
        plug(config.virtio, std::make_unique<virtio::VirtioConsole>("virtio-console0", hvc_port,
                                                                    executor("virtio-console0")));
    }
    for (const DiskConfig& disk : config.disks) {
        if (disk.bus == DiskBus::ahci) {
            sata.push_back({disk.backend, disk.serial});
            continue;
        }
        plug(disk.bus == DiskBus::virtio_pci ? VirtioTransport::pci : VirtioTransport::mmio,
             virtio_block(disk));
    }
    for (const NetConfig& net : config.nets) {
        if (net.model == NicModel::e1000e) {
            pcie->attach(next_slot(), e1000e(net));
            continue;
        }
        plug(net.model == NicModel::virtio_pci ? VirtioTransport::pci : VirtioTransport::mmio,
             virtio_net(net));
    }
    if (config.rng) {
        plug(config.virtio,
             std::make_unique<virtio::VirtioRng>("virtio-rng0", entropy, executor("virtio-rng0")));
    }
    add_display(config, [&](std::unique_ptr<virtio::VirtioDevice> device) {
        plug(config.virtio, std::move(device));
    });
    if (on_mmio.size() > map::virtio_slots) {
        throw ConfigError(std::to_string(on_mmio.size()) +
                          " virtio devices were asked for (disks, NICs, console, entropy, display, input); "
                          "the board has " +
                          std::to_string(map::virtio_slots) +
                          " virtio-mmio slots: put disks on bus=\"ahci\", choose virtio=\"pci\" or leave "
                          "some out");
    }
    for (unsigned slot = 0; slot < map::virtio_slots; ++slot) {
        std::unique_ptr<virtio::VirtioDevice> device;
        std::string name = "virtio-mmio" + std::to_string(slot);
        if (slot < on_mmio.size()) {
            device = std::move(on_mmio[slot]);
            name = device->name();
        }
        memory::DmaTranslator* translator = nullptr;
        if (iommu != nullptr) {
            virtio_buses.push_back(
                std::make_unique<memory::RemappedBus>(*iommu, firmware::virtio_mmio_device_id + slot));
            translator = virtio_buses.back().get();
        }
        virtio.push_back(std::make_unique<virtio::VirtioMmio>(name, std::move(device),
                                                              memory::DmaView(ram, translator),
                                                              line(map::virtio_irq + slot), virtio_options_));
        bus.map(map::virtio + slot * map::virtio_stride, virtio::VirtioMmio::region_size, *virtio.back());
    }
    if (!sata.empty()) {
        auto controller = std::make_unique<hardware::Ahci>(instance("ahci"), std::move(sata), executors_);
        ahci = controller.get();
        pcie->attach(map::ahci_slot, std::move(controller));
    }
    for (unsigned i = 0; i < config.pcie_ports; ++i) {
        auto port = std::make_unique<hardware::PcieRootPort>(map::first_port_slot + i);
        ports.push_back(port.get());
        pcie->attach(map::first_port_slot + i, std::move(port));
    }
}

void Board::add_display(const MachineConfig& config,
                        const std::function<void(std::unique_ptr<virtio::VirtioDevice>)>& plug) {
    const DisplayMode mode(config.display_width, config.display_height);
    if (config.display == DisplayKind::bochs) {
        auto device = std::make_unique<hardware::BochsDisplay>("bochs0", mode);
        display = device.get();
        pcie->attach(map::display_slot, std::move(device));
    } else if (config.display == DisplayKind::virtio_gpu) {
        auto device = std::make_unique<virtio::VirtioGpu>("virtio-gpu0", mode, executors_("virtio-gpu0"));
        display = device.get();
        plug(std::move(device));
    }
    if (!config.input) return;
    using Kind = virtio::VirtioInput::Kind;
    plug(std::make_unique<virtio::VirtioInput>("virtio-input0", Kind::keyboard, keyboard_port,
                                               executors_("virtio-input0")));
    plug(std::make_unique<virtio::VirtioInput>("virtio-input1", Kind::tablet, tablet_port,
                                               executors_("virtio-input1")));
}

Board::~Board() = default;

std::unique_ptr<virtio::VirtioDevice> Board::virtio_block(const DiskConfig& disk) {
    const std::string name = instance("virtio-blk");
    virtio::VirtioBlock::Options options;
    options.queues = disk.queues;
    options.serial = disk.serial;
    return std::make_unique<virtio::VirtioBlock>(name, disk.backend, executors_(name), options);
}

std::unique_ptr<virtio::VirtioDevice> Board::virtio_net(const NetConfig& net) {
    const std::string name = instance("virtio-net");
    virtio::VirtioNet::Options options;
    options.mac = net.mac;
    options.queue_pairs = net.queue_pairs;
    return std::make_unique<virtio::VirtioNet>(name, net.port, executors_(name), options);
}

std::unique_ptr<hardware::PciDevice> Board::e1000e(const NetConfig& net) {
    const std::string name = instance("e1000e");
    return std::make_unique<hardware::E1000e>(name, net.port, net.mac, clock_, deadlines, executors_(name));
}

std::unique_ptr<hardware::PciDevice> Board::on_pci(std::unique_ptr<virtio::VirtioDevice> device) const {
    const std::string name(device->name());
    return std::make_unique<virtio::VirtioPci>(name, std::move(device), virtio_options_);
}

void Board::add_iommu(const MachineConfig& config, memory::GuestRam& ram, memory::AddressSpace& bus,
                      Clock& clock) {
    MessageSink* const messages = interrupts->messages();
    const bool as_function = config.iommu == IommuKind::pci;
    if (as_function && messages == nullptr) {
        throw ConfigError("iommu=\"pci\" signals by messages: choose interrupts=\"aia\" with it");
    }
    hardware::IommuOptions options;
    options.igs = as_function           ? hardware::IommuInterrupts::msi
                  : messages != nullptr ? hardware::IommuInterrupts::both
                                        : hardware::IommuInterrupts::wsi;
    std::array<InterruptLine, hardware::Iommu::vectors> wires;
    if (!as_function) {
        for (unsigned n = 0; n < wires.size(); ++n) wires[n] = interrupts->line(map::iommu_irq + n);
    }
    iommu = std::make_unique<hardware::Iommu>("iommu0", ram, clock, messages, wires, options);
    if (as_function) {
        pcie->attach(map::iommu_slot, std::make_unique<hardware::IommuPci>(*iommu));
    } else {
        bus.map(map::iommu, hardware::Iommu::region_size, *iommu);
    }
    pcie->set_remapper(iommu.get());
}

unsigned Board::next_slot() {
    if (free_slot_ == map::first_port_slot) {
        throw ConfigError("the board has " + std::to_string(map::first_port_slot - map::first_free_slot) +
                          " PCI slots for NICs and virtio devices: leave some out");
    }
    return free_slot_++;
}

std::vector<u8> Board::device_tree(const MachineConfig& config, u64 initrd_base, u64 initrd_size) {
    firmware::BoardDescription board;
    board.memory = {map::dram, config.memory};
    board.harts = config.harts;
    board.timebase_hz = Clock::timebase_hz;
    board.isa_extensions = config.isa.names();
    // S-mode software cannot use the ACLINT; under the monitor's SBI there is none to see.
    if (!config.firmware.empty())
        board.aclint = firmware::AddressRange{map::aclint, hardware::Aclint::region_size};
    board.pmu_counters.reset();
    if (!config.firmware.empty() && config.isa.has(riscv::Extension::sscofpmf)) {
        using namespace riscv;
        board.pmu_counters = static_cast<u32>(Performance::mask);
        for (const u64 selector : {event::cycles, event::instructions, event::load_tlb_misses,
                                   event::store_tlb_misses, event::fetch_tlb_misses}) {
            const bool misses = selector != event::cycles && selector != event::instructions;
            if (!misses || !config.deterministic) board.pmu_events.push_back(static_cast<u32>(selector));
        }
    }
    interrupts->describe_to(board);
    if (config.iommu == IommuKind::platform) {
        board.iommu = firmware::IommuNode{firmware::AddressRange{map::iommu, hardware::Iommu::region_size},
                                          map::iommu_irq};
    } else if (config.iommu == IommuKind::pci) {
        board.iommu = firmware::IommuNode{std::nullopt, 0, map::iommu_slot};
    }
    board.bootargs = config.cmdline;
    if (initrd_size != 0) board.initrd = firmware::AddressRange{initrd_base, initrd_size};
    board.rng_seed.resize(32);
    entropy_.fill(board.rng_seed);
    return firmware::build_board_tree(board);
}

void Board::visit_state(StateVisitor& v) {
    interrupts->visit_state(v);
    aclint->visit_state(v);
    uart->visit_state(v);
    rtc->visit_state(v);
    test->visit_state(v);
    vmgenid->visit_state(v);
    if (iommu != nullptr && pcie->device(map::iommu_slot) == nullptr) iommu->visit_state(v);
    pcie->visit_state(v);
    for (auto& device : virtio) device->visit_state(v);
    for (auto& device : host_devices) device->visit_state(v);
    serial_port.visit_state(v);
    hvc_port->visit_state(v);
    keyboard_port->visit_state(v);
    tablet_port->visit_state(v);
    entropy_.visit_state(v);
}

std::vector<DeviceInfo> Board::devices(const memory::AddressSpace& bus, bool describe) const {
    std::vector<DeviceInfo> out;
    std::map<std::string, u64, std::less<>> exits;
    if (describe) {
        for (const memory::ExitCount& count : bus.exits()) exits[count.device] += count.reads + count.writes;
    }
    const auto add = [&](memory::MmioDevice& device, std::string kind, std::string interrupt) -> DeviceInfo& {
        DeviceInfo& info = out.emplace_back();
        info.name = device.name();
        info.kind = std::move(kind);
        std::tie(info.base, info.size) = bus.region_of(device);
        info.interrupt = std::move(interrupt);
        if (const auto* counted = dynamic_cast<const CountedDevice*>(&device))
            info.counters = counted->counters().values();
        if (!describe) return info;
        if (auto* described = dynamic_cast<DescribedDevice*>(&device)) described->describe(info.description);
        info.exits = exits[info.name];
        return info;
    };
    add(*test, "platform", "");
    add(*rtc, "platform", interrupts->describe(map::rtc_irq));
    add(*vmgenid, "platform", interrupts->describe(map::vmgenid_irq));
    add(*aclint, "platform", "");
    for (memory::MmioDevice* controller : interrupts->devices()) add(*controller, "platform", "");
    add(*uart, "platform", interrupts->describe(map::uart_irq));
    for (unsigned slot = 0; slot < virtio.size(); ++slot) {
        add(*virtio[slot], "virtio-mmio", interrupts->describe(map::virtio_irq + slot));
    }
    if (iommu != nullptr && pcie->device(map::iommu_slot) == nullptr) {
        add(*iommu, "platform", interrupts->describe(map::iommu_irq) + "-39");
    }
    add(*pcie, "platform", interrupts->describe(map::pcie_irq) + "-35");
    const auto add_function = [&](hardware::PciDevice& function) {
        auto* device = dynamic_cast<memory::MmioDevice*>(&function);
        if (dynamic_cast<hardware::IommuPci*>(&function) != nullptr) device = iommu.get();
        if (device == nullptr) return;
        const bool paravirtual = dynamic_cast<virtio::VirtioPci*>(&function) != nullptr;
        DeviceInfo& info = add(*device, paravirtual ? "virtio-pci" : "pci", "");
        if (!describe) return;
        const std::string virtio_identity = std::exchange(info.description.identity, {});
        function.describe_function(info.description);
        if (!virtio_identity.empty()) info.description.identity += ", " + virtio_identity;
        info.interrupt = info.description.interrupt;
        for (const memory::MmioDevice* target : function.bar_targets()) {
            if (target != device) info.exits += exits[std::string(target->name())];
        }
    };
    {
        std::lock_guard lock(pcie->mutex());
        pcie->for_each(add_function);
    }
    for (const auto& device : host_devices) add(*device, "host", "");
    return out;
}

void Board::pause() {
    for (auto& device : virtio) device->pause();
    pcie->pause();
}

void Board::resume() {
    for (auto& device : virtio) device->resume();
    pcie->resume();
}

void Board::new_generation() {
    vmgenid->set_generation(random_guid(entropy_));
}

void Board::set_wall_clock(u64 ns_since_1970) {
    clock_.set_wall(ns_since_1970);
    rtc->wall_clock_changed();
}

}  // namespace wirt::machine
