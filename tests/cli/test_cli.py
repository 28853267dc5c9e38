"""The command line as its users meet it: a process with a terminal, an exit status, and JSON."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.firmware import FAIL_WITH_7, SPIN
from wirt.cli.app import exit_status
from wirt.cli.machine_options import parse_disk
from wirt.debian.pull import cached_guest
from wirt.errors import ConfigError, StorageError, WirtError

WIRT = [sys.executable, "-m", "wirt"]


def wirt(*arguments, status=0, **options):
    result = subprocess.run(
        [*WIRT, *map(str, arguments)],
        **(
            {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 120, "check": False}
            | options
        ),
    )
    assert result.returncode == status, result.stdout + result.stderr
    return result


@pytest.fixture
def firmware(tmp_path):
    def write(content):
        path = tmp_path / "firmware.bin"
        path.write_bytes(content)
        return path

    return write


class Terminal:
    """A child with a terminal of its own."""

    def __init__(self, *arguments):
        self.output = b""
        self.child, self.descriptor = pty.fork()
        if self.child == 0:
            os.execv(WIRT[0], [*WIRT, *arguments])

    def expect(self, text, timeout=60):
        deadline = time.monotonic() + timeout
        while text not in self.output:
            assert time.monotonic() < deadline, self.output.decode(errors="replace")
            if select.select([self.descriptor], [], [], 0.1)[0]:
                try:
                    self.output += os.read(self.descriptor, 4096)
                except OSError:
                    break
        assert text in self.output, self.output.decode(errors="replace")

    def type(self, text):
        os.write(self.descriptor, text)

    def status(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            done, status = os.waitpid(self.child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if select.select([self.descriptor], [], [], 0.1)[0]:
                try:
                    self.output += os.read(self.descriptor, 4096)
                except OSError:
                    time.sleep(0.05)
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        raise AssertionError("the command did not end")


def test_help_and_version():
    text = wirt("--help").stdout
    for command in ("run", "bench", "doctor", "pull", "inspect", "demo"):
        assert re.search(rf"^  {command}\b", text, re.MULTILINE)
        assert "Usage" in wirt(command, "--help").stdout
    assert re.search(r"\d+\.\d+\.\d+", wirt("--version").stdout)


def test_run_ends_as_the_guest_does(firmware):
    assert "all is well" in wirt("run", "demo", "-m", "64M", "-d", "memory=1M", "-d", "memory=1M,bus=ahci").stdout
    wirt("run", "--firmware", firmware(FAIL_WITH_7), "-m", "16M", status=7)


def test_run_can_be_limited_in_time(firmware):
    result = wirt("run", "--firmware", firmware(SPIN), "-m", "16M", "--timeout", "0.3", status=124)
    assert "time is up" in result.stderr


def test_run_prints_counters():
    document = json.loads(wirt("run", "demo", "-m", "64M", "--stats").stderr)
    assert document["instructions"] > 1000


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["run"], 71, "--kernel"),
        (["run", "plan9"], 71, "demo"),
        (["run", "-k", "/nonexistent"], 72, "/nonexistent"),
        (["run", "demo", "-d", "/nonexistent.img"], 73, "/nonexistent.img"),
        (["run", "demo", "-d", "memory=1M,speed=9"], 71, "speed=9"),
        (["run", "demo", "-m", "lots"], 71, "512M"),
        (["run", "demo", "--cpus", "many"], 2, "many"),
        (["run", "demo", "--frobnicate"], 2, "frobnicate"),
        (["pull", "windows"], 2, "windows"),
        (["pull", "debian", "--mirror", "nowhere"], 76, "nowhere"),
        (["bench", "io", "--plot", "/tmp/chart.txt"], 71, ".png"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_mistakes_are_one_line_and_a_status(arguments, status, words):
    result = wirt(*arguments, status=status)
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    if status != 2:
        assert re.fullmatch(r"wirt: .*\n", result.stderr)


def test_every_error_has_a_status():
    def kinds(kind):
        yield kind
        for derived in kind.__subclasses__():
            yield from kinds(derived)

    for kind in kinds(WirtError):
        assert 70 <= exit_status(kind("x")) < 80


def test_disk_notation(tmp_path):
    file = tmp_path / "disk.img"
    file.write_bytes(bytes(1 << 20))
    disk = parse_disk(f"{file},bus=ahci,ro,serial=S1")
    assert (disk.size, disk.bus, disk.read_only, disk.serial) == (1 << 20, "ahci", True, "S1")
    assert parse_disk("memory=2M,queues=2").size == 2 << 20
    for text, error in (("memory=1M,ro", ConfigError), ("x,bus", ConfigError), ("/nonexistent", StorageError)):
        with pytest.raises(error):
            parse_disk(text)


def test_console_on_a_terminal():
    terminal = Terminal("run", "demo", "-m", "64M", "--append", "echo")
    terminal.expect(b"Ctrl-]")
    terminal.expect(b"echo ready")
    terminal.type(b"hello\n")
    terminal.expect(b"echo: hello")
    # Ctrl-C is the guest's; the machine goes on.
    terminal.type(b"\x03\nstill here\n")
    terminal.expect(b"still here")
    terminal.type(b"\x1d")
    assert terminal.status() == 0


def test_interrupt_without_a_terminal():
    process = subprocess.Popen(
        [*WIRT, "run", "demo", "-m", "64M", "--append", "echo"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if "echo ready" in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == "wirt: interrupted"


def test_doctor():
    result = wirt("doctor")
    assert "python" in result.stdout
    findings = json.loads(wirt("doctor", "--json").stdout)
    assert {"what", "verdict", "value", "advice"} == set(findings[0])
    assert not [finding for finding in findings if finding["verdict"] == "bad"]


def test_inspect(tmp_path):
    document = json.loads(wirt("inspect", "demo", "--json", "--cpus", "2", "--dump-dtb", tmp_path / "x.dtb").stdout)
    assert document["state"] == "created"
    assert len(document["harts"]) == 2
    assert (tmp_path / "x.dtb").read_bytes()[:4] == b"\xd0\x0d\xfe\xed"
    assert "uart" in wirt("inspect", "demo", "--run", "0.5").stdout


def test_bench_io(tmp_path):
    result = wirt(
        "bench", "io", "--quick", "--repeats", "1", "--only", "console",
        "--json", tmp_path / "io.json", "--plot", tmp_path / "io.svg",
    )  # fmt: skip
    assert "virtio-console" in result.stdout
    document = json.loads((tmp_path / "io.json").read_text())
    assert {comparison["kind"] for comparison in document["comparisons"]} == {"console"}
    assert b"<svg" in (tmp_path / "io.svg").read_bytes()
    assert json.loads(wirt("bench", "io", "--quick", "--repeats", "1", "--only", "console", "--json", "-").stdout)


def test_bench_virt(tmp_path):
    result = wirt(
        "bench", "virt", "--causes", "--only", "bare", "--only", "trap-and-emulate", "--json", tmp_path / "virt.json"
    )
    assert "trap-and-emulate" in result.stdout
    assert "illegal instruction" in result.stdout
    document = json.loads((tmp_path / "virt.json").read_text())
    assert document["platforms"] == ["bare", "trap-and-emulate"]
    assert json.loads(wirt("bench", "virt", "--only", "bare", "--json", "-").stdout)["platforms"] == ["bare"]


def test_run_debian_before_the_pull(tmp_path):
    result = wirt("run", "debian", status=71, env={**os.environ, "WIRT_CACHE_DIR": str(tmp_path)})
    assert "wirt pull debian" in result.stderr


@pytest.mark.debian
@pytest.mark.timeout(600)
def test_pull_and_run_debian():
    pulled = json.loads(wirt("pull", "debian", "--json", timeout=300).stdout)
    assert Path(pulled["kernel"]).stat().st_size > 1 << 20
    guest = cached_guest()
    assert guest is not None
    assert guest.release == pulled["release"]
    terminal = Terminal("run", "debian", "-d", "memory=16M", "-d", "memory=16M,bus=ahci", "--net")
    terminal.expect(b"/ # ", timeout=300)
    terminal.type(b"uname -r; echo disks $(ls /sys/block | grep -c -e vda -e sda)\n")
    terminal.expect(pulled["release"].encode())
    terminal.expect(b"disks 2")
    terminal.type(b"poweroff\n")
    assert terminal.status() == 0
