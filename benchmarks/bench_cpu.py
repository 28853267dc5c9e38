"""The hart: the guest's own small programs, timed inside the guest; and the same image on QEMU (a JIT) and on Spike (an
interpreter)."""

from __future__ import annotations

import pytest

from peers import compare, qemu_guest, records, spike_guest, wirt_guest

TURNS = 3
PROGRAMS = ("crc", "matrix", "list", "state", "sieve", "fibonacci", "copy", "mandelbrot")


def speeds(output: str) -> dict[str, float]:
    """Guest instructions per second, in millions; the guest counts both."""
    return {
        f"cpu {record['name']}": record["instret"] / (record["time"] / record["timebase"]) / 1e6
        for record in records(output, "WIRT-CPU")
    }


@pytest.mark.parametrize("program", PROGRAMS)
def bench_program(benchmark, program):
    output = benchmark.pedantic(wirt_guest, args=[f"cpu={program}"], rounds=3, warmup_rounds=1)
    benchmark.extra_info["mips"] = speeds(output)


def rates(output: str) -> dict[str, float]:
    """Work per second, since QEMU counts instructions only with its icount mode: iterations a second."""
    return {
        f"cpu {found['name']}": found["iterations"] / (found["time"] / found["timebase"])
        for found in records(output, "WIRT-CPU")
    }


def bench_all_and_qemu(benchmark, qemu, record):
    sides = [lambda: rates(wirt_guest("cpu=all")), lambda: rates(qemu_guest("cpu=all"))]
    comparisons = benchmark.pedantic(compare, args=[TURNS, *sides, "iterations/s"], rounds=1)
    record(comparisons)
    assert len(comparisons) == len(PROGRAMS)


def bench_all_and_spike(benchmark, spike, record):
    sides = [lambda: rates(wirt_guest("cpu=all")), lambda: rates(spike_guest("cpu=all"))]
    comparisons = benchmark.pedantic(compare, args=[TURNS, *sides, "iterations/s", "Spike"], rounds=1)
    record(comparisons)
    assert len(comparisons) == len(PROGRAMS)
