"""Debian's kernel from power-on to a shell in the initramfs, and the same on QEMU."""

from __future__ import annotations

import time

import pytest

import wirt
from peers import compare, console_of, qemu_command
from wirt.debian import Guest, pull_debian

TURNS = 3
CMDLINE = "earlycon=sbi console=ttyS0"
PROMPT = "/ # "


@pytest.fixture(scope="module")
def guest() -> Guest:
    return pull_debian()


def boot(guest: Guest, cpus: int) -> float:
    begin = time.perf_counter()
    with wirt.Machine(guest.kernel, initrd=guest.initrd, cmdline=CMDLINE, memory="512M", cpus=cpus) as vm:
        vm.start()
        vm.serial.expect(PROMPT, timeout=300)
        return time.perf_counter() - begin


@pytest.mark.parametrize("cpus", [1, 2])
def bench_boot_to_shell(benchmark, guest, cpus):
    benchmark.pedantic(boot, args=[guest, cpus], rounds=3)


def bench_boot_and_qemu(benchmark, qemu, record, guest):
    def theirs() -> dict[str, float]:
        command = [*qemu_command(guest.kernel, CMDLINE, memory=512), "-initrd", str(guest.initrd)]
        with console_of(command) as console:
            return {"boot to shell": 1 / console.wait_for(PROMPT.encode(), 300)}

    record(
        benchmark.pedantic(
            compare, args=[TURNS, lambda: {"boot to shell": 1 / boot(guest, 1)}, theirs, "boots/s"], rounds=1
        )
    )
