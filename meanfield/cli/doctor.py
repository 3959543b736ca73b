"""`meanfield doctor`: what this machine is, and how fast the step runs on it."""

from __future__ import annotations

import platform
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import click

from ..errors import printable
from ..runtime.communicator import world
from ._tables import print_json, table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")
@click.option("--threads", type=click.IntRange(1, 4096), help="Threads to measure with.")
def doctor(as_json: bool, threads: int | None) -> int:
    """Versions, processor, threads, vector width, cache folder, and measured speed."""
    from ..engine.microkernels import has_wide_vectors
    from ..runtime.compiling import cache_folder, cache_is_usable
    from ..runtime.threads import default_threads, usable_cores
    from ..storage.versions import describe

    ranks = world()
    threads = threads or default_threads()
    bindings = ranks.gather((platform.node(), usable_cores(), threads))
    if not ranks.leads:
        return 0
    cores = len(usable_cores())
    folder = cache_folder()
    writable = cache_is_usable()
    step, product = _measure(threads)
    facts: dict[str, Any] = {
        **describe(),
        "cores": cores,
        "threads": threads,
        "vector_bits": 512 if has_wide_vectors() else 256,
        "cache_folder": str(folder),
        "cache_writable": writable,
        "step_gflops": round(step, 1),
        "matrix_product_gflops": round(product, 1),
        "fraction_of_matrix_product": round(step / product, 3),
    }
    if ranks.size > 1:
        facts["ranks"] = ranks.size
        for rank, (host, allowed, number) in enumerate(bindings):
            facts[f"rank_{rank}"] = f"{host}, cores {_ranges(allowed)}, threads {number}"
    advice = [*_advice(facts), *_oversubscribed(bindings)]
    if as_json:
        print_json({**facts, "advice": advice})
        return 0
    print(table([("meanfield doctor", ""), *_rows(facts)]))
    print("\n".join(["", *map(printable, advice)]) if advice else "\nnothing to set")
    return 0


def _rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values for 80 columns: a value that is too long goes on in the next row."""
    width = 80 - 2 - max(map(len, facts))
    for name, value in facts.items():
        lines = textwrap.wrap(str(value), width, break_long_words=False, break_on_hyphens=False)
        yield from zip([name.replace("_", " "), *[""] * (len(lines) - 1)], lines, strict=True)


def _advice(facts: dict) -> list[str]:
    advice = []
    if not facts["cache_writable"]:
        advice.append(f"{facts['cache_folder']} cannot be written, so every start compiles again: set NUMBA_CACHE_DIR")
    if facts["threads"] < facts["cores"] and "ranks" not in facts:
        advice.append(f"{facts['threads']} of {facts['cores']} cores are used: set MEANFIELD_NUM_THREADS or --threads")
    if facts["threads"] > facts["cores"]:
        advice.append(f"{facts['threads']} threads on {facts['cores']} cores: set MEANFIELD_NUM_THREADS or --threads")
    if facts["fraction_of_matrix_product"] < 0.5:
        advice.append("the step is slower than half the matrix product: is something else running, or vectors narrow?")
    return advice


def _oversubscribed(bindings: list[tuple[str, list[int], int]]) -> list[str]:
    """What to do about machines on which the ranks have more threads than cores among them."""
    advice = []
    for host in dict.fromkeys(name for name, _, _ in bindings):
        here = [(set(allowed), number) for name, allowed, number in bindings if name == host]
        cores, wanted = len(set().union(*(allowed for allowed, _ in here))), sum(number for _, number in here)
        if wanted > cores:
            advice.append(
                f"{host}: {len(here)} ranks with {wanted} threads on {cores} cores: start fewer ranks, "
                "or set MEANFIELD_NUM_THREADS"
            )
    return advice


def _ranges(numbers: list[int]) -> str:
    """0-3,8 for 0, 1, 2, 3, 8."""
    starts = [i for i in numbers if i - 1 not in numbers]
    ends = [i for i in numbers if i + 1 not in numbers]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def _measure(threads: int) -> tuple[float, float]:
    """GFLOP/s of the particle step (m 16384, n 512, d 20, noise on) and of the float32 matrix product, warm medians."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from ..engine.engine import Engine, Move
    from ..ensemble import Ensemble

    m, n, d = 16384, 512, 20
    rng = np.random.default_rng(0)
    engine, ensemble = Engine(rng.standard_normal((n, d)), 1, "float32", threads), Ensemble.gaussian(m, d)
    engine.predict(ensemble.particles)
    residual, move = rng.standard_normal((n, 1)) / n, Move(0.001, 0.01, 0.001)
    square = rng.random((2048, 2048), dtype=np.float32)

    def median(task: object, repetitions: int) -> float:
        times = []
        for _ in range(repetitions + 2):
            began = time.perf_counter()
            task()  # type: ignore[operator]
            times.append(time.perf_counter() - began)
        return float(np.median(times[2:]))

    with threadpool_limits(threads):
        product = 2 * 2048**3 / median(lambda: square @ square, 7) / 1e9
    step = 4 * m * n * d / median(lambda: engine.advance(ensemble.particles, residual, move, 0, 0), 15) / 1e9
    return step, product
