"""The weights of given neurons: min_c R(Σ_j relu(X u_j) c_j) + 2λ Σ_j ‖c_j‖, by Newton's method on a smoothed norm.

With unit ‖u_j‖, the least of λ(‖w‖² + ‖u‖²) over w relu(u·x) of one neuron is 2λ‖c‖. The norm is smoothed as an
interior point method would: ψ(c) = min_t 2λt − μ log(t² − ‖c‖²) has the gradient 2λ c/t, shorter than 2λ, so that the
residual at its minimum is a dual point feasible for the given neurons, with a gap of at most μ a neuron.
"""

from __future__ import annotations

import time

import numpy as np
import scipy.linalg

from .losses import Loss


class Refit:
    """Fits for one loss, targets (n,) or (n, C) and λ."""

    def __init__(self, loss: Loss, targets: np.ndarray, outputs: int, reg: float) -> None:
        self.loss, self.t, self.C, self.reg = loss, targets, outputs, reg
        self.until = np.inf  # time.monotonic() after which a fit stops where it is

    def fit(self, phi: np.ndarray, c: np.ndarray, mu: float, mu_end: float, iterations: int = 100) -> np.ndarray:
        """Coefficients (K, C) for features phi (n, K), from c, lowering μ from `mu` to `mu_end`.

        Newton on c and y = 2λ c/t as separate unknowns (Chan, Golub and Mulet 1999), which converges where Newton on c
        alone crawls: close to the kink of the norm.
        """
        t, _ = self._radii(c, mu)
        y = 2 * self.reg * c / t[:, None]
        for _ in range(iterations):
            if time.monotonic() > self.until:
                break
            value, (t, q) = self._smoothed(phi, c, mu), self._radii(c, mu)
            gradient = phi.T @ self.residual(phi, c) + 2 * self.reg * c / t[:, None]
            step = -self._solve(self._hessian(phi, c, y, t, q), gradient)
            slope = -float(np.sum(step * gradient))
            if slope <= 1e-2 * mu * len(c):
                if mu <= mu_end:
                    break
                mu = max(mu_end, 0.1 * mu)
                if slope <= 1e-14 * value:
                    continue
            along = np.sum(c * step, axis=1) * 2 * self.reg / q / t
            change = (2 * self.reg * (c + step) - y * along[:, None] * t[:, None]) / t[:, None] - y
            c = self._search(phi, c, step, mu, slope)
            y = self._shorten(y, change)
        return c

    def _search(self, phi: np.ndarray, c: np.ndarray, step: np.ndarray, mu: float, slope: float) -> np.ndarray:
        """The first of c + step, c + step/2, … that lowers the smoothed objective enough; c if none does."""
        value, eta = self._smoothed(phi, c, mu), 1.0
        while eta > 1e-9:
            if self._smoothed(phi, c + eta * step, mu) <= value - 1e-4 * eta * slope:
                return c + eta * step
            eta *= 0.5
        return c

    def _shorten(self, y: np.ndarray, change: np.ndarray) -> np.ndarray:
        """y + change, each row cut back to a length below 2λ."""
        moved = y + change
        size = np.linalg.norm(moved, axis=1) / (2 * self.reg)
        return moved / np.maximum(1.0, size / 0.9999)[:, None]

    def value(self, phi: np.ndarray, c: np.ndarray) -> float:
        """R + 2λ Σ ‖c_j‖, nothing smoothed."""
        return self.loss.value(phi @ c, self.t) + 2 * self.reg * float(np.linalg.norm(c, axis=1).sum())

    def residual(self, phi: np.ndarray, c: np.ndarray) -> np.ndarray:
        return self.loss.residual(phi @ c, self.t)

    def _radii(self, c: np.ndarray, mu: float) -> tuple[np.ndarray, np.ndarray]:
        q = np.hypot(mu, 2 * self.reg * np.linalg.norm(c, axis=1))
        return (mu + q) / (2 * self.reg), q

    def _smoothed(self, phi: np.ndarray, c: np.ndarray, mu: float) -> float:
        t, _ = self._radii(c, mu)
        return self.loss.value(phi @ c, self.t) + float(np.sum(2 * self.reg * t - mu * np.log(mu * t / self.reg)))

    def _hessian(self, phi: np.ndarray, c: np.ndarray, y: np.ndarray, t: np.ndarray, q: np.ndarray) -> np.ndarray:
        """(K C, K C); the smoothed norm contributes (2λ I − t' (y ĉᵀ + ĉ yᵀ)/2)/t, t' ĉ = ∇t = 2λ c/q."""
        n, K = phi.shape
        down = 2 * self.reg * c / q[:, None]
        if self.C == 1:
            H = (phi.T * (self.loss.curvature(phi @ c, self.t) / n)) @ phi
            H[np.arange(K), np.arange(K)] += (2 * self.reg - (y * down)[:, 0]) / t
            return H
        blocks = hessians(self.loss, phi @ c, self.t) / n
        H = np.empty((K, self.C, K, self.C))
        for i in range(self.C):
            for j in range(i, self.C):
                H[:, i, :, j] = H[:, j, :, i] = (phi.T * blocks[:, i, j]) @ phi
        k, outer = np.arange(K), y[:, :, None] * down[:, None, :]
        H[k, :, k, :] += (2 * self.reg * np.eye(self.C) - 0.5 * (outer + outer.swapaxes(1, 2))) / t[:, None, None]
        return H.reshape(K * self.C, K * self.C)

    @staticmethod
    def _solve(H: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Newton's step; neurons that nearly coincide make H nearly singular, hence the scaling and the jitter."""
        scale = 1 / np.sqrt(np.maximum(np.diag(H), 1e-300))
        H *= scale[:, None] * scale
        jitter = 1e-14
        while True:
            H[np.diag_indices(len(H))] = 1 + jitter
            try:
                factor = scipy.linalg.cho_factor(H, check_finite=False)
            except scipy.linalg.LinAlgError:
                jitter *= 100
                continue
            return (scale * scipy.linalg.cho_solve(factor, scale * gradient.ravel())).reshape(gradient.shape)


def hessians(loss: Loss, f: np.ndarray, t: np.ndarray) -> np.ndarray:
    """∂²ℓ/∂f² (n, C, C) of every example, without the 1/n."""
    n, C = f.shape
    if loss.name == "squared":
        return np.broadcast_to(np.eye(C), (n, C, C))
    if loss.name == "logistic":
        return loss.curvature(f, t)[:, None, None]
    e = np.exp(f - f.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return p[:, :, None] * np.eye(C) - p[:, :, None] * p[:, None, :]
