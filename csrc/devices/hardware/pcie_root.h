// The PCIe host bridge of the `virt` board: ECAM, INTx swizzle, the windows that BARs decode in.
//
// Implements: PCI Express Base 3.1, 7.2.2 (ECAM); PCI-to-PCI Bridge Architecture 1.2, 9.1 (interrupt
// binding); what Linux's `pci-host-ecam-generic` expects. The identity 1b36:0008 and the windows are those
// of QEMU's hw/riscv/virt.c and hw/pci-host/gpex.c. BARs start unassigned: the firmware or the operating
// system places them.
//
// Bus 0 is here, with one function a slot; a bus behind a bridge has the number that the guest gave it. A
// configuration read where no function is gives all ones.
//
// Untrusted input: every access to configuration space.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "devices/hardware/pci_device.h"
#include "memory/address_space.h"

namespace wirt::devices::hardware {

// CPU addresses. Memory has the same address on the bus; I/O address 0 is at the start of its window.
struct PcieWindow {
    u64 base;
    u64 size;
};
struct PcieWindows {
    PcieWindow io{0x0300'0000, 0x1'0000};
    PcieWindow mmio32{0x4000'0000, 0x4000'0000};
    PcieWindow mmio64{0x4'0000'0000, 0x4'0000'0000};
};

class PcieRoot final : public memory::MmioDevice, private PciBus {
  public:
    static constexpr unsigned slot_count = 32;

    static constexpr u64 region_size = 0x1000'0000;

    // The board maps the ECAM; BARs are moved about `bus` as the guest places them. `intx` are the lines of
    // INTA..INTD of slot 0. Without `messages` every MSI is dropped, as on a board without a message
    // controller.
    PcieRoot(memory::AddressSpace& bus, memory::GuestRam& ram, std::array<InterruptLine, 4> intx,
             MessageSink* messages, PcieWindows windows = {});
    ~PcieRoot() override;

    // Slot 1..31; 0 is the host bridge. ConfigError when the slot is taken or does not exist. Harts may run:
    // the guest finds the function when it looks for it.
    void attach(unsigned slot, std::unique_ptr<PciDevice> device);
    // Takes a function out under the guest's hands; null when the slot is empty. When this returns no hart is
    // in its registers and its DMA fails; what its own threads are at is the caller's to wait for. Not to be
    // called from inside a device's access.
    std::unique_ptr<PciDevice> detach(unsigned slot);
    // The rest of detach() for a function that a bridge gave back.
    void unmap_bars(PciDevice& device);
    // Puts every function's DMA and messages behind an IOMMU, under the requester id of the function (PCI
    // Express 3.1, 2.2.6.2). Null: none. Only while no hart runs; `remapper` must outlive this.
    void set_remapper(memory::DmaRemapper* remapper) { remapper_ = remapper; }
    // Every function there is, bridges before what stands behind them. With mutex() held.
    void for_each(const std::function<void(PciDevice&)>& visit) const;
    // Null when the slot is empty.
    PciDevice* device(unsigned slot) const { return slot < slot_count ? slots_[slot].get() : nullptr; }

    // For all functions. Not to be called with a device's mutex held.
    void pause();
    void resume();

    std::string_view name() const override { return "pcie-root"; }
    std::span<const memory::Register> registers() const override;
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    // Both include the functions: configuration space and the registers behind the BARs.
    void reset() override;
    void visit_state(StateVisitor& v) override;

  private:
    u8 number() const override { return 0; }
    bool is_root() const override { return true; }
    memory::GuestRam& ram() override { return ram_; }
    std::optional<u64> translate(u16 requester, u64 address, memory::DmaDirection direction,
                                 u64& contiguous) override;
    void set_intx(unsigned slot, unsigned pin, bool level) override;
    bool send_message(u16 requester, u64 address, u32 data) override;
    void add_bar(memory::MmioDevice& target, u64 size) override;
    void move_bar(memory::MmioDevice& target, BarKind kind, u64 size,
                  std::optional<u64> bus_address) override;

    // What an access in a window finds that no function claims: PCI Express 3.1, 2.3.2, leaves it to the root
    // complex what an Unsupported Request completion becomes. As on the boards that drivers know, reads give
    // all ones and writes are lost, so that a driver survives the removal of its device.
    class Unclaimed final : public memory::MmioDevice {
      public:
        explicit Unclaimed(std::string_view name) : name_(name) {}
        std::string_view name() const override { return name_; }
        std::span<const memory::Register> registers() const override { return {}; }
        u64 read(u64, unsigned size) override { return ~u64{0} >> (64 - 8 * size); }
        void write(u64, unsigned, u64) override {}
        void reset() override {}
        void visit_state(StateVisitor&) override {}

      private:
        const std::string_view name_;
    };

    PciDevice* function_at(u64 offset) const;

    memory::AddressSpace& bus_;
    memory::GuestRam& ram_;
    const std::array<InterruptLine, 4> intx_;
    MessageSink* const messages_;
    memory::DmaRemapper* remapper_ = nullptr;
    const PcieWindows windows_;
    Unclaimed io_{"pci-io"}, mmio32_{"pci-mmio32"}, mmio64_{"pci-mmio64"};
    std::array<std::unique_ptr<PciDevice>, slot_count> slots_;
    std::mutex intx_mutex_;
    std::array<u32, 4> asserted_{};  // a line is the OR of the slots wired to it, one bit a slot
};

}  // namespace wirt::devices::hardware
