"""Networks inside the process."""

from __future__ import annotations

import itertools
import os
import string
import struct
from typing import Literal, get_args

from wirt import _core
from wirt.errors import ConfigError, NetworkError

__all__ = ["EndPoint", "NicModel", "Port", "Switch", "parse_mac"]

NicModel = Literal["virtio", "virtio-mmio", "virtio-pci", "e1000e"]
_MODELS: tuple[NicModel, ...] = get_args(NicModel)


# A guest may send faster than Python reads.
_QUEUE_LIMIT = 4096


class Port:
    """One port of a switch; it becomes a NIC in the one machine that it is given to.

    Attributes:
        mac: the NIC's address, e.g. ``"02:00:00:12:34:56"``.
        model: what kind of NIC.

    Example:
        >>> net = lan.port(model="e1000e")
        >>> vm = wirt.Machine(kernel="vmlinuz", nets=[net])
        >>> net.link = False  # the guest sees its link go down
    """

    def __init__(
        self, port: _core.Port, mac: str | None = None, queue_pairs: int = 1, model: NicModel = "virtio"
    ) -> None:
        if model not in _MODELS:
            raise ConfigError(f"NIC model {model!r}: is none of {', '.join(_MODELS)}")
        self._address = parse_mac(mac) if mac is not None else b"\x02" + os.urandom(5)
        self.mac = self._address.hex(":")
        self.model = model
        self._core = port
        self._queue_pairs = queue_pairs
        self._taken = False

    @property
    def link(self) -> bool:
        """Whether the cable is in. Set it to pull the cable and to put it back; the guest's driver is told.

        Without it no frame passes in either direction.
        """
        return self._core.link

    @link.setter
    def link(self, up: bool) -> None:
        self._core.link = up

    def _announce(self) -> None:
        """Says in the NIC's name that it is here now: a RARP request (RFC 903), from which every switch learns."""
        head = b"\xff" * 6 + self._address + b"\x80\x35"
        request = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 3) + (self._address + bytes(4)) * 2
        self._core.send((head + request).ljust(60, b"\0"))

    def _configuration(self, virtio: _core.VirtioTransport) -> _core.NetConfig:
        """The core's configuration of it for a machine."""
        model = f"virtio-{virtio.name}" if self.model == "virtio" else self.model
        return _core.NetConfig(self._core, self._address, self._queue_pairs, _core.NicModel[model.replace("-", "_")])

    def __repr__(self) -> str:
        return f"<wirt.Port {self.mac}>"


class EndPoint:
    """A place on the network where Python itself sends and receives Ethernet frames.

    Received frames have at most 1518 bytes: larger ones are segmented and checksummed first, as on a wire.
    """

    def __init__(self, port: _core.Port) -> None:
        self._end_point = _core.EndPoint(port, _QUEUE_LIMIT)

    def send(self, frame: bytes) -> None:
        """Sends one frame: destination, source, type and payload, without FCS, at least 14 bytes.

        Raises:
            NetworkError: the frame is too short or too long, or the end point is closed.
        """
        self._end_point.send(frame)

    def recv(self, timeout: float | None = None) -> bytes:
        """The next frame.

        Args:
            timeout: seconds to wait; None waits for ever.

        Raises:
            TimeoutError: no frame arrived.
            NetworkError: the end point is closed, and no frame is left.
        """
        frame = self._end_point.receive(-1.0 if timeout is None else max(timeout, 0.0))
        if frame is None:
            if self._end_point.closed:
                raise NetworkError("the end point is closed and has no frame left")
            raise TimeoutError(f"no frame arrived in {timeout} s")
        return frame

    @property
    def waiting(self) -> int:
        """Frames that wait to be received."""
        return self._end_point.waiting

    @property
    def stats(self) -> _core.PortStats:
        """Frames and bytes sent, received, and dropped since 4096 were waiting."""
        return self._end_point.stats

    def close(self) -> None:
        """Unplugs it from the switch; frames that wait can still be received."""
        self._end_point.close()


class Switch:
    """A learning Ethernet switch in this process: it joins machines and end points.

    Example:
        >>> lan = wirt.Switch()
        >>> a = wirt.Machine(kernel="vmlinuz", nets=[lan.port()])
        >>> b = wirt.Machine(kernel="vmlinuz", nets=[lan.port()])
    """

    def __init__(self) -> None:
        self._switch = _core.Switch()
        self._numbers = itertools.count()

    def port(self, mac: str | None = None, *, queue_pairs: int = 1, model: NicModel = "virtio") -> Port:
        """A new port for one NIC of one machine.

        Args:
            mac: the NIC's address; a random, locally administered one unless given.
            queue_pairs: pairs of receive and transmit queues that the guest may use; of a virtio NIC.
            model: ``"e1000e"`` (an Intel 82574L), ``"virtio-mmio"`` or ``"virtio-pci"`` (virtio-net), or ``"virtio"``:
                virtio-net on the bus that the machine's ``virtio`` names.

        Raises:
            ConfigError: the address is no unicast MAC address, or there is no such model.
        """
        return Port(self._switch.add_port(f"port{next(self._numbers)}"), mac, queue_pairs, model)

    def endpoint(self) -> EndPoint:
        """A new port whose frames Python sends and receives."""
        return EndPoint(self._switch.add_port(f"endpoint{next(self._numbers)}"))


def parse_mac(text: str) -> bytes:
    """The six bytes of a unicast MAC address.

    Raises:
        ConfigError: it is none.
    """
    parts = text.replace("-", ":").split(":")
    if len(parts) != 6 or any(len(part) != 2 or not set(part) <= set(string.hexdigits) for part in parts):
        raise ConfigError(f"MAC address {text!r}: give six bytes such as 02:00:00:12:34:56")
    address = bytes(int(part, 16) for part in parts)
    if address[0] & 1:
        raise ConfigError(f"MAC address {text!r}: is a group address; clear the lowest bit of its first byte")
    return address
