#!/usr/bin/env python3
"""One noisy-gradient step of a mean-field two-layer ReLU network in the tools a user would otherwise pick.

Every peer does the same work on the same arrays, with the noise switched on. One output, logistic loss:

    f_i = (1/m) Σ_j w_j relu(u_j·x_i)            r_i  = −y_i / (1 + exp(y_i f_i)) / n
    θ_j ← θ_j − η (∇⟨r, Φ(θ_j)⟩ + 2 reg θ_j) + √(2 η τ) ξ_j

and with C outputs the cross-entropy's residual r = (softmax(f) − e_y) / n (n, C). `-tiled` peers walk over tiles of
particles that stay in cache and compute the activations twice; the others compute them once and keep them.

The peers need PyTorch and JAX, which the project does not: make them an environment of their own,

    python3 -m venv ~/peers && ~/peers/bin/pip install numpy jax
    ~/peers/bin/pip install torch --index-url https://download.pytorch.org/whl/cpu

and run this with ~/peers/bin/python, or scripts/bench_step.py with --peer-python ~/peers/bin/python, which times the
project and its peers in one run. Alone this prints the peers' milliseconds a step (median, minimum);
`--check` instead compares the particles of every peer with NumPy's after three steps without noise.
"""

import argparse
import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

ETA, REG, TAU = 0.05, 5e-3, 1e-4
TILE, JAX_TILE = 2048, 1024

Peer = tuple[Callable[[], None], Callable[[], tuple[np.ndarray, np.ndarray]]]  # (step, state), see below
Turn = Callable[[int], list[float]]  # a number of calls -> the seconds of each


@dataclass
class Task:
    """X (n, d), labels y (n,), particles U (m, d) and w (m, C), all of one dtype but labels of classes (C > 1), int."""

    X: np.ndarray
    y: np.ndarray
    U: np.ndarray
    w: np.ndarray
    tau: float = TAU

    @property
    def noise(self) -> float:
        return math.sqrt(2 * ETA * self.tau)


def make_task(m: int, n: int, d: int, outputs: int = 1, dtype: str = "float32", seed: int = 0) -> Task:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)).astype(dtype)
    signs = rng.standard_normal(n)
    y = np.sign(signs).astype(dtype) if outputs == 1 else np.arange(n) % outputs
    U = (rng.standard_normal((m, d)) / np.sqrt(d)).astype(dtype)
    return Task(X, y, U, rng.standard_normal((m, outputs)).astype(dtype))


def useful_flops(m: int, n: int, d: int, outputs: int = 1) -> int:
    """Operations of a step that computes nothing twice; what is done more counts for nothing."""
    return 4 * m * n * d + (6 * m * n * outputs if outputs > 1 else 0)


# Each peer takes a Task and returns (step, state): step() moves the particles once, state() gives (U, w) as arrays.


def numpy_one(task: Task) -> Peer:
    X, y, U, w = task.X, task.y, task.U.copy(), task.w[:, 0].copy()
    rng, m, n = np.random.default_rng(1), len(U), len(X)
    kind, noise = U.dtype.type, U.dtype.type(task.noise)

    def step() -> None:
        f = np.zeros(n, kind)
        for k in range(0, m, TILE):
            f += w[k : k + TILE] @ np.maximum(U[k : k + TILE] @ X.T, 0)
        r = (-y / (1 + np.exp(y * f / m)) / n).astype(kind)
        for k in range(0, m, TILE):
            Ub, wb = U[k : k + TILE], w[k : k + TILE]
            G = np.where(Ub @ X.T > 0, r, kind(0)) @ X
            gw = (G * Ub).sum(1)
            Ub -= ETA * (wb[:, None] * G + 2 * REG * Ub)
            wb -= ETA * (gw + 2 * REG * wb)
            Ub += noise * rng.standard_normal(Ub.shape, dtype=kind)
            wb += noise * rng.standard_normal(wb.shape, dtype=kind)

    return step, lambda: (U, w[:, None])


def numpy_many(task: Task) -> Peer:
    X, U, w = task.X, task.U.copy(), task.w.copy()
    rng, m, n = np.random.default_rng(1), len(U), len(X)
    kind, noise = U.dtype.type, U.dtype.type(task.noise)
    target = np.eye(w.shape[1], dtype=kind)[task.y]

    def step() -> None:
        f = np.zeros_like(target)
        for k in range(0, m, TILE):
            f += np.maximum(U[k : k + TILE] @ X.T, 0).T @ w[k : k + TILE]
        e = np.exp(f / m - (f / m).max(1, keepdims=True))
        r = ((e / e.sum(1, keepdims=True) - target) / n).astype(kind)
        for k in range(0, m, TILE):
            Ub, wb = U[k : k + TILE], w[k : k + TILE]
            A = np.maximum(Ub @ X.T, 0)
            S = wb @ r.T
            S *= A > 0
            gw = A @ r
            Ub -= ETA * (S @ X + 2 * REG * Ub)
            wb -= ETA * (gw + 2 * REG * wb)
            Ub += noise * rng.standard_normal(Ub.shape, dtype=kind)
            wb += noise * rng.standard_normal(wb.shape, dtype=kind)

    return step, lambda: (U, w)


def torch_one(task: Task, tile: int | None = None) -> Peer:
    import torch

    X, y, U, w = (torch.from_numpy(a.copy()) for a in (task.X, task.y, task.U, task.w[:, 0]))
    m, n, noise = len(w), len(y), task.noise
    whole, tile = tile is None, tile or m

    @torch.no_grad()
    def step() -> None:
        f = torch.zeros_like(y)
        for k in range(0, m, tile):
            Z = U[k : k + tile] @ X.T
            f += w[k : k + tile] @ torch.relu(Z)
        r = -y * torch.sigmoid(-y * f / m) / n
        for k in range(0, m, tile):
            Ub, wb = U[k : k + tile], w[k : k + tile]
            G = torch.where((Z if whole else Ub @ X.T) > 0, r, 0.0) @ X
            gw = (G * Ub).sum(1)
            Ub.sub_(ETA * (wb[:, None] * G + 2 * REG * Ub)).add_(torch.randn_like(Ub), alpha=noise)
            wb.sub_(ETA * (gw + 2 * REG * wb)).add_(torch.randn_like(wb), alpha=noise)

    return step, lambda: (U.numpy(), w[:, None].numpy())


def torch_many(task: Task, tile: int | None = None) -> Peer:
    import torch

    X, U, w = (torch.from_numpy(a.copy()) for a in (task.X, task.U, task.w))
    m, n, noise = len(w), len(X), task.noise
    target = torch.nn.functional.one_hot(torch.from_numpy(task.y), w.shape[1]).to(X.dtype)
    whole, tile = tile is None, tile or m

    @torch.no_grad()
    def step() -> None:
        f = torch.zeros_like(target)
        for k in range(0, m, tile):
            A = torch.relu(U[k : k + tile] @ X.T)
            f += A.T @ w[k : k + tile]
        r = (torch.softmax(f / m, 1) - target) / n
        for k in range(0, m, tile):
            Ub, wb = U[k : k + tile], w[k : k + tile]
            if not whole:
                A = torch.relu(Ub @ X.T)
            S = torch.where(A > 0, wb @ r.T, 0.0)
            gw = A @ r
            Ub.sub_(ETA * (S @ X + 2 * REG * Ub)).add_(torch.randn_like(Ub), alpha=noise)
            wb.sub_(ETA * (gw + 2 * REG * wb)).add_(torch.randn_like(wb), alpha=noise)

    return step, lambda: (U.numpy(), w.numpy())


def jax_step(task: Task, tile: int | None = None, bits: str = "threefry2x32") -> Peer:
    """One or many outputs: the outer loop and the noise are the same, the two halves differ."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", task.X.dtype == np.float64)
    (m, d), C, n, noise = task.U.shape, task.w.shape[1], len(task.X), task.noise
    tile = min(tile or m, m)
    if m % tile:
        raise ValueError(f"m = {m}: the tiled JAX peers need a multiple of {tile}")
    X, kind = jnp.asarray(task.X), task.U.dtype
    halves = (_jax_one if C == 1 else _jax_many)(jax, X, jnp.asarray(task.y), C, m, n)

    @partial(jax.jit, donate_argnums=(0, 1))
    def one(U: Any, w: Any, key: Any) -> tuple[Any, Any]:
        Ut, wt = U.reshape(m // tile, tile, d), w.reshape(m // tile, tile, *w.shape[1:])
        zero = jnp.zeros(n if C == 1 else (n, C), kind)
        f = jax.lax.fori_loop(0, m // tile, lambda k, a: a + halves[0](Ut[k], wt[k]), zero)
        r = halves[1](f)
        Un, wn = jax.lax.map(lambda block: halves[2](r, *block), (Ut, wt))
        a, b = jax.random.split(key)
        Un = Un.reshape(m, d) + kind.type(noise) * jax.random.normal(a, (m, d), kind)
        return Un, wn.reshape(w.shape) + kind.type(noise) * jax.random.normal(b, w.shape, kind)

    held = [jnp.array(task.U), jnp.array(task.w[:, 0] if C == 1 else task.w)]
    key = [jax.random.key(0, impl=bits)]

    def step() -> None:
        key[0], used = jax.random.split(key[0])
        held[:] = one(*held, used)
        held[0].block_until_ready()

    return step, lambda: (np.asarray(held[0]), np.asarray(held[1]).reshape(m, C))


def _jax_one(jax: Any, X: Any, y: Any, C: int, m: int, n: int) -> tuple[Callable, Callable, Callable]:
    jnp = jax.numpy

    def move(r: Any, Ub: Any, wb: Any) -> tuple[Any, Any]:
        G = jnp.where(Ub @ X.T > 0, r, 0.0) @ X
        return Ub - ETA * (wb[:, None] * G + 2 * REG * Ub), wb - ETA * ((G * Ub).sum(1) + 2 * REG * wb)

    return lambda U, w: w @ jnp.maximum(U @ X.T, 0), lambda f: -y * jax.nn.sigmoid(-y * f / m) / n, move


def _jax_many(jax: Any, X: Any, y: Any, C: int, m: int, n: int) -> tuple[Callable, Callable, Callable]:
    jnp = jax.numpy
    target = jax.nn.one_hot(y, C, dtype=X.dtype)

    def move(r: Any, Ub: Any, wb: Any) -> tuple[Any, Any]:
        A = jnp.maximum(Ub @ X.T, 0)
        S = jnp.where(A > 0, wb @ r.T, 0.0)
        return Ub - ETA * (S @ X + 2 * REG * Ub), wb - ETA * (A @ r + 2 * REG * wb)

    return lambda U, w: jnp.maximum(U @ X.T, 0).T @ w, lambda f: (jax.nn.softmax(f / m) - target) / n, move


def _by_outputs(one: Callable[..., Peer], many: Callable[..., Peer], **options: Any) -> Callable[[Task], Peer]:
    return lambda task: (one if task.w.shape[1] == 1 else many)(task, **options)


PEERS: dict[str, Callable[..., Peer]] = {
    "numpy-tiled": _by_outputs(numpy_one, numpy_many),
    "torch": _by_outputs(torch_one, torch_many),
    "torch-tiled": _by_outputs(torch_one, torch_many, tile=TILE),
    "jax": jax_step,
    "jax-tiled": partial(jax_step, tile=JAX_TILE),
    "jax-tiled-rbg": partial(jax_step, tile=JAX_TILE, bits="rbg"),
}


def normals(name: str, count: int, dtype: str = "float32") -> Callable[[], object]:
    """A function that fills `count` standard normals by the generator of this peer."""
    if name.startswith("torch"):
        import torch

        filled = torch.empty(count, dtype=getattr(torch, dtype))
        return filled.normal_
    if name.startswith("jax"):
        import jax

        jax.config.update("jax_enable_x64", dtype == "float64")
        key = jax.random.key(0, impl="rbg" if name.endswith("rbg") else "threefry2x32")
        draw = jax.jit(lambda key: jax.random.normal(key, (count,), dtype))
        return lambda: draw(key).block_until_ready()
    out = np.empty(count, dtype)
    rng: Any = np.random.default_rng(1)  # whose stubs take the name of a dtype only as a literal
    return lambda: rng.standard_normal(out=out, dtype=dtype)


def matrix_product(size: int, dtype: str = "float32") -> Callable[[], object]:
    a = np.random.default_rng(0).random((size, size)).astype(dtype)
    out = np.empty_like(a)
    return lambda: np.matmul(a, a, out=out)


def repeated(step: Callable[[], object]) -> Turn:
    """A turn: `count` timed calls of `step` after one that warms up; seconds of each call."""

    def turn(count: int) -> list[float]:
        step()
        stamps = [time.perf_counter()]
        for _ in range(count):
            step()
            stamps.append(time.perf_counter())
        return list(np.diff(stamps))

    return turn


def make_turn(name: str, spec: dict[str, Any]) -> Turn:
    """What a peer is asked to do, as a turn; `spec` is {"task": "step" | "normals" | "product", …}."""
    sizes = {key: value for key, value in spec.items() if key not in ("task", "threads")}
    if name.startswith("torch"):
        import torch

        torch.set_num_threads(spec["threads"])
    if spec["task"] == "step":
        return repeated(PEERS[name](make_task(**sizes))[0])
    return repeated(normals(name, **sizes) if spec["task"] == "normals" else matrix_product(**sizes))


def serve(make: Callable[[dict[str, Any]], Turn]) -> None:
    """Answer requests, one JSON object a line, until the input ends: {"make": spec} by {} or {"missing": why}, and
    {"turn": count} by {"seconds": […]}. Whatever a library prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    turn: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "make" in request:
                turn = None  # frees the memory of the one before
                turn = make(request["make"])
                answer: dict[str, Any] = {}
            else:
                answer = {"seconds": [float(s) for s in turn(request["turn"])]}
        except Exception as error:  # whatever goes wrong there is the asker's to judge
            answer = {"missing": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
        print(json.dumps(answer), file=answers)


def check(options: argparse.Namespace) -> None:
    """Largest difference of any weight from NumPy's, after three steps without noise."""
    for outputs in (1, 10):
        task = replace(make_task(4096, 64, 7, outputs, options.dtype), tau=0.0)
        expected = None
        for name in PEERS:
            try:
                step, state = PEERS[name](task)
            except ImportError as error:
                print(f"{outputs:2d} outputs  {name:14s} missing: {error}")
                continue
            for _ in range(3):
                step()
            found = np.concatenate(state(), axis=1)
            expected = found if expected is None else expected
            worst = np.abs(found - expected).max()
            print(f"{outputs:2d} outputs  {name:14s} differs from NumPy by at most {worst:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("m", 65536), ("n", 512), ("d", 20), ("outputs", 1), ("reps", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--serve", metavar="PEER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        with contextlib.suppress(BrokenPipeError):
            serve(partial(make_turn, options.serve))
        return
    if options.check:
        check(options)
        return
    spec = {name: getattr(options, name) for name in ("m", "n", "d", "outputs", "dtype", "threads")}
    for name in options.peers:
        try:
            seconds = make_turn(name, {"task": "step", **spec})(options.reps)
        except ImportError as error:
            print(f"{name:14s} missing: {error}")
            continue
        rate = useful_flops(options.m, options.n, options.d, options.outputs) / np.median(seconds) / 1e9
        print(f"{name:14s} {1e3 * np.median(seconds):9.2f} ms (min {1e3 * min(seconds):.2f})  {rate:7.1f} GFLOP/s")


if __name__ == "__main__":
    main()
