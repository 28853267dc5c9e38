#!/usr/bin/env python3
"""Builds the embedded guest: freestanding C to one small, stripped RISC-V ELF.

    python guest/build.py --output guest.elf [--work DIR] [--symbols FILE]

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


def sources() -> list[Path]:
    """Every file to compile; a new one needs no entry anywhere."""
    folders = ("boot", "kernel", "drivers", "network", "programs")
    found = [path for folder in folders for path in (GUEST / folder).iterdir() if path.suffix in {".c", ".S"}]
    return sorted(found)


def build(output: Path, work: Path, symbols: Path | None = None) -> None:
    """Compiles everything below guest/ into `output`; `symbols` receives an ELF with symbols for debuggers."""
    work.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    environment["ZIG_GLOBAL_CACHE_DIR"] = environment["ZIG_LOCAL_CACHE_DIR"] = str(work / "zig-cache")
    compiler = [sys.executable, "-m", "ziglang", "cc"]
    inputs = [str(path.relative_to(GUEST)) for path in sources()]
    variants = [(output, ["-s"])] + ([(symbols, ["-g"])] if symbols else [])
    for target, extra in variants:
        image = work / f"building-{target.name}"
        command = [*compiler, *TARGET, *COMPILE, *extra, *LINK, "-I.", "-Wl,-T,linker.ld", *inputs, "-o", str(image)]
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
    parser = argparse.ArgumentParser(description="Build Wirt's embedded guest.")
    parser.add_argument("--output", type=Path, required=True, help="the stripped ELF to write")
    parser.add_argument("--work", type=Path, help="where the compiler may keep its caches (default: a temporary one)")
    parser.add_argument("--symbols", type=Path, help="also write an ELF with symbols, for a debugger")
    options = parser.parse_args()
    symbols = options.symbols.resolve() if options.symbols else None
    try:
        if options.work:
            build(options.output.resolve(), options.work.resolve(), symbols)
        else:
            with tempfile.TemporaryDirectory(prefix="wirt-guest-") as work:
                build(options.output.resolve(), Path(work), symbols)
    except (BuildError, OSError) as error:
        print(f"guest/build.py: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: {options.output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
