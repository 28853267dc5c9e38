// Fuzzes the AHCI controller: its registers, the command lists, command tables and FISes in guest memory, and
// the disk behind it. Port 0 and 1 have a disk each. The function is already placed and may master the bus.
#include "devices/hardware/ahci.h"
#include "bench.h"
#include "devices/hardware/pcie_root.h"

namespace wirt::fuzz {

namespace {

using namespace devices::hardware;

constexpr u64 ecam = 0x3000'0000, abar = 0x4000'0000, slot_bytes = 0x8000;

class AhciBench final : public Bench {
  public:
    AhciBench() : root_(bus(), ram(), intx(), &messages()) {
        root_.set_remapper(&remapper());
        bus().map(ecam, PcieRoot::region_size, root_);
        auto controller = std::make_unique<Ahci>(
            "ahci0", std::vector<Ahci::Disk>{{disk(128 * KiB), "one"}, {disk(64 * KiB), "two"}},
            [this](const std::string&) -> Executor& { return executor(); });
        add_window(abar, 0x1000, controller->registers());
        add_window(ecam + slot_bytes, 0x100);
        root_.attach(1, std::move(controller));
        bus().write(ecam + slot_bytes + 0x24, 4, abar);
        bus().write(ecam + slot_bytes + 0x04, 2, 0x0006);  // memory space, bus master
    }

  protected:
    void visit_state(StateVisitor& v) override { root_.visit_state(v); }

    // A reset heals: with its addresses programmed anew the controller answers as at power-on.
    void check() override {
        root_.reset();
        bus().write(ecam + slot_bytes + 0x24, 4, abar);
        bus().write(ecam + slot_bytes + 0x04, 2, 0x0006);
        FUZZ_REQUIRE(bus().read(abar + 0x08 /* IS */, 4) == 0);
        FUZZ_REQUIRE(bus().read(abar + 0x120 /* P0TFD */, 4) == 0x150 || !executor().idle());
    }

  private:
    PcieRoot root_;
};

}  // namespace

std::unique_ptr<Bench> make_bench() {
    return std::make_unique<AhciBench>();
}

}  // namespace wirt::fuzz
