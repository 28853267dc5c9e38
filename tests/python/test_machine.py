"""The life of a machine."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time

import pytest

import wirt
from support.firmware import COUNT, FAIL_WITH_7, POWER_OFF, RAM, SPIN


def test_states(build):
    vm = build()
    assert (vm.state, vm.stop_reason, vm.exit_code) == ("created", "none", None)
    vm.start()
    assert vm.state == "running"
    vm.pause()
    assert vm.state == "paused"
    vm.pause()
    vm.resume()
    assert vm.state == "running"
    vm.close()
    assert vm.state == "closed"
    vm.close()


def test_calls_at_the_wrong_moment(build):
    vm = build()
    with pytest.raises(wirt.StateError):
        vm.resume()
    vm.start()
    with pytest.raises(wirt.StateError):
        vm.start()
    with pytest.raises(wirt.StateError):
        _ = vm.harts[0].pc
    vm.close()
    with pytest.raises(wirt.StateError):
        vm.start()


def test_power_off(build):
    vm = build(POWER_OFF)
    vm.start()
    assert vm.wait(10)
    assert (vm.state, vm.stop_reason, vm.exit_code) == ("stopped", "poweroff", 0)


def test_failure_code(build):
    vm = build(FAIL_WITH_7)
    vm.start()
    assert vm.wait(10)
    assert (vm.stop_reason, vm.exit_code) == ("failure", 7)


def test_wait_times_out(build):
    vm = build()
    vm.start()
    assert not vm.wait(0.05)
    assert not vm.wait(0)


def test_step(build):
    vm = build(COUNT)
    for expected in (1, 1, 2, 2, 3):
        vm.step()
        assert vm.harts[0].x["a0"] == expected
    assert vm.stop_reason == "step"
    vm.step(1000)
    assert vm.harts[0].instructions == 1005


def test_step_of_no_hart(build):
    with pytest.raises(IndexError):
        build().step(hart=1)


def test_breakpoint(build):
    vm = build(COUNT)
    vm.add_breakpoint(RAM + 4)
    assert vm.breakpoints == [RAM + 4]
    vm.start()
    assert vm.wait(10)
    assert (vm.state, vm.stop_reason, vm.harts[0].pc) == ("paused", "breakpoint", RAM + 4)
    before = vm.harts[0].x["a0"]
    vm.resume()
    assert vm.wait(10)
    assert vm.harts[0].x["a0"] == before + 1
    vm.remove_breakpoint(RAM + 4)
    vm.resume()
    assert not vm.wait(0.05)


def test_run_for_is_exact_and_repeatable(build):
    hashes = []
    for _ in range(2):
        vm = build(COUNT, deterministic=True)
        vm.run_for(100_000)
        vm.run_for(1)
        assert vm.instructions == 100_001
        hashes.append(vm.state_hash())
    assert hashes[0] == hashes[1]
    vm.run_for(1)
    assert vm.state_hash() != hashes[0]


def test_inspect_names_fields(build):
    fields = build().inspect()
    assert len(fields) > 50
    assert all("." in name for name in fields)


def test_two_machines_in_one_process(build):
    machines = [build(COUNT) for _ in range(3)]
    for vm in machines:
        vm.start()
    for vm in machines:
        while vm.instructions == 0:
            time.sleep(0.01)
        vm.pause()
        assert vm.harts[0].x["a0"] > 0


def test_many_harts(build):
    vm = build(SPIN, cpus=8)
    assert [hart.id for hart in vm.harts] == list(range(8))
    vm.start()
    vm.pause()
    assert vm.state == "paused"


def test_pause_and_resume_from_many_threads(build):
    vm = build(COUNT)
    vm.start()

    def toggle():
        for _ in range(50):
            try:
                vm.pause()
                vm.resume()
            except wirt.StateError:
                pass  # another thread was first

    threads = [threading.Thread(target=toggle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    vm.pause()
    assert vm.state == "paused"


def test_keyboard_interrupt_ends_wait(build):
    vm = build()
    vm.start()
    timer = threading.Timer(0.2, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        vm.wait()
    timer.join()
    assert vm.state == "running"


def test_forgotten_machine_is_closed_with_the_interpreter():
    program = (
        "import wirt\n"
        "vm = wirt.Machine(firmware=b'\\x6f\\0\\0\\0', memory='16M')\n"
        "class Slow(wirt.Device):\n"
        "    vm = vm\n"
        "vm.map_device(0x50000000, 0x1000, Slow())\n"
        "vm.start()\n"
    )
    result = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert result.returncode == 0


def test_machine_without_a_reference_ends():
    vm = wirt.Machine(firmware=SPIN, memory="16M")
    vm.start()
    before = threading.active_count()
    del vm
    gc.collect()
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"memory": "12X"}, wirt.ConfigError, "512M"),
        ({"memory": "1M"}, wirt.ConfigError, "16"),
        ({"memory": (16 << 20) + 1}, wirt.ConfigError, "4 KiB"),
        ({"cpus": 0}, wirt.ConfigError, "hart"),
        ({"cpus": 9}, wirt.ConfigError, "8"),
        ({"cpus": -1}, wirt.ConfigError, "cpus"),
        ({"cpus": "2"}, wirt.ConfigError, "cpus"),
        ({"kernel": "/nonexistent/vmlinuz"}, wirt.ImageError, "/nonexistent/vmlinuz"),
        ({"kernel": b""}, wirt.ImageError, "empty"),
        ({"kernel": b"not a kernel" * 100, "firmware": None}, wirt.ImageError, "kernel"),
        ({"initrd": "/nonexistent/initrd"}, wirt.ImageError, "/nonexistent/initrd"),
        ({"nets": ["lan0"]}, wirt.ConfigError, "port"),
        ({"disks": ["/nonexistent/disk.img"]}, wirt.StorageError, "/nonexistent/disk.img"),
    ],
)
def test_what_cannot_be_built_says_why(options, error, words):
    with pytest.raises(error, match=words):
        wirt.Machine(**({"firmware": SPIN, "memory": "16M"} | options))


def test_import_brings_nothing_heavy():
    # The promise of 50 ms is benchmarks/bench_import.py's; it rests on this.
    heavy = "import sys, wirt; print({'numpy', 'rich', 'click', 'zstandard', 'matplotlib'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
