"""The weights of given neurons: min_c R(Σ_j relu(X u_j) c_j) + 2λ Σ_j ‖c_j‖, by Newton's method on a smoothed norm.

With unit ‖u_j‖, the least of λ(‖w‖² + ‖u‖²) over w relu(u·x) of one neuron is 2λ‖c‖. The norm is smoothed as an interior
point method would: ψ(c) = min_t 2λt − μ log(t² − ‖c‖²) has the gradient 2λ c/t, shorter than 2λ, so that the residual
at its minimum is a dual point feasible for the given neurons, with a gap of at most μ a neuron.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from .losses import Loss


class Refit:
    """Fits for one loss, targets (n,) or (n, C) and λ."""

    def __init__(self, loss: Loss, targets: np.ndarray, outputs: int, reg: float) -> None:
        self.loss, self.t, self.C, self.reg = loss, targets, outputs, reg

    def fit(self, phi: np.ndarray, c: np.ndarray, mu: float, mu_end: float) -> np.ndarray:
        """Coefficients (K, C) for features phi (n, K), from c, lowering μ from `mu` to `mu_end`."""
        while True:
            c = self._newton(phi, c, mu)
            if mu <= mu_end:
                return c
            mu = max(mu_end, 0.1 * mu)

    def value(self, phi: np.ndarray, c: np.ndarray) -> float:
        """R + 2λ Σ ‖c_j‖, nothing smoothed."""
        return self.loss.value(phi @ c, self.t) + 2 * self.reg * float(np.linalg.norm(c, axis=1).sum())

    def residual(self, phi: np.ndarray, c: np.ndarray) -> np.ndarray:
        return self.loss.residual(phi @ c, self.t)

    def _newton(self, phi: np.ndarray, c: np.ndarray, mu: float) -> np.ndarray:
        value = self._smoothed(phi, c, mu)
        for _ in range(50):
            t, q = self._radii(c, mu)
            gradient = phi.T @ self.residual(phi, c) + 2 * self.reg * c / t[:, None]
            step = self._solve(self._hessian(phi, c, t, q, mu), gradient)
            slope = float(np.sum(step * gradient))
            if not slope > 1e-3 * mu:
                break
            eta = 1.0
            while eta > 1e-8:
                moved = c - eta * step
                new = self._smoothed(phi, moved, mu)
                if new <= value - 1e-4 * eta * slope:
                    break
                eta *= 0.5
            else:
                break
            c, value = moved, new
        return c

    def _radii(self, c: np.ndarray, mu: float) -> tuple[np.ndarray, np.ndarray]:
        q = np.hypot(mu, 2 * self.reg * np.linalg.norm(c, axis=1))
        return (mu + q) / (2 * self.reg), q

    def _smoothed(self, phi: np.ndarray, c: np.ndarray, mu: float) -> float:
        t, _ = self._radii(c, mu)
        return self.loss.value(phi @ c, self.t) + float(np.sum(2 * self.reg * t - mu * np.log(mu * t / self.reg)))

    def _hessian(self, phi: np.ndarray, c: np.ndarray, t: np.ndarray, q: np.ndarray, mu: float) -> np.ndarray:
        """(K C, K C); the smoothed norm has curvature 2λ/t across c and 2λ/t · μ/q along it."""
        n, K = phi.shape
        if self.C == 1:
            H = (phi.T * (self.loss.curvature(phi @ c, self.t) / n)) @ phi
            H[np.arange(K), np.arange(K)] += 2 * self.reg / t * (mu / q)
            return H
        blocks = hessians(self.loss, phi @ c, self.t) / n
        H = np.empty((K, self.C, K, self.C))
        for i in range(self.C):
            for j in range(i, self.C):
                H[:, i, :, j] = H[:, j, :, i] = (phi.T * blocks[:, i, j]) @ phi
        along = c / np.maximum(np.linalg.norm(c, axis=1), 1e-300)[:, None]
        k = np.arange(K)
        shape = np.eye(self.C) - ((1 - mu / q)[:, None] * along)[:, :, None] * along[:, None, :]
        H[k, :, k, :] += (2 * self.reg / t)[:, None, None] * shape
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
