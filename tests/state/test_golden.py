"""Snapshots of each release are restored by this one, and their guests go on to the end they had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import wirt
from support.state_machines import SCHEMA

GOLDEN = Path(__file__).parent / "golden"
SNAPSHOTS = sorted(path.parent for path in GOLDEN.glob("*/*/manifest.json"))


def test_there_are_some_of_this_release() -> None:
    assert {path.parent.name for path in SNAPSHOTS} >= {wirt.__version__}


@pytest.mark.parametrize("path", SNAPSHOTS, ids=[f"{path.parent.name}-{path.name}" for path in SNAPSHOTS])
def test_it_goes_on(path: Path) -> None:
    expected = json.loads(path.with_name(f"{path.name}.json").read_text())
    snapshot = wirt.Snapshot.open(path)
    snapshot.verify()
    schema = json.loads(SCHEMA.read_text())
    # The hash is over versions as well; where one was raised since, it must differ.
    same = all(
        section["name"] in schema and schema[section["name"]]["version"] == section["version"]
        for section in snapshot.info["state"]["sections"]
    )
    with wirt.Machine.restore(path, verify=True) as vm:
        assert vm.instructions == expected["instructions"]
        assert (vm.state_hash() == expected["state_hash"]) == same
        vm.start()
        assert vm.wait(120)
        assert vm.exit_code == expected["exit_code"]
        assert vm.serial.tail == expected["output_after"]
        if same:
            assert vm.instructions == expected["instructions_at_end"]
