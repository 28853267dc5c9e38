"""Live migration over loopback between two processes: downtime, bytes, faults; QEMU doing the same beside it.

    python benchmarks/bench_migration.py [--memory 1024] [--fill 512] [--rate 50] [--repeats 3] [--qemu]

The guest is the embedded one: it fills `--fill` MiB, then writes a word into page after page of 128 MiB, so many MiB of
pages a second. "touched" is what it has filled and the region. QEMU runs the same image under OpenSBI with TCG,
migrated through QMP with its default settings but for the downtime limit and no bandwidth limit.

"source_cpu" is what the thread took that migrates, "cpu_there" what the process took that receives, until the machine
ran there; both in seconds for each GiB that was sent, so that they hold on a busy host, too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wirt
from wirt.guest_image import guest_image

REGION = 128
SECRET = "this benchmark's own secret"


def receive(address: str) -> None:
    """The process of the destination."""
    before = time.process_time()
    vm = wirt.Machine.receive(address, secret=SECRET, timeout=120)
    spent = time.process_time() - before
    migration = vm.migration
    while migration.missing_pages:
        time.sleep(0.01)
    puller = migration._puller
    waits = puller.arrivals.waits() if puller is not None else []
    print(json.dumps({"cpu": spent, "waits_us": [wait / 1000 for wait in waits]}), flush=True)
    vm.wait(1.0)
    vm.close()


def wirt_once(options: argparse.Namespace, mode: str) -> dict[str, float | list[float]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    peer = subprocess.Popen(
        [sys.executable, __file__, "--receive", address], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    cmdline = f"dirty dirty.mb={REGION} dirty.rate={options.rate} dirty.fill={options.fill} dirty.seconds=600"
    with wirt.Machine(guest_image(), cmdline=cmdline, memory=f"{options.memory}M") as vm:
        vm.start()
        vm.console.expect("dirty: begins", timeout=300)
        vm.wait(3.0)  # the region has been touched as a whole
        for _ in range(100):
            try:
                socket.create_connection(address[6:].split(":")).close()
                break
            except OSError:
                time.sleep(0.1)
        before = time.thread_time()
        report = vm.migrate(address, secret=SECRET, mode=mode, downtime=0.01 if mode == "precopy" else 0.3)
        spent = time.thread_time() - before
    out = json.loads(peer.communicate(timeout=120)[0])
    touched = (options.fill + REGION) << 20
    gib = report.sent_bytes / (1 << 30)
    return {
        "downtime_ms": report.downtime * 1000,
        "runs_after_ms": report.switched_after * 1000,
        "source_cpu": spent / gib,
        "cpu_there": out["cpu"] / gib if mode == "precopy" else float("nan"),
        "ratio": report.sent_bytes / touched,
        "seconds": report.total_time,
        "rounds": report.rounds,
        "attempts": report.switch_attempts,
        "throttle": report.throttle,
        "waits_us": out["waits_us"],
    }


class Qmp:
    """QEMU's monitor."""

    def __init__(self, path: str) -> None:
        end = time.monotonic() + 30
        self._socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self._socket.connect(path)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self.call("qmp_capabilities")

    def call(self, command: str, **arguments: object) -> dict[str, object]:
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            if "error" in answer:
                raise RuntimeError(answer["error"])
            if "return" in answer:
                return answer["return"]


def qemu_once(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    image = folder / "guest.elf"
    image.write_bytes(guest_image())
    cmdline = f"dirty dirty.mb={REGION} dirty.rate={options.rate} dirty.fill={options.fill} dirty.seconds=600"
    processes, monitors = [], []
    serial = folder / "serial"
    for name, more in (
        ("source", ["-serial", f"file:{serial}"]),
        ("destination", ["-serial", "null", "-incoming", "defer"]),
    ):
        path = folder / f"{name}.qmp"
        command = [
            "qemu-system-riscv64",
            "-M",
            "virt",
            "-m",
            f"{options.memory}M",
            "-display",
            "none",
            "-kernel",
            image,
        ]
        command += ["-append", cmdline, "-qmp", f"unix:{path},server=on,wait=off", *more]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        monitors.append(Qmp(str(path)))
    try:
        source, destination = monitors
        with socket.create_server(("127.0.0.1", 0)) as server:
            uri = f"tcp:127.0.0.1:{server.getsockname()[1]}"
        destination.call("migrate-incoming", uri=uri)
        while not serial.exists() or b"dirty: begins" not in serial.read_bytes():
            time.sleep(0.2)
        time.sleep(3)
        source.call("migrate-set-parameters", **{"downtime-limit": 10, "max-bandwidth": 1 << 40})
        source.call("migrate", uri=uri)
        end = time.monotonic() + 120
        while True:
            info = source.call("query-migrate")
            if info["status"] == "completed":
                break
            if info["status"] in ("failed", "cancelled") or time.monotonic() > end:
                return {"downtime_ms": float("nan"), "ratio": float("nan"), "seconds": float("nan")}
            time.sleep(0.05)
        ram = info["ram"]
        touched = (options.fill + REGION) << 20
        return {
            "downtime_ms": info["downtime"],
            "ratio": ram["transferred"] / touched,
            "seconds": info["total-time"] / 1000,
        }
    finally:
        for process in processes:
            process.kill()
            process.wait()


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", type=int, default=1024)
    parser.add_argument("--fill", type=int, default=512)
    parser.add_argument("--rate", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--qemu", action="store_true")
    parser.add_argument("--modes", default="precopy,postcopy")
    parser.add_argument("--receive")
    options = parser.parse_args()
    if options.receive:
        return receive(options.receive)
    for mode in options.modes.split(","):
        results = [wirt_once(options, mode) for _ in range(options.repeats)]
        print(
            f"wirt {mode}: "
            + ", ".join(
                f"{key} {spread([float(result[key]) for result in results])}"
                for key in (
                    "downtime_ms",
                    "runs_after_ms",
                    "ratio",
                    "seconds",
                    "rounds",
                    "attempts",
                    "throttle",
                    "source_cpu",
                    "cpu_there",
                )
            )
        )
        waits = sorted(wait for result in results for wait in result["waits_us"])
        if waits:
            print(
                f"  {len(waits)} faults: median {statistics.median(waits):.0f} us, "
                f"90 % {waits[len(waits) * 9 // 10]:.0f} us, "
                f"99 % {waits[len(waits) * 99 // 100]:.0f} us, most {waits[-1]:.0f} us"
            )
    if options.qemu and shutil.which("qemu-system-riscv64"):
        results = []
        for _ in range(options.repeats):
            with tempfile.TemporaryDirectory() as folder:
                results.append(qemu_once(options, Path(folder)))
        print(
            "qemu precopy: "
            + ", ".join(
                f"{key} {spread([result[key] for result in results])}" for key in ("downtime_ms", "ratio", "seconds")
            )
        )
    return None


main()
