// A PCI-to-PCI bridge: a type 1 configuration header, and the bus behind it.
//
// Implements: PCI-to-PCI Bridge Architecture 1.2: bus numbers (3.2.5.3 to 3.2.5.5) and what of configuration
// they lead to, the I/O window of 16-bit addresses, the memory and the 64-bit prefetchable window (4), the
// secondary bus reset (3.2.5.18), interrupt binding (9.1); PCI Express Base 3.1, 7.5.3 (which of it PCI
// Express keeps).
//
// A BAR behind a bridge decodes where the bridge forwards all of it, and nowhere else. Requests of functions
// behind it go on only while the bridge's own Bus Master bit is set and it is in D0.
//
// Untrusted input: every configuration write: bus numbers in no order, windows of any shape.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "devices/hardware/pci_device.h"

namespace wirt::devices::hardware {

class PciBridge : public PciDevice, protected PciBus {
  public:
    static constexpr unsigned slot_count = 32;

    explicit PciBridge(const PciIdentity& identity);
    ~PciBridge() override;

    // Slot 0..31 of the secondary bus. ConfigError when it is taken. As the bus's side of PciDevice: with the
    // host bridge's mutex held, or while the machine is still. The bridge must be attached itself.
    virtual void attach_behind(unsigned slot, std::unique_ptr<PciDevice> device);
    // Cuts the function off and gives it back; null when the slot is empty. Whoever called takes its regions
    // off the address space once the host bridge's mutex is free again.
    virtual std::unique_ptr<PciDevice> detach_behind(unsigned slot);
    PciDevice* device_behind(unsigned slot) const { return children_[slot].get(); }

    PciDevice* behind(u8 number, unsigned slot) override;
    void for_each_behind(const std::function<void(PciDevice&)>& visit) const override;
    void refresh() override;
    void reset_function() override;
    void pause_function() override;
    void resume_function() override;
    void visit_function_state(StateVisitor& v) override;

  protected:
    // Nothing behind a port without a link can be reached.
    virtual bool link_up() const { return true; }
    // Brings the windows up to date, and where BARs behind the bridge decode.
    void update_forwarding();
    // A snapshot was loaded, or the bridge was reset: what is not in configuration space follows from it.
    virtual void restored(bool by_reset);
    void configured(u32 offset, unsigned size) override;
    void drive_pin(unsigned pin, bool level) override;

    // --- PciBus, of the secondary bus ---
    u8 number() const override { return secondary_.load(std::memory_order_acquire); }
    void set_intx(unsigned slot, unsigned pin, bool level) override;
    std::optional<u64> translate(u16 requester, u64 address, memory::DmaDirection direction,
                                 u64& contiguous) override;
    bool send_message(u16 requester, u64 address, u32 data) override;
    bool is_root() const override { return false; }
    memory::GuestRam& ram() override { return bus()->ram(); }
    void add_bar(memory::MmioDevice& target, u64 size) override { bus()->add_bar(target, size); }
    void move_bar(memory::MmioDevice& target, BarKind kind, u64 size,
                  std::optional<u64> bus_address) override;

  private:
    using PciDevice::add_bar;  // a function's own; the bridges here have none

    struct Window {
        u64 first = 1;
        u64 last = 0;  // inclusive; below `first`: closed
        bool holds(u64 base, u64 size) const {
            return base >= first && base <= last && size - 1 <= last - base;
        }
    };

    bool forwards(BarKind kind, u64 base, u64 size) const;
    void wire(u64 source, unsigned pin, bool level);

    std::array<std::unique_ptr<PciDevice>, slot_count> children_;
    // Taken from configuration space; the first two are read by any thread.
    std::atomic<u8> secondary_{0};
    std::atomic<bool> upstream_{false};
    u8 subordinate_ = 0;
    bool reachable_ = false;  // configuration requests go on: in D0
    bool isa_ = false;
    Window io_, memory_, prefetchable_;
    std::mutex intx_mutex_;
    std::array<u64, 4> asserted_{};  // who drives each pin: a bit a slot behind, and one of the bridge's own
};

}  // namespace wirt::devices::hardware
