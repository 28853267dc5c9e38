"""A recorded Debian: any moment again, with the interrupt controllers and drivers that the embedded guest lacks."""

from __future__ import annotations

import pytest

import wirt
from wirt.debian import Guest
from wirt.debian.shell import Shell

pytestmark = [pytest.mark.debian, pytest.mark.timeout(900)]

# ARP: who has 10.0.0.1?
QUESTION = bytes.fromhex("ffffffffffff020000000002080600010800060400010200000000020a0000020000000000000a000001")


@pytest.mark.parametrize(
    ("interrupts", "cpus", "model"),
    [("aia", 2, "e1000e"), ("aplic", 1, "virtio-pci"), ("plic", 1, "e1000e")],
    ids=["AIA, e1000e, 2 harts", "APLIC, virtio-pci", "PLIC, e1000e"],
)
def test_any_moment_again(debian: Guest, interrupts: str, cpus: int, model: str) -> None:
    """Of a guest that is typed at, pinged, and whose keyboard and tablet are used."""
    lan = wirt.Switch()
    peer = lan.endpoint()
    with wirt.Machine(
        debian.kernel,
        initrd=debian.initrd,
        cmdline="earlycon=sbi console=ttyS0",
        memory="256M",
        cpus=cpus,
        disks=[wirt.Disk.memory("8M", "virtio-pci"), wirt.Disk.memory("8M", "ahci")],
        nets=[lan.port(mac="02:00:00:00:00:01", model=model)],  # type: ignore[arg-type]
        interrupts=interrupts,  # type: ignore[arg-type]
        virtio="pci",
        input_devices=True,
        deterministic=True,
        seed=1,
    ) as vm:
        vm.record()
        vm.start()
        vm.console.expect("/ # ", timeout=600)
        shell = Shell(vm.console)
        shell.check("modprobe -q virtio_input; ip link set eth0 up; ip addr add 10.0.0.1/24 dev eth0", 300)
        shell.check("(cat /dev/input/event* >/tmp/events &) 2>/dev/null; usleep 100000", 300)
        seen: dict[int, str] = {}

        def note() -> None:
            vm.pause()
            vm.run_for(1000)
            seen[vm.instructions] = vm.state_hash()

        for turn in range(3):
            note()
            vm.keyboard.press("a", "shift")
            vm.tablet.move(0.25 * turn, 0.5)
            peer.send(QUESTION)
            vm.resume()
            shell.check("head -c 65536 /dev/urandom | tee /dev/vda >/dev/sda; sync", 300)
            assert peer.recv(timeout=300)[12:14] in (b"\x08\x06", b"\x86\xdd", b"\x08\x00")
        assert int(shell.check("stat -c %s /tmp/events", 300)) > 0
        note()

        assert vm.recording is not None
        assert vm.recording.checkpoints > 3
        for instant in sorted(seen, key=seen.__getitem__):
            vm.run_to(instant)
            assert (vm.instructions, vm.state_hash()) == (instant, seen[instant])
        vm.run_to()
        assert vm.state_hash() == seen[max(seen)]
