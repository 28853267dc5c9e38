"""A machine moves to another one's place while its guest runs, in one process over a unix socket."""

import tempfile
import threading
from pathlib import Path

import wirt
from wirt.guest_image import guest_image

with tempfile.TemporaryDirectory() as folder:
    address = f"unix:{folder}/there"
    received: list[wirt.Machine] = []
    there = threading.Thread(target=lambda: received.append(wirt.Machine.receive(address, timeout=60)))
    there.start()

    here = wirt.Machine(guest_image(), cmdline="echo", memory="64M")
    here.start()
    here.console.expect("echo ready", timeout=60)
    while not Path(address.removeprefix("unix:")).exists():
        there.join(0.01)
    report = here.migrate(address)
    there.join()

with received[0] as vm:
    vm.console.send("where am I\n")
    vm.console.expect("echo: where am I", timeout=60)
    print(f"here: {here.state}, there: {vm.state}")
    print(f"moved {report.sent_bytes >> 10} KiB in {report.rounds} rounds, stood still {report.downtime * 1000:.1f} ms")
