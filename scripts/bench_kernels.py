#!/usr/bin/env python3
"""Measure the kernels: speed | tile | memory | path | large. Prints medians and ratios, each taken within one run.

speed      Gram matrix of n 10,000, d 20, against the same formula in NumPy, scikit-learn style and (if there) JAX
tile       K v in tiles that are dropped, n 4,096, against the matrix product alone, one thread's own time
memory     peak resident memory of making it, over the size of the matrix
path       50 values of reg against single solves, and what takes the time, n 1,000, 2,000, 4,000, of one thread
large      n 20,000, d 80: Gram, ridge, 10,000 test points, against n³/3 operations at matrix-product speed
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg.lapack import dsytrd

from meanfield.kernels import ReluKernel, Ridge, RidgePath, paper_data, reg_path, relu_ntk
from meanfield.kernels.solve import margins
from meanfield.kernels.tiles import TILE
from meanfield.kernels.tridiagonal import Tridiagonal
from meanfield.runtime.threads import single_threaded_blas


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def medians(functions: Mapping[str, Callable[..., object]], rounds: int) -> dict[str, float]:
    """Median seconds of each function, the rounds interleaved so that a busy moment hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(timed(function)[0])
    return {name: float(np.median(values)) for name, values in times.items()}


def least(functions: Mapping[str, Callable[..., object]], rounds: int) -> dict[str, float]:
    """The least of the processor's seconds, which other programs disturb least, on one thread."""
    times = dict.fromkeys(functions, np.inf)
    with single_threaded_blas():
        for _ in range(rounds):
            for name, function in functions.items():
                start = time.process_time()
                function()
                times[name] = min(times[name], time.process_time() - start)
    return times


def numpy_ntk(X: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(X, axis=1)
    scale, products = np.outer(norms, norms), X @ X.T
    theta = np.arccos(np.clip(products / scale, -1, 1))
    kappa1 = (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / np.pi
    return scale * kappa1 / 2 + products * (1 - theta / np.pi) / 2


def sklearn_style_ntk(X: np.ndarray) -> np.ndarray:
    """Chunks of rows by scikit-learn's helpers, in-place functions, √(1 − c²) for the sine."""
    from sklearn.metrics.pairwise import cosine_similarity
    from sklearn.utils import gen_batches

    norms, K = np.linalg.norm(X, axis=1), np.empty((len(X), len(X)))
    for rows in gen_batches(len(X), 256):
        c = np.clip(cosine_similarity(X[rows], X), -1, 1)
        rest = np.arccos(c)
        np.subtract(np.pi, rest, out=rest)
        rest *= c
        rest *= 2
        np.multiply(c, c, out=c)
        np.subtract(1, c, out=c)
        np.sqrt(c, out=c)
        c += rest
        c *= norms[rows, None] / (2 * np.pi)
        np.multiply(c, norms, out=K[rows])
    return K


def jax_ntk() -> Callable[[np.ndarray], Any] | None:
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    jax.config.update("jax_enable_x64", True)

    @jax.jit
    def ntk(X: Any) -> Any:
        norms = jnp.linalg.norm(X, axis=1)
        c = jnp.clip(X @ X.T / (norms[:, None] * norms), -1, 1)
        rest = jnp.pi - jnp.arccos(c)
        return norms[:, None] * norms * (jnp.sqrt(1 - c * c) + 2 * rest * c) / (2 * jnp.pi)

    return lambda X: ntk(X).block_until_ready()


def neural_tangents_ntk() -> Callable[[np.ndarray], Any] | None:
    """Of the same network, up to a factor."""
    try:
        import jax
        from neural_tangents import stax
    except ImportError:
        return None
    jax.config.update("jax_enable_x64", True)
    kernel = stax.serial(stax.Dense(1), stax.Relu(), stax.Dense(1))[2]
    ntk = jax.jit(lambda X: kernel(X, None, "ntk"))
    return lambda X: np.asarray(ntk(X))


def speed() -> None:
    X = np.random.default_rng(0).normal(size=(10_000, 20))
    peers = {
        "meanfield": relu_ntk,
        "NumPy": numpy_ntk,
        "scikit-learn style": sklearn_style_ntk,
        "JAX": jax_ntk(),
        "matrix product alone": lambda X: X @ X.T,
    }
    functions = {name: (lambda f=f: f(X)) for name, f in peers.items() if f}
    for function in functions.values():
        function()
    times = medians(functions, 5)
    for name, seconds in times.items():
        print(f"{name:22s} {seconds:7.3f} s  {seconds / times['meanfield']:6.2f} x meanfield")
    if not peers["JAX"]:
        print("JAX                    not installed here")


def tile(n: int = 4096, rounds: int = 7) -> None:
    from sklearn.metrics.pairwise import polynomial_kernel

    kernel, neural_tangents = ReluKernel(), neural_tangents_ntk()
    for d in (20, 80, 300):
        X = np.random.default_rng(0).normal(size=(n, d))
        single, v = X.astype(np.float32), X[:, 0].copy()
        functions: dict[str, Callable[[], object]] = {
            "product alone, float64": partial(product_in_tiles, X),
            "product alone, float32": partial(product_in_tiles, single),
            "ours, float64": partial(kernel.dot, X, X, v, threads=1),
            "ours, float32": partial(kernel.dot, X, X, v, products="float32", threads=1),
            "NumPy, the matrix whole": partial(matrix_times, numpy_ntk, X, v),
            "scikit-learn, polynomial of degree 3": partial(matrix_times, polynomial_kernel, X, v),
        }
        if neural_tangents is not None:
            functions["neural-tangents, the matrix whole"] = partial(matrix_times, neural_tangents, X, v)
        times = least(functions, rounds)
        for name, seconds in times.items():
            alone = times["product alone, float32" if "float32" in name else "product alone, float64"]
            print(f"d {d:3d}  {name:38s} {1e9 * seconds / n**2:6.2f} ns a pair  {seconds / alone:6.2f} x product alone")


def matrix_times(kernel: Callable[[np.ndarray], np.ndarray], X: np.ndarray, v: np.ndarray) -> np.ndarray:
    return kernel(X) @ v


def product_in_tiles(X: np.ndarray) -> None:
    out = np.empty((TILE, TILE), X.dtype)
    for i in range(0, len(X), TILE):
        for j in range(0, len(X), TILE):
            np.matmul(X[i : i + TILE], X[j : j + TILE].T, out=out)


def memory() -> None:
    code = (
        "import resource, numpy as np; from meanfield.kernels import relu_ntk\n"
        "X = np.random.default_rng(0).normal(size=(10_000, 20)); relu_ntk(X[:600])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; K = relu_ntk(X)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / K.nbytes)"
    )
    peak = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    print(f"peak memory / Gram matrix: {float(peak):.3f}")


def product_speed(size: int = 4096, rounds: int = 3) -> float:
    """Operations a second of A @ B, float64. (A @ A.T would be a rank update, which counts each product twice.)"""
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(2, size, size))
    return 2 * size**3 / min(timed(np.matmul, A, B)[0] for _ in range(rounds))


def path() -> None:
    for n in (1000, 2000, 4000):
        X = np.random.default_rng(0).normal(size=(n, 20))
        y, K = np.sign(X[:, 0] * X[:, 1]), relu_ntk(X)
        reg, regs, reduced = 1e-6 * np.trace(K), reg_path(K), Tridiagonal(K)
        functions: dict[str, Callable[..., object]] = {
            "50 values, leave-one-out at each": lambda K=K, y=y: RidgePath().fit(K, y),
            "1 value, leave-one-out": lambda K=K, y=y, reg=reg: Ridge(reg).fit(K, y).leave_one_out(),
            "1 value": lambda K=K, y=y, reg=reg: Ridge(reg).fit(K, y),
            "1 value by the path's solver": lambda K=K, y=y, reg=reg: RidgePath([reg]).fit(K, y),
            "of the path: the reduction, with Q": lambda K=K: Tridiagonal(K),
            "the reduction alone": lambda K=K: dsytrd(K.T, lower=1, lwork=64 * len(K)),
            "of the path: all 50 solutions": lambda r=reduced, y=y, regs=regs: r.coefficients(y[:, None], regs),
            "of the path: their leave-one-outs": lambda r=reduced, regs=regs: r.inverse_diagonals(regs),
            "matrix product, n³": lambda K=K: K @ K[::-1],
        }
        times = least(functions, 3)
        for name, seconds in times.items():
            print(
                f"n {n:4d}  {name:34s} {seconds:7.3f} s; the path costs {next(iter(times.values())) / seconds:6.2f} "
                "of these",
                flush=True,
            )


def large(n: int = 20_000, d: int = 80, n_test: int = 10_000) -> None:
    X, y = paper_data(n, d)
    Z, y_test = paper_data(n_test, d, seed=1)
    kernel, reg = ReluKernel(), 1e-3
    kernel.gram(X[:600])
    print(f"n {n}, d {d}, load average {os.getloadavg()[0]:.1f}, {len(os.sched_getaffinity(0))} processors")
    before = product_speed()
    gram, K = timed(kernel.gram, X)
    factor, fit = timed(lambda: Ridge(reg).fit(K, y, overwrite=True))
    predict, scores = timed(kernel.dot, Z, X, fit.coef)
    speed = max(before, product_speed())
    limit, total = n**3 / 3 / speed, gram + factor + predict
    print(f"Gram {gram:.1f} s, ridge {factor:.1f} s, {n_test} predictions {predict:.1f} s, together {total:.1f} s")
    print(
        f"matrix product A @ B {speed / 1e9:.0f} GFLOP/s (the better of before and after), at which the n³/3 "
        f"operations of Cholesky take {limit:.1f} s"
    )
    print(f"ridge alone {factor / limit:.2f} x that, the whole {total / limit:.2f} x")
    print(
        f"test error {(margins(scores, y_test) <= 0).mean():.4f}; peak memory of the process "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "tile", "memory", "path", "large"])
    globals()[parser.parse_args().what]()
