"""How long `import wirt` takes in a fresh interpreter; the promise is below 50 ms."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = "import time; begin = time.perf_counter(); import wirt; print(time.perf_counter() - begin)"


def bench_import(benchmark):
    def import_once() -> float:
        result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
        return float(result.stdout)

    times = [import_once() for _ in range(10)]
    benchmark.extra_info["import_s"] = sorted(times)
    print(f"import wirt: {min(times) * 1e3:.1f} ms at best, median {sorted(times)[5] * 1e3:.1f} ms")
    benchmark.pedantic(import_once, rounds=10)
