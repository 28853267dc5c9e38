"""A program that a compiler vectorised, on the bare board: its results are those of the same program without vectors.

benchmarks/acceptance/vector_userland.py runs it under Linux, beside OpenSSL's vector code.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import wirt
from wirt import isa

HERE = Path(__file__).parent / "bare_program"
NUMBERS = Path(__file__).parents[2] / "benchmarks/acceptance/vector_userland/numbers.c"
TARGETS = {
    "scalar": "generic_rv64+m+a+f+d+c",
    "vector": "generic_rv64+m+a+f+d+c+v+zba+zbb+zbs+zicond+zfa+zfhmin+zvfhmin+zvbb+zcb",
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("programs")
    for name, cpu in TARGETS.items():
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-freestanding-none", f"-mcpu={cpu}"]
        command += ["-O3", "-ffp-contract=off", "-ffreestanding", "-nostdlib", "-static", "-mcmodel=medany", "-fno-pic"]
        # What is copied in a loop stays a loop, so that memcpy and memset do not call themselves.
        command += ["-fno-builtin", "-Wall", "-Wextra", "-Werror", f"-Wl,-T,{HERE / 'link.ld'}"]
        subprocess.run([*command, "-o", folder / name, HERE / "start.c", NUMBERS], check=True)
    return {name: folder / name for name in TARGETS}


def printed(program: Path, isa_text: str) -> tuple[str, int]:
    """What it prints, and how many instructions that takes."""
    with wirt.Machine(firmware=program, memory="16M", isa=isa_text, deterministic=True) as vm:
        vm.run_for(400_000_000)
        assert vm.stop_reason == "poweroff"
        return vm.serial.read(0.0).decode(), vm.instructions


@pytest.fixture(scope="module")
def expected(programs) -> tuple[str, int]:
    return printed(programs["scalar"], isa.DEFAULT)


@pytest.mark.parametrize("vlen", [128, 256, 512, 1024])
def test_vectorised_loops_compute_the_same(programs, expected, vlen):
    text, instructions = printed(programs["vector"], f"rva23s64_zvl{vlen}b")
    assert text == expected[0]
    assert text.endswith("numbers: done\n")
    assert "not what it was" not in text
    assert instructions < 0.8 * expected[1]
