"""Calls of the core that are interrupted: by Ctrl-C, and by the end of the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.firmware import SPIN

# A replay of many slices, of which the first has begun when the signal comes.
_CTRL_C = """
import os, signal, sys, threading
import wirt

with wirt.Machine(firmware=bytes.fromhex(sys.argv[1]), memory="16M", deterministic=True) as vm:
    vm.record(checkpoint_every=10**12)
    vm.run_for(400_000_000)
    end = vm.instructions
    vm.run_to(0)

    def interrupt():
        while vm.instructions == 0:
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    try:
        vm.run_to()
    except KeyboardInterrupt:
        assert 0 < vm.instructions < end, vm.instructions
        vm.run_to()
        assert vm.instructions == end and not vm.recording.replaying
        print("interrupted, and at the end")
"""

_EXIT = """
import sys, threading
import wirt

deterministic = sys.argv[2] != "wait"
vm = wirt.Machine(firmware=bytes.fromhex(sys.argv[1]), memory="16M", deterministic=deterministic)
inside = threading.Event()

def call():
    inside.set()
    if sys.argv[2] == "wait":
        vm.wait()
    elif sys.argv[2] == "run_for":
        vm.run_for(10**15)
    while True:
        vm.state_hash()

if not deterministic:
    vm.start()
threading.Thread(target=call, daemon=True).start()
inside.wait()
while vm.state == "created" and sys.argv[2] == "run_for":
    pass
print("the end")
"""


def run(program: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", program, SPIN.hex(), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, (result.returncode, result.stderr)
    assert "terminate" not in result.stderr
    return result.stdout.strip()


def test_ctrl_c_ends_a_journey_to_the_end() -> None:
    assert run(_CTRL_C) == "interrupted, and at the end"


@pytest.mark.parametrize("call", ["wait", "run_for", "state_hash"])
def test_a_process_ends_while_a_daemon_thread_is_in_a_call(call: str) -> None:
    for _ in range(3):
        assert run(_EXIT, call) == "the end"
