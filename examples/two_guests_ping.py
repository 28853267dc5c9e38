"""Joins two machines by a switch in this process; one pings the other."""

import json
import re

import wirt
from wirt.guest_image import guest_image


def main() -> None:
    lan = wirt.Switch()
    with (
        wirt.Machine(guest_image(), cmdline="net ip=10.0.0.1 net.seconds=30", memory="32M", nets=[lan.port()]) as a,
        wirt.Machine(
            guest_image(), cmdline="net ip=10.0.0.2 ping=10.0.0.1 count=5", memory="32M", nets=[lan.port()]
        ) as b,
    ):
        a.start()
        b.start()
        b.wait(timeout=60)
        report = re.search(r"WIRT-NET (\{.*\})", b.console.output)
        if report is None:
            raise SystemExit(f"no report; it printed\n{b.console.tail}")
        ping = json.loads(report[1])
        print(f"{ping['received']} of {ping['sent']} answers from {ping['peer']}, {ping['avg_us']} us on average")
        nic = next(device for device in b.devices if device.name == "virtio-net0")
        print(f"{nic.operations} frames, {nic.bytes_moved} bytes, {nic.notifications} doorbells")


if __name__ == "__main__":
    main()
