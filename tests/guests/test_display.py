"""Debian's own drivers of displays and input devices: its console on the screen, and a viewer's keys in its shell.

`wirt pull debian` has to be run first.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import wirt
from support.rfb_client import ZRLE, RfbClient
from wirt.debian import Guest
from wirt.debian.shell import Shell

pytestmark = [pytest.mark.debian, pytest.mark.timeout(900)]

BOOT_S = 600  # a guest that hangs is what is looked for, not one on a busy host
DRIVERS = {"bochs": "bochs-drmdrmfb", "virtio-gpu": "virtio_gpudrmfb"}
# Of Debian's configuration, whatever the hardware.
HARMLESS = "unable to open an initial console|CONFIG_DRM_PANIC_SCREEN"


@pytest.mark.parametrize(("display", "virtio"), [("bochs", "mmio"), ("virtio-gpu", "pci")])
def test_the_console_is_on_the_display_and_hears_the_keyboard(
    debian: Guest, display: str, virtio: str, tmp_path: Path
) -> None:
    with wirt.Machine(
        debian.kernel,
        initrd=debian.initrd,
        cmdline="earlycon=sbi console=tty0 console=hvc0",
        display=display,
        virtio=virtio,
        input_devices=True,
    ) as vm:
        server = vm.vnc(f"unix:{tmp_path}/vnc")
        vm.start()
        vm.hvc.expect("/ # ", timeout=BOOT_S)
        shell = Shell(vm.hvc)
        assert shell.check("cat /sys/class/graphics/fb0/name") == DRIVERS[display]
        assert "colour frame buffer device 128x48" in shell.check("dmesg | grep 'Console: switching'")
        assert shell.check(f"dmesg -r | grep '^<[0-4]>' | grep -Ev '{HARMLESS}' || true") == ""

        # The shell's prompt is the last thing on the screen: text of 8x16 in white and grey on black.
        shell.check("until [ -e /dev/input/event1 ]; do usleep 100000; done")
        picture = vm.screenshot()
        assert picture.shape == (768, 1024, 3)
        rows = picture.any(axis=2).reshape(48, 16, 1024).any(axis=(1, 2))
        assert rows.sum() > 10
        assert 0.002 < picture.any(axis=2).mean() < 0.3

        viewer = RfbClient(server.address)
        viewer.set_encodings(ZRLE)
        viewer.request()
        viewer.update()
        before = viewer.screen
        viewer.request(incremental=True)
        viewer.type("echo Typed-by-$((6*7)) >/dev/hvc0\n")
        vm.hvc.expect("Typed-by-42", timeout=60)
        viewer.update()
        assert any(row.count(None) == 0 for row in before)
        # In time the viewer has what the screen shows; the cursor blinks.
        deadline = time.monotonic() + 60
        while viewer.screen != [[tuple(p) for p in row] for row in vm.screenshot().tolist()]:
            assert time.monotonic() < deadline
            viewer.request(incremental=True)
            viewer.update()

        # struct input_event (linux/input.h): 16 bytes of time, then type, code and value.
        shell.check("dd if=/dev/input/event1 bs=24 count=1 2>/dev/null | hexdump -v -e '1/2 \"%d \"' >/tmp/e &")
        x = 0
        while not shell.check("cat /tmp/e"):
            x = 1023 - x
            viewer.pointer(x, 384)
            time.sleep(0.05)
        kind, code, value, _ = shell.check("cat /tmp/e").split()[8:]
        assert (kind, code, value) in (("3", "0", "32767"), ("3", "0", "0"))
        vm.keyboard.type("poweroff\n")
        assert vm.wait(60)
        assert vm.stop_reason == "poweroff"
