"""Debian under load is snapshotted and restored, forked, and migrated, over and over, and hears nothing of it.

    python benchmarks/acceptance/loop.py root.img [--rounds 25] [--harts 1 4] [--interrupts plic aia]

``debian_root.py root.img --with stress-ng openssl`` makes the image, which is not written to. The guest has every
device: a disk on each bus, an e1000e and a virtio NIC, the IOMMU, a display, keyboard and tablet, entropy. In it run at
the same time

- a compiler, whose program has to print what the host has computed;
- ``stress-ng --verify`` of processor and memory;
- on each disk, random data written and read back past the page cache, compared by SHA-256;
- on each NIC a TCP connection, opened once, on which a second guest echoes a pseudo-random stream, compared byte by
  byte; its frames cross two switches with a cable of Python between them;
- the framebuffer written and read back, the entropy device read, and keys that the host presses counted.

Each counts what it has done, and notes what was wrong. In each round the machine is copied, in one of the ways in turn;
the original is closed and the copy goes on in its place. So that the other end of the connections sees one machine, the
cables pass nothing from before the moment of the copy until the copy runs; a migration finds them whole. A round is
good when every count has gone on in the copy (those of the compiler and of stress-ng: by the end of all rounds),
nothing wrong was noted, and the kernel's log has no new line but the one by which it says that it goes on from a copy.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import wirt
from guests import PROMPT, pulled, report
from wirt.debian.shell import Shell

_SIZE = "64M"  # of each disk that is written to
_PATIENCE = 900.0  # seconds for what takes some on a free host
_BUSES = ("ahci", "virtio-mmio", "virtio-pci")
_MODELS = ("e1000e", "virtio-pci")
# What takes long under load, and need not go on in each round; in the end it must have.
_SLOW = ("compile", "stress")
# drivers/char/random.c, on a new VM generation ID.
_GOES_ON_FROM_A_COPY = "crng reseeded due to virtual machine fork"
_KINDS = (
    "snapshot",
    "fork",
    "migration, pre-copy",
    "incremental snapshot",
    "compressed snapshot",
    "migration, post-copy",
    "fork of a running machine",
    "migration, hybrid",
)

# An echo of a stream of its own, on one connection for ever.
_STREAM = r"""
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static const char *name;
static long blocks;
static int fail(const char *what) {
    FILE *f = fopen("/tmp/fail", "a");
    fprintf(f, "%s: %s after %ld blocks: %s\n", name, what, blocks, strerror(errno));
    fclose(f);
    return 1;
}
int main(int argc, char **argv) {
    static uint64_t sent[2048], got[2048];
    uint64_t x = 88172645463325252u + argc, sum = 0;
    char path[64], fresh[64];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(5000)};
    name = argv[1];
    inet_aton(argv[2], &to.sin_addr);
    snprintf(path, sizeof path, "/tmp/count/%s", name);
    snprintf(fresh, sizeof fresh, "/tmp/fresh.%s", name);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(s, (struct sockaddr *)&to, sizeof to)) return fail("connect");
    for (;; usleep(50000)) {
        for (int i = 0; i < 2048; i++) sent[i] = x ^= x << 13, x ^= x >> 7, sent[i] = x ^= x << 17;
        for (size_t at = 0; at < sizeof sent;) {
            ssize_t n = write(s, (char *)sent + at, sizeof sent - at);
            if (n <= 0) return fail("write");
            at += n;
        }
        for (size_t at = 0; at < sizeof got;) {
            ssize_t n = read(s, (char *)got + at, sizeof got - at);
            if (n <= 0) return fail("read");
            at += n;
        }
        if (memcmp(sent, got, sizeof got)) return fail("another stream came back");
        for (int i = 0; i < 2048; i++) sum = sum * 31 + got[i];
        FILE *f = fopen(fresh, "w");
        fprintf(f, "%ld %llx\n", ++blocks, (unsigned long long)sum);
        fclose(f);
        rename(fresh, path);
    }
}
"""

# Called with a name, and a command that does one unit of work.
_AGAIN = r"""
name=$1; shift; n=0
while :; do
    if ! out=$("$@" 2>&1); then echo "$name: unit $n: $out" | tail -n 5 >>/tmp/fail; fi
    n=$((n + 1)); echo $n >/tmp/fresh.$name; mv /tmp/fresh.$name /tmp/count/$name
done
"""

_DISK = r"""
set -e
dev=$1; at=$((RANDOM % 60)); x=/tmp/data.${dev##*/}
head -c 512K /dev/urandom >$x
dd if=$x of=$dev bs=128k seek=$((at * 8)) oflag=direct conv=fsync,notrunc 2>/dev/null
[ "$(dd if=$dev bs=128k skip=$((at * 8)) count=4 iflag=direct 2>/dev/null | sha256sum)" = "$(sha256sum <$x)" ]
"""

_COMPILE = r"""
set -e
cd /tmp
gcc -O2 work.c -o work.new
[ "$(./work.new)" = "$(cat work.expected)" ]
openssl dgst -sha256 -r work.new | cut -d' ' -f1 >work.sum
[ "$(cat work.sum)" = "$(sha256sum work.new | cut -d' ' -f1)" ]
"""

_STRESS = "stress-ng --verify --cpu 1 --cpu-ops 1 --cpu-method int64 --vm 1 --vm-bytes 4M --vm-ops 1 --timeout 3600"

_DISPLAY = r"""
set -e
head -c 65536 /dev/urandom >/tmp/pixels
# Below what the console on it has written.
dd if=/tmp/pixels of=/dev/fb0 bs=64k seek=32 conv=notrunc 2>/dev/null
dd if=/dev/fb0 bs=64k skip=32 count=1 2>/dev/null | cmp - /tmp/pixels
[ $(head -c 64 /dev/hwrng | wc -c) = 64 ]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, help="the root file system")
    parser.add_argument("--rounds", type=int, default=25, metavar="N", help="of each machine [25]")
    parser.add_argument("--harts", type=int, nargs="+", default=[1, 4], metavar="N", help="[1 4]")
    parser.add_argument("--interrupts", nargs="+", choices=("plic", "aplic", "aia"), default=["plic", "aia"])
    parser.add_argument("--scratch", type=Path, help="where snapshots are written; a temporary directory by default")
    parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=list(_KINDS), help="of copies [all, in turn]")
    options = parser.parse_args()
    bad = 0
    for harts in options.harts:
        for interrupts in options.interrupts:
            with (
                tempfile.TemporaryDirectory(dir=options.scratch) as scratch,
                _Run(options, harts, interrupts, Path(scratch)) as run,
            ):
                bad += run.all()
    sys.exit(1 if bad else 0)


def _program(functions: int = 16) -> tuple[str, int]:
    """A C program that gives the compiler something to do, and what it prints."""
    chance = random.Random(1)
    steps = [(chance.randrange(1, 1 << 32), chance.randrange(1, 1 << 32), chance.randrange(1, 31))
             for _ in range(functions)]  # fmt: skip
    lines = ["#include <stdint.h>", "#include <stdio.h>"]
    lines += [
        f"static uint32_t f{i}(uint32_t x) {{ x = x * {a}u + {b}u; return x ^ x >> {s}; }}"
        for i, (a, b, s) in enumerate(steps)
    ]
    lines.append("int main(void) { uint32_t x = 1;")
    lines += [f"for (int i = 0; i < 100; i++) x = f{i}(x);" for i in range(functions)]
    lines.append('printf("%u\\n", x); return 0; }')
    x = 1
    for a, b, s in steps:
        for _ in range(100):
            x = (x * a + b) & 0xFFFFFFFF
            x ^= x >> s
    return "\n".join(lines), x


class Cable:
    """Joins two switches, until it is cut; what comes meanwhile is lost."""

    def __init__(self, here: wirt.Switch, there: wirt.Switch) -> None:
        self._ends = (here.endpoint(), there.endpoint())
        self._whole = True
        self._passing = threading.Lock()
        self._threads = [
            threading.Thread(target=self._carry, args=ends, daemon=True) for ends in (self._ends, self._ends[::-1])
        ]
        for thread in self._threads:
            thread.start()

    def _carry(self, source: wirt.EndPoint, target: wirt.EndPoint) -> None:
        with contextlib.suppress(wirt.NetworkError):
            while True:
                frame = source.recv()
                with self._passing:
                    if self._whole:
                        target.send(frame)

    def cut(self) -> None:
        """Returns when nothing passes any more."""
        with self._passing:
            self._whole = False

    def mend(self) -> None:
        """Frames pass again, but those that came before."""
        while any(end.waiting for end in self._ends):
            time.sleep(0.001)
        with self._passing:
            self._whole = True

    def close(self) -> None:
        """Takes it out."""
        for end in self._ends:
            end.close()
        for thread in self._threads:
            thread.join()


class _Run:
    """One machine, the guest at the other end of its connections, and their rounds."""

    def __init__(self, options: argparse.Namespace, harts: int, interrupts: str, scratch: Path) -> None:
        self.image: Path = options.image
        self.rounds: int = options.rounds
        self.kinds: list[str] = options.kinds
        self.prefix = f"{harts} hart(s), {interrupts}:"
        self.scratch = scratch
        self.load_at_start = os.getloadavg()[0]
        self.pauses: list[float] = []
        self.downtimes: list[float] = []
        self.fault = ""
        self.here, self.there = [wirt.Switch(), wirt.Switch()], [wirt.Switch(), wirt.Switch()]
        self.cables = [Cable(a, b) for a, b in zip(self.here, self.there, strict=True)]
        guest = pulled()
        self.peer = wirt.Machine(
            guest.kernel, initrd=guest.initrd, cmdline="earlycon=sbi console=ttyS0", memory="256M",
            nets=[lan.port(mac=f"02:00:00:00:02:0{number}") for number, lan in enumerate(self.there)],
        )  # fmt: skip
        self.machine = wirt.Machine(
            guest.kernel,
            initrd=guest.initrd,
            cmdline="earlycon=sbi console=ttyS0 root=LABEL=wirt-root init=/bin/bash iommu.passthrough=0 iommu.strict=1",
            memory="768M",
            cpus=harts,
            disks=self.disks(),
            nets=[
                lan.port(mac=f"02:00:00:00:01:0{number}", model=model)  # type: ignore[arg-type]
                for number, (lan, model) in enumerate(zip(self.here, _MODELS, strict=True))
            ],
            iommu="platform",
            interrupts=interrupts,  # type: ignore[arg-type]
            display="bochs",
            input_devices=True,
            pcie_ports=1,
        )

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.close()
        self.peer.close()
        for cable in self.cables:
            cable.close()

    def disks(self) -> list[wirt.Disk]:
        root = wirt.Disk(self.image, "virtio-mmio", read_only=True)
        return [root, *(wirt.Disk.memory(_SIZE, bus, serial=bus) for bus in _BUSES)]  # type: ignore[arg-type]

    def ports(self) -> list[wirt.Port]:
        return [
            lan.port(mac=f"02:00:00:00:01:0{number}", model=model)  # type: ignore[arg-type]
            for number, (lan, model) in enumerate(zip(self.here, _MODELS, strict=True))
        ]

    # --- the guests ---

    def boot(self) -> None:
        self.peer.start()
        self.peer.console.expect(PROMPT, timeout=_PATIENCE)
        peer = Shell(self.peer.console)
        for number in range(2):
            # Which of them was probed first is no matter of order.
            address = f"02:00:00:00:02:0{number}"
            peer.check(
                f"d=$(dirname $(grep -l {address} /sys/class/net/eth*/address)); d=${{d##*/}}; "
                f"ip link set $d up; ip addr add 10.0.{number + 1}.2/24 dev $d", _PATIENCE,
            )  # fmt: skip
        peer.check("(nc -ll -p 5000 -e cat >/dev/null 2>&1 &)", _PATIENCE)

        self.machine.start()
        self.machine.console.expect(re.compile(r"bash-[\d.]+# |root@\S*# "), timeout=_PATIENCE)
        self.shell = Shell(self.machine.console)
        self.do(
            "dmesg -n 1; stty -echo; export TERM=dumb PATH=/usr/sbin:/usr/bin; bind 'set enable-bracketed-paste off'"
        )
        self.do("mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /run; mkdir /tmp/count; : >/tmp/fail; cd /tmp")
        self.do("modprobe -a bochs e1000e ahci virtio_input evdev virtio_rng 2>/dev/null; true")
        source, expected = _program()
        for name, text in {
            "stream.c": _STREAM, "again": _AGAIN, "disk": _DISK, "compile": _COMPILE, "display": _DISPLAY,
            "work.c": source, "work.expected": f"{expected}\n",
        }.items():  # fmt: skip
            self.put(f"/tmp/{name}", text)
        self.do("gcc -O2 -Wall stream.c -o stream")

    def do(self, command: str) -> str:
        return self.shell.check(command, _PATIENCE)

    def put(self, path: str, text: str) -> None:
        """Not all at once: a terminal holds so much of a line and of what is typed ahead."""
        self.do(f": >{path}")
        lines = text.strip("\n").split("\n")
        for first in range(0, len(lines), 8):
            part = "\n".join(lines[first : first + 8])
            self.do(f"cat >>{path} <<'EOF'\n{part}\nEOF\n")

    def begin_load(self) -> None:
        for number in range(2):
            address = f"02:00:00:00:01:0{number}"
            self.do(
                f"d=$(dirname $(grep -l {address} /sys/class/net/*/address)); d=${{d##*/}}; "
                f"ip link set $d up; ip addr add 10.0.{number + 1}.1/24 dev $d"
            )
        commands = {
            "compile": "bash /tmp/compile", "stress": _STRESS, "display": "bash /tmp/display",
        }  # fmt: skip
        for bus in _BUSES[1:]:
            device = self.do(f"dirname $(grep -lx {bus} /sys/block/vd*/serial)").rpartition("/")[2]
            commands[f"disk-{bus}"] = f"bash /tmp/disk /dev/{device}"
        commands["disk-ahci"] = "bash /tmp/disk /dev/sda"
        for name, command in commands.items():
            # The shell that asks for the counts is to be heard beside them.
            self.do(f"setsid nice bash /tmp/again {name} {command} </dev/null >/dev/null 2>&1 &")
        for number, model in enumerate(_MODELS):
            self.do(f"setsid /tmp/stream tcp-{model} 10.0.{number + 1}.2 </dev/null >/dev/null 2>&1 &")
        self.do("for e in /dev/input/event*; do (setsid cat $e >>/tmp/events 2>/dev/null &); done")
        self.names = [*commands, *(f"tcp-{model}" for model in _MODELS)]
        self.seen = int(self.do("dmesg | wc -l"))

    def look(self) -> tuple[dict[str, int], str]:
        """The counts, and what the guest's checks and its kernel have noted since the last time."""
        listing = self.do(
            "cd /tmp/count; for f in *; do read n sum <$f; echo $f $n; done; echo events $(stat -c %s /tmp/events);"
            f" echo; cat /tmp/fail; : >/tmp/fail; dmesg -r | tail -n +{self.seen + 1}"
        )
        counts: dict[str, int] = {}
        noted: list[str] = []
        # The kernel writes what it takes for an emergency to the console, into whatever is said there.
        for line in listing.splitlines():
            if count := re.fullmatch(r"([\w-]+) (\d+)", line):
                counts[count[1]] = int(count[2])
            elif line and _GOES_ON_FROM_A_COPY not in line:
                noted.append(line)
            self.seen += line.startswith("<")
        return counts, "; ".join(noted)

    def await_progress(self, since: dict[str, int]) -> str:
        """Until every count has gone on; what did not, or what was wrong."""
        deadline = time.monotonic() + _PATIENCE
        self.machine.keyboard.press("a")
        while True:
            now, wrong = self.look()
            names = [name for name in (*self.names, "events") if name not in _SLOW]
            behind = [name for name in names if now.get(name, 0) <= since.get(name, 0)]
            if wrong or not behind:
                return wrong
            if time.monotonic() > deadline:
                return f"no progress of {', '.join(behind)}"
            time.sleep(0.5)

    # --- the ways to copy ---

    @contextlib.contextmanager
    def cables_cut(self) -> Iterator[None]:
        for cable in self.cables:
            cable.cut()
        yield
        for cable in self.cables:
            cable.mend()

    def replace(self, copy: wirt.Machine) -> None:
        old, self.machine = self.machine, copy
        old.close()
        self.shell = Shell(copy.console)

    def copy(self, kind: str, number: int) -> None:
        if "snapshot" in kind:
            self.by_snapshot(kind, self.scratch / str(number))
        elif "fork" in kind:
            self.by_fork(at_rest="running" not in kind)
        else:
            mode = {"pre-copy": "precopy", "post-copy": "postcopy", "hybrid": "hybrid"}[kind.rpartition(" ")[2]]
            self.by_migration(mode)

    def by_snapshot(self, kind: str, path: Path) -> None:
        take: Callable[..., wirt.Snapshot] = self.machine.snapshot
        disks = ["reference", *("include" for _ in _BUSES)]
        if "incremental" in kind:
            self.pauses.append(take(path.with_suffix(".base"), disks=disks).paused or 0)
        with self.cables_cut():
            taken = take(
                path, incremental="incremental" in kind, compress="zstd" if "compressed" in kind else False, disks=disks
            )
            self.pauses.append(taken.paused or 0)
            # It has run on meanwhile: from here on only the copy counts.
            self.machine.close()
            copy = wirt.Machine.restore(path, nets=self.ports(), verify=True)
            copy.start()
            self.replace(copy)
        for old in self.scratch.iterdir():
            wirt.snapshot.remove(old, force=True)

    def by_fork(self, *, at_rest: bool) -> None:
        with self.cables_cut():
            if at_rest:
                self.machine.pause()
            ports = self.ports()
            (copy,) = self.machine.fork(nets=lambda _, old: next(port for port in ports if port.mac == old.mac))
            if at_rest:
                copy.resume()
            self.replace(copy)

    def by_migration(self, mode: str) -> None:
        where = f"unix:{self.scratch}/socket"
        arrived: list[wirt.Machine | BaseException] = []

        def receive() -> None:
            try:
                arrived.append(wirt.Machine.receive(where, disks=self.disks(), nets=self.ports(), timeout=_PATIENCE))
            except BaseException as error:
                arrived.append(error)

        thread = threading.Thread(target=receive)
        thread.start()
        while not Path(where.partition(":")[2]).exists() and thread.is_alive():
            time.sleep(0.01)
        done = self.machine.migrate(where, mode=mode, storage=True, downtime=5.0)  # type: ignore[arg-type]
        thread.join()
        (copy,) = arrived
        if isinstance(copy, BaseException):
            raise copy
        self.downtimes.append(done.downtime)
        self.replace(copy)

    # --- all of it ---

    def all(self) -> int:
        """How many rounds were not good."""
        started = time.monotonic()
        self.boot()
        self.begin_load()
        if wrong := self.await_progress({}):
            report(f"{self.prefix} before the first round", wrong)
            return self.rounds
        report(f"{self.prefix} boot, and every load at work", f"{time.monotonic() - started:.0f} s")
        first, _ = self.look()
        bad, times = 0, []
        for number in range(self.rounds):
            kind = self.kinds[number % len(self.kinds)]
            (before, _), begun = self.look(), time.monotonic()
            self.copy(kind, number)
            copied = time.monotonic()
            wrong = self.await_progress(before)
            times.append(time.monotonic() - begun)
            bad += bool(wrong)
            took = f"copied in {copied - begun:.1f} s, all at work after {times[-1]:.1f} s"
            report(f"{self.prefix} round {number + 1}, {kind}", f"{took}{'; ' if wrong else ''}{wrong}")
        done, _ = self.look()
        if idle := [name for name in _SLOW if done.get(name, 0) <= first.get(name, 0)]:
            bad += 1
            report(f"{self.prefix} made no progress", ", ".join(idle))
        report(f"{self.prefix} rounds", f"{self.rounds}, {bad} bad, median {statistics.median(times):.1f} s")
        for what, values in (("pauses of snapshots", self.pauses), ("downtimes of migrations", self.downtimes)):
            if values:
                text = f"{statistics.median(values) * 1e3:.1f} ms ({min(values) * 1e3:.1f}..{max(values) * 1e3:.1f})"
                report(f"{self.prefix} {what}", text)
        report(f"{self.prefix} work done", ", ".join(f"{name} {count}" for name, count in done.items()))
        load = f"{self.load_at_start:.0f} to {os.getloadavg()[0]:.0f}"
        report(f"{self.prefix} in all", f"{time.monotonic() - started:.0f} s at a load of {load}")
        return bad


if __name__ == "__main__":
    main()
