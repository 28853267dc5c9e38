"""The published test suites of the architecture, each test on Wirt and on Spike.

    git clone https://github.com/riscv-non-isa/riscv-arch-test
    git clone --recursive https://github.com/riscv-software-src/riscv-tests
    python benchmarks/acceptance/arch_tests.py --arch-test riscv-arch-test --riscv-tests riscv-tests
        [--isa ISA] [--spike-isa ISA] [--only TEXT] [--keep DIRECTORY] [--jobs N] [--results FILE]

A test of riscv-arch-test leaves a signature in memory; ours must be Spike's. Those of riscv-tests check themselves.
What a test asks of the hart decides whether it is meant for this one; it is assembled by GNU's compiler (Debian's
gcc-riscv64-linux-gnu) and, where that does not know an extension, by clang (ziglang). Ends with status 0 when none
differs. With --results each verdict is written down as it comes, and a run that was broken off goes on behind them.
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import wirt
from support import spike
from wirt.configuration import canonical_isa

_HERE = Path(__file__).parent / "arch_tests"
_LIMIT = 50_000_000  # instructions
# What GNU's assembler of Debian 12 knows; the suites' own choice is a subset that leaves out what their frame needs.
_GNU = (
    "rv64imafdch_zicbom_zicboz_zicsr_zifencei_zihintpause_zawrs_zfh_zba_zbb_zbc_zbs_zbkb_zbkc_zbkx_zknd_zkne_zknh"
    "_svinval"
)
_CLANG = (
    "generic_rv64+m+a+f+d+c+h+zicbom+zicboz+zicond+zimop+zcmop+zcb+zfh+zfa+zacas+zabha+zawrs+zba+zbb+zbc+zbs"
    "+zbkb+zbkc+zbkx+zknd+zkne+zknh+svinval+zvbb+zvbc+zvkg+zvkned+zvknhb+v"
)


@dataclass(frozen=True)
class Test:
    """One program: its source, how to compile it, and how it says what came out."""

    source: Path
    flags: tuple[str, ...]
    signature: bool

    @property
    def name(self) -> str:
        """Where it is in its suite: rv64i_m/I/add-01.S, rv64ui/add.S."""
        parts = self.source.parts
        begin = max(i for i, part in enumerate(parts) if part in ("riscv-test-suite", "isa"))
        return "/".join(part for part in parts[begin + 1 :] if part != "src")

    @property
    def group(self) -> str:
        return "/".join(self.name.split("/")[: 2 if self.signature else 1])


def arch_tests(suite: Path, described: str) -> Iterator[Test]:
    """Those of riscv-arch-test that are meant for a hart with the ISA string, as riscof would have it."""
    root = suite / "riscv-test-suite"
    flags = ("-DXLEN=64", "-DFLEN=64", f"-I{_HERE}", f"-I{root / 'env'}", f"-T{_HERE / 'link.ld'}")
    # The many parts of one test, which are in a folder, behind the others.
    for source in sorted(root.glob("rv*_m/*/src/**/*.S"), key=lambda path: (len(path.parts), path)):
        text = source.read_text()
        if not re.search(r"RVTEST_ISA\(.*RV64I", text):
            continue
        defines: dict[str, str] = {}
        for case in re.findall(r'RVTEST_CASE\(\s*\d+\s*,\s*"//(.*?)"', text, re.DOTALL):
            patterns = re.findall(r"check ISA:=regex\((.*?)\)\s*;", case)
            if all(re.search(pattern, described) for pattern in patterns):
                defines |= dict(re.findall(r"def (\w+)=([\w.]+)", case))
        if defines:
            yield Test(source, (*flags, *(f"-D{name}={value}" for name, value in defines.items())), signature=True)


def self_checking_tests(suite: Path, names: Iterable[str]) -> Iterator[Test]:
    """Those of riscv-tests for extensions that the hart has, in physical memory."""
    flags = (
        f"-I{suite / 'env' / 'p'}",
        f"-I{suite / 'isa' / 'macros' / 'scalar'}",
        f"-T{suite / 'env' / 'p' / 'link.ld'}",
    )
    for folder in sorted((suite / "isa").glob("hypervisor*")):
        if "h" in names and ("svadu" in names or not folder.name.endswith("svadu")):
            for source in sorted(folder.glob("*.S")):
                yield Test(source, flags, signature=False)
    for folder in sorted((suite / "isa").glob("rv64*")):
        wanted = re.sub(r"^rv64(mz|ss|m|s|u)", lambda found: {"mz": "z", "ss": "ss"}.get(found[1], ""), folder.name)
        if wanted in ("i", "") or wanted in names or (wanted == "ssvnapot" and "svnapot" in names):
            for source in sorted(folder.glob("*.S")):
                yield Test(source, flags, signature=False)


def compiled(test: Test, target: Path) -> str | None:
    """Why there is no program; None when there is."""
    gnu_isa, clang_isa = _GNU, _CLANG
    if not test.signature:
        # Their handlers are not aligned, so that they have to be assembled without short instructions, as theirs are.
        gnu_isa = gnu_isa.replace("fdch", "fdh")
        clang_isa = clang_isa.replace("+c+", "+").replace("+zcmop+zcb", "")
    common = ["-static", "-nostdlib", "-nostartfiles", "-w", *test.flags, str(test.source), "-o", str(target)]
    gnu = [
        "riscv64-linux-gnu-gcc",
        "-march=rv64gc",
        f"-Wa,-march={gnu_isa}",
        "-mabi=lp64",
        "-mcmodel=medany",
        "-no-pie",
    ]
    gnu += ["-Wl,--build-id=none"]
    clang = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-freestanding-none", f"-mcpu={clang_isa}"]
    clang += ["-mcmodel=medany", "-fno-pie", f"-Wl,-e,{'rvtest_entry_point' if test.signature else '_start'}"]
    said = ""
    for command in (gnu, clang):
        result = subprocess.run([*command, *common], capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return None
        said = next((line for line in result.stderr.splitlines() if "rror" in line), result.stderr[-200:])
    return said


def symbols(program: Path) -> dict[str, int]:
    listing = subprocess.run(["riscv64-linux-gnu-nm", program], capture_output=True, text=True, check=True).stdout
    return {name: int(value, 16) for value, _kind, name in (line.split() for line in listing.splitlines())}


def run(program: Path, isa: str, end: int) -> wirt.Machine:
    """A machine that stands where the program ends, or where the limit was reached."""
    vm = wirt.Machine(firmware=program, isa=isa, memory="64M", deterministic=True)
    vm.add_breakpoint(end)
    vm.run_for(_LIMIT)
    return vm


def program_of(test: Test, folder: Path) -> Path:
    return folder / (test.name.replace("/", "-") + ".elf")


def ends_on_spike(program: Path, options: argparse.Namespace) -> bool:
    try:
        spike.run(program, isa=options.spike_isa, timeout=60)
    except spike.OracleError:
        return False
    return True


def verdict(test: Test, options: argparse.Namespace, folder: Path) -> str:
    """``same``, or what is the matter."""
    program = program_of(test, folder)
    if (reason := compiled(test, program)) is not None:
        return f"not built: {reason}"
    where = symbols(program)
    with run(program, options.isa, where["arch_test_spin" if test.signature else "write_tohost"]) as vm:
        if vm.stop_reason != "breakpoint":
            how = f"{vm.stop_reason} at {vm.harts[0].pc:#x}"
            broken = test.signature and not ends_on_spike(program, options)
            return f"no end on either: {how}" if broken else f"DIFFERS: ends with {how}"
        if not test.signature:
            code = vm.harts[0].x["gp"]
            return "same" if code == 1 else f"DIFFERS: its test {code >> 1} fails"
        begin, end = where["begin_signature"], where["end_signature"]
        ours = bytes(vm.memory[begin:end])
    try:
        theirs = spike.run(program, isa=options.spike_isa)
    except spike.OracleError as error:
        return f"no oracle: {error}"
    if ours == theirs[: len(ours)]:
        return "same"
    at = next(i for i in range(len(ours)) if ours[i] != theirs[i]) & ~7
    return f"DIFFERS: signature + {at:#x}: {ours[at : at + 8][::-1].hex()}, Spike {theirs[at : at + 8][::-1].hex()}"


def kept(path: Path | None, options: dict[str, str]) -> dict[str, str]:
    """The verdicts of an earlier run with the same options, by test; the file's first line names them."""
    if path is None or not path.exists():
        if path is not None:
            path.write_text(json.dumps(options) + "\n")
        return {}
    first, *lines = path.read_text().splitlines()
    if json.loads(first) != options:
        sys.exit(f"{path} holds results of other options: {first}")
    return dict(json.loads(line) for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch-test", type=Path, help="a checkout of riscv-arch-test")
    parser.add_argument("--riscv-tests", type=Path, help="a checkout of riscv-tests")
    parser.add_argument("--isa", default=wirt.isa.DEFAULT, help="of Wirt's hart")
    parser.add_argument("--spike-isa", help="of Spike's [the same, with misaligned accesses]")
    parser.add_argument("--only", default="", metavar="TEXT", help="tests whose path has this in it")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="keep the programs there")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, metavar="FILE", help="one line of JSON a test, appended as they come")
    options = parser.parse_args()
    options.isa = canonical_isa(options.isa)
    options.spike_isa = options.spike_isa or f"{options.isa}_zicclsm"
    head, *longer = options.isa.split("_")
    described = head.upper() + "SU" + "".join(name.capitalize() for name in longer)
    names = {*head.removeprefix("rv64"), *longer}
    tests: list[Test] = []
    if options.arch_test:
        tests += arch_tests(options.arch_test, described)
    if options.riscv_tests:
        tests += self_checking_tests(options.riscv_tests, names)
    tests = [test for test in tests if options.only in str(test.source)]
    known = kept(options.results, {"isa": options.isa, "spike_isa": options.spike_isa})
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(options.jobs) as pool:
            open_tests = [test for test in tests if test.name not in known]
            running = {pool.submit(verdict, test, options, folder): test for test in open_tests}
            for done in as_completed(running):
                test, said = running[done], done.result()
                name = test.name
                known[name] = said
                if not options.keep:
                    program_of(test, folder).unlink(missing_ok=True)
                if said != "same":
                    print(f"{name}: {said}", flush=True)
                if options.results:
                    with options.results.open("a") as results:
                        results.write(json.dumps([name, said]) + "\n")
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for test in tests:
        counts[test.group][known[test.name].split(":")[0]] += 1
    for group, counter in sorted(counts.items()):
        print(f"{group:24}", ", ".join(f"{number} {word}" for word, number in counter.most_common()))
    total = sum(counts.values(), collections.Counter())
    print(f"{'all':24}", ", ".join(f"{number} {word}" for word, number in total.most_common()))
    sys.exit(0 if total["same"] == total.total() else 1)


if __name__ == "__main__":
    main()
