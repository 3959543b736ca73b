#!/usr/bin/env python3
"""What a checkpoint costs: beside a plain copy of the same bytes, or with much that has not changed.

    scripts/bench_checkpoint.py --folder /where/the/runs/are
    scripts/bench_checkpoint.py --unchanged --folder /where/the/runs/are

The first has m 10⁷ particles, d 20, float32 unless told. Turns alternate between saving the run, which lays out,
hashes, writes and flushes it, and writing a file of the same length from memory with flush (fsync) in the same folder;
medians, the fastest, and the ratio of both. A copy can vary by a factor of three: pages that the system has not used
before cost it more. Beside them what one thread takes for the parts alone: laying out the particles, SHA-256.

The second has 1024 particles, and data of 50,000 examples of 784 features or a trace of a million rows; or 16,384
particles, of which it has 200 snapshots. Turns alternate between a checkpoint and one into a single file, as if nothing
were ever large enough for a part; wall-clock and processor time of this process, medians. The figures are of one disk
under one load.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meanfield.simulation.run import Run


def prepared(m: int, d: int) -> Run:
    """A run at step 0 with these particles."""
    from meanfield.simulation.config import Config
    from meanfield.simulation.new_run import new_run_from_config

    return new_run_from_config(
        Config.model_validate(
            {
                "data": {"source": "xor", "n": 64, "d": d, "n_test": 0},
                "objective": {"reg": 5e-3},
                "ensemble": {"m": m},
                "dynamics": {"method": "langevin"},
                "run": {"steps": 10},
            }
        )
    )


def with_much_unchanged(n: int, d: int, rows: int, snapshots: int) -> Run:
    """A run with so many examples, rows of trace, all the same, and snapshots."""
    import numpy as np

    from meanfield import Ensemble, Langevin, Problem
    from meanfield.simulation.new_run import new_run_from_objects
    from meanfield.simulation.trace import Trace

    X = np.random.default_rng(0).standard_normal((n, d))
    settings: dict[str, Any] = {"steps": rows, "record_every": 1}
    start = Ensemble.sphere(16384 if snapshots else 1024, d)
    record = {"test_every": 1, "snapshots": snapshots, "snapshot_particles": "all"}
    run = new_run_from_objects(Problem(X, np.sign(X[:, 0])), start, Langevin(), run=settings, record=record)
    for step in sorted(run.kept.steps):
        run.ensemble.step = step
        run.kept.take(run.ensemble, 0.0)
    columns = {name: np.full(rows, value) for name, value in run.measure().items()}
    columns["step"] = np.arange(rows)
    run.recorder = Trace(1, columns=columns, timing={"seconds": np.arange(rows) / 100})
    run.ensemble.step = rows - 1
    return run


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def copy(block: bytes, size: int, path: Path) -> None:
    """Write `size` bytes, over and over the same block, and flush them."""
    with open(path, "wb", buffering=0) as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
        os.fsync(file.fileno())


def lay_out(run: Run) -> None:
    for _ in run.ensemble.blocks():
        pass


def digest(block: bytes, size: int) -> None:
    state = hashlib.sha256()
    for start in range(0, size, len(block)):
        state.update(block[: size - start])


def measure(m: int, d: int, turns: int, folder: str) -> dict[str, Any]:
    run = prepared(m, d)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        target, plain = Path(name) / "run.h5", Path(name) / "plain"
        run.save(target, keep_previous=False)
        size, block = target.stat().st_size, os.urandom(1 << 23)
        saves, copies = [], []
        for _ in range(turns):
            copies.append(seconds(lambda: copy(block, size, plain)))
            plain.unlink()
            saves.append(seconds(lambda: run.save(target)))
    return {
        "m": m,
        "d": d,
        "bytes": size,
        "turns": turns,
        "save_s": statistics.median(saves),
        "fastest_save_s": min(saves),
        "copy_s": statistics.median(copies),
        "fastest_copy_s": min(copies),
        "lay_out_s": seconds(lambda: lay_out(run)),
        "sha256_s": seconds(lambda: digest(block, size)),
    }


def measure_unchanged(sizes: dict[str, int], turns: int, folder: str) -> dict[str, Any]:
    from meanfield.storage import parts

    run, large = with_much_unchanged(**sizes), parts.LARGE
    found: dict[str, list[tuple[float, float]]] = {"parts": [], "whole": []}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        run.save(Path(name) / "parts.h5")
        kept = run.parts
        for _ in range(turns):
            for kind, limit, run.parts in (("whole", 1 << 62, parts.Parts()), ("parts", large, kept)):
                parts.LARGE, cpu = limit, time.process_time()
                wall = seconds(partial(run.save, Path(name) / f"{kind}.h5"))
                found[kind].append((wall, time.process_time() - cpu))
        lengths = {kind: (Path(name) / f"{kind}.h5").stat().st_size for kind in found}
    medians = {
        kind: [statistics.median(column) for column in zip(*times, strict=True)] for kind, times in found.items()
    }
    return {**sizes, "turns": turns, "bytes": lengths, "wall_and_processor_s": medians}


def tell_unchanged(turns: int, folder: str) -> list[dict[str, Any]]:
    cases = (50_000, 784, 10, 0), (100, 20, 10**6, 0), (100, 20, 1000, 200)
    names = "n", "d", "rows", "snapshots"
    every = [measure_unchanged(dict(zip(names, case, strict=True)), turns, folder) for case in cases]
    for found in every:
        print("{n} × {d} data, {rows} rows of trace, {snapshots} snapshots, {turns} turns".format(**found))
        for kind, (wall, cpu) in found["wall_and_processor_s"].items():
            size = found["bytes"][kind] / 1e6
            print(f"{kind:8}{size:10.2f} MB{1e3 * wall:10.1f} ms{1e3 * cpu:10.1f} ms of processor time")
        (wall, cpu), (whole_wall, whole_cpu) = found["wall_and_processor_s"].values()
        print(f"{'ratio':8}{'':13}{whole_wall / wall:10.1f}   {whole_cpu / cpu:10.1f}")
    return every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m", type=int, default=10**7)
    parser.add_argument("--d", type=int, default=20)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--folder", default=".", help="where the runs would be: another disk, another answer")
    parser.add_argument("--unchanged", action="store_true", help="few particles, large data, a long trace, snapshots")
    parser.add_argument("--json", help="write the figures to this file too")
    arguments = parser.parse_args()
    if arguments.unchanged:
        found_unchanged = tell_unchanged(arguments.turns, arguments.folder)
        if arguments.json:
            Path(arguments.json).write_text(json.dumps(found_unchanged, indent=1) + "\n")
        return
    found = measure(arguments.m, arguments.d, arguments.turns, arguments.folder)
    gigabytes = found["bytes"] / 1e9
    print(f"m = {found['m']}, d = {found['d']}: {gigabytes:.3f} GB, medians of {found['turns']} turns")
    for name, label in (("save_s", "checkpoint"), ("copy_s", "plain copy with flush")):
        median, fastest = found[name], found[f"fastest_{name}"]
        print(f"{label:24}{median:8.2f} s{gigabytes / median:8.2f} GB/s   (fastest {fastest:.2f} s)")
    ratio, best = found["save_s"] / found["copy_s"], found["fastest_save_s"] / found["fastest_copy_s"]
    print(f"{'ratio':24}{ratio:8.2f}{'':16}(of the fastest {best:.2f})")
    for name, label in (("lay_out_s", "of it, laying out"), ("sha256_s", "of it, SHA-256")):
        print(f"{label:24}{found[name]:8.2f} s{gigabytes / found[name]:8.2f} GB/s   (alone, one thread)")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
