"""Fork, reset and Pool."""

from __future__ import annotations

import threading

import pytest

import wirt
from support.firmware import COUNT, POWER_OFF, RAM
from wirt import _core
from wirt.guest_image import guest_image

_PAGE = 4096


@pytest.fixture
def parent():
    with wirt.Machine(guest_image(), cmdline="echo", memory="64M") as vm:
        vm.start()
        vm.console.expect("echo ready")
        yield vm


def close(machines: list[wirt.Machine]) -> None:
    for machine in machines:
        machine.close()


def say(vm: wirt.Machine, text: str) -> None:
    vm.console.send(f"{text}\n")
    vm.console.expect(f"echo: {text}")


def generation(vm: wirt.Machine) -> int:
    return vm.bus.read(0x10_2000, 8)


def test_clones_run_on_their_own(parent: wirt.Machine) -> None:
    clones = parent.fork(3)
    assert [clone.state for clone in clones] == ["running"] * 3
    assert parent.state == "running"
    for number, clone in enumerate(clones):
        say(clone, f"clone {number}")
    say(parent, "parent")
    assert "clone" not in parent.console.output
    close(clones)
    say(parent, "still here")


def test_clones_share_nothing_that_is_written(parent: wirt.Machine) -> None:
    parent.pause()
    end = RAM + (48 << 20)  # free memory of this guest
    first, second = parent.fork(2)
    for vm, value in ((parent, b"parent"), (first, b"first."), (second, b"second")):
        vm.memory[end - _PAGE : end - _PAGE + 6] = value
    third = parent.fork()[0]
    parent.memory[end - 2 * _PAGE] = 9
    assert first.memory[end - _PAGE : end - _PAGE + 6] == b"first."
    assert second.memory[end - _PAGE : end - _PAGE + 6] == b"second"
    assert third.memory[end - _PAGE : end - _PAGE + 6] == b"parent"
    assert third.memory[end - 2 * _PAGE] == 0
    close([first, second, third])


@pytest.mark.parametrize("dirty_pages", [0, 3, 2000, 9000])
def test_forks_of_forks_and_resets(dirty_pages: int) -> None:
    """However much was written since: a few pages are copied, of many a new image is made."""
    with wirt.Machine(firmware=COUNT, memory="64M", deterministic=True) as vm:
        vm.run_for(1000)
        child = vm.fork(identity=False)[0]
        begin = child.state_hash()
        assert begin == vm.state_hash()
        for page in range(dirty_pages):
            child.memory[RAM + (1000 + page) * _PAGE] = 1 + page % 255
        child.run_for(500)
        later = child.state_hash()
        grandchild = child.fork(identity=False)[0]
        assert grandchild.state_hash() == later
        for vm_, wanted in ((child, begin), (grandchild, later)):
            vm_.run_for(77)
            for page in range(50):
                vm_.memory[RAM + (3000 + page) * _PAGE] = 5
            assert vm_.state_hash() != wanted
            assert vm_.reset() >= 50
            assert vm_.state_hash() == wanted
            assert vm_.reset() == 0 or vm_ is child  # the image that it shares is another than it began with
            assert vm_.state_hash() == wanted
        close([child, grandchild])


def test_equal_clones_go_on_equally() -> None:
    with wirt.Machine(guest_image(), cmdline="smp", memory="64M", cpus=4, deterministic=True) as vm:
        vm.run_for(400_000)
        clone = vm.fork(identity=False)[0]
        for _ in range(4):
            vm.run_for(33_333)
            clone.run_for(33_333)
            assert vm.state_hash() == clone.state_hash()
        clone.close()


def test_identity(parent: wirt.Machine) -> None:
    parent.pause()
    clones = parent.fork(3) + parent.fork(identity=False)
    ids = [generation(vm) for vm in [parent, *clones]]
    assert len(set(ids[:4])) == 4
    assert ids[4] == ids[0]
    close(clones)


def test_seeded_entropy_parts(parent: wirt.Machine) -> None:
    with wirt.Machine(firmware=COUNT, memory="16M", deterministic=True, seed=7) as vm:
        vm.run_for(10)
        same, other = vm.fork(identity=False)[0], vm.fork()[0]
        assert same.state_hash() == vm.state_hash() != other.state_hash()
        assert {key for key, value in vm.inspect().items() if other.inspect()[key] != value} >= {"entropy.state"}
        close([same, other])


def test_the_wall_clock_goes_on_or_jumps() -> None:
    with wirt.Machine(firmware=COUNT, memory="16M", deterministic=True) as vm:
        vm.run_for(10)
        goes_on, jumps = vm.fork()[0], vm.fork(clock="jump")[0]
        rtc = 0x10_1000
        seconds = {
            name: c.bus.read(rtc, 4) | c.bus.read(rtc + 4, 4) << 32 for name, c in (("on", goes_on), ("jump", jumps))
        }
        assert seconds["jump"] - seconds["on"] > 24 * 3600 * 10**9  # the deterministic calendar begins in January 2026
        close([goes_on, jumps])
        with pytest.raises(wirt.ConfigError, match="clock 'stop'"):
            vm.fork(clock="stop")


def test_disks_part_at_the_fork() -> None:
    disks = [wirt.Disk.memory("1M"), wirt.Disk.memory("1M", bus="ahci"), wirt.Disk.memory("1M", bus="virtio-pci")]
    for disk in disks:
        disk.write(0, b"before")
    with wirt.Machine(firmware=COUNT, memory="16M", disks=disks) as vm:
        clone = vm.fork()[0]
        grandchild = clone.fork()[0]
        for mine, its in zip(vm.disks, clone.disks, strict=True):
            mine.write(0, b"parent")
            its.write(4096, b"clone")
            assert mine.read(4096, 5) == bytes(5)
            assert its.read(0, 6) == b"before"
        for disk in grandchild.disks:
            assert disk.read(0, 6) == b"before"
            assert disk.read(4096, 5) == bytes(5)
        clone.reset()
        for disk in clone.disks:
            assert disk.read(0, 6) == b"before"
            assert disk.read(4096, 5) == bytes(5)
        # What the clone's guest is given after the reset is what Python sees.
        assert [disk.bus for disk in clone.disks] == [disk.bus for disk in disks]
        close([clone, grandchild])


def test_what_was_attached_is_there_in_the_clone() -> None:
    lan = wirt.Switch()
    with wirt.Machine(firmware=COUNT, memory="16M", pcie_ports=2) as vm:
        vm.attach(wirt.Disk.memory("1M", bus="ahci"), slot=20)
        gone = wirt.Disk.memory("1M", bus="virtio-pci")
        vm.attach(gone)
        vm.attach(lan.port(model="e1000e"))
        vm.detach(gone)
        clone = vm.fork(identity=False)[0]
        assert clone.state_hash() == vm.state_hash()
        assert [device.name for device in clone.devices] == [device.name for device in vm.devices]
        assert clone.reset() == 0
        clone.attach(wirt.Disk.memory("1M", bus="ahci"))
        with pytest.raises(wirt.StateError, match="attached or detached since"):
            clone.reset()
        clone.close()


def test_nics() -> None:
    lan = wirt.Switch()
    nets = [lan.port("02:00:00:00:00:01"), lan.port("02:00:00:00:00:02", model="e1000e")]
    with wirt.Machine(firmware=COUNT, memory="16M", nets=nets) as vm:
        alone = vm.fork()[0]
        seen = []

        def choose(number: int, port: wirt.Port) -> wirt.Port:
            seen.append((number, port.mac))
            return lan.port(f"02:00:00:00:01:{number:02x}", model=port.model)

        two = vm.fork(2, nets=choose)
        assert seen == [(n, port.mac) for n in (0, 1) for port in nets]
        with pytest.raises(wirt.ConfigError, match="the clone's NIC is a"):
            vm.fork(nets=lambda _number, _port: lan.port(model="virtio-pci"))
        close([alone, *two])


def test_reset_after_the_guest_ended() -> None:
    with wirt.Machine(firmware=POWER_OFF, memory="16M") as vm:
        clone = vm.fork(start=False)[0]
        for _ in range(3):
            clone.resume()
            assert clone.wait(10)
            assert (clone.state, clone.stop_reason) == ("stopped", "poweroff")
            clone.reset()
            assert (clone.state, clone.stop_reason) == ("paused", "none")
        clone.close()


def test_reset_undoes_code(parent: wirt.Machine) -> None:
    """What was decoded from memory that is put back must not run again."""
    clone = parent.fork()[0]
    say(clone, "one")
    clone.pause()
    entry = clone.harts[0].pc
    clone.memory[RAM : RAM + (4 << 20)] = bytes(4 << 20)  # all of the kernel
    clone.resume()
    clone.pause()
    clone.reset()
    clone.resume()
    say(clone, "two")
    assert entry != 0
    clone.close()


def test_console_positions_after_reset(parent: wirt.Machine) -> None:
    clone = parent.fork()[0]
    for number in range(3):
        say(clone, f"round {number}")
        clone.pause()
        clone.reset()
        clone.resume()
    clone.close()


def test_refusals(parent: wirt.Machine, tmp_path) -> None:
    with pytest.raises(wirt.StateError, match="did not begin"):
        parent.pause() or parent.reset()
    for count in (0, -1, True, 1.5):
        with pytest.raises(wirt.ConfigError, match="count"):
            parent.fork(count)
    clone = parent.fork(start=True)[0]
    with pytest.raises(wirt.StateError, match="running"):
        clone.reset()
    clone.close()
    with pytest.raises(wirt.StateError):
        clone.reset()
    with pytest.raises(wirt.StateError):
        clone.fork()

    class Dice(wirt.Device):
        pass

    with wirt.Machine(firmware=COUNT, memory="16M") as vm:
        vm.map_device(0x6000_0000, 0x1000, Dice())
        with pytest.raises(wirt.StateError, match=r"Dice: .* no save\(\) and load\(\)"):
            vm.fork()


def test_a_cable_that_is_out_is_out_in_the_clone() -> None:
    nets = [wirt.Switch().port(), wirt.Switch().port(model="e1000e")]
    with wirt.Machine(firmware=COUNT, memory="16M", deterministic=True, nets=nets) as vm:
        nets[0].link = nets[1].link = False
        vm.run_for(100)
        (clone,) = vm.fork(identity=False)
        with clone:
            assert [net.link for net in clone._nets] == [False, False]
            for machine in (vm, clone):
                machine.run_for(100_000)
            assert clone.state_hash() == vm.state_hash()


def test_pool(parent: wirt.Machine) -> None:
    with wirt.Pool(parent, size=2) as pool:
        assert parent.state == "paused"
        taken = [pool.take(timeout=30) for _ in range(5)]
        for number, vm in enumerate(taken):
            say(vm, f"vm {number}")
        ids = {id(vm) for vm in taken}
        pool.recycle(taken[0])
        close(taken[1:])
        again = [pool.take(timeout=30) for _ in range(4)]
        assert any(id(vm) in ids for vm in again)
        for vm in again:
            say(vm, "again")
        close(again)
    assert parent.state == "closed"
    with pytest.raises(wirt.StateError, match="closed"):
        pool.take()
    with pytest.raises(wirt.ConfigError, match="size"):
        wirt.Pool(parent, size=0)


def test_forks_from_several_threads(parent: wirt.Machine) -> None:
    clones: list[wirt.Machine] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                clones.extend(parent.fork(2))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for clone in clones:
        say(clone, "here")
    close(clones)


def test_saved_state_says_what_it_holds() -> None:
    with wirt.Machine(firmware=COUNT, memory="16M", deterministic=True) as vm:
        vm.run_for(100)
        records = _core.save_state(vm._core).records()
        assert records[0][:2] == ("section", "machine")
        assert ("integer", "pc", vm.harts[0].pc) in records
