"""Boots Debian's own riscv64 kernel to a shell, and has it run some commands.

`wirt pull debian` fetches the kernel first, and makes the small initramfs.
"""

import wirt
from wirt.debian import cached_guest

PROMPT = "/ # "


def main() -> None:
    debian = cached_guest("debian")
    if debian is None:
        raise SystemExit("Debian is not in the cache yet: wirt pull debian")
    disks = [wirt.Disk.memory("64M"), wirt.Disk.memory("64M", bus="ahci")]
    with wirt.Machine(debian.kernel, initrd=debian.initrd, cmdline=debian.cmdline, cpus=2, disks=disks) as vm:
        vm.start()
        vm.console.expect(PROMPT, timeout=300)
        print(f"a shell after {vm.time:.1f} s and {vm.instructions:,} instructions")
        for command in ("uname -srm", "nproc", "ls /sys/block", "dmesg | tail -n 3"):
            vm.console.send(command + "\n")
            vm.console.expect("\n")  # the terminal's echo of the command
            print(f"$ {command}\n{vm.console.expect(PROMPT).before.strip()}")
        vm.console.send("poweroff\n")
        vm.wait(timeout=60)
        print(vm.stop_reason)


if __name__ == "__main__":
    main()
