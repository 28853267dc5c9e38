"""A machine's configuration as plain data: what the core is built from, and what a snapshot's manifest says.

The keys are the parameters of :class:`wirt.Machine`, without what is loaded (kernel and the like) and without disks
and NICs.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, TypedDict, TypeVar, cast

from wirt import _core
from wirt.errors import ConfigError

__all__ = ["FIRST_ISA", "Options", "canonical_isa", "core_configuration", "natural", "options_of"]


# What every machine had before it could be chosen: snapshots of that time do not say it.
FIRST_ISA = (
    "rv64imafdc_zicbom_zicbop_zicboz_zicntr_zicsr_zifencei_zihintpause_zihpm_zawrs_zba_zbb_zbs_sstc_svadu_svinval"
)


class Options(TypedDict):
    """All of them; values as :class:`wirt.Machine` takes them, ``memory`` in bytes."""

    memory: int
    cpus: int
    cmdline: str
    isa: str
    virtio: str
    packed: bool
    interrupts: str
    guest_files: int
    iommu: str | None
    display: str | None
    resolution: Sequence[int]
    input_devices: bool
    pcie_ports: int
    deterministic: bool
    seed: int


def core_configuration(options: Options) -> _core.MachineConfig:
    """The core's configuration, still without images, disks and NICs.

    Raises:
        ConfigError: an option has a value that it cannot have.
    """
    config = _core.MachineConfig()
    config.memory = natural(options["memory"], "memory")
    config.harts = natural(options["cpus"], "cpus")
    config.seed = natural(options["seed"], "seed")
    config.deterministic = options["deterministic"]
    config.isa = options["isa"]
    config.virtio = _choice(_core.VirtioTransport, options["virtio"], "virtio")
    config.packed_rings = options["packed"]
    config.interrupts = _choice(_core.InterruptControllers, options["interrupts"], "interrupts")
    config.guest_files = natural(options["guest_files"], "guest_files")
    config.iommu = _choice(_core.IommuKind, options["iommu"], "iommu")
    config.display = _choice(_core.DisplayKind, options["display"], "display")
    config.display_width, config.display_height = (natural(pixels, "resolution") for pixels in options["resolution"])
    config.input = options["input_devices"]
    config.pcie_ports = natural(options["pcie_ports"], "pcie_ports")
    if not isinstance(options["cmdline"], str):
        raise ConfigError(f"cmdline {options['cmdline']!r}: give a text")
    config.cmdline = options["cmdline"]
    return config


def options_of(data: dict[str, Any]) -> Options:
    """Options out of what somebody sent or stored: every one is there, no other is, and each has its type.

    Raises:
        ConfigError: it is no such thing. Whether the values are good is for the core to say.
    """
    kinds: dict[str, type | tuple[type, ...]] = {
        "memory": int,
        "cpus": int,
        "cmdline": str,
        "isa": str,
        "virtio": str,
        "packed": bool,
        "interrupts": str,
        "guest_files": int,
        "iommu": (str, type(None)),
        "display": (str, type(None)),
        "resolution": list,
        "input_devices": bool,
        "pcie_ports": int,
        "deterministic": bool,
        "seed": int,
    }
    if isinstance(data, dict):
        data = data if "isa" in data else data | {"isa": FIRST_ISA}
    if not isinstance(data, dict) or data.keys() != kinds.keys():
        raise ConfigError("the configuration has not the options that this release knows")
    for key, kind in kinds.items():
        if not isinstance(data[key], kind) or (kind is int and isinstance(data[key], bool)):
            raise ConfigError(f"the configuration's {key} is {data[key]!r}")
    if len(data["resolution"]) != 2 or not all(isinstance(pixels, int) for pixels in data["resolution"]):
        raise ConfigError(f"the configuration's resolution is {data['resolution']!r}")
    return cast(Options, dict(data))


def canonical_isa(isa: str | Sequence[str] | None) -> str:
    """The ISA string of a machine's ``isa`` parameter, every extension named.

    Raises:
        ConfigError: there is no such hart.
    """
    if isa is None:
        return _core.canonical_isa()
    words = [isa] if isinstance(isa, str) else list(isa)
    if not all(isinstance(word, str) for word in words):
        raise ConfigError(f"isa {isa!r}: give a text, or a list of texts")
    return _core.canonical_isa("_".join(words))


def natural(value: int, what: str) -> int:
    """The value, if it is a whole number of 64 bits that is not negative.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise ConfigError(f"{what} {value!r}: give a whole number that is not negative")
    return value


_E = TypeVar("_E", bound=Enum)


def _choice(choices: type[_E], value: str | None, name: str) -> _E:
    """The core's enumerator that an option's text names; None is spelled ``none``."""
    offered = {choice.name.replace("_", "-"): choice for choice in choices}
    found = offered.get("none" if value is None else value) if isinstance(value, str | None) else None
    if found is None or value == "none":
        texts = ", ".join("None" if text == "none" else repr(text) for text in offered)
        raise ConfigError(f"{name} {value!r}: is none of {texts}")
    return found
