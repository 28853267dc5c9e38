"""A unix socket in front of a migration's receiver that is a bad network: slow, late, with pauses, and cut at times."""

from __future__ import annotations

import contextlib
import queue
import random
import socket
import threading
import time
from pathlib import Path

_PIECE = 16 << 10
_BUFFER = 32  # pieces that are on the way in each direction


class SlowProxy:
    """Passes connections on to a receiver.

    Args:
        path: where it listens.
        target: the receiver's socket.
        rate: bytes a second, of each connection and direction.
        delay: seconds that a byte is on the way.
        pause: seconds; now and then nothing passes for up to so long.
        seed: of the pauses.
    """

    def __init__(
        self, path: str, target: str, *, rate: float, delay: float = 0.0, pause: float = 0.0, seed: int = 0
    ) -> None:
        self.path, self._target = path, target
        self._rate, self._delay, self._pause = rate, delay, pause
        self._chance = random.Random(seed)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._sockets: list[socket.socket] = []
        self._end = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._end.is_set():
            try:
                source, _ = self._listener.accept()
            except OSError:
                return
            destination = socket.socket(socket.AF_UNIX)
            try:
                destination.connect(self._target)
            except OSError:
                # Nobody is there any more: nobody is here either.
                source.close()
                self.close()
                return
            self._sockets += [source, destination]
            for pair in ((source, destination), (destination, source)):
                way: queue.Queue[tuple[float, bytes]] = queue.Queue(_BUFFER)
                threading.Thread(target=self._take, args=(pair[0], way), daemon=True).start()
                threading.Thread(target=self._give, args=(*pair, way), daemon=True).start()

    def _take(self, here: socket.socket, way: queue.Queue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            try:
                data = here.recv(_PIECE)
            except OSError:
                data = b""
            way.put((time.monotonic() + self._delay, data))

    def _give(self, here: socket.socket, there: socket.socket, way: queue.Queue[tuple[float, bytes]]) -> None:
        open_ = True
        while True:
            due, data = way.get()
            if not data:
                break
            if not open_:
                continue  # whoever takes may not wait for ever
            if self._pause and self._chance.random() < 0.01:
                due = max(due, time.monotonic()) + self._chance.random() * self._pause
            self._end.wait(max(due - time.monotonic(), 0) + len(data) / self._rate)
            try:
                there.sendall(data)
            except OSError:
                open_ = False
                with contextlib.suppress(OSError):
                    here.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            there.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Ends every connection, and what is on the way; new ones pass."""
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends it."""
        self._end.set()
        with contextlib.suppress(OSError):
            Path(self.path).unlink()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
