"""Makes the golden snapshots of a release: PYTHONPATH=tests python tests/state/make_golden.py

They go into tests/state/golden/VERSION and are never made again once that version is released: later releases must go
on from them (tests/state/test_golden.py).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import wirt
from support.state_machines import machine, options

GOLDEN = Path(__file__).parent / "golden"
# Far enough for drivers to be up, and for something to be under way. Without a PLIC the guest's drivers get no
# interrupts, so that it ends with a failure a little later; what matters is that it is the same one.
INSTRUCTIONS = 1_100_000


def main() -> int:
    folder = GOLDEN / wirt.__version__
    folder.mkdir(parents=True, exist_ok=True)
    for name in options():
        with machine(name) as vm:
            vm.run_for(INSTRUCTIONS)
            snapshot = vm.snapshot(folder / name, compress="zstd", disks="include")
            expected = {"state_hash": vm.state_hash(), "instructions": vm.instructions, "output": vm.serial.tail}
            vm.resume()
            if not vm.wait(120):
                raise SystemExit(f"{name}: the guest does not end")
            expected |= {
                "exit_code": vm.exit_code,
                "instructions_at_end": vm.instructions,
                "output_after": vm.serial.tail[len(expected["output"]) :],
            }
            (folder / f"{name}.json").write_text(json.dumps(expected, indent=1) + "\n")
            print(f"{snapshot.path}: {snapshot.stored_bytes:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
