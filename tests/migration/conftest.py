"""Both sides of a migration in one process."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import wirt
from wirt.guest_image import guest_image

SECRET = "a secret of these tests"


class Receiver(threading.Thread):
    """Machine.receive on a thread."""

    def __init__(self, address, **options):
        super().__init__(daemon=True)
        self.address, self.options = address, options
        self.machine = self.error = None
        self.start()

    def run(self):
        try:
            self.machine = wirt.Machine.receive(self.address, **{"timeout": 300} | self.options)
        except BaseException as error:
            self.error = error

    def result(self):
        self.join(600)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return self.machine


@pytest.fixture
def receive(tmp_path):
    """Starts receivers, and closes what they got."""
    receivers = []

    def start(address=None, **options):
        address = address or f"unix:{tmp_path}/receiver{len(receivers)}"
        receivers.append(Receiver(address, **options))
        wait_for_listener(address)
        return receivers[-1]

    yield start
    for receiver in receivers:
        receiver.join(600)
        if receiver.machine is not None:
            receiver.machine.close()


def wait_for_listener(address):
    import time

    from wirt.migration.transport import Broken, Gone, Security, connect, parse_address

    if not isinstance(address, str):
        return
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if address.startswith("unix:"):
            if Path(address[5:]).exists():
                return
        else:
            try:
                connect(parse_address(address), Security(None, SECRET, server=False), stall=5).close()
                return
            except Gone:
                pass
            except Broken:
                return
        time.sleep(0.01)


@pytest.fixture
def build():
    """Builds machines with the embedded guest, and closes them at the end."""
    machines = []

    def make(cmdline="echo", **options):
        machine = wirt.Machine(guest_image(), cmdline=cmdline, **({"memory": "64M"} | options))
        machines.append(machine)
        return machine

    yield make
    for machine in machines:
        machine.close()
