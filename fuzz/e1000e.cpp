// Fuzzes the e1000e NIC: its registers, transmit and receive descriptors of every kind, and frames from the
// network. The function is already placed and may master the bus. Windows: the registers, the I/O window, the
// MSI-X table, configuration space. An `own` step sends a frame to the NIC (Peer::send), the next lets time
// pass, and the one after says what the peer can take (Peer::set_abilities).
#include "devices/hardware/e1000e/e1000e.h"
#include "base/clock.h"
#include "base/deadline.h"
#include "bench.h"
#include "devices/hardware/pcie_root.h"
#include "peer.h"

namespace wirt::fuzz {

namespace {

using namespace devices::hardware;

constexpr u64 ecam = 0x3000'0000, config = ecam + 0x8000, bar0 = 0x4000'0000, bar1 = 0x4002'0000,
              bar3 = 0x4010'0000, io = 0x0300'1000;

class E1000eBench final : public Bench {
  public:
    E1000eBench() : root_(bus(), ram(), intx(), &messages()) {
        root_.set_remapper(&remapper());
        bus().map(ecam, PcieRoot::region_size, root_);
        auto nic = std::make_unique<E1000e>("e1000e0", peer_.nic_port(),
                                            network::MacAddress{0x52, 0x54, 0, 0x12, 0x34, 0x56}, clock_,
                                            deadlines_, executor());
        add_window(bar0, 0x2'0000, nic->registers());
        add_window(io, 32);
        add_window(bar3, 0x1000);
        add_window(config, 0x100);
        root_.attach(1, std::move(nic));
        place();
    }

  protected:
    void visit_state(StateVisitor& v) override { root_.visit_state(v); }

    void own_step(const Step& step) override {
        switch ((step.kind - Step::own) % 3) {
            case 0:
                peer_.send(ram(), step);
                break;
            case 1:
                clock_.advance_to_ns(clock_.now_ns() + step.value % 1'000'000'000);
                deadlines_.poll(clock_.now_ns());
                break;
            default:
                peer_.set_abilities(step.count);
                break;
        }
    }

    // A reset heals: with its BARs placed anew the NIC is where it was at power-on.
    void check() override {
        root_.reset();
        place();
        FUZZ_REQUIRE(bus().read(bar0 + 0x3818 /* TDT */, 4) == 0);
        FUZZ_REQUIRE(bus().read(bar0 + 0x00c0 /* ICR */, 4).has_value());
    }

  private:
    void place() {
        bus().write(config + 0x10, 4, bar0);
        bus().write(config + 0x14, 4, bar1);
        bus().write(config + 0x18, 4, 0x1000);
        bus().write(config + 0x1c, 4, bar3);
        bus().write(config + 0x04, 2, 0x0007);
    }

    Clock clock_{Clock::Source::instructions};
    Deadlines deadlines_;
    Peer peer_;
    PcieRoot root_;
};

}  // namespace

std::unique_ptr<Bench> make_bench() {
    return std::make_unique<E1000eBench>();
}

}  // namespace wirt::fuzz
