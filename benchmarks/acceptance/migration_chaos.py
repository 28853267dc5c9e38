"""Rounds of migrations that something breaks: never two machines, never none, no disk damaged.

    python benchmarks/acceptance/migration_chaos.py [--rounds 200] [--seed 1] [--kinds frame,kill,...]

Every host is a process of its own (``migration_host.py``), and this one watches them. The guest keeps a journal
(guest/programs/journal.c): it writes numbered records to its disk and names each on the console when the disk has it.
What is demanded of each round:

- One machine goes on: one host says that it has one that runs, and its guest names new numbers. It goes into the next
  round. None does only when the process was killed that had it, or, in post-copy, the one that had its memory.
- No number is named twice, on whichever hosts, so that never two ran; and none that was named is missing from the disk
  of the machine that goes on.
- The disk holds the journal's last lap, record for record, and behind it what it has held since the first round. It
  goes along in most migrations, over a disk that was filled with something else; in the others both hosts see the file.

The kinds of rounds:

- ``frame``: one frame of the protocol is cut, stalled, corrupted, repeated, left out, or given an absurd length.
- ``kill source``, ``kill destination``: SIGKILL, at a frame or at a random time.
- ``slow``: a network of 1 to 30 MB/s, with delays and pauses, which may be cut at a random time, or outlive a process
  that is killed.
- ``full``: the destination's disk takes a part of the content only: a small tmpfs, or, where none can be mounted, a
  limit on the size of files.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import json
import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from migration_host import SECTOR, SECTORS

from support.fault_proxy import Fault, FaultProxy
from support.slow_proxy import SlowProxy
from wirt.migration.transport import Kind

DISK = 2 << 20
PATIENCE = 120.0
KINDS = ("frame", "kill source", "kill destination", "slow", "full")
_HOST = Path(__file__).with_name("migration_host.py")
# Around these, what is lost decides who has the machine.
_DECISIVE = (Kind.state, Kind.commit, Kind.commit, Kind.acknowledged, Kind.acknowledged, Kind.confirmed)


class Journal:
    """All numbers that any guest has named, and which host did."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by: dict[int, str] = {}
        self.last = 0
        self.twice: list[tuple[int, str, str]] = []

    def note(self, numbers: list[int], host: str) -> None:
        """A host's guest has named them."""
        with self._lock:
            for number in numbers:
                if number in self._by:
                    self.twice.append((number, self._by[number], host))
                self._by[number] = host
                self.last = max(self.last, number)

    def begin_anew(self) -> None:
        """The machine is gone, and the next one begins at 1."""
        with self._lock:
            self._by.clear()
            self.last = 0


class Host:
    """A host, from outside."""

    def __init__(self, name: str, journal: Journal) -> None:
        self.name, self._journal = name, journal
        self.process = subprocess.Popen(
            [sys.executable, _HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._numbers = threading.Condition()
        self._newest = 0
        self.killed = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith("\n"):
                break  # it was killed in the middle of it
            event = json.loads(line)
            if event["event"] == "said":
                self._journal.note(event["numbers"], self.name)
                with self._numbers:
                    self._newest = event["numbers"][-1]
                    self._numbers.notify_all()
            else:
                self._events.put(event)
        self._events.put({"event": "ended"})

    def tell(self, do: str, **values: object) -> None:
        """A command; nobody may be there to hear it."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps({"do": do} | values) + "\n")
            self.process.stdin.flush()

    def hear(self, *events: str) -> dict[str, Any]:
        """The next of these events; ``ended`` when the process has."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                event = self._events.get(timeout=max(end - time.monotonic(), 0.01))
            except queue.Empty:
                raise AssertionError(f"{self.name}: none of {events} in {PATIENCE:g} s") from None
            if event["event"] == "ended":
                self._events.put(event)
                assert self.killed, f"{self.name} has ended by itself, with {self.process.wait()}"
            if event["event"] in (*events, "ended"):
                return event

    def ask(self) -> dict[str, Any]:
        """What it has."""
        self.tell("ask")
        return self.hear("answer")

    def goes_on(self) -> None:
        """Waits until its guest has named something new."""
        with self._numbers:
            before = self._newest
            assert self._numbers.wait_for(lambda: self._newest != before, PATIENCE), f"{self.name}: the guest is stuck"

    def kill(self) -> None:
        """SIGKILL."""
        self.killed = True
        self.process.send_signal(signal.SIGKILL)

    def end(self) -> None:
        """The process ends, whatever it has, and in peace."""
        was_killed, self.killed = self.killed, True
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            status = self.process.wait(PATIENCE)
        finally:
            self.process.kill()
        self._reader.join()
        assert was_killed or status == 0, f"{self.name} ended with {status}"


class Chaos:
    """The rounds, and what goes from one to the next."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._chance = random.Random(seed)
        self._journal = Journal()
        self._number = 0
        # What stands behind the journal, on every disk that ever has the machine.
        self._rest = random.Random(seed).randbytes(DISK - SECTORS * SECTOR)
        self._rest_digest = hashlib.sha256(self._rest).hexdigest()
        self._disk = self._folder / "none"  # of the machine
        self._strikes = threading.Lock()
        self._armed = self._struck = False
        self.host = self._boot()

    def _boot(self) -> Host:
        self._journal.begin_anew()
        self._have(self._folder / f"first{self._number}")
        self._disk.write_bytes(bytes(SECTORS * SECTOR) + self._rest)
        host = Host(f"host {self._number} (new)", self._journal)
        host.tell("boot", disk=str(self._disk))
        host.hear("booted")
        host.goes_on()
        return host

    def _have(self, disk: Path) -> None:
        if disk != self._disk:
            self._disk.unlink(missing_ok=True)
            self._disk = disk

    def round(self, kind: str) -> str:
        """One migration; how it ended."""
        self._number += 1
        with tempfile.TemporaryDirectory(dir=self._folder) as name, contextlib.ExitStack() as stack:
            here = Path(name)
            there = Host(f"host {self._number}", self._journal)
            mode = self._chance.choice(["precopy", "precopy", "postcopy", "hybrid"])
            # Small enough for random times to hit something.
            bandwidth = self._chance.choice([None, 4e6, 20e6])
            listens, way = here / "there", here / "way"
            shared = kind != "full" and self._disk.exists() and self._chance.random() < 0.35
            disk, limit = self._disk if shared else self._folder / f"disk{self._number}", None
            if kind == "full":
                disk, limit = self._small_disk(here, disk, stack)
            if not shared:
                with disk.open("wb") as file:
                    if kind != "full":
                        file.write(os.urandom(DISK))
                    file.truncate(DISK)
            there.tell("receive", at=f"unix:{listens}", disk=str(disk), incoming=shared, limit=limit, timeout=10.0)
            self._await(listens, there)
            victim = {"kill source": self.host, "kill destination": there}.get(kind)
            self._armed, self._struck = True, False
            proxy = self._network(kind, way, listens, victim, there, stack)
            stack.callback(proxy.close)
            self.host.tell("migrate", to=f"unix:{way}", mode=mode, storage=not shared, bandwidth=bandwidth)
            outcome = self._settle(there, disk)
            struck = self._struck or kind == "full" or (kind == "frame" and proxy.struck.is_set())  # type: ignore[union-attr]
        kind += {"slow": " and cut or killed" if struck else ""}.get(kind, "" if struck else " too late")
        return f"{kind}, {mode}, {'shared disk' if shared else 'disk sent'}: {outcome}"

    def _strike(self, what: Callable[[], None]) -> Callable[[], None]:
        """The action, unless the round is over."""

        def strike() -> None:
            with self._strikes:
                if self._armed:
                    self._struck = True
                    what()

        return strike

    def _network(
        self, kind: str, way: Path, listens: Path, victim: Host | None, there: Host, stack: contextlib.ExitStack
    ) -> FaultProxy | SlowProxy:
        chance = self._chance
        when, to_destination = chance.choice(["before", "half", "after"]), chance.random() < 0.75
        if kind == "frame":
            how = chance.choice(["cut", "stall", "corrupt", "repeat", "drop", "huge"])
            return FaultProxy(str(way), str(listens), self._fault(how, when, to_destination, None))
        if victim is not None and chance.random() < 0.6:
            return FaultProxy(
                str(way), str(listens), self._fault("call", when, to_destination, self._strike(victim.kill))
            )
        action = victim.kill if victim is not None else None
        if kind == "slow":
            proxy = SlowProxy(
                str(way),
                str(listens),
                rate=chance.choice([1e6, 4e6, 30e6]),
                delay=chance.choice([0.0, 0.002, 0.03]),
                pause=chance.choice([0.0, 1.5]),
                seed=chance.randrange(1 << 30),
            )
            action = chance.choice([None, None, proxy.cut, proxy.cut, self.host.kill, there.kill])
            network: FaultProxy | SlowProxy = proxy
            seconds = chance.random() * 5
        else:
            network = FaultProxy(str(way), str(listens), None)
            seconds = chance.random() * 1.5
        if action is not None:
            timer = threading.Timer(seconds, self._strike(action))
            timer.start()
            stack.callback(timer.cancel)
        return network

    def _fault(self, how: Any, when: Any, to_destination: bool, action: Callable[[], None] | None) -> Fault:
        chance = self._chance
        bit = chance.randrange(1 << 22)
        if chance.random() < 0.4:
            frame = chance.choice(_DECISIVE)
            return Fault(frame, how, when, frame is not Kind.acknowledged, 0, bit=bit, action=action)
        return Fault(0, how, when, to_destination, chance.randrange(24), bit=bit, action=action)

    def _small_disk(self, here: Path, disk: Path, stack: contextlib.ExitStack) -> tuple[Path, int | None]:
        """A file that takes a part of the content, and a limit that the host sets itself."""
        # What is behind the journal would not fit, whatever the journal holds.
        room = self._chance.randrange(1, 360) * 4096
        if os.geteuid() == 0 and self._chance.random() < 0.7:
            mount = here / "small"
            mount.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={room}", "none", str(mount)]
            if subprocess.run(command, capture_output=True).returncode == 0:
                # Lazily: a host that was killed a moment ago may still have the file.
                stack.callback(subprocess.run, ["umount", "-l", str(mount)], check=True)
                return mount / "disk", None
        return disk, room

    def _await(self, listens: Path, there: Host) -> None:
        # Counted, not timed: all of these processes may be stopped for a while.
        for _ in range(int(PATIENCE / 0.01)):
            if listens.exists():
                return
            assert there.process.poll() is None, "the receiver has ended"
            time.sleep(0.01)
        raise AssertionError(f"nobody listens: {there.ask()}")

    # --- who has it ---

    def _settle(self, there: Host, disk: Path) -> str:
        source = self.host
        said = source.hear("migrated", "failed", "doubt")["event"]
        assert said != "doubt", "in doubt, although the way is free"
        heard = there.hear("received", "failed")["event"]
        with self._strikes:
            self._armed = False
        states = {host: host.ask() for host in (source, there)}
        running = [host for host, answer in states.items() if answer.get("state") == "running"]
        told = (said, heard, states[source], states[there])
        assert len(running) <= 1, ("two machines", told)
        winner = running[0] if running else None
        if winner is not None and self._lost_its_memory(winner, source):
            # It runs, and waits for pages that nobody has any more.
            outcome, winner = "gone with the process that had its memory", None
        elif winner is None:
            # It was in a process that was killed: the source's before it had given it away, or the other's after.
            assert source.killed or there.killed, ("no machine", told)
            assert source.killed or said == "migrated" or states[source]["migration"] == "interrupted", told
            outcome = "gone with the process that had it"
        else:
            winner.goes_on()
            self._audit(winner)
            outcome = "there" if winner is there else "here"
        for host in (source, there):
            if host is not winner:
                host.end()
        assert not self._journal.twice, ("two machines ran", self._journal.twice[:10], told)
        if winner is there:
            self._have(disk)
        elif disk != self._disk:
            disk.unlink(missing_ok=True)
        self.host = self._boot() if winner is None else winner
        return outcome

    def _lost_its_memory(self, host: Host, source: Host) -> bool:
        end = time.monotonic() + PATIENCE
        while (missing := host.ask().get("missing", 0)) and not source.killed:
            assert time.monotonic() < end, "pages do not come"
            time.sleep(0.02)
        return bool(missing)

    def _audit(self, host: Host) -> None:
        named = self._journal.last
        host.tell("audit")
        found = host.hear("answer")
        assert not found["damaged"], ("the disk is damaged", found)
        assert found["last"] >= named, ("the disk lacks what was named", named, found["last"])
        assert found["rest"] == self._rest_digest, "what the guest never wrote has changed"


def chosen(kinds: list[str], rounds: int, seed: int) -> Iterator[str]:
    """As many of each kind, in random order."""
    order = (kinds * (rounds // len(kinds) + 1))[:rounds]
    random.Random(seed).shuffle(order)
    return iter(order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args()
    outcomes: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(Path(folder), options.seed)
        try:
            for number, kind in enumerate(chosen(options.kinds.split(","), options.rounds, options.seed)):
                begin = time.monotonic()
                outcome = chaos.round(kind)
                outcomes[outcome] += 1
                print(f"{number + 1}: {outcome} ({time.monotonic() - begin:.1f} s)", flush=True)
        finally:
            chaos.host.end()
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:4} {outcome}")
    print(f"{options.rounds} rounds: one machine went on in each, or went with a process that was killed")


main()
