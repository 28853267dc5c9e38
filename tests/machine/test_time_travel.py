"""The past of a deterministic machine: any moment of it again, bit for bit, with all that came in."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

import wirt
from support.assembler import encode
from wirt.errors import ConfigError, StateError
from wirt.guest_image import guest_image

RAM = 0x8000_0000
IO = "bench=io bench.mb=1 bench.ops=64 bench.console=4096"


def guest(cmdline: str, **options: Any) -> wirt.Machine:
    return wirt.Machine(
        guest_image(), **({"cmdline": cmdline, "memory": "32M", "deterministic": True, "seed": 3} | options)
    )


def echo_program(wait: bool) -> bytes:
    """Sends back what comes over the UART; waits for it in WFI, for ever and without a timer, or looks all the time."""
    t0, t1, t2, a0, a1 = 5, 6, 7, 10, 11
    words = [
        encode("lui", rd=t0, imm=0x10000),  # the UART
        encode("addi", rd=t1, imm=1),
        encode("sb", rs1=t0, rs2=t1, imm=1),  # IER: received data
        encode("lui", rd=t2, imm=0xC000),  # the PLIC: source 10, for hart 0 in M-mode
        encode("sw", rs1=t2, rs2=t1, imm=40),
        encode("lui", rd=t2, imm=0xC002),
        encode("addi", rd=t1, imm=1 << 10),
        encode("sw", rs1=t2, rs2=t1),
        encode("lui", rd=t1, imm=1),
        encode("srli", rd=t1, rs1=t1, imm=1),
        encode("csrrw", rs1=t1, csr="mie"),  # MEIE; mstatus.MIE stays off
        encode("lui", rd=t2, imm=0xC200),
        encode("wfi") if wait else encode("addi"),
        encode("lw", rd=a0, rs1=t2, imm=4),  # claim
        encode("lbu", rd=a1, rs1=t0, imm=5),  # LSR
        encode("andi", rd=a1, rs1=a1, imm=1),
        encode("beq", rs1=a1, imm=16),
        encode("lbu", rd=a1, rs1=t0),
        encode("sb", rs1=t0, rs2=a1),
        encode("jal", imm=-20),
        encode("sw", rs1=t2, rs2=a0, imm=4),  # complete
        encode("jal", imm=-36),
    ]
    return b"".join(word.to_bytes(4, "little") for word in words)


@pytest.fixture(name="echo", params=[False])
def echo_fixture(request: pytest.FixtureRequest) -> Iterator[wirt.Machine]:
    with wirt.Machine(firmware=echo_program(request.param), memory="16M", deterministic=True) as vm:
        yield vm


waits = pytest.mark.parametrize("echo", [True], indirect=True, ids=["WFI"])


def travel(vm: wirt.Machine, seen: dict[int, str], seed: int, journeys: int = 12) -> None:
    """To random moments of which the state is known, forwards and backwards."""
    chance = random.Random(seed)
    for _ in range(journeys):
        instant = chance.choice(list(seen))
        vm.run_to(instant)
        assert vm.instructions == instant
        assert vm.state_hash() == seen[instant]


def walk(vm: wirt.Machine, seed: int, stops: int, longest: int) -> dict[int, str]:
    """Runs on in random steps: the state at each stop."""
    chance = random.Random(seed)
    seen = {}
    for _ in range(stops):
        vm.run_for(chance.randrange(1, longest))
        if vm.state == "stopped":
            break
        seen[vm.instructions] = vm.state_hash()
    return seen


@pytest.mark.parametrize(
    ("cmdline", "options"),
    [
        ("smp smp.count=2000", {"cpus": 4}),
        (IO, {"disks": ["virtio-mmio", "ahci"], "display": "bochs", "input_devices": True}),
        (IO, {"disks": ["ahci"], "packed": True, "iommu": "platform", "cpus": 2}),
    ],
    ids=["4 harts", "disks", "IOMMU, 2 harts"],
)
def test_any_moment_again(cmdline: str, options: dict[str, Any]) -> None:
    buses = options.pop("disks", [])
    disks = [wirt.Disk.memory("4M", bus) for bus in buses]
    with guest(cmdline, disks=disks, **options) as vm:
        vm.record(checkpoint_every=500_000)
        seen = walk(vm, seed=11, stops=25, longest=300_000)
        content = [disk.read(0, disk.size) for disk in disks]
        end = vm.instructions
        assert vm.recording is not None
        assert vm.recording.checkpoints > 3
        travel(vm, seen, seed=12)
        vm.run_to()
        assert vm.instructions == end
        assert vm.state_hash() == seen[end]
        assert [disk.read(0, disk.size) for disk in disks] == content
        assert not vm.recording.replaying


def test_a_recording_changes_nothing_of_the_way() -> None:
    """But for input: that comes in where a replay finds the place again."""
    with guest("smp smp.count=2000", cpus=4) as recorded, guest("smp smp.count=2000", cpus=4) as free:
        recorded.record(checkpoint_every=100_000)
        recorded.run_for(1_000_000)
        free.run_for(1_000_000)
        assert recorded.state_hash() == free.state_hash()


def test_input_between_the_stops(echo: wirt.Machine) -> None:
    echo.record(checkpoint_every=100_000)
    seen = walk(echo, seed=1, stops=6, longest=100_000)
    for word in (b"one\n", b"two\n", b"three\n"):
        echo.serial.send(word)
        seen |= walk(echo, seed=2, stops=4, longest=3_000)
    written = echo.serial.output
    assert "two" in written
    travel(echo, seen, seed=3)
    echo.run_to()
    assert echo.state_hash() == seen[max(seen)]
    assert echo.serial.output == written, "what the guest writes again is not heard twice"


@waits
def test_input_that_arrives_while_it_runs_and_waits(echo: wirt.Machine) -> None:
    echo.record(checkpoint_every=100_000)
    echo.start()
    for word in ("alpha", "beta", "gamma"):
        echo.serial.send(word + "\n")
        echo.serial.expect(word + "\n", timeout=30)
        time.sleep(0.05)
    echo.pause()
    end, final, text = echo.instructions, echo.state_hash(), echo.serial.output
    assert echo.recording is not None
    assert echo.recording.inputs >= 3
    for instant in (end // 2, end // 3, end):
        echo.run_to(instant)
        assert echo.instructions == instant
        echo.run_to()
        assert (echo.instructions, echo.state_hash(), echo.serial.output) == (end, final, text)
    echo.resume()
    echo.serial.send("delta\n")
    echo.serial.expect("delta\n", timeout=30)


def test_in_the_past_it_takes_no_input(echo: wirt.Machine) -> None:
    echo.record(checkpoint_every=100_000)
    echo.run_for(300_000)
    echo.run_to(100_000)
    with pytest.raises(StateError, match="replays"):
        echo.serial.send(b"too late")
    echo.end_recording()
    echo.serial.send(b"another way\n")
    echo.run_for(200_000)
    with pytest.raises(StateError, match="record"):
        echo.run_to(1)


def test_input_while_it_runs(echo: wirt.Machine) -> None:
    echo.record(checkpoint_every=1_000_000)
    echo.start()
    for word in ("alpha", "beta", "gamma"):
        echo.serial.send(word + "\n")
        echo.serial.expect(word + "\n", timeout=30)
    echo.pause()
    final = echo.state_hash()
    text = echo.serial.output
    for _ in range(3):
        echo.step_back(echo.instructions // 2)
        echo.run_to()
        assert (echo.state_hash(), echo.serial.output) == (final, text)


def test_thinned_out() -> None:
    with guest("smp smp.count=2000", cpus=4) as vm:
        vm.record(checkpoint_every=50_000, keep=5)
        seen = walk(vm, seed=5, stops=20, longest=100_000)
        assert vm.recording is not None
        assert vm.recording.checkpoints == 5
        travel(vm, seen, seed=6, journeys=6)


def test_after_the_guest_has_ended() -> None:
    with guest("demo") as vm:
        vm.record(checkpoint_every=200_000)
        vm.start()
        assert vm.wait(60)
        assert vm.stop_reason == "poweroff"
        end = vm.instructions
        vm.step_back(10)
        assert (vm.state, vm.instructions) == ("paused", end - 10)
        vm.resume()
        assert vm.wait(60)
        assert (vm.stop_reason, vm.instructions) == ("poweroff", end)


# Counts in a0, stores each number at sp, and every so often overwrites it.
WORD = RAM + 0x10_0000
PROGRAM = [
    encode("lui", rd=2, imm=0x80100),
    encode("slli", rd=2, rs1=2, imm=32),
    encode("srli", rd=2, rs1=2, imm=32),
    encode("addi", rd=10, rs1=10, imm=1),  # 0x0c
    encode("sd", rs1=2, rs2=10),
    encode("andi", rd=11, rs1=10, imm=1023),
    encode("bne", rs1=11, rs2=0, imm=-12),
    encode("sd", rs1=2, rs2=0),  # 0x1c
    encode("jal", rd=0, imm=-20),
]
COUNT, STORE, CULPRIT = RAM + 0x0C, RAM + 0x10, RAM + 0x1C


@pytest.fixture(name="counter")
def counter_fixture() -> Iterator[wirt.Machine]:
    code = b"".join(word.to_bytes(4, "little") for word in PROGRAM)
    with wirt.Machine(firmware=code, memory="16M", deterministic=True) as vm:
        vm.record(checkpoint_every=20_000)
        vm.run_for(100_003)
        yield vm


def test_back_by_instructions(counter: wirt.Machine) -> None:
    state = counter.state_hash()
    end = counter.instructions
    pcs = []
    for _ in range(6):
        counter.step_back()
        pcs.append(counter.harts[0].pc)
    assert counter.instructions == end - 6
    for pc in reversed(pcs[:-1]):
        counter.run_for(1)
        assert counter.harts[0].pc == pc
    counter.run_for(1)
    assert counter.state_hash() == state
    with pytest.raises(StateError, match="from 0 to 100003"):
        counter.run_to(end + 1)


def test_back_to_who_overwrote_a_word(counter: wirt.Machine) -> None:
    number = counter.harts[0].x["a0"]
    assert counter.run_back_to(CULPRIT)
    assert counter.harts[0].pc == CULPRIT
    assert counter.harts[0].x["a0"] == number - number % 1024
    assert int.from_bytes(counter.memory[WORD : WORD + 8], "little") == number - number % 1024
    counter.run_for(1)
    assert int.from_bytes(counter.memory[WORD : WORD + 8], "little") == 0

    # Each call finds the time before.
    for earlier in range(1, 5):
        assert counter.run_back_to(CULPRIT)
        assert counter.harts[0].x["a0"] == number - number % 1024 - (earlier - 1) * 1024
    assert counter.breakpoints == []


def test_back_over_every_hit(counter: wirt.Machine) -> None:
    """None is missed where a slice or a checkpoint has its bound."""
    number = counter.harts[0].x["a0"]
    counter.add_breakpoint(STORE)
    if counter.harts[0].pc <= STORE:
        number -= 1
    for expected in range(number, number - 40, -1):
        assert counter.run_back_to()
        assert (counter.harts[0].pc, counter.harts[0].x["a0"]) == (STORE, expected)


def test_back_to_what_never_happened(counter: wirt.Machine) -> None:
    state = counter.state_hash()
    assert not counter.run_back_to(RAM + 0x100)
    assert counter.state_hash() == state


def test_what_cannot_be_recorded() -> None:
    with wirt.Machine(memory="16M") as vm, pytest.raises(StateError, match="deterministic"):
        vm.record()
    with guest("demo", pcie_ports=1) as vm:
        with pytest.raises(StateError, match="record"):
            vm.run_to(0)
        with pytest.raises(ConfigError):
            vm.record(checkpoint_every=0)
        vm.record()
        with pytest.raises(StateError, match="record"):
            vm.record()
        with pytest.raises(StateError, match="attach"):
            vm.attach(wirt.Disk.memory("1M", "ahci"))
        with pytest.raises(StateError, match="step"):
            vm.step()
        vm.end_recording()
        vm.step()


def test_frames_and_the_link() -> None:
    lan = wirt.Switch()
    peer = lan.endpoint()
    port = lan.port(mac="02:00:00:00:00:01")
    ping = bytes.fromhex("ffffffffffff020000000002080600010800060400010200000000020a0000020000000000000a000001")
    with guest("net ip=10.0.0.1 net.seconds=600", nets=[port]) as vm:
        vm.record(checkpoint_every=500_000)
        seen = walk(vm, seed=21, stops=5, longest=1_000_000)
        answers = []
        for turn in range(4):
            peer.send(ping)
            seen |= walk(vm, seed=turn, stops=3, longest=20_000)
            answers.append(peer.recv(timeout=10))
        assert answers[0][12:14] == b"\x08\x06"
        port.link = False
        seen |= walk(vm, seed=30, stops=2, longest=50_000)
        port.link = True
        seen |= walk(vm, seed=31, stops=2, longest=50_000)
        travel(vm, seen, seed=22)
        vm.run_to()
        assert vm.state_hash() == seen[max(seen)]
        assert peer.waiting == 0, "no frame is sent twice"
        # Live again.
        peer.send(ping)
        vm.run_for(50_000)
        assert peer.recv(timeout=10)[12:14] == b"\x08\x06"


def test_a_guest_that_only_traps_comes_back() -> None:
    """Its trap vector is where it traps: nothing is retired, for ever."""
    # mtvec is 0 after reset, where nothing is; the second hart does the same.
    with wirt.Machine(firmware=bytes(4), memory="16M", cpus=2, deterministic=True) as vm:
        vm.run_for(1000)
        assert vm.stop_reason == "no_progress"
        assert vm.instructions == 0
        assert vm.state == "paused"
        assert sum(hart.csr["mcycle"] for hart in vm.harts) == 2 * 2 * (10_000 + 1000)
        again = vm.state_hash()
    with wirt.Machine(firmware=bytes(4), memory="16M", cpus=2, deterministic=True) as vm:
        vm.record()
        vm.run_for(1000)
        assert vm.state_hash() == again, "it comes back at the same place"
        vm.run_for(100_000_000)
        assert vm.stop_reason == "no_progress"
        # It can be run, and paused, like any other.
        vm.resume()
        vm.pause()
        vm.run_to()


def test_a_guest_that_traps_now_and_then_is_run_to_the_end() -> None:
    """One trap for every two instructions."""
    words = [
        encode("auipc", rd=5),
        encode("addi", rd=5, rs1=5, imm=16),
        encode("csrrw", rs1=5, csr="mtvec"),
        encode("addi"),
        encode("csrrs", rd=6, csr="mepc"),  # the handler
        encode("addi", rd=6, rs1=6, imm=4),
        encode("ecall"),
    ]
    code = b"".join(word.to_bytes(4, "little") for word in words)
    with wirt.Machine(firmware=code, memory="16M", deterministic=True) as vm:
        vm.run_for(50_000)
        assert (vm.instructions, vm.stop_reason) == (50_000, "step")


def test_a_full_journal_loses_its_beginning(echo: wirt.Machine) -> None:
    echo.record(checkpoint_every=10_000_000, journal="64K")
    seen = walk(echo, seed=1, stops=3, longest=10_000)
    for turn in range(60):
        echo.serial.send(bytes([turn]) * 4096)
        seen |= walk(echo, seed=turn, stops=2, longest=10_000)
    recording = echo.recording
    assert recording is not None
    assert recording.begin > 0
    assert recording.checkpoints > 2, "input alone makes checkpoints"
    kept = {instant: digest for instant, digest in seen.items() if instant >= recording.begin}
    assert 10 < len(kept) < len(seen)
    with pytest.raises(StateError, match=f"from {recording.begin} to"):
        echo.run_to(recording.begin - 1)
    travel(echo, kept, seed=3)
    echo.run_to(recording.begin)
    echo.run_to()
    assert echo.state_hash() == seen[max(seen)]


PING = bytes.fromhex("ffffffffffff020000000002080600010800060400010200000000020a0000020000000000000a000001")


@pytest.mark.parametrize(
    ("options", "model", "bus"),
    [
        ({"virtio": "pci", "packed": True}, "virtio-pci", "virtio-pci"),
        ({"iommu": "platform", "cpus": 2}, "e1000e", "ahci"),
        ({}, "virtio-mmio", "virtio-mmio"),
    ],
    ids=["virtio-pci, packed rings", "e1000e, IOMMU, 2 harts", "virtio-mmio"],
)
def test_frames_and_input_events(options: dict[str, Any], model: Any, bus: Any) -> None:
    lan = wirt.Switch()
    peer = lan.endpoint()
    nets = [lan.port(mac="02:00:00:00:00:01", model=model)]
    disks = [wirt.Disk.memory("1M", bus)]
    with guest("net ip=10.0.0.1 net.seconds=1000000", nets=nets, disks=disks, input_devices=True, **options) as vm:
        vm.record(checkpoint_every=300_000)
        seen = walk(vm, seed=1, stops=6, longest=400_000)
        for turn in range(4):
            peer.send(PING)
            vm.keyboard.press("a", "shift")
            vm.tablet.move(0.25 * turn, 0.5)
            seen |= walk(vm, seed=turn, stops=3, longest=100_000)
        assert peer.recv(timeout=10)[12:14] == b"\x08\x06"
        assert vm.recording is not None
        assert vm.recording.inputs > 12
        travel(vm, seen, seed=2, journeys=8)
        vm.run_to()
        assert vm.state_hash() == seen[max(seen)]
