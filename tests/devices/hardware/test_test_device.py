"""The test finisher ends a machine with the outcome that the guest wrote."""

from __future__ import annotations

import struct

import pytest

import wirt

LUI_A0_TEST_DEVICE = 0x0010_0537  # lui a0, 0x100
JUMP_TO_ITSELF = 0x0000_006F


def store(value: int, opcode: int = 0x00B5_2023) -> bytes:
    """Machine code that writes `value` to the finisher (sw a1, 0(a0) unless told) and then waits for ever."""
    low = value & 0xFFF
    high = (value + 0x800) >> 12 & 0xF_FFFF
    program = [
        LUI_A0_TEST_DEVICE,
        high << 12 | 0x5B7,  # lui a1, high
        low << 20 | 0x0005_859B,  # addiw a1, a1, low
        opcode,
        JUMP_TO_ITSELF,
    ]
    return struct.pack(f"<{len(program)}I", *program)


def run(program: bytes) -> tuple[str, int | None]:
    with wirt.Machine(firmware=program, memory="16M", deterministic=True) as vm:
        vm.run_for(100_000)
        return vm.stop_reason, vm.exit_code


@pytest.mark.parametrize(
    ("value", "reason", "code"),
    [(0x5555, "poweroff", 0), (0x7777, "reboot", 0), (0x3333, "failure", 0), (42 << 16 | 0x3333, "failure", 42)],
)
def test_outcome(value: int, reason: str, code: int):
    assert run(store(value)) == (reason, code)


@pytest.mark.parametrize(
    "program", [store(0x1234), store(0), store(0x5555, opcode=0x00B5_0023)], ids=["unknown", "zero", "one byte"]
)
def test_anything_else_is_ignored(program: bytes):
    assert run(program) == ("step", None)


def test_reads_as_zero():
    with wirt.Machine(memory="16M") as vm:
        assert vm.bus.read(0x10_0000, 4) == 0
        assert vm.bus.read(0x10_0FF8, 8) == 0
