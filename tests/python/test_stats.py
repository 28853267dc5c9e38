"""What a machine counts."""

from __future__ import annotations

import json

import wirt
from wirt.guest_image import guest_image


def test_counters_of_a_run():
    disks = [wirt.Disk.memory("1M"), wirt.Disk.memory("1M", bus="ahci")]
    with wirt.Machine(guest_image(), cmdline="demo", memory="64M", cpus=2, disks=disks) as vm:
        vm.start()
        assert vm.wait(60)
        stats = vm.stats()
    assert len(stats.harts) == 2
    assert stats.instructions == sum(hart.instructions for hart in stats.harts) > 10_000
    assert stats.time_ns > 0
    by_cause = {(e.device, e.cause): e.count for e in stats.exits}
    assert stats.total_exits == sum(by_cause.values()) > 100
    assert any(device.startswith("virtio-blk") for device, _ in by_cause)
    assert stats.sbi_calls
    names = [device.name for device in stats.devices]
    assert len(set(names)) == len(names)
    causes = {(trap.mode, trap.cause): trap.count for hart in stats.harts for trap in hart.trap_causes}
    assert sum(causes.values()) == sum(hart.traps + hart.interrupts for hart in stats.harts)
    assert {mode for mode, _ in causes} == {"S"}
    for hart in stats.harts:
        # Sv39, with leaves at every level.
        assert hart.page_walks <= hart.table_reads <= 3 * hart.page_walks
    # A mapping, too, and JSON.
    assert stats["instructions"] == stats.instructions
    assert set(stats) >= {"exits", "harts", "devices"}
    assert json.loads(json.dumps(stats.as_json()))["harts"][0]["instructions"] == stats.harts[0].instructions
