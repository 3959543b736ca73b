#!/usr/bin/env python3
"""Time the particle step against NumPy, PyTorch and JAX doing the same work, and against the machine's matrix product.

    scripts/bench_step.py --peer-python ~/peers/bin/python --json bench.json

The peers (scripts/peers_step.py, which says how to make their environment) run under --peer-python; what does not
import there is listed as missing. The project's steps are those of its own `simulate`: Langevin, step_size 0.05, reg
5e-3, temperature 1e-4, nothing recorded after step 0, no run file.

Everyone is a process of its own that lives through the whole run and is asked for turns: one step untimed, then so many
timed ones that a turn takes --turn seconds. Turns go round and round, every second round backwards, so that a drift of
the machine favours nobody. In `simulate` a step is timed from one report of progress to the next, so set-up is not
counted. A figure is the median over rounds of each turn's mean. "of product" is the rate of useful operations (4mnd;
with C outputs 4mnd + 6mnC; nothing computed twice counts) over that of NumPy's matrix product in the same dtype, the
better of its turns before and after the row. "x peer" above 1 means faster than the fastest peer of the same dtype.

A row is m,n,d or m,n,d,C, with :float64 (where float32 is timed beside it), :threads (one thread beside all; no
peers) or the name of a neuron such as :tanh (relu beside it; no peers), or normals,COUNT: nanoseconds for each normal
number. "of product" counts the same operations for every neuron.

--profile: where the time of one step goes, on one thread, each part timed alone over the same blocks.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from peers_step import ETA, PEERS, REG, TAU, Turn, make_task, make_turn, repeated, serve, useful_flops

if TYPE_CHECKING:
    from meanfield.engine import loops

ROWS = (
    "65536,512,20",
    "65536,1024,64",
    "16384,1024,128",
    "262144,64,10",
    "65536,500,21",
    "65536,512,20:float64",
    "65536,1024,64:float64",
    "65536,512,64,10",
    "normals,4194304",
    "65536,512,20:threads",
    "65536,1024,64:threads",
    "65536,512,20:tanh",
    "65536,1024,64:tanh",
)
QUICK = ("65536,512,20", "normals,4194304", "65536,512,20:threads")
PRODUCT = "matrix product"
NEURONS = ("leaky_relu", "tanh", "erf", "softplus", "gelu", "relu2", "sine", "quadratic")


@dataclass(frozen=True)
class Row:
    """One line of work: `numbers` are m, n, d, C, or the count of normals."""

    label: str
    numbers: tuple[int, ...]
    variant: str = ""

    @classmethod
    def of(cls, text: str) -> Row:
        sizes, _, variant = text.partition(":")
        words = sizes.split(",")
        numbers = tuple(int(word) for word in words if word.isdigit() and int(word) > 0)
        if words[0] == "normals" and len(words) == 2 and len(numbers) == 1 and not variant:
            return cls(text, numbers, "normals")
        if len(numbers) == len(words) and len(numbers) in (3, 4) and variant in ("", "float64", "threads", *NEURONS):
            return cls(text, numbers, variant)
        raise argparse.ArgumentTypeError(f"{text!r}: must be m,n,d[,C][:float64 | :threads | :NEURON] or normals,COUNT")

    def spec(self, threads: int, dtype: str = "float32") -> dict[str, Any]:
        """What a contestant is asked for."""
        if self.variant == "normals":
            return {"task": "normals", "count": self.numbers[0], "dtype": dtype, "threads": threads}
        sizes = dict(zip(("m", "n", "d", "outputs"), (*self.numbers, 1), strict=False))
        return {"task": "step", **sizes, "dtype": dtype, "threads": threads}

    @property
    def operations(self) -> int:
        return 0 if self.variant == "normals" else useful_flops(*self.numbers)

    def contestants(self, threads: int, peers: Sequence[str]) -> list[tuple[str, str, dict[str, Any]]]:
        """(name, who, spec) of everyone that this row times."""
        dtype = "float64" if self.variant == "float64" else "float32"
        listed = [
            (name, name, self.spec(threads, dtype)) for name in peers if self.variant in ("", "float64", "normals")
        ]
        if self.variant == "normals":  # tiles make no difference to it
            listed = [one for one in listed if one[0] not in ("torch-tiled", "jax-tiled")]
        ours = [("meanfield", "meanfield", self.spec(threads, dtype))]
        if self.variant == "float64":
            ours.append(("meanfield float32", "meanfield beside", self.spec(threads)))
        if self.variant == "threads":
            ours.append(("meanfield 1 thread", "meanfield beside", self.spec(1)))
        if self.variant in NEURONS:
            spec = {**self.spec(threads), "neuron": self.variant}
            ours.append((f"meanfield {self.variant}", "meanfield beside", spec))
        return ours + listed


# ---------------------------------------------------------------------------------------------------------------------
# the project as a contestant


def our_turn(spec: dict[str, Any]) -> Turn:
    """The project's own part of a row, as a turn (see peers_step.repeated)."""
    if spec["task"] == "product":
        return make_turn("numpy", spec)
    return (our_normals if spec["task"] == "normals" else our_steps)(spec)


def our_steps(spec: dict[str, Any]) -> Turn:
    from meanfield import Ensemble, Langevin, Problem, simulate
    from meanfield.simulation.progress import Silent

    class Stamps(Silent):
        def __init__(self) -> None:
            self.times: list[float] = []

        def update(self, step: int, shown: dict[str, float]) -> None:
            self.times.append(time.perf_counter())

    task = make_task(*(spec[name] for name in ("m", "n", "d", "outputs", "dtype")))
    loss = "logistic" if spec["outputs"] == 1 else "cross_entropy"
    problem = Problem(task.X, task.y, loss=loss, reg=REG, temperature=TAU, neuron=spec.get("neuron", "relu"))
    ensemble = Ensemble.from_arrays(task.w, task.U)

    def turn(count: int) -> list[float]:
        stamps = Stamps()
        simulate(
            problem,
            ensemble,
            Langevin(step_size=ETA),
            steps=count + 1,
            record_every=10**9,
            threads=spec["threads"],
            progress=stamps,
        )
        return list(np.diff(stamps.times)[1:])

    return turn


def our_normals(spec: dict[str, Any]) -> Turn:
    """The engine's own way to fill an array with normals, that of a Gaussian initial law; no memory is allocated."""
    from meanfield.engine import engine, loops

    group, components = engine.group_size(spec["dtype"]), 64
    m = -(-spec["count"] // components)
    theta = np.zeros((-(-m // group), components, group), spec["dtype"])
    workers = engine.Workers(spec["threads"])
    arguments = (loops.Part(theta, 0, m), True, theta.dtype.type(1), np.uint64(0))
    return repeated(lambda: workers.run(loops.draw, -(-m // engine.BLOCK), arguments, 1))


# ---------------------------------------------------------------------------------------------------------------------
# taking turns


class Contestant:
    """A process that is asked for turns."""

    def __init__(self, command: Sequence[str | Path], threads: int) -> None:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC", "MEANFIELD_NUM_THREADS")
        environment = {**os.environ, **{name: str(threads) for name in names}}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def ask(self, **request: Any) -> dict[str, Any]:
        try:
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"missing": f"ended with exit status {self._process.wait()}"}

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        self._process.wait()


class Contest:
    """All contestants, started when first needed."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._known: dict[str, Contestant] = {}

    def __getitem__(self, who: str) -> Contestant:
        if who not in self._known:
            if who in PEERS:
                command = [self._options.peer_python, Path(__file__).with_name("peers_step.py"), "--serve", who]
            else:
                command = [sys.executable, __file__, "--serve"]
            self._known[who] = Contestant(command, self._options.threads)
        return self._known[who]

    def product_rate(self, dtype: str) -> float:
        """GFLOP/s of the matrix product, warm, the best of a turn."""
        size = self._options.product
        self[PRODUCT].ask(make={"task": "product", "size": size, "dtype": dtype})
        return 2 * size**3 / min(self[PRODUCT].ask(turn=5)["seconds"]) / 1e9

    def close(self) -> None:
        for contestant in self._known.values():
            contestant.close()


def measure(row: Row, contest: Contest, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row: a list of results, one for each contestant, in the order of row.contestants."""
    listed = row.contestants(options.threads, options.peers)
    missing: dict[str, str] = {}
    counts: dict[str, int] = {}
    turns: dict[str, list[float]] = {name: [] for name, _, _ in listed}
    rates = {spec["dtype"]: contest.product_rate(spec["dtype"]) for _, _, spec in listed if row.operations}
    for name, who, spec in listed:
        answer = contest[who].ask(make=spec)
        first = answer if "missing" in answer else contest[who].ask(turn=1)
        if "missing" in first and who not in PEERS:
            raise SystemExit(f"{row.label}: {name}: {first['missing']}")
        if "missing" in first:
            missing[name] = first["missing"]
        else:
            counts[name] = min(200, max(2, round(options.turn / first["seconds"][0])))
    runners = [(name, who) for name, who, _ in listed if name not in missing]
    for k in range(options.reps):
        for name, who in runners if k % 2 == 0 else runners[::-1]:
            time.sleep(0.05)  # idle threads of whoever came before spin for a while
            answer = contest[who].ask(turn=counts[name])
            if "missing" in answer:
                raise SystemExit(f"{row.label}: {name}: {answer['missing']}")
            turns[name].append(float(np.mean(answer["seconds"])))
    rates = {dtype: max(rate, contest.product_rate(dtype)) for dtype, rate in rates.items()}
    return summary(row, listed, missing, turns, rates)


def summary(
    row: Row,
    listed: list[tuple[str, str, dict[str, Any]]],
    missing: dict[str, str],
    turns: dict[str, list[float]],
    rates: dict[str, float],
) -> list[dict[str, Any]]:
    medians = {name: float(np.median(seconds)) for name, seconds in turns.items() if seconds}
    peers = {name: medians[name] for name, who, _ in listed if who in PEERS and name in medians}
    results = []
    for name, _, spec in listed:
        result = {"name": name, "dtype": spec["dtype"], "threads": spec["threads"]}
        if name in missing:
            results.append({**result, "missing": missing[name]})
            continue
        rate, ms = row.operations / medians[name] / 1e9, [1e3 * seconds for seconds in turns[name]]
        comparable = peers and spec["dtype"] == listed[-1][2]["dtype"]
        results.append(
            {
                **result,
                "ms": 1e3 * medians[name],
                "ms_min": min(ms),
                "ms_turns": ms,
                "faster_than_peers": min(peers.values()) / medians[name] if comparable else None,
                "gflops": rate if row.operations else None,
                "of_product": rate / rates[spec["dtype"]] if row.operations else None,
                "product_gflops": rates.get(spec["dtype"]),
                "ns_each": 1e9 * medians[name] / row.numbers[0] if row.variant == "normals" else None,
            }
        )
    return results


def shown(row: Row, results: list[dict[str, Any]]) -> str:
    """The table of one row."""
    rates = {r["dtype"]: r["product_gflops"] for r in results if r.get("product_gflops")}
    products = ", ".join(f"{dtype} matrix product {rate:.0f} GFLOP/s" for dtype, rate in rates.items())
    lines = [
        f"\n{row.label}   {products}".rstrip(" "),
        f"{'':20s} {'ms':>10s} {'min':>10s} {'x peer':>8s} "
        + (f"{'ns each':>8s}" if row.variant == "normals" else f"{'GFLOP/s':>8s} {'of product':>10s}"),
    ]
    for r in results:
        if "missing" in r:
            lines.append(f"{r['name']:20s} missing: {r['missing']}")
            continue
        peer = f"{r['faster_than_peers']:8.2f}" if r["faster_than_peers"] else f"{'':8s}"
        rate = f"{r['ns_each']:8.3f}" if r["ns_each"] else f"{r['gflops']:8.1f} {r['of_product']:10.2f}"
        lines.append(f"{r['name']:20s} {r['ms']:10.3f} {r['ms_min']:10.3f} {peer} {rate}")
    measured = [r for r in results if "missing" not in r and r["name"].startswith("meanfield")]
    if len(measured) == 2:
        lines.append(f"{measured[1]['name']} takes {measured[1]['ms'] / measured[0]['ms']:.2f} times as long")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------------------------
# where the time goes


@functools.cache
def part_drivers() -> tuple[Callable, ...]:
    """Compiled loops over all blocks, one part of a step each. Not cached on disk: they hold code of the engine's."""
    import numba

    from meanfield.engine import loops, noise

    compiled = numba.njit(nogil=True, error_model="numpy")
    purpose = int(noise.Purpose.LANGEVIN)

    @compiled
    def forward(theta: np.ndarray, per: int, data: Any, activity: Any, sums: np.ndarray, Z: np.ndarray) -> None:
        for g in range(0, theta.shape[0], per):
            loops.forward_block(loops.Block(theta, g, min(g + per, theta.shape[0])), data, activity, sums, Z)

    @compiled
    def product(theta: np.ndarray, per: int, residual: Any, bits: np.ndarray, G: np.ndarray) -> None:
        for g in range(0, theta.shape[0], per):
            loops.gradient_one(loops.Block(theta, g, min(g + per, theta.shape[0])), residual, bits, G)

    @compiled
    def normals(theta: np.ndarray, seed: int, words: np.ndarray, z: np.ndarray) -> None:
        each = noise.per_block(z)
        for g in range(theta.shape[0]):
            for block in range(-(-theta.shape[1] // each)):
                noise.words(seed, purpose, 0, g * theta.shape[2], block, words)
                noise.from_words(words, z)

    @compiled
    def update(part: Any, per: int, d: int, gap: int, move: Any, address: Any, work: Any) -> None:
        for g in range(part.theta.shape[0]):
            loops.move_group(part, g, loops.Slope(work.G[g % per], d, gap), move, address, work)

    @compiled
    def reduction(theta: np.ndarray, per: int, data: Any, sums: np.ndarray, limbs: np.ndarray) -> None:
        for g in range(0, theta.shape[0], per):
            loops.reduce_block(loops.Block(theta, g, min(g + per, theta.shape[0])), data, sums, limbs)

    return forward, product, normals, update, reduction


def work_space(theta: np.ndarray, residual: loops.Residual) -> tuple[np.ndarray, np.ndarray, loops.Work]:
    """(sums, Z, work): what a thread computes in, for one output."""
    from meanfield.engine import engine, loops

    tiles, rows, K = residual.X.shape
    (_, D, group), dtype = theta.shape, theta.dtype
    sums = np.zeros((rows, 1, group // engine.VECTORS), dtype)
    Z, S, z = (np.zeros((count, group), dtype) for count in (64, 64, 4))
    G = np.zeros((engine.BLOCK // group, tiles * K + 1, group), dtype)
    return sums, Z, loops.Work(Z, S, G, np.empty((4, group), np.uint32), z, np.zeros((1, D, group), dtype))


def profile_calls(m: int, n: int, d: int) -> tuple[dict[str, Callable[[], object]], np.ndarray]:
    """(calls, moved): name -> the five parts of a step on one thread and the whole of it, and what "update" moves."""
    from meanfield import Ensemble
    from meanfield.dynamics import exponential_move
    from meanfield.engine import loops
    from meanfield.engine.engine import Engine

    task = make_task(m, n, d)
    whole = Ensemble.from_arrays(task.w, task.U)
    theta, moved = (np.array(whole.theta) for _ in range(2))
    engine, move = Engine(task.X, 1, theta.dtype, 1), exponential_move(ETA, REG, TAU)
    r = np.where(np.arange(n)[:, None] % 2, 0.5, -0.5) / n
    engine.predict(whole.particles)
    data, residual, bits = engine.inputs.data(1), engine.inputs.residual(r, masked=True), engine._bits.copy()
    activity, per = loops.Activity(bits, True), loops.BLOCK // theta.shape[2]
    sums, Z, work = work_space(theta, residual)
    limbs, gap = np.zeros((n + 2, 3), np.int64), residual.X.shape[0] * residual.X.shape[2] - d
    quiet = move._replace(noise=0.0).exact(theta.dtype)
    address, part = loops.Address(np.uint64(0), np.uint64(0)), loops.Part(moved, 0, m)
    forward, product, normals, update, reduction = part_drivers()
    calls = {
        "forward": lambda: forward(theta, per, data, activity, sums, Z),
        "masked product": lambda: product(theta, per, residual, bits, work.G),
        "noise": lambda: normals(theta, address.seed, work.words, work.normals),
        "update": lambda: update(part, per, d, gap, quiet, address, work),
        "reduction": lambda: reduction(theta, per, data, sums, limbs),
        "whole step": lambda: engine.advance(whole.particles, r, move, 0, 0),
    }
    return calls, moved


def profile(row: Row, reps: int) -> tuple[str, dict[str, float]]:
    """The table of the parts of a step, and its numbers in milliseconds."""
    calls, _ = profile_calls(*row.numbers)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for k in range(reps):
        for name in list(calls) if k % 2 == 0 else list(calls)[::-1]:
            calls[name]()
            start = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - start)
    ms = {name: 1e3 * float(np.median(seconds)) for name, seconds in times.items()}
    whole, half = ms["whole step"], useful_flops(*row.numbers) / 2
    lines = [f"\n{row.label}   one thread, each part alone over the same blocks"]
    lines.append(f"{'':16s} {'ms':>10s} {'of whole':>9s} {'GFLOP/s':>8s}")
    ms["sum of parts"] = sum(ms.values()) - whole
    work = {"forward": half, "masked product": half, "whole step": 2 * half}
    for name, value in ms.items():
        rate = f"{work[name] / value / 1e6:8.1f}" if name in work else ""
        lines.append(f"{name:16s} {value:10.3f} {value / whole:9.1%} {rate}")
    return "\n".join(lines), ms


# ---------------------------------------------------------------------------------------------------------------------


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=Row.of, metavar="ROW", help=f"default: {' '.join(ROWS)}")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that imports torch and jax")
    parser.add_argument("--threads", type=int, default=min(2, cores))
    parser.add_argument("--reps", type=int, help="rounds of turns (default: 9; 3 if --quick)")
    parser.add_argument("--turn", type=float, default=0.4, help="seconds of a turn (default: %(default)s)")
    parser.add_argument("--product", type=int, default=3072, help="size of the matrix product (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there too")
    parser.add_argument("--quick", action="store_true", help="three rows, three rounds: for a look, not for a claim")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not 1 <= options.threads <= cores:
        parser.error(f"--threads {options.threads}: this process may use 1 to {cores}")
    plain = ROWS[:2] if options.profile else QUICK if options.quick else ROWS
    options.rows = options.rows or [Row.of(text) for text in plain]
    options.reps = options.reps or (3 if options.quick else 9)
    if options.profile and any(row.variant or len(row.numbers) != 3 for row in options.rows):
        parser.error("--profile: rows must be m,n,d")
    return options


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What the figures were taken on."""
    import numba

    name = platform.processor()
    if Path("/proc/cpuinfo").exists():
        found = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        name = found[0].partition(":")[2].strip() if found else name
    return {
        "processor": name,
        "threads": options.threads,
        "load_before": os.getloadavg()[0],
        "reps": options.reps,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "peer_python": options.peer_python,
    }


def main() -> None:
    options = parse()
    if options.serve:
        serve(our_turn)
        return
    facts, contest = machine(options), Contest(options)
    rows: dict[str, Any] = {}
    if hasattr(os, "sched_setaffinity"):  # inherited by every contestant: JAX has no other limit on its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    print(f"{facts['processor']}, {options.threads} threads, medians of {options.reps} rounds")
    if facts["load_before"] > 0.5:
        print(f"this machine is busy (load {facts['load_before']:.1f}): the figures below are not to be quoted")
    try:
        for row in options.rows:
            if options.profile:
                text, rows[row.label] = profile(row, options.reps)
            else:
                rows[row.label] = measure(row, contest, options)
                text = shown(row, rows[row.label])
            print(text, flush=True)
    finally:
        contest.close()
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
