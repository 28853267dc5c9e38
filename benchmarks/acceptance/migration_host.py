"""A host of ``migration_chaos.py``: a process that has a machine, takes one or gives it away, and may be killed.

It is told what to do by lines of JSON on its standard input, and says what happens by such lines on its standard
output: ``said``, the numbers that the guest has named; ``received``, ``migrated``, ``failed`` and ``doubt``, how what
it was told ended; ``answer``, what was asked for.
"""

from __future__ import annotations

import hashlib
import json
import re
import resource
import signal
import sys
import threading
from typing import Any

import wirt
from wirt.guest_image import guest_image
from wirt.migration import destination, source

SECTOR = 512
SECTORS = 1024  # of the journal; what is behind them must stay as it is
_FACTOR = 6364136223846793005
_SAID = re.compile(rb"journal (\d+)\r?\n")


def record(number: int) -> bytes:
    """As guest/programs/journal.c makes it."""
    words = []
    for _ in range(SECTOR // 8):
        words.append(number)
        number = (number * _FACTOR + 1) % (1 << 64)
    return b"".join(word.to_bytes(8, "little") for word in words)


class Host:
    """What this process has."""

    def __init__(self) -> None:
        self._vm: wirt.Machine | None = None
        self._output = threading.Lock()
        self._listeners: list[threading.Thread] = []

    def say(self, event: str, **values: object) -> None:
        """One line."""
        with self._output:
            print(json.dumps({"event": event} | values), flush=True)

    def _listen(self, vm: wirt.Machine) -> None:
        """Passes on what the guest says, at once."""
        rest = b""
        while True:
            rest += vm.console.read(0.05)
            said = list(_SAID.finditer(rest))
            if said:
                self.say("said", numbers=[int(match[1]) for match in said])
                rest = rest[said[-1].end() :]
            elif vm.state == "closed":
                return

    def _have(self, vm: wirt.Machine) -> None:
        self._vm = vm
        self._listeners.append(threading.Thread(target=self._listen, args=(vm,), daemon=True))
        self._listeners[-1].start()

    def boot(self, disk: str) -> None:
        """A new machine."""
        vm = wirt.Machine(
            guest_image(), cmdline=f"journal journal.sectors={SECTORS}", memory="64M", disks=[wirt.Disk(disk)]
        )
        self._have(vm)
        vm.start()
        self.say("booted")

    def receive(self, at: str, disk: str, incoming: bool, limit: int | None, timeout: float) -> None:
        """Takes one, with files that grow to `limit` at most."""
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        def take() -> None:
            try:
                vm = wirt.Machine.receive(at, disks=[wirt.Disk(disk, incoming=incoming)], timeout=timeout)
            except wirt.WirtError as error:
                self.say("failed", why=str(error))
            else:
                self._have(vm)
                self.say("received")

        threading.Thread(target=take, daemon=True).start()

    def migrate(self, to: str, mode: str, storage: bool, bandwidth: float | None) -> None:
        """Gives it away."""
        vm = self._vm
        assert vm is not None

        def give() -> None:
            try:
                vm.migrate(to, mode=mode, storage=storage, bandwidth=bandwidth)  # type: ignore[arg-type]
            except wirt.MigrationInDoubt as error:
                self.say("doubt", why=str(error))
            except wirt.WirtError as error:
                self.say("failed", why=str(error))
            else:
                self.say("migrated")

        threading.Thread(target=give, daemon=True).start()

    def ask(self) -> None:
        """What there is."""
        vm = self._vm
        migration = getattr(vm, "migration", None)
        self.say(
            "answer",
            state="none" if vm is None else vm.state,
            migration=getattr(migration, "state", "none"),
            missing=getattr(migration, "missing_pages", 0),
        )

    def audit(self) -> None:
        """Looks at the disk while the machine stands still: every record of the last lap, and what is behind them."""
        vm = self._vm
        assert vm is not None
        vm.pause()
        disk = vm.disks[0]
        content = disk.read(0, disk.size)
        vm.resume()
        numbers = [int.from_bytes(content[at : at + 8], "little") for at in range(0, SECTORS * SECTOR, SECTOR)]
        last = max(numbers)
        damaged = []
        for sector, number in enumerate(numbers):
            expected = last - (last - sector) % SECTORS
            wanted = record(expected) if expected >= 1 else bytes(SECTOR)
            if content[sector * SECTOR : (sector + 1) * SECTOR] != wanted:
                damaged.append((sector, number, expected))
        rest = hashlib.sha256(content[SECTORS * SECTOR :]).hexdigest()
        self.say("answer", last=last, damaged=damaged, rest=rest)

    def run(self) -> None:
        """Until the supervisor closes the pipe."""
        # A side that does nothing counts as gone sooner than for users.
        source._RUNNING_STALL_S = 3.0
        source._STALL_S, destination._STALL_S, source._PATIENCE_S = 3.0, 6.0, 10.0
        for line in sys.stdin:
            command: dict[str, Any] = json.loads(line)
            getattr(self, command.pop("do"))(**command)
        if self._vm is not None:
            self._vm.close()
        for listener in self._listeners:
            listener.join()


if __name__ == "__main__":
    Host().run()
