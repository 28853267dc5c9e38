"""Builds and runs the tests that are written in C++, because what they look at has no Python face.

Each is a program of its own beside the parts that it tests; it ends with 'N passed, M failed'.
"""

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
    "tests/riscv/test_hart_state.cpp": ["csrc/riscv/*.cpp", "csrc/memory/*.cpp"],
    "tests/base/test_entropy.cpp": ["csrc/base/entropy.cpp"],
    "tests/base/test_executor.cpp": ["csrc/base/executor.cpp"],
    "tests/riscv/test_softfloat.cpp": ["csrc/riscv/softfloat.cpp"],
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
        "csrc/network/*.cpp",
        "csrc/memory/*.cpp",
        "csrc/base/executor.cpp",
    ],
    "tests/storage/test_tracked_disk.cpp": ["csrc/storage/*.cpp"],
}


def test_every_program_is_listed():
    found = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.cpp")}
    assert found == set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program, tmp_path):
    compiler = shutil.which("g++") or shutil.which("c++")
    assert compiler, "a C++ compiler is needed (g++ 12 or newer)"
    sources = [
        program,
        *(str(path.relative_to(ROOT)) for glob in PROGRAMS[program] for path in sorted(ROOT.glob(glob))),
    ]
    executable = tmp_path / "test"
    flags = ["-std=gnu++20", "-O1", "-g1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Icsrc", "-Itests"]
    flags += ["-pthread", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    build = subprocess.run([compiler, *flags, *sources, "-o", executable], cwd=ROOT, capture_output=True, text=True)
    assert build.returncode == 0, build.stderr
    # A sanitizer that is preloaded for the extension must not be for this program, which links its own.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    run = subprocess.run([executable], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    output = run.stdout + run.stderr
    assert run.returncode == 0, output[-4000:]
    counts = re.search(r"(\d+) passed, (\d+) failed", output)
    assert counts, f"no closing line in:\n{output[-2000:]}"
    assert int(counts[1]) > 0
    assert int(counts[2]) == 0
