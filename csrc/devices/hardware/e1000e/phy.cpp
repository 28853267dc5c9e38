#include "devices/hardware/e1000e/phy.h"

namespace wirt::devices::hardware::e1000e {

namespace {

// Registers of IEEE 802.3, clauses 22, 28 and 40; they are the same in every page.
enum : unsigned {
    control = 0,
    status_register = 1,
    identifier_1 = 2,
    identifier_2 = 3,
    advertisement = 4,
    partner_ability = 5,
    expansion = 6,
    next_page = 7,
    partner_next_page = 8,
    master_slave_control = 9,
    master_slave_status = 10,
    extended_status = 15,
    // The PHY's own, page 0.
    specific_control = 16,
    specific_status = 17,
    page_select = 22,
};
constexpr unsigned first_paged = 16;

constexpr u16 control_reset = 1 << 15, control_loopback = 1 << 14, control_autonegotiate = 1 << 12,
              control_power_down = 1 << 11, control_isolate = 1 << 10, control_restart = 1 << 9;
constexpr u16 status_capabilities = 0x7949, status_complete = 1 << 5, status_link = 1 << 2;

// What a gigabit switch with flow control in both directions advertises.
constexpr u16 partner_abilities = 0x45e1, partner_expansion = 0x000d, partner_gigabit = 0x3c00;
// 1000 Mb/s, full duplex, resolved, link, both directions paused.
constexpr u16 specific_status_up = 0xac0c;

}  // namespace

void Phy::reset() {
    registers_.fill(0);
    page_ = 0;
    registers_[control] = 0x1140;
    registers_[identifier_1] = 0x0141;
    registers_[identifier_2] = 0x0cb1;
    registers_[advertisement] = 0x0de1;
    registers_[next_page] = 0x2001;
    registers_[master_slave_control] = 0x0f00;
    registers_[extended_status] = 0x3000;
    registers_[specific_control] = 0x3360;
    link_lost_ = true;
}

bool Phy::loopback() const {
    return (registers_[control] & control_loopback) != 0;
}

bool Phy::link() const {
    if ((registers_[control] & (control_power_down | control_isolate)) != 0) return false;
    return cable_ || loopback();
}

void Phy::set_cable(bool present) {
    if (cable_ && !present) link_lost_ = true;
    cable_ = present;
}

u16& Phy::held(unsigned number) {
    return registers_[(number < first_paged ? 0 : page_ * page_registers) + number];
}

u16 Phy::status() {
    const bool up = link() && !link_lost_;
    link_lost_ = false;
    const bool negotiated = link() && (registers_[control] & control_autonegotiate) != 0;
    return status_capabilities | (up ? status_link : 0) | (negotiated ? status_complete : 0);
}

u16 Phy::read(unsigned number) {
    switch (number) {
        case status_register:
            return status();
        case partner_ability:
            return link() ? partner_abilities : 0;
        case expansion:
            return link() ? partner_expansion : 4;
        case master_slave_status:
            return link() ? partner_gigabit : 0;
        case page_select:
            return page_;
        default:
            break;
    }
    if (number >= first_paged && page_ >= page_count) return 0;
    if (number == specific_status && page_ == 0) return link() ? specific_status_up : 0;
    return held(number);
}

bool Phy::write(unsigned number, u16 value) {
    switch (number) {
        case control: {
            if ((value & control_reset) != 0) {
                reset();
                return true;
            }
            const bool was = link();
            registers_[control] = value & static_cast<u16>(~(control_restart | 0x3f));
            const bool restarted = (value & control_restart) != 0 && (value & control_autonegotiate) != 0;
            if (restarted || was != link()) link_lost_ = true;
            return restarted || was != link();
        }
        case status_register:
        case identifier_1:
        case identifier_2:
        case partner_ability:
        case expansion:
        case partner_next_page:
        case master_slave_status:
        case extended_status:
            return false;
        case page_select:
            page_ = value;
            return false;
        default:
            if (number < first_paged || page_ < page_count) held(number) = value;
            return false;
    }
}

void Phy::visit_state(StateVisitor& v) {
    v.field("phy", registers_);
    v.field("phy_page", page_);
    v.field("cable", cable_);
    v.field("link_lost", link_lost_);
}

}  // namespace wirt::devices::hardware::e1000e
