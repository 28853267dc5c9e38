"""Builds and runs the tests that are written in C++, because what they look at has no Python face.

Each is a program of its own beside the parts that it tests; it ends with 'N passed, M failed'.
"""

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_PCI = [
    "csrc/devices/hardware/pci*.cpp",
    "csrc/devices/hardware/a[ht]*.cpp",
    "csrc/memory/*.cpp",
    "csrc/storage/*.cpp",
    "csrc/base/executor.cpp",
]
PROGRAMS = {
    "tests/base/test_clock.cpp": [
        *(f"csrc/base/{part}.cpp" for part in ("clock", "deadline")),
        "csrc/devices/hardware/goldfish_rtc.cpp",
    ],
    "tests/base/test_host_pages.cpp": ["csrc/base/host_pages.cpp"],
    "tests/riscv/test_hart_state.cpp": ["csrc/riscv/*.cpp", "csrc/riscv/vector/*.cpp", "csrc/memory/*.cpp"],
    "tests/firmware/test_steal_time.cpp": [
        *("csrc/riscv/*.cpp", "csrc/riscv/vector/*.cpp", "csrc/memory/*.cpp"),
        *("csrc/firmware/steal_time.cpp", "csrc/base/run_delay.cpp"),
    ],
    "tests/base/test_entropy.cpp": ["csrc/base/entropy.cpp"],
    "tests/base/test_executor.cpp": ["csrc/base/executor.cpp"],
    "tests/riscv/test_softfloat.cpp": ["csrc/riscv/softfloat.cpp"],
    "tests/riscv/test_crypto.cpp": ["csrc/riscv/crypto.cpp"],
    "tests/devices/hardware/test_imsic.cpp": [f"csrc/devices/hardware/{part}.cpp" for part in ("aplic", "imsic")],
    "tests/devices/hardware/test_e1000e_state.cpp": [
        "csrc/devices/hardware/e1000e/*.cpp",
        "csrc/devices/hardware/pci*.cpp",
        "csrc/memory/*.cpp",
        "csrc/network/*.cpp",
        *(f"csrc/base/{part}.cpp" for part in ("clock", "deadline", "executor")),
    ],
    "tests/devices/hardware/test_pci_device.cpp": _PCI,
    "tests/devices/hardware/test_pcie_root_port.cpp": _PCI,
    "tests/devices/virtio/test_packed_queue.cpp": [
        *(f"csrc/devices/virtio/{part}.cpp" for part in ("descriptors", "packed_queue")),
        "csrc/memory/*.cpp",
    ],
    "tests/devices/virtio/test_virtio_core.cpp": [
        *(f"csrc/devices/virtio/{part}.cpp" for part in ("virtio_core", "virtio_device", "virtio_transport")),
        *(f"csrc/devices/virtio/{part}.cpp" for part in ("virtio_mmio", "descriptors", "split_queue", "packed_queue")),
        *(f"csrc/devices/virtio/{part}.cpp" for part in ("block", "console", "net", "net_filter")),
        "csrc/devices/console_port.cpp",
        "csrc/storage/block_backend.cpp",
        "csrc/network/*.cpp",
        "csrc/memory/*.cpp",
        "csrc/base/executor.cpp",
    ],
    "tests/storage/test_tracked_disk.cpp": ["csrc/storage/*.cpp"],
}


def test_every_program_is_listed():
    found = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.cpp")}
    assert found == set(PROGRAMS)


FLAGS = [
    "-std=gnu++20",
    "-O1",
    "-g1",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Icsrc",
    "-Itests",
    "-pthread",
]
FLAGS += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# A sanitizer that is preloaded for the extension must not be for the compiler, nor for a program, which links its own.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def compiler() -> str:
    found = shutil.which("g++") or shutil.which("c++")
    assert found, "a C++ compiler is needed (g++ 12 or newer)"
    return found


def compiled(source: str, objects: Path) -> str:
    """The object of a source file, which the programs share: whoever needs it first compiles it."""
    target = objects / (source.replace("/", "-") + ".o")
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            command = [compiler(), *FLAGS, "-c", source, "-o", target.with_suffix(".part")]
            build = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
            assert build.returncode == 0, build.stderr
            target.with_suffix(".part").rename(target)
    return str(target)


@pytest.fixture(scope="session")
def objects(tmp_path_factory) -> Path:
    """A folder of this run of the tests, one for all the processes that it is spread over."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "objects"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.native
@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program, objects, tmp_path):
    sources = [
        program,
        *(str(path.relative_to(ROOT)) for glob in PROGRAMS[program] for path in sorted(ROOT.glob(glob))),
    ]
    executable = tmp_path / "test"
    parts = [compiled(source, objects) for source in sources]
    link = subprocess.run(
        [compiler(), *FLAGS, *parts, "-o", executable], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert link.returncode == 0, link.stderr
    run = subprocess.run([executable], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    output = run.stdout + run.stderr
    assert run.returncode == 0, output[-4000:]
    counts = re.search(r"(\d+) passed, (\d+) failed", output)
    assert counts, f"no closing line in:\n{output[-2000:]}"
    assert int(counts[1]) > 0
    assert int(counts[2]) == 0
