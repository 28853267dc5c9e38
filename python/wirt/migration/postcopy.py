"""Post-copy: the machine runs at the destination, and its memory follows.

Two connections: on one the source pushes what is left, on the other the destination asks for pages that somebody waits
for. The answer has two frames, the pages that were asked for and those behind them, so that nobody who waits for one
page waits for sixteen to be copied, tagged and checked. It overtakes the push: nothing is pushed while one is being
made, what is pushed goes in small pieces and fills no queue, and a limit on the bandwidth is for the push, though
answers count. Each connection is used by one thread a side, and in one direction at a time. When one breaks, both sides
end the other as well.

The source sends a page once, on either, and once more when it is asked for and has been pushed, since it may be stuck
behind much else. It says on the first when none is left (`sent`). The last page may still be on its way on the other
then. When it is there the destination says so (`done`), and listens until it has heard
`confirmed`. The second connection is the source's to end.

After a connection broke, the destination says what it has not, and that is sent anew. A page that came twice is passed
over, since the guest may have written it.
"""

from __future__ import annotations

import contextlib
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

_AHEAD = 16  # pages that are sent with one that was asked for, it among them
_MOST_FOLLOWED = 16  # of those that are asked for at once
_PUSH_PAGES = 32
_YIELD_S = 0.02  # then it is pushed all the same: who asks may have gone
_MOST_WANTED = 256
_LARGEST = 1 << 20
_IDLE_S = 3600.0  # the source says nothing for as long as nobody asks, or as its user's bandwidth makes it wait


class Pusher:
    """The source's side."""

    def __init__(self, migration: Migration, encoder: _core.PageEncoder, missing: _core.PageSet) -> None:
        self._migration, self._encoder = migration, encoder
        # One of its own, so that nobody who waits for a page waits for a batch to be made.
        self._urgent = _core.PageEncoder(migration._core, 1)
        self._left = missing
        self._lock = threading.Lock()
        self._answered = threading.Event()  # nobody waits for an answer that is being made
        self._answered.set()
        self._finished = False
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
        faults.hurry()
        channel.yield_()
        server = threading.Thread(target=self._serve_faults, args=(faults, channel), name="wirt-post-copy", daemon=True)
        server.start()
        try:
            while True:
                self._answered.wait(_YIELD_S)
                with self._lock:
                    pages = self._left.take_from(self._next, _PUSH_PAGES)
                if not pages:
                    break
                self._migration._count(channel.send(Kind.pages, self._encoder.encode_all(pages, _LARGEST)))
                self._migration._tell("post-copy", self._left)
            channel.send(Kind.sent)
            fields(expect(channel, Kind.done), {"id": str})
            self._finished = True
            with contextlib.suppress(Broken):
                channel.send(Kind.confirmed)
        finally:
            faults.end()
            server.join()

    def _answer(self, channel: Channel, pages: _core.PageSet) -> None:
        self._migration._count(channel.send(Kind.pages, self._urgent.encode_all(pages, 2 * _LARGEST)), urgent=True)

    def _serve_faults(self, channel: Channel, push: Channel) -> None:
        try:
            channel.set_stall(_IDLE_S)
            while True:
                self._answered.set()
                wanted = expect(channel, Kind.want)
                self._answered.clear()
                if len(wanted) % 8 or len(wanted) > _MOST_WANTED * 8:
                    raise Broken("a request for pages is broken")
                numbers = [page for (page,) in struct.iter_unpack("<Q", wanted)]
                if any(page >= self._left.pages for page in numbers):
                    raise Broken("a page is asked for that there is not")
                asked, behind = _core.PageSet(self._left.pages), _core.PageSet(self._left.pages)
                for page in numbers:
                    # Also if it was pushed: it may be stuck in buffers.
                    asked.insert(page)
                with self._lock:
                    self._left -= asked
                self._answer(channel, asked)
                with self._lock:
                    # What lies behind them will be wanted next.
                    for page in numbers[:_MOST_FOLLOWED]:
                        behind |= self._left.take_range(page + 1, _AHEAD - 1)
                        self._next = page + _AHEAD
                self._answer(channel, behind)
        except MigrationError:
            # Pages that were asked for may be lost, and nobody can ask any more.
            channel.end()
            if not self._finished:
                push.end()
        finally:
            self._answered.set()


class Puller:
    """The destination's side.

    Attributes:
        arrivals: the pages that are missing.
        done: all are there, and the source knows it.
    """

    def __init__(self, reception: Reception, machine: _core.Machine, missing: _core.PageSet) -> None:
        self._reception, self._machine = reception, machine
        self.arrivals = _core.PageArrivals(machine, missing)
        self.done = False
        self._changed = threading.Condition()
        self._askers = 0  # threads in serve_faults

    @property
    def _closed(self) -> bool:
        return self._machine.state is _core.MachineState.closed

    def run(self, channel: Channel) -> bool:
        """Takes what is pushed, until nothing is missing; False: it broke before the source knew that."""
        try:
            channel.set_stall(_IDLE_S)
            while self._bring(channel, Kind.sent):
                pass
            with self._changed:
                # What was asked for comes on the other connection, and nobody pushes it.
                self._changed.wait_for(lambda: not self.arrivals.missing or not self._askers)
            if self.arrivals.missing:
                raise Broken("pages were asked for and did not come")
            channel.send(Kind.done, pack(id=self._reception.id))
            expect(channel, Kind.confirmed)
        except (WirtError, ValueError):
            channel.end()  # the source will come again
            return False
        self.done = True
        return True

    def _bring(self, channel: Channel, end: Kind | None = None) -> bool:
        """Takes a frame of pages; False when it is the `end`."""
        kind, payload, compressed = channel.receive()
        if kind is end:
            return False
        if kind is not Kind.pages:
            raise Broken(f"{kind.name} does not belong here")
        self.arrivals.decode(bulk(payload, compressed))
        with self._changed:
            self._changed.notify_all()
        return True

    def serve_faults(self, channel: Channel, push: Channel) -> None:
        """Asks for the pages that somebody waits for; `push` is the connection that this one belongs to."""
        with self._changed:
            self._askers += 1
        channel.hurry()
        try:
            self.arrivals.ask_again()
            while self.arrivals.missing and not self._closed:
                wanted = self.arrivals.wanted(_MOST_WANTED, 0.2)
                if wanted:
                    channel.send(Kind.want, struct.pack(f"<{len(wanted)}Q", *wanted))
                    self._bring(channel)
                    self._bring(channel)
                elif channel.readable():
                    raise Broken("the source ended it")
        except (WirtError, ValueError):
            channel.end()
            push.end()
        finally:
            with self._changed:
                self._askers -= 1
                self._changed.notify_all()
        with contextlib.suppress(MigrationError):
            channel.set_stall(_IDLE_S)
            channel.receive()
