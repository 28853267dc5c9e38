"""The side that gives a machine away: pre-copy, the switch-over, and what is done when nobody knows how it ended.

docs/migration.md has the protocol's states and why exactly one machine goes on.

Untrusted: what the destination answers. It can refuse, and it can say that it has the machine; nothing else that it
sends changes anything here.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from wirt import _core
from wirt.description import DiskDescription, all_disks, describe
from wirt.errors import ConfigError, MigrationError, MigrationInDoubt, StateError, StorageError
from wirt.migration.brake import Brake
from wirt.migration.disks import DiskMirror, HandOver
from wirt.migration.postcopy import Pusher
from wirt.migration.progress import MigrationProgress, MigrationReport
from wirt.migration.protocol import Compressor, expect, fields, pack, refusal
from wirt.migration.transport import (
    BATCH,
    Address,
    Broken,
    Channel,
    Gone,
    Kind,
    MiB,
    Security,
    TlsFiles,
    connect,
    of_socket,
    parse_address,
)

if TYPE_CHECKING:
    from wirt.machine import Machine

__all__ = ["Migration", "Mode", "Options"]

Mode = Literal["precopy", "postcopy", "hybrid"]

_LOG = _core.DirtyLog.migration
_PAGE = 4096
_CACHE_BYTES = 64 * MiB
_STALL_S = 20.0  # that the destination may do nothing while the guest stands still, or may run there
_RUNNING_STALL_S = 300.0  # likewise while it runs here, and loses nothing
_PATIENCE_S = 30.0  # how long an answer is waited for, and a connection tried
_MOST_STREAMS = 16
_MOST_ROUNDS = 60
_MOST_SWITCHES = 12
# A round whose rest is more than this part of what the last one sent does not converge.
_HOPELESS = 0.5
_FIRST_GUESS = 100e6  # bytes a second, until a round has been measured
_SWITCH_S = 0.003  # what a switch-over takes beside memory and disks


class _TooSlow(Exception):
    """The rest did not fit into the downtime: the guest goes on here, and so does the migration."""


class Options:
    """How a migration is to be done; see :meth:`wirt.Machine.migrate`."""

    def __init__(
        self,
        *,
        mode: Mode = "precopy",
        downtime: float = 0.3,
        streams: int = 1,
        compress: str = "auto",
        storage: bool = False,
        tls: ssl.SSLContext | TlsFiles | None = None,
        secret: bytes | str | None = None,
        bandwidth: float | None = None,
        timeout: float | None = None,
        on_progress: Callable[[MigrationProgress], None] | None = None,
        auto_converge: bool = True,
    ) -> None:
        if mode not in ("precopy", "postcopy", "hybrid"):
            raise ConfigError(f"mode {mode!r}: is none of 'precopy', 'postcopy', 'hybrid'")
        if compress not in ("auto", "always", "never"):
            raise ConfigError(f"compress {compress!r}: is none of 'auto', 'always', 'never'")
        if not 1 <= streams <= _MOST_STREAMS:
            raise ConfigError(f"streams {streams}: 1 to {_MOST_STREAMS}")
        if not downtime > 0 or (bandwidth is not None and not bandwidth > 0) or (timeout is not None and timeout <= 0):
            raise ConfigError("downtime, bandwidth and timeout are positive")
        self.mode, self.downtime, self.streams, self.compress = mode, downtime, streams, compress
        self.storage, self.bandwidth, self.timeout = storage, bandwidth, timeout
        self.on_progress, self.auto_converge = on_progress, auto_converge
        self.security = Security(tls, secret, server=False)


class Migration:
    """A machine on its way to another host: :attr:`wirt.Machine.migration`.

    Attributes:
        id: names it on both sides.
        state: ``copying``; ``switching`` (paused, the decision is near); ``in doubt`` (the destination may have it:
            nothing runs here until that is known); ``post-copy`` (it runs there, and pulls its memory); ``interrupted``
            (likewise, and the connection is broken); ``completed``; ``failed`` (it goes on here).
        error: why it failed, or why nobody knows.
        progress: the last report.
    """

    def __init__(self, machine: Machine, to: str | int, options: Options) -> None:
        self._machine, self._core = machine, machine._core
        self._options = options
        self._address: Address | None = None
        self._fd = -1
        if isinstance(to, int):
            if options.streams != 1 or options.mode != "precopy":
                raise ConfigError("a descriptor is one connection: streams=1 and mode='precopy'")
            self._fd = to
        else:
            self._address = parse_address(to)
            options.security.check(self._address)
        self.id = secrets.token_hex(16)
        self.state = "copying"
        self.error: BaseException | None = None
        self.progress = MigrationProgress("memory")
        self.report = MigrationReport(self.id, options.mode)
        self._lock = threading.Lock()
        self._channels: list[Channel] = []
        self._ran = False
        self._held = False
        self._bandwidth = 0.0
        self._page_cost = float(_PAGE)
        self._dirty_rate = 0.0
        self._started = time.monotonic()
        self._brake = Brake(self._core)
        self._shared = HandOver((), True, ())
        self._used: Future[_core.PageSet] | None = None
        self._faults: Channel | None = None
        self._pusher: Pusher | None = None

    # --- the whole of it ---

    def run(self) -> MigrationReport:
        """Migrates."""
        try:
            if self._core.state in (_core.MachineState.stopped, _core.MachineState.closed):
                raise StateError("the machine has ended: there is nothing to migrate")
            description = describe(self._machine)
            self._open_disks(all_disks(description))
            with self._logs(), self._survey():
                self._connect(description)
                self._copy()
        except Broken as error:
            refused = self._last_words()
            self._fail(refused or error)
            if refused is not None:
                raise refused from error
            raise
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._close_channels()
        self.report.total_time = time.monotonic() - self._started
        self._tell("done")
        return self.report

    def _open_disks(self, described: Sequence[DiskDescription]) -> None:
        disks = [disk._opened() for disk in self._machine._disks]
        self._shared = HandOver(disks, self._options.storage, described)
        self._mirror = DiskMirror(disks, self._options.storage, described)

    def _last_words(self) -> MigrationError | None:
        """Why the destination ended the connection under our hands, if it said so."""
        if self.state not in ("copying", "switching") or not self._channels:
            return None
        with contextlib.suppress(MigrationError):
            kind, payload, _ = self._channels[0].receive()
            if kind is Kind.refused:
                return refusal(payload)
        return None

    def _connect(self, description: object) -> None:
        options = self._options
        main = self._open("migrate")
        main.send(
            Kind.machine,
            pack(
                description=description,
                dtb=b64encode(self._core.dtb).decode(),
                storage=options.storage,
                mode=options.mode,
            ),
        )
        if options.mode == "postcopy":
            # Here it costs nothing: meanwhile the destination builds the machine.
            self._faults = self._open("faults")
        expect(main, Kind.ready)
        for number in range(1, options.streams):
            self._open("stream", number)
        self._pages = len(self._core.memory) // _PAGE
        self._pending = _core.PageSet(self._pages)
        cache = max(_CACHE_BYTES // _PAGE // options.streams, 1)
        self._encoders = [_core.PageEncoder(self._core, cache) for _ in range(options.streams)]
        self._compressors = [Compressor(options.compress) for _ in range(options.streams)]
        self._batches = [0] * options.streams
        self._budget_lock = threading.Lock()
        self._budget_time = time.monotonic()

    def _open(self, role: str, stream: int = 0) -> Channel:
        stall = self._running_stall if self.state == "copying" else _STALL_S
        if self._address is None:
            channel = of_socket(self._fd, self._options.security, stall=stall)
        else:
            channel = connect(self._address, self._options.security, stall=stall)
        if role != "query":
            self._channels.append(channel)
        channel.send(Kind.hello, pack(role=role, id=self.id, stream=stream, streams=self._options.streams))
        if role in ("migrate", "stream", "faults", "recover"):
            fields(expect(channel, Kind.welcome), {"version": str})
        return channel

    @property
    def _running_stall(self) -> float:
        return min(_RUNNING_STALL_S, self._options.timeout or _RUNNING_STALL_S)

    def _set_stall(self, seconds: float) -> None:
        for channel in self._channels:
            channel.set_stall(seconds)

    @contextlib.contextmanager
    def _logs(self) -> Iterator[None]:
        _core.start_log(self._core, _LOG)
        try:
            self._mirror.start()
            yield
        finally:
            self._brake.close()
            self._mirror.stop()
            _core.stop_log(self._core, _LOG)

    @contextlib.contextmanager
    def _survey(self) -> Iterator[None]:
        """For post-copy: looks for the pages that hold something, while the connection is made."""
        if self._options.mode != "postcopy":
            yield
            return
        with ThreadPoolExecutor(1, thread_name_prefix="wirt-migrate") as pool:
            # What is written behind its back is in the dirty log.
            self._used = pool.submit(_core.used_pages, self._core)
            yield

    def _fail(self, error: BaseException) -> None:
        """The machine goes on here, unless the destination may have it."""
        self.error = error
        if self.state == "post-copy":
            self.state = "interrupted"
        if self.state in ("in doubt", "interrupted", "completed"):
            return
        self._stay()

    def _stay(self) -> None:
        """It is decided: here.

        Raises:
            MigrationInDoubt: a disk that was given away does not come back.
        """
        self._go_on()
        self._shared.forget()
        self.state = "failed"

    def _go_on(self) -> None:
        """Here.

        Raises:
            MigrationInDoubt: a disk that was given away does not come back.
        """
        if not self._held:
            return
        try:
            self._shared.take_back()
        except StorageError as error:
            self.state, self.error = "in doubt", error
            raise MigrationInDoubt(
                f"the destination says that it has not got the machine, and yet somebody has its disk: {error}. The "
                "machine does not run here as long as that is so: vm.migration.resolve() tries again"
            ) from error
        self._held = False
        _core.release(self._core)
        if self._ran:
            self._core.resume()

    def _close_channels(self) -> None:
        for channel in self._channels:
            channel.close()
        self._channels.clear()

    # --- rounds ---

    def _copy(self) -> None:
        options = self._options
        self._tell("storage")
        self._mirror.copy_all(self._send_disk)
        if options.mode == "postcopy":
            assert self._used is not None
            return self._hand_over_unsent(self._used.result())
        self._pending.insert_all()
        self._round(None)
        if options.mode == "hybrid":
            return self._hand_over_unsent(_core.PageSet(self._pages))
        last, stuck, switches = self._pages * _PAGE, 0, 0
        while True:
            begin = time.monotonic()
            self._take_dirty()
            waiting = len(self._pending) * _PAGE + self._mirror.pending_bytes
            expected = self._expected()
            self._tell("memory")
            if expected <= options.downtime or self._core.state is not _core.MachineState.running:
                if self._switch():
                    return None
                switches += 1
            elif waiting > _HOPELESS * last:
                stuck += 1
            if stuck >= 2 and options.auto_converge and self._brake.strength < Brake.MOST:
                self._brake.harder()
                self.report.throttle = max(self.report.throttle, self._brake.strength)
                stuck = 0
            if switches >= _MOST_SWITCHES or stuck >= 8 or self.report.rounds >= _MOST_ROUNDS:
                raise MigrationError(
                    f"it does not converge: the guest writes {self._dirty_rate / 1e6:.0f} MB/s, the connection takes "
                    f"{self._bandwidth / 1e6:.0f} MB/s, and the rest would take {expected * 1000:.0f} ms where "
                    f"{options.downtime * 1000:.0f} ms are allowed; the machine goes on here. Allow more downtime, or "
                    "use mode='hybrid'"
                )
            last = waiting
            self._round(None)
            written = _core.dirty_count(self._core, _LOG) * _PAGE
            self._dirty_rate = written / max(time.monotonic() - begin, 1e-3)

    def _take_dirty(self) -> None:
        self._pending |= _core.take_dirty(self._core, _LOG)
        self._mirror.take_dirty()

    def _expected(self) -> float:
        """Seconds that the rest would take."""
        waiting = len(self._pending) * self._page_cost + self._mirror.pending_bytes
        return waiting / (self._bandwidth or _FIRST_GUESS) + _SWITCH_S

    def _round(self, deadline: float | None) -> None:
        """Sends the pages and the disks' pieces that wait.

        Raises:
            _TooSlow: `deadline` has passed; what was not sent still waits.
        """
        streams = self._options.streams
        pages = len(self._pending)
        self.report.round_pages.append(pages)
        first = self.report.rounds == 0
        before, begin = self.report.sent_bytes, time.monotonic()
        shares = [self._pending.share(number, streams) for number in range(streams)]
        self._pending = _core.PageSet(self._pages)
        try:
            self._mirror.send_pending(self._send_disk, deadline, _TooSlow)
            if streams == 1:
                self._send_pages(0, shares[0], first, deadline)
            else:
                with ThreadPoolExecutor(streams, thread_name_prefix="wirt-migrate") as pool:
                    jobs = [
                        pool.submit(self._send_pages, number, share, first, deadline)
                        for number, share in enumerate(shares)
                    ]
                for job in jobs:
                    job.result()
        finally:
            for share in shares:
                self._pending |= share
        if deadline is None:
            self._drain()
        self.report.rounds += 1
        sent, passed = self.report.sent_bytes - before, time.monotonic() - begin
        if sent > 64 << 10:
            rate = sent / max(passed, 1e-6)
            self._bandwidth = rate if first or not self._bandwidth else (self._bandwidth + rate) / 2
            if not first and pages:
                self._page_cost = max(sent / pages, 64.0)

    def _drain(self) -> None:
        """Waits until what was sent is in its place.

        What buffers on the way hold would be downtime, and would count for what the connection takes.
        """
        channel = self._channels[0]
        channel.send(Kind.progress, pack(batches=self._batches))
        expect(channel, Kind.progress)

    def _send_pages(self, number: int, left: _core.PageSet, first: bool, deadline: float | None) -> None:
        encoder, compressor, channel = self._encoders[number], self._compressors[number], self._channels[number]
        shown = time.monotonic()
        while left:
            batch = encoder.encode(left, BATCH, not first)
            if batch:
                data, packed = compressor.pack(batch)
                begin = time.perf_counter()
                self._count(channel.send(Kind.pages, data, compressed=packed))
                compressor.sent(len(data), time.perf_counter() - begin)
                self._batches[number] += 1
            now = time.monotonic()
            if deadline is not None and now > deadline:
                raise _TooSlow
            if number == 0:
                self._check(channel)
                if now - shown > 0.1:
                    shown = now
                    self._tell("memory", left)

    def _send_disk(self, payload: bytes) -> None:
        channel, compressor = self._channels[0], self._compressors[0]
        data, packed = compressor.pack(payload)
        self._count(channel.send(Kind.disk, data, compressed=packed))
        self._batches[0] += 1
        self._check(channel)

    def _check(self, channel: Channel) -> None:
        """Whether the destination has had enough, or the time is up."""
        if channel.readable():
            expect(channel, Kind.acknowledged)  # which raises what is the matter
            raise MigrationError("the destination says that it has what it cannot have")
        if self._options.timeout is not None and time.monotonic() - self._started > self._options.timeout:
            raise MigrationError(f"it took longer than {self._options.timeout:g} s; the machine goes on here")

    def _count(self, size: int, *, urgent: bool = False) -> None:
        """What was sent; waits as the bandwidth demands, unless somebody waits for it."""
        with self._budget_lock:
            self.report.sent_bytes += size
            if self._options.bandwidth is None:
                return
            # Each frame books its time on the line, and waits for its end.
            now = time.monotonic()
            self._budget_time = max(self._budget_time, now - 0.05) + size / self._options.bandwidth
            wait = self._budget_time - now
        if wait > 0 and not urgent:
            time.sleep(wait)

    def _tell(self, phase: str, left: _core.PageSet | None = None) -> None:
        self.progress = MigrationProgress(
            phase,
            self.report.rounds,
            len(self._pending if left is None else left),
            self._mirror.pending_bytes,
            self.report.sent_bytes,
            self._bandwidth,
            self._dirty_rate,
            self._expected(),
            self._brake.strength,
        )
        if self._options.on_progress is not None:
            self._options.on_progress(self.progress)

    # --- the switch-over ---

    def _hold(self) -> float:
        self.state = "switching"
        self._set_stall(_STALL_S)
        now = time.monotonic()
        self._ran = _core.hold(self._core)
        self._held = True
        self.report.switch_attempts += 1
        return now

    def _switch(self) -> bool:
        """False when the rest turned out to take too long; the guest then runs on."""
        options = self._options
        self._shared.flush()
        paused = self._hold()
        deadline = paused + options.downtime if self._ran else None
        try:
            self._take_dirty()
            if self._ran and self._expected() > options.downtime:
                raise _TooSlow
            self._round(deadline)
            # Once it is said that the machine is theirs there is no way back: what is left of the time is for that.
            state = self._send_state()
            if deadline is not None and time.monotonic() > deadline:
                raise _TooSlow
        except _TooSlow:
            self.state = "copying"
            self._go_on()
            self._set_stall(self._running_stall)
            return False
        self._commit(state, paused)
        self._finish()
        return True

    def _send_state(self) -> bytes:
        state = bytes(_core.save_state(self._core))
        channel = self._channels[0]
        self._count(channel.send(Kind.end, pack(size=len(state))))
        for offset in range(0, len(state), BATCH):
            self._count(channel.send(Kind.state, memoryview(state)[offset : offset + BATCH]))
        return state

    def _commit(self, state: bytes, paused: float) -> None:
        """Yours: from the first byte of it on, only the destination knows who has the machine."""
        channel = self._channels[0]
        message = pack(
            size=len(state),
            digest=hashlib.sha256(state).hexdigest(),
            batches=self._batches,
            running=self._ran,
        )
        try:
            self._shared.give()
        except StorageError as error:
            raise MigrationError(f"a disk cannot be handed over: {error}") from error
        self.state = "in doubt"
        try:
            channel.send(Kind.commit, message)
            kind, payload, _ = channel.receive()
        except Broken as error:
            self._settle(error)
        else:
            if kind is Kind.refused:
                # The only answer by which the machine is ours again: it will never run there.
                self.state = "switching"
                raise refusal(payload)
            if kind is not Kind.acknowledged:
                self._settle(MigrationError(f"the destination answered {kind.name}"))
        now = time.monotonic()
        self.report.downtime, self.report.switched_after = now - paused, now - self._started
        with contextlib.suppress(Broken):
            channel.send(Kind.confirmed)

    def _finish(self) -> None:
        self.state = "completed"
        for encoder in self._encoders:
            counts = encoder.counts
            self.report.pages_whole += counts.whole
            self.report.pages_changed += counts.changed
            self.report.pages_zero += counts.zero
            self.report.pages_same += counts.same
        self.report.disk_bytes = self._mirror.sent_bytes
        self.report.throttled_time = self._brake.total
        self._machine.close()
        self._shared.forget()

    # --- nobody knows ---

    def _settle(self, why: BaseException) -> None:
        """Asks the destination whether it has the machine, until it says so.

        Raises:
            MigrationError: it has not, and never will.
            MigrationInDoubt: it cannot be asked.
        """
        end = time.monotonic() + (_PATIENCE_S if self._address is not None else 0)
        while True:
            answer = self._ask()
            if answer == "complete":
                return
            if answer == "failed":
                self.state = "switching"
                raise MigrationError(f"the destination did not take the machine over: {why}") from why
            now = time.monotonic()
            if answer == "loading":
                end = now + _PATIENCE_S  # it is there, and on its way to an answer
            if now > end:
                break
            time.sleep(0.2)
        self.error = why
        raise MigrationInDoubt(
            f"the connection broke at the moment of the switch-over, and {self._address or 'the destination'} cannot "
            "be asked whether it has the machine. Until that is known nothing runs here: vm.migration.resolve() asks "
            "again; find out whether it runs there, and say vm.migration.resolve(here=...)"
        ) from why

    def _ask(self) -> str:
        """``complete``, ``failed``, ``loading``, or ``unknown`` when no answer could be had."""
        if self._address is None:
            return "unknown"
        try:
            channel = self._open("query")
        except Gone:
            # Whoever has a machine to answer for keeps listening until we have heard of it.
            return "failed"
        except MigrationError:
            return "unknown"
        try:
            answer: str = fields(expect(channel, Kind.answer), {"state": str})["state"]
            if answer == "complete":
                channel.send(Kind.confirmed)
            return answer if answer in ("complete", "failed", "loading") else "unknown"
        except MigrationError:
            return "unknown"
        finally:
            channel.close()

    def resolve(self, *, here: bool | None = None) -> str:
        """Ends the doubt.

        Args:
            here: True: the machine does not run at the destination and never will, and goes on here. False: it runs
                there, and this one is closed. None: the destination is asked.

        Returns:
            The state: ``failed``, ``completed``, or still ``in doubt``.

        Raises:
            StateError: there is no doubt.
            MigrationInDoubt: it is not to run there, and somebody has its disk: it does not go on here.
        """
        with self._lock:
            if self.state not in ("in doubt", "interrupted"):
                raise StateError(f"the migration is {self.state}: there is nothing to resolve")
            answer = {True: "failed", False: "complete", None: ""}[here]
            if here is None:
                if self.state == "interrupted":
                    raise StateError("it runs at the destination and needs its memory: recover() goes on")
                answer = self._ask()
            if answer == "complete":
                self._finish()
            elif answer == "failed":
                self._stay()
            return self.state

    # --- post-copy ---

    def _hand_over_unsent(self, missing: _core.PageSet) -> None:
        channel = self._channels[0]
        faults = self._faults or self._open("faults")
        if self.report.sent_bytes:
            self._drain()
        self._shared.flush()
        paused = self._hold()
        self._take_dirty()
        missing |= self._pending
        self._mirror.send_pending(self._send_disk, None, _TooSlow)
        bits = missing.bits()
        for offset in range(0, len(bits), BATCH):
            self._count(channel.send(Kind.missing, memoryview(bits)[offset : offset + BATCH]))
        self._commit(self._send_state(), paused)
        self.state = "post-copy"
        self._pusher = Pusher(self, self._encoders[0], missing)
        self._push(channel, faults)

    def _push(self, channel: Channel, faults: Channel) -> None:
        """Until the destination has all; mends the connection as often as it breaks."""
        assert self._pusher is not None
        while True:
            try:
                self._pusher.run(channel, faults)
                break
            except MigrationError as error:
                self.state = "interrupted"
                self.error = error
                self._close_channels()
                channel, faults = self._reconnect(error)
        self._finish()

    def _reconnect(self, why: BaseException) -> tuple[Channel, Channel]:
        assert self._pusher is not None
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                channel = self._open("recover")
                bits = b""
                for _ in range(0, (self._pages + 63) // 64 * 8, BATCH):
                    bits += expect(channel, Kind.missing)
                self._pusher.restart(_core.PageSet.of_bits(self._pages, bits))
                faults = self._open("faults")
                self.state = "post-copy"
                return channel, faults
            except MigrationError as error:
                self._close_channels()
                if time.monotonic() > end:
                    raise MigrationError(
                        "the machine runs at the destination and waits for its memory, and the connection is broken: "
                        f"vm.migration.recover() goes on ({error})"
                    ) from why
                time.sleep(0.2)

    def recover(self) -> MigrationReport:
        """Goes on with a post-copy migration whose connection broke.

        Raises:
            StateError: there is none.
            MigrationError: the destination still cannot be reached.
        """
        with self._lock:
            if self.state != "interrupted":
                raise StateError(f"the migration is {self.state}: there is nothing to recover")
            try:
                self._push(*self._reconnect(self.error or MigrationError("interrupted")))
            finally:
                self._close_channels()
        return self.report
