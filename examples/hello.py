"""Boots the guest that ships inside the package, and lets it introduce the machine that it finds itself in."""

import wirt
from wirt.guest_image import guest_image


def main() -> None:
    lan = wirt.Switch()
    disks = [wirt.Disk.memory("16M"), wirt.Disk.memory("16M", bus="ahci")]
    with wirt.Machine(guest_image(), cmdline="demo", memory="64M", cpus=4, disks=disks, nets=[lan.port()]) as vm:
        vm.start()
        if not vm.wait(timeout=60):
            raise SystemExit(f"the guest did not finish; it printed\n{vm.console.tail}")
        print(vm.console.output)
        stats = vm.stats()
        print(f"{vm.stop_reason} after {stats.instructions:,} instructions and {stats.total_exits:,} exits, most to")
        for exit_ in sorted(stats.exits, key=lambda exit_: exit_.count, reverse=True)[:5]:
            print(f"{exit_.count:8,}  {exit_.device} {exit_.cause}")


if __name__ == "__main__":
    main()
