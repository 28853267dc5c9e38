"""``wirt doctor``: what this host offers, and what is missing for what."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import click

from wirt.cli.output import json_option, print_json
from wirt.sizes import format_size
from wirt.tools import tool_environment

__all__ = ["command"]

_TOOL_TIMEOUT_S = 20

Verdict = Literal["good", "note", "missing", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: its name.
        verdict: ``good``; ``note``: works, could be better; ``missing``: an optional part; ``bad``: Wirt does not work.
        value: what was found.
        advice: what to do about it; empty when there is nothing to do.
    """

    what: str
    verdict: Verdict
    value: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Looks at the host."""
    yield Finding("python", "good" if sys.version_info >= (3, 11) else "bad", platform.python_version())
    yield _core()
    yield _guest()
    yield from _processor()
    yield _memory()
    yield _overcommit()
    yield _huge_pages()
    for name, arguments, purpose in (
        ("g++", ["--version"], "build Wirt from source; 12 or newer"),
        ("qemu-system-riscv64", ["--version"], "compare against QEMU in benchmarks/ (Debian: qemu-system-misc)"),
        ("apt-get", ["--version"], "wirt pull through apt; elsewhere it takes --mirror"),
        ("gpgv", ["--version"], "check the archive's signature where there is no apt"),
    ):
        yield _tool(name, arguments, purpose)
    yield _keyring()
    for module, extra in (("matplotlib", "wirt bench io --plot: pip install 'wirt[plot]'"), ("numpy", "NumPy views")):
        there = find_spec(module) is not None
        yield Finding(
            module, "good" if there else "missing", "installed" if there else "not installed", "" if there else extra
        )
    yield from _guests()


def _core() -> Finding:
    try:
        from wirt import _core as core
    except ImportError as error:
        return Finding("extension", "bad", str(error), "install Wirt again: pip install --force-reinstall wirt")
    return Finding("extension", "good", str(core.__file__))


def _guest() -> Finding:
    from wirt.errors import ImageError
    from wirt.guest_image import guest_image

    try:
        return Finding("embedded guest", "good", format_size(len(guest_image())))
    except ImageError as error:
        return Finding("embedded guest", "bad", "missing", str(error))


def _processor() -> Iterator[Finding]:
    model, flags = platform.machine(), set[str]()
    for line in _lines("/proc/cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
        elif key.strip() in ("flags", "Features"):
            flags = set(value.split())
    supported = platform.machine() in ("x86_64", "aarch64")
    advice = "" if supported else "only x86-64 and AArch64 hosts are tested"
    yield Finding("processor", "good" if supported else "note", model, advice)
    interesting = [name for name in ("avx2", "bmi2", "fma", "avx512f", "asimd", "atomics") if name in flags]
    if interesting:
        yield Finding("processor features", "good", " ".join(interesting))
    cores = len(os.sched_getaffinity(0))
    yield Finding(
        "cores", "good" if cores > 1 else "note", str(cores),
        "" if cores > 1 else "harts and I/O threads share one core: guests run, but slowly",
    )  # fmt: skip


def _memory() -> Finding:
    values = {}
    for line in _lines("/proc/meminfo"):
        key, _, value = line.partition(":")
        if value.split():
            values[key] = int(value.split()[0]) * 1024
    available = values.get("MemAvailable")
    if available is None:
        return Finding("memory", "note", "unknown")
    enough = available >= 1 << 30
    return Finding(
        "memory", "good" if enough else "note", f"{format_size(available)} available",
        "" if enough else "give guests little memory (memory=), or free some",
    )  # fmt: skip


def _overcommit() -> Finding:
    mode = next(iter(_lines("/proc/sys/vm/overcommit_memory")), "unknown").strip()
    if mode == "2":
        return Finding(
            "overcommit", "note", "mode 2 (never)",
            "guest RAM counts in full although pages are taken as they are used; vm.overcommit_memory=0 is kinder",
        )  # fmt: skip
    return Finding("overcommit", "good", f"mode {mode}")


def _huge_pages() -> Finding:
    text = next(iter(_lines("/sys/kernel/mm/transparent_hugepage/enabled")), "")
    chosen = text.partition("[")[2].partition("]")[0] or "unavailable"
    good = chosen in ("always", "madvise")
    return Finding(
        "transparent huge pages", "good" if good else "note", chosen,
        "" if good else "with madvise in /sys/kernel/mm/transparent_hugepage/enabled guests take fewer host TLB misses",
    )  # fmt: skip


def _tool(name: str, arguments: list[str], purpose: str) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(name, "missing", "not found", f"needed to {purpose}" if purpose.startswith("build") else purpose)
    try:
        result = subprocess.run(
            [path, *arguments],
            env=tool_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TOOL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(name, "note", "does not answer", f"{path} --version hangs")
    return Finding(name, "good", (result.stdout or result.stderr).partition("\n")[0])


def _keyring() -> Finding:
    from wirt.debian.apt import find_keyring

    path = find_keyring()
    if path is None:
        return Finding("Debian's keys", "missing", "not found", "wirt pull needs the package debian-archive-keyring")
    return Finding("Debian's keys", "good", str(path))


def _guests() -> Iterator[Finding]:
    from wirt.debian.pull import cached_guest

    for name in ("debian", "debian-installer"):
        guest = cached_guest(name)
        if guest is None:
            yield Finding(f"guest {name}", "missing", "not pulled", f"wirt pull {name}")
        else:
            yield Finding(f"guest {name}", "good", f"{guest.suite} {guest.release}".strip())


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


_MARKS: dict[Verdict, str] = {
    "good": "[green]✓[/]",
    "note": "[yellow]![/]",
    "missing": "[dim]-[/]",
    "bad": "[red]✗[/]",
}


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Show what this host offers, what is missing, and what to do about it.

    The exit status is 1 when Wirt cannot work here.
    """
    findings = list(examine())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        from rich.console import Console
        from rich.markup import escape

        console = Console(highlight=False, soft_wrap=True)
        for finding in findings:
            console.print(f"{_MARKS[finding.verdict]} {finding.what:<24}{escape(finding.value)}")
            if finding.advice:
                console.print(f"    [dim]{escape(finding.advice)}[/]")
    if any(finding.verdict == "bad" for finding in findings):
        raise click.exceptions.Exit(1)
