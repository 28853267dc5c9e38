"""The machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from wirt import _core
from wirt.bare_machine import BareMachine
from wirt.configuration import Options, core_configuration, natural
from wirt.device import Device, MappedDevice
from wirt.disk import Disk
from wirt.errors import StateError
from wirt.net import Port
from wirt.sizes import parse_size

# `import wirt` shall cost little: what only some calls need is imported by them.
if TYPE_CHECKING:
    import ssl
    from concurrent.futures import Future

    from wirt.migration import MigrationProgress, MigrationReport
    from wirt.migration.destination import Reception
    from wirt.migration.source import Migration
    from wirt.migration.transport import TlsFiles
    from wirt.snapshot import Snapshot

__all__ = ["Machine"]


class Machine(BareMachine):
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

    @classmethod
    def _from_origin(
        cls,
        options: Options,
        origin: _core.Origin,
        disks: Sequence[Disk],
        nets: Sequence[Port],
        *,
        devices: Sequence[MappedDevice] = (),
        plugged: Sequence[tuple[str, int, Disk | Port]] = (),
        state: _core.SavedState | None = None,
    ) -> Machine:
        """A machine that begins with the state of another one, paused.

        Args:
            options: the other's.
            origin: its memory, and its state unless that comes later.
            disks: in place of the other's that it was built with.
            nets: likewise.
            devices: those in Python. The state of a machine that has any comes later.
            plugged: name, slot and device of what had been attached to it; likewise.
            state: what is loaded once all of that is there.
        """
        machine = cls.__new__(cls)
        config = core_configuration(options)
        config.origin = origin
        machine._build(options, config, disks, nets)
        try:
            for mapped in devices:
                machine._map(*mapped)
            for name, slot, device in plugged:
                machine._plug(device, slot, name)
            if state is not None:
                _core.load_state(machine._core, state)
            machine._plugged_at_origin = list(machine._plugged)
        except BaseException:
            machine.close()
            raise
        return machine

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

    def fork(
        self,
        count: int = 1,
        *,
        start: bool | None = None,
        nets: Callable[[int, Port], Port] | None = None,
        devices: Callable[[int, Device], Device] | None = None,
        clock: Literal["continue", "jump"] = "continue",
        identity: bool = True,
    ) -> list[Machine]:
        """Copies of this machine as it is now, in this process, which share its memory until they write to it.

        It is paused for the moment if it runs. A copy's disks begin as this machine's are now; what it writes to them
        is kept in memory and dropped when it is closed.

        Args:
            count: how many.
            start: whether they run; by default if this machine does.
            nets: gives each copy's NICs their ports: called with the copy's number and a port of this machine. A port
                with another MAC address is taken up when the guest's driver next resets its NIC. By default each NIC
                is on a switch of its own, with the address it had, its cable in or out as this machine's.
            devices: gives each copy its devices in Python: called with the copy's number and a device of this machine,
                returns another object, whose ``load`` gets what this one's ``save`` gave.
            clock: the wall clock of a copy is this machine's (``"continue"``) or jumps to the host's time when it
                begins (``"jump"``). Later pauses stop it, as those of any machine.
            identity: each copy gets a generation ID and entropy of its own, and its guest is told (vmgenid), so that
                no two make the same keys. Without it the copies are equal to the bit.

        Returns:
            The copies, paused unless they were started. Each is the caller's to close.

        Raises:
            StateError: the machine has ended, or has a device in Python that cannot be copied.
            ConfigError: ``count`` is not positive, a port or a device does not fit, or the host has no memory left.
        """
        from wirt.clones import fork

        return fork(self, count, start=start, nets=nets, devices=devices, clock=clock, identity=identity)

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
            StateError: the machine has ended, has a device in Python that cannot be copied, is being snapshotted
                already, or has no snapshot to build on.
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
        devices: Sequence[Device] = (),
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
            devices: an object for each of the machine's devices in Python, in the order in which they were mapped;
                their names tell whether they fit, and they get their state by ``load``.
            verify: reads all of the memory and of included disks first, and compares digests. Other parts are always
                compared.
            new_generation: gives the guest a new VM generation ID, by which it knows that it goes on from a copy; by
                default unless the machine is deterministic.
            clock: the guest's wall clock continues where it was, or jumps to the present time.

        Raises:
            SnapshotError: it is damaged, of a newer release, or builds on one that is gone; a disk has moved on; or
                a device in Python is missing, or refuses its state.
            StorageError: a disk is in use, or cannot be opened.
        """
        from wirt.snapshot.reader import restore

        return restore(
            path, disks=disks, nets=nets, devices=devices, verify=verify, new_generation=new_generation, clock=clock
        )

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
        devices: Sequence[Device] = (),
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
            devices: as for :meth:`restore`.
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

        return receive(at, disks, nets, devices, Security(tls, secret, server=True), timeout, on_progress)

    @property
    def migration(self) -> Migration | Reception | None:
        """The last :meth:`migrate` of this machine, or how it came here by :meth:`receive`; None without either.

        Its ``state`` says how far it is, and ``resolve()`` and ``recover()`` mend what a broken connection left.
        """
        return self._migration
