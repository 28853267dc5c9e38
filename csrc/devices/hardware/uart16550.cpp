#include "devices/hardware/uart16550.h"

#include <algorithm>
#include <iterator>

#include "base/bits.h"
#include "base/error.h"

namespace wirt::devices::hardware {

namespace {

using memory::Register;
using memory::RegisterAccess;

enum Offset : u64 {
    RBR_THR_DLL = 0,
    IER_DLM = 1,
    IIR_FCR = 2,
    LCR = 3,
    MCR = 4,
    LSR = 5,
    MSR = 6,
    SCR = 7,
};

constexpr Register register_table[] = {
    {RBR_THR_DLL, 1, RegisterAccess::rw, "RBR/THR", 0x00, "PC16550D 8.0 table II; DLL when LCR.DLAB is set"},
    {IER_DLM, 1, RegisterAccess::rw, "IER", 0x00, "PC16550D 8.6; DLM when LCR.DLAB is set"},
    {IIR_FCR, 1, RegisterAccess::rw, "IIR/FCR", 0x01, "PC16550D 8.5 (read), 8.4 (write)"},
    {LCR, 1, RegisterAccess::rw, "LCR", 0x00, "PC16550D 8.1"},
    {MCR, 1, RegisterAccess::rw, "MCR", 0x00, "PC16550D 8.7"},
    {LSR, 1, RegisterAccess::ro, "LSR", 0x60, "PC16550D 8.3"},
    {MSR, 1, RegisterAccess::ro, "MSR", 0xb0, "PC16550D 8.8"},
    {SCR, 1, RegisterAccess::rw, "SCR", 0x00, "PC16550D 8.9"},
};

// IER, 8.6
constexpr u8 IER_ERBFI = 0x01, IER_ETBEI = 0x02, IER_ELSI = 0x04, IER_EDSSI = 0x08, IER_mask = 0x0f;
// IIR, table IV
constexpr u8 IIR_none = 0x01, IIR_line_status = 0x06, IIR_data_available = 0x04, IIR_time_out = 0x0c,
             IIR_transmitter_empty = 0x02, IIR_modem_status = 0x00, IIR_fifos_enabled = 0xc0;
// FCR, 8.4
constexpr u8 FCR_enable = 0x01, FCR_reset_receiver = 0x02, FCR_stored = 0xc9;
// LCR, 8.1
constexpr u8 LCR_break = 0x40, LCR_DLAB = 0x80;
// MCR, 8.7
constexpr u8 MCR_DTR = 0x01, MCR_RTS = 0x02, MCR_OUT1 = 0x04, MCR_OUT2 = 0x08, MCR_loop = 0x10,
             MCR_mask = 0x1f;
// LSR, 8.3
constexpr u8 LSR_DR = 0x01, LSR_OE = 0x02, LSR_BI = 0x10, LSR_THRE = 0x20, LSR_TEMT = 0x40,
             LSR_fifo_error = 0x80;
// MSR, 8.8
constexpr u8 MSR_DCTS = 0x01, MSR_DDSR = 0x02, MSR_TERI = 0x04, MSR_DDCD = 0x08, MSR_deltas = 0x0f;
constexpr u8 MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80;

}  // namespace

Uart16550::Uart16550(std::string name, ConsolePort& port, InterruptLine line)
    : name_(std::move(name)), port_(port), line_(line) {
    reset();
    port_.on_input([this] {
        std::lock_guard lock(mutex());
        refill();
        update_line();
    });
}

Uart16550::~Uart16550() {
    port_.on_input(nullptr);
}

std::span<const Register> Uart16550::registers() const {
    return register_table;
}

bool Uart16550::dlab() const {
    return (lcr_ & LCR_DLAB) != 0;
}
bool Uart16550::loopback() const {
    return (mcr_ & MCR_loop) != 0;
}
bool Uart16550::fifo_enabled() const {
    return (fcr_ & FCR_enable) != 0;
}

unsigned Uart16550::trigger_level() const {
    constexpr u8 levels[] = {1, 4, 8, 14};
    return fifo_enabled() ? levels[fcr_ >> 6] : 1;
}

void Uart16550::reset() {
    // Table I. DLL, DLM and SCR are not affected by the chip's reset pin; here they start from zero.
    ier_ = fcr_ = lcr_ = mcr_ = scr_ = dll_ = dlm_ = 0;
    overrun_ = false;
    transmit_interrupt_ = false;
    msr_ = modem_inputs();
    rx_bytes_.fill(0);
    rx_errors_.fill(0);
    clear_receiver();
    update_line();
}

u64 Uart16550::read(u64 offset, unsigned size) {
    if (size != 1) return 0;
    u8 value = 0;
    switch (offset) {
        case RBR_THR_DLL:
            value = dlab() ? dll_ : read_rbr();
            break;
        case IER_DLM:
            value = dlab() ? dlm_ : ier_;
            break;
        case IIR_FCR:
            value = read_iir();
            break;
        case LCR:
            value = lcr_;
            break;
        case MCR:
            value = mcr_;
            break;
        case LSR:
            value = read_lsr();
            break;
        case MSR:
            value = read_msr();
            break;
        case SCR:
            value = scr_;
            break;
    }
    update_line();
    return value;
}

void Uart16550::write(u64 offset, unsigned size, u64 value) {
    if (size != 1) return;
    const u8 byte = static_cast<u8>(value);
    switch (offset) {
        case RBR_THR_DLL:
            dlab() ? void(dll_ = byte) : write_thr(byte);
            break;
        case IER_DLM:
            dlab() ? void(dlm_ = byte) : write_ier(byte);
            break;
        case IIR_FCR:
            write_fcr(byte);
            break;
        case LCR:
            write_lcr(byte);
            break;
        case MCR:
            write_mcr(byte);
            break;
        case SCR:
            scr_ = byte;
            break;
    }
    update_line();
}

u8 Uart16550::read_rbr() {
    if (rx_count_ == 0) return 0;
    const u8 byte = rx_bytes_[rx_head_];
    rx_head_ = (rx_head_ + 1) % fifo_depth;
    --rx_count_;
    if (!loopback()) count_transfer();
    // In batches: the port is asked once for each FIFO's worth of bytes.
    if (rx_count_ == 0) refill();
    return byte;
}

u8 Uart16550::read_iir() {
    const u8 source = pending_interrupt();
    // Table IV: reading IIR acknowledges the transmitter's interrupt when that is what IIR shows.
    if (source == IIR_transmitter_empty) transmit_interrupt_ = false;
    return source | (fifo_enabled() ? IIR_fifos_enabled : 0);
}

u8 Uart16550::read_lsr() {
    const u8 value = line_status();
    // 8.3: the error bits are reset whenever the CPU reads LSR.
    overrun_ = false;
    if (rx_count_ != 0) rx_errors_[rx_head_] = 0;
    return value;
}

u8 Uart16550::read_msr() {
    const u8 value = msr_;
    msr_ &= static_cast<u8>(~MSR_deltas);
    return value;
}

void Uart16550::write_thr(u8 value) {
    if (loopback()) {
        push(value, 0);
    } else {
        port_.put({&value, 1});
        count_transfer();
    }
    // The byte has left at once, so THR is empty again.
    transmit_interrupt_ = true;
}

void Uart16550::write_ier(u8 value) {
    const u8 before = ier_;
    ier_ = value & IER_mask;
    // THR is always empty, so enabling its interrupt raises it.
    if ((ier_ & ~before & IER_ETBEI) != 0) transmit_interrupt_ = true;
}

void Uart16550::write_fcr(u8 value) {
    // 8.4: changing FCR0 clears the FIFOs; FCR0 must be 1 for the other bits to be programmed.
    if (((value ^ fcr_) & FCR_enable) != 0 || (value & FCR_reset_receiver) != 0) clear_receiver();
    fcr_ = (value & FCR_enable) != 0 ? value & FCR_stored : 0;
    refill();
}

void Uart16550::write_lcr(u8 value) {
    const u8 before = lcr_;
    lcr_ = value;
    // 8.7: in loopback the receiver sees the break that the transmitter sends; 8.3: as one zero character.
    if (loopback() && (lcr_ & ~before & LCR_break) != 0) push(0, LSR_BI);
}

void Uart16550::write_mcr(u8 value) {
    mcr_ = value & MCR_mask;
    modem_inputs_changed();
    refill();
}

u8 Uart16550::line_status() const {
    u8 value = LSR_THRE | LSR_TEMT;
    if (overrun_) value |= LSR_OE;
    if (rx_count_ == 0) return value;
    value |= LSR_DR | rx_errors_[rx_head_];
    if (fifo_enabled()) {
        for (unsigned i = 0; i < rx_count_; ++i) {
            if (rx_errors_[(rx_head_ + i) % fifo_depth] != 0) value |= LSR_fifo_error;
        }
    }
    return value;
}

// Table IV, highest priority first.
u8 Uart16550::pending_interrupt() const {
    const bool error = overrun_ || (rx_count_ != 0 && rx_errors_[rx_head_] != 0);
    if ((ier_ & IER_ELSI) != 0 && error) return IIR_line_status;
    if ((ier_ & IER_ERBFI) != 0 && rx_count_ != 0) {
        return rx_count_ >= trigger_level() ? IIR_data_available : IIR_time_out;
    }
    if ((ier_ & IER_ETBEI) != 0 && transmit_interrupt_) return IIR_transmitter_empty;
    if ((ier_ & IER_EDSSI) != 0 && (msr_ & MSR_deltas) != 0) return IIR_modem_status;
    return IIR_none;
}

u8 Uart16550::modem_inputs() const {
    // A terminal that is always there and always ready.
    if (!loopback()) return MSR_CTS | MSR_DSR | MSR_DCD;
    // 8.7: the four modem control outputs are connected to the four inputs.
    u8 inputs = 0;
    if ((mcr_ & MCR_DTR) != 0) inputs |= MSR_DSR;
    if ((mcr_ & MCR_RTS) != 0) inputs |= MSR_CTS;
    if ((mcr_ & MCR_OUT1) != 0) inputs |= MSR_RI;
    if ((mcr_ & MCR_OUT2) != 0) inputs |= MSR_DCD;
    return inputs;
}

void Uart16550::modem_inputs_changed() {
    const u8 inputs = modem_inputs();
    const u8 changed = inputs ^ (msr_ & ~MSR_deltas);
    u8 deltas = msr_ & MSR_deltas;
    if ((changed & MSR_CTS) != 0) deltas |= MSR_DCTS;
    if ((changed & MSR_DSR) != 0) deltas |= MSR_DDSR;
    if ((changed & MSR_RI) != 0 && (inputs & MSR_RI) == 0) deltas |= MSR_TERI;
    if ((changed & MSR_DCD) != 0) deltas |= MSR_DDCD;
    msr_ = inputs | deltas;
}

void Uart16550::push(u8 byte, u8 errors) {
    if (rx_count_ == capacity()) {
        // 8.3, OE: a full FIFO keeps its bytes and loses the new one; the holding register is overwritten.
        overrun_ = true;
        if (fifo_enabled()) return;
        rx_count_ = 0;
    }
    const unsigned tail = (rx_head_ + rx_count_) % fifo_depth;
    rx_bytes_[tail] = byte;
    rx_errors_[tail] = errors;
    ++rx_count_;
}

void Uart16550::clear_receiver() {
    rx_head_ = rx_count_ = 0;
}

// 8.7: in loopback the receiver is cut off from the line.
void Uart16550::refill() {
    if (loopback() || rx_count_ >= capacity()) return;
    std::array<u8, fifo_depth> bytes;
    const std::size_t count = port_.take(std::span(bytes).first(capacity() - rx_count_));
    for (std::size_t i = 0; i < count; ++i) push(bytes[i], 0);
}

// Each byte is a transfer of its own, and the monitor moves each from or to the port.
void Uart16550::count_transfer() {
    DeviceCounters::add(counters_.operations);
    DeviceCounters::add(counters_.bytes_moved);
    DeviceCounters::add(counters_.bytes_copied);
}

void Uart16550::update_line() {
    const bool level = pending_interrupt() != IIR_none;
    if (level == line_level_) return;
    if (level) DeviceCounters::add(counters_.interrupts_raised);
    line_level_ = level;
    line_.set(level);
}

void Uart16550::visit_state(StateVisitor& v) {
    v.section("uart16550/" + name_, 1);
    v.field("IER", ier_);
    v.field("FCR", fcr_);
    v.field("LCR", lcr_);
    v.field("MCR", mcr_);
    v.field("MSR", msr_);
    v.field("SCR", scr_);
    v.field("DLL", dll_);
    v.field("DLM", dlm_);
    v.field("overrun", overrun_);
    v.field("transmit_interrupt", transmit_interrupt_);
    v.field("rx_bytes", rx_bytes_);
    v.field("rx_errors", rx_errors_);
    v.field("rx_head", rx_head_);
    v.field("rx_count", rx_count_);
    if (!v.loading()) return;
    ier_ &= IER_mask;
    fcr_ &= FCR_stored;
    mcr_ &= MCR_mask;
    if (rx_head_ >= fifo_depth || rx_count_ > capacity()) {
        clear_receiver();
        throw StateError(name_ + ": the saved state holds an impossible receiver FIFO");
    }
    line_level_ = pending_interrupt() != IIR_none;
    line_.set(line_level_);
}

}  // namespace wirt::devices::hardware
