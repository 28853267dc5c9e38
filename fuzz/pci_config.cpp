// Fuzzes PCI configuration space through the ECAM, and what it places: BARs of every kind that move while
// they are used, bridges and their windows, a hot-plug port, MSI, MSI-X tables behind a BAR, INTx, power
// states, function-level reset. The functions are of the bench's own, one for each mixture of capabilities;
// an `own` step is a device's side of it (an interrupt, a level, a DMA), and all above the host's at the
// hot-plug port.
#include <cstring>
#include <string>

#include "bench.h"
#include "devices/hardware/pci_bridge.h"
#include "devices/hardware/pcie_root.h"
#include "devices/hardware/pcie_root_port.h"

namespace wirt::fuzz {

namespace {

using namespace devices::hardware;

constexpr u64 ecam = 0x3000'0000, slot_bytes = 0x8000, bus_bytes = 0x10'0000;

// What of configuration space does something, in one function or another.
constexpr memory::Register at(u32 offset, u32 width) {
    return {offset, width, memory::RegisterAccess::rw, "", 0, ""};
}
constexpr memory::Register header[] = {
    at(0x04, 2),  at(0x06, 2), at(0x10, 4), at(0x14, 4), at(0x18, 4), at(0x1c, 4), at(0x20, 4),
    at(0x24, 4),  at(0x28, 4), at(0x2c, 4), at(0x30, 4), at(0x3e, 2), at(0x44, 2), at(0x52, 2),
    at(0x54, 8),  at(0x5c, 2), at(0x60, 4), at(0x72, 2), at(0x88, 2), at(0x8a, 2), at(0xa8, 2),
    at(0x108, 4), at(0x68, 2), at(0x6a, 2), at(0x92, 2),
};

// What stands behind a BAR: it sees to it that the bus keeps its word.
class Scratch final : public memory::MmioDevice {
  public:
    explicit Scratch(std::string name, u64 size) : name_(std::move(name)), size_(size) {}
    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override { return {}; }
    u64 read(u64 offset, unsigned size) override {
        FUZZ_REQUIRE(offset + size <= size_ && offset % size == 0);
        return 0;
    }
    void write(u64 offset, unsigned size, u64) override {
        FUZZ_REQUIRE(offset + size <= size_ && offset % size == 0);
    }
    void reset() override {}
    void visit_state(StateVisitor&) override {}

  private:
    const std::string name_;
    const u64 size_;
};

class Function final : public PciDevice {
  public:
    enum Parts : unsigned { with_msi = 1, with_msix = 2, with_wide = 4, with_io = 8 };

    Function(std::string name, unsigned parts)
        : PciDevice({.vendor = 0x1af4, .device = 0x1000, .class_code = 0xff'00'00}),
          memory_(name + " memory", 16),
          wide_(name + " wide", 64 * KiB),
          io_(name + " io", 4) {
        set_interrupt_pin(1 + parts % 4);
        add_bar(0, BarKind::memory32, 16, memory_);
        if (parts & with_wide) add_bar(1, BarKind::memory64_prefetchable, 64 * KiB, wide_);
        if (parts & with_io) add_bar(3, BarKind::io, 4, io_);
        add_power_management(0x40);
        if (parts & with_msi) add_msi(0x50, parts & with_wide ? 4 : 1, (parts & with_io) != 0);
        if (parts & with_msix) add_msix(0x70, 4, 5, name + " msix");
        add_pci_express(0x80);
        add_extended_capability(0x100, 0xb, 1, 16);
        define_write_one_clears(0x108, 4, 0xff);
    }

    void act(const Step& step) {
        u64 data = step.value;
        switch (step.width & 3) {
            case 0:
                set_intx(step.count & 1);
                break;
            case 1:
                FUZZ_REQUIRE(!notify(step.count % 8) || messages_enabled());
                break;
            case 2:
                (void)dma().write(step.value, &data, sizeof data);
                break;
            default:
                (void)dma().read(step.value, &data, sizeof data);
                break;
        }
    }

  private:
    Scratch memory_, wide_, io_;
};

class PciBench final : public Bench {
  public:
    PciBench() : root_(bus(), ram(), intx(), &messages()) {
        root_.set_remapper(&remapper());
        bus().map(ecam, PcieRoot::region_size, root_);
        for (unsigned slot = 1; slot <= on_root; ++slot) root_.attach(slot, make_function(slot));
        auto bridge = std::make_unique<PciBridge>(
            PciIdentity{.vendor = 0x1af4, .device = 0x1001, .class_code = 0x06'04'00});
        PciBridge& above = *bridge;
        root_.attach(bridge_slot, std::move(bridge));
        for (unsigned slot = on_root + 1; slot <= functions; ++slot)
            above.attach_behind(slot - on_root - 1, make_function(slot));
        auto port = std::make_unique<PcieRootPort>(1);
        port_ = port.get();
        root_.attach(port_slot, std::move(port));
        for (unsigned slot = 0; slot <= port_slot; ++slot)
            add_window(ecam + slot * slot_bytes, 0x1000, header);
        for (unsigned slot = 0; slot < functions - on_root; ++slot)
            add_window(ecam + bus_bytes + slot * slot_bytes, 0x1000, header);
        const PcieWindows windows;
        add_window(ecam, PcieRoot::region_size);
        add_window(windows.io.base, windows.io.size);
        add_window(windows.mmio32.base, 1 * MiB);
        add_window(windows.mmio64.base, 1 * MiB);
    }

  protected:
    void visit_state(StateVisitor& v) override { root_.visit_state(v); }
    void own_step(const Step& step) override {
        if (step.kind == Step::own) return functions_[step.window % functions]->act(step);
        plug(step);
    }

    // A reset takes every BAR off the bus.
    void check() override {
        root_.reset();
        for (unsigned slot = 1; slot <= port_slot; ++slot)
            FUZZ_REQUIRE(bus().read(ecam + slot * slot_bytes + 0x04, 2) == 0);
        const PcieWindows windows;
        for (const PcieWindow& window : {windows.io, windows.mmio32, windows.mmio64})
            FUZZ_REQUIRE(bus().read(window.base, 4) == 0xffff'ffff);
    }

  private:
    static constexpr unsigned on_root = 4, bridge_slot = 5, port_slot = 6, functions = 6;

    // What the host does at a hot-plug port, whether or not the guest has agreed.
    void plug(const Step& step) {
        std::unique_ptr<PciDevice> pulled;
        {
            std::lock_guard lock(root_.mutex());
            if (step.count & 1) {
                port_->press_attention_button();
            } else if (port_->device_behind(0) == nullptr) {
                port_->attach_behind(0, std::make_unique<Function>("plugged", step.window % 16));
            } else {
                pulled = port_->detach_behind(0);
            }
        }
        if (pulled != nullptr) root_.unmap_bars(*pulled);
    }

    std::unique_ptr<Function> make_function(unsigned number) {
        auto function = std::make_unique<Function>("f" + std::to_string(number), number * 7 % 16);
        functions_[number - 1] = function.get();
        return function;
    }

    PcieRoot root_;
    std::array<Function*, functions> functions_{};
    PcieRootPort* port_ = nullptr;
};

}  // namespace

std::unique_ptr<Bench> make_bench() {
    return std::make_unique<PciBench>();
}

}  // namespace wirt::fuzz
