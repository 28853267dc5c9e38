"""Copies of a running machine that share its memory: fork, and pools of warm copies."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from wirt import _core
from wirt.description import check_device
from wirt.device import Device, MappedDevice
from wirt.disk import Disk
from wirt.errors import ConfigError, StateError
from wirt.machine import Machine
from wirt.net import Port, Switch

__all__ = ["Clock", "DeviceChoice", "NicChoice", "Pool", "fork"]

Clock = Literal["continue", "jump"]
NicChoice = Callable[[int, Port], Port]
DeviceChoice = Callable[[int, Device], Device]


def fork(
    machine: Machine,
    count: int,
    *,
    start: bool | None,
    nets: NicChoice | None,
    devices: DeviceChoice | None,
    clock: Clock,
    identity: bool,
) -> list[Machine]:
    """See :meth:`wirt.Machine.fork`."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"count {count!r}: give a whole number of at least 1")
    if clock not in ("continue", "jump"):
        raise ConfigError(f"clock {clock!r}: is none of 'continue', 'jump'")
    with machine._at_rest() as running:
        state = _core.save_state(machine._core)
        memory = _core.freeze(machine._core, count)
        views = {disk: disk._view() for disk in machine._disks}
        slots = {name: machine._core.slot_of(name) for name in machine._plugged}
        plugged = dict(machine._plugged)
        mapped = list(machine._mapped)
    # What has to be there when the state is loaded.
    late = bool(plugged or mapped)
    origin = _core.Origin(memory, None if late else state, machine._core.dtb)
    attached = set(plugged.values())
    clones: list[Machine] = []
    try:
        for number in range(count):

            def copy(device: Disk | Port, number: int = number) -> Disk | Port:
                return _port(number, device, nets) if isinstance(device, Port) else Disk._on_view(device, views[device])

            clone = Machine._from_origin(
                machine._options,
                origin,
                [Disk._on_view(disk, view) for disk, view in views.items() if disk not in attached],
                [_port(number, net, nets) for net in machine._nets],
                devices=[_device(number, old, devices) for old in mapped],
                plugged=[(name, slots[name], copy(device)) for name, device in plugged.items()],
                state=state if late else None,
            )
            clones.append(clone)
            if identity:
                clone._core.reseed(int.from_bytes(os.urandom(8), "little"))
                clone._core.new_generation()
            if clock == "jump":
                clone._core.set_wall_clock(time.time_ns())
            if start or (start is None and running):
                clone.resume()
    except BaseException:
        for clone in clones:
            clone.close()
        raise
    return clones


def _port(number: int, net: Port, nets: NicChoice | None) -> Port:
    """The port of a clone's NIC; on a switch of its own, with the same address, unless the caller knows better."""
    if nets is None:
        own = Switch().port(net.mac, queue_pairs=net._queue_pairs, model=net.model)
        own.link = net.link
        return own
    port = nets(number, net)
    if port.model != net.model:
        raise ConfigError(f"nets: the clone's NIC is a {net.model}, and {port!r} is a {port.model}")
    return port


def _device(number: int, old: MappedDevice, devices: DeviceChoice | None) -> MappedDevice:
    if devices is None:
        raise ConfigError(
            f"{old.device._label}: a clone needs a device in Python of its own: give devices=, which returns one"
        )
    device = devices(number, old.device)
    if device is old.device:
        raise ConfigError(f"devices: {device!r} is this machine's own; a clone needs another object")
    check_device(device, old.device._label, "devices")
    return old._replace(device=device)


class Pool:
    r"""Warm copies of a machine, made ahead and handed out.

    Args:
        template: the machine that is copied; it is paused if it runs, and stays so. It belongs to the pool from here
            on, which closes it.
        size: how many copies wait.
        nets: as for :meth:`wirt.Machine.fork`; the number counts all copies of this pool.
        devices: likewise.
        clock: as for :meth:`wirt.Machine.fork`; from the moment that a copy is handed out.

    Raises:
        StateError: the template has ended.

    Example:
        >>> with wirt.Pool(vm, size=8) as pool:
        ...     with pool.take() as clone:
        ...         clone.console.send("run the test\\n")
    """

    def __init__(
        self,
        template: Machine,
        size: int = 4,
        *,
        nets: NicChoice | None = None,
        devices: DeviceChoice | None = None,
        clock: Clock = "jump",
    ) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigError(f"size {size!r}: give a whole number of at least 1")
        if template.state == "running":
            template.pause()
        self._template = template
        self._size = size
        self._nets = nets
        self._devices = devices
        self._clock = clock
        self._made = 0
        self._ready: deque[Machine] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._failure: BaseException | None = None
        self._ready.append(self._make())
        self._thread = threading.Thread(target=self._keep_filled, name="wirt-pool", daemon=True)
        self._thread.start()

    def take(self, timeout: float | None = None) -> Machine:
        """A copy, running; it is the caller's to close. Another takes its place in the pool.

        Args:
            timeout: seconds to wait for one when none is ready.

        Raises:
            TimeoutError: none became ready.
            StateError: the pool is closed.
            WirtError: no copy can be made any more, with the reason.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._ready or self._closed or self._failure, timeout):
                raise TimeoutError(f"no copy became ready in {timeout} s")
            if self._closed:
                raise StateError("the pool is closed")
            if not self._ready:
                assert self._failure is not None
                raise self._failure
            machine = self._ready.popleft()
            self._changed.notify_all()
        if self._clock == "jump":
            machine._core.set_wall_clock(time.time_ns())
        machine.resume()
        return machine

    def recycle(self, machine: Machine) -> None:
        """Gives a copy back: it is reset to what it was when it was taken, which is quicker than a new one.

        Its consoles, NICs and what was attached to it stay as they are; a machine that does not come back clean is
        for :meth:`wirt.Machine.close`.

        Raises:
            StateError: it is closed, or the pool is.
        """
        if machine.state == "running":
            machine.pause()
        machine.reset()
        with self._changed:
            if self._closed:
                raise StateError("the pool is closed")
            self._ready.append(machine)
            self._changed.notify_all()

    def __len__(self) -> int:
        """How many are ready."""
        with self._changed:
            return len(self._ready)

    def close(self) -> None:
        """Closes the copies that nobody took, and the template; idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        while self._ready:
            self._ready.popleft().close()
        self._template.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self) -> Machine:
        number = self._made
        self._made += 1
        nets, devices = self._nets, self._devices
        port = None if nets is None else lambda _, net: nets(number, net)
        device = None if devices is None else lambda _, old: devices(number, old)
        (clone,) = fork(self._template, 1, start=False, nets=port, devices=device, clock="continue", identity=True)
        return clone

    def _keep_filled(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._ready) < self._size)
                if self._closed:
                    return
            try:
                machine = self._make()
            except BaseException as error:  # heard by whoever waits for a copy
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
                return
            with self._changed:
                if not self._closed:
                    self._ready.append(machine)
                    self._changed.notify_all()
                    continue
            machine.close()
