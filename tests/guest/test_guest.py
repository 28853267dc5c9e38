"""The embedded guest on our own machine: what it finds, what it checks, and what it prints for programs."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wirt
from wirt.guest_image import guest_image

sys.path.insert(0, str(Path(__file__).parent))

from stream_peer import StreamPeer, stream_checksum, stream_words

REPOSITORY = Path(__file__).parents[2]


def run_guest(cmdline: str, **machine: Any) -> str:
    """Runs the guest to its end and gives its output; it must end well."""
    with wirt.Machine(kernel=guest_image(), cmdline=cmdline, **({"memory": "64M"} | machine)) as vm:
        vm.start()
        assert vm.wait(120), vm.console.tail
        output = vm.console.output
        assert vm.stop_reason == "poweroff", output
    assert "wirt guest: all is well, switching off" in output
    return output


def lines_of(output: str, prefix: str) -> list[dict[str, Any]]:
    return [json.loads(line[len(prefix) :]) for line in output.splitlines() if line.startswith(prefix)]


def test_image_has_no_segment_that_is_both_writable_and_executable():
    image = guest_image()
    assert len(image) < 128 * 1024
    entry, offset = struct.unpack_from("<QQ", image, 24)
    size, count = struct.unpack_from("<HH", image, 54)
    assert entry == 0x80200000
    for i in range(count):
        kind, flags = struct.unpack_from("<II", image, offset + i * size)
        assert kind != 1 or flags & 3 != 3


@pytest.mark.slow
def test_build_is_reproducible(tmp_path):
    pytest.importorskip("ziglang")
    for name in ("one", "two"):
        command = [sys.executable, REPOSITORY / "guest" / "build.py", "--output", tmp_path / f"{name}.elf"]
        subprocess.run([*command, "--work", tmp_path / name], check=True, capture_output=True)
    assert (tmp_path / "one.elf").read_bytes() == (tmp_path / "two.elf").read_bytes()


@pytest.mark.parametrize("cpus", [1, 4])
def test_demo_finds_every_device(cpus):
    disks = [wirt.Disk.memory("8M"), wirt.Disk.memory("16M", bus="ahci")]
    output = run_guest("demo", cpus=cpus, disks=disks, nets=[wirt.Switch().port("52:54:00:12:34:56")])
    assert f"harts     {cpus} of {cpus} started" in output
    assert "64 MiB at 0x80000000" in output
    assert "console   16550 at 0x10000000, irq 10" in output
    assert "console   virtio-console at" in output
    assert "virtio-blk, queue of" in output
    assert "16384 sectors, 8 MiB" in output
    assert "ahci port 0" in output
    assert "32768 sectors, 16 MiB" in output
    assert "52:54:00:12:34:56" in output
    assert "virtio-rng at" in output
    assert "\nready\n" in output.replace("\r", "")


def test_exceptions_are_as_the_specification_has_them():
    assert "traps: 8 of 8 exceptions" in run_guest("traps")


@pytest.mark.parametrize("deterministic", [False, True])
def test_harts_share_memory(deterministic):
    output = run_guest("smp smp.count=5000", cpus=4, deterministic=deterministic)
    assert "amoadd 20000, lr/sc 20000, lock 20000" in output
    assert "SB 0 forbidden of 4096; MP 0 stale" in output
    assert "3 hart(s) woken by IPI" in output


def test_memory_keeps_what_is_written():
    assert "16 MiB at" in run_guest("memtest memtest.mb=16")


def test_cpu_programs_compute_what_a_host_computes():
    results = lines_of(run_guest("cpu=all cpu.scale=2"), "WIRT-CPU ")
    assert len(results) == 8
    for result in results:
        assert result["ok"], result
        assert result["instret"] > 0


def test_bench_io_moves_data_intact_over_every_device():
    disks = [wirt.Disk.memory("8M", bus=bus) for bus in ("virtio-mmio", "virtio-pci", "ahci")]
    results = lines_of(run_guest("bench=io bench.mb=2 bench.ops=64 bench.console=4096", disks=disks), "WIRT-BENCH ")
    names = [result["name"] for result in results]
    assert len(names) == len(set(names)) == 2 + 6 + 3 * 14
    assert "disk/ahci/rand-write/4096/qd32" in names
    assert all(result["ok"] for result in results)


@pytest.mark.parametrize("virtio", ["mmio", "pci"])
def test_all_virtio_drivers_work_over_both_buses(virtio):
    output = run_guest(
        "demo bench=io bench.only=disk,console/virtio bench.mb=1 bench.ops=16 bench.console=4096",
        virtio=virtio,
        disks=[wirt.Disk.memory("4M")],
        nets=[wirt.Switch().port("52:54:00:12:34:56")],
    )
    suffix = "-pci" if virtio == "pci" else ""
    for device in ("console   virtio-console", "network   virtio-net"):
        assert f"{device}{suffix} at " in output
    assert "entropy   virtio-rng at " in output
    assert {line["name"].split("/")[1] for line in lines_of(output, "WIRT-BENCH ")} == {
        f"virtio-blk{suffix}",
        f"virtio-console{suffix}",
    }


@pytest.mark.parametrize("interrupts", ["plic", "aplic", "aia"])
@pytest.mark.parametrize("virtio", ["mmio", "pci"])
def test_every_interrupt_controller_wakes_every_driver(interrupts, virtio):
    lan = wirt.Switch()
    output = run_guest(
        "demo traps smp memtest bench=io bench.mb=1 bench.ops=16 bench.console=4096",
        interrupts=interrupts,
        virtio=virtio,
        cpus=2,
        disks=[wirt.Disk.memory("4M"), wirt.Disk.memory("4M", bus="ahci")],
        nets=[lan.port("52:54:00:12:34:56"), lan.port("52:54:00:12:34:57", model="e1000e")],
    )
    controller = {
        "plic": "plic      at 0xc000000, 95 sources",
        "aplic": "aplic     at 0xd000000, 96 sources",
        "aia": "aplic     at 0xd000000, 96 sources, to IMSICs",
    }[interrupts]
    assert f"  {controller}\n" in output.replace("\r", "")
    results = lines_of(output, "WIRT-BENCH ")
    assert {"exit/memory", "exit/register"} < {result["name"] for result in results}
    assert all(result["ok"] for result in results)
    # A driver that waits is woken by its device, not by chance.
    disks = [result for result in results if result["name"].startswith("disk/")]
    assert disks
    assert all(result["interrupts"] > 0 for result in disks), disks


def test_bench_io_leaves_a_disk_alone_when_told_to():
    disk = wirt.Disk.memory("8M", bus="ahci")
    output = run_guest("bench=io bench.write=0 bench.only=disk/ahci bench.mb=1", disks=[disk])
    assert all("read" in result["name"] for result in lines_of(output, "WIRT-BENCH "))


def test_disk_works_without_native_queueing():
    disk = wirt.Disk.memory("8M", bus="ahci")
    output = run_guest("bench=io ahci.ncq=0 bench.only=disk/ahci/rand bench.mb=1 bench.ops=200", disks=[disk])
    assert len(lines_of(output, "WIRT-BENCH ")) == 4


@pytest.mark.parametrize("interrupts", ["plic", "aplic", "aia"])
@pytest.mark.parametrize("console", ["serial", "hvc"])
def test_echo_answers_on_the_console_that_was_asked(console, interrupts):
    with wirt.Machine(kernel=guest_image(), cmdline="echo", memory="64M", interrupts=interrupts) as vm:
        vm.start()
        port = getattr(vm, console)
        port.expect("echo ready", timeout=30)
        long_line = "a line that is longer than the sixteen bytes of a FIFO " * 3
        port.send(long_line + "\n")
        port.expect("echo: " + long_line, timeout=30)
        port.send("quit\n")
        assert vm.wait(30)
        assert vm.stop_reason == "poweroff"


@pytest.mark.parametrize(("how", "said"), [("stack", "(stack overflow)"), ("null", "(null pointer)")])
def test_crash_is_reported_as_failure(how, said):
    with wirt.Machine(kernel=guest_image(), cmdline=f"crash={how}", memory="64M") as vm:
        vm.start()
        assert vm.wait(30)
        assert vm.stop_reason == "failure"
        assert "UNEXPECTED TRAP" in vm.console.output
        assert said in vm.console.output


def test_two_guests_ping_each_other_and_exchange_a_stream():
    lan = wirt.Switch()
    commands = {
        "10.0.0.1": "ip=10.0.0.1 ping=10.0.0.2 count=20 netrecv=8M net.linger=1",
        "10.0.0.2": "ip=10.0.0.2 ping=10.0.0.1 count=20 netsend=8M to=10.0.0.1 net.linger=1",
    }
    machines = [
        wirt.Machine(kernel=guest_image(), cmdline=c, memory="64M", nets=[lan.port()]) for c in commands.values()
    ]
    try:
        for vm in machines:
            vm.start()
        results = {}
        for vm in machines:
            assert vm.wait(120), vm.console.tail
            assert vm.stop_reason == "poweroff", vm.console.tail
            results |= {(r["name"], r.get("peer")): r for r in lines_of(vm.console.output, "WIRT-NET ")}
    finally:
        for vm in machines:
            vm.close()
    assert results[("ping", "10.0.0.1")]["received"] == results[("ping", "10.0.0.2")]["received"] == 20
    sent, received = results[("send", None)], results[("receive", None)]
    assert received["bytes"] == sent["bytes"] == 8 << 20
    assert received["checksum"] == sent["checksum"] == received["peer_checksum"]


@pytest.mark.parametrize(
    ("lose_every", "options"),
    [
        (0, {}),
        (97, {}),
        (0, {"interrupts": "aplic"}),
        (0, {"interrupts": "aia"}),
        (0, {"interrupts": "aia", "virtio": "pci"}),
    ],
)
def test_stream_arrives_at_a_python_end_point(lose_every, options):
    size = 1 << 20
    lan = wirt.Switch()
    peer = StreamPeer(lan, "10.0.0.9")
    command = f"ip=10.0.0.1 netsend={size} to=10.0.0.9 net.linger=0"
    with wirt.Machine(kernel=guest_image(), cmdline=command, memory="64M", nets=[lan.port()], **options) as vm:
        vm.start()
        data, checksum = peer.receive_stream(lose_every)
        assert vm.wait(30)
        (result,) = lines_of(vm.console.output, "WIRT-NET ")
    assert len(data) == size
    assert struct.unpack(f"<{size // 8}Q", data) == tuple(stream_words(0, size // 8))
    assert checksum == stream_checksum(data) == int(result["checksum"], 16)
    assert result["ok"]
    assert result["repeated"] > 0 or not lose_every


def test_wrong_words_are_failures():
    with wirt.Machine(kernel=guest_image(), cmdline="bench=io bench.only=nothing", memory="64M") as vm:
        vm.start()
        assert vm.wait(30)
        assert vm.stop_reason == "failure"
        assert "leaves nothing to measure" in vm.console.output
