"""A machine without its past and its copies: life cycle, parts, observation. :class:`wirt.Machine` adds those."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypeVar, cast

from wirt import _core
from wirt.configuration import Options, canonical_isa, core_configuration, natural
from wirt.console import Console
from wirt.device import Device, MappedDevice
from wirt.disk import Disk
from wirt.errors import ConfigError, ImageError, StateError
from wirt.net import Port
from wirt.sizes import parse_size

# `import wirt` shall cost little: what only some calls need is imported by them.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wirt import stats as _stats
    from wirt.input import Keyboard, Tablet
    from wirt.machine import Machine
    from wirt.migration.destination import Reception
    from wirt.migration.source import Migration
    from wirt.vnc import VncServer

__all__ = ["BareMachine", "ImageSource"]

_T = TypeVar("_T")

# States of a migration in which the machine's parts must stay what was said to the other side.
_ON_THE_WAY = ("copying", "switching", "in doubt", "post-copy", "interrupted")

ImageSource = str | os.PathLike[str] | bytes

# Harts must not outlive the interpreter that their Python devices run in.
_open: weakref.WeakSet[BareMachine] = weakref.WeakSet()


class BareMachine:
    """What :class:`wirt.Machine` is but for its past and its copies."""

    def __init__(
        self,
        kernel: ImageSource | None = None,
        *,
        initrd: ImageSource | None = None,
        firmware: ImageSource | None = None,
        dtb: ImageSource | None = None,
        cmdline: str = "",
        memory: int | str = "512M",
        cpus: int = 1,
        isa: str | Sequence[str] | None = None,
        disks: Sequence[Disk | str | os.PathLike[str]] = (),
        nets: Sequence[Port] = (),
        virtio: Literal["mmio", "pci"] = "mmio",
        packed: bool = False,
        interrupts: Literal["plic", "aplic", "aia"] = "plic",
        guest_files: int = 0,
        iommu: Literal["platform", "pci"] | None = None,
        display: Literal["bochs", "virtio-gpu"] | None = None,
        resolution: tuple[int, int] = (1024, 768),
        input_devices: bool = False,
        pcie_ports: int = 0,
        deterministic: bool = False,
        seed: int = 0,
    ) -> None:
        options: Options = {
            "memory": parse_size(memory, "memory"),
            "cpus": cpus,
            "cmdline": cmdline,
            "isa": canonical_isa(isa),
            "virtio": virtio,
            "packed": packed,
            "interrupts": interrupts,
            "guest_files": guest_files,
            "iommu": iommu,
            "display": display,
            "resolution": resolution,
            "input_devices": input_devices,
            "pcie_ports": pcie_ports,
            "deterministic": deterministic,
            "seed": seed,
        }
        config = core_configuration(options)
        config.kernel = _image(kernel, "kernel", unpack=True)
        config.firmware = _image(firmware, "firmware", unpack=True)
        config.initrd = _image(initrd, "initrd")
        config.dtb = _image(dtb, "dtb")
        self._build(options, config, [disk if isinstance(disk, Disk) else Disk(disk) for disk in disks], nets)

    def _build(
        self, options: Options, config: _core.MachineConfig, disks: Sequence[Disk], nets: Sequence[Port]
    ) -> None:
        # Names this machine to its disks without keeping it alive.
        self._token = object()
        self._rest = threading.RLock()
        self._options = options
        self._nets = list(nets)
        config.nets = [_port(net, nets)._configuration(config.virtio) for net in nets]
        self._disks = list(disks)
        try:
            config.disks = [disk._attach(self._token, config.virtio) for disk in self._disks]
            self._core = _core.Machine(config)
        except BaseException:
            self._release_disks()
            raise
        for net in nets:
            net._taken = True
        machine = self._core
        # Consoles hold no reference to this object: a dropped machine goes at once, not when cycles are collected.
        self._consoles = {
            name: Console(core, lambda: machine.state is _core.MachineState.running)
            for name, core in (("serial", self._core.serial), ("hvc", self._core.hvc), ("console", self._core.console))
        }
        self._raised: BaseException | None = None
        self._migrating = threading.Lock()
        self._migration: Migration | Reception | None = None
        self._plugged: dict[str, Disk | Port] = {}
        self._mapped: list[MappedDevice] = []
        self._begun_elsewhere = False  # restored, and not run since
        self._plugged_at_origin: list[str] = []
        self._vnc_servers: list[VncServer] = []
        _open.add(self)

    # --- life cycle ---

    def start(self) -> None:
        """Starts the harts on threads of their own and returns; a restored machine goes on from its snapshot.

        Raises:
            StateError: it was started before.
        """
        if self._begun_elsewhere:
            self.resume()
        else:
            self._core.start()

    def pause(self) -> None:
        """Brings every hart to an instruction boundary and every device queue to rest; nothing if it does not run."""
        self._reraising(self._core.pause)

    def resume(self) -> None:
        """Goes on after :meth:`pause`, a step or a breakpoint."""
        self._core.resume()
        self._begun_elsewhere = False

    def close(self) -> None:
        """Ends the machine, whatever it is doing, and closes its disks; idempotent.

        Consoles, statistics, memory and the reason of the stop can still be read.
        """
        _open.discard(self)
        for server in self._vnc_servers:
            server.close()
        self._core.close()
        self._mapped.clear()
        self._release_disks()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the machine does not run: the guest ended it, a breakpoint was hit, or someone paused it.

        Args:
            timeout: seconds; None waits for ever. Ctrl-C interrupts it.

        Returns:
            False on time-out.

        Raises:
            Exception: whatever a Python device raised.
        """
        return self._reraising(lambda: self._core.wait(-1.0 if timeout is None else max(timeout, 0.0)))

    def step(self, count: int = 1, *, hart: int = 0) -> None:
        """Executes instructions of one hart alone; the machine is paused afterwards."""
        self._reraising(lambda: self._core.step(hart, natural(count, "count")))

    def run_for(self, instructions: int) -> None:
        """Deterministic machines: runs until so many more instructions were retired by all harts, or it stops.

        An instruction that traps takes a cycle and is not retired. A guest that does little else, such as one whose
        trap handler traps, would never come to an end: :attr:`stop_reason` is ``no_progress`` then, as soon as the
        harts together had 2 x harts x (10,000 + the number of instructions asked for) cycles. Of more than 20 million
        instructions the bound is that of each 20 million.
        """
        self._reraising(lambda: self._core.run_for(natural(instructions, "instructions")))

    @contextmanager
    def _breakpoints_at(self, addresses: Sequence[int]) -> Iterator[None]:
        """Others than the user's, for a while."""
        kept = self._core.breakpoints
        for address in kept:
            self._core.remove_breakpoint(address)
        for address in addresses:
            self._core.add_breakpoint(address)
        try:
            yield
        finally:
            for address in addresses:
                self._core.remove_breakpoint(address)
            for address in kept:
                self._core.add_breakpoint(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            # What a device raised is heard once: by a call, or here when no call heard it.
            if error is None and self._raised is None:
                self._core.raise_host_error()
        finally:
            self.close()

    @property
    def state(self) -> str:
        """``created``, ``running``, ``paused``, ``stopped`` (by the guest) or ``closed``."""
        return self._core.state.name

    @property
    def stop_reason(self) -> str:
        """Why it does not run.

        ``none``, ``poweroff``, ``reboot``, ``failure``, ``halted`` (every hart is off), ``breakpoint``, ``step``,
        ``no_progress`` (see :meth:`run_for`) or ``host_error`` (a Python device raised).
        """
        return self._core.stop_info.reason.name

    @property
    def exit_code(self) -> int | None:
        """0 after a power-off or reboot, the guest's code after a failure, None while it has not ended."""
        info = self._core.stop_info
        if info.reason in (_core.StopReason.poweroff, _core.StopReason.reboot):
            return 0
        return info.code if info.reason is _core.StopReason.failure else None

    # --- parts ---

    @property
    def console(self) -> Console:
        """The console that the command line's last ``console=`` names; also the SBI's debug console."""
        return self._consoles["console"]

    @property
    def serial(self) -> Console:
        """The 16550 UART."""
        return self._consoles["serial"]

    @property
    def hvc(self) -> Console:
        """The virtio console."""
        return self._consoles["hvc"]

    def screenshot(self, path: str | os.PathLike[str] | None = None) -> NDArray[np.uint8]:
        """What the display shows now; a display that is off is black.

        Needs NumPy, and Pillow for a file: ``pip install wirt[display]``.

        Args:
            path: an image file to write as well, such as ``screen.png``.

        Returns:
            An array of shape (height, width, 3): red, green and blue from 0 to 255.

        Raises:
            ConfigError: the machine has no display, or a library is missing.
            OSError: the file cannot be written.
        """
        from wirt import display

        pixels = display.rgb(display.capture(self._display()))
        if path is not None:
            display.save(pixels, path)
        return pixels

    @property
    def keyboard(self) -> Keyboard:
        """The keyboard.

        Raises:
            ConfigError: the machine has none.
        """
        from wirt.input import Keyboard

        return Keyboard(_present(_core.keyboard(self._core), "keyboard", "input_devices=True"))

    @property
    def tablet(self) -> Tablet:
        """The pointing device, with absolute coordinates.

        Raises:
            ConfigError: the machine has none.
        """
        from wirt.input import Tablet

        return Tablet(_present(_core.tablet(self._core), "tablet", "input_devices=True"))

    def vnc(self, address: str | int = ":0") -> VncServer:
        """Starts a VNC server for the display and, where there are input devices, keyboard and pointer.

        Any number of servers may run; the end of the machine closes them. Needs NumPy: ``pip install wirt[display]``.

        Args:
            address: ``:N`` (port 5900 + N), a port (0: any), ``127.0.0.1:PORT``, ``[::1]:PORT``, or ``unix:PATH``, a
                socket that only this user can open. Other addresses are refused: the server asks for no password.

        Raises:
            ConfigError: there is no display, the address is taken or not allowed, or NumPy is missing.
        """
        from wirt import display

        display.require("numpy")
        from wirt.vnc import VncServer

        keyboard, tablet = (self.keyboard, self.tablet) if _core.keyboard(self._core) else (None, None)
        server = VncServer(self._display(), keyboard, tablet, address, "Wirt")
        self._vnc_servers.append(server)
        return server

    def _display(self) -> _core.Display:
        return _present(_core.display(self._core), "display", 'display="bochs"')

    @property
    def harts(self) -> list[_core.Hart]:
        """The harts: registers, address translation, disassembly. While the machine does not run."""
        return self._core.harts

    @property
    def memory(self) -> _core.Memory:
        """Guest RAM: a writable buffer (``memoryview(vm.memory)``, NumPy), and slices by physical address.

        Example:
            >>> vm.memory[0x8000_0000:0x8000_1000]
            >>> numpy.frombuffer(vm.memory, dtype=numpy.uint64)
        """
        return self._core.memory

    @property
    def bus(self) -> _core.Bus:
        """The physical address space as harts see it, devices included."""
        return self._core.bus

    @property
    def iommu(self) -> _core.Iommu | None:
        """The IOMMU's whole request interface, for tests; None where the machine has none."""
        return _core.iommu(self._core)

    def dma(self, device_id: int) -> _core.Dma:
        """Memory as a bus master sees it: through the IOMMU where the machine has one.

        Args:
            device_id: who asks, 24 bits: a requester id of PCI, ``0x10000 + n`` for virtio-mmio slot n, or a number of
                your own from ``0x20000`` on for a device written in Python.

        Returns:
            An object with ``read(address, length)``, ``write(address, data)`` and ``send_message(address, data)``.
            They raise :class:`DmaError` where the IOMMU refuses, after it has reported the fault to the guest.
        """
        if not 0 <= device_id < 1 << 24:
            raise ConfigError(f"device_id {device_id}: 24 bits")
        return _core.dma(self._core, device_id)

    @property
    def disks(self) -> list[Disk]:
        """Its disks, in the order given and attached."""
        return list(self._disks)

    @property
    def dtb(self) -> bytes:
        """The flattened device tree that the guest is given."""
        return self._core.dtb

    @property
    def devices(self) -> list[_stats.DeviceInfo]:
        """The devices: where they are, how the guest has set them up, and what they counted."""
        from wirt.stats import collect_descriptions

        return collect_descriptions(self._core.describe())

    def map_device(self, base: int, size: int, device: Device) -> None:
        """Puts a Python device at a physical address, and tells it so; before :meth:`start`.

        Raises:
            ConfigError: something is there already, or the device is none.
            StateError: the machine was started before.
        """
        if not isinstance(device, Device):
            raise ConfigError(f"{device!r} is no device: derive its class from wirt.Device")
        self._map(natural(base, "base"), natural(size, "size"), device)

    def _map(self, base: int, size: int, device: Device) -> None:
        _core.map_device(self._core, base, size, device._label, device, device._saves)
        self._mapped.append(MappedDevice(base, size, device))
        device.attached(cast("Machine", self))

    def interrupt_line(self, source: int) -> _core.InterruptLine:
        """An input of the interrupt controller for a Python device, 40 to 95; ``line.set(True)`` raises it."""
        return _core.interrupt_line(self._core, source)

    # --- devices that come and go ---

    def attach(self, device: Disk | Port, *, slot: int | None = None) -> str:
        """Plugs a disk or a NIC in, also while the machine runs.

        A hot-plug port (``pcie_ports=``) tells the guest, whose driver for such ports takes over; without that driver
        (Debian's kernel has none), and on bus 0, the guest finds the device with ``echo 1 > /sys/bus/pci/rescan``.

        Args:
            device: a disk with ``bus="ahci"`` or ``"virtio-pci"``, or a switch's port with ``model="e1000e"`` or
                ``"virtio-pci"``; ``"virtio"`` means virtio-pci here.
            slot: 4 to 23 on bus 0, or 24 and up: a hot-plug port. The first port that is empty by default, or else the
                first empty slot of bus 0.

        Returns:
            The device's name, as in :attr:`devices`. No name is used twice in a machine's life.

        Raises:
            ConfigError: there is no such place, or it is taken, or the device is on a bus without hot-plug.
            StorageError: the disk is in use, or cannot be opened.
            StateError: the machine has ended.
        """
        self._require_stay()
        where = None if slot is None else natural(slot, "slot")
        if where is not None and where > 31:
            raise ConfigError(f"slot {slot}: a PCI bus has 0 to 31")
        return self._plug(device, where)

    def _plug(self, device: Disk | Port, where: int | None, name: str = "") -> str:
        if isinstance(device, Disk):
            configuration = device._attach(self._token, _core.VirtioTransport.pci)
            try:
                name = self._core.plug_disk(configuration, where, name)
            except BaseException:
                if device not in self._disks:
                    device._detach(self._token)
                raise
            self._disks.append(device)
        else:
            net = _port(device, ())
            name = self._core.plug_net(net._configuration(_core.VirtioTransport.pci), where, name)
            net._taken = True
        self._plugged[name] = device
        return name

    def detach(self, device: Disk | Port | str, *, timeout: float = 10.0) -> bool:
        """Takes a device out that :meth:`attach` has plugged in.

        In a port whose attention button a driver of the running guest listens to, the button is pressed first, and the
        guest has time to let go of the device and to switch the slot's power off. Whatever it does, the device is gone
        afterwards, as when it is pulled out: its registers decode nothing, and its DMA has ended. Let a guest without
        such a driver write to ``/sys/bus/pci/devices/.../remove`` first.

        Args:
            device: the disk or port, or the device's name.
            timeout: seconds that a guest has to answer the button (Linux takes five).

        Returns:
            False when it was taken from a driver that still used it.

        Raises:
            ConfigError: it is no device of this machine, or one that cannot be taken out.
            StateError: the machine has ended.
        """
        self._require_stay()
        name = next((name for name, plugged in self._plugged.items() if device in (name, plugged)), None)
        if name is None:
            raise ConfigError(f"{device!r}: is no device that attach() has plugged into this machine")
        clean = self._core.unplug(name, max(timeout, 0.0))
        gone = self._plugged.pop(name)
        if isinstance(gone, Disk):
            self._disks.remove(gone)
            if gone not in self._disks:
                gone._detach(self._token)
        else:
            gone._taken = False
        return clean

    def _require_stay(self) -> None:
        """Raises StateError while the machine is on its way to another host."""
        if self._migration is not None and self._migration.state in _ON_THE_WAY:
            raise StateError(f"the machine is being migrated: vm.migration is {self._migration.state}")

    # --- observation ---

    def stats(self) -> _stats.Stats:
        """All counters: exits by device and cause, instructions, TLB and block-cache figures."""
        from wirt.stats import collect

        return collect(self._core)

    def take_marks(self) -> list[_stats.Mark]:
        """The sections that the guest measured since the last call."""
        from wirt.stats import collect_marks

        return collect_marks(self._core.take_marks())

    @property
    def instructions(self) -> int:
        """Instructions retired by all harts."""
        return self._core.instructions

    @property
    def time(self) -> float:
        """Guest time since the start, seconds."""
        return self._core.time_ns / 1e9

    def state_hash(self) -> str:
        """A digest of all state of the machine; while it does not run. Equal states have equal digests."""
        return self._core.state_hash()

    def inspect(self) -> dict[str, int]:
        """Every integer of the machine's state by ``section.field``; while it does not run."""
        return dict(self._core.inspect())

    @property
    def breakpoints(self) -> list[int]:
        """Virtual addresses at which a hart stops the machine before it executes what is there."""
        return self._core.breakpoints

    def add_breakpoint(self, address: int) -> None:
        """Adds one; :meth:`wait` returns when it is hit."""
        self._core.add_breakpoint(natural(address, "address"))

    def remove_breakpoint(self, address: int) -> None:
        """Removes one."""
        self._core.remove_breakpoint(natural(address, "address"))

    def __repr__(self) -> str:
        return f"<wirt.Machine {self.state}, {len(self._core.harts)} hart(s), {self.instructions} instructions>"

    def __del__(self) -> None:
        # Without a close() the core ends with its last user; the disks must hear of it, and viewers are users.
        for server in getattr(self, "_vnc_servers", ()):
            server.close()
        self._release_disks()

    def _release_disks(self) -> None:
        for disk in getattr(self, "_disks", ()):
            disk._detach(self._token)

    @contextmanager
    def _at_rest(self) -> Iterator[bool]:
        """Pauses the machine for the body if it runs, which is what the body is told. One thread at a time."""
        with self._rest:
            running = self.state == "running"
            if running:
                self.pause()
            try:
                yield running
            finally:
                # A guest that ended itself meanwhile does not go on.
                if running and self.state == "paused":
                    self.resume()

    def _reraising(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except BaseException as error:
            self._raised = error
            raise


def _image(source: ImageSource | None, what: str, *, unpack: bool = False) -> _core.Image:
    """The bytes of an image: a kernel out of its compression, a RAM disk as it is (the guest unpacks it)."""
    if source is None:
        return _core.Image()
    from pathlib import Path

    name = what if isinstance(source, bytes) else os.fspath(source)
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {error.strerror or error}") from error
    if not content:
        raise ImageError(f"{name}: is empty")
    if unpack:
        # Decompressors are loaded when there is something to unpack.
        from wirt.images import unwrap

        content = unwrap(content, name)
    return _core.Image(name, content)


def _present(part: _T | None, what: str, option: str) -> _T:
    if part is None:
        raise ConfigError(f"the machine has no {what}: build it with {option}")
    return part


def _port(net: Port, nets: Sequence[Port]) -> Port:
    if not isinstance(net, Port):
        raise ConfigError(f"nets: {net!r} is not a port; give lan.port() of a wirt.Switch()")
    if net._taken or nets.count(net) > 1:
        raise ConfigError(f"nets: {net!r} belongs to another NIC; give each one a port of its own with lan.port()")
    return net


@atexit.register
def _close_all() -> None:
    for machine in list(_open):
        machine.close()
