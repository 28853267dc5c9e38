"""Runs the embedded guest on Wirt and on Debian's QEMU, side by side.

A figure against a peer is a ratio of medians; the two take turns, and who goes first alternates, so that a host that
slows down or speeds up meanwhile does so for both.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wirt
from wirt.guest_image import guest_image

__all__ = ["QEMU", "Comparison", "compare", "have_qemu", "qemu_command", "qemu_guest", "records", "wirt_guest"]

QEMU = "qemu-system-riscv64"
_TIMEOUT_S = 600


def have_qemu() -> bool:
    """Whether Debian's package qemu-system-misc is installed."""
    return shutil.which(QEMU) is not None


@dataclass(frozen=True)
class Comparison:
    """One figure of Wirt and of a peer, in the same unit; more is better.

    Attributes:
        what: the work.
        unit: of the figures.
        wirt: one figure a turn.
        peer: one figure a turn.
    """

    what: str
    unit: str
    wirt: Sequence[float]
    peer: Sequence[float]

    @property
    def ratio(self) -> float:
        """Wirt's median over the peer's."""
        return statistics.median(self.wirt) / statistics.median(self.peer)

    def __str__(self) -> str:
        def figure(values: Sequence[float]) -> str:
            return f"{statistics.median(values):.4g} ({min(values):.4g}..{max(values):.4g})"

        return f"{self.what}: Wirt {figure(self.wirt)}, QEMU {figure(self.peer)} {self.unit}; ratio {self.ratio:.3g}"


def compare(
    turns: int, wirt_turn: Callable[[], dict[str, float]], peer_turn: Callable[[], dict[str, float]], unit: str
) -> list[Comparison]:
    """Runs both in turns; each turn gives figures by name."""
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    for turn in range(turns):
        pair = [(wirt_turn, ours), (peer_turn, theirs)]
        for run, into in pair if turn % 2 == 0 else reversed(pair):
            for name, value in run().items():
                into.setdefault(name, []).append(value)
    return [Comparison(name, unit, ours[name], theirs[name]) for name in ours if name in theirs]


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


@contextmanager
def qemu_console(command: list[str]) -> Iterator[Callable[[bytes, float], float]]:
    """Starts QEMU; gives a function that waits for output and returns the seconds since the start."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    )
    assert process.stdout is not None
    stream, output = process.stdout, bytearray()

    def wait_for(text: bytes, timeout: float) -> float:
        while text not in output:
            data = stream.read(4096)
            assert data, output.decode(errors="replace")[-2000:]
            assert time.perf_counter() - begin < timeout, output.decode(errors="replace")[-2000:]
            output.extend(data)
        return time.perf_counter() - begin

    try:
        yield wait_for
    finally:
        process.kill()
        process.wait()
