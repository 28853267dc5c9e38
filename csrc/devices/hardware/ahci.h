// A SATA host bus adapter on PCIe, as an unmodified `ahci` driver expects it.
//
// Implements: Serial ATA AHCI 1.3.1: the PCI function (2), the generic host control registers (3.1) and
// interrupts (10.6). Native command queuing with 32 slots, 64-bit addressing; no port multiplier, FIS-based
// switching, enclosure management or command completion coalescing. A port is in ahci_port.h, the disk
// behind it in ata.h. The identity is that of Intel's ICH9 (8086:2922).
//
// Untrusted input: every register write.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/counters.h"
#include "base/executor.h"
#include "devices/hardware/ahci_port.h"
#include "devices/hardware/pci_device.h"
#include "storage/block_backend.h"

namespace wirt::devices::hardware {

class Ahci final : public PciDevice, public memory::MmioDevice, public CountedDevice {
  public:
    static constexpr unsigned max_ports = 6;

    struct Disk {
        std::shared_ptr<storage::BlockBackend> backend;
        std::string serial;  // at most 20 printable ASCII characters
    };
    // Gives the executor of a port, called once a port with its name ("ahci0.1"). Its tasks use this device:
    // the executor runs its last one before the device goes.
    using ExecutorFactory = std::function<Executor&(std::string)>;

    // Disk n is on port n. ConfigError for more than six, or a serial that IDENTIFY DEVICE cannot carry.
    Ahci(std::string name, std::vector<Disk> disks, ExecutorFactory executors);
    ~Ahci() override;

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override { return registers_; }
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void reset() override;
    // With the executors drained: no command is then half done.
    void visit_state(StateVisitor& v) override;
    const DeviceCounters& counters() const override { return counters_; }
    // The machine drains the executors in between.
    void pause_function() override;
    void resume_function() override;

  private:
    friend class AhciPort;

    u32 read_register(u32 offset) const;
    void write_register(u32 offset, u32 value);
    void begin_hba_reset();
    // Ends an HBA reset once no port has a command in flight.
    void finish_hba_reset();
    // Brings IS, the interrupt line and messages up to date after a port's or the HBA's registers changed.
    void update_interrupts(bool repeat_message = false);

    const std::string name_;
    std::vector<std::unique_ptr<AhciPort>> ports_;
    std::vector<std::string> register_names_;
    std::vector<memory::Register> registers_;
    DeviceCounters counters_;

    bool interrupt_enable_ = false;  // GHC.IE
    bool reset_pending_ = false;     // GHC.HR
    u32 interrupt_status_ = 0;       // IS
};

}  // namespace wirt::devices::hardware
