"""Boots once, takes a snapshot, and goes on from it as often as it likes."""

import tempfile
import time
from pathlib import Path

import wirt
from wirt.guest_image import guest_image


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        booted = Path(folder, "booted")
        with wirt.Machine(guest_image(), cmdline="echo", memory="256M") as vm:
            vm.start()
            vm.console.expect("echo ready", timeout=60)
            # The guest runs on while its memory is written.
            snapshot = vm.snapshot(booted)
            print(f"{snapshot.stored_bytes / 2**20:.1f} MiB for a guest of 256 MiB")

        for name in ("Ada", "Grace"):
            begin = time.perf_counter()
            with wirt.Machine.restore(booted) as vm:
                vm.start()
                vm.console.send(f"hello {name}\n")
                vm.console.expect(f"echo: hello {name}", timeout=60)
                print(f"the guest says: hello {name}, {(time.perf_counter() - begin) * 1e3:.0f} ms after it was a file")
                # Only what was written since.
                later = vm.snapshot(Path(folder, name), incremental=True)
                difference = snapshot.diff(later)
                pages = sum(run.length for run in difference.memory) // 4096
                print(f"{pages} pages and {len(difference.fields)} fields are others now")


if __name__ == "__main__":
    main()
