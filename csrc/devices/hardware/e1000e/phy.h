// The PHY inside the 82574, as software reaches it through MDIC, and the link it makes with the port behind
// the NIC.
//
// Implements: IEEE 802.3, 22.2.4 and 28.2.4 (registers 0 to 10 and 15); Intel 82574 GbE Controller Family
// Datasheet, 10.2.2 (MDIC) and the PHY registers that its drivers use, in pages chosen by register 22. The
// partner of the link is a gigabit switch; negotiation takes no time.
//
// Untrusted input: register numbers, pages and data. What is no register reads as zero.
#pragma once

#include <array>

#include "base/state_visitor.h"
#include "base/types.h"

namespace wirt::devices::hardware::e1000e {

class Phy {
  public:
    // The only address at which it answers (10.2.2: MDIC.PHYADD).
    static constexpr unsigned address = 1;

    Phy() { reset(); }

    u16 read(unsigned number);
    // True when the link was or may have been down meanwhile.
    bool write(unsigned number, u16 value);
    void reset();

    void set_cable(bool present);
    bool cable() const { return cable_; }
    // Frames pass: the cable is in and the PHY is on, or it loops back.
    bool link() const;
    bool loopback() const;
    void visit_state(StateVisitor& v);

  private:
    static constexpr unsigned page_count = 8, page_registers = 32;

    u16& held(unsigned number);
    u16 status();

    std::array<u16, page_count * page_registers> registers_;
    u16 page_ = 0;
    bool cable_ = false;
    bool link_lost_ = false;  // since the status register was read: it shows a lost link once (22.2.4.2.13)
};

}  // namespace wirt::devices::hardware::e1000e
