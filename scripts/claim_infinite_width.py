#!/usr/bin/env python3
"""The infinite-width limit is reached: Langevin particles against the Gibbs measure that minimizes the free energy.

    python scripts/claim_infinite_width.py relaxation   predictions approach those of the limit as the run goes on
    python scripts/claim_infinite_width.py snapshots    one state of the particles: errors fall like 1/√m
    python scripts/claim_infinite_width.py averages     time averages: a bias like 1/m, and that of the step size
    python scripts/claim_infinite_width.py boundary     where no minimizer exists, a few particles carry the network

The reference is `exact.gibbs`, Newton's method on n numbers with quadrature on the circle: nothing of it is simulated.
Time is counted in 2λt, the number of relaxation times 1/(2λ) of the ℓ2 term. Data in the plane: n Gaussian inputs, for
n = 8 with fixed labels, for more with the sign of x₁x₂; λ = 10⁻². `--fast` (default) takes about 15 minutes on two
cores, `--full` hours: more seeds, longer averages, more particles.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any

import claims
import numpy as np

from meanfield import Ensemble, Langevin, Problem, exact
from meanfield.datasets.load import load_dataset
from meanfield.dynamics import Field
from meanfield.engine.engine import Moments
from meanfield.optimality.free_energy_gap import certify_free_energy
from meanfield.optimality.sphere_ascent import climb, random_starts
from meanfield.simulation.config import Data

REG = 1e-2
EVERY = 5  # steps between the states averaged: much less than their memory
BURN = 10.0  # in 2λt: more than twice what the predictions need to come as close as they ever do, see `relaxation`
LABELS = {
    ("plane", "hundredth"): (100, 0.115),
    ("plane", "thousandth"): (100, 0.03),
    ("xor", "hundredth"): (11, 0.55),
    ("xor", "thousandth"): (130, 0.155),
}  # where `boundary` names its curves
TIMES = (10, 20, 40, 80, 160, 320, 640)  # of `boundary`, in 2λt
MEASURED = ("objective", "along", "virial", "predictions")  # by `averages`
TEMPERATURES = (3e-3, 3e-2, 1e-1)


def plane(n: int, temperature: float) -> Problem:
    """The problem in the plane with n examples."""
    X = np.random.default_rng(0).standard_normal((n, 2))
    y = np.array([1, -1, 1, -1, -1, 1, 1, -1]) if n == 8 else np.sign(X[:, 0] * X[:, 1])
    return Problem(X, y, reg=REG, temperature=temperature)


@cache
def reference(n: int, temperature: float) -> tuple[np.ndarray, float, float, float]:
    """(predictions (n, 1), objective, free energy, min q) of the exact minimizer.

    Its ∫‖θ‖² follows from the virial: Φ is homogeneous of degree 2, so ⟨a, f⟩ + λ∫‖θ‖² = τ(d + C)/2.
    """
    problem = plane(n, temperature)
    found = exact.gibbs(problem)
    assert found.attained
    assert found.f is not None
    assert found.free_energy is not None
    risk = problem.loss.value(found.f, problem.targets)
    penalty = temperature * (problem.d + problem.outputs) / 2 - float(np.sum(found.a * found.f))
    return found.f, risk + penalty, found.free_energy, found.min_q


class Simulation:
    """Particles of a problem, run to given times; `moments` are those of the present state."""

    def __init__(self, problem: Problem, m: int, step_size: float, seed: int, dtype: str = "float32") -> None:
        self.problem, self.rate = problem, 2 * problem.reg.end
        self.ensemble = Ensemble.sphere(m, problem.d, seed=seed, dtype=dtype)
        self.field, self.dynamics = Field(problem, self.ensemble.dtype), Langevin(step_size=step_size)
        self.moments = self.field.predict(self.ensemble)

    def until(self, time: float) -> Iterator[Moments]:
        """Yield the moments of every state until 2λt has reached `time`."""
        while self.ensemble.time * self.rate < time * (1 - 1e-9):
            self.moments = self.dynamics.step(self.field, self.ensemble, self.moments)
            yield self.moments

    def advance(self, time: float) -> None:
        for _ in self.until(time):
            pass


def relative(f: np.ndarray, limit: np.ndarray) -> float:
    """‖f − f*‖/‖f*‖."""
    return float(np.linalg.norm(f - limit) / np.linalg.norm(limit))


def relaxation_cell(n: int, temperature: float, m: int, seed: int) -> dict[str, Any]:
    """Relative error of the predictions at 2λt = 0, 1, … 16, from the unit sphere."""
    limit, *_ = reference(n, temperature)
    run = Simulation(plane(n, temperature), m, 0.5, seed)
    errors = {}
    for time in range(17):
        run.advance(time)
        errors[f"at_{time}"] = relative(run.moments.f, limit)
    return errors


def snapshot_cell(n: int, temperature: float, m: int, seed: int, snapshots: int = 10) -> dict[str, Any]:
    """Root mean squared errors of single states, two relaxation times apart, and the bracket of the free energy.

    below = F* − D(a) and above = F[Gibbs measure of a] − F*, for the residual a of a state: neither can be negative.
    """
    problem = plane(n, temperature)
    limit, _, energy, _ = reference(n, temperature)
    run = Simulation(problem, m, 0.5, seed)
    squares, below, above = [], [], []
    for k in range(snapshots):
        run.advance(BURN + 2 * k)
        squares.append(relative(run.moments.f, limit) ** 2)
        found = certify_free_energy(problem, run.ensemble)
        assert found.lower_bound is not None
        assert found.gap is not None
        below.append(energy - found.lower_bound)
        above.append(found.lower_bound + found.gap - energy)
    return {
        "predictions": math.sqrt(np.mean(squares)),
        "below": float(np.mean(below)),
        "above": float(np.mean(above)),
        "least": min(*below, *above),
    }


def average_cell(n: int, temperature: float, m: int, step_size: float, span: float, seed: int) -> dict[str, Any]:
    """Averages over `span` relaxation times after the burn-in, against the limit.

    objective: mean of L less that of the limit; predictions: relative error of their mean; along: its component along
    f*, signed; virial: (⟨r, f⟩ + λ∫‖θ‖²)/(τ(d + C)/2) − 1, zero on average at every m, but for the step size.
    """
    problem = plane(n, temperature)
    limit, objective, *_ = reference(n, temperature)
    run = Simulation(problem, m, step_size, seed, "float64")
    run.advance(BURN)
    f, count, value, virial = np.zeros_like(limit), 0, 0.0, 0.0
    for moments in islice(run.until(BURN + span), 0, None, EVERY):
        f, count = f + moments.f, count + 1
        value += problem.evaluate(moments.f, moments.second, REG).value
        virial += float(np.sum(run.field.residual(moments) * moments.f)) + REG * moments.second
    f, half = f / count, temperature * (problem.d + problem.outputs) / 2
    return {
        "objective": value / count - objective,
        "predictions": relative(f, limit),
        "along": float(np.sum(f * limit) / np.sum(limit * limit)) - 1,
        "virial": virial / count / half - 1,
    }


def boundary_cell(data: str, temperature: float, m: int, step_size: float, seed: int) -> dict[str, Any]:
    """At each of TIMES: the share of ∫‖θ‖² of the heaviest particle, 0.1 % and 1 % of them; and min q of the mean
    residual since the time before."""
    if data == "plane":
        problem = plane(8, temperature)
    else:
        found = load_dataset(Data(source="xor", n=60, d=8, n_test=1, seed=0))
        problem = Problem(found.X, found.y, reg=5e-3, temperature=temperature)
    run = Simulation(problem, m, step_size, seed)
    results = {}
    for time in TIMES:
        residuals = [run.field.residual(moments) for moments in run.until(time)]
        mean = np.mean(residuals, axis=0)
        peak = climb(problem.X, mean, random_starts(problem.X, 1000)).value[0]
        w, u = run.ensemble.w.astype(float), run.ensemble.u.astype(float)
        shares = np.cumsum(np.sort(np.sum(w * w, axis=1) + np.sum(u * u, axis=1))[::-1])
        shares /= shares[-1]
        for name, k in (("one", 1), ("thousandth", m // 1000), ("hundredth", m // 100)):
            results[f"{name}_{time}"] = float(shares[k - 1])
        results[f"q_{time}"] = float(1 - (peak / (2 * problem.reg.end)) ** 2)
    return results


def grouped(rows: list[dict[str, Any]], *names: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Rows by the values of the columns `names`, in the order met."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def statistics(rows: list[dict[str, Any]], name: str) -> tuple[float, float]:
    return claims.mean_and_error(row[name] for row in rows)


def relaxation(options: claims.Options) -> None:
    """Errors against time: exponential, then a floor of the size 1/√m; this is what the burn-in stands on."""
    seeds, widths = range(16 if options.full else 4), (1000, 100_000)
    rows = options.study("infinite_width_relaxation", relaxation_cell).run(
        {"n": n, "temperature": 3e-2, "m": m, "seed": seed} for n in (8, 40) for m in widths for seed in seeds
    )
    figure, (ax,) = claims.page(1)
    lines = []
    for i, ((n, m), group) in enumerate(grouped(rows, "n", "m").items()):
        times = np.arange(17)
        mean, error = np.transpose([statistics(group, f"at_{time}") for time in times])
        ax.errorbar(
            times,
            mean,
            error,
            color=claims.COLOURS[i // 2],
            marker=claims.MARKERS[i],
            ms=3,
            ls=claims.LINES[i % 2],
            label=f"$n = {n}$, $m = 10^{round(math.log10(m))}$",
        )
        lines.append((n, m, *(mean[k] for k in (2, 4, 8, 16))))
    claims.table(("n", "m", "2λt = 2", "4", "8", "16"), lines)
    ax.axvline(BURN, color="0.4", lw=0.8, ls=":")
    ax.text(BURN - 0.2, 0.25, "averages begin", fontsize=7.5, ha="right")
    ax.set(yscale="log", xticks=range(0, 17, 4))
    ax.set(xlabel=r"time $2\lambda t$", ylabel=r"error of predictions $\|f_\rho - f^*\| / \|f^*\|$")
    ax.legend()
    claims.save(figure, "infinite_width_relaxation", options)


def snapshots(options: claims.Options) -> None:
    """Error of single states and the free-energy bracket against m."""
    seeds, widths = range(32 if options.full else 4), (100, 1000, 10_000, 100_000)
    rows = options.study("infinite_width_snapshots", snapshot_cell).run(
        {"n": n, "temperature": tau, "m": m, "seed": seed}
        for n in (8, 40)
        for tau in TEMPERATURES
        for m in widths
        for seed in seeds
    )
    figure, axes = claims.page(2)
    lines = []
    for i, ((n, tau), group) in enumerate(grouped(rows, "n", "temperature").items()):
        by_width = grouped(group, "m")
        m = np.array([key[0] for key in by_width])
        look = {
            "color": claims.COLOURS[i % 3],
            "marker": claims.MARKERS[i % 3],
            "ls": claims.LINES[i // 3],
            "ms": 3.5,
            "mfc": "white" if i // 3 else None,
            "label": rf"$n = {n}$, $\tau = {tau:g}$",
        }
        measured = {
            name: np.transpose([statistics(part, name) for part in by_width.values()])
            for name in ("predictions", "below", "above")
        }
        for ax, name in zip(axes, ("predictions", "below"), strict=True):
            ax.errorbar(m, *measured[name], **look)
        slopes = [np.polyfit(np.log(m), np.log(measured[name][0]), 1)[0] for name in measured]
        lines.append(
            (
                n,
                tau,
                reference(n, tau)[3],
                *(
                    f"{mean:.2e} ± {error:.0e}"
                    for mean, error in (measured["predictions"].T[-1], measured["below"].T[-1])
                ),
                *slopes,
            )
        )
    m_last = f"at m = {widths[-1]}"
    claims.table(
        ("n", "τ", "min q", f"predictions {m_last}", f"F* − D {m_last}", "slopes: predictions", "below", "above"), lines
    )
    print(f"least F* − D(a) or F[a] − F* of all snapshots: {min(row['least'] for row in rows):.2e}")
    for ax, power, at, label in ((axes[0], -0.5, 4.0, r"$\propto 1/\sqrt{m}$"), (axes[1], -1.0, 2.0, r"$\propto 1/m$")):
        ax.plot(m, at * m**power, color="0.4", lw=0.8, label=label)
        ax.set(xscale="log", yscale="log", xlabel="particles $m$")
    axes[0].set(ylabel=r"error of one snapshot $\|f_\rho - f^*\| / \|f^*\|$", title="(a) predictions")
    axes[1].set(ylabel=r"$F_\tau^* - D(r)$", title="(b) free energy: lower bound by the residual")
    axes[0].legend(ncols=2, loc="lower left", columnspacing=0.8, handlelength=2.2, fontsize=6.5)
    axes[0].set(ylim=(1.2e-4, None))
    claims.save(figure, "infinite_width_snapshots", options)


def averages(options: claims.Options) -> None:
    """Biases of time averages against m at two step sizes, and extrapolated to step size zero."""
    seeds, steps, more = range(32 if options.full else 8), (0.8, 0.4), 20 if options.full else 1
    spans = {10: 200, 32: 200, 100: 200, 320: 200, 1000: 200, 10_000: 60, 100_000: 10}
    rows = options.study("infinite_width_averages", average_cell).run(
        {"n": n, "temperature": 0.1, "m": m, "step_size": eta, "span": span * more, "seed": seed}
        for n in (8, 40)
        for m, span in spans.items()
        for eta in steps
        for seed in seeds
    )
    figure, axes = claims.page(2, 2, height=2.4)
    lines, letters = [], iter("abcd")
    for row, ((n,), group) in zip(axes, grouped(rows, "n").items(), strict=True):
        for ax, name in zip(row, ("objective", "along"), strict=True):
            _draw_biases(ax, group, name, steps)
            title = {"objective": "objective", "along": "predictions, along $f^*$"}[name]
            ax.set(title=f"({next(letters)}) {title}, $n = {n}$", xlabel="particles $m$", ylim=(3e-5, 0.1))
        row[0].set(ylabel=r"$\overline{L} - L^*$")
        row[1].set(ylabel=r"$|\langle \overline{f} - f^*,\, f^* \rangle| \,/\, \|f^*\|^2$")
        for (m,), part in grouped(group, "m").items():
            for eta, chosen in (*((eta, at_step(part, eta)) for eta in steps), ("→ 0", extrapolated(part, steps))):
                means = (statistics(chosen, name) for name in MEASURED if name in chosen[0])
                lines.append((n, m, eta, *("{:.2e} ± {:.0e}".format(*one) for one in means)))
    claims.table(("n", "m", "η", *MEASURED), [line + ("",) * (3 + len(MEASURED) - len(line)) for line in lines])
    axes[0][0].legend()
    claims.save(figure, "infinite_width_averages", options)


def at_step(rows: list[dict[str, Any]], eta: float) -> list[dict[str, Any]]:
    return [row for row in rows if row["step_size"] == eta]


def extrapolated(rows: list[dict[str, Any]], steps: Sequence[float]) -> list[dict[str, Any]]:
    """2 e(η/2) − e(η), seed by seed: free of the part of the bias that is linear in η. Norms cannot be treated so."""
    coarse, fine = (at_step(rows, eta) for eta in steps)
    return [{name: 2 * b[name] - a[name] for name in MEASURED[:3]} for a, b in zip(coarse, fine, strict=True)]


def fitted(m: np.ndarray, mean: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, int]:
    """(A, b), their standard errors, χ² and degrees of freedom of e = A/m + b_η, weighted, means (η, m)."""
    k = len(mean)
    design = np.column_stack([np.tile(1 / m, k), np.kron(np.eye(k), np.ones((len(m), 1)))]) / error.reshape(-1, 1)
    covariance = np.linalg.inv(design.T @ design)
    solution = covariance @ design.T @ (mean / error).ravel()
    chi2 = float(np.sum((design @ solution - (mean / error).ravel()) ** 2))
    return solution, np.sqrt(np.diag(covariance)), chi2, design.shape[0] - k - 1


def _draw_biases(ax: Any, rows: list[dict[str, Any]], name: str, steps: Sequence[float]) -> None:
    """Means over seeds against m, the fit of 1/m and a constant for each step size, and the extrapolation to η = 0;
    means within two standard errors of zero as upper limits."""
    by_width = grouped(rows, "m")
    m, parts = np.array([key[0] for key in by_width], float), list(by_width.values())
    series = [(rf"$\eta = {eta}$", [at_step(part, eta) for part in parts]) for eta in steps]
    series.append((r"$\eta \to 0$", [extrapolated(part, steps) for part in parts]))
    table = np.array([[statistics(part, name) for part in chosen] for _, chosen in series])
    fit, errors, chi2, freedom = fitted(m, table[:-1, :, 0], table[:-1, :, 1])
    print(
        f"n = {rows[0]['n']}, {name} = A/m + b: A = {fit[0]:.3f} ± {errors[0]:.3f}, "
        + ", ".join(f"b({eta}) = {b:.2e} ± {e:.0e}" for eta, b, e in zip(steps, fit[1:], errors[1:], strict=True))
        + f", χ² = {chi2:.1f} of {freedom}"
    )
    fine = np.geomspace(m[0], m[-1], 200)
    for i, (label, _) in enumerate(series):
        (mean, error), colour = table[i].T, claims.COLOURS[i]
        clear, at, least = np.abs(mean) > 2 * error, m * 1.12 ** (i - 1), np.abs(mean) + 2 * error
        look = {"marker": claims.MARKERS[i], "mfc": "white" if i < 2 else None, "ms": 4, "label": label}
        ax.errorbar(at[clear], np.abs(mean[clear]), error[clear], color=colour, ls="none", **look)
        ax.errorbar(
            at[~clear], least[~clear], 0.3 * least[~clear], color=colour, uplims=True, ls="none", lw=0.8, capsize=1.5
        )
        constant = fit[1 + i] if i < 2 else 0.0
        ax.plot(
            fine,
            np.abs(fit[0] / fine + constant),
            color=colour if i < 2 else "0.4",
            lw=0.8,
            ls=claims.LINES[1 + i],
            label=None if i < 2 else "$A/m$",
        )
    ax.set(xscale="log", yscale="log")


def boundary(options: claims.Options) -> None:
    """Share of ∫‖θ‖² of few particles against time, where a minimizer exists and where none does."""
    m, seeds = (100_000, range(4)) if options.full else (10_000, range(3))
    rows = options.study("infinite_width_boundary", boundary_cell).run(
        {"data": data, "temperature": 1e-2, "m": m, "step_size": eta, "seed": seed}
        for data, eta in (("plane", 1.0), ("xor", 2.0))
        for seed in seeds
    )
    figure, axes = claims.page(2)
    names = {"plane": "plane, $d = 2$: minimizer known", "xor": "paper's data, $d = 8$: none found"}
    lines = []
    for i, ((data,), group) in enumerate(grouped(rows, "data").items()):
        for j, (part, text) in enumerate((("hundredth", "1 %"), ("thousandth", "0.1 %"))):
            mean, error = np.transpose([statistics(group, f"{part}_{time}") for time in TIMES])
            axes[0].errorbar(
                TIMES, mean, error, color=claims.COLOURS[i], marker=claims.MARKERS[2 * i + j], ms=4, ls=claims.LINES[j]
            )
            axes[0].text(*LABELS[data, part], f"{names[data].split(':')[0]}, {text}", fontsize=7.5)
            lines.append((data, text, *mean))
        mean, error = np.transpose([statistics(group, f"q_{time}") for time in TIMES[1:]])
        axes[1].errorbar(
            TIMES[1:],
            mean,
            error,
            color=claims.COLOURS[i],
            marker=claims.MARKERS[2 * i],
            ms=4,
            ls=claims.LINES[i],
            label=names[data],
        )
        lines.append((data, "min q", math.nan, *mean))
    claims.table(("data", "share of", *(f"2λt = {time}" for time in TIMES)), lines)
    axes[1].axhline(reference(8, 1e-2)[3], color="0.4", lw=0.8, ls=":")
    axes[1].axhline(0, color="k", lw=0.6)
    axes[0].set(
        xscale="log",
        xlabel=r"time $2\lambda t$",
        ylabel=r"share of $\int\|\theta\|^2\,d\rho$",
        ylim=(0, None),
        title="(a) mass of the heaviest particles",
    )
    axes[1].set(
        xscale="log",
        xlabel=r"time $2\lambda t$",
        ylabel=r"$\min q = 1 - (\max\|G_r\| / 2\lambda)^2$",
        title="(b) distance from the boundary",
    )
    for ax in axes:
        ax.set_xticks(TIMES, [str(time) for time in TIMES])
        ax.minorticks_off()
    axes[1].legend(loc="center right", bbox_to_anchor=(1.0, 0.64))
    axes[1].set(ylim=(None, 0.06))
    claims.save(figure, "infinite_width_boundary", options)


if __name__ == "__main__":
    claims.main(__doc__, {"relaxation": relaxation, "snapshots": snapshots, "averages": averages, "boundary": boundary})
