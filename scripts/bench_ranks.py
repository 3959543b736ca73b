#!/usr/bin/env python3
"""What sharing an ensemble between MPI ranks costs: a step of 1 rank × 2 threads against 2 ranks × 1 thread.

    python scripts/bench_ranks.py                       # m 2¹⁸, n 512, d 20, seven turns of each, alternating
    mpiexec -n 2 python scripts/bench_ranks.py --allreduce      # the all-reduce alone, over n
    python scripts/bench_ranks.py --model               # a step on 64 to 4096 nodes, on paper

Needs mpi4py and mpiexec. Times are medians over turns of the median step within a turn, with nothing else running: the
load at the start is printed. The all-reduce moves 3 (n C + 2) numbers of 8 bytes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from meanfield import Ensemble
from meanfield.engine.engine import Engine, Move
from meanfield.runtime.communicator import world


def step_seconds(m: int, n: int, d: int, steps: int, threads: int) -> float:
    """Median seconds of a step with noise, on this rank's share."""
    ranks, rng = world(), np.random.default_rng(0)
    X, residual = rng.standard_normal((n, d)), rng.standard_normal((n, 1)) / n
    ensemble, engine, times = Ensemble.sphere(m, d, ranks=ranks), Engine(X, 1, "float32", threads), []
    engine.predict(ensemble.particles)
    for k in range(steps + 5):
        began = time.perf_counter()
        engine.advance(ensemble.particles, residual, Move(1e-3, 1e-2, 1e-3), 0, k)
        times.append(time.perf_counter() - began)
    return float(np.median(times[5:]))


def allreduce(sizes: Sequence[int], rounds: int = 200) -> list[tuple[int, int, float]]:
    """Rows (n, bytes, median seconds) of the all-reduce of a step with n examples and one output."""
    ranks, rows = world(), []
    for n in sizes:
        limbs, times = np.ones((n + 2, 3), np.int64), []
        for _ in range(rounds):
            ranks.largest(0)  # all begin together
            began = time.perf_counter()
            ranks.sum(limbs)
            times.append(time.perf_counter() - began)
        rows.append((n, limbs.nbytes, float(np.median(times))))
    return rows


def model(
    core: float = 42e-12, cores: int = 64, latency: float = 2e-6, bandwidth: float = 20e9, python: float = 50e-6
) -> None:
    """Print seconds a step by the model of docs/mpi.md: arithmetic, then the all-reduce, d 20.

    core: seconds a particle, example and dimension on one core; cores a node; latency of a message and bandwidth
    (bytes/s) between nodes; python: what a step costs on each rank beside.
    """
    d = 20
    print("particles   n       nodes   arithmetic   all-reduce   step (s)   share of the network")
    for m in (10**9, 10**11):
        for n in (512, 10_000, 100_000):
            for nodes in (64, 512, 4096):
                size = 24 * (n + 2)
                arithmetic = core * m * n * d / (cores * nodes)
                network = 2 * np.log2(nodes) * latency + 2 * (nodes - 1) / nodes * size / bandwidth
                total = arithmetic + network + python
                print(
                    f"10^{int(np.log10(m)):<8d} {n:7d} {nodes:6d} {arithmetic:12.3g} {network:12.3g} {total:10.3g} "
                    f"{100 * network / total:10.2f} %"
                )


def turn(shape: tuple[int, int], arguments: argparse.Namespace) -> float:
    """Seconds a step, measured in processes of their own."""
    count, threads = shape
    launcher = [arguments.mpiexec, "-n", str(count)] if count > 1 else []
    line = [
        *launcher,
        sys.executable,
        __file__,
        "--worker",
        str(threads),
        "--m",
        str(arguments.m),
        "--n",
        str(arguments.n),
        "--d",
        str(arguments.d),
        "--steps",
        str(arguments.steps),
    ]
    return json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("m", 2**18), ("n", 512), ("d", 20), ("steps", 20), ("turns", 7)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--allreduce", action="store_true")
    parser.add_argument("--model", action="store_true")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    beside = Path(sys.executable).parent / "mpiexec"
    parser.add_argument("--mpiexec", default=str(beside) if beside.exists() else shutil.which("mpiexec"))
    arguments = parser.parse_args()
    if arguments.worker:
        seconds = step_seconds(arguments.m, arguments.n, arguments.d, arguments.steps, arguments.worker)
        if world().leads:
            print(seconds)
    elif arguments.model:
        model()
    elif arguments.allreduce:
        for n, size, seconds in allreduce((100, 512, 10_000, 100_000)):
            if world().leads:
                print(f"{world().size} ranks  n {n:6d}  {size / 1e3:9.1f} kB  {1e6 * seconds:8.1f} µs")
    else:
        print(f"load {os.getloadavg()[0]:.2f}, m {arguments.m}, n {arguments.n}, d {arguments.d}")
        times: dict[tuple[int, int], list[float]] = {(1, 2): [], (2, 1): []}
        for _ in range(arguments.turns):
            for shape, found in times.items():
                found.append(turn(shape, arguments))
        for (count, threads), found in times.items():
            print(
                f"{count} ranks × {threads} threads  {1e3 * np.median(found):7.2f} ms a step "
                f"({1e3 * min(found):.2f} to {1e3 * max(found):.2f})"
            )
        ratios = [b / a for a, b in zip(*times.values(), strict=True)]
        print(f"ranks over threads, median of {len(ratios)} pairs: {np.median(ratios):.3f}")


if __name__ == "__main__":
    main()
