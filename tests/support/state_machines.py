"""Machines that between them have every device, for the tests of saved state; and the schema of what they save.

`PYTHONPATH=tests python tests/support/state_machines.py` renews tests/state/schema.json after a section's version was
raised. It refuses while fields differ and the version does not: who has saved the old fields would be misread.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import wirt
from support.state_records import BYTES, INTEGER, KINDS, SECTION, split
from wirt import _core
from wirt.guest_image import guest_image

SCHEMA = Path(__file__).parents[1] / "state" / "schema.json"


def disks(buses: tuple[str, ...]) -> list[wirt.Disk]:
    return [wirt.Disk.memory("64K", bus=bus) for bus in buses]


def options() -> dict[str, dict[str, Any]]:
    """Options of a machine by its name. Fresh disks and ports each time."""
    lan = wirt.Switch()
    return {
        "plic-mmio": {
            "interrupts": "plic",
            "disks": disks(("virtio-mmio", "ahci")),
            "nets": [lan.port("02:00:00:00:00:01"), lan.port("02:00:00:00:00:02", model="e1000e")],
            "cpus": 2,
        },
        "aplic-pci": {
            "interrupts": "aplic",
            "virtio": "pci",
            "packed": True,
            "iommu": "platform",
            "display": "bochs",
            "input_devices": True,
            "pcie_ports": 2,
            "disks": disks(("virtio-pci", "ahci")),
            "nets": [lan.port("02:00:00:00:00:03"), lan.port("02:00:00:00:00:04", model="e1000e")],
        },
        "extensions": {
            "cmdline": "echo",
            "isa": "rv64gcb_zicntr_sscofpmf_sstc_svadu_zicbom_zicboz_zkr_smstateen_sdtrig_ssnpm_smnpm_svnapot_svpbmt",
        },
        "aia-pci": {
            "interrupts": "aia",
            "guest_files": 2,
            "virtio": "pci",
            "iommu": "pci",
            "display": "virtio-gpu",
            "input_devices": True,
            "cpus": 2,
            "disks": disks(("virtio-pci",)),
            "nets": [lan.port("02:00:00:00:00:05")],
        },
        "hypervisor": {
            "interrupts": "aia",
            "guest_files": 2,
            "isa": wirt.isa.DEFAULT + "_h",
            "virtio": "pci",
            "cpus": 2,
            "disks": disks(("virtio-pci",)),
            "nets": [lan.port("02:00:00:00:00:06")],
        },
        "vector": {
            "isa": f"{wirt.isa.DEFAULT}_v_zvl256b",
            "disks": disks(("virtio-mmio", "ahci")),
            "nets": [lan.port("02:00:00:00:00:07")],
            "cpus": 2,
        },
    }


def machine(name: str, **more: Any) -> wirt.Machine:
    """A deterministic machine with the embedded guest."""
    chosen = {"memory": "16M", "cmdline": "demo", "deterministic": True} | options()[name] | more
    return wirt.Machine(guest_image(), **chosen)


def current_schema() -> dict[str, dict[str, Any]]:
    """Version and fields of every section that these machines save, before they run and after a while."""
    sections: dict[str, dict[str, Any]] = {}
    for name in options():
        with machine(name) as vm:
            for instructions in (0, 1_100_000):
                if instructions:
                    vm.run_for(instructions)
                fields: set[str] = set()
                for record in split(bytes(_core.save_state(vm._core))):
                    if record.kind == SECTION:
                        section = sections.setdefault(record.name, {"version": record.value, "fields": set()})
                        assert section["version"] == record.value
                        fields = section["fields"]
                    else:
                        size = record.width if record.kind == INTEGER else "*"
                        if record.kind == BYTES:
                            size = len(record.value)
                        fields.add(f"{record.name} {KINDS[record.kind]} {size}")
    return {name: {**section, "fields": sorted(section["fields"])} for name, section in sorted(sections.items())}


def differences(stored: dict[str, Any], now: dict[str, Any]) -> tuple[list[str], list[str]]:
    """(mistakes, changes that only have to be noted) of a schema against the stored one."""
    mistakes, changes = [], []
    for name in sorted(stored.keys() | now.keys()):
        if name not in stored:
            changes.append(f"section {name} is new")
        elif name not in now:
            changes.append(f"section {name} is gone")
        elif stored[name] != now[name]:
            before, after = set(stored[name]["fields"]), set(now[name]["fields"])
            what = f"section {name}: gone {sorted(before - after)}, new {sorted(after - before)}"
            if now[name]["version"] < stored[name]["version"]:
                mistakes.append(f"{what}; its version went down to {now[name]['version']}")
            elif now[name]["version"] == stored[name]["version"]:
                mistakes.append(f"{what}; its version is still {now[name]['version']}: raise it by one")
            else:
                changes.append(f"{what}; version {now[name]['version']}")
    return mistakes, changes


def main() -> int:
    now = current_schema()
    stored = json.loads(SCHEMA.read_text()) if SCHEMA.exists() else {}
    mistakes, changes = differences(stored, now)
    print("\n".join(mistakes + changes))
    if mistakes:
        print("not written: see above")
        return 1
    SCHEMA.write_text(json.dumps(now, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
