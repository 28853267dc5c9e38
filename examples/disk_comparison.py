"""The same reads over a SATA disk and over virtio-blk: which registers the driver touches, and how often."""

import wirt
from wirt.guest_image import guest_image
from wirt.stats import Mark

WORK = "rand-read/4096/qd1"


def measure(name: str, bus: str) -> Mark:
    """One section of the guest's I/O benchmark, as the monitor counted it."""
    cmdline = f"bench=io bench.only=disk/{name}/{WORK} bench.ops=1000 bench.mb=4"
    disk = wirt.Disk.memory("4M", "ahci" if bus == "ahci" else "virtio")
    with wirt.Machine(guest_image(), cmdline=cmdline, memory="64M", disks=[disk]) as vm:
        vm.start()
        if not vm.wait(timeout=60) or vm.exit_code != 0:
            raise SystemExit(f"the guest did not end well: {vm.stop_reason}\n{vm.console.tail}")
        return next(mark for mark in vm.take_marks() if mark.name == f"disk/{name}/{WORK}")


def main() -> None:
    for name, bus in (("ahci", "ahci"), ("virtio-blk", "virtio")):
        mark = measure(name, bus)
        count = mark.operations
        print(f"{name}: {mark.total_exits / count:.2f} exits and {mark.instructions / count:.0f} instructions a read")
        for exit_ in sorted(mark.exits, key=lambda exit_: exit_.count, reverse=True):
            reads, writes = exit_.reads / count, exit_.writes / count
            print(f"    {exit_.device:12} {exit_.cause:16} {reads:5.2f} read, {writes:5.2f} written")


if __name__ == "__main__":
    main()
