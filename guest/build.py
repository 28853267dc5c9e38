#!/usr/bin/env python3
"""Builds the embedded guest and its companions: freestanding C to small, stripped RISC-V ELFs.

    python guest/build.py --output guest.elf [--program NAME] [--work DIR] [--symbols FILE]

The compiler is Clang as the `ziglang` package ships it, so that the wheel builds on any host without a cross
compiler. It keeps its caches in the work directory and touches nothing else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

GUEST = Path(__file__).resolve().parent

TARGET = [
    "-target",
    "riscv64-freestanding-none",
    # rv64gc as every board has it: no vectors, no bit manipulation, whatever the machine could do beyond.
    "-mcpu=generic_rv64+m+a+f+d+c+zicsr+zifencei",
    "-mabi=lp64d",
    # Code and data lie anywhere within 2 GiB of the program counter, not near address zero.
    "-mcmodel=medany",
]
COMPILE = [
    "-std=gnu17",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-pic",
    # No fused multiply-add behind the source's back: results are the same as on any host.
    "-ffp-contract=off",
    # A frame pointer costs two instructions a call and gives the trap report its backtrace.
    "-fno-omit-frame-pointer",
    # zig cc turns these on by itself; there is no runtime here that they could report to.
    "-fno-sanitize=all",
    "-fno-stack-protector",
    "-ffunction-sections",
    "-fdata-sections",
]
LINK = ["-nostdlib", "-static", "-Wl,--gc-sections", "-Wl,--build-id=none", "-Wl,-z,noexecstack"]


class BuildError(Exception):
    """Why the guest could not be built, in words for whoever builds the wheel."""


@dataclass(frozen=True)
class Program:
    """One image.

    Attributes:
        inputs: what is compiled, below guest/; of a folder all of it, so that a new file needs no entry anywhere.
        script: the linker script.
        options: further options of the compiler.
    """

    inputs: tuple[str, ...]
    script: str
    options: tuple[str, ...] = ()

    def sources(self) -> list[str]:
        """Every file to compile."""
        paths = [GUEST / name for name in self.inputs]
        files = [file for path in paths for file in (path.iterdir() if path.is_dir() else [path])]
        return sorted(str(file.relative_to(GUEST)) for file in files if file.suffix in {".c", ".S"})


# Parts of the kernel that the others use too.
_TEXT = ("kernel/print.c", "kernel/sbi.c", "kernel/string.c")
_HYPERVISOR = (
    "kernel/fdt.c",
    *_TEXT,
    *(f"hypervisors/{name}" for name in ("start.S", "inner_guest.c", "virtual_sbi.c")),
)
# The hypervisors run at the top of the address space (hypervisors/linker.ld): there is no such offset elsewhere.
_HIGH = ("-DVIRTUAL_OFFSET=0xffffffff40000000ul",)

PROGRAMS = {
    "guest": Program(("boot", "kernel", "drivers", "network", "programs"), "linker.ld"),
    "inner": Program(("inner", *_TEXT), "inner/linker.ld"),
    "trap_and_emulate": Program(
        (*_HYPERVISOR, "hypervisors/trap_and_emulate.c", "hypervisors/shadow.c"), "hypervisors/linker.ld", _HIGH
    ),
    "h_extension": Program((*_HYPERVISOR, "hypervisors/h_extension.c"), "hypervisors/linker.ld", _HIGH),
}


def build(output: Path, work: Path, symbols: Path | None = None, program: str = "guest") -> None:
    """Compiles a program into `output`; `symbols` receives an ELF with symbols for debuggers."""
    work.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    environment["ZIG_GLOBAL_CACHE_DIR"] = environment["ZIG_LOCAL_CACHE_DIR"] = str(work / "zig-cache")
    compiler = [sys.executable, "-m", "ziglang", "cc"]
    what = PROGRAMS[program]
    options = [*TARGET, *COMPILE, *what.options]
    variants = [(output, ["-s"])] + ([(symbols, ["-g"])] if symbols else [])
    for target, extra in variants:
        image = work / f"building-{target.name}"
        command = [
            *compiler,
            *options,
            *extra,
            *LINK,
            "-I.",
            f"-Wl,-T,{what.script}",
            *what.sources(),
            "-o",
            str(image),
        ]
        result = subprocess.run(command, cwd=GUEST, env=environment, capture_output=True, text=True, check=False)
        if "No module named ziglang" in result.stderr:
            raise BuildError(f"the compiler is missing: {sys.executable} -m pip install ziglang")
        if result.returncode != 0:
            raise BuildError(f"the compiler refused ({' '.join(command)}):\n{result.stderr or result.stdout}")
        if image.read_bytes()[:4] != b"\x7fELF":
            raise BuildError(f"{image} is not an ELF file")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(image, target)
        target.chmod(0o644)


def main() -> int:
    """The command line; 0 if the image was written."""
    parser = argparse.ArgumentParser(description="Build Wirt's embedded guest, or one of its companions.")
    parser.add_argument("--output", type=Path, required=True, help="the stripped ELF to write")
    parser.add_argument("--program", choices=PROGRAMS, default="guest", help="which one (default: guest)")
    parser.add_argument("--work", type=Path, help="where the compiler may keep its caches (default: a temporary one)")
    parser.add_argument("--symbols", type=Path, help="also write an ELF with symbols, for a debugger")
    options = parser.parse_args()
    symbols = options.symbols.resolve() if options.symbols else None
    try:
        if options.work:
            build(options.output.resolve(), options.work.resolve(), symbols, options.program)
        else:
            with tempfile.TemporaryDirectory(prefix="wirt-guest-") as work:
                build(options.output.resolve(), Path(work), symbols, options.program)
    except (BuildError, OSError) as error:
        print(f"guest/build.py: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: {options.output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
