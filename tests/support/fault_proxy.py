"""A unix socket in front of a migration's receiver that understands frames, and breaks one of them."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GREETING = 44
HEADER = struct.Struct("<BBHI")
TAG = 16


@dataclass
class Fault:
    """What happens to the connection when the `skip`-th frame of a kind comes along (kind 0: any).

    Attributes:
        to_destination: the frame's direction.
        when: the frame is not passed on at all, or half of it, or all of it.
        how: ``cut`` closes the connection; ``stall`` keeps it and passes nothing on any more; ``corrupt`` flips a bit
            of the frame and goes on; ``repeat`` sends it twice; ``drop`` leaves it out; ``huge`` says that it is large;
            ``call`` passes on what `when` says, calls `action`, and goes on with the rest.
        for_ever: nobody comes through any more afterwards.
    """

    kind: int
    how: Literal["cut", "stall", "corrupt", "repeat", "drop", "huge", "call"] = "cut"
    when: Literal["before", "half", "after"] = "before"
    to_destination: bool = True
    skip: int = 0
    for_ever: bool = False
    bit: int = 0
    action: Callable[[], object] | None = None


class FaultProxy:
    """Passes connections on to a receiver until the fault strikes, which it does once."""

    def __init__(self, path: str, target: str, fault: Fault | None) -> None:
        self.path, self._target, self.fault = path, target, fault
        self.struck = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._sockets: list[socket.socket] = []
        self._end = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._end:
            try:
                source, _ = self._listener.accept()
            except OSError:
                return
            if self.struck.is_set() and self.fault is not None and self.fault.for_ever:
                source.close()
                continue
            destination = socket.socket(socket.AF_UNIX)
            try:
                destination.connect(self._target)
            except OSError:
                # Nobody is there any more: nobody is here either.
                source.close()
                self.close()
                return
            self._sockets += [source, destination]
            for pair in ((source, destination, True), (destination, source, False)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, here: socket.socket, there: socket.socket, to_destination: bool) -> None:
        try:
            there.sendall(self._exactly(here, GREETING))
            while True:
                head = self._exactly(here, HEADER.size)
                kind, _, _, length = HEADER.unpack(head)
                frame = head + self._exactly(here, length + TAG)
                if self._strikes(kind, to_destination):
                    self._strike(frame, here, there)
                else:
                    there.sendall(frame)
        except OSError:
            pass
        for end in (here, there):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _strikes(self, kind: int, to_destination: bool) -> bool:
        fault = self.fault
        if fault is None or self.struck.is_set() or to_destination != fault.to_destination:
            return False
        if fault.kind not in (0, kind):
            return False
        fault.skip -= 1
        return fault.skip < 0

    def _strike(self, frame: bytes, here: socket.socket, there: socket.socket) -> None:
        fault = self.fault
        assert fault is not None
        self.struck.set()
        if fault.how == "repeat":
            there.sendall(frame + frame)
        elif fault.how == "corrupt":
            bit = fault.bit % (len(frame) * 8)
            changed = bytearray(frame)
            changed[bit // 8] ^= 1 << bit % 8
            there.sendall(changed)
        elif fault.how == "huge":
            there.sendall(frame[:4] + b"\xff\xff\xff\xff" + frame[8:])
        elif fault.how == "call":
            assert fault.action is not None
            first = {"before": 0, "half": len(frame) // 2, "after": len(frame)}[fault.when]
            there.sendall(frame[:first])
            fault.action()
            there.sendall(frame[first:])
        elif fault.how in ("cut", "stall"):
            there.sendall({"before": b"", "half": frame[: len(frame) // 2], "after": frame}[fault.when])
            if fault.how == "cut":
                raise ConnectionAbortedError
            while not self._end:
                if select.select([here], [], [], 0.2)[0] and not here.recv(1 << 16):
                    raise ConnectionAbortedError

    @staticmethod
    def _exactly(sock: socket.socket, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            more = sock.recv(min(size - len(data), 1 << 20))
            if not more:
                raise ConnectionResetError
            data += more
        return bytes(data)

    def close(self) -> None:
        """Ends it, and every connection."""
        self._end = True
        with contextlib.suppress(OSError):
            Path(self.path).unlink()
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
