"""A machine as plain data: its options, disks, NICs and what was plugged in; and a machine made from that.

A snapshot's manifest has it, and a migration's stream. :func:`describe` gives JSON-able data, :func:`parse` checks what
somebody stored or sent, and :func:`build` makes a machine of the same parts, which awaits or has the state.

Untrusted: everything that :func:`parse` is given. What it returns has the right types and ranges; whether a machine can
be built from it is for the core to say, which does before any state is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict, cast, get_args

from wirt import _core
from wirt.configuration import Options, options_of
from wirt.device import Device, MappedDevice
from wirt.disk import Bus, Disk
from wirt.errors import ConfigError, SnapshotError, StateError
from wirt.net import NicModel, Port, Switch, parse_mac

if TYPE_CHECKING:
    from wirt.machine import Machine

__all__ = [
    "DeviceDescription",
    "DiskDescription",
    "MachineDescription",
    "NetDescription",
    "Plugged",
    "all_disks",
    "all_nets",
    "build",
    "check_device",
    "check_disk",
    "describe",
    "new_port",
    "parse",
]

# More than fit on the board; what was made up is refused before it costs anything.
_MOST_DEVICES = 64


class DiskDescription(TypedDict):
    """What a disk is to the guest, and what kind of thing stands behind it."""

    bus: Bus
    serial: str
    queues: int
    size: int  # bytes
    read_only: bool
    ephemeral: bool
    volatile_cache: bool


class NetDescription(TypedDict):
    """A NIC, and whether its cable is in."""

    mac: str
    model: NicModel
    queue_pairs: int
    link: bool


class Plugged(TypedDict):
    """A device that ``attach`` has plugged in: either a disk or a NIC, the other is None."""

    name: str
    slot: int
    disk: DiskDescription | None
    net: NetDescription | None


class DeviceDescription(TypedDict):
    """A device in Python, and where it is."""

    name: str
    base: int
    size: int  # bytes


class _Always(TypedDict):
    options: Options
    disks: list[DiskDescription]
    nets: list[NetDescription]
    plugged: list[Plugged]  # in the order in which they were


class MachineDescription(_Always, total=False):
    """A whole machine but its state. ``disks`` and ``nets`` are those that it was built with."""

    devices: list[DeviceDescription]  # in Python, in the order in which they were mapped; not there without any


def describe(machine: Machine) -> MachineDescription:
    """The machine's parts, as JSON-able data; any thread, as long as nobody plugs devices in or out meanwhile.

    Raises:
        StateError: it has a device written in Python whose state nobody can save.
    """
    for mapped in machine._mapped:
        if not mapped.device._saves:
            raise StateError(
                f"{mapped.device._label}: a device in Python can be copied if its class defines save() and load(), "
                "and this one does not"
            )
    plugged = list(machine._plugged.items())
    built_with = len(machine._disks) - sum(isinstance(device, Disk) for _, device in plugged)
    options = machine._options.copy()
    options["resolution"] = list(options["resolution"])
    description: MachineDescription = {
        "options": options,
        "disks": [_describe_disk(disk) for disk in machine._disks[:built_with]],
        "nets": [_describe_net(net) for net in machine._nets],
        "plugged": [
            {
                "name": name,
                "slot": machine._core.slot_of(name),
                "disk": _describe_disk(device) if isinstance(device, Disk) else None,
                "net": None if isinstance(device, Disk) else _describe_net(device),
            }
            for name, device in plugged
        ],
    }
    if machine._mapped:
        description["devices"] = [
            {"name": mapped.device._label, "base": mapped.base, "size": mapped.size} for mapped in machine._mapped
        ]
    return description


def all_disks(description: MachineDescription) -> list[DiskDescription]:
    """Those that the machine was built with, then those that were plugged in."""
    return description["disks"] + [plugged["disk"] for plugged in description["plugged"] if plugged["disk"] is not None]


def all_nets(description: MachineDescription) -> list[NetDescription]:
    """Those that the machine was built with, then those that were plugged in."""
    return description["nets"] + [plugged["net"] for plugged in description["plugged"] if plugged["net"] is not None]


def parse(data: object) -> MachineDescription:
    """A description out of what somebody stored or sent: every key is there, no other is, and each has its type.

    Raises:
        SnapshotError: it is no such thing.
    """
    required, optional = MachineDescription.__required_keys__, MachineDescription.__optional_keys__
    if not isinstance(data, dict) or not required <= data.keys() <= required | optional:
        raise SnapshotError("the machine's description has not the keys that this release knows")
    try:
        options = options_of(data["options"])
    except ConfigError as error:
        raise SnapshotError(str(error)) from None
    description: MachineDescription = {
        "options": options,
        "disks": [_parse_disk(disk) for disk in _list(data, "disks")],
        "nets": [_parse_net(net) for net in _list(data, "nets")],
        "plugged": [_parse_plugged(plugged) for plugged in _list(data, "plugged")],
    }
    if "devices" in data:
        description["devices"] = [_parse_device(device) for device in _list(data, "devices")]
    return description


def check_disk(disk: Disk, wanted: DiskDescription, number: int) -> None:
    """Whether a disk can stand in for the described one.

    Raises:
        SnapshotError: the guest would see another disk.
    """
    have = _describe_disk(disk)
    for key in ("bus", "serial", "queues", "size", "read_only"):
        if have[key] != wanted[key]:
            raise SnapshotError(f"disk {number}: its {key} is {have[key]!r}, and was {wanted[key]!r}: {disk!r}")


def check_device(device: object, name: str, what: str) -> None:
    """Whether an object can take the place of the device in Python of that name.

    Raises:
        ConfigError: it is no device, or cannot be copied.
        SnapshotError: it is another one.
    """
    if not isinstance(device, Device):
        raise ConfigError(f"{what}: {device!r} is no device: derive its class from wirt.Device")
    if device._label != name:
        raise SnapshotError(f"{what}: {device!r} is called {device._label!r}, and should be {name!r}")
    if not device._saves:
        raise ConfigError(f"{what}: {device!r} has no save() and load()")


def new_port(net: NetDescription) -> Port:
    """A port on a network of its own."""
    return Switch().port(net["mac"], queue_pairs=net["queue_pairs"], model=net["model"])


def build(
    description: MachineDescription,
    *,
    memory: _core.RamPoint | None,
    state: _core.SavedState | None,
    dtb: bytes,
    disks: Sequence[Disk],
    nets: Sequence[Port] | None = None,
    devices: Sequence[Device] = (),
) -> Machine:
    """A machine of the described parts.

    Args:
        description: as :func:`parse` has given it.
        memory: what guest RAM begins with; None: nothing, it is filled before the machine runs.
        state: its state, which is loaded; the machine is paused then. None: the machine awaits ``_core.load_state``.
        dtb: the device tree, to be shown only.
        disks: one for each of :func:`all_disks`; they pass :func:`check_disk`.
        nets: a port for each of :func:`all_nets`, whose address and model become the described ones; None: each NIC
            is on a network of its own.
        devices: an object for each device in Python; they pass :func:`check_device`.

    Raises:
        SnapshotError: disks, ports or devices do not fit, or the state does not.
        ConfigError: no machine can be built from that.
        StorageError: a disk is in use.
    """
    from wirt.machine import Machine

    wanted_disks, wanted_nets = all_disks(description), all_nets(description)
    ports = [new_port(net) for net in wanted_nets] if nets is None else list(nets)
    for what, have, want in (("disk", len(disks), len(wanted_disks)), ("NIC", len(ports), len(wanted_nets))):
        if have != want:
            raise SnapshotError(f"the machine has {want} {what}(s); {have} are given")
    for number, (disk, wanted_disk) in enumerate(zip(disks, wanted_disks, strict=True)):
        check_disk(disk, wanted_disk, number)
    for port, wanted_net in zip(ports, wanted_nets, strict=True):
        _become(port, wanted_net)
    cold_disks, cold_nets = len(description["disks"]), len(description["nets"])
    more: dict[str, list[Any]] = {"disk": list(disks[cold_disks:]), "net": ports[cold_nets:]}
    plugged = [
        (card["name"], card["slot"], more["disk" if card["disk"] is not None else "net"].pop(0))
        for card in description["plugged"]
    ]
    wanted_devices = description.get("devices", [])
    if len(devices) != len(wanted_devices):
        names = ", ".join(f"{device['name']!r} at {device['base']:#x}" for device in wanted_devices)
        raise SnapshotError(
            f"the machine has {len(wanted_devices)} device(s) in Python{names and ': '}{names}; {len(devices)} are "
            "given: give an object for each, with devices="
        )
    for number, (device, wanted_device) in enumerate(zip(devices, wanted_devices, strict=True)):
        check_device(device, wanted_device["name"], f"device {number}")
    mapped = [
        MappedDevice(wanted_device["base"], wanted_device["size"], device)
        for device, wanted_device in zip(devices, wanted_devices, strict=True)
    ]
    # These devices and those that were plugged in are there again before any state is loaded.
    late = bool(plugged or mapped)
    return Machine._from_origin(
        description["options"],
        _core.Origin(memory, None if late else state, dtb),
        disks[:cold_disks],
        ports[:cold_nets],
        devices=mapped,
        plugged=plugged,
        state=state if late else None,
    )


def _describe_disk(disk: Disk) -> DiskDescription:
    return {
        "bus": disk.bus,
        "serial": disk.serial,
        "queues": disk._queues,
        "size": disk.size,
        "read_only": disk.read_only,
        "ephemeral": disk._ephemeral,
        "volatile_cache": disk._volatile_cache,
    }


def _describe_net(net: Port) -> NetDescription:
    return {"mac": net.mac, "model": net.model, "queue_pairs": net._queue_pairs, "link": net.link}


def _become(port: Port, net: NetDescription) -> None:
    if not isinstance(port, Port):
        raise ConfigError(f"nets: {port!r} is not a port; give lan.port() of a wirt.Switch()")
    port._address, port.mac = parse_mac(net["mac"]), net["mac"]
    port.model, port._queue_pairs = net["model"], net["queue_pairs"]
    if port.link != net["link"]:
        port.link = net["link"]


def _list(data: dict[str, Any], key: str) -> list[object]:
    value = data[key]
    if not isinstance(value, list) or len(value) > _MOST_DEVICES:
        raise SnapshotError(f"the machine's description has no good {key}")
    return value


def _checked(data: object, kinds: dict[str, type], what: str) -> dict[str, Any]:
    if not isinstance(data, dict) or data.keys() != kinds.keys():
        raise SnapshotError(f"the description of a {what} has not the keys that this release knows")
    for key, kind in kinds.items():
        # bool is an int to isinstance.
        if type(data[key]) is not kind or (kind is int and not 0 <= data[key] < 1 << 63):
            raise SnapshotError(f"the description of a {what} says {key}: {data[key]!r}")
    return data


def _parse_disk(data: object) -> DiskDescription:
    disk = _checked(
        data,
        {
            "bus": str,
            "serial": str,
            "queues": int,
            "size": int,
            "read_only": bool,
            "ephemeral": bool,
            "volatile_cache": bool,
        },
        "disk",
    )
    if disk["bus"] not in get_args(Bus):
        raise SnapshotError(f"the description of a disk says bus: {disk['bus']!r}")
    return cast(DiskDescription, dict(disk))


def _parse_net(data: object) -> NetDescription:
    net = _checked(data, {"mac": str, "model": str, "queue_pairs": int, "link": bool}, "NIC")
    if net["model"] not in get_args(NicModel):
        raise SnapshotError(f"the description of a NIC says model: {net['model']!r}")
    try:
        parse_mac(net["mac"])
    except ConfigError as error:
        raise SnapshotError(str(error)) from None
    return cast(NetDescription, dict(net))


def _parse_device(data: object) -> DeviceDescription:
    return cast(DeviceDescription, dict(_checked(data, {"name": str, "base": int, "size": int}, "device in Python")))


def _parse_plugged(data: object) -> Plugged:
    if not isinstance(data, dict) or data.keys() != Plugged.__required_keys__:
        raise SnapshotError("the description of a plugged device has not the keys that this release knows")
    head = _checked({key: data[key] for key in ("name", "slot")}, {"name": str, "slot": int}, "plugged device")
    if head["slot"] > 31 or (data["disk"] is None) == (data["net"] is None):
        raise SnapshotError(f"the description of {head['name']!r} is of no device, or of none that can be plugged in")
    return {
        "name": head["name"],
        "slot": head["slot"],
        "disk": None if data["disk"] is None else _parse_disk(data["disk"]),
        "net": None if data["net"] is None else _parse_net(data["net"]),
    }
