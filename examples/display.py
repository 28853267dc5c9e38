"""Boots Debian with a display, types into its console, and takes a picture of it: `pip install wirt[display]`.

`wirt pull debian` fetches the kernel first. While a machine like this runs, `vm.vnc()` shows it to VNC viewers.
"""

import tempfile
from pathlib import Path

import wirt
from wirt.debian import cached_guest

PROMPT = "/ # "


def main() -> None:
    debian = cached_guest("debian")
    if debian is None:
        raise SystemExit("Debian is not in the cache yet: wirt pull debian")
    cmdline = f"console=tty0 {debian.cmdline}"  # the kernel's messages on the display as well
    with wirt.Machine(debian.kernel, initrd=debian.initrd, cmdline=cmdline, display="bochs", input_devices=True) as vm:
        vm.start()
        vm.console.expect(PROMPT, timeout=300)
        # The display has a shell of its own; it says on the other console when it is done.
        vm.keyboard.type("clear; uname -a; echo drawn >/dev/hvc0\n")
        vm.console.expect("drawn", timeout=60)
        path = Path(tempfile.gettempdir()) / "wirt-display.png"
        picture = vm.screenshot(path)
        height, width, _ = picture.shape
        print(f"{width}x{height} pixels, {picture.any(axis=2).mean():.1%} of them lit: {path}")
        vm.keyboard.type("poweroff\n")
        vm.wait(timeout=60)
        print(vm.stop_reason)


if __name__ == "__main__":
    main()
