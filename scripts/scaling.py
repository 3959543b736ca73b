"""How the n that a test error takes grows with d: an exponent with its interval, and d log d against d.

The estimator. For each d the *threshold* is the n from which the error, averaged over the draws, stays at most `level`,
interpolated linearly in log n between the sizes around it. The exponent is the slope of log threshold over log d, by
least squares. What its interval contains, by a bootstrap of two levels with 95 % between its percentiles:

- the errors: the mean error is one of few draws, so that draws are resampled, as whole curves, since the sets of one
  draw contain each other;
- the sizes: between two sizes only that the error falls somewhere is known, so that each replicate has its threshold
  anywhere between them, uniformly in log n;
- the dimensions: no power law is exact over the d there are, so that these are resampled too, at least three of them.

The alternative. With the variances of the first two, ½ Σ (log n_d − model)²/s_d², minimized over a factor, is −log of a
likelihood; `preference` is that of d^p log d over that of d^p, its logarithm. Below 2 in size the data do not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Curves = Mapping[int, tuple[np.ndarray, np.ndarray]]  # d -> (sizes (k,), errors (k, draws))
TOLD = 2.0  # of a log-likelihood: a factor of seven


class Growth(NamedTuple):
    """`thresholds`: d -> (n, low, high); `slope`, between `low` and `high`; `preference` for d^p log d over d^p.

    `draws`: the fewest and the most at any d.
    """

    thresholds: dict[int, tuple[float, ...]]
    slope: float
    low: float
    high: float
    preference: float
    power: float
    draws: tuple[int, int]

    @property
    def verdict(self) -> str:
        """Of the exponent that is claimed; "consistent with" only where the interval holds it."""
        if not np.isfinite(self.low + self.high):
            return "no interval"
        if self.low <= self.power <= self.high:
            return f"consistent with {self.power}"
        return f"{'above' if self.low > self.power else 'below'} {self.power}"

    @property
    def alternative(self) -> str:
        """Which of d^p and d^p log d the data prefer, if they do."""
        plain = "d" if self.power == 1 else f"d^{self.power}"
        if not abs(self.preference) >= TOLD:
            return f"{plain} and {plain} log d not told apart"
        kept, left = (f"{plain} log d", plain) if self.preference > 0 else (plain, f"{plain} log d")
        return f"{kept} rather than {left}"


def crossing(sizes: np.ndarray, errors: np.ndarray, level: float, part: np.ndarray | None = None) -> np.ndarray:
    """The n from which errors (…, k) at increasing sizes (k,) stay at most `level`; NaN if they do not get there.

    NaN too where the first size is already enough. `part` (…): where between the sizes around it, in log n, instead of
    by linear interpolation.
    """
    errors, logs = np.asarray(errors, dtype=float), np.log(np.asarray(sizes, dtype=float))
    above = errors > level
    k = errors.shape[-1]
    i = k - 1 - np.argmax(above[..., ::-1], axis=-1)
    valid = above.any(axis=-1) & (i < k - 1)
    i = np.minimum(i, k - 2)
    left, right = (np.take_along_axis(errors, (i + j)[..., None], axis=-1)[..., 0] for j in (0, 1))
    if part is None:
        part = (left - level) / np.where(left > right, left - right, 1.0)
    return np.where(valid, np.exp((1 - part) * logs[i] + part * logs[i + 1]), np.nan)


def slopes(logs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Least squares of values (…, D) over logs (…, D), without NaN; NaN below three different points."""
    good = np.isfinite(values)
    count = np.maximum(good.sum(axis=-1, keepdims=True), 1)
    x, y = np.where(good, logs, 0.0), np.where(good, values, 0.0)
    x, y = (np.where(good, one - one.sum(axis=-1, keepdims=True) / count, 0.0) for one in (x, y))
    ordered = np.sort(np.where(good, logs, np.finfo(float).max), axis=-1)
    different = 1 + ((ordered[..., 1:] < np.finfo(float).max) & (np.diff(ordered) > 0)).sum(axis=-1)
    square = (x * x).sum(axis=-1)
    enough = (different >= 3) & (square > 0)
    return np.where(enough, (x * y).sum(axis=-1) / np.where(enough, square, 1.0), np.nan)


def growth(found: Curves, power: float, level: float = 0.1, replicates: int = 2000, seed: int = 0) -> Growth:
    """The exponent of the threshold in d, held against `power`; how, is said above."""
    rng = np.random.default_rng(seed)
    dims = np.array(sorted(found))
    logs = np.log(dims)
    point = np.array([crossing(found[d][0], found[d][1].mean(axis=1), level) for d in dims])
    drawn = np.stack([_resampled(found, dims, level, replicates, rng) for _ in dims])  # a set of its own a slot
    with np.errstate(all="ignore"):
        every = np.log(drawn).reshape(-1, len(dims))
        ends = np.exp(np.nanpercentile(every, [2.5, 97.5], axis=0)) if len(every) else np.full((2, len(dims)), np.nan)
        preference = _preference(logs, np.log(point), np.nanvar(every, axis=0), power)
    slots, picked = np.arange(len(dims)), rng.integers(len(dims), size=(replicates, len(dims)))
    resampled = np.log(drawn[slots, np.arange(replicates)[:, None], picked])
    drawn_slopes = slopes(logs[picked], resampled)
    drawn_slopes = drawn_slopes[np.isfinite(drawn_slopes)]
    low, high = np.percentile(drawn_slopes, [2.5, 97.5]) if len(drawn_slopes) else (np.nan, np.nan)
    draws = [errors.shape[1] for _, errors in found.values()]
    return Growth(
        {int(d): tuple(ends) for d, *ends in zip(dims, point.tolist(), *ends.tolist(), strict=True)},
        float(slopes(logs, np.log(point))),
        float(low),
        float(high),
        preference,
        power,
        (min(draws), max(draws)),
    )


def _resampled(found: Curves, dims: np.ndarray, level: float, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Thresholds (replicates, D) of resampled draws, each anywhere between the sizes around it."""
    columns = []
    for d in dims:
        sizes, errors = found[d]
        draws = errors.shape[1]
        shares = rng.multinomial(draws, np.full(draws, 1 / draws), size=replicates) / draws
        columns.append(crossing(sizes, shares @ errors.T, level, rng.random(replicates)))
    return np.stack(columns, axis=1)


def _preference(logs: np.ndarray, values: np.ndarray, variances: np.ndarray, power: float) -> float:
    """log-likelihood of d^p log d less that of d^p, each with its best factor; NaN below three points."""
    good = np.isfinite(values) & (variances > 0)
    if good.sum() < 3:
        return float("nan")
    weights = 1 / variances[good]

    def cost(model: np.ndarray) -> float:
        rest = values[good] - model
        rest = rest - (weights @ rest) / weights.sum()
        return 0.5 * float(weights @ rest**2)

    plain = power * logs[good]
    return cost(plain) - cost(plain + np.log(logs[good]))
