// A PCI Express root port with a slot that devices are plugged into and taken out of while the machine runs.
//
// Implements: PCI Express Base 3.1: the port as a bridge (7.5.3), its capability with slot and root registers
// (7.8), the native hot-plug controller (6.7): presence, attention button, power controller, indicators, link
// state and command completion, each with its interrupt; access control services (6.12, 7.16). The identity
// is that of QEMU's pcie-root-port (1b36:000c).
//
// Access control holds by construction: DMA reaches RAM only, so that no request goes from device to device,
// and requester ids are given by the bus.
//
// Untrusted input: every configuration write.
#pragma once

#include <condition_variable>
#include <memory>

#include "devices/hardware/pci_bridge.h"

namespace wirt::devices::hardware {

// Its methods as the bus's side of PciDevice: with the host bridge's mutex held, or while the machine is
// still.
class PcieRootPort final : public PciBridge {
  public:
    explicit PcieRootPort(unsigned physical_slot);

    // Both tell the guest: presence, and the link where the slot has power. There is slot 0 only.
    void attach_behind(unsigned slot, std::unique_ptr<PciDevice> device) override;
    std::unique_ptr<PciDevice> detach_behind(unsigned slot) override;

    void press_attention_button();
    // A driver of the guest's has asked to hear of the button.
    bool button_heard() const;
    bool powered() const;
    // Signalled, with the host bridge's mutex, whenever the guest has written to the slot's control register.
    std::condition_variable& controlled() { return controlled_; }

  protected:
    bool link_up() const override { return link_up_; }
    void restored(bool by_reset) override;
    void configured(u32 offset, unsigned size) override;

  private:
    void raise(u16 events);
    void update_link(bool tell);
    void update_interrupt(bool tell);

    bool link_up_ = false;
    bool interrupt_ = false;  // an enabled event waits for software
    std::condition_variable controlled_;
};

}  // namespace wirt::devices::hardware
