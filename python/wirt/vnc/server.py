"""Where viewers connect, and the threads that serve them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
from pathlib import Path
from types import TracebackType

from wirt import _core
from wirt.errors import ConfigError
from wirt.input import Keyboard, Tablet
from wirt.vnc.client import Viewer

__all__ = ["VncServer"]

_FIRST_PORT = 5900
_MOST_VIEWERS = 8


class VncServer:
    """A running server; :meth:`wirt.Machine.vnc` makes one, and the end of the machine closes it."""

    def __init__(
        self,
        display: _core.Display,
        keyboard: Keyboard | None,
        tablet: Tablet | None,
        address: str | int,
        name: str,
    ) -> None:
        self._display, self._keyboard, self._tablet, self._name = display, keyboard, tablet, name
        self._path: Path | None = None
        self._socket, self.address = self._listen(address)
        self._lock = threading.Lock()
        self._viewers: dict[Viewer, threading.Thread] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name="wirt-vnc", daemon=True)
        self._thread.start()

    address: str
    """Where it listens: ``127.0.0.1:5900`` or ``unix:/path``."""

    @property
    def viewers(self) -> int:
        """How many are connected."""
        with self._lock:
            return len(self._viewers)

    def close(self) -> None:
        """Disconnects the viewers and listens no more; idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            viewers = dict(self._viewers)
        # Wakes the thread out of accept().
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        for viewer in viewers:
            viewer.close()
        for thread in (self._thread, *viewers.values()):
            if thread is not threading.current_thread():
                thread.join()

    def __enter__(self) -> VncServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self, address: str | int) -> tuple[socket.socket, str]:
        if isinstance(address, str) and address.startswith("unix:"):
            self._path = Path(address.removeprefix("unix:"))
            return _listen_unix(self._path), address
        host, port = _parse(address)
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen()
        except OSError as error:
            listener.close()
            raise ConfigError(f"vnc {address!r}: {error.strerror or error}") from error
        host = f"[{host}]" if ":" in host else host
        return listener, f"{host}:{listener.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            viewer = Viewer(connection, self._display, self._keyboard, self._tablet, self._name)
            thread = threading.Thread(target=self._serve, args=(viewer,), name="wirt-vnc-viewer", daemon=True)
            with self._lock:
                if self._closed or len(self._viewers) >= _MOST_VIEWERS:
                    connection.close()
                    continue
                self._viewers[viewer] = thread
                thread.start()

    def _serve(self, viewer: Viewer) -> None:
        try:
            viewer.serve()
        finally:
            with self._lock:
                self._viewers.pop(viewer, None)

    def __repr__(self) -> str:
        return f"<wirt.vnc.VncServer {self.address}, {'closed' if self._closed else f'{self.viewers} viewer(s)'}>"


def _parse(address: str | int) -> tuple[str, int]:
    """Host and port of ``:0``, ``5900``, ``127.0.0.1:5900`` or ``[::1]:5900``."""
    text = str(address)
    host, colon, number = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not number.isdecimal():
        raise ConfigError(f"vnc {address!r}: give a port, :DISPLAY, a loopback address with a port, or unix:PATH")
    port = int(number)
    if colon and not host:
        port += _FIRST_PORT
    if port > 65535:
        raise ConfigError(f"vnc {address!r}: there is no such port")
    host = "127.0.0.1" if host in ("", "localhost") else host
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise ConfigError(f"vnc {address!r}: {host} is no address") from error
    if not loopback:
        raise ConfigError(
            f"vnc {address!r}: the server asks for no password, and listens on loopback and unix sockets only; "
            "reach it from elsewhere through an SSH tunnel"
        )
    return host, port


def _listen_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Bound under a name that nobody knows, and readable by its owner alone before it has its own.
        hidden = path.with_name(f".{path.name}.{os.getpid()}")
        hidden.unlink(missing_ok=True)
        listener.bind(str(hidden))
        hidden.chmod(0o600)
        listener.listen()
        try:
            os.link(hidden, path)
        finally:
            hidden.unlink()
    except OSError as error:
        listener.close()
        reason = "is there already; remove it if no server uses it" if path.exists() else error.strerror or str(error)
        raise ConfigError(f"vnc unix:{path}: {reason}") from error
    return listener
