"""Options that describe a machine, shared by the commands that build one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, get_args

import click

from wirt.debian.pull import cached_guest
from wirt.disk import Disk
from wirt.errors import ConfigError
from wirt.guest_image import guest_image
from wirt.machine import Machine
from wirt.net import NicModel, Switch

__all__ = ["MachineOptions", "build_machine", "machine_options"]

_F = TypeVar("_F", bound=Callable[..., Any])
_PULLED = ("debian", "debian-installer")


class MachineOptions(TypedDict):
    """What :func:`machine_options` adds to a command's parameters."""

    guest: str | None
    kernel: Path | None
    initrd: Path | None
    firmware: Path | None
    dtb: Path | None
    append: str | None
    memory: str
    cpus: int
    disk: tuple[str, ...]
    net: bool
    net_model: NicModel
    virtio: Literal["mmio", "pci"]
    packed: bool
    iommu: Literal["platform", "pci"] | None
    pcie_ports: int
    isa: str | None
    interrupts: Literal["plic", "aplic", "aia"]
    display: Literal["bochs", "virtio-gpu"] | None
    resolution: str
    deterministic: bool
    seed: int


def machine_options(function: _F) -> _F:
    """Adds the machine's options to a command."""
    file = click.Path(path_type=Path)
    options = (
        click.argument("guest", required=False),
        click.option("--kernel", "-k", type=file, help="Linux Image, ELF or vmlinuz."),
        click.option("--initrd", "-i", type=file, help="Initial RAM disk."),
        click.option("--firmware", "-f", type=file, help="M-mode firmware, e.g. OpenSBI's fw_dynamic."),
        click.option("--dtb", type=file, help="Device tree in place of the generated one."),
        click.option("--append", "-a", metavar="TEXT", help="The kernel's command line."),
        click.option("--memory", "-m", default="512M", show_default=True, help="RAM."),
        click.option("--cpus", "-c", default=1, show_default=True, help="Harts, 1 to 8."),
        click.option(
            "--disk",
            "-d",
            multiple=True,
            metavar="FILE[,OPTION...]",
            help="A raw image. Options: bus=ahci, bus=virtio, bus=virtio-pci, ro, ephemeral, serial=TEXT, queues=N; "
            "memory=SIZE in place of a file is an empty disk in memory.",
        ),
        click.option("--net", is_flag=True, help="A network card on a network of its own."),
        click.option(
            "--net-model",
            type=click.Choice(get_args(NicModel)),
            default="virtio",
            show_default=True,
            help="What kind of card.",
        ),
        click.option(
            "--virtio",
            type=click.Choice(["mmio", "pci"]),
            default="mmio",
            show_default=True,
            help="The bus of virtio devices.",
        ),
        click.option("--packed", is_flag=True, help="Virtio devices offer packed rings."),
        click.option("--pcie-ports", default=0, show_default=True, help="Hot-plug ports, 0 to 8."),
        click.option("--isa", help="The harts' extensions, e.g. rv64gc_zba_zbb.  [default: wirt.isa.DEFAULT]"),
        click.option(
            "--interrupts",
            type=click.Choice(["plic", "aplic", "aia"]),
            default="plic",
            show_default=True,
            help="Interrupt controllers: PLIC, APLIC, or APLIC and IMSIC.",
        ),
        click.option("--display", type=click.Choice(["bochs", "virtio-gpu"]), help="A display, keyboard and tablet."),
        click.option("--resolution", metavar="WIDTHxHEIGHT", default="1024x768", show_default=True, help="Of it."),
        click.option("--iommu", type=click.Choice(["platform", "pci"]), help="An IOMMU in front of all devices."),
        click.option("--deterministic", is_flag=True, help="Time is the instruction count; runs repeat bit for bit."),
        click.option("--seed", default=0, show_default=True, help="Entropy of a deterministic machine."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def build_machine(options: MachineOptions) -> Machine:
    """The machine that the options describe.

    Raises:
        WirtError: with what is wrong.
    """
    kernel, initrd, cmdline = _images(options)
    return Machine(
        kernel,
        initrd=initrd,
        firmware=options["firmware"],
        dtb=options["dtb"],
        cmdline=cmdline,
        memory=options["memory"],
        cpus=options["cpus"],
        disks=[parse_disk(text) for text in options["disk"]],
        nets=[Switch().port(model=options["net_model"])] if options["net"] else [],
        virtio=options["virtio"],
        packed=options["packed"],
        iommu=options["iommu"],
        pcie_ports=options["pcie_ports"],
        isa=options["isa"],
        interrupts=options["interrupts"],
        display=options["display"],
        resolution=parse_resolution(options["resolution"]),
        input_devices=options["display"] is not None,
        deterministic=options["deterministic"],
        seed=options["seed"],
    )


def _images(options: MachineOptions) -> tuple[Path | bytes | None, Path | None, str]:
    guest, append = options["guest"], options["append"]
    if guest is None:
        if options["kernel"] is None and options["firmware"] is None:
            raise ConfigError(
                "nothing to run: name a guest (debian, debian-installer, demo), --kernel FILE or --firmware FILE"
            )
        return options["kernel"], options["initrd"], append or ""
    if guest == "demo":
        return guest_image(), options["initrd"], append or "demo"
    if guest not in _PULLED:
        raise ConfigError(f"guest {guest!r}: there are debian, debian-installer and demo; --kernel FILE runs a file")
    pulled = cached_guest(guest)
    if pulled is None:
        raise ConfigError(f"{guest} is not in the cache yet: wirt pull {guest}")
    cmdline = f"{pulled.cmdline} {append}" if append else pulled.cmdline
    if options["display"] is not None:
        # The kernel's messages as well; the console that is named last stays this terminal's.
        cmdline = f"console=tty0 {cmdline}"
    return options["kernel"] or pulled.kernel, options["initrd"] or pulled.initrd, cmdline


def parse_resolution(text: str) -> tuple[int, int]:
    """Width and height of ``1024x768``.

    Raises:
        ConfigError: it is no such text.
    """
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"resolution {text!r}: give WIDTHxHEIGHT, such as 1024x768")
    return int(width), int(height)


def parse_disk(text: str) -> Disk:
    """A disk from the command line's notation, e.g. ``root.img,bus=ahci,ephemeral``.

    Raises:
        ConfigError: an option is not known.
        StorageError: the file cannot be opened.
    """
    path, *words = text.split(",")
    options: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("ro", "ephemeral", "incoming") and not equals:
            options["read_only" if name == "ro" else name] = True
        elif name in ("bus", "serial") and equals:
            options[name] = value
        elif name == "queues" and value.isdigit():
            options[name] = int(value)
        else:
            raise ConfigError(f"disk {text!r}: {word!r} is not known; see wirt run --help")
    name, equals, size = path.partition("=")
    if name == "memory" and equals:
        if options.keys() & {"read_only", "ephemeral", "incoming"}:
            raise ConfigError(f"disk {text!r}: a disk in memory is neither ro nor ephemeral nor incoming")
        return Disk.memory(size, **options)
    return Disk(path, **options)
