"""wirt run --control, wirt receive and wirt migrate, three processes."""

from __future__ import annotations

import subprocess
import sys
import time

import wirt
from wirt.guest_image import guest_image


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "wirt", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )


def read_until(process, text):
    seen = b""
    while text not in seen:
        more = process.stdout.read1(4096)
        assert more, seen
        seen += more
    return seen


def test_a_machine_moves_between_two_terminals(tmp_path):
    image = tmp_path / "guest.elf"
    image.write_bytes(guest_image())
    control, address = f"unix:{tmp_path}/control", f"unix:{tmp_path}/there"
    run = start("run", "--kernel", str(image), "--append", "echo", "--memory", "64M", "--control", control)
    receive = start("receive", address)
    try:
        read_until(run, b"echo ready")
        read_until(receive, b"waiting")
        end = time.monotonic() + 30
        while not (tmp_path / "there").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        migrate = start("migrate", control, address)
        said, _ = migrate.communicate(timeout=60)
        assert migrate.returncode == 0, said
        assert b"moved in" in said
        read_until(run, b"runs elsewhere now")
        assert run.wait(30) == 0
        receive.stdin.write(b"hello\n")
        receive.stdin.flush()
        read_until(receive, b"echo: hello")
        receive.stdin.write(b"quit\n")
        receive.stdin.flush()
        assert receive.wait(30) == 0
    finally:
        for process in (run, receive):
            process.kill()
            process.wait()


def test_a_control_socket_says_why_not(tmp_path):
    from wirt.cli.control import Control

    with wirt.Machine(guest_image(), cmdline="echo", memory="64M") as vm:
        control = Control(vm, f"unix:{tmp_path}/control")
        vm.start()
        migrate = start("migrate", f"unix:{tmp_path}/control", f"unix:{tmp_path}/nobody")
        said, _ = migrate.communicate(timeout=60)
        assert migrate.returncode == 70
        assert b"nobody listens there" in said
        assert vm.state == "running"
        control.close()
