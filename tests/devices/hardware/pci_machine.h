// What the tests of PCI functions, bridges and ports are made of: a bus with memory, wires and messages that
// a test can look at, and a function with every kind of BAR.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "devices/hardware/pcie_root.h"
#include "support/check.h"

using namespace wirt;
using namespace wirt::devices::hardware;

inline constexpr u64 ecam = 0x3000'0000, window = 0x4000'0000, high_window = 0x4'0000'0000,
                     io_window = 0x0300'0000, ram_base = 0x8000'0000;
inline constexpr u32 command = 0x04, bar0 = 0x10;

struct Lines final : InterruptSink {
    void set_level(unsigned source, bool level) override { levels[source] = level; }
    std::array<std::atomic<bool>, 4> levels{};
};

struct Messages final : MessageSink {
    bool send_message(u64 address, u32 data) override {
        sent.emplace_back(address, data);
        return true;
    }
    std::vector<std::pair<u64, u32>> sent;
};

// A register file of one dword a BAR.
class Scratch final : public memory::MmioDevice {
  public:
    explicit Scratch(std::string name) : name_(std::move(name)) {}
    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override { return {}; }
    u64 read(u64 offset, unsigned) override { return offset < size_ ? value_ : ~u64{0}; }
    void write(u64, unsigned, u64 value) override { value_ = value; }
    void reset() override { value_ = 0; }
    void visit_state(StateVisitor& v) override {
        v.section(name_, 1);
        v.field("value", value_);
    }

  private:
    const std::string name_;
    const u64 size_ = 0x1000;
    u64 value_ = 0;
};

class Function final : public PciDevice {
  public:
    explicit Function(unsigned pin = 1) : PciDevice({.vendor = 0x1234, .device = 1, .class_code = 0xff0000}) {
        add_bar(0, BarKind::memory32, 0x1000, low);
        add_bar(1, BarKind::io, 0x20, ports);
        add_bar(2, BarKind::memory64_prefetchable, 0x10'0000, high);
        set_interrupt_pin(pin);
        add_msi(0x50);
        add_msix(0x70, 4, 5, "function.msix");
    }
    using PciDevice::notify;
    using PciDevice::set_intx;

    Scratch low{"low"}, ports{"ports"}, high{"high"};
};

struct Machine {
    Machine() : root(bus, ram, lines_of(lines), &messages) { bus.map(ecam, PcieRoot::region_size, root); }

    static std::array<InterruptLine, 4> lines_of(Lines& lines) {
        return {InterruptLine(lines, 0), InterruptLine(lines, 1), InterruptLine(lines, 2),
                InterruptLine(lines, 3)};
    }
    template <typename Device, typename... Arguments>
    Device& plug(unsigned slot, Arguments&&... arguments) {
        auto device = std::make_unique<Device>(std::forward<Arguments>(arguments)...);
        Device& result = *device;
        root.attach(slot, std::move(device));
        return result;
    }
    void configure(unsigned slot, u32 offset, unsigned size, u64 value) {
        bus.write(ecam + (u64{slot} << 15) + offset, size, value);
    }
    u64 configuration(unsigned slot, u32 offset, unsigned size) {
        return bus.read(ecam + (u64{slot} << 15) + offset, size).value_or(0);
    }

    memory::GuestRam ram{ram_base, 16 * MiB};
    memory::AddressSpace bus{ram};
    Lines lines;
    Messages messages;
    PcieRoot root;
};
