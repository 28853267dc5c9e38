"""Runs the fuzz targets of a build tree, each for a time, and says what they did.

    python fuzz/run.py build/fuzz --seconds 60 --jobs 4 [TARGET ...]
    python fuzz/run.py build/fuzz-coverage --coverage [TARGET ...]

The first form keeps what it learns in BUILD/corpus and, when something is found, the input in BUILD/findings;
`BUILD/fuzz/fuzz_TARGET INPUT` runs that again. The second runs a coverage build once over the corpora of
`--corpus` and the seeds, and prints which share of each source file's lines is reached.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import seeds

ENVIRONMENT = {
    **os.environ,
    # The leak check stops the process by ptrace, which a container may refuse; the limit on memory is below.
    "ASAN_OPTIONS": "detect_leaks=0:" + os.environ.get("ASAN_OPTIONS", ""),
    "UBSAN_OPTIONS": "print_stacktrace=1:" + os.environ.get("UBSAN_OPTIONS", ""),
}
SOURCE = Path(__file__).parent.parent


def program(build: Path, target: str) -> Path:
    return build / "fuzz" / f"fuzz_{target}"


def fuzz(build: Path, target: str, seconds: int, seed: int) -> bool:
    corpus, findings = build / "corpus" / target, build / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    command = [
        program(build, target),
        corpus,
        build / "seeds" / target,
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-artifact_prefix={findings}/{target}-",
        "-max_len=8192",
        "-timeout=20",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
    ]
    log = build / f"{target}.log"
    with log.open("w") as output:
        status = subprocess.run(command, stderr=output, stdout=output, env=ENVIRONMENT).returncode
    text = log.read_text(errors="replace")
    executed = re.search(r"number_of_executed_units: (\d+)", text)
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", text)
    print(
        f"{target:16} {'found something' if status else 'clean':16} {executed[1] if executed else '?':>9} inputs",
        "edges {}, features {}, corpus {}".format(*covered[-1]) if covered else "",
        flush=True,
    )
    if status:
        print("\n".join(text.splitlines()[-60:]), f"\nthe input is in {findings}, the whole log in {log}", flush=True)
    return status == 0


def coverage(build: Path, targets: list[str], corpus: Path) -> None:
    profiles = []
    for target in targets:
        profile = build / f"{target}.profraw"
        folders = [folder for folder in (corpus / target, build / "seeds" / target) if folder.is_dir()]
        command = [program(build, target), *folders, "-runs=0"]
        environment = {**ENVIRONMENT, "LLVM_PROFILE_FILE": str(profile)}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        profiles.append(profile)
    merged = build / "merged.profdata"
    subprocess.run(["llvm-profdata", "merge", "-o", merged, *profiles], check=True)
    objects = [word for target in targets for word in ("-object", program(build, target))][1:]
    subprocess.run(["llvm-cov", "report", f"-instr-profile={merged}", *objects, SOURCE / "csrc"], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, help="a build tree of the preset fuzz or fuzz-coverage")
    parser.add_argument("targets", nargs="*", default=sorted(seeds.TARGETS), metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn; 0: another one each time")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="targets at a time")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--corpus", type=Path, default=SOURCE / "build" / "fuzz" / "corpus")
    arguments = parser.parse_intermixed_args()
    build = arguments.build.resolve()
    seeds.write(build / "seeds")
    if arguments.coverage:
        coverage(build, arguments.targets, arguments.corpus)
        return 0
    began = time.monotonic()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        clean = list(pool.map(lambda target: fuzz(build, target, arguments.seconds, arguments.seed), arguments.targets))
    print(f"{len(clean)} targets in {time.monotonic() - began:.0f} s")
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
