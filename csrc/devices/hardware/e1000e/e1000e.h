// A gigabit Ethernet controller on PCIe, as an unmodified `e1000e` driver expects it: the Intel 82574L.
//
// Implements: Intel 82574 GbE Controller Family Datasheet, 10.1 and 10.2 (the PCI function, the registers
// behind its memory and I/O BARs), 4 (resets), and the parts in the files beside this one: transmit, receive,
// filters, interrupts, PHY, NVM. Not implemented: pause frames, wake-up, time stamps of packets,
// manageability; their registers are there and hold what is written.
//
// Untrusted input: every register write, descriptors, frames from the network.
//
// Threads: a tail write posts a task, as does a frame that the port gives. A task holds the device's mutex
// while it moves a bounded number of frames, and hands what is to be sent to the port without it.
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/counters.h"
#include "base/deadline.h"
#include "base/deferred_work.h"
#include "base/description.h"
#include "devices/hardware/e1000e/interrupts.h"
#include "devices/hardware/e1000e/nvm.h"
#include "devices/hardware/e1000e/phy.h"
#include "devices/hardware/e1000e/receive.h"
#include "devices/hardware/e1000e/transmit.h"
#include "devices/hardware/pci_device.h"
#include "network/frame_queue.h"

namespace wirt::devices::hardware {

class E1000e final : public PciDevice,
                     public memory::MmioDevice,
                     public CountedDevice,
                     public DescribedDevice,
                     public DeadlineSource,
                     private e1000e::InterruptPins {
  public:
    // `address` is a unicast address (ConfigError). `port` may be null: a NIC without a cable. The executor
    // outlives the device.
    E1000e(std::string name, std::shared_ptr<network::Port> port, const network::MacAddress& address,
           const Clock& clock, Deadlines& deadlines, Executor& executor);
    ~E1000e() override;

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override { return e1000e::RegisterFile::table(); }
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    // Power-on; CTRL.RST leaves the PHY as it is.
    void reset() override;
    void visit_state(StateVisitor& v) override;
    const DeviceCounters& counters() const override { return counters_; }
    void describe(DeviceDescription& out) override;
    // The machine drains the executor in between.
    void pause_function() override { work_.pause(); }
    void resume_function() override { work_.resume(); }

  private:
    class IoWindow;
    class FlashWindow;

    void on_deadline() override;

    // --- InterruptPins ---
    bool vectors_enabled() override;
    void set_line(bool level) override { set_intx(level); }
    void send_message(unsigned vector) override { notify(vector); }
    void set_timer(u64 due_ns) override { set_deadline(due_ns); }

    u32 read_register(u32 offset);
    void write_register(u32 offset, u32 value);
    void write_control(u32 value);
    void write_mdic(u32 value);
    u32 status() const;
    u64 system_time() const;
    void software_reset();
    void update_link(bool renegotiated);
    void update_capabilities();

    void run(unsigned kind);
    void transmit(unsigned queue);
    void receive();
    void look_at_cable();
    // Called by the port, on any thread.
    void accept(network::FramePtr frame);
    void collect_missed();

    const std::string name_;
    const std::shared_ptr<network::Port> port_;
    const Clock& clock_;
    DeviceCounters counters_;
    std::unique_ptr<IoWindow> io_window_;
    std::unique_ptr<FlashWindow> flash_window_;

    // Guarded by the device's mutex.
    e1000e::RegisterFile registers_;
    e1000e::Nvm nvm_;
    e1000e::Phy phy_;
    e1000e::Interrupts interrupts_;
    e1000e::Transmitter transmitter_;
    e1000e::Receiver receiver_;
    bool link_up_ = false;           // STATUS.LU as it was last told
    bool frame_has_waited_ = false;  // the first of waiting_ found too few descriptors before
    u64 time_origin_ = 0;            // of SYSTIM, in ns of the machine's clock
    u32 system_time_high_ = 0;       // latched by a read of SYSTIML

    network::FrameQueue waiting_;
    std::atomic<u32> missed_{0};  // frames that found waiting_ full
    DeferredWork work_;
};

}  // namespace wirt::devices::hardware
