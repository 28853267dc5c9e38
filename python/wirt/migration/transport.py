"""Addresses, connections and frames of a migration.

A connection begins with a greeting of a fixed size each way: magic, version, what proof is asked for, and a random
number. With a secret, first the source and then the destination prove that they know it (HMAC-SHA-256 over both random
numbers and the prover's role). Only then there are frames:

    type:u8 flags:u8 0:u16 length:u32   payload   tag:16 bytes

The tag is the first half of an HMAC-SHA-256, which processors have instructions for, over the frame's number in its
direction, its header and its payload, so that what is corrupt, repeated, left out or reordered is refused; with a
secret the key comes of it, and nobody without it can put anything in. Every type has a limit of its own.

Untrusted: all that arrives, also before somebody has shown who they are; until then at most 76 bytes are read.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import os
import secrets
import select
import socket
import ssl
import stat
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from wirt.errors import ConfigError, MigrationError

__all__ = [
    "Address",
    "Broken",
    "Channel",
    "Gone",
    "Kind",
    "Listener",
    "Payload",
    "Security",
    "TlsFiles",
    "connect",
    "of_socket",
    "parse_address",
]

_MAGIC = b"WIRTMIG\0"
_VERSION = 1
_GREETING = struct.Struct("<8sHBB32s")
_HEADER = struct.Struct("<BBHI")
_TAG = 16
_NUMBER = struct.Struct("<Q")
_HANDSHAKE_S = 10.0  # that a stranger may keep a place
_VOUCHED_S = 60.0  # likewise who keeps nobody out
# When nothing is under way the host of the other side is asked whether it is there: it is gone after 25 s.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
_LOOK_S = 0.5  # how often a wait looks whether it has lasted too long
_MOST_STRANGERS = 16
_SHORTEST_SECRET = 16
_COMPRESSED = 1

TlsFiles = Mapping[str, str | os.PathLike[str]]
Payload = bytes | memoryview


class Kind(IntEnum):
    """What a frame is."""

    hello = 1  # JSON: who connects, and what for
    welcome = 2  # JSON
    refused = 3  # JSON: why; the connection ends
    machine = 4  # JSON: the machine's description
    ready = 5
    pages = 6  # csrc/state/page_codec.h
    disk = 7  # index:u16 offset:u64 length:u64, then the data or nothing (zeroes)
    progress = 8  # JSON: batches that were sent; answered, empty, when they are in their place
    end = 9  # JSON: a stream is complete
    state = 10  # a piece of the saved state
    missing = 11  # a piece of the set of pages that will come later
    commit = 12  # JSON: the machine is yours
    acknowledged = 13  # JSON: it runs here
    confirmed = 14  # the source knows it
    answer = 15  # JSON: what became of a migration
    want = 16  # pages that somebody waits for, eight bytes each
    done = 17  # JSON: all pages are there
    sent = 18  # post-copy: no page is left here


KiB, MiB = 1 << 10, 1 << 20
BATCH = 512 * KiB
_PRIORITY_INTERACTIVE = 6  # linux/pkt_sched.h: TC_PRIO_INTERACTIVE
_UNSENT = 128 * KiB
_LIMITS: dict[Kind, int] = {
    Kind.hello: 16 * KiB,
    Kind.welcome: 16 * KiB,
    Kind.refused: 16 * KiB,
    Kind.machine: 4 * MiB,
    Kind.ready: 0,
    Kind.pages: 2 * MiB,
    Kind.disk: 2 * MiB,
    Kind.progress: 16 * KiB,
    Kind.end: 16 * KiB,
    Kind.state: MiB,
    Kind.missing: MiB,
    Kind.commit: 64 * KiB,
    Kind.acknowledged: 16 * KiB,
    Kind.confirmed: 0,
    Kind.answer: 16 * KiB,
    Kind.want: 16 * KiB,
    Kind.done: 16 * KiB,
    Kind.sent: 0,
}


class Broken(MigrationError):
    """The connection ended, stalled, or carries what no Wirt sends."""


class Gone(Broken):
    """Nobody listens at the address."""


@dataclass(frozen=True)
class Address:
    """Where a receiver listens: ``host`` and ``port``, or ``path`` of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether nothing leaves this host."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """The address that ``tcp://host:port`` or ``unix:/path`` names.

    Raises:
        ConfigError: it is none.
    """
    if text.startswith("unix:") and len(text) > 5:
        return Address(path=text[5:])
    if text.startswith("tcp://"):
        host, colon, port = text[6:].rpartition(":")
        if host and colon and port.isdecimal() and int(port) < 1 << 16:
            return Address(host.removeprefix("[").removesuffix("]"), int(port))
    raise ConfigError(f"address {text!r}: give tcp://HOST:PORT or unix:/PATH")


class Security:
    """Who may talk: TLS with certificates of both sides, a shared secret, or the same user on this host.

    Args:
        tls: a context, or paths: ``cert``, ``key`` and ``ca`` of PEM files; the other side needs a certificate that
            ``ca`` has signed.
        secret: at least 16 bytes, the same on both sides.
        server: for the receiving side.

    Raises:
        ConfigError: that is not enough, or cannot be loaded.
    """

    def __init__(self, tls: ssl.SSLContext | TlsFiles | None, secret: bytes | str | None, *, server: bool) -> None:
        if isinstance(secret, str):
            secret = secret.encode()
        if secret is not None and len(secret) < _SHORTEST_SECRET:
            raise ConfigError(f"a secret has at least {_SHORTEST_SECRET} bytes: secrets.token_hex() makes one")
        self.secret = secret
        self.server = server
        self.tls = _context(tls, server) if tls is not None and not isinstance(tls, ssl.SSLContext) else tls
        if self.tls is not None and self.tls.verify_mode != ssl.CERT_REQUIRED:
            raise ConfigError("the TLS context must ask for the other side's certificate: verify_mode=CERT_REQUIRED")

    def check(self, address: Address) -> None:
        """Whether it is enough for the address.

        Raises:
            ConfigError: it is not.
        """
        if address.path or self.tls is not None:
            return
        if not address.loopback:
            raise ConfigError(
                f"{address}: guest memory travels over a network only within TLS: give tls=, or use a loopback "
                "address through a tunnel"
            )
        if self.secret is None:
            raise ConfigError(f"{address}: any user of this host can connect to it: give secret= or tls=")


def _context(files: TlsFiles, server: bool) -> ssl.SSLContext:
    if files.keys() != {"cert", "key", "ca"}:
        raise ConfigError("tls: give cert, key and ca, three PEM files")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(files["cert"], files["key"])
        context.load_verify_locations(files["ca"])
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"tls: {error}") from error
    return context


class Channel:
    """Frames over a connection. One thread at a time sends, and one receives."""

    def __init__(self, sock: socket.socket, send_key: bytes, receive_key: bytes, stall: float) -> None:
        self._socket = sock
        self._send_tag, self._receive_tag = (hmac.new(key, digestmod="sha256") for key in (send_key, receive_key))
        self._sent = self._received = 0
        # Made anew for each frame, they would cost more page faults than the frame has pages.
        self._out, self._in = bytearray(), bytearray()
        self._early = b""  # what poll() has read
        self._send_lock = threading.Lock()
        self.bytes_sent = self.bytes_received = 0
        self.set_stall(stall)

    def set_stall(self, seconds: float) -> None:
        """How long the other side may do nothing before the connection counts as broken."""
        # Waits are made of short ones, so that it holds for one under way, too.
        self._stall = seconds
        with contextlib.suppress(OSError):
            self._socket.settimeout(min(seconds, _LOOK_S))

    def _progress(self, operation: Callable[[], int], what: str) -> int:
        """What `operation` moved, once it moved anything."""
        waited, last = 0.0, time.monotonic()
        while True:
            try:
                return operation()
            except TimeoutError:
                # Time in which this process was stopped says nothing of the other side.
                now = time.monotonic()
                waited, last = waited + min(now - last, 2 * _LOOK_S), now
                if waited >= self._stall:
                    raise Broken(f"the other side {what} for {self._stall:g} s") from None
            except (OSError, ValueError) as error:
                raise Broken(f"the connection broke: {error}") from error

    def send(self, kind: Kind, payload: bytes | bytearray | memoryview = b"", *, compressed: bool = False) -> int:
        """Sends a frame; its size on the wire.

        Raises:
            Broken: it did not go.
        """
        header = _HEADER.pack(kind, _COMPRESSED if compressed else 0, 0, len(payload))
        size = len(header) + len(payload) + _TAG
        with self._send_lock:
            tag = self._send_tag.copy()
            tag.update(_NUMBER.pack(self._sent))
            tag.update(header)
            tag.update(payload)
            self._sent += 1
            if len(self._out) < size:
                self._out = bytearray(size)
            data = memoryview(self._out)[:size]
            data[: len(header)] = header
            data[len(header) : size - _TAG] = payload
            data[size - _TAG :] = tag.digest()[:_TAG]
            # sendall() counts its time-out from the first byte to the last; a slow connection is no broken one.
            done = 0
            while done < size:
                done += self._progress(lambda: self._socket.send(data[done:]), "took nothing")  # noqa: B023
            self.bytes_sent += size
        return size

    def receive(self) -> tuple[Kind, Payload, bool]:
        """The next frame: what it is, its payload, and whether that is compressed.

        The payload of pages and of a disk is good until the next call.

        Raises:
            Broken: there is none, or it is none.
        """
        header = bytearray(_HEADER.size)
        self._fill(memoryview(header))
        number, flags, zero, length = _HEADER.unpack(header)
        try:
            kind = Kind(number)
        except ValueError:
            raise Broken(f"a frame of an unknown type {number}") from None
        if zero != 0 or flags > _COMPRESSED or length > _LIMITS[kind]:
            raise Broken(f"a frame with a broken head: {kind.name}, {length} bytes")
        size = length + _TAG
        if len(self._in) < size:
            self._in = bytearray(size)
        data = memoryview(self._in)[:size]
        self._fill(data)
        payload = data[:length]
        tag = self._receive_tag.copy()
        tag.update(_NUMBER.pack(self._received))
        tag.update(header)
        tag.update(payload)
        self._received += 1
        if not hmac.compare_digest(tag.digest()[:_TAG], data[length:]):
            raise Broken("a frame is corrupt, or not the one that follows")
        self.bytes_received += len(header) + size
        return kind, payload if kind in (Kind.pages, Kind.disk) else bytes(payload), flags == _COMPRESSED

    def readable(self, timeout: float = 0.0) -> bool:
        """Whether something arrived, or the connection ended."""
        if self._early or (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
            return True
        try:
            if not select.select([self._socket], [], [], timeout)[0]:
                return False
            # With TLS that may have been nothing for us.
            self._socket.setblocking(False)
            try:
                self._early = self._socket.recv(1)
            finally:
                self._socket.settimeout(min(self._stall, _LOOK_S))
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except (OSError, ValueError) as error:
            raise Broken(f"the connection broke: {error}") from error
        return True

    def _fill(self, view: memoryview) -> None:
        done = len(self._early[: len(view)])
        view[:done], self._early = self._early[:done], self._early[done:]
        while done < len(view):
            count = self._progress(lambda: self._socket.recv_into(view[done:]), "sent nothing")  # noqa: B023
            if count == 0:
                raise Broken("the other side closed the connection")
            done += count

    def hurry(self) -> None:
        """What goes here is waited for, and overtakes what a `yield_` connection has in this host's queues."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _PRIORITY_INTERACTIVE)

    def yield_(self) -> None:
        """Nobody waits for what goes here: it does not fill queues on the way."""
        # What TCP cannot send yet stays with us, but for this much. A unix socket has no such queue.
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)

    def stop_reading(self) -> None:
        """What has arrived can still be received, and then it has ended; any thread."""
        self._shut_down(socket.SHUT_RD)

    def end(self) -> None:
        """Ends it for both sides, under the hands of another thread, which is to close it."""
        self._shut_down(socket.SHUT_RDWR)

    def _shut_down(self, how: int) -> None:
        # SSLSocket's own would first forget that there is TLS, and another thread could send in the clear.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, how)

    def close(self) -> None:
        """Ends it for both sides; nobody uses it any more."""
        self.end()
        self._socket.close()


def _read_raw(sock: socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        more = sock.recv(size - len(data))
        if not more:
            raise Broken("the other side closed the connection before it had shown who it is")
        data += more
    return data


def _greet(sock: socket.socket, security: Security, stall: float, patience: float = _HANDSHAKE_S) -> Channel:
    """The handshake; see the head of this file."""
    deadline = time.monotonic() + patience
    mine = secrets.token_bytes(32)
    asks = 0 if security.secret is None else 1
    greeting = _GREETING.pack(_MAGIC, _VERSION, asks, 0, mine)
    try:
        sock.settimeout(patience)
        if not security.server:
            sock.sendall(greeting)
        magic, version, other_asks, _, other = _GREETING.unpack(_read_raw(sock, _GREETING.size, deadline))
        if security.server:
            sock.sendall(greeting)
        if magic != _MAGIC:
            raise Broken("the other side is no Wirt")
        if version != _VERSION:
            raise MigrationError(f"the other side speaks version {version} of the protocol, this one {_VERSION}")
        if other_asks != asks:
            raise MigrationError("one side has a secret and the other has none: give both the same")
        numbers = other + mine if security.server else mine + other
        if security.secret is not None:
            proofs = [
                hmac.digest(security.secret, b"wirt migration proof of the " + role + numbers, "sha256")
                for role in (b"source", b"destination")
            ]
            if not security.server:
                sock.sendall(proofs[0])
            expected = proofs[0] if security.server else proofs[1]
            if not hmac.compare_digest(_read_raw(sock, 32, deadline), expected):
                raise MigrationError("the other side does not know the secret")
            if security.server:
                sock.sendall(proofs[1])
        keys = [
            hmac.digest(security.secret or b"\0", b"wirt migration key of the " + role + numbers, "sha256")
            for role in (b"source", b"destination")
        ]
    except (OSError, struct.error) as error:
        raise Broken(f"the other side went away before it had shown who it is: {error}") from error
    if security.server:
        keys.reverse()
    return Channel(sock, keys[0], keys[1], stall)


def _check_peer(sock: socket.socket, security: Security) -> None:
    """On a unix socket without a secret: the other side is the same user."""
    if sock.family != socket.AF_UNIX or security.secret is not None:
        return
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if uid != os.geteuid():
        raise MigrationError(f"the other side is the user {uid}, and there is no secret")


def _tune(sock: socket.socket) -> None:
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, MiB)


def connect(address: Address, security: Security, *, stall: float, timeout: float = _HANDSHAKE_S) -> Channel:
    """A connection to a receiver.

    Raises:
        Gone: nobody listens there.
        Broken: it cannot be reached.
        MigrationError: it is not who it should be.
    """
    security.check(address)
    try:
        if address.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            sock.connect(address.path)
        else:
            sock = socket.create_connection((address.host, address.port), timeout)
    except (ConnectionRefusedError, FileNotFoundError) as error:
        raise Gone(f"{address}: nobody listens there: {error}") from error
    except OSError as error:
        raise Broken(f"{address}: cannot be reached: {error}") from error
    try:
        _check_peer(sock, security)
        _tune(sock)
        if security.tls is not None and not address.path:
            sock = security.tls.wrap_socket(sock, server_hostname=address.host)
        return _greet(sock, security, stall)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and not isinstance(error, MigrationError):
            raise Broken(f"{address}: {error}") from error
        raise


def of_socket(fd: int, security: Security, *, stall: float) -> Channel:
    """A connection that somebody else has made; the descriptor stays the caller's.

    Raises:
        ConfigError: it is no connected stream socket.
        Broken: the other side went away.
        MigrationError: it is not who it should be.
    """
    try:
        sock = socket.socket(fileno=os.dup(fd))
        sock.getpeername()
    except OSError as error:
        raise ConfigError(f"descriptor {fd}: is no connected socket: {error}") from error
    try:
        _check_peer(sock, security)
        return _greet(sock, security, stall, _VOUCHED_S)
    except BaseException:
        sock.close()
        raise


class Listener:
    """Takes connections, and gives each that has shown who it is to `serve` on a thread of its own."""

    def __init__(self, address: Address, security: Security, serve: Callable[[Channel], None], *, stall: float) -> None:
        security.check(address)
        self._security, self._serve, self._stall = security, serve, stall
        self._strangers = threading.BoundedSemaphore(_MOST_STRANGERS)
        self._socket = _listen(address)
        self._path = address.path
        self._closed = False
        if not address.path:
            address = Address(address.host, self._socket.getsockname()[1])
        self.address = address
        self._thread = threading.Thread(target=self._accept, name="wirt-receive", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                if self._closed:
                    return
                time.sleep(0.1)  # the host has no descriptor left
                continue
            if not self._strangers.acquire(blocking=False):
                sock.close()
                continue
            threading.Thread(target=self._handle, args=(sock,), name="wirt-receive-peer", daemon=True).start()

    def _handle(self, sock: socket.socket) -> None:
        try:
            try:
                sock.settimeout(_HANDSHAKE_S)
                _check_peer(sock, self._security)
                _tune(sock)
                if self._security.tls is not None and not self._path:
                    sock = self._security.tls.wrap_socket(sock, server_side=True)
                channel = _greet(sock, self._security, self._stall)
            finally:
                self._strangers.release()
        except (MigrationError, OSError):
            # A stranger learns nothing, and changes nothing.
            sock.close()
            return
        try:
            self._serve(channel)
        except Broken:
            pass
        finally:
            channel.close()

    def close(self) -> None:
        """Nobody can connect any more; connections stay."""
        if self._closed:
            return
        self._closed = True
        if self._path:
            with contextlib.suppress(OSError):
                Path(self._path).unlink()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _listen(address: Address) -> socket.socket:
    try:
        if not address.path:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            return socket.create_server((address.host, address.port), family=family)
        _remove_stale(address.path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # It appears when it listens and only its owner can open it.
        hidden = Path(f"{address.path}.{secrets.token_hex(4)}")
        sock.bind(str(hidden))
        try:
            hidden.chmod(0o600)
            sock.listen()
            hidden.rename(address.path)
        except BaseException:
            hidden.unlink()
            raise
        return sock
    except OSError as error:
        raise ConfigError(f"{address}: cannot listen there: {error}") from error


def _remove_stale(path: str) -> None:
    """What a receiver that was killed has left behind; a live one keeps its place."""
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            raise ConfigError(f"unix:{path}: is there already, and no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except OSError:
            pass
    raise ConfigError(f"unix:{path}: somebody listens there already")
