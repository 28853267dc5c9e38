"""The machine."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

from wirt import _core
from wirt.configuration import Options, canonical_isa, core_configuration, natural
from wirt.console import Console
from wirt.device import Device
from wirt.disk import Disk
from wirt.errors import ConfigError, ImageError, StateError
from wirt.net import Port
from wirt.sizes import parse_size

# `import wirt` shall cost little: what only some calls need is imported by them.
if TYPE_CHECKING:
    import ssl
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from wirt import stats as _stats
    from wirt.input import Keyboard, Tablet
    from wirt.migration import MigrationProgress, MigrationReport
    from wirt.migration.destination import Reception
    from wirt.migration.source import Migration
    from wirt.migration.transport import TlsFiles
    from wirt.snapshot import Snapshot
    from wirt.vnc import VncServer

__all__ = ["Machine"]

_T = TypeVar("_T")

# States of a migration in which the machine's parts must stay what was said to the other side.
_ON_THE_WAY = ("copying", "switching", "in doubt", "post-copy", "interrupted")

ImageSource = str | os.PathLike[str] | bytes

# Harts must not outlive the interpreter that their Python devices run in.
_open: weakref.WeakSet[Machine] = weakref.WeakSet()


class Machine:
    """A RISC-V computer: harts, memory, devices, consoles.

    Use it with ``with``: the end closes it. It takes nothing from the host but memory and, while it runs, one thread a
    hart and a few for I/O. All methods may be called from any thread.

    Args:
        kernel: a Linux ``Image`` or ELF file, also packed as EFI zboot, gzip, xz or zstd; its path or its bytes. It
            starts in S-mode with the monitor's own SBI (or after ``firmware``).
        initrd: the initial RAM disk; its path or its bytes.
        firmware: an M-mode image for address 0x80000000 (ELF or raw), such as OpenSBI or U-Boot.
        dtb: a flattened device tree to use in place of the generated one.
        cmdline: the kernel's command line. :attr:`console` is what its last ``console=`` names.
        memory: bytes, or a text such as ``"512M"``: 16 MiB to 64 GiB, a multiple of 4 KiB.
        cpus: harts, 1 to 8.
        isa: the extensions of each hart, as an ISA string (``"rv64gc"``, ``"rv64gc_zba_zbb_sstc"``) or a list whose
            first entry is one (``["rv64gc", "zba", "zbb"]``); None: all that this release has by default
            (:data:`wirt.isa.DEFAULT`). An instruction of an extension that is not there is an illegal instruction, and
            the device tree names those that are.
        disks: :class:`wirt.Disk` objects; a path alone is a disk on virtio.
        nets: ports of a :class:`wirt.Switch`, one NIC each.
        virtio: the bus of virtio devices that name none themselves: ``"mmio"`` or ``"pci"``.
        packed: virtio devices offer packed rings.
        interrupts: the board's interrupt controllers: ``"plic"``, ``"aplic"`` (direct delivery) or ``"aia"`` (APLIC
            and IMSIC, with message-signalled interrupts).
        guest_files: guest interrupt files of each hart's IMSIC, 0 to 63; needs ``interrupts="aia"``.
        iommu: a RISC-V IOMMU that all devices' DMA goes through: ``"platform"``, ``"pci"``, or None.
        display: ``"bochs"`` (a linear framebuffer on PCI), ``"virtio-gpu"``, or None.
        resolution: of the display at power-on, width and height in pixels.
        input_devices: a virtio keyboard and a virtio tablet.
        pcie_ports: PCI Express root ports, 0 to 8, that devices can be plugged into while the machine runs.
        deterministic: harts take turns on one thread and time is the count of retired instructions: the same inputs
            give the same :meth:`state_hash`.
        seed: seeds the guest's entropy in deterministic mode.

    Raises:
        ConfigError: no machine can be built from that.
        ImageError: an image is missing, broken or foreign.
    """

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

    @classmethod
    def _from_origin(
        cls,
        options: Options,
        origin: _core.Origin,
        disks: Sequence[Disk],
        nets: Sequence[Port],
        *,
        plugged: Sequence[tuple[str, int, Disk | Port]] = (),
        state: _core.SavedState | None = None,
    ) -> Machine:
        """A machine that begins with the state of another one, paused.

        Args:
            options: the other's.
            origin: its memory, and its state unless that comes later.
            disks: in place of the other's that it was built with.
            nets: likewise.
            plugged: name, slot and device of what had been attached to it. Such a machine's state comes later.
            state: what is loaded once all of that is there.
        """
        machine = cls.__new__(cls)
        config = core_configuration(options)
        config.origin = origin
        machine._build(options, config, disks, nets)
        try:
            for name, slot, device in plugged:
                machine._plug(device, slot, name)
            if state is not None:
                _core.load_state(machine._core, state)
            machine._plugged_at_origin = list(machine._plugged)
        except BaseException:
            machine.close()
            raise
        return machine

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
        self._mapped: list[str] = []  # names of devices in Python
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

    def fork(
        self,
        count: int = 1,
        *,
        start: bool | None = None,
        nets: Callable[[int, Port], Port] | None = None,
        clock: Literal["continue", "jump"] = "continue",
        identity: bool = True,
    ) -> list[Machine]:
        """Copies of this machine as it is now, in this process, which share its memory until they write to it.

        It is paused for the moment if it runs. A copy's disks begin as this machine's are now; what it writes to them
        is kept in memory and dropped when it is closed. Devices written in Python are not copied.

        Args:
            count: how many.
            start: whether they run; by default if this machine does.
            nets: gives each copy's NICs their ports: called with the copy's number and a port of this machine. A port
                with another MAC address is taken up when the guest's driver next resets its NIC. By default each NIC
                is on a switch of its own, with the address it had.
            clock: the wall clock of a copy is this machine's (``"continue"``) or jumps to the host's time when it
                begins (``"jump"``). Later pauses stop it, as those of any machine.
            identity: each copy gets a generation ID and entropy of its own, and its guest is told (vmgenid), so that
                no two make the same keys. Without it the copies are equal to the bit.

        Returns:
            The copies, paused unless they were started. Each is the caller's to close.

        Raises:
            StateError: the machine has ended, or has a device written in Python.
            ConfigError: ``count`` is not positive, a port does not fit, or the host has no memory left.
        """
        from wirt.clones import fork

        return fork(self, count, start=start, nets=nets, clock=clock, identity=identity)

    def reset(self) -> int:
        """Back to where this machine began: a copy to its fork, a restored one to its snapshot. It is paused then.

        Only what was written since is undone. Disks go back, too; their content is that of the moment of the fork.

        Returns:
            How many pages of memory were put back.

        Raises:
            StateError: it runs, is closed, or did not begin from another machine's state; it has got devices since;
                or a disk is written to its file.
        """
        if list(self._plugged) != self._plugged_at_origin:
            raise StateError("devices were attached or detached since it began: put them back first")
        for disk in self._disks:
            if not (disk.read_only or disk._renewable):
                raise StateError(f"{disk!r}: what the guest wrote cannot be undone; use an ephemeral disk")
        pages = _core.reset(self._core)
        plugged = set(self._plugged.values())
        for number, disk in enumerate(disk for disk in self._disks if disk not in plugged):
            if disk._renewable:
                _core.replace_disk(self._core, str(number), disk._renew())
        for name, device in self._plugged.items():
            if isinstance(device, Disk) and device._renewable:
                _core.replace_disk(self._core, name, device._renew())
        for console in self._consoles.values():
            console._rewind()
        return pages

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

    # --- the past of a deterministic machine ---

    def record(self, *, checkpoint_every: int = 50_000_000, keep: int = 64, journal: int | str = "256M") -> None:
        """Deterministic machines: from here on every moment can be had again; while it does not run.

        All that comes in from outside is noted with the position at which it did: console input, events of the
        keyboard and the tablet, frames and changes of the link, and the calls of this object that change the guest.
        Meanwhile input that arrives while the machine runs comes in where a slice of time begins. Memory, registers,
        registers of devices and the content of disks are not to be changed by hand.

        Args:
            checkpoint_every: instructions between checkpoints. A journey replays about so many, and each checkpoint
                costs the pages that were written since the one before.
            keep: how many checkpoints are kept; older ones are thinned out, the more the older they are.
            journal: bytes, or a text such as ``"64M"``: of more input the oldest is dropped, and the recording then
                begins at a later checkpoint. What comes in while the machine is paused is kept in any case.

        Raises:
            StateError: it is not deterministic, is recorded already, or has devices in Python.
        """
        self._core.record(
            natural(checkpoint_every, "checkpoint_every"),
            natural(keep, "keep"),
            natural(parse_size(journal), "journal"),
        )

    def end_recording(self) -> None:
        """Forgets the past. A machine that is in it goes on from there, and what came later never happens."""
        self._core.end_recording()

    @property
    def recording(self) -> _core.RecordingInfo | None:
        """From where to where it is recorded, and what that costs; None when it is not."""
        return self._core.recording()

    def run_to(self, instructions: int | None = None) -> None:
        """Goes to the first moment at which so many instructions were retired, whether past or yet to come.

        Where that is in the recording the machine comes to the very same state, and :attr:`instructions` says where it
        is. In the past it takes no input (:class:`StateError`; frames are lost), sends no frame and does not repeat
        output. From there it can be run as usual; when it gets to the end of the recording it is recorded further.

        Args:
            instructions: as in :attr:`instructions`; None: the end of the recording.

        Raises:
            StateError: it is not recorded, it runs, or that is outside of the recording.
        """
        with self._breakpoints_at([]):
            if instructions is None:
                self._core.run_to_end()
            else:
                self._core.run_to(natural(instructions, "instructions"))

    def step_back(self, count: int = 1) -> None:
        """Takes back instructions, of all harts together in the order in which they ran.

        Raises:
            StateError: as :meth:`run_to`.
        """
        self.run_to(max(self.instructions - natural(count, "count"), 0))

    def run_back_to(self, *addresses: int) -> bool:
        """Goes to the last time before now that a hart was about to execute what is at one of the addresses.

        Args:
            addresses: virtual addresses; the present :attr:`breakpoints` when there are none.

        Returns:
            False when there was none; the machine is where it was.

        Raises:
            StateError: as :meth:`run_to`.
        """
        if not addresses:
            return self._core.run_back()
        with self._breakpoints_at([natural(address, "address") for address in addresses]):
            return self._core.run_back()

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

    def __enter__(self) -> Machine:
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
        """Puts a Python device at a physical address; before :meth:`start`.

        Raises:
            ConfigError: something is there already, or the device is none.
            StateError: the machine was started before.
        """
        if not isinstance(device, Device):
            raise ConfigError(f"{device!r} is no device: derive its class from wirt.Device")
        name = device.name or type(device).__name__
        _core.map_device(self._core, natural(base, "base"), natural(size, "size"), name, device)
        self._mapped.append(name)

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

    # --- snapshots ---

    def snapshot(
        self,
        path: str | os.PathLike[str],
        *,
        incremental: bool = False,
        compress: Literal[False, "zstd"] = False,
        disks: Literal["reference", "include"] | Sequence[Literal["reference", "include"]] = "reference",
    ) -> Snapshot:
        """Writes the machine's whole state into a directory, and returns when it is on stable storage.

        A guest that runs stands still only while its devices' state is saved, and runs on while its memory is written.
        A snapshot that is at the place already is replaced in one step by the new one, when that is whole.

        Args:
            path: the directory; the one that it is in must exist.
            incremental: only the pages that were written since the machine's last snapshot, or since the one that it
                was restored from; that one must stay where it is.
            compress: ``"zstd"`` takes less room, and makes restoring read all of the memory first.
            disks: ``"reference"`` notes which files they are, and restoring refuses those that were written since;
                ``"include"`` copies their content, which disks in memory and ephemeral ones need. One of them for all,
                or for each disk, in the order in which the machine got them.

        Raises:
            StateError: the machine has ended, has a device in Python, is being snapshotted already, or has no snapshot
                to build on.
            StorageError: the disk is full, or fails, or a disk cannot be referred to; nothing is left behind.
            SnapshotError: something other than a snapshot is at the place, or the one to build on is gone.
        """
        from wirt.snapshot import begin

        return begin(self, path, incremental=incremental, compress=compress, disks=disks, background=False).result()

    def begin_snapshot(
        self,
        path: str | os.PathLike[str],
        *,
        incremental: bool = False,
        compress: Literal[False, "zstd"] = False,
        disks: Literal["reference", "include"] | Sequence[Literal["reference", "include"]] = "reference",
    ) -> Future[Snapshot]:
        """As :meth:`snapshot`, but returns as soon as the guest runs on; the state is that of this moment.

        Returns:
            A future of the snapshot, which is written on a thread of its own.
        """
        from wirt.snapshot import begin

        return begin(self, path, incremental=incremental, compress=compress, disks=disks, background=True)

    @classmethod
    def restore(
        cls,
        path: str | os.PathLike[str],
        *,
        disks: Sequence[Disk | str | os.PathLike[str] | None] | None = None,
        nets: Sequence[Port] | None = None,
        verify: bool = False,
        new_generation: bool | None = None,
        clock: Literal["continue", "jump"] = "continue",
    ) -> Machine:
        """A machine that goes on where a snapshot was taken; paused: :meth:`start` or :meth:`resume` it.

        Memory is mapped copy-on-write and read as it is touched, unless it is compressed. The snapshot's files must not
        be written to meanwhile; removing them does no harm.

        Args:
            path: the snapshot's directory.
            disks: one for each disk of the machine, in the order in which it got them: a disk, a file, or None for the
                snapshot's own. What is given is trusted to hold what the guest left there. Of an included disk the
                writes stay in memory.
            nets: a port for each NIC in the same way; it takes on the NIC's address and model. By default each NIC is
                on a network of its own.
            verify: reads all of the memory and of included disks first, and compares digests. Other parts are always
                compared.
            new_generation: gives the guest a new VM generation ID, by which it knows that it goes on from a copy; by
                default unless the machine is deterministic.
            clock: the guest's wall clock continues where it was, or jumps to the present time.

        Raises:
            SnapshotError: it is damaged, of a newer release, or builds on one that is gone; or a disk has moved on.
            StorageError: a disk is in use, or cannot be opened.
        """
        from wirt.snapshot.reader import restore

        return restore(path, disks=disks, nets=nets, verify=verify, new_generation=new_generation, clock=clock)

    # --- to another host ---

    def migrate(
        self,
        to: str | int,
        *,
        mode: Literal["precopy", "postcopy", "hybrid"] = "precopy",
        downtime: float = 0.3,
        streams: int = 1,
        compress: Literal["auto", "always", "never"] = "auto",
        storage: bool = False,
        tls: ssl.SSLContext | TlsFiles | None = None,
        secret: bytes | str | None = None,
        bandwidth: float | None = None,
        timeout: float | None = None,
        on_progress: Callable[[MigrationProgress], None] | None = None,
        auto_converge: bool = True,
    ) -> MigrationReport:
        """Moves the machine to a process that waits for it in :meth:`receive`, while the guest runs.

        When it returns the machine runs there and this one is closed. When it raises the machine goes on here, but for
        :class:`MigrationInDoubt`. The guest, its devices and its connections notice nothing but a short pause.

        Args:
            to: ``tcp://HOST:PORT``, ``unix:/PATH``, or the descriptor of a connected stream socket.
            mode: ``"precopy"``: memory first, then the switch-over; ``"postcopy"``: the switch-over at once, memory
                follows; ``"hybrid"``: one pass of the former, then the latter.
            downtime: seconds that the guest may stand still before the machine is offered; if that cannot be kept
                the migration ends with an error. Not of post-copy.
            streams: connections that carry memory side by side.
            compress: ``"auto"`` compresses where that is faster.
            storage: the content of disks that can be written goes along. Without it they are files that both hosts see,
                and are handed over.
            tls: a client's context, or ``{"cert": ..., "key": ..., "ca": ...}``, PEM files.
            secret: what both sides know, at least 16 bytes. TCP needs ``tls``, or on loopback ``secret``; on a unix
                socket without a secret the other side must be the same user; a descriptor is the caller's to vouch for.
            bandwidth: bytes a second at most.
            timeout: seconds after which it gives up, as long as the guest runs here.
            on_progress: called now and then, on threads of the migration.
            auto_converge: slow a guest down that writes faster than its memory can be sent.

        Raises:
            MigrationError: it failed, and the machine goes on here (or, in post-copy, waits for ``migration.recover``).
            MigrationInDoubt: the destination may have it: see :attr:`migration`.
            ConfigError: the arguments make no sense, or content of disks would be lost.
            StateError: the machine has ended, or is being migrated.
        """
        from wirt.migration import source

        options = source.Options(
            mode=mode,
            downtime=downtime,
            streams=streams,
            compress=compress,
            storage=storage,
            tls=tls,
            secret=secret,
            bandwidth=bandwidth,
            timeout=timeout,
            on_progress=on_progress,
            auto_converge=auto_converge,
        )
        with self._migrating:
            self._require_stay()
            migration = source.Migration(self, to, options)
            self._migration = migration
        return migration.run()

    @classmethod
    def receive(
        cls,
        at: str | int,
        *,
        disks: Sequence[Disk | str | os.PathLike[str]] = (),
        nets: Sequence[Port] | None = None,
        tls: ssl.SSLContext | TlsFiles | None = None,
        secret: bytes | str | None = None,
        timeout: float | None = None,
        on_progress: Callable[[MigrationProgress], None] | None = None,
    ) -> Machine:
        """Waits for a machine that :meth:`migrate` sends; it runs when this returns, if it ran there.

        Args:
            at: where to listen: ``tcp://HOST:PORT``, ``unix:/PATH``; or the descriptor of a connected stream socket.
            disks: one for each of the machine's, of the same size, bus and serial; what they hold is overwritten
                where the source sends its disks' content. A file that it hands over is a disk with ``incoming=True``.
            nets: a port for each of the machine's NICs, which takes on its address; None: each is on a network of its
                own.
            tls: a server's context that asks for certificates, or ``{"cert": ..., "key": ..., "ca": ...}``.
            secret: as for :meth:`migrate`.
            timeout: seconds to wait for a source.
            on_progress: called now and then, on a thread of the migration.

        Raises:
            MigrationError: no machine came, or what came was not whole. Nothing runs here then.
            ConfigError: the address cannot be used, or there is not enough security for it.
        """
        from wirt.migration.destination import receive
        from wirt.migration.transport import Security

        return receive(at, disks, nets, Security(tls, secret, server=True), timeout, on_progress)

    @property
    def migration(self) -> Migration | Reception | None:
        """The last :meth:`migrate` of this machine, or how it came here by :meth:`receive`; None without either.

        Its ``state`` says how far it is, and ``resolve()`` and ``recover()`` mend what a broken connection left.
        """
        return self._migration

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
