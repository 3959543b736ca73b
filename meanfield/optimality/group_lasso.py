"""The weights of given neurons: min_c R(Σ_j relu(X u_j) c_j) + 2λ Σ_j ‖c_j‖, by Newton's method on a smoothed norm.

With unit ‖u_j‖, the least of λ(‖w‖² + ‖u‖²) over w relu(u·x) of one neuron is 2λ‖c‖. The norm is smoothed as an
interior point method would: ψ(c) = min_t 2λt − μ log(t² − ‖c‖²) has the gradient 2λ c/t, shorter than 2λ, so that the
residual at its minimum is a dual point feasible for the given neurons, with a gap of at most μ a neuron.
"""

from __future__ import annotations

import numpy as np

from ..engine.exact_algebra import cholesky, cholesky_solve, product
from ..engine.exact_math import log, row_norms, row_sums, total
from ..losses import Loss
from .budget import Budget


class Refit:
    """Fits for one loss, targets (n,) or (n, C) and λ. Once the budget is over, a fit stops where it is."""

    def __init__(self, loss: Loss, targets: np.ndarray, outputs: int, reg: float, budget: Budget | None = None) -> None:
        self.loss, self.t, self.C, self.reg, self.budget = loss, targets, outputs, reg, budget or Budget()

    @np.errstate(over="ignore", invalid="ignore")  # at the least λ, where radii have no number and nothing is gained
    def fit(self, phi: np.ndarray, c: np.ndarray, mu: float, mu_end: float, iterations: int = 100) -> np.ndarray:
        """Coefficients (K, C) for features phi (n, K), from c, lowering μ from `mu` to `mu_end`.

        Newton on c and y = 2λ c/t as separate unknowns (Chan, Golub and Mulet 1999), which converges where Newton on c
        alone crawls: close to the kink of the norm.
        """
        t, _ = self._radii(c, mu)
        y, f = 2 * self.reg * c / t[:, None], product(phi, c)
        for _ in range(iterations):
            if self.budget.over():
                break
            self.budget.spend(self._work(*phi.shape))
            value, (t, q) = self._smoothed(f, c, mu), self._radii(c, mu)
            gradient = product(phi.T, self.loss.residual(f, self.t)) + 2 * self.reg * c / t[:, None]
            step = -self._solve(self._hessian(phi, f, c, y, t, q), gradient)
            slope = -total(step * gradient)
            if slope <= 1e-2 * mu * len(c):
                if mu <= mu_end:
                    break
                mu = max(mu_end, 0.1 * mu)
                if slope <= 1e-14 * value:
                    continue
            along = row_sums(c * step) * 2 * self.reg / q / t
            change = (2 * self.reg * (c + step) - y * along[:, None] * t[:, None]) / t[:, None] - y
            eta = self._length(f, c, product(phi, step), step, mu, slope)
            c = c + eta * step
            y, f = self._shorten(y, change), product(phi, c)
        return c

    def _length(
        self, f: np.ndarray, c: np.ndarray, f_step: np.ndarray, step: np.ndarray, mu: float, slope: float
    ) -> float:
        """The first η of 1, ½, … for which c + η step lowers the smoothed objective enough; 0 if none does."""
        value, eta = self._smoothed(f, c, mu), 1.0
        while eta > 1e-9:
            if self._smoothed(f + eta * f_step, c + eta * step, mu) <= value - 1e-4 * eta * slope:
                return eta
            eta *= 0.5
        return 0.0

    def _shorten(self, y: np.ndarray, change: np.ndarray) -> np.ndarray:
        """y + change, each row cut back to a length below 2λ."""
        moved = y + change
        size = row_norms(moved) / (2 * self.reg)
        return moved / np.maximum(1.0, size / 0.9999)[:, None]

    def value(self, phi: np.ndarray, c: np.ndarray) -> float:
        """R + 2λ Σ ‖c_j‖, nothing smoothed."""
        return self.loss.value(product(phi, c), self.t) + 2 * self.reg * total(row_norms(c))

    def residual(self, phi: np.ndarray, c: np.ndarray) -> np.ndarray:
        return self.loss.residual(product(phi, c), self.t)

    def _radii(self, c: np.ndarray, mu: float) -> tuple[np.ndarray, np.ndarray]:
        q = _hypot(mu, 2 * self.reg * row_norms(c))
        return (mu + q) / (2 * self.reg), q

    def _smoothed(self, f: np.ndarray, c: np.ndarray, mu: float) -> float:
        t, _ = self._radii(c, mu)
        return self.loss.value(f, self.t) + total(2 * self.reg * t - mu * log(mu * t / self.reg))

    def _hessian(
        self, phi: np.ndarray, f: np.ndarray, c: np.ndarray, y: np.ndarray, t: np.ndarray, q: np.ndarray
    ) -> np.ndarray:
        """(K C, K C); the smoothed norm contributes (2λ I − t' (y ĉᵀ + ĉ yᵀ)/2)/t, t' ĉ = ∇t = 2λ c/q."""
        n, K = phi.shape
        down = 2 * self.reg * c / q[:, None]
        if self.C == 1:
            H = product(phi.T * (self.loss.curvature(f, self.t) / n), phi)
            H[np.arange(K), np.arange(K)] += (2 * self.reg - (y * down)[:, 0]) / t
            return H
        blocks = self.loss.hessian(f, self.t) / n
        H = np.empty((K, self.C, K, self.C))
        for i in range(self.C):
            for j in range(i, self.C):
                H[:, i, :, j] = H[:, j, :, i] = product(phi.T * blocks[:, i, j], phi)
        k, outer = np.arange(K), y[:, :, None] * down[:, None, :]
        H[k, :, k, :] += (2 * self.reg * np.eye(self.C) - 0.5 * (outer + outer.swapaxes(1, 2))) / t[:, None, None]
        return H.reshape(K * self.C, K * self.C)

    @staticmethod
    def _solve(H: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Newton's step; neurons that nearly coincide make H nearly singular, hence the scaling and the jitter."""
        scale = 1 / np.sqrt(np.maximum(np.diag(H), 1e-300))
        H *= scale[:, None] * scale
        b, jitter = scale * gradient.ravel(), 1e-14
        while jitter < 1e12:
            H[np.diag_indices(len(H))] = 1 + jitter
            factor = cholesky(H)
            if factor is not None:
                b = cholesky_solve(factor, b)
                break
            jitter *= 100
        return (scale * b).reshape(gradient.shape)

    def _work(self, n: int, K: int) -> float:
        """Of one Newton step: products, a factorization, elementwise functions, calls."""
        k = K * self.C
        return 0.3 * (n * k * (k + K) / 2 + k**3 / 3) + 100 * n * self.C + 4 * n * k + 5e5


def _hypot(a: float, b: np.ndarray) -> np.ndarray:
    """(a² + b²)^½ of a > 0, b ≥ 0, without leaving the range of numbers."""
    longest = np.maximum(a, b)
    return longest * np.sqrt((a / longest) * (a / longest) + (b / longest) * (b / longest))
