"""Every example runs, says what it is meant to say, and ends well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

# What must be among the output of each, in this order.
EXPECTED = {
    "hello": ["This is the guest inside Wirt", "4 of 4 started", "ahci port 0", "ready", "poweroff after"],
    "migration": ["here: closed, there: running"],
    "who_wrote_it": ["the word is 0", "cleared it: sd zero,0(sp)", "the word is still 999"],
    "two_guests_ping": ["5 of 5 answers from 10.0.0.1"],
    "python_device": ["lui s0,0x50000", "the guest says 42, after 4 reads; poweroff"],
    "breakpoints_and_step": ["the trap vector is at", "page fault", "left alone it ends well: poweroff, exit code 0"],
    "snapshot": ["MiB for a guest of 256 MiB", "hello Ada", "fields are others now", "hello Grace"],
    "deterministic": ["the same seed gives the same state: True", "another seed gives another one: True"],
    "disk_comparison": ["ahci:", "P0CI", "virtio-blk:", "QueueNotify"],
    "frames": ["10.0.0.2 is at", "it answers: b'are you there?..'"],
    "debian": ["a shell after", "riscv64", "$ nproc\n2", "$ ls /sys/block\nsda  vda", "poweroff"],
    "display": ["1024x768 pixels", "wirt-display.png", "poweroff"],
}
# These boot the kernel that was pulled.
DEBIAN = ("debian", "display")


def run(name: str) -> str:
    finished = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, timeout=600, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def check(output: str, wanted: list[str]) -> None:
    position = 0
    for text in wanted:
        found = output.find(text, position)
        assert found >= 0, f"{text!r} is missing, or out of order, in:\n{output}"
        position = found + len(text)


def test_no_example_is_forgotten() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("name", [name for name in EXPECTED if name not in DEBIAN])
def test_example(name: str) -> None:
    check(run(name), EXPECTED[name])


@pytest.mark.debian
@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.parametrize("name", DEBIAN)
def test_debian(name: str) -> None:
    """Fails, rather than is skipped, where Debian was not pulled: `wirt pull debian`."""
    check(run(name), EXPECTED[name])
