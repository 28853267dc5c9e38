"""The embedded guest that answers what is typed."""

from __future__ import annotations


def echoing(build, **options):
    """One that runs, from the fixture of that name, and waits for its first line."""
    vm = build("echo", **options)
    vm.start()
    vm.console.expect("echo ready", timeout=600)
    return vm


def answers(vm):
    vm.console.send("who\n")
    vm.console.expect("echo: who", timeout=600)
