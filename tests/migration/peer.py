"""The other side of a migration in a process of its own: ``peer.py receive|migrate PATH``; it is there to be killed."""

import sys
import threading
import time
from pathlib import Path

import wirt
from wirt.guest_image import guest_image


def main(role: str, path: str) -> None:
    if role == "receive":
        waiter = threading.Thread(target=lambda: wirt.Machine.receive(f"unix:{path}").wait())
        waiter.start()
        while not Path(path).exists():
            time.sleep(0.01)
        print("listening", flush=True)
        waiter.join()
        return
    with wirt.Machine(guest_image(), cmdline="echo", memory="64M") as vm:
        vm.start()
        vm.console.expect("echo ready", timeout=600)
        print("migrating", flush=True)
        vm.migrate(f"unix:{path}", bandwidth=20e6)


main(*sys.argv[1:])
