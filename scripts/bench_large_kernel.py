#!/usr/bin/env python3
"""A kernel ridge on the paper's data without its matrix: time, resident memory, iterations; adds a line to a table.

    python scripts/bench_large_kernel.py --n 10000                           # d 300, float32 products, all threads
    python scripts/bench_large_kernel.py --n 100000 --ranks 2 --threads 1    # the same bits by two MPI ranks
    python scripts/bench_large_kernel.py --n 1000000 --d 20 --centres 10000  # on centres
    python scripts/bench_large_kernel.py --n 10000 --dense                   # with the matrix, and how far from it
    python scripts/bench_large_kernel.py --figure                            # of the lines at d 300, without centres

Seconds are those of the fit, by the clock and of all processors, and of 10,000 predictions; the load is the machine's
as it ends; memory is the peak of the resident memory of a process, of the rank where it is largest, the interpreter and
its libraries included. With --dense the same system is solved by Cholesky factor as well, and with --whole FILE without
centres; the relative distance of predictions is printed and kept. A solve with --out that was stopped goes on by the
same command; its FILE serves --whole.
"""

import argparse
import csv
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from meanfield.kernels import (
    ConjugateGradients,
    IterativeRidge,
    NystromRidge,
    ReluKernel,
    Ridge,
    StreamedCentres,
    StreamedGram,
    paper_data,
)
from meanfield.kernels.solve import margins
from meanfield.runtime.communicator import world
from meanfield.runtime.threads import default_threads

TABLE = Path(__file__).resolve().parents[1] / "data" / "results" / "large_kernel.csv"
COLUMNS = (
    "n", "d", "reg", "rank", "centres", "products", "tolerance", "ranks", "threads", "iterations", "residual",
    "fit_seconds", "fit_cpu_seconds", "predict_seconds", "peak_gib", "test_error", "away_from_whole", "load",
)  # fmt: skip


def fit(arguments: argparse.Namespace) -> dict[str, object]:
    """One fit, as a row of the table; on every rank."""
    ranks, kernel = world(), ReluKernel()
    X, y = paper_data(arguments.n, arguments.d)
    Z, y_test = paper_data(arguments.n_test, arguments.d, seed=1)
    kernel.dot(Z[:300], X[:300], y[:300], products=arguments.products)  # compiled beforehand
    method = how(arguments, arguments.out)
    start, processor = time.perf_counter(), time.process_time()
    ridge: IterativeRidge | NystromRidge
    if arguments.centres:
        centres = StreamedCentres(X, arguments.centres, threads=arguments.threads, ranks=ranks)
        ridge, points = NystromRidge(arguments.reg, method).fit(centres, y), centres.centres
    else:
        gram = StreamedGram(X, threads=arguments.threads, ranks=ranks)
        ridge, points = IterativeRidge(arguments.reg, method).fit(gram, y), X
    fitted, used = time.perf_counter(), sum(ranks.gather(time.process_time() - processor))
    scores = kernel.dot(Z, points, ridge.coef, threads=arguments.threads)
    predicted = time.perf_counter()
    peak = max(ranks.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)) / 2**20
    return {
        **{name: getattr(arguments, name) for name in ("n", "d", "reg", "rank", "centres", "products", "tolerance")},
        "ranks": ranks.size, "threads": arguments.threads or default_threads(),
        "iterations": ridge.iterations, "residual": f"{ridge.residual:.1e}",
        "fit_seconds": f"{fitted - start:.1f}", "fit_cpu_seconds": f"{used:.1f}",
        "predict_seconds": f"{predicted - fitted:.1f}",
        "peak_gib": f"{peak:.2f}", "test_error": f"{(margins(scores, y_test) <= 0).mean():.4f}",
        "away_from_whole": f"{away(arguments, X, y, Z, scores):.1e}" if arguments.dense or arguments.whole else "",
        "load": f"{os.getloadavg()[0]:.1f}",
    }  # fmt: skip


def how(arguments: argparse.Namespace, out: str | None) -> ConjugateGradients:
    return ConjugateGradients(
        rank=arguments.rank, tolerance=arguments.tolerance, products=arguments.products, out=out, progress=True
    )


def away(arguments: argparse.Namespace, X: np.ndarray, y: np.ndarray, Z: np.ndarray, scores: np.ndarray) -> float:
    """Relative distance of predictions from those of the whole ridge, by Cholesky factor or without the matrix."""
    kernel, start, threads = ReluKernel(), time.perf_counter(), arguments.threads
    whole: Ridge | IterativeRidge
    if arguments.dense:
        whole = Ridge(arguments.reg).fit(kernel.gram(X, threads=threads), y, overwrite=True)
    else:
        whole = IterativeRidge(arguments.reg, how(arguments, arguments.whole)).fit(StreamedGram(X, threads=threads), y)
    print(f"the whole ridge: {time.perf_counter() - start:.1f} s")
    expected = kernel.dot(Z, X, whole.coef, threads=threads)
    return float(np.linalg.norm(scores - expected) / np.linalg.norm(expected))


def keep(row: dict[str, object]) -> None:
    """Add the row to the table."""
    new = not TABLE.exists()
    with TABLE.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def figure() -> None:
    """Seconds of the processors, peak memory and iterations against n, of the first line of each n at d 300."""
    import claims

    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["d"], row["centres"], row["ranks"]) == ("300", "0", "1")]
    rows = sorted({row["n"]: row for row in reversed(rows)}.values(), key=lambda row: int(row["n"]))
    n = np.array([int(row["n"]) for row in rows])
    drawn, axes = claims.page(3)
    shown = {"fit_cpu_seconds": "processors' seconds", "peak_gib": "peak memory, GiB", "iterations": "iterations"}
    for ax, (name, label) in zip(axes, shown.items(), strict=True):
        values = np.array([float(row[name]) for row in rows])
        ax.plot(n, values, "o-", label="without the matrix")
        if name == "fit_cpu_seconds":
            ax.plot(n, values[0] * (n / n[0]) ** 2, ":", color="grey", label="n²")
        if name == "peak_gib":
            ax.plot(n, 8 * n**2 / 2**30, ":", color="grey", label="the matrix, 8 n² bytes")
        ax.set(xscale="log", yscale="linear" if name == "iterations" else "log", xlabel="n", ylabel=label)
        if name != "iterations":
            ax.legend()
    axes[2].set_ylim(bottom=0)
    claims.save(drawn, "large_kernel", claims.Options())


def under_mpi(arguments: argparse.Namespace) -> int:
    """This script once more, as so many ranks."""
    beside = Path(sys.executable).parent / "mpiexec"
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    if launcher is None:
        raise SystemExit("--ranks needs mpiexec: pip install mpich, or a system's MPI")
    environment = {**os.environ, "BENCH_LARGE_KERNEL_RANKS": str(arguments.ranks)}
    line = [launcher, "-n", str(arguments.ranks), sys.executable, __file__, *sys.argv[1:]]
    return subprocess.run(line, env=environment, check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--d", type=int, default=300)
    parser.add_argument("--reg", type=float, default=1.0)
    parser.add_argument("--rank", type=int, default=ConjugateGradients.rank)
    parser.add_argument("--centres", type=int, default=0)
    parser.add_argument("--products", choices=["float64", "float32"], default="float32")
    parser.add_argument("--tolerance", type=float, default=ConjugateGradients.tolerance)
    parser.add_argument("--n-test", type=int, default=10_000)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of a rank; by default the cores there are, shared fairly")
    parser.add_argument("--out", help="file from which a solve that was stopped goes on")
    parser.add_argument("--dense", action="store_true", help="hold it against the ridge with the matrix, 8 n² bytes")
    parser.add_argument("--whole", metavar="FILE", help="hold it against the ridge without centres; its solve's file")
    parser.add_argument("--figure", action="store_true", help="draw the table, and do nothing else")
    parser.add_argument("--no-table", action="store_true", help="only print")
    arguments = parser.parse_args()
    if arguments.figure:
        return figure()
    if arguments.ranks > 1 and "BENCH_LARGE_KERNEL_RANKS" not in os.environ:
        raise SystemExit(under_mpi(arguments))
    row = fit(arguments)
    if world().leads:
        print(f"{len(os.sched_getaffinity(0))} processors")
        print(", ".join(f"{name} {value}" for name, value in row.items() if value != ""))
        if not arguments.no_table:
            keep(row)


if __name__ == "__main__":
    main()
