"""What a user gets wrong is answered by an error that says so, and never by a hang."""

from __future__ import annotations

import pytest

import wirt

# lui a0, 0x50000; 1: lw a1, 0(a0); sw a1, 4(a0); j 1b
ASK_FOREVER = b"".join(word.to_bytes(4, "little") for word in (0x50000537, 0x00052583, 0x00B52223, 0xFF9FF06F))


class Awkward(wirt.Device):
    name = "awkward"

    def __init__(self, act) -> None:
        self.act = act

    def read(self, offset: int, size: int) -> int:
        return self.act()


@pytest.mark.parametrize("method", ["pause", "resume", "wait", "step", "close"])
def test_a_device_cannot_wait_for_its_own_hart(build, method: str) -> None:
    vm = build(ASK_FOREVER)
    vm.map_device(0x5000_0000, 0x1000, Awkward(lambda: getattr(vm, method)()))
    vm.start()
    with pytest.raises(wirt.StateError, match="from another thread"):
        vm.wait(30)
    assert (vm.state, vm.stop_reason) == ("paused", "host_error")


def test_a_device_may_step_another_machine(build) -> None:
    other, vm = build(), build(ASK_FOREVER)

    def step_other() -> int:
        other.step(1)
        return other.instructions

    vm.map_device(0x5000_0000, 0x1000, Awkward(step_other))
    vm.step(2)
    assert vm.harts[0].x["a1"] == other.instructions == 1


@pytest.mark.parametrize(("answer", "kind"), [("text", "str"), (None, "NoneType"), (1.5, "float")])
def test_a_device_that_answers_no_integer_is_named(build, answer, kind: str) -> None:
    vm = build(ASK_FOREVER)
    vm.map_device(0x5000_0000, 0x1000, Awkward(lambda: answer))
    with pytest.raises(TypeError, match=f"device awkward: .* not {kind}"):
        vm.step(2)


def test_what_is_no_device_is_refused(build) -> None:
    with pytest.raises(wirt.ConfigError, match=r"wirt\.Device"):
        build().map_device(0x5000_0000, 0x1000, object())
    with pytest.raises(wirt.ConfigError, match="base -1"):
        build().map_device(-1, 0x1000, wirt.Device())


def test_a_port_is_for_one_card(build) -> None:
    lan = wirt.Switch()
    port, other = lan.port(), lan.port()
    build(nets=[port])
    with pytest.raises(wirt.ConfigError, match=r"lan\.port"):
        build(nets=[port])
    with pytest.raises(wirt.ConfigError, match=r"lan\.port"):
        build(nets=[other, other])
    # What was refused has taken nothing.
    build(nets=[other])


def test_a_closed_end_point_says_so_at_once() -> None:
    lan = wirt.Switch()
    sender, receiver = lan.endpoint(), lan.endpoint()
    sender.send(b"\xff" * 6 + bytes(54))
    receiver.close()
    assert len(receiver.recv()) == 60
    with pytest.raises(wirt.NetworkError, match="closed"):
        receiver.recv()


def test_memory_has_no_negative_addresses(build) -> None:
    with pytest.raises(wirt.AddressError, match="-16"):
        build().memory[-16:]


@pytest.mark.parametrize("address", [-1, 1 << 64, "main"])
def test_a_breakpoint_is_an_address(build, address) -> None:
    with pytest.raises(wirt.ConfigError, match="address"):
        build().add_breakpoint(address)


def test_the_command_line_is_a_text(build) -> None:
    with pytest.raises(wirt.ConfigError, match="cmdline"):
        build(cmdline=None)
