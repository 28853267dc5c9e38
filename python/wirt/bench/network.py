"""The network half of the comparison: two guests on a switch, then one guest and the host's own end point.

The guests are the embedded one (guest/programs/bench_net.c has the protocol); :class:`HostPeer` speaks it from Python.
"""

from __future__ import annotations

import struct
import threading
from contextlib import ExitStack
from typing import Literal

from wirt.bench.udp_host import Datagram, UdpHost
from wirt.errors import NetworkError, StateError
from wirt.guest_image import guest_image
from wirt.machine import Machine
from wirt.net import NicModel, Switch

__all__ = ["HostPeer", "measure"]

_MODELS: dict[str, NicModel] = {"e1000e": "e1000e", "virtio-net": "virtio-mmio", "virtio-net-pci": "virtio-pci"}
# Buffers of 64 KiB for each place of both rings, and the guest.
_MEMORY = "64M"

_PORT = 7701
_MAGIC = 0x314E4257
_HELLO, _READY, _DATA, _ACK, _END, _RESULT, _ECHO, _REPLY = range(1, 9)
_MESSAGE = struct.Struct("<IIQQ")
_WINDOW_PACKETS, _LARGE = 128, 65000


def measure(device: str, packets: int, timeout: float) -> list[Machine]:
    """Runs one device's sections; the machines have ended, and hold marks and console output.

    Args:
        device: ``e1000e``, ``virtio-net`` (over virtio-mmio) or ``virtio-net-pci``.
        packets: of each section.
        timeout: seconds for each pair.

    Raises:
        StateError: a guest did not end in time.
    """
    return [*_guest_to_guest(device, packets, timeout), _guest_to_host(device, packets, timeout)]


def _machine(lan: Switch, device: str, role: Literal["net", "netserve"], words: str) -> Machine:
    cmdline = f"bench={role} net.large bench.only=network/{device}/ {words}"
    return Machine(guest_image(), cmdline=cmdline, memory=_MEMORY, nets=[lan.port(model=_MODELS[device])])


def _guest_to_guest(device: str, packets: int, timeout: float) -> list[Machine]:
    lan = Switch()
    with ExitStack() as stack:
        server = stack.enter_context(_machine(lan, device, "netserve", "ip=10.0.0.2"))
        client = stack.enter_context(_machine(lan, device, "net", f"ip=10.0.0.1 to=10.0.0.2 bench.ops={packets}"))
        server.start()
        client.start()
        for machine in (client, server):
            _await_end(machine, device, timeout)
    return [server, client]


def _guest_to_host(device: str, packets: int, timeout: float) -> Machine:
    lan = Switch()
    words = f"ip=10.0.0.1 to=10.0.0.2 bench.ops={packets} bench.label=host-"
    with HostPeer(lan, "10.0.0.2"), _machine(lan, device, "net", words) as client:
        client.start()
        _await_end(client, device, timeout)
    return client


def _await_end(machine: Machine, device: str, timeout: float) -> None:
    if not machine.wait(timeout):
        raise StateError(f"the guest did not finish network/{device} in {timeout:.0f} s:\n{machine.console.tail}")


class HostPeer:
    """What ``bench=netserve`` is in a guest, on an end point of the switch and a thread of its own."""

    def __init__(self, lan: Switch, ip: str) -> None:
        self._host = UdpHost(lan, ip, _PORT)
        self._size = 0
        self._received = 0
        self._told = 0
        self._thread = threading.Thread(target=self._serve, name="wirt-bench-peer", daemon=True)

    def __enter__(self) -> HostPeer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._host.end_point.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                datagram = self._host.receive()
            except NetworkError:
                return
            if datagram is not None:
                self._take(datagram)

    def _take(self, datagram: Datagram) -> None:
        data = datagram.data
        magic, kind, sequence, value = _MESSAGE.unpack_from(data) if len(data) >= _MESSAGE.size else (0, 0, 0, 0)
        if magic != _MAGIC or kind == _DATA:
            self._received += len(data)
            if self._received - self._told >= self._window() // 4 or self._host.end_point.waiting == 0:
                self._told = self._received
                self._answer(datagram, _ACK, 0, self._told)
        elif kind == _HELLO:
            self._size, self._received, self._told = sequence, 0, 0
            self._answer(datagram, _READY, 0, 0)
        elif kind == _END:
            self._answer(datagram, _RESULT, 0, self._received)
        elif kind == _ECHO:
            self._answer(datagram, _REPLY, sequence, value)

    def _window(self) -> int:
        """Bytes that the guest has under way at most."""
        return 2 * (self._size - 40) if self._size == _LARGE else _WINDOW_PACKETS * (self._size - 28)

    def _answer(self, to: Datagram, kind: int, sequence: int, value: int) -> None:
        length = len(to.data) if kind == _REPLY else _MESSAGE.size
        self._host.answer(to, _MESSAGE.pack(_MAGIC, kind, sequence, value).ljust(length, b"\0"))
