#!/usr/bin/env python3
"""What a checkpoint costs beside a plain copy of the same bytes: m 10⁷ particles, d 20, float32 unless told.

    scripts/bench_checkpoint.py --folder /where/the/runs/are

Turns alternate between saving the run, which lays out, hashes, writes and flushes it, and writing a file of the same
length from memory with flush (fsync) in the same folder; medians, the fastest, and the ratio of both. A copy can vary
by a factor of three: pages that the system has not used before cost it more. Beside them what one thread takes for the
parts alone: laying out the particles, SHA-256. The figures are of one disk under one load.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m", type=int, default=10**7)
    parser.add_argument("--d", type=int, default=20)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--folder", default=".", help="where the runs would be: another disk, another answer")
    parser.add_argument("--json", help="write the figures to this file too")
    arguments = parser.parse_args()
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
