"""``wirt snapshot``, and ``wirt run`` with snapshots."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import wirt
from support.firmware import COUNT
from wirt.cli.app import cli
from wirt.errors import SnapshotError


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=True)


@pytest.fixture(name="folder")
def folder_fixture(tmp_path: Path) -> Path:
    with wirt.Machine(firmware=COUNT, memory="16M", deterministic=True) as vm:
        vm.snapshot(tmp_path / "base")
        vm.run_for(1000)
        vm.dma(0x20000).write(0x8030_0000, b"changed")
        vm.snapshot(tmp_path / "next", incremental=True)
    return tmp_path


def test_list_and_show(folder: Path) -> None:
    listed = json.loads(run("snapshot", "list", folder, "--json").output)
    assert [Path(one["path"]).name for one in listed] == ["base", "next"]
    assert [one["parent"] for one in listed] == [None, "../base"]
    assert "base" in run("snapshot", "list", folder).output
    shown = run("snapshot", "show", folder / "next", "--verify")
    assert shown.exit_code == 0
    assert "verified" in shown.output
    assert "hart0" in shown.output
    assert json.loads(run("snapshot", "show", folder / "base", "--json").output)["memory"]["encoding"] == "raw"
    (folder / "base" / "manifest.json").write_text("{}")
    assert isinstance(run("snapshot", "show", folder / "base").exception, SnapshotError)
    assert "error" in json.loads(run("snapshot", "list", folder, "--json").output)[0]


def test_diff(folder: Path) -> None:
    result = run("snapshot", "diff", folder / "base", folder / "next", "--json")
    assert result.exit_code == 1
    difference = json.loads(result.output)
    assert difference["memory"] == [{"address": 0x8030_0000, "length": 4096}]
    changed = {(field["section"], field["field"]): field["after"] for field in difference["fields"]}
    assert changed["hart0", "x10"] == 500
    text = run("snapshot", "diff", folder / "base", folder / "next").output
    assert "x10" in text
    assert "0x80300000" in text
    same = run("snapshot", "diff", folder / "base", folder / "base")
    assert same.exit_code == 0
    assert "nothing differs" in same.output


def test_flatten_and_rm(folder: Path) -> None:
    refused = run("snapshot", "rm", folder / "base")
    assert isinstance(refused.exception, SnapshotError)
    assert "builds on" in str(refused.exception)
    assert run("snapshot", "flatten", folder / "next", folder / "flat", "--zstd").exit_code == 0
    assert run("snapshot", "rm", folder / "base", folder / "next").exit_code == 0
    assert [entry.name for entry in folder.iterdir()] == ["flat"]
    with wirt.Machine.restore(folder / "flat") as vm:
        assert vm.harts[0].x[10] == 500
    assert isinstance(run("snapshot", "rm", folder).exception, SnapshotError)


def console(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command with nobody at its terminal."""
    command = [sys.executable, "-m", "wirt", "run", *(str(argument) for argument in arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)


def test_run_takes_one_and_goes_on_from_it(tmp_path: Path) -> None:
    firmware = tmp_path / "count.bin"
    firmware.write_bytes(COUNT)
    options = ("-m", "16M", "-d", "memory=1M", "--timeout", "0.3")
    taken = console("-f", firmware, *options, "--snapshot", tmp_path / "s")
    assert taken.returncode == 124, taken
    assert f"go on with: wirt run --restore {tmp_path / 's'}" in taken.stderr
    first = wirt.Snapshot.open(tmp_path / "s").info["instructions"]
    assert first > 0
    again = console("--restore", tmp_path / "s", "--timeout", "0.3", "--snapshot", tmp_path / "t")
    assert again.returncode == 124, again
    assert wirt.Snapshot.open(tmp_path / "t").info["instructions"] > first
    wrong = console("--restore", tmp_path / "s", "-m", "32M", "demo")
    assert wrong.returncode == 2
    assert "guest, memory" in wrong.stderr
    broken = console("--restore", tmp_path)
    assert broken.returncode == 78
    assert "is no snapshot" in broken.stderr
