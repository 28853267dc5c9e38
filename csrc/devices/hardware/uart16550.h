// NS16550A universal asynchronous receiver/transmitter with FIFOs.
//
// Implements: National Semiconductor PC16550D data sheet (June 1995), section 8 "Registers", all twelve of
// them, the prioritised interrupts of table IV, the FIFO modes of 8.10 and 8.11 and the loopback of 8.7.
// The line is infinitely fast: a byte written to THR has left at once, and the character time-out counts as
// elapsed as soon as the sender has nothing more. The baud rate is stored and otherwise ignored.
//
// Untrusted input: every register write, its offset and its size.
#pragma once

#include <array>
#include <string>

#include "base/counters.h"
#include "base/interrupt.h"
#include "devices/console_port.h"
#include "memory/mmio.h"

namespace wirt::devices::hardware {

class Uart16550 final : public memory::MmioDevice, public CountedDevice {
  public:
    static constexpr u64 region_size = 0x100;
    static constexpr u32 clock_hz = 3'686'400;

    // `port` must outlive the device; its input listener is this device from here on.
    Uart16550(std::string name, ConsolePort& port, InterruptLine line);
    ~Uart16550() override;

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override;
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void reset() override;
    void visit_state(StateVisitor& v) override;
    const DeviceCounters& counters() const override { return counters_; }

  private:
    static constexpr unsigned fifo_depth = 16;

    bool dlab() const;
    bool loopback() const;
    bool fifo_enabled() const;
    unsigned capacity() const { return fifo_enabled() ? fifo_depth : 1; }
    unsigned trigger_level() const;

    u8 read_rbr();
    u8 read_iir();
    u8 read_lsr();
    u8 read_msr();
    void write_thr(u8 value);
    void write_ier(u8 value);
    void write_fcr(u8 value);
    void write_lcr(u8 value);
    void write_mcr(u8 value);

    u8 line_status() const;
    u8 pending_interrupt() const;
    u8 modem_inputs() const;
    void modem_inputs_changed();
    void push(u8 byte, u8 errors);
    void clear_receiver();
    void refill();
    void count_transfer();
    void update_line();

    const std::string name_;
    ConsolePort& port_;
    const InterruptLine line_;
    DeviceCounters counters_;
    bool line_level_ = false;

    u8 ier_, fcr_, lcr_, mcr_, msr_, scr_, dll_, dlm_;
    bool overrun_;             // LSR OE
    bool transmit_interrupt_;  // THRE condition not yet acknowledged
    // Receiver FIFO; used as one holding register when FIFOs are off. Each byte carries its LSR error bits.
    std::array<u8, fifo_depth> rx_bytes_;
    std::array<u8, fifo_depth> rx_errors_;
    u8 rx_head_, rx_count_;
};

}  // namespace wirt::devices::hardware
