// Checks of bridges and root ports: bus numbers, windows, what a bridge lets through, wires across bridges,
// power management, function-level reset, MSI with masks, the hot-plug controller, functions that are taken
// out while harts and their own threads are at work, and every write of every width to every register of
// configuration space.
//
// Standalone: prints each failure and a closing count, exits 0 if there are none. From the repository's root:
//   c++ -std=c++20 -g -Wall -Wextra -Werror -Icsrc tests/devices/hardware/test_pcie_root_port.cpp
//       csrc/devices/hardware/{pci*,ahci*,ata}.cpp csrc/memory/*.cpp csrc/storage/*.cpp
//       csrc/base/executor.cpp -pthread -o test_pcie_root_port
//   ./test_pcie_root_port
// It is meant to run under ThreadSanitizer and AddressSanitizer as well.
#include "devices/hardware/pcie_root_port.h"

#include <cstring>
#include <random>
#include <thread>

#include "base/executor.h"
#include "devices/hardware/ahci.h"
#include "devices/hardware/pci_config.h"
#include "pci_machine.h"
#include "support/check.h"

namespace {

// A function with everything that a capability can be.
class Endpoint final : public PciDevice {
  public:
    static constexpr unsigned power = 0x40, msi = 0x50, express = 0x80;

    explicit Endpoint(unsigned pin = 1) : PciDevice({.vendor = 0x1234, .device = 2, .class_code = 0xff0000}) {
        add_bar(0, BarKind::memory32, 0x1000, low);
        add_bar(1, BarKind::io, 0x20, ports);
        add_bar(2, BarKind::memory64, 0x1000, wide);
        add_bar(4, BarKind::memory64_prefetchable, 0x10'0000, high);
        set_interrupt_pin(pin);
        add_power_management(power);
        add_msi(msi, 4, true);
        add_pci_express(express);
        add_extended_capability(0x100, 0x0003, 1, 12);
        add_extended_capability(0x140, 0x000d, 1, 8);
    }
    using PciDevice::dma;
    using PciDevice::notify;
    using PciDevice::set_intx;

    void function_level_reset() override {
        ++resets;
        PciDevice::function_level_reset();
    }

    Scratch low{"low"}, ports{"ports"}, wide{"wide"}, high{"high"};
    unsigned resets = 0;
};

class Bridge final : public PciBridge {
  public:
    Bridge() : PciBridge({.vendor = 0x1234, .device = 3, .class_code = 0x06'04'00}) {}
};

struct Requests final : memory::DmaRemapper {
    std::optional<u64> translate(u32 device, u64 address, memory::DmaDirection, u64&) override {
        devices.push_back(device);
        return address;
    }
    bool send_message(u32 device, u64, u32) override {
        devices.push_back(device);
        return true;
    }
    std::vector<u32> devices;
};

// Bridge in slot 5, with a bridge in its slot 2, with an endpoint in its slot 7.
struct Tree : Machine {
    Tree() {
        auto inner_owned = std::make_unique<Bridge>();
        auto endpoint_owned = std::make_unique<Endpoint>();
        outer = &plug<Bridge>(5);
        inner = inner_owned.get();
        endpoint = endpoint_owned.get();
        outer->attach_behind(2, std::move(inner_owned));
        inner->attach_behind(7, std::move(endpoint_owned));
    }
    static u64 at(u64 number, u64 slot, u32 offset) { return ecam + (number << 20) + (slot << 15) + offset; }
    void set(u64 number, u64 slot, u32 offset, unsigned size, u64 value) {
        bus.write(at(number, slot, offset), size, value);
    }
    u64 get(u64 number, u64 slot, u32 offset, unsigned size) {
        return bus.read(at(number, slot, offset), size).value_or(0);
    }
    void number_buses() {
        set(0, 5, pci::primary_bus, 4, 0x00'03'01'00);
        set(1, 2, pci::primary_bus, 4, 0x00'03'03'01);
    }
    // Memory and I/O of the endpoint reachable, and its requests.
    void open(u64 number, u64 slot) {
        set(number, slot, pci::memory_base, 4, 0x4010'4000);
        set(number, slot, pci::io_base, 2, 0x2010);
        set(number, slot, pci::prefetchable_base, 4, 0x0011'0001);
        set(number, slot, pci::prefetchable_base_high, 4, 4);
        set(number, slot, pci::prefetchable_limit_high, 4, 4);
        set(number, slot, command, 2, 7);
    }
    void open_all() {
        number_buses();
        open(0, 5);
        open(1, 2);
        set(3, 7, bar0, 4, window);
        set(3, 7, bar0 + 4, 4, 0x1000);
        set(3, 7, bar0 + 8, 8, window + 0x2000);
        set(3, 7, bar0 + 16, 8, high_window);
        set(3, 7, command, 2, 7);
    }

    Bridge* outer;
    Bridge* inner;
    Endpoint* endpoint;
};

constexpr u32 endpoint_id = 0x0002'1234;

void test_bus_numbers() {
    Tree m;
    CHECK(m.get(1, 2, 0, 4) == 0xffff'ffff);
    m.number_buses();
    CHECK(m.get(1, 2, 0, 4) == 0x0003'1234);
    CHECK(m.get(1, 2, pci::header_type, 1) == 1);
    CHECK(m.get(3, 7, 0, 4) == endpoint_id);
    CHECK(m.get(2, 7, 0, 4) == 0xffff'ffff);
    CHECK(m.get(3, 6, 0, 4) == 0xffff'ffff);
    CHECK(m.endpoint->requester_id() == (3 << 8 | 7 << 3));
    // Out of the range of the outer bridge, and back with other numbers.
    m.set(0, 5, pci::subordinate_bus, 1, 2);
    CHECK(m.get(3, 7, 0, 4) == 0xffff'ffff);
    m.set(0, 5, pci::primary_bus, 4, 0x00'ff'80'00);
    m.set(128, 2, pci::primary_bus, 4, 0x00'f0'f0'80);
    CHECK(m.get(240, 7, 0, 4) == endpoint_id);
    CHECK(m.endpoint->requester_id() == (240 << 8 | 7 << 3));
    // Numbers that make no sense lead nowhere, and bus 0 stays.
    for (const u32 numbers : {0x00'00'00'00u, 0x00'01'ff'00u, 0x00'ff'00'00u, 0x00'00'05'00u}) {
        m.set(0, 5, pci::primary_bus, 4, numbers);
        CHECK(m.get(0, 0, 0, 4) == 0x0008'1b36);
        for (u64 number = 1; number < 256; ++number) {
            const u64 id = m.get(number, 7, 0, 4);
            CHECK(id == 0xffff'ffff || id == endpoint_id);
        }
    }
    m.number_buses();
    m.open_all();
    Requests requests;
    m.root.set_remapper(&requests);
    CHECK(m.endpoint->dma().load<u32>(ram_base));
    m.set(3, 7, Endpoint::msi + pci::msi_control, 2, 1);
    CHECK(m.endpoint->notify(0));
    CHECK((requests.devices == std::vector<u32>{3 << 8 | 7 << 3, 3 << 8 | 7 << 3}));
}

void test_windows() {
    Tree m;
    const auto claimed = [&](u64 address) { return m.bus.read(address, 4) != 0xffff'ffff; };
    m.open_all();
    CHECK(claimed(window) && claimed(window + 0x2000) && claimed(high_window) && claimed(io_window + 0x1000));
    CHECK(m.bus.write(high_window + 0x10, 4, 77) && m.bus.read(high_window, 4) == 77);
    // Any bridge on the way can close memory, and I/O by itself.
    for (const auto& [number, slot] : {std::pair<u64, u64>{0, 5}, {1, 2}}) {
        m.set(number, slot, command, 2, 5);
        CHECK(!claimed(window) && !claimed(high_window) && claimed(io_window + 0x1000));
        m.set(number, slot, command, 2, 6);
        CHECK(claimed(window) && claimed(high_window) && !claimed(io_window + 0x1000));
        m.set(number, slot, command, 2, 7);
        // A limit below the base closes a window; the other one stays open.
        m.set(number, slot, pci::memory_base, 4, 0x3ff0'4000);
        CHECK(!claimed(window) && claimed(high_window));
        m.set(number, slot, pci::memory_base, 4, 0x4000'4010);
        CHECK(!claimed(window));
        m.open(number, slot);
        m.set(number, slot, pci::prefetchable_limit_high, 4, 3);
        CHECK(claimed(window) && !claimed(high_window));
        m.open(number, slot);
        m.set(number, slot, pci::io_base, 2, 0x1020);
        CHECK(!claimed(io_window + 0x1000));
        m.open(number, slot);
        CHECK(claimed(window) && claimed(high_window) && claimed(io_window + 0x1000));
    }
    // A BAR at the edge of the window, and one over it.
    m.set(3, 7, bar0, 4, window + 0x1f'f000);
    CHECK(claimed(window + 0x1f'f000));
    m.set(3, 7, bar0, 4, window + 0x20'0000);
    CHECK(!claimed(window + 0x20'0000));
    m.set(3, 7, bar0 + 16, 8, high_window + 0x10'0000);
    CHECK(claimed(high_window + 0x10'0000));
    m.set(0, 5, pci::prefetchable_limit, 2, 1);
    CHECK(!claimed(high_window + 0x10'0000));
    // ISA Enable leaves the first 256 bytes of each KiB.
    m.set(0, 5, pci::bridge_control, 2, pci::bridge_isa);
    CHECK(claimed(io_window + 0x1000));
    m.set(3, 7, bar0 + 4, 4, 0x1100);
    CHECK(!claimed(io_window + 0x1100));
    m.set(0, 5, pci::bridge_control, 2, 0);
    CHECK(claimed(io_window + 0x1100));
    // 64-bit addresses need a window that reaches so far: the memory window does not.
    m.set(3, 7, bar0 + 8, 8, high_window + 0x20'0000);
    CHECK(!claimed(high_window + 0x20'0000));
}

void test_requests_pass_bridges() {
    Tree m;
    m.open_all();
    m.set(3, 7, Endpoint::msi + pci::msi_address, 8, 0x2800'0000);
    m.set(3, 7, Endpoint::msi + pci::msi_control, 2, 1);
    const auto dma = m.endpoint->dma();
    CHECK(dma.store<u32>(ram_base, 5));
    for (const auto& [number, slot] : {std::pair<u64, u64>{0, 5}, {1, 2}, {3, 7}}) {
        m.set(number, slot, command, 2, 3);
        CHECK(!dma.load<u32>(ram_base));
        CHECK(!dma.store<u32>(ram_base, 6));
        const std::size_t before = m.messages.sent.size();
        CHECK(m.endpoint->notify(0));
        CHECK(m.messages.sent.size() == before);
        m.set(number, slot, command, 2, 7);
        CHECK(dma.load<u32>(ram_base) == 5);
    }
    // What the function itself held back is sent when it may; what a bridge refused is lost.
    CHECK(m.messages.sent.size() == 1);
}

void test_wires_across_bridges() {
    Tree m;
    m.endpoint->set_intx(true);  // INTA of slot 7, behind slot 2, behind slot 5
    CHECK(m.lines.levels[(0 + 7 + 2 + 5) % 4]);
    Endpoint& other = m.plug<Endpoint>(6, 1);
    other.set_intx(true);
    m.endpoint->set_intx(false);
    CHECK(m.lines.levels[2]);
    other.set_intx(false);
    CHECK(!m.lines.levels[2]);
    m.endpoint->set_intx(true);
    auto taken = m.inner->detach_behind(7);
    CHECK(!m.lines.levels[2]);
    m.root.unmap_bars(*taken);
}

void test_power() {
    Machine m;
    Endpoint& endpoint = m.plug<Endpoint>(1);
    m.configure(1, bar0, 4, window);
    m.configure(1, command, 2, 7);
    constexpr u32 state = Endpoint::power + pci::power_control;
    const auto dma = endpoint.dma();
    endpoint.set_intx(true);
    CHECK(m.lines.levels[1]);
    CHECK(m.bus.write(window, 4, 9));
    m.configure(1, state, 2, 3);
    CHECK(m.configuration(1, state, 2) == 0xb);  // D3hot, No_Soft_Reset
    CHECK(m.bus.read(window, 4) == 0xffff'ffff);
    CHECK(!dma.load<u32>(ram_base));
    CHECK(!m.lines.levels[1]);
    CHECK(m.configuration(1, 0, 4) == endpoint_id);
    m.configure(1, state, 2, 1);  // D1 and D2 are not there
    CHECK(m.configuration(1, state, 2) == 0xb);
    m.configure(1, state, 1, 0);
    m.configure(1, state, 1, 2);
    CHECK(m.configuration(1, state, 2) == 0x8);
    CHECK(m.bus.read(window, 4) == 9);
    CHECK(dma.load<u32>(ram_base));
    CHECK(m.lines.levels[1]);
}

void test_masked_messages() {
    Machine m;
    Endpoint& endpoint = m.plug<Endpoint>(1);
    constexpr u32 msi = Endpoint::msi;
    CHECK(m.configuration(1, msi + pci::msi_control, 2) == (0x180 | 2 << 1));
    m.configure(1, command, 2, 6);
    m.configure(1, msi + pci::msi_address, 8, 0x1'2800'0000);
    m.configure(1, msi + pci::msi_data, 2, 0x47);
    m.configure(1, msi + pci::msi_mask, 4, ~u32{0});
    CHECK(m.configuration(1, msi + pci::msi_mask, 4) == 0xf);
    m.configure(1, msi + pci::msi_control, 2, 2 << 4 | 1);
    CHECK(endpoint.notify(1) && endpoint.notify(3));
    CHECK(m.messages.sent.empty());
    m.configure(1, msi + pci::msi_pending, 4, 0);
    CHECK(m.configuration(1, msi + pci::msi_pending, 4) == 0xa);
    m.configure(1, msi + pci::msi_mask, 1, 0x7);
    CHECK((m.messages.sent == std::vector<std::pair<u64, u32>>{{0x1'2800'0000, 0x47}}));
    CHECK(m.configuration(1, msi + pci::msi_pending, 4) == 2);
    m.configure(1, msi + pci::msi_mask, 4, 0);
    CHECK(m.messages.sent.back().second == 0x45);
    // Two of the four enabled: a vector beyond them is sent as the first. More than there are: four.
    m.configure(1, msi + pci::msi_control, 2, 1 << 4 | 1);
    CHECK(endpoint.notify(3));
    CHECK(m.messages.sent.back().second == 0x46);
    m.configure(1, msi + pci::msi_control, 2, 7 << 4 | 1);
    CHECK(endpoint.notify(3) && m.messages.sent.back().second == 0x47);
    CHECK(endpoint.notify(31) && m.messages.sent.back().second == 0x44);
    CHECK(m.messages.sent.size() == 5);
}

void test_function_level_reset() {
    Tree m;
    constexpr u32 control = Endpoint::express + pci::express_device_control;
    CHECK(m.get(0, 5, 0, 4) == 0x0003'1234);
    for (const auto& [offset, size, value] :
         {std::tuple{control, 2u, 0x8000u}, {control + 1, 1u, 0x80u}, {control, 4u, 0x8000u}}) {
        m.open_all();
        m.set(3, 7, Endpoint::express + pci::express_link_control, 2, 0x43);
        m.bus.write(window, 4, 55);
        m.endpoint->set_intx(true);
        const unsigned before = m.endpoint->resets;
        m.set(3, 7, offset, size, value);
        CHECK(m.endpoint->resets == before + 1);
        CHECK(m.get(3, 7, command, 2) == 0 && m.get(3, 7, bar0, 4) == 0);
        CHECK(m.get(3, 7, control, 2) == 0x2810);  // the bit reads zero, the rest as after a reset
        CHECK(m.get(3, 7, Endpoint::express + pci::express_link_control, 2) == 0x43);
        CHECK(!m.lines.levels[2]);
        CHECK(!m.endpoint->dma().load<u32>(ram_base));
        m.open_all();
        CHECK(m.bus.read(window, 4) == 0);
    }
    const unsigned before = m.endpoint->resets;
    m.set(3, 7, control, 1, 0xff);
    m.set(3, 7, control + 2, 2, 0xffff);
    CHECK(m.endpoint->resets == before);
    // The reset of a bus resets all that is behind it.
    m.set(0, 5, pci::bridge_control, 2, pci::bridge_bus_reset);
    CHECK(m.endpoint->resets == before + 1);
    m.set(0, 5, pci::bridge_control, 2, 0);
    CHECK(m.get(1, 2, pci::secondary_bus, 1) == 0);
}

// ---------------------------------------------------------------- the hot-plug controller

constexpr u32 express = 0x50, slot_control = express + pci::express_slot_control,
              slot_status = express + pci::express_slot_status,
              link_status = express + pci::express_link_status, port_msi = 0x90;

struct Slot : Machine {
    Slot() : port(&plug<PcieRootPort>(24, 24u)) {
        configure(24, pci::primary_bus, 4, 0x00'01'01'00);
        configure(24, pci::memory_base, 4, 0x4000'4000);
        configure(24, command, 2, 7);
        configure(24, port_msi + pci::msi_address, 8, 0x2800'0000);
        configure(24, port_msi + pci::msi_control, 2, 1);
    }
    Endpoint& insert() {
        auto device = std::make_unique<Endpoint>();
        Endpoint& result = *device;
        std::lock_guard lock(root.mutex());
        port->attach_behind(0, std::move(device));
        return result;
    }
    void take_out() {
        std::unique_ptr<PciDevice> device;
        {
            std::lock_guard lock(root.mutex());
            device = port->detach_behind(0);
        }
        if (device) root.unmap_bars(*device);
    }
    u64 events() { return configuration(24, slot_status, 2) & 0x11b; }
    void acknowledge() { configure(24, slot_status, 2, 0x11b); }
    u64 behind(u32 offset, unsigned size) { return bus.read(ecam + (1 << 20) + offset, size).value_or(0); }
    void set_behind(u32 offset, unsigned size, u64 value) {
        bus.write(ecam + (1 << 20) + offset, size, value);
    }
    std::size_t sent() const { return messages.sent.size(); }

    PcieRootPort* port;
};

void test_port_registers() {
    Slot m;
    CHECK(m.configuration(24, 0, 4) == 0x000c'1b36);
    CHECK(m.configuration(24, 0x0a, 2) == 0x0604);
    CHECK(m.configuration(24, express + pci::express_capabilities, 2) == 0x142);
    CHECK(m.configuration(24, express + pci::express_slot_capabilities, 4) == (24 << 19 | 25 << 7 | 0x7b));
    CHECK(m.configuration(24, 0x100, 4) == 0x0001'000d);
    CHECK(m.configuration(24, 0x104, 2) == 0x1f);
    m.configure(24, 0x106, 2, 0xffff);
    CHECK(m.configuration(24, 0x106, 2) == 0x1f);
    Endpoint& endpoint = m.insert();
    CHECK((m.behind(Endpoint::express + pci::express_capabilities, 2) & 0xf0) == 0);
    CHECK(m.behind(0x100, 4) == 0x1401'0003 && m.behind(0x140, 4) == 0x0001'000d);
    CHECK(endpoint.requester_id() == 1 << 8);
    Endpoint& integrated = m.plug<Endpoint>(4);
    (void)integrated;
    CHECK((m.configuration(4, Endpoint::express + pci::express_capabilities, 2) & 0xf0) == 0x90);
    CHECK(m.configuration(4, Endpoint::express + pci::express_link_capabilities, 4) == 0);
}

void test_hot_plug() {
    Slot m;
    CHECK(m.events() == 0 && (m.configuration(24, slot_status, 2) & pci::slot_present) == 0);
    CHECK(m.behind(0, 4) == 0xffff'ffff);
    // No driver: all is seen by who looks.
    m.insert();
    CHECK(m.events() == (pci::slot_event_presence | pci::slot_event_link));
    CHECK((m.configuration(24, link_status, 2) & pci::link_active) != 0);
    CHECK(m.behind(0, 4) == endpoint_id);
    CHECK(m.sent() == 0 && !m.port->button_heard());
    m.acknowledge();
    CHECK(m.events() == 0);

    // A driver as Linux has it: all interrupts. Every command completes, with an event of its own.
    m.configure(24, slot_control, 2, 0x1739 & ~pci::slot_power_off);
    CHECK(m.events() == pci::slot_event_command && m.sent() == 1);
    m.acknowledge();
    CHECK(m.port->button_heard());
    m.port->press_attention_button();
    CHECK(m.events() == pci::slot_event_attention && m.sent() == 2);
    m.port->press_attention_button();  // still unanswered: no second message
    CHECK(m.sent() == 2);
    m.acknowledge();
    m.port->press_attention_button();
    CHECK(m.sent() == 3);
    m.acknowledge();

    // Power off: the function is gone for software, and reset.
    m.set_behind(bar0, 4, window);
    m.set_behind(command, 2, 7);
    CHECK(m.bus.read(window, 4) == 0);
    auto* endpoint = static_cast<Endpoint*>(m.port->device_behind(0));
    const unsigned resets = endpoint->resets;
    m.configure(24, slot_control, 2, 0x1739 | pci::slot_power_off);
    CHECK(!m.port->powered());
    CHECK(m.events() == (pci::slot_event_command | pci::slot_event_link));
    CHECK((m.configuration(24, slot_status, 2) & pci::slot_present) != 0);
    CHECK((m.configuration(24, link_status, 2) & pci::link_active) == 0);
    CHECK(m.behind(0, 4) == 0xffff'ffff && m.bus.read(window, 4) == 0xffff'ffff);
    CHECK(endpoint->resets == resets + 1 && !endpoint->dma().load<u32>(ram_base));
    m.acknowledge();
    m.take_out();
    CHECK(m.events() == pci::slot_event_presence);
    CHECK((m.configuration(24, slot_status, 2) & pci::slot_present) == 0);
    m.acknowledge();

    // A device in a slot without power: presence alone. Then power, and the link.
    m.insert();
    CHECK(m.events() == pci::slot_event_presence && m.behind(0, 4) == 0xffff'ffff);
    m.acknowledge();
    m.configure(24, slot_control, 2, 0x1739 & ~pci::slot_power_off);
    CHECK(m.events() == (pci::slot_event_command | pci::slot_event_link) && m.behind(0, 4) == endpoint_id);
    m.acknowledge();
    // Link Disable takes the link down as well.
    m.configure(24, express + pci::express_link_control, 2, pci::link_disable);
    CHECK(m.events() == pci::slot_event_link && m.behind(0, 4) == 0xffff'ffff);
    m.configure(24, express + pci::express_link_control, 2, 0);
    CHECK(m.behind(0, 4) == endpoint_id);
    m.acknowledge();

    // Surprise removal, and events that wait for an interrupt to be enabled.
    m.configure(24, slot_control, 2, 0);
    m.acknowledge();
    const std::size_t before = m.sent();
    m.take_out();
    CHECK(m.events() == (pci::slot_event_presence | pci::slot_event_link) && m.sent() == before);
    m.configure(24, slot_control, 2, pci::slot_interrupt_enable | pci::slot_enable_link);
    CHECK(m.sent() == before + 1);
    // By wire where messages are off, for as long as the event is there.
    m.configure(24, port_msi + pci::msi_control, 2, 0);
    CHECK(m.lines.levels[0]);
    m.acknowledge();
    CHECK(!m.lines.levels[0]);
    m.take_out();  // nothing is there
    // In D3hot the message waits.
    m.configure(24, port_msi + pci::msi_control, 2, 1);
    m.configure(24, slot_control, 2, 0x1739 & ~pci::slot_power_off);
    m.acknowledge();
    m.configure(24, 0x4c, 2, 3);
    const std::size_t asleep = m.sent();
    m.insert();
    CHECK(m.sent() == asleep && m.behind(0, 4) == 0xffff'ffff);
    m.configure(24, 0x4c, 2, 0);
    CHECK(m.sent() == asleep + 1 && m.behind(0, 4) == endpoint_id);
    m.root.reset();
    CHECK(m.events() == 0 && (m.configuration(24, slot_status, 2) & pci::slot_present) != 0);
}

// ---------------------------------------------------------------- hostile

// Identity, headers of capabilities and what they say stay, whatever is written, at whatever width, wherever.
void test_every_configuration_write() {
    Tree m;
    m.plug<PcieRootPort>(24, 24u).attach_behind(0, std::make_unique<Endpoint>());
    m.plug<Function>(1);
    m.number_buses();
    m.configure(24, pci::primary_bus, 4, 0x00'80'80'00);
    struct Where {
        u64 number, slot;
        std::vector<u32> fixed;  // dwords
    };
    const std::vector<u32> of_endpoint = {0x00, 0x08, 0x0c, 0x2c, 0x34,  0x40,
                                          0x80, 0x84, 0x8c, 0x94, 0x100, 0x140};
    const Where places[] = {
        {0, 0, {0x00, 0x08, 0x0c, 0x2c, 0x34}},
        {0, 1, {0x00, 0x08, 0x0c, 0x2c, 0x34, 0x74, 0x78}},
        {0, 5, {0x00, 0x08, 0x0c, 0x34}},
        {0, 24, {0x00, 0x08, 0x0c, 0x34, 0x40, 0x44, 0x48, 0x50, 0x54, 0x5c, 0x64, 0x100}},
        {3, 7, of_endpoint},
        {128, 0, of_endpoint},
    };
    std::mt19937_64 random(7);
    for (const Where& place : places) {
        std::vector<u64> before;
        for (const u32 offset : place.fixed) before.push_back(m.get(place.number, place.slot, offset, 4));
        for (int round = 0; round < 3; ++round) {
            for (const unsigned size : {1u, 2u, 4u, 8u}) {
                const u32 end = round == 2 ? 4096 : 0x180;
                for (u32 offset = 0; offset < end; offset += size) {
                    const u64 value = round == 0 ? ~u64{0} : round == 1 ? 0 : random();
                    m.set(place.number, place.slot, offset, size, value);
                }
            }
            // Bridges and power as they must be for the function to be seen.
            m.set(0, 5, pci::primary_bus, 4, 0x00'03'01'00);
            m.set(1, 2, pci::primary_bus, 4, 0x00'03'03'01);
            m.set(0, 24, 0x4c, 2, 0);
            m.set(0, 24, pci::primary_bus, 4, 0x00'80'80'00);
            m.set(0, 24, pci::bridge_control, 2, 0);
            m.set(0, 24, slot_control, 2, 0);
            m.set(0, 24, express + pci::express_link_control, 2, 0);
            for (std::size_t i = 0; i < place.fixed.size(); ++i) {
                CHECK(m.get(place.number, place.slot, place.fixed[i], 4) == before[i]);
            }
        }
    }
    // A reset brings all of it back.
    m.root.reset();
    m.open_all();
    CHECK(m.bus.write(window, 4, 3) && m.bus.read(window, 4) == 3);
}

// Harts that read and write registers and configuration, and a thread of the device's that does DMA, while
// the function comes and goes. AddressSanitizer says whether anyone touched it afterwards.
void test_removal_races() {
    Slot m;
    std::atomic<bool> stop{false};
    std::atomic<Endpoint*> current{nullptr};
    std::mutex device_lock;  // as an executor that is drained before its device goes
    std::vector<std::thread> harts;
    for (int hart = 0; hart < 2; ++hart) {
        harts.emplace_back([&] {
            bool sound = true;
            while (!stop) {
                m.set_behind(bar0, 4, window);
                m.set_behind(command, 2, 7);
                for (int i = 0; i < 20; ++i) {
                    const auto value = m.bus.read(window + 8, 4);
                    sound = sound && (value == 0xffff'ffff || value == 0u);
                    m.bus.write(window + 8, 4, 0);
                }
            }
            CHECK(sound);
        });
    }
    std::thread worker([&] {
        while (!stop) {
            std::lock_guard lock(device_lock);
            if (Endpoint* const endpoint = current) {
                (void)endpoint->dma().store<u32>(ram_base, 1);
                endpoint->set_intx(true);
                endpoint->notify(0);
            }
        }
    });
    for (int i = 0; i < 150; ++i) {
        Endpoint& endpoint = m.insert();
        current = &endpoint;
        std::this_thread::yield();
        std::unique_ptr<PciDevice> device;
        {
            std::lock_guard lock(m.root.mutex());
            device = m.port->detach_behind(0);
        }
        m.root.unmap_bars(*device);
        std::lock_guard lock(device_lock);
        CHECK(!endpoint.dma().load<u32>(ram_base));
        current = nullptr;
        device.reset();
    }
    stop = true;
    worker.join();
    for (std::thread& hart : harts) hart.join();
    CHECK(!m.lines.levels[0]);
    // The map has shrunk again: the ECAM and nothing that was behind the port.
    CHECK(m.bus.devices().size() == 1);
}

// An SATA disk taken out while a command of it is under way.
void test_removal_with_a_command_in_flight() {
    for (int round = 0; round < 20; ++round) {
        Machine m;
        ThreadExecutor executor;
        auto disk = storage::make_memory_disk(8 * MiB);
        m.plug<Ahci>(4, "ahci0", std::vector<Ahci::Disk>{{disk, "s"}},
                     [&](const std::string&) -> Executor& { return executor; });
        m.configure(4, 0x24, 4, window);
        m.configure(4, command, 2, 6);
        u8* memory = m.ram.data();
        const u8 fis[] = {0x27, 0x80, 0x25, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0x20};  // READ DMA EXT, 4 MiB
        std::memcpy(memory + 0x3000, fis, sizeof fis);
        const u32 header[] = {5 | 1 << 16, 0, ram_base + 0x3000, 0};
        std::memcpy(memory + 0x1000, header, sizeof header);
        const u32 entry[] = {ram_base + 0x40'0000, 0, 0, 4 * MiB - 1};
        std::memcpy(memory + 0x3080, entry, sizeof entry);
        const u64 port = window + 0x100;
        m.bus.write(port + 0x00, 4, ram_base + 0x1000);
        m.bus.write(port + 0x08, 4, ram_base + 0x2000);
        m.bus.write(port + 0x30, 4, ~u32{0});
        m.bus.write(port + 0x18, 4, 0x11);
        m.bus.write(port + 0x38, 4, 1);
        for (int i = 0; i < round * 5; ++i) std::this_thread::yield();
        auto device = m.root.detach(4);
        CHECK(device != nullptr && m.root.detach(4) == nullptr);
        executor.drain();
        std::memset(memory + 0x40'0000, 0x5a, 4 * MiB);
        device.reset();
        CHECK(memory[0x40'0000] == 0x5a && m.bus.read(port, 4) == 0xffff'ffff);
    }
}

}  // namespace

int main() {
    test_bus_numbers();
    test_windows();
    test_requests_pass_bridges();
    test_wires_across_bridges();
    test_power();
    test_masked_messages();
    test_function_level_reset();
    test_port_registers();
    test_hot_plug();
    test_every_configuration_write();
    test_removal_races();
    test_removal_with_a_command_in_flight();
    return checks.close();
}
