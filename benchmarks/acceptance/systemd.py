"""Debian with systemd boots from one image on virtio-blk and on AHCI to a login; apt, python3 and gcc work in it.

    python benchmarks/acceptance/systemd.py root.img [--bus virtio ahci] [--cpus N] [--console ttyS0] [--rounds N]
                                            [--beside-qemu] [--boot-only]

``debian_root.py`` makes the image. Times are on the wall and of the process; on a busy host the second is the one to
compare. Nothing is written to it: what a guest writes is kept in memory and dropped.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wirt
from guests import KERNEL_WARNINGS, pulled, report, stopwatch
from wirt.debian.shell import CommandFailed, Shell

_DEVICES = {"virtio": "vda", "ahci": "sda"}

# The second program is large enough that the compiler has to work: 400 functions, optimised. Python runs the same
# arithmetic, so that compiler, hart and interpreter check each other.
_GENERATOR = """
import random
random.seed(1)
steps = [(random.randrange(1, 1 << 32), random.randrange(1, 1 << 32), random.randrange(1, 31)) for _ in range(400)]
with open("large.c", "w") as c:
    c.write("#include <stdint.h>\\n#include <stdio.h>\\n")
    for i, (a, b, s) in enumerate(steps):
        c.write(f"static uint32_t f{i}(uint32_t x) {{ x = x * {a}u + {b}u; return x ^ x >> {s}; }}\\n")
    c.write("int main(void) { uint32_t x = 1;\\n")
    for i in range(400):
        c.write(f"for (int i = 0; i < 100; i++) x = f{i}(x);\\n")
    c.write('printf("%u\\\\n", x); return 0; }\\n')
x = 1
for a, b, s in steps:
    for _ in range(100):
        x = (x * a + b) & 0xffffffff
        x ^= x >> s
print(x)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, help="the root file system")
    parser.add_argument("--bus", nargs="+", choices=list(_DEVICES), default=list(_DEVICES))
    parser.add_argument("--cpus", type=int, default=1, metavar="N", help="harts [1]")
    parser.add_argument("--console", default="ttyS0", choices=("ttyS0", "hvc0"))
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="boots of each kind [1]")
    parser.add_argument("--beside-qemu", action="store_true", help="boot QEMU in turn, with the same image")
    parser.add_argument("--boot-only", action="store_true", help="leave the work in the guest out")
    options = parser.parse_args()
    good = True
    for _ in range(options.rounds):
        for bus in options.bus:
            good = boot(options, bus) and good
            if options.beside_qemu:
                boot_qemu(options, bus)
    sys.exit(0 if good else 1)


def log_in(console: wirt.Console, timeout: float = 900) -> Shell:
    """Waits for the login and gives root's shell."""
    console.expect("login: ", timeout)
    console.send("root\n")
    console.expect(re.compile(r"root@guest:.*# "), timeout)
    shell = Shell(console)
    # No colours, no line editor and no kernel messages between the guest and the expected output.
    shell.check("dmesg -n 1; stty -echo; export TERM=dumb PAGER=cat; bind 'set enable-bracketed-paste off'", timeout)
    return shell


def command_line(bus: str, console: str) -> str:
    # systemd gives up a console whose udev event it has not seen after 90 s. That is meant for hardware: an interpreter
    # on a busy host needs longer, with QEMU as with Wirt.
    patience = "systemd.default_device_timeout_sec=900"
    return f"earlycon=sbi console={console} root=/dev/{_DEVICES[bus]} rw {patience}"


def boot(options: argparse.Namespace, bus: str) -> bool:
    """One boot of Wirt, and the work in it; whether all of it went well."""
    guest = pulled()
    disk = wirt.Disk(options.image, bus, ephemeral=True)
    what = f"{bus}, {options.cpus} hart(s):"
    with wirt.Machine(
        guest.kernel, initrd=guest.initrd, cmdline=command_line(bus, options.console), memory="2G", cpus=options.cpus,
        disks=[disk],
    ) as machine:  # fmt: skip
        spent = time.process_time()
        with stopwatch() as elapsed:
            machine.start()
            machine.console.expect("login: ", timeout=1200)
        spent = time.process_time() - spent
        billions = machine.instructions / 1e9
        report(f"{what} start to login", f"{elapsed[0]:.1f} s, CPU {spent:.1f} s, {billions:.1f} G instructions")
        machine.console.send("\n")
        shell = log_in(machine.console)
        report(f"{what} systemd", shell.run("systemctl is-system-running --wait", timeout=900).output.strip())
        failed = shell.check("systemctl --failed --no-legend --plain")
        report(f"{what} failed units", failed or "none")
        good = not failed
        if not options.boot_only:
            good = work(shell, what) and good
        warnings = shell.check(KERNEL_WARNINGS)
        report(f"{what} kernel warnings", warnings or "none")
        machine.console.send("poweroff\n")
        ended = machine.wait(300) and machine.stop_reason == "poweroff"
        report(f"{what} powers off", "yes" if ended else f"no: {machine.stop_reason}")
        return good and ended and not warnings


def work(shell: Shell, what: str) -> bool:
    """apt, python3 and gcc at work; whether all of it succeeded."""
    tasks = {
        "apt knows the archive": "apt --version && apt-cache policy apt | head -n 3",
        "apt installs a package": (
            "apt-get install -y -o Acquire::Retries=0 /root/hello.deb >/tmp/apt.log 2>&1 && hello"
        ),
        "apt removes it again": "apt-get remove -y hello >>/tmp/apt.log 2>&1 && ! test -e /usr/bin/hello",
        "python3 runs its own tests": (
            "python3 -m test -q test_json test_struct test_zlib test_hashlib test_math test_float test_threading"
            " >/tmp/python.log 2>&1; s=$?; tail -n 3 /tmp/python.log; [ $s = 0 ]"
        ),
        "gcc compiles a program": (
            "printf '#include <stdio.h>\\nint main(void){puts(\"hello from gcc\");}' >a.c"
            " && gcc -Wall -O2 a.c -o a && ./a"
        ),
        "gcc -O2 compiles 400 functions": (
            "python3 generate.py >expected && gcc -O2 large.c -o large && ./large | diff - expected && cat expected"
        ),
    }
    shell.check(f"cd /root && cat >generate.py <<'EOF'{_GENERATOR}EOF\n", timeout=120)
    good = True
    for name, command in tasks.items():
        with stopwatch() as elapsed:
            try:
                outcome = shell.check(command, timeout=1800).splitlines()[-1:]
            except CommandFailed as error:
                good, outcome = False, [f"FAILED: {error}"]
        report(f"{what} {name}", f"{elapsed[0]:.1f} s  {' '.join(outcome)}")
    return good


def boot_qemu(options: argparse.Namespace, bus: str) -> None:
    """The same boot under qemu-system-riscv64, for the time alone."""
    guest = pulled()
    device = {"virtio": ["-device", "virtio-blk-device,drive=root"],
              "ahci": ["-device", "ich9-ahci,id=ahci", "-device", "ide-hd,drive=root,bus=ahci.0"]}  # fmt: skip
    with tempfile.NamedTemporaryFile() as log, stopwatch() as elapsed:
        process = subprocess.Popen(
            [
                "qemu-system-riscv64", "-M", "virt", "-m", "2G", "-smp", str(options.cpus), "-display", "none",
                "-kernel", str(guest.kernel), "-initrd", str(guest.initrd), "-append", command_line(bus, "ttyS0"),
                "-snapshot", "-drive", f"if=none,id=root,format=raw,file={options.image}", *device[bus],
                "-serial", "stdio",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            seen = b""
            while b"login: " not in seen:
                assert process.stdout is not None
                chunk = process.stdout.read1(4096)
                if not chunk:
                    sys.exit("QEMU ended before the login")
                log.write(chunk)
                seen = seen[-16:] + chunk
        finally:
            process.kill()
            _, _, usage = os.wait4(process.pid, 0)
    spent = usage.ru_utime + usage.ru_stime
    report(f"{bus}, {options.cpus} hart(s): QEMU, start to login", f"{elapsed[0]:.1f} s, CPU {spent:.1f} s")


if __name__ == "__main__":
    main()
