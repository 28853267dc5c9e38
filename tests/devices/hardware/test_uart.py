"""The NS16550A against its data sheet (PC16550D, section 8), register by register."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wirt

BASE = 0x1000_0000
RBR = THR = DLL = 0
IER = DLM = 1
IIR = FCR = 2
LCR, MCR, LSR, MSR, SCR = 3, 4, 5, 6, 7

DATA, TIME_OUT, EMPTY, LINE_STATUS, MODEM, NONE = 0x4, 0xC, 0x2, 0x6, 0x0, 0x1
FIFOS = 0xC0


class Uart:
    """Byte accesses to the registers of a machine that never runs."""

    def __init__(self, vm: wirt.Machine) -> None:
        self.vm = vm

    def __getitem__(self, register: int) -> int:
        return self.vm.bus.read(BASE + register, 1)

    def __setitem__(self, register: int, value: int) -> None:
        self.vm.bus.write(BASE + register, 1, value)

    def send(self, data: bytes) -> None:
        self.vm.serial.send(data)

    def output(self) -> bytes:
        """What the guest has sent since the last call."""
        return self.vm.serial.read()

    def interrupt(self) -> bool:
        """Whether the interrupt line is high, as the PLIC's gateway sees it."""
        plic = 0xC00_0000
        enable = plic + 0x2000
        self.vm.bus.write(plic + 4 * 10, 4, 1)
        self.vm.bus.write(enable, 4, 1 << 10)
        # Serve whatever was latched before; what is pending then is the line itself.
        self.vm.bus.read(plic + 0x20_0004, 4)
        self.vm.bus.write(plic + 0x20_0004, 4, 10)
        return bool(self.vm.bus.read(plic + 0x1000, 4) >> 10 & 1)


@pytest.fixture
def uart():
    with wirt.Machine(memory="16M") as vm:
        yield Uart(vm)


def receive(uart: Uart) -> bytes:
    """What the driver's receive loop reads."""
    data = bytearray()
    while uart[LSR] & 0x01:
        data.append(uart[RBR])
    return bytes(data)


def test_reset_values(uart: Uart):
    # Table I; the modem inputs are those of a terminal that is there: CTS, DSR, DCD.
    assert [uart[register] for register in range(8)] == [0, 0, NONE, 0, 0, 0x60, 0xB0, 0]


def test_divisor_latch_hides_data_and_ier(uart: Uart):
    uart[IER] = 0x05
    uart[LCR] = 0x83
    uart[DLL], uart[DLM] = 0x0C, 0x01
    assert (uart[DLL], uart[DLM]) == (0x0C, 0x01)
    uart[LCR] = 0x03
    assert uart[IER] == 0x05
    assert uart.output() == b""


def test_unimplemented_bits_read_as_zero(uart: Uart):
    uart[IER] = uart[MCR] = uart[SCR] = 0xFF
    assert (uart[IER], uart[MCR], uart[SCR]) == (0x0F, 0x1F, 0xFF)


def test_output_reaches_the_console(uart: Uart):
    for byte in b"wirt\n":
        assert uart[LSR] & 0x60 == 0x60
        uart[THR] = byte
    assert uart.output() == b"wirt\n"


def test_input_is_not_lost_when_it_exceeds_the_fifo(uart: Uart):
    data = bytes(range(256)) * 4
    uart.send(data)
    assert receive(uart) == data
    uart[FCR] = 0x01
    uart.send(data)
    assert receive(uart) == data


@pytest.mark.parametrize(("bits", "level"), [(0x00, 1), (0x40, 4), (0x80, 8), (0xC0, 14)])
def test_trigger_level_and_time_out(uart: Uart, bits: int, level: int):
    uart[FCR] = 0x01 | bits
    uart[IER] = 0x01
    uart.send(b"x" * (level - 1))
    # The line is idle at once, so that fewer bytes than the trigger level are a character time-out (8.10).
    assert uart[IIR] == FIFOS | (TIME_OUT if level > 1 else NONE)
    uart.send(b"x")
    assert uart[IIR] == FIFOS | DATA
    assert uart.interrupt()
    assert receive(uart) == b"x" * level
    assert uart[IIR] == FIFOS | NONE
    assert not uart.interrupt()


def test_transmitter_interrupt_is_acknowledged_by_iir(uart: Uart):
    assert not uart.interrupt()
    uart[IER] = 0x02
    assert uart.interrupt()
    assert uart[IIR] == EMPTY
    assert uart[IIR] == NONE
    assert not uart.interrupt()
    uart[THR] = ord("a")
    assert uart[IIR] == EMPTY
    # What Linux probes for (UART_BUG_THRE): enabling the interrupt again raises it again.
    uart[IER] = 0
    uart[IER] = 0x02
    assert uart[IIR] == EMPTY


def test_interrupt_priorities(uart: Uart):
    uart[FCR] = 0x01
    uart[MCR] = 0x10  # loopback; the modem inputs fall, which is a change
    for byte in range(17):
        uart[THR] = byte
    uart[IER] = 0x0F
    assert uart[IIR] == FIFOS | LINE_STATUS  # overrun
    uart[LSR]
    assert uart[IIR] == FIFOS | DATA
    assert receive(uart) == bytes(range(16))
    assert uart[IIR] == FIFOS | EMPTY
    assert uart[IIR] == FIFOS | MODEM
    uart[MSR]
    assert uart[IIR] == FIFOS | NONE


def test_loopback_stays_inside(uart: Uart):
    uart[MCR] = 0x10
    uart.send(b"from outside")
    uart[THR] = ord("a")
    assert receive(uart) == b"a"
    assert uart.output() == b""
    uart[MCR] = 0
    assert receive(uart) == b"from outside"


def test_loopback_joins_the_modem_lines(uart: Uart):
    # DTR -> DSR, RTS -> CTS, OUT1 -> RI, OUT2 -> DCD (8.7).
    for control, status in ((0x01, 0x20), (0x02, 0x10), (0x04, 0x40), (0x08, 0x80)):
        uart[MCR] = 0x10 | control
        assert uart[MSR] & 0xF0 == status
    uart[MCR] = 0x10
    assert uart[MSR] == 0x08  # DCD fell
    assert uart[MSR] == 0x00
    uart[MCR] = 0x14
    assert uart[MSR] & 0x0F == 0  # RI counts when it falls only
    uart[MCR] = 0x10
    assert uart[MSR] == 0x04


def test_overrun_without_fifo_overwrites(uart: Uart):
    uart[MCR] = 0x10
    uart[THR], uart[THR] = ord("a"), ord("b")
    assert uart[LSR] == 0x63
    assert uart[LSR] == 0x61
    assert receive(uart) == b"b"


def test_break_in_loopback(uart: Uart):
    uart[FCR] = 0x01
    uart[MCR] = 0x10
    uart[THR] = ord("a")
    uart[LCR] = 0x43
    # The break is behind the "a": an error in the FIFO, but not at its top.
    assert uart[LSR] == 0xE1
    assert uart[RBR] == ord("a")
    assert uart[LSR] == 0xF1
    assert uart[LSR] == 0x61
    assert receive(uart) == b"\0"


def test_fifo_control(uart: Uart):
    uart[MCR] = 0x10
    uart[FCR] = 0xC0  # without the enable bit, nothing is programmed (8.4)
    assert uart[IIR] == NONE
    uart[FCR] = 0x01
    assert uart[IIR] == FIFOS | NONE
    uart[THR] = ord("a")
    uart[FCR] = 0x03  # reset the receiver's FIFO
    assert uart[LSR] == 0x60
    uart[THR] = ord("b")
    uart[FCR] = 0x00  # leaving FIFO mode clears as well
    assert uart[LSR] == 0x60


@pytest.mark.parametrize("size", [2, 4, 8])
def test_wider_accesses_have_no_effect(uart: Uart, size: int):
    uart.send(b"kept")
    uart.vm.bus.write(BASE, size, 0xFFFF)
    assert uart.vm.bus.read(BASE, size) == 0
    assert uart.output() == b""
    assert receive(uart) == b"kept"


def test_the_rest_of_the_region_is_empty(uart: Uart):
    for offset in (0x08, 0x7F, 0xFF):
        uart[offset] = 0xFF
        assert uart[offset] == 0


@settings(max_examples=50, deadline=None)
@given(
    operations=st.lists(
        st.tuples(st.sampled_from(["read", "write", "send"]), st.integers(0, 7), st.integers(0, 255)), max_size=80
    )
)
def test_any_guest_leaves_a_working_uart(operations: list[tuple[str, int, int]]):
    with wirt.Machine(memory="16M") as vm:
        uart = Uart(vm)
        for what, register, value in operations:
            if what == "read":
                uart[register]
            elif what == "write":
                uart[register] = value
            else:
                uart.send(bytes([value]) * register)
            if uart[LCR] & 0x80 == 0:
                assert uart[LSR] & 0x60 == 0x60
                assert uart[IER] & 0xF0 == 0
        uart[LCR], uart[IER], uart[MCR] = 0x03, 0, 0
        uart[FCR] = 0x01
        receive(uart)
        uart[FCR] = 0x03
        uart[LSR]
        uart[MSR]
        uart.output()
        uart[IER] = 0x0F
        assert uart[IIR] == FIFOS | EMPTY
        assert uart[IIR] == FIFOS | NONE
        uart.send(b"hello")
        assert receive(uart) == b"hello"
        uart[THR] = 0
        assert uart.output() == b"\0"
