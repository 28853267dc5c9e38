"""A mock driver for the AHCI controller: it does by hand, on a machine that never runs, what a guest's driver does.

Register offsets and bits are those of Serial ATA AHCI 1.3.1, section 3, command opcodes those of ACS-2.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import wirt

ECAM = 0x3000_0000
ABAR = 0x4000_0000
RAM = 0x8000_0000

CAP, GHC, IS, PI, VS = 0x00, 0x04, 0x08, 0x0C, 0x10
PORT0 = 0x100
CLB, CLBU, FB, FBU, PXIS, PXIE, CMD = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18
TFD, SIG, SSTS, SCTL, SERR, SACT, CI = 0x20, 0x24, 0x28, 0x2C, 0x30, 0x34, 0x38

GHC_AE, GHC_IE, GHC_HR = 1 << 31, 1 << 1, 1 << 0
ST, FRE, CLO, FR, CR = 1 << 0, 1 << 4, 1 << 3, 1 << 14, 1 << 15
DHRS, PSS, SDBS, DPS, PCS, OFS, IFS, HBFS, TFES = (1 << bit for bit in (0, 1, 3, 5, 6, 24, 27, 29, 30))

READ_DMA, READ_DMA_EXT, WRITE_DMA, WRITE_DMA_EXT, WRITE_DMA_FUA_EXT = 0xC8, 0x25, 0xCA, 0x35, 0x3D
READ_SECTORS, READ_SECTORS_EXT, WRITE_SECTORS, WRITE_SECTORS_EXT = 0x20, 0x24, 0x30, 0x34
READ_FPDMA, WRITE_FPDMA = 0x60, 0x61
IDENTIFY, SET_FEATURES, FLUSH, FLUSH_EXT, DATA_SET_MANAGEMENT = 0xEC, 0xEF, 0xE7, 0xEA, 0x06
READ_LOG_EXT, READ_LOG_DMA_EXT, SMART, CHECK_POWER, STANDBY_NOW = 0x2F, 0x47, 0xB0, 0xE5, 0xE0
READ_VERIFY_EXT, SECURITY_UNLOCK, PACKET, READ_MULTIPLE, SET_MULTIPLE = 0x42, 0xF2, 0xA0, 0xC4, 0xC6

QUEUED = {READ_FPDMA, WRITE_FPDMA}
TO_DEVICE = {WRITE_DMA, WRITE_DMA_EXT, WRITE_DMA_FUA_EXT, WRITE_SECTORS, WRITE_SECTORS_EXT, WRITE_FPDMA}

COMMAND_LIST = RAM + 0x1000
FIS_AREA = RAM + 0x2000
COMMAND_TABLES = RAM + 0x10_0000
TABLE_BYTES = 0x1000
BUFFER = RAM + 0x40_0000

Prdt = Sequence[tuple[int, int]]


class CommandFailed(Exception):
    """The port stopped with an error: the task file, and PxIS."""

    def __init__(self, task_file: int, status: int) -> None:
        super().__init__(f"PxTFD {task_file:#x}, PxIS {status:#x}")
        self.status = task_file & 0xFF
        self.error = task_file >> 8 & 0xFF
        self.interrupt_status = status


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Polls; the time only bounds a failure."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(0.0005)


def config_address(slot: int, offset: int = 0) -> int:
    return ECAM + (slot << 15) + offset


def find_controller(vm: wirt.Machine) -> int:
    """The slot of the function with AHCI's class code."""
    for slot in range(32):
        if vm.bus.read(config_address(slot, 8), 4) >> 8 == 0x010601:
            return slot
    raise AssertionError("no AHCI controller on bus 0")


class AhciDriver:
    """One port, driven by polling."""

    def __init__(self, vm: wirt.Machine, port: int = 0) -> None:
        self.vm = vm
        self.slot = find_controller(vm)
        self.base = ABAR + PORT0 + port * 0x80
        self.enable()
        self.start()

    # --- the function and the host bus adapter ---

    def enable(self) -> None:
        self.vm.bus.write(config_address(self.slot, 0x24), 4, ABAR)
        self.vm.bus.write(config_address(self.slot, 4), 2, 0x0006)

    def host(self, offset: int) -> int:
        return self.vm.bus.read(ABAR + offset, 4)

    def set_host(self, offset: int, value: int) -> None:
        self.vm.bus.write(ABAR + offset, 4, value)

    def reset_host(self) -> None:
        self.set_host(GHC, GHC_AE | GHC_HR)
        wait_for(lambda: not self.host(GHC) & GHC_HR, "GHC.HR")

    # --- the port ---

    def read(self, offset: int) -> int:
        return self.vm.bus.read(self.base + offset, 4)

    def write(self, offset: int, value: int) -> None:
        self.vm.bus.write(self.base + offset, 4, value & 0xFFFF_FFFF)

    def start(self) -> None:
        self.write(CLB, COMMAND_LIST)
        self.write(CLBU, 0)
        self.write(FB, FIS_AREA)
        self.write(FBU, 0)
        self.write(SERR, 0xFFFF_FFFF)
        self.write(PXIS, 0xFFFF_FFFF)
        self.write(CMD, FRE)
        self.write(CMD, FRE | ST)

    def stop(self) -> None:
        self.write(CMD, FRE)
        wait_for(lambda: not self.read(CMD) & CR, "PxCMD.CR to clear")

    def restart(self) -> None:
        """Error recovery without a reset (AHCI 1.3.1, 6.2.2)."""
        self.stop()
        self.write(SERR, 0xFFFF_FFFF)
        self.write(PXIS, 0xFFFF_FFFF)
        self.write(CMD, FRE | ST)

    def prepare(
        self,
        slot: int,
        opcode: int,
        lba: int = 0,
        count: int = 0,
        features: int = 0,
        device: int = 0x40,
        prdt: Prdt = (),
        fis: bytes | None = None,
        header_flags: int = 0,
    ) -> None:
        """Builds the command header, the command FIS and the PRDT of a slot."""
        table = COMMAND_TABLES + slot * TABLE_BYTES
        if fis is None:
            fis = struct.pack(
                "<BBBB3sB3sBHBBI",
                0x27,
                0x80,
                opcode,
                features & 0xFF,
                (lba & 0xFF_FFFF).to_bytes(3, "little"),
                device,
                (lba >> 24 & 0xFF_FFFF).to_bytes(3, "little"),
                features >> 8,
                count,
                0,
                0,
                0,
            )
        entries = b"".join(struct.pack("<QII", address, 0, length - 1) for address, length in prdt)
        content = fis.ljust(0x80, b"\0") + entries
        self.vm.memory[table : table + len(content)] = content
        flags = 5 | (1 << 6 if opcode in TO_DEVICE else 0) | header_flags | len(prdt) << 16
        header = COMMAND_LIST + slot * 32
        self.vm.memory[header : header + 32] = struct.pack("<IIQ16x", flags, 0, table)

    def issue(self, mask: int, queued: bool = False) -> None:
        if queued:
            self.write(SACT, mask)
        self.write(CI, mask)

    def wait(self, mask: int) -> None:
        """Until the slots are done; CommandFailed when the port stops instead."""

        def settled() -> bool:
            return bool(self.read(PXIS) & (TFES | HBFS | IFS)) or not (self.read(CI) | self.read(SACT)) & mask

        wait_for(settled, "a command")
        status = self.read(PXIS)
        if status & (TFES | HBFS | IFS):
            raise CommandFailed(self.read(TFD), status)

    def run(self, opcode: int, lba: int = 0, count: int = 0, *, slot: int = 0, **fields: object) -> int:
        """One command from issue to end. Gives the PRD byte count."""
        queued = opcode in QUEUED
        if queued:
            fields["features"], count = count, slot << 3
        self.prepare(slot, opcode, lba, count, **fields)  # type: ignore[arg-type]
        self.issue(1 << slot, queued)
        self.wait(1 << slot)
        return self.byte_count(slot)

    def byte_count(self, slot: int) -> int:
        return int.from_bytes(self.memory(COMMAND_LIST + slot * 32 + 4, 4), "little")

    def fail(self, opcode: int, lba: int = 0, count: int = 0, **fields: object) -> CommandFailed:
        """A command that must end in an error; the port is restarted afterwards."""
        failure = None
        try:
            self.run(opcode, lba, count, **fields)  # type: ignore[arg-type]
        except CommandFailed as error:
            failure = error
        assert failure is not None, f"command {opcode:#x} succeeded"
        self.restart()
        return failure

    # --- memory and what the disk says ---

    def memory(self, address: int, length: int) -> bytes:
        return bytes(self.vm.memory[address : address + length])

    def fill(self, address: int, data: bytes) -> None:
        self.vm.memory[address : address + len(data)] = data

    def read_sectors(self, lba: int, count: int, opcode: int = READ_DMA_EXT, slot: int = 0) -> bytes:
        self.fill(BUFFER, b"\xa5" * (count * 512))
        self.run(opcode, lba, count, slot=slot, prdt=[(BUFFER, count * 512)])
        return self.memory(BUFFER, count * 512)

    def write_sectors(self, lba: int, data: bytes, opcode: int = WRITE_DMA_EXT, slot: int = 0) -> None:
        self.fill(BUFFER, data)
        self.run(opcode, lba, len(data) // 512, slot=slot, prdt=[(BUFFER, len(data))])

    def identify(self) -> list[int]:
        self.run(IDENTIFY, prdt=[(BUFFER, 512)])
        return list(struct.unpack("<256H", self.memory(BUFFER, 512)))

    def drain(self) -> None:
        """Brings the port to rest after anything may have been written to it."""
        with suppress(wirt.AddressError):
            self.reset_host()
