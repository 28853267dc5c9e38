"""The side that takes a machine: it builds it, fills it, and decides, once, whether it runs.

docs/migration.md has the protocol's states and why exactly one machine goes on.

Untrusted: all that arrives, also from a source that has shown who it is. Memory and state go into a machine that has
never run and that is dropped when anything is wrong.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wirt import _core
from wirt.description import MachineDescription, all_disks, build, parse
from wirt.device import Device
from wirt.disk import Disk
from wirt.errors import ConfigError, MigrationError, WirtError
from wirt.migration.postcopy import Puller
from wirt.migration.progress import MigrationProgress
from wirt.migration.protocol import bulk, expect, fields, pack, unpack_disk
from wirt.migration.transport import (
    BATCH,
    Broken,
    Channel,
    Kind,
    Listener,
    Payload,
    Security,
    of_socket,
    parse_address,
)
from wirt.net import Port

if TYPE_CHECKING:
    from wirt.machine import Machine

__all__ = ["Reception", "receive"]

_PAGE = 4096
_STALL_S = 60.0
_ANSWER_S = 1.0  # then a source that asks is told to ask again
_STREAM_STALL_S = 86400.0  # the first stream says when something is wrong
_LARGEST_STATE = 512 << 20
_MOST_STREAMS = 16

_logger = logging.getLogger(__name__)


class Reception:
    """A machine on its way here: :attr:`wirt.Machine.migration` of a machine that was received.

    Attributes:
        id: names it on both sides; empty before a source has come.
        state: ``waiting``; ``receiving``; ``loading`` (all is here); ``complete`` (it is ours, and runs if it ran);
            ``failed``. Only the first three ever become another.
        confirmed: the source knows that it is ours.
        missing_pages: of a post-copy migration.
    """

    def __init__(
        self,
        disks: Sequence[Disk],
        nets: Sequence[Port] | None,
        devices: Sequence[Device],
        on_progress: Callable[[MigrationProgress], None] | None,
    ) -> None:
        self._disks, self._nets, self._devices, self._on_progress = disks, nets, devices, on_progress
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self.id = ""
        self.state = "waiting"
        self.error: BaseException | None = None
        self.confirmed = False
        self.machine: Machine | None = None
        self.listener: Listener | None = None
        self._channels: dict[int, Channel] = {}
        self._streams = 1
        self._batches: list[int] = [0]
        self._ended: set[int] = set()  # streams
        self._mode = "precopy"
        self._state_size = -1
        self._saved = bytearray()
        self._missing = bytearray()
        self._received_bytes = 0
        self._puller: Puller | None = None
        self._taken: list[Disk] = []  # that the source has handed over

    @property
    def missing_pages(self) -> int:
        """Pages that are not here yet."""
        return self._puller.arrivals.missing if self._puller is not None else 0

    # --- connections ---

    def serve(self, channel: Channel) -> None:
        """A connection of somebody who has shown who it is, until it ends."""
        hello = fields(expect(channel, Kind.hello), {"role": str, "id": str, "stream": int, "streams": int})
        role = hello["role"]
        try:
            if role == "query":
                return self._answer(channel, hello["id"])
            if role == "migrate":
                self._begin(channel, hello["id"], hello["streams"])
            elif self.id != hello["id"] or role not in ("stream", "faults", "recover"):
                raise MigrationError("nobody waits for this connection")
            channel.send(Kind.welcome, pack(version="1"))
        except MigrationError as error:
            with self._lock:
                # A source that went away before it was welcome is one that failed.
                if self.state == "receiving" and self._channels.get(0) is channel:
                    self._fail(error)
            self._refuse(channel, error)
            return None
        if role == "migrate":
            try:
                self._run(channel)
            finally:
                with self._lock:
                    if self.state in ("receiving", "loading"):
                        self._fail(MigrationError("the receiver met an error that it did not expect"))
        elif role == "stream":
            self._run_stream(channel, hello["stream"])
        elif role == "faults":
            self._take_faults(channel)
        else:
            self._recover(channel)
        return None

    def _begin(self, channel: Channel, migration_id: str, streams: int) -> None:
        if not 1 <= streams <= _MOST_STREAMS or not 16 <= len(migration_id) <= 64:
            raise MigrationError("the source asks for what there is not")
        with self._lock:
            if self.state != "waiting":
                raise MigrationError("this receiver has a machine already")
            self.state = "receiving"
            self.id, self._streams, self._batches = migration_id, streams, [0] * streams
            self._channels[0] = channel

    def _answer(self, channel: Channel, migration_id: str) -> None:
        """What became of a migration.

        The source has given its connection up. What of it has arrived still counts: it may be the whole of `commit`,
        not read yet. What has not arrived by now never will.
        """
        with self._lock:
            state = "failed"
            if migration_id == self.id:
                if self.state == "receiving":
                    self._channels[0].stop_reading()
                self._changed.wait_for(lambda: self.state in ("complete", "failed"), _ANSWER_S)
                state = "loading" if self.state == "receiving" else self.state
        channel.send(Kind.answer, pack(state=state))
        if state == "complete":
            expect(channel, Kind.confirmed)
            self._confirm()

    def _refuse(self, channel: Channel, error: BaseException) -> None:
        try:
            channel.send(Kind.refused, pack(reason=str(error)[:1000]))
            # The source is in the middle of a sentence; closing at once could lose ours.
            channel.set_stall(2.0)
            while True:
                channel.receive()
        except MigrationError:
            pass

    def _fail(self, error: BaseException) -> None:
        """With the lock held: the machine will never run here."""
        # First: whoever hears that it failed needs them.
        for disk in self._taken:
            disk._let_go()
        self._taken.clear()
        self.state = "failed"
        self.error = error
        self._changed.notify_all()

    def _confirm(self) -> None:
        with self._lock:
            self.confirmed = True
            self._changed.notify_all()
        if self.listener is not None and (self._puller is None or self._puller.done):
            self.listener.close()

    # --- what the source sends ---

    def _run(self, channel: Channel) -> None:
        try:
            self._prepare(expect(channel, Kind.machine))
            channel.send(Kind.ready)
            commit = self._receive(channel)
        except (WirtError, ValueError) as error:
            self._give_up(channel, error)
            return
        with self._lock:
            # The source may have asked meanwhile, on another connection, and been told that it never will be.
            late = self.state != "receiving"
            if not late:
                self.state = "loading"
        if late:
            self._give_up(channel, Broken("the source has given up"))
            return
        try:
            self._load(commit)
        except (WirtError, ValueError, OSError) as error:
            self._give_up(channel, error)
            return
        with self._lock:
            self.state = "complete"
            self._changed.notify_all()
        try:
            channel.send(Kind.acknowledged, pack(id=self.id))
            self._announce()
            expect(channel, Kind.confirmed)
        except MigrationError:
            pass  # it will ask
        else:
            self._confirm()
        if self._puller is not None and self._puller.run(channel):
            self._confirm()

    def _give_up(self, channel: Channel, error: BaseException) -> None:
        with self._lock:
            if self.state in ("receiving", "loading"):
                self._fail(error)
            channels = [other for number, other in self._channels.items() if number]
        for other in channels:
            other.end()
        if self.machine is not None:
            self.machine.close()
        if not isinstance(error, Broken):
            self._refuse(channel, error)

    def _prepare(self, payload: bytes) -> None:
        message = fields(payload, {"description": dict, "dtb": str, "storage": bool, "mode": str})
        if message["mode"] not in ("precopy", "postcopy", "hybrid"):
            raise MigrationError("a mode that this release does not know")
        self._mode = message["mode"]
        description: MachineDescription = parse(message["description"])
        wanted = all_disks(description)
        for number, (disk, is_to_be) in enumerate(zip(self._disks, wanted, strict=False)):
            if disk._incoming == message["storage"] and not is_to_be["read_only"]:
                raise MigrationError(
                    f"disk {number} is incoming, and yet its content comes along"
                    if disk._incoming
                    else f"disk {number} can be written, and its content does not come along: send it (storage=True), "
                    "or, when both hosts see the file, open it with incoming=True"
                )
            if disk._incoming:
                disk._announce()
        try:
            dtb = b64decode(message["dtb"], validate=True)
        except (Base64Error, ValueError):
            raise MigrationError("the device tree is broken") from None
        self.machine = build(
            description,
            memory=None,
            state=None,
            dtb=dtb,
            disks=self._disks,
            nets=self._nets,
            devices=self._devices,
        )
        self._writable = [
            disk._opened() if message["storage"] and not is_to_be["read_only"] else None
            for disk, is_to_be in zip(self._disks, wanted, strict=True)
        ]

    def _receive(self, channel: Channel) -> bytes:
        """Memory, disks and state; the ``commit`` message."""
        assert self.machine is not None
        shown = time.monotonic()
        while True:
            kind, payload, compressed = channel.receive()
            if kind is Kind.pages:
                _core.decode_pages(self.machine._core, bulk(payload, compressed))
                self._count(0)
            elif kind is Kind.disk:
                self._write_disk(bulk(payload, compressed))
                self._count(0)
            elif kind is Kind.progress:
                self._await_batches(fields(payload, {"batches": list})["batches"], "receiving")
                channel.send(Kind.progress)
            elif kind is Kind.end:
                # Also when the source had said so before, and then went on running.
                self._state_size = fields(payload, {"size": int})["size"]
                self._saved.clear()
                if self._state_size > _LARGEST_STATE:
                    raise MigrationError("the machine's state is larger than any")
            elif kind is Kind.state:
                self._saved += payload
                if len(self._saved) > self._state_size:
                    raise MigrationError("the machine's state is longer than it was said to be")
            elif kind is Kind.missing:
                self._missing += payload
                if len(self._missing) > len(self.machine._core.memory) // _PAGE // 8 + 8:
                    raise MigrationError("the set of missing pages is too large")
            elif kind is Kind.commit:
                return bytes(payload)
            else:
                raise MigrationError(f"{kind.name} does not belong here")
            self._received_bytes += len(payload)
            now = time.monotonic()
            if self._on_progress is not None and now - shown > 0.1:
                shown = now
                self._on_progress(MigrationProgress("memory", sent_bytes=self._received_bytes))

    def _run_stream(self, channel: Channel, number: int) -> None:
        try:
            with self._lock:
                if self.state != "receiving" or not 0 < number < self._streams or number in self._channels:
                    raise MigrationError("there is no such stream")
                self._channels[number] = channel
            channel.set_stall(_STREAM_STALL_S)
            while True:
                kind, payload, compressed = channel.receive()
                if kind is not Kind.pages or self.machine is None:
                    raise MigrationError(f"{kind.name} does not belong here")
                _core.decode_pages(self.machine._core, bulk(payload, compressed))
                self._count(number)
        except (WirtError, ValueError) as error:
            with self._lock:
                self._ended.add(number)
                self._changed.notify_all()
                if self.state == "receiving":
                    self._fail(error)
                    self._channels[0].end()

    def _count(self, number: int) -> None:
        with self._lock:
            self._batches[number] += 1
            self._changed.notify_all()

    def _write_disk(self, payload: Payload) -> None:
        index, offset, length, data = unpack_disk(payload)
        disk = self._writable[index] if index < len(self._writable) else None
        if disk is None:
            raise MigrationError(f"disk {index} is not among those that are sent")
        if len(data):
            disk.write(offset, bytes(data))
        elif length:
            disk.write_zeroes(offset, length, True)

    def _load(self, payload: bytes) -> None:
        """The switch-over: nothing of the machine has run when this begins; when it ends, it does."""
        assert self.machine is not None
        core = self.machine._core
        commit = fields(payload, {"size": int, "digest": str, "batches": list, "running": bool})
        if not self._state_size == commit["size"] == len(self._saved):
            raise MigrationError("the machine's state is not all there")
        saved = bytes(self._saved)
        if hashlib.sha256(saved).hexdigest() != commit["digest"]:
            raise MigrationError("the machine's state is not what was sent")
        self._await_batches(commit["batches"], "loading")
        for disk in self._writable:
            if disk is not None:
                disk.flush()
        self._writable.clear()
        for shared in self._disks:
            if shared._incoming:
                shared._take()
                self._taken.append(shared)
        if self._mode != "precopy":
            missing = _core.PageSet.of_bits(len(core.memory) // _PAGE, bytes(self._missing))
            self._puller = Puller(self, core, missing)
        elif self._missing:
            raise MigrationError("pages are missing, and this is no post-copy migration")
        _core.load_state(core, _core.SavedState(saved))
        self.machine._migration = self
        if commit["running"]:
            self.machine.resume()

    def _await_batches(self, sent: list[int], state: str) -> None:
        """Until all streams, which may be behind the first, have brought what was sent; while in `state`."""
        if len(sent) != self._streams:
            raise MigrationError("the source had another number of streams")
        if sent[0] != self._batches[0]:
            raise MigrationError("memory is not all there")  # it came on the stream on which this is said
        end = time.monotonic() + _STALL_S
        with self._lock:
            while self._batches != sent:
                lost = any(self._batches[number] != sent[number] for number in self._ended)
                if lost or self.state != state or not self._changed.wait(end - time.monotonic()):
                    raise MigrationError("memory is not all there")

    def _announce(self) -> None:
        """So that switches learn at once where the NICs are (a RARP request, RFC 903, as QEMU sends)."""
        if self.machine is None:
            return
        for net in self.machine._nets:
            net._announce()

    # --- post-copy ---

    def _take_faults(self, channel: Channel) -> None:
        with self._lock:
            self._channels[-1] = channel
            push = self._channels[0]
            # The source opens it in advance, when not even the mode is known here.
            self._changed.wait_for(lambda: self._puller is not None or self.state in ("complete", "failed"))
            if self._puller is None:
                return
        self._puller.serve_faults(channel, push)

    def _recover(self, channel: Channel) -> None:
        with self._lock:
            puller = self._puller
            old = [other for other in self._channels.values() if other is not channel]
            self._channels = {0: channel}
        for other in old:
            other.end()
        if puller is None or self.state != "complete":
            raise Broken("there is nothing to recover")
        bits = puller.arrivals.missing_pages().bits()
        for offset in range(0, len(bits), BATCH):
            channel.send(Kind.missing, memoryview(bits)[offset : offset + BATCH])
        if puller.run(channel):
            self._confirm()

    # --- the caller ---

    def wait(self, timeout: float | None) -> Machine:
        """The machine, once it is ours.

        Raises:
            MigrationError: it never will be.
            TimeoutError: nobody came.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while self.state not in ("complete", "failed"):
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0 and self.state == "waiting":
                    self.state = "failed"
                    raise MigrationError(f"no source came within {timeout:g} s")
                # Ctrl-C is heard between two waits.
                self._changed.wait(0.2 if left is None or left <= 0 else min(left, 0.2))
            if self.state == "failed":
                error = self.error
                raise error if isinstance(error, MigrationError) else MigrationError(str(error)) from error
            assert self.machine is not None
            return self.machine

    def await_confirmation(self, timeout: float) -> bool:
        """Waits until the source knows that the machine is ours. A process that ends before may make it run again."""
        with self._lock:
            return self._changed.wait_for(lambda: self.confirmed, timeout)

    def abandon(self, why: MigrationError, *, waiting: bool = False) -> None:
        """It never will be ours, unless it is already, or, with `waiting`, unless a source has come."""
        with self._lock:
            channels = []
            if self.state == "waiting" or (self.state == "receiving" and not waiting):
                self._fail(why)
                channels = list(self._channels.values())
        for channel in channels:
            channel.end()


def receive(
    at: str | int,
    disks: Sequence[Disk | str | os.PathLike[str]],
    nets: Sequence[Port] | None,
    devices: Sequence[Device],
    security: Security,
    timeout: float | None,
    on_progress: Callable[[MigrationProgress], None] | None,
) -> Machine:
    """See :meth:`wirt.Machine.receive`."""
    if not security.server:
        raise ConfigError("receiving needs the security of a server")
    reception = Reception(
        [disk if isinstance(disk, Disk) else Disk(disk) for disk in disks], nets, devices, on_progress
    )
    try:
        if isinstance(at, int):
            channel = of_socket(at, security, stall=_STALL_S)
            threading.Thread(target=_serve_one, args=(reception, channel), name="wirt-receive", daemon=True).start()
        else:
            address = parse_address(at)
            reception.listener = Listener(address, security, reception.serve, stall=_STALL_S)
        machine = reception.wait(timeout)
    except BaseException:
        reception.abandon(MigrationError("the receiver has gone"))
        if reception.listener is not None and reception.state != "complete":
            reception.listener.close()
        raise
    return machine


def _serve_one(reception: Reception, channel: Channel) -> None:
    try:
        reception.serve(channel)
    except MigrationError as error:
        _logger.info("a connection ended: %s", error)
    finally:
        channel.close()
        # There is no other connection on which a machine could come.
        reception.abandon(MigrationError("the connection ended before a machine came"), waiting=True)
