"""Debian's unmodified kernel on this machine: ``wirt pull debian`` has to be run first.

Its drivers are the oracle: each test ends by asking the kernel's log whether one of them had something to complain of.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

import wirt
from wirt.debian import Guest
from wirt.debian.shell import Shell

pytestmark = [pytest.mark.debian, pytest.mark.timeout(900)]

PROMPT = "/ # "
BOOT_S = 600  # a guest that hangs is what is looked for, not one on a busy host
OPENSBI = Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin")


def machine(guest: Guest, console: str = "ttyS0", **options: object) -> wirt.Machine:
    # OpenSBI 1.1 has no debug console yet.
    early = "" if options.get("firmware") else "earlycon=sbi "
    cmdline = f"{early}console={console}"
    return wirt.Machine(guest.kernel, initrd=guest.initrd, cmdline=cmdline, **options)  # type: ignore[arg-type]


def shell_of(vm: wirt.Machine) -> Shell:
    vm.console.expect(PROMPT, timeout=BOOT_S)
    return Shell(vm.console)


def kernel_warnings(shell: Shell) -> str:
    # virtio-console over virtio-mmio is there once the initramfs has loaded virtio_mmio, not before.
    return shell.check("dmesg -r | grep '^<[0-4]>' | grep -v 'unable to open an initial console' || true")


@pytest.mark.parametrize(
    ("cpus", "firmware", "console", "wiring"),
    [
        (1, None, "ttyS0", {}),
        pytest.param(4, None, "hvc0", {"virtio": "pci", "packed": True}, marks=pytest.mark.sanitizers),
        (1, OPENSBI, "hvc0", {"packed": True}),
        (4, OPENSBI, "ttyS0", {"virtio": "pci"}),
    ],
    ids=["1 hart", "4 harts, PCI, packed rings", "OpenSBI, packed rings", "OpenSBI, 4 harts, PCI"],
)
def test_boots_to_a_shell_with_disks_that_keep_what_is_written(
    debian: Guest, cpus: int, firmware: Path | None, console: str, wiring: dict[str, object]
) -> None:
    disks = {
        "vda": wirt.Disk.memory("16M"),
        "vdb": wirt.Disk.memory("16M", queues=4),
        "sda": wirt.Disk.memory("16M", "ahci"),
    }
    content = os.urandom(4 << 20)
    disks["vda"].write(0, content)
    digest = hashlib.sha256(content).hexdigest()

    with machine(debian, console, cpus=cpus, firmware=firmware, disks=list(disks.values()), **wiring) as vm:
        vm.start()
        shell = shell_of(vm)

        features = shell.check("cat /sys/block/vda/device/features")
        assert features[34] == str(int("packed" in wiring)), "VIRTIO_F_RING_PACKED is taken where it is offered"
        assert ("pci" in shell.check("readlink /sys/block/vda")) == ("virtio" in wiring)

        assert shell.check("grep -c ^processor /proc/cpuinfo") == str(cpus)
        is_opensbi = "SBI implementation ID=0x1 " in shell.check("dmesg | grep SBI")
        assert is_opensbi == (firmware is not None)

        # One disk to the next, through the page cache and past it, in large and in small requests.
        shell.check("dd if=/dev/vda of=/dev/sda bs=1M count=4 conv=fsync")
        shell.check("dd if=/dev/sda of=/dev/vdb bs=4k count=1024 oflag=direct")
        shell.check("echo 3 >/proc/sys/vm/drop_caches")
        for name, disk in disks.items():
            assert digest in shell.check(f"dd if=/dev/{name} bs=64k count=64 2>/dev/null | sha256sum"), name
            assert disk.read(0, len(content)) == content, name

        assert kernel_warnings(shell) == ""
        vm.console.send("poweroff\n")
        assert vm.wait(60)
        assert vm.stop_reason == "poweroff"


def test_the_advanced_interrupt_architecture_carries_every_interrupt(debian: Guest) -> None:
    content = os.urandom(4 << 20)
    disks = [wirt.Disk.memory("16M"), wirt.Disk.memory("16M", "virtio-pci"), wirt.Disk.memory("16M", "ahci")]
    disks[2].write(0, content)
    with machine(debian, cpus=4, disks=disks, interrupts="aia", guest_files=1, isa="rva23s64") as vm:
        vm.start()
        shell = shell_of(vm)
        # Of the profile the kernel names what it knows.
        found = set(shell.check("grep -m1 '^isa' /proc/cpuinfo").split(":")[1].strip().split("_"))
        assert {"rv64imafdcvh", "zicond", "zfa", "zcb", "zba", "zvbb", "zawrs", "svinval", "svnapot", "svpbmt"} <= found
        assert "providing IPIs using interrupt 1" in shell.check("dmesg | grep imsic")
        assert "forwarded to MSI base" in shell.check("dmesg | grep aplic")

        for copy in ("vda", "vdb"):
            shell.check(f"dd if=/dev/sda of=/dev/{copy} bs=4k count=1024 iflag=direct oflag=direct")
        assert all(disk.read(0, len(content)) == content for disk in disks)

        # Wires through the APLIC, PCI functions by messages of their own, harts to one another by the files.
        interrupts = shell.check("cat /proc/interrupts")
        for controller, device in (("APLIC-MSI-", "ttyS0"), ("APLIC-MSI-", r"virtio\d"), ("PCI-MSI-", "ahci")):
            assert re.search(rf" {controller}.* {device}", interrupts), interrupts
        assert re.search(r" PCI-MSIX-.* virtio\d-req\.0", interrupts), interrupts
        stats = vm.stats()
        written = {count.cause for count in stats.exits if count.device == "imsic-s" and count.writes}
        assert {f"seteipnum_le[{hart}]" for hart in range(4)} <= written
        assert stats.sbi_calls.get("IPI", 0) == 0

        assert kernel_warnings(shell) == ""
        vm.console.send("poweroff\n")
        assert vm.wait(60)


@pytest.mark.parametrize("interrupts", ["plic", "aplic", "aia"])
def test_a_new_generation_reseeds_the_kernels_random_numbers(debian: Guest, interrupts: str) -> None:
    reseeded = "dmesg | grep -c 'crng reseeded due to virtual machine fork' || true"
    with machine(debian, interrupts=interrupts) as vm:
        vm.start()
        shell = shell_of(vm)
        assert "Edge" in shell.check("grep vmgenid /proc/interrupts")
        assert shell.check(reseeded) == "0"
        for number in (1, 2):
            vm._core.new_generation()
            shell.check(f"while [ $({reseeded}) -lt {number} ]; do usleep 20000; done")
            assert shell.check(reseeded) == str(number)
        assert re.search(r":\s+2 ", shell.check("grep vmgenid /proc/interrupts"))

        assert kernel_warnings(shell) == ""
        vm.console.send("poweroff\n")
        assert vm.wait(60)


def set_up_network(vm: wirt.Machine, number: int) -> Shell:
    shell = shell_of(vm)
    shell.check(f"ip addr add 10.0.0.{number}/24 dev eth0 && ip link set eth0 up")
    return shell


def send_disk(source: Shell, sink: Shell, address: str) -> None:
    """All of vda from one guest to the other's, over TCP."""
    disk = "dd of=/dev/vda bs=1M iflag=fullblock conv=fsync"
    sink.check(f"rm -f /tmp/status; (nc -l -p 5000 -e {disk}; echo $? >/tmp/status) 2>/dev/null &")
    sink.check("while ! grep -q ':1388 .* 0A ' /proc/net/tcp /proc/net/tcp6; do usleep 100000; done")
    source.check(f"nc {address} 5000 -e dd if=/dev/vda bs=1M", timeout=300)
    sink.check("while [ ! -s /tmp/status ]; do usleep 20000; done; grep -q ^0 /tmp/status", timeout=300)


def assert_reached(shell: Shell, address: str) -> None:
    statistics = shell.check(f"ping -c 3 -s 1400 -q {address}")
    assert re.search(r"3 packets transmitted, 3 packets received", statistics)


def test_two_guests_reach_each_other_through_the_switch(debian: Guest) -> None:
    lan = wirt.Switch()
    size = 16 << 20
    disks = [wirt.Disk.memory(size), wirt.Disk.memory(size)]
    disks[0].write(0, os.urandom(size))
    with (
        machine(debian, cpus=1, nets=[lan.port()], disks=disks[:1]) as one,
        machine(debian, cpus=2, nets=[lan.port(queue_pairs=2)], disks=disks[1:], virtio="pci", packed=True) as other,
    ):
        for vm in (one, other):
            vm.start()
        shells = [set_up_network(vm, number) for number, vm in enumerate((one, other), start=1)]
        for shell, address in zip(shells, ("10.0.0.2", "10.0.0.1"), strict=True):
            assert_reached(shell, address)
        send_disk(*shells, "10.0.0.2")
        assert disks[0].read(0, size) == disks[1].read(0, size)
        for shell in shells:
            assert kernel_warnings(shell) == ""


def test_an_e1000e_with_messages_and_a_virtio_nic(debian: Guest) -> None:
    lan = wirt.Switch()
    size = 16 << 20
    disks = [wirt.Disk.memory(size), wirt.Disk.memory(size)]
    disks[0].write(0, os.urandom(size))
    cable = lan.port("52:54:00:12:34:56", model="e1000e")
    with (
        machine(debian, cpus=2, nets=[cable], disks=disks[:1], interrupts="aia") as one,
        machine(debian, nets=[lan.port()], disks=disks[1:]) as other,
    ):
        for vm in (one, other):
            vm.start()
        shells = [set_up_network(vm, number) for number, vm in enumerate((one, other), start=1)]
        assert "52:54:00:12:34:56" in shells[0].check("dmesg | grep 'e1000e.*eth0: (PCI Express'")
        interrupts = shells[0].check("cat /proc/interrupts")
        for vector in ("eth0-rx-0", "eth0-tx-0", "eth0"):
            assert re.search(rf" PCI-MSIX-.* {vector}$", interrupts, re.MULTILINE), interrupts

        for shell, address in zip(shells, ("10.0.0.2", "10.0.0.1"), strict=True):
            assert_reached(shell, address)
        content = disks[0].read(0, size)
        send_disk(*shells, "10.0.0.2")
        assert disks[1].read(0, size) == content
        shells[0].check(f"dd if=/dev/zero of=/dev/vda bs=1M count={size >> 20} conv=fsync")
        send_disk(*reversed(shells), "10.0.0.1")
        assert disks[0].read(0, size) == content

        # Segments are cut by the NIC and not by the kernel, and nothing was lost or damaged.
        (nic,) = (device for device in one.devices if device.name == "e1000e0")
        assert nic.bytes_moved == nic.bytes_copied >= 2 * size
        errors = shells[0].check("cat /sys/class/net/eth0/statistics/[rt]x_errors")
        assert errors.split() == ["0", "0"]

        for link in (False, True):
            cable.link = link
            shells[0].check(
                f"while [ $(cat /sys/class/net/eth0/carrier) != {int(link)} ]; do usleep 50000; done", timeout=60
            )
        assert_reached(shells[0], "10.0.0.2")
        for shell in shells:
            assert kernel_warnings(shell) == ""


@pytest.mark.parametrize(("form", "interrupts"), [("platform", "plic"), ("platform", "aia"), ("pci", "aia")])
def test_the_iommu_in_strict_mode(debian: Guest, form: str, interrupts: str) -> None:
    """All disks behind it, each kind of bus; what the driver has set up is read back from the registers.

    Every requester has a device context of its own, whose first stage is Bare: Linux 7.2 lets its DMA API use an IOMMU
    on Arm, x86 and s390 only (IOMMU_DMA in drivers/iommu/Kconfig), whatever the command line says.
    """
    buses = ("virtio-mmio", "virtio-pci", "ahci")
    disks = {bus: wirt.Disk.memory(f"{16 << i}M", bus) for i, bus in enumerate(buses)}
    content = os.urandom(4 << 20)
    disks["virtio-mmio"].write(0, content)
    digest = hashlib.sha256(content).hexdigest()
    with wirt.Machine(
        debian.kernel,
        initrd=debian.initrd,
        cmdline="earlycon=sbi console=ttyS0 iommu.passthrough=0 iommu.strict=1",
        disks=list(disks.values()),
        iommu=form,
        interrupts=interrupts,
    ) as vm:
        vm.start()
        shell = shell_of(vm)
        assert "DMA domain TLB invalidation policy: strict mode" in shell.check("dmesg")
        # AHCI, the PCI disk and the virtio-mmio slots that are taken.
        assert int(shell.check("ls /sys/kernel/iommu_groups | wc -l")) >= 4
        assert shell.check("cat /sys/kernel/iommu_groups/*/type | sort -u") == "identity"
        # Which virtio disk is vda depends on who is probed first; the sizes tell.
        sectors = {f"{disk.size >> 9}": bus for bus, disk in disks.items()}
        listing = shell.check("cd /sys/block; for disk in vda vdb sda; do echo $disk $(cat $disk/size); done")
        names = {sectors[size]: name for name, size in map(str.split, listing.splitlines())}
        mmio, pci, ahci = (names[bus] for bus in buses)
        shell.check(f"dd if=/dev/{mmio} of=/dev/{ahci} bs=1M count=4 conv=fsync")
        shell.check(f"dd if=/dev/{ahci} of=/dev/{pci} bs=4k count=1024 oflag=direct")
        shell.check("echo 3 >/proc/sys/vm/drop_caches")
        for bus, disk in disks.items():
            name = names[bus]
            assert digest in shell.check(f"dd if=/dev/{name} bs=64k count=64 2>/dev/null | sha256sum"), name
            assert hashlib.sha256(disk.read(0, len(content))).hexdigest() == digest
        assert "iommu" not in kernel_warnings(shell).lower()
        (listed,) = [device for device in vm.devices if device.name == "iommu0"]
        assert listed.base is not None
        assert vm.bus.read(listed.base + 16, 8) & 0xF == 4, "three levels of directory"
        assert vm.bus.read(listed.base + 52, 4) == 0, "no fault was recorded"
        assert vm.bus.read(listed.base + 32, 4) == vm.bus.read(listed.base + 36, 4), "no command is left"
        # And a device that is not what it says is refused.
        with pytest.raises(wirt.DmaError):
            vm.dma(0x2_0000).read(0x8000_0000, 4)
        assert vm.bus.read(listed.base + 52, 4) == 1
