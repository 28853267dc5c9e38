// The `virt` board: which devices exist, at which address, on which interrupt.
//
// Addresses and interrupt numbers are those that OpenSBI, U-Boot, Linux and the BSDs know from QEMU's board
// of that name.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/deadline.h"
#include "base/entropy.h"
#include "base/executor.h"
#include "devices/console_port.h"
#include "devices/display.h"
#include "devices/hardware/aclint.h"
#include "devices/hardware/ahci.h"
#include "devices/hardware/goldfish_rtc.h"
#include "devices/hardware/iommu/iommu_pci.h"
#include "devices/hardware/pcie_root.h"
#include "devices/hardware/pcie_root_port.h"
#include "devices/hardware/test_device.h"
#include "devices/hardware/uart16550.h"
#include "devices/hardware/vmgenid.h"
#include "devices/input_port.h"
#include "devices/virtio/virtio_mmio.h"
#include "machine/interrupts.h"
#include "machine/machine.h"

namespace wirt::machine {

namespace map {
inline constexpr u64 test = 0x0010'0000, rtc = 0x0010'1000, vmgenid = 0x0010'2000, aclint = 0x0200'0000,
                     uart = 0x1000'0000, virtio = 0x1000'1000, virtio_stride = 0x1000, iommu = 0x0301'0000,
                     dram = 0x8000'0000;
// Linux wants its image 2 MiB above a 2 MiB boundary; firmware lives below.
inline constexpr u64 kernel = dram + 0x20'0000;
inline constexpr unsigned virtio_slots = 8;
inline constexpr unsigned virtio_irq = 1, uart_irq = 10, rtc_irq = 11, vmgenid_irq = 12, pcie_irq = 32,
                          iommu_irq = 36, host_device_irq = 40;
// Slots of bus 0: what is built in, then devices of their own, then hot-plug ports.
inline constexpr unsigned ahci_slot = 1, iommu_slot = 2, display_slot = 3, first_free_slot = 4,
                          first_port_slot = 24, port_slots = 8;
}  // namespace map

class Board {
  public:
    using ExecutorFactory = std::function<Executor&(std::string)>;

    Board(const MachineConfig& config, memory::GuestRam& ram, memory::AddressSpace& bus, Clock& clock,
          EntropySource& entropy, InterruptSink& hart_inputs, ExecutorFactory executors,
          std::function<void(devices::hardware::TestDevice::Outcome)> finish);
    ~Board();

    // Blob for the guest; `initrd` empty: none. `firmware`: M-mode software finds the ACLINT.
    std::vector<u8> device_tree(const MachineConfig& config, u64 initrd_base, u64 initrd_size);

    // At rest: after pause() and with the executors drained, to load as well as to save.
    void visit_state(StateVisitor& v);
    std::vector<DeviceInfo> devices(const memory::AddressSpace& bus, bool describe = false) const;
    void pause();
    void resume();
    // Tells the guest that it goes on from a copy. The ID is drawn from the machine's entropy: where copies
    // go on from one seeded stream, that is reseeded first. Any thread.
    void new_generation();
    // As Clock::set_wall, with what follows from it for devices.
    void set_wall_clock(u64 ns_since_1970);

    // --- devices that come and go (hot_plug.cpp); one call at a time ---

    // As Machine::plug.
    std::string plug(const DiskConfig& disk, std::optional<unsigned> slot, const std::string& name);
    std::string plug(const NetConfig& net, std::optional<unsigned> slot, const std::string& name);
    // A device that can be taken out; `port` is null on bus 0. ConfigError when there is none of that name.
    struct Removable {
        unsigned slot;
        devices::hardware::PciDevice* device;
        devices::hardware::PcieRootPort* port;
    };
    Removable removable(const std::string& name);
    std::unique_ptr<devices::hardware::PciDevice> pull(const Removable& what);

    Deadlines deadlines;  // of all devices
    devices::ConsolePort serial_port{"serial"};
    std::shared_ptr<devices::ConsolePort> hvc_port = std::make_shared<devices::ConsolePort>("hvc");
    std::shared_ptr<devices::InputPort> keyboard_port = std::make_shared<devices::InputPort>("keyboard");
    std::shared_ptr<devices::InputPort> tablet_port = std::make_shared<devices::InputPort>("tablet");
    std::unique_ptr<Interrupts> interrupts;
    std::unique_ptr<devices::hardware::Aclint> aclint;
    std::unique_ptr<devices::hardware::Uart16550> uart;
    std::unique_ptr<devices::hardware::GoldfishRtc> rtc;
    std::unique_ptr<devices::hardware::TestDevice> test;
    std::unique_ptr<devices::hardware::VmGenId> vmgenid;
    std::unique_ptr<devices::hardware::Iommu>
        iommu;  // its registers are a platform device's or a PCI function's
    std::vector<std::unique_ptr<memory::RemappedBus>> virtio_buses;  // of virtio-mmio slots behind it
    std::unique_ptr<devices::hardware::PcieRoot> pcie;
    devices::hardware::Ahci* ahci = nullptr;
    devices::Display* display = nullptr;  // whichever there is
    std::vector<std::unique_ptr<devices::virtio::VirtioMmio>> virtio;
    std::vector<std::unique_ptr<memory::MmioDevice>> host_devices;

    std::vector<devices::hardware::PcieRootPort*> ports;  // slots 24 and up

  private:
    void add_iommu(const MachineConfig& config, memory::GuestRam& ram, memory::AddressSpace& bus,
                   Clock& clock);
    // The PCI slot of the next NIC or virtio device, in the order of the configuration.
    unsigned next_slot();
    std::unique_ptr<devices::virtio::VirtioDevice> virtio_block(const DiskConfig& disk);
    std::unique_ptr<devices::virtio::VirtioDevice> virtio_net(const NetConfig& net);
    std::unique_ptr<devices::hardware::PciDevice> e1000e(const NetConfig& net);
    std::unique_ptr<devices::hardware::PciDevice> on_pci(
        std::unique_ptr<devices::virtio::VirtioDevice> device) const;
    Removable place(std::optional<unsigned> slot);
    std::string insert(const Removable& where, std::unique_ptr<devices::hardware::PciDevice> device);
    // "ahci" gives "ahci0", then "ahci1": no name is used twice in a machine's life.
    std::string instance(const std::string& kind) { return kind + std::to_string(instances_[kind]++); }
    // The next device of its kind gets `name`. ConfigError when one had it, or it is no device's.
    void name_next(const std::string& name);
    void add_display(const MachineConfig& config,
                     const std::function<void(std::unique_ptr<devices::virtio::VirtioDevice>)>& plug);

    Clock& clock_;
    EntropySource& entropy_;
    const ExecutorFactory executors_;
    const devices::virtio::VirtioOptions virtio_options_;
    std::map<std::string, unsigned> instances_;
    unsigned free_slot_ = map::first_free_slot;
};

}  // namespace wirt::machine
