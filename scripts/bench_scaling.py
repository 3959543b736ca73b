#!/usr/bin/env python3
"""How the step scales with particles and threads, and what memory a particle takes. n 512, d 20 unless told.

For each m, in a process of its own: nanoseconds a step takes for each particle, with 1, 2, … threads; what the engine's
process grew by while it ran, for each particle, beside what must be held: the particle (4 (d + 1) bytes in float32) and
its activation bits (n/8). A run is started as the command `meanfield run` starts it: Langevin on the paper's data.

    scripts/bench_scaling.py --json scaling.json
    scripts/bench_scaling.py --huge        # 10⁸ particles, d 20, n 256: a step, a record, a checkpoint within 20 GiB

Figures are medians over turns that alternate between the numbers of threads; steps are timed from one report of
progress to the next, the first of each turn not counted. Memory is VmRSS of /proc/self/status (Linux only), less what
it was after a small run; below about 10⁵ particles that difference says little.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from meanfield.simulation.config import Config
    from meanfield.simulation.run import Run

GIB = 2**30
HUGE_LIMIT = 20 * GIB


def status(name: str) -> int:
    """Bytes that /proc/self/status states: VmRSS is what is resident now, VmHWM what was at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def config(m: int, n: int, d: int, steps: int, record_every: int = 10**9) -> Config:
    from meanfield.simulation.config import Config

    return Config.model_validate(
        {
            "data": {"source": "xor", "n": n, "d": d, "n_test": 0},
            "objective": {"reg": 5e-3, "temperature": 1e-4},
            "ensemble": {"m": m},
            "dynamics": {"method": "langevin", "step_size": 0.05},
            "run": {"steps": steps, "record_every": record_every},
        }
    )


def turn(run: Run, steps: int, threads: int) -> tuple[list[float], int]:
    """Seconds of each of `steps` steps of a run after one that is not counted."""
    from meanfield.simulation.loop import run_to_end
    from meanfield.simulation.progress import Silent

    class Stamps(Silent):
        def __init__(self) -> None:
            self.times: list[float] = []
            self.resident = 0

        def update(self, step: int, shown: dict[str, float]) -> None:
            self.times.append(time.perf_counter())
            self.resident = status("VmRSS") if self.times[2:] else 0

    stamps = Stamps()
    run.end_at(more=steps + 1)
    run_to_end(run, None, threads=threads, progress=stamps)
    return list(np.diff(stamps.times)[1:]), stamps.resident


def one_size(m: int, n: int, d: int, threads: list[int], reps: int, seconds: float) -> dict[str, Any]:
    """Measure one m in this process; a dict of what was found."""
    from meanfield.simulation.new_run import new_run_from_config

    turn(new_run_from_config(config(1024, n, d, 0)), 1, 1)  # compiles, and loads what any run loads
    before = status("VmRSS")
    run = new_run_from_config(config(m, n, d, 0))
    first, resident = turn(run, 1, max(threads))
    count = min(500, max(2, round(seconds / first[0])))
    times: dict[int, list[float]] = {k: [] for k in threads}
    for round_ in range(reps):
        for k in threads if round_ % 2 == 0 else threads[::-1]:
            times[k].append(float(np.mean(turn(run, count, k)[0])))
    medians = {k: float(np.median(each)) for k, each in times.items()}
    return {
        "m": m,
        "n": n,
        "d": d,
        "ms": {k: 1e3 * t for k, t in medians.items()},
        "ns_per_particle": {k: 1e9 * t / m for k, t in medians.items()},
        "bytes_per_particle": (resident - before) / m,
        "bytes_needed": 4 * (d + 1) + n / 8,
        "peak_gib": status("VmHWM") / GIB,
    }


def huge(m: int, n: int, d: int, threads: int, folder: Path | None) -> int:
    """One step, one record after it, one checkpoint; prints the peak and exits 1 if it was beyond 20 GiB."""
    from meanfield.simulation.loop import run_to_end
    from meanfield.simulation.new_run import new_run_from_config

    def told(what: str, start: float) -> None:
        seconds, resident = time.perf_counter() - start, status("VmRSS") / GIB
        print(f"{what:24s} {seconds:8.1f} s   resident {resident:6.2f} GiB", flush=True)

    start = time.perf_counter()
    run = new_run_from_config(config(m, n, d, 1, record_every=1))
    told(f"{m:,} particles", start)
    start = time.perf_counter()
    run_to_end(run, None, threads=threads)
    told("one step, two records", start)
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        start, path = time.perf_counter(), Path(inside) / "huge.h5"
        run.save(path)
        told(f"checkpoint {path.stat().st_size / GIB:.2f} GiB", start)
    peak = status("VmHWM")
    print(f"peak {peak / GIB:.2f} GiB, {peak / m:.1f} bytes a particle; {4 * (d + 1) + n / 8:.1f} must be held")
    return 0 if peak <= HUGE_LIMIT else 1


def parse() -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    powers = [2**k for k in range(12, 25)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m", type=int, nargs="+", default=powers, help="default: 4096, 8192, … 16777216")
    parser.add_argument("--n", type=int, help="default: 512; 256 with --huge")
    parser.add_argument("--d", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=list(range(1, cores + 1)))
    parser.add_argument("--reps", type=int, default=5, help="turns for each number of threads (default: %(default)s)")
    parser.add_argument("--turn", type=float, default=0.5, help="seconds of a turn (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there too")
    parser.add_argument("--huge", type=int, nargs="?", const=10**8, metavar="M", help="M particles (default: 10⁸)")
    parser.add_argument("--folder", type=Path, help="for the checkpoint of --huge (default: the temporary one)")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.n = options.n or (256 if options.huge else 512)
    if min(options.threads) < 1 or not Path("/proc/self/status").exists():
        parser.error("needs at least one thread, and /proc/self/status to read the memory from")
    return options


def main() -> None:
    options = parse()
    if options.huge:
        sys.exit(huge(options.huge, options.n, options.d, max(options.threads), options.folder))
    if options.one:
        print(json.dumps(one_size(options.one, options.n, options.d, options.threads, options.reps, options.turn)))
        return
    print(
        f"{'m':>10s} {'bytes':>7s} {'needed':>7s} {'peak GiB':>8s}   ns a particle (ms a step) with threads "
        + ", ".join(map(str, options.threads))
    )
    found = []
    for m in options.m:
        command = [sys.executable, __file__, *sys.argv[1:], "--one", str(m)]
        row = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        found.append(row)
        times = "   ".join(f"{row['ns_per_particle'][k]:7.2f} ({row['ms'][k]:.3f})" for k in row["ms"])
        print(
            f"{m:10d} {row['bytes_per_particle']:7.1f} {row['bytes_needed']:7.1f} {row['peak_gib']:8.2f}   {times}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
