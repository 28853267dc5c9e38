"""Post-copy: the machine runs at the destination, and its memory follows.

Two connections: on one the source pushes what is left, on the other the destination asks for pages that somebody waits
for, and the answer overtakes the push. Each is used by one thread a side, and in one direction at a time.

The source sends a page once. After a connection broke, the destination says what it has not, and that is sent anew;
a page that came twice is passed over, since the guest may have written it.
"""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING

from wirt import _core
from wirt.errors import MigrationError, WirtError
from wirt.migration.protocol import bulk, expect, fields, pack
from wirt.migration.transport import Broken, Channel, Kind

if TYPE_CHECKING:
    from wirt.migration.destination import Reception
    from wirt.migration.source import Migration

__all__ = ["Puller", "Pusher"]

_AHEAD = 16  # pages that are sent with one that was asked for
_PUSH_PAGES = 64
_MOST_WANTED = 256
_LARGEST = 1 << 20


class Pusher:
    """The source's side."""

    def __init__(self, migration: Migration, encoder: _core.PageEncoder, missing: _core.PageSet) -> None:
        self._migration, self._encoder = migration, encoder
        self._left = missing
        self._lock = threading.Lock()
        self._next = 0

    def restart(self, missing: _core.PageSet) -> None:
        """What the destination has not, after a connection broke."""
        with self._lock:
            self._left, self._next = missing, 0

    def run(self, channel: Channel, faults: Channel) -> None:
        """Sends all; returns when the destination has it.

        Raises:
            MigrationError: the connection broke.
        """
        server = threading.Thread(target=self._serve_faults, args=(faults,), name="wirt-post-copy", daemon=True)
        server.start()
        try:
            while True:
                with self._lock:
                    pages = self._left.take_from(self._next, _PUSH_PAGES)
                if not pages:
                    break
                self._migration._count(channel.send(Kind.pages, self._encoder.encode_all(pages, _LARGEST)))
                self._migration._tell("post-copy", self._left)
            fields(expect(channel, Kind.done), {"id": str})
        finally:
            faults.close()
            server.join()

    def _serve_faults(self, channel: Channel) -> None:
        try:
            channel.set_stall(3600.0)
            while True:
                wanted = expect(channel, Kind.want)
                if len(wanted) % 8 or len(wanted) > _MOST_WANTED * 8:
                    raise Broken("a request for pages is broken")
                batch = b""
                for (page,) in struct.iter_unpack("<Q", wanted):
                    with self._lock:
                        # What lies behind it will be wanted next.
                        pages = self._left.take_range(page, _AHEAD if len(batch) < _LARGEST // 4 else 1)
                        self._next = page + _AHEAD
                    batch += self._encoder.encode_all(pages, _LARGEST)
                self._migration._count(channel.send(Kind.pages, batch))
        except MigrationError:
            channel.close()


class Puller:
    """The destination's side.

    Attributes:
        arrivals: the pages that are missing.
    """

    def __init__(self, reception: Reception, machine: _core.Machine, missing: _core.PageSet) -> None:
        self._reception, self._machine = reception, machine
        self.arrivals = _core.PageArrivals(machine, missing)

    @property
    def _closed(self) -> bool:
        return self._machine.state is _core.MachineState.closed

    def run(self, channel: Channel) -> None:
        """Takes what is pushed, until nothing is missing or the connection breaks."""
        try:
            channel.set_stall(3600.0)
            while self.arrivals.missing:
                kind, payload, compressed = channel.receive()
                if kind is not Kind.pages:
                    raise Broken(f"{kind.name} does not belong here")
                self.arrivals.decode(bulk(payload, compressed))
            channel.send(Kind.done, pack(id=self._reception.id))
        except (WirtError, ValueError):
            channel.close()  # the source will come again

    def serve_faults(self, channel: Channel) -> None:
        """Asks for the pages that somebody waits for."""
        try:
            self.arrivals.ask_again()
            while self.arrivals.missing and not self._closed:
                wanted = self.arrivals.wanted(_MOST_WANTED, 0.2)
                if not wanted:
                    if channel.readable():
                        break  # it ended
                    continue
                channel.send(Kind.want, struct.pack(f"<{len(wanted)}Q", *wanted))
                kind, payload, compressed = channel.receive()
                if kind is not Kind.pages:
                    raise Broken(f"{kind.name} does not belong here")
                self.arrivals.decode(bulk(payload, compressed))
        except (WirtError, ValueError):
            channel.close()
