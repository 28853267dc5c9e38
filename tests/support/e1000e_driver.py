"""A mock driver for the 82574L: it does by hand, on a machine that never runs, what a guest's driver does.

Register offsets, descriptor layouts and bits are those of the Intel 82574 GbE Controller Family Datasheet, 7 and 10.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import wirt
from support.virtio_driver import RAM, wait_until

ECAM = 0x3000_0000
BAR0, FLASH, MSIX = 0x4000_0000, 0x4010_0000, 0x4020_0000
IO, IO_WINDOW = 0x1000, 0x0300_0000

CTRL, STATUS, EEC, EERD, CTRL_EXT, MDIC, VET = 0x00, 0x08, 0x10, 0x14, 0x18, 0x20, 0x38
ICR, ITR, ICS, IMS, IMC, EIAC, IAM, IVAR, EITR = 0xC0, 0xC4, 0xC8, 0xD0, 0xD8, 0xDC, 0xE0, 0xE4, 0xE8
RCTL, TCTL, EXTCNF_CTRL, PSRCTL = 0x100, 0x400, 0xF00, 0x2170
RDBAL, RDBAH, RDLEN, RDH, RDT, RDTR, RADV = 0x2800, 0x2804, 0x2808, 0x2810, 0x2818, 0x2820, 0x282C
TDBAL, TDBAH, TDLEN, TDH, TDT, TIDV, TADV, TARC = 0x3800, 0x3804, 0x3808, 0x3810, 0x3818, 0x3820, 0x382C, 0x3840
RXCSUM, RFCTL, MTA, RAL, RAH, VFTA, MRQC, RETA, RSSRK = (
    0x5000, 0x5008, 0x5200, 0x5400, 0x5404, 0x5600, 0x5818, 0x5C00, 0x5C80,
)  # fmt: skip
MPC, GPRC, BPRC, MPRC, GPTC, GORCL, GORCH, GOTCL, GOTCH = (
    0x4010, 0x4074, 0x4078, 0x407C, 0x4080, 0x4088, 0x408C, 0x4090, 0x4094,
)  # fmt: skip
ROC, TPR, TPT, PTC64, TSCTC, TSCTFC, PRC64 = 0x40AC, 0x40D0, 0x40D4, 0x40D8, 0x40F8, 0x40FC, 0x405C
SWSM, EEWR, GPTC = 0x5B50, 0x102C, 0x4080

SLU, RST, VME, PHY_RST, MASTER_DISABLE = 1 << 6, 1 << 26, 1 << 30, 1 << 31, 1 << 2
LU, PHYRA, MASTER_ENABLE = 1 << 1, 1 << 10, 1 << 19
RX_EN, UPE, MPE, LPE, BAM, VFE, SECRC = 1 << 1, 1 << 3, 1 << 4, 1 << 5, 1 << 15, 1 << 18, 1 << 26
LOOPBACK, SPLIT = 1 << 6, 1 << 10
TX_EN, PSP = 1 << 1, 1 << 3
EXSTEN = 1 << 15
IAME, EIAME = 1 << 27, 1 << 24
FPD = 1 << 31

TXDW, TXQE, LSC, RXDMT0, RXO, RXT0, MDAC, ASSERTED = (1 << bit for bit in (0, 1, 2, 4, 6, 7, 9, 31))
RXQ0, RXQ1, TXQ0, TXQ1, OTHER = (1 << bit for bit in range(20, 25))

# Receive descriptors: status and, above it, errors.
DD, EOP, IXSM, VP, UDPCS, TCPCS, IPCS, PIF = (1 << bit for bit in range(8))
TCPE, IPE, RXE = 1 << 29, 1 << 30, 1 << 31

# Transmit descriptors: the third word.
T_EOP, T_IFCS, T_IC, T_TSE, T_RS, T_DEXT, T_VLE, T_IDE = (1 << bit for bit in (24, 25, 26, 26, 27, 29, 30, 31))
T_DATA = T_DEXT | 1 << 20
IXSM_OPTION, TXSM_OPTION = 1, 2

BUFFER_BYTES = 2048


def find_nic(vm: wirt.Machine, which: int = 0) -> int:
    """The slot of the machine's 82574L number `which`."""
    slots = [slot for slot in range(32) if vm.bus.read(ECAM + (slot << 15), 4) == 0x10D3_8086]
    return slots[which]


@dataclass
class Received:
    """A frame, and what the descriptor that ends it says."""

    data: bytes
    status: int
    tag: int = 0
    hash: int = 0
    type: int = 0
    header: int = 0


class E1000eDriver:
    """One NIC, driven by polling. Rings of queue 1 lie 0x100 further."""

    def __init__(self, vm: wirt.Machine, slot: int | None = None, base: int = RAM + 0x10_0000) -> None:
        self.vm = vm
        self.slot = find_nic(vm) if slot is None else slot
        self.bar = BAR0 + self.slot * 0x100_0000
        self.next = base
        self.split = False
        self.enable()

    # --- the function ---

    def config(self, offset: int, size: int = 4) -> int:
        return self.vm.bus.read(ECAM + (self.slot << 15) + offset, size)

    def set_config(self, offset: int, size: int, value: int) -> None:
        self.vm.bus.write(ECAM + (self.slot << 15) + offset, size, value)

    def enable(self) -> None:
        for index, address in enumerate((self.bar, self.bar + 0x10_0000, IO, self.bar + 0x20_0000)):
            self.set_config(0x10 + 4 * index, 4, address)
        self.set_config(4, 2, 0x0007)

    def capability(self, which: int) -> int:
        at = self.config(0x34, 1)
        while at:
            if self.config(at, 1) == which:
                return at
            at = self.config(at + 1, 1)
        raise AssertionError(f"no capability {which:#x}")

    def read(self, offset: int) -> int:
        return self.vm.bus.read(self.bar + offset, 4)

    def write(self, offset: int, value: int) -> None:
        self.vm.bus.write(self.bar + offset, 4, value & 0xFFFF_FFFF)

    def line(self) -> bool:
        """Whether INTx has reached the PLIC (sources 32 to 35, by slot)."""
        source = 32 + self.slot % 4
        return bool(self.vm.bus.read(0x0C00_1000 + source // 32 * 4, 4) >> source % 32 & 1)

    # --- memory ---

    def allocate(self, size: int, alignment: int = 128) -> int:
        address = -(-self.next // alignment) * alignment
        self.next = address + size
        return address

    def place(self, data: bytes) -> int:
        address = self.allocate(len(data), 16)
        self.vm.memory[address : address + len(data)] = data
        return address

    def memory(self, address: int, size: int) -> bytes:
        return bytes(self.vm.memory[address : address + size])

    # --- NVM and PHY ---

    def nvm(self, word: int) -> int:
        self.write(EERD, word << 2 | 1)
        value = self.read(EERD)
        assert value & 2
        return value >> 16

    def phy(self, register: int) -> int:
        self.write(MDIC, 2 << 26 | 1 << 21 | register << 16)
        value = self.read(MDIC)
        assert value >> 28 & 7 == 1, f"MDIC {value:#x}"
        return value & 0xFFFF

    def set_phy(self, register: int, value: int) -> None:
        self.write(MDIC, 1 << 26 | 1 << 21 | register << 16 | value)
        assert self.read(MDIC) >> 28 & 7 == 1

    # --- rings ---

    def start(self, receive: int = 32, transmit: int = 32, queue: int = 0, control: int = BAM | SECRC) -> None:
        """Rings of so many descriptors, and both directions on."""
        self.start_transmit(transmit, queue)
        self.start_receive(receive, queue, control)

    def start_transmit(self, count: int = 32, queue: int = 0) -> None:
        self.tx_count = count
        self.tx_ring = self.allocate(count * 16)
        self.vm.memory[self.tx_ring : self.tx_ring + count * 16] = bytes(count * 16)
        self.tx_queue = queue * 0x100
        for register, value in ((TDBAL, self.tx_ring), (TDBAH, 0), (TDLEN, count * 16), (TDH, 0), (TDT, 0)):
            self.write(register + self.tx_queue, value)
        self.tail = 0
        self.write(TCTL, TX_EN | PSP)

    def start_receive(self, count: int = 32, queue: int = 0, control: int = BAM | SECRC) -> None:
        self.split = bool(control & SPLIT)
        self.extended = bool(self.read(RFCTL) & EXSTEN)
        self.rx_queue = queue * 0x100
        self.rx_count = count
        self.rx_ring = self.allocate(count * 16)
        self.rx_buffers = [self.allocate(BUFFER_BYTES) for _ in range(count)]
        for register, value in ((RDBAL, self.rx_ring), (RDBAH, 0), (RDLEN, count * 16), (RDH, 0)):
            self.write(register + self.rx_queue, value)
        for index in range(count):
            self.supply(index)
        self.rx_next = 0
        self.write(RCTL, RX_EN | control)
        self.write(RDT + self.rx_queue, count - 2 if self.split else count - 1)

    def supply(self, index: int, address: int | None = None) -> None:
        if self.split:
            # Four buffers of the first descriptor's block, the second holds the other two addresses.
            block = self.rx_buffers[index & ~1]
            at = block + 1024 if index & 1 else block
            content = struct.pack("<QQ", at, at + 512)
        else:
            content = struct.pack("<QQ", self.rx_buffers[index] if address is None else address, 0)
        self.vm.memory[self.rx_ring + 16 * index : self.rx_ring + 16 * index + 16] = content

    def descriptor(self, index: int) -> tuple[int, int]:
        return struct.unpack("<QQ", self.memory(self.rx_ring + 16 * index, 16))  # type: ignore[return-value]

    def _status(self) -> int:
        return self.descriptor(self.rx_next)[1] >> (0 if self.extended else 32)

    def receive(self, timeout: float = 10) -> Received:
        """The next frame; its descriptors go back to the ring."""
        pieces = []
        while True:
            assert wait_until(lambda: bool(self._status() & DD), timeout), "no frame"
            low, high = self.descriptor(self.rx_next)
            if self.extended:
                status, length, tag = high & 0xFFFF_FFFF, high >> 32 & 0xFFFF, high >> 48
            else:
                status = (high >> 32 & 0xFF) | (high >> 40 & 0xFF) << 24
                length, tag = high & 0xFFFF, high >> 48
            pieces.append(self.memory(self.rx_buffers[self.rx_next], length))
            self.supply(self.rx_next)
            self.write(RDT + self.rx_queue, self.rx_next)
            self.rx_next = (self.rx_next + 1) % self.rx_count
            if status & EOP:
                return Received(b"".join(pieces), status, tag, low >> 32, low & 0xF)

    def quiet(self) -> bool:
        """Nothing has arrived, and nothing is on its way: a frame that is sent to ourselves comes after."""
        return not wait_until(lambda: bool(self._status() & DD), 0.03)

    # --- transmission ---

    def put(self, address: int, command: int, options: int = 0) -> None:
        """One descriptor, not yet given to the NIC."""
        at = self.tx_ring + 16 * self.tail
        self.vm.memory[at : at + 16] = struct.pack("<QII", address, command & 0xFFFF_FFFF, options & 0xFFFF_FFFF)
        self.tail = (self.tail + 1) % self.tx_count

    def ring_bell(self) -> None:
        self.write(TDT + self.tx_queue, self.tail)

    def finish(self) -> None:
        self.ring_bell()
        assert wait_until(lambda: self.read(TDH + self.tx_queue) == self.tail), "the ring stands still"

    def send(self, data: bytes, command: int = 0, tag: int = 0) -> None:
        """A frame in one legacy descriptor."""
        start = self.next
        self.put(self.place(data), T_EOP | T_IFCS | T_RS | command | len(data), tag << 16)
        self.finish()
        self.next = start

    def context(
        self, ip: tuple[int, int, int], transport: tuple[int, int, int], command: int = 0, payload: int = 0,
        header: int = 0, mss: int = 0,
    ) -> None:  # fmt: skip
        """A context descriptor: start, offset and end of both checksums, and how to segment."""
        first = struct.pack("<BBHBBH", *ip, *transport)
        second = struct.pack("<IBBH", T_DEXT | command | payload, 0, header, mss)
        at = self.tx_ring + 16 * self.tail
        self.vm.memory[at : at + 16] = first + second
        self.tail = (self.tail + 1) % self.tx_count

    def send_data(self, pieces: list[bytes], options: int = 0, command: int = 0, tag: int = 0) -> None:
        """A packet in data descriptors."""
        start = self.next
        for number, piece in enumerate(pieces):
            last = T_EOP | T_RS if number == len(pieces) - 1 else 0
            self.put(self.place(piece), T_DATA | T_IFCS | last | command | len(piece), options << 8 | tag << 16)
        self.finish()
        self.next = start
