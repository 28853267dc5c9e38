"""Consoles from the host's side, with a guest that echoes."""

from __future__ import annotations

import io
import re

import pytest

import wirt
from support.firmware import SPIN
from wirt.guest_image import guest_image


@pytest.fixture
def echo():
    with wirt.Machine(guest_image(), cmdline="echo", memory="64M") as vm:
        vm.start()
        vm.console.expect("echo ready", timeout=60)
        yield vm


def test_conversation(echo):
    echo.console.send("hello\n")
    match = echo.console.expect("echo: hello", timeout=30)
    assert match.text == "echo: hello"
    assert match.index == 0
    echo.console.send(b"again\n")
    match = echo.console.expect(re.compile(r"echo: (\w+)\r?\n"), timeout=30)
    assert match.groups == ("again",)
    assert "echo: hello" in echo.console.output


def test_first_of_several(echo):
    echo.console.send("abc\n")
    match = echo.console.expect(["never", re.compile("b+c"), "abc"], timeout=30)
    assert match.index in (1, 2)


def test_special_characters_are_text(echo):
    echo.console.send("a.c*\n")
    assert echo.console.expect("echo: a.c*", timeout=30).text == "echo: a.c*"


def test_time_out_shows_the_tail(echo):
    with pytest.raises(wirt.ConsoleTimeout, match="echo ready") as caught:
        echo.console.expect("login:", timeout=0.2)
    assert "login:" in str(caught.value)
    assert "echo ready" in caught.value.tail
    assert isinstance(caught.value, TimeoutError)


def test_stop_is_not_waited_out():
    with wirt.Machine(guest_image(), cmdline="demo", memory="64M") as vm:
        vm.start()
        with pytest.raises(wirt.ConsoleClosed, match="login") as caught:
            vm.console.expect("login:", timeout=600)
        assert "switching off" in caught.value.tail
    assert "switching off" in vm.console.output


def test_silent_guest(build):
    vm = build(SPIN)
    vm.start()
    with pytest.raises(wirt.ConsoleTimeout, match="nor anything else"):
        vm.console.expect("x", timeout=0.05)
    assert vm.console.read() == b""
    assert vm.console.output == ""


def test_consoles_are_told_apart(build):
    vm = build(SPIN)
    vm.bus.write(0x1000_0000, 1, ord("!"))
    assert vm.serial.output == "!"
    assert vm.hvc.output == ""


@pytest.mark.parametrize(("cmdline", "name"), [("", "serial"), ("console=ttyS0", "serial"), ("console=hvc0", "hvc")])
def test_the_command_line_names_the_console(build, cmdline, name):
    vm = build(SPIN, cmdline=cmdline)
    assert vm.console.name == getattr(vm, name).name


def test_interact_begins_where_reading_ended(tmp_path):
    with wirt.Machine(guest_image(), cmdline="demo", memory="64M") as vm, (tmp_path / "in").open("w+b") as stdin:
        vm.start()
        vm.wait(60)
        vm.console.expect("This is the guest")
        shown = io.BytesIO()
        assert not vm.console.interact(stdin, shown, timeout=60)
    assert shown.getvalue().startswith(b" inside Wirt")
    assert b"switching off" in shown.getvalue()
