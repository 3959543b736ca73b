"""Losses that a user might write: the squared hinge and Huber's, with all that a reference may ask for."""

import numpy as np

from meanfield.losses import RegressionLoss, TwoClassLoss


class SquaredHinge(TwoClassLoss):
    """ℓ(y, f) = ½ max(0, 1 − yf)²; p = −n a y ≥ 0, R*(a) = mean(½p² − p)."""

    name = "squared_hinge"

    def value(self, f, t):
        return float(np.mean(0.5 * np.maximum(0.0, 1.0 - t * f[:, 0]) ** 2))

    def residual(self, f, t):
        return (-t * np.maximum(0.0, 1.0 - t * f[:, 0]) / len(t))[:, None]

    def curvature(self, f, t):
        return np.where(t * f[:, 0] < 1.0, 1.0, 0.0)

    def conjugate(self, a, t):
        p = -len(t) * a[:, 0] * t
        return float(np.mean(0.5 * p * p - p)) if np.all(p >= 0) else np.inf

    def conjugate_magnitude(self, a, t):
        p = np.abs(len(t) * a[:, 0])
        return float(np.mean(0.5 * p * p + p))

    def conjugate_gradient(self, a, t):
        p = -len(t) * a[:, 0] * t
        return (t * (1.0 - p))[:, None]

    def conjugate_hessian(self, a, t):
        return np.full((len(t), 1, 1), float(len(t)))


class Huber(RegressionLoss):
    """ℓ(y, f) = Σ_c ½z² within |z| ≤ δ, δ|z| − ½δ² beyond, z = f − y; |n a| ≤ δ, R*(a) = Σ (n a²/2 + a y)."""

    name = "huber"

    def __init__(self, delta=1.0):
        self.delta = delta

    def value(self, f, t):
        z = np.abs(f - t)
        inner = np.minimum(z, self.delta)
        return float(np.sum(inner * (z - 0.5 * inner)) / len(t))

    def residual(self, f, t):
        return np.clip(f - t, -self.delta, self.delta) / len(t)

    def curvature(self, f, t):
        return (np.abs(f - t) < self.delta).any(axis=1).astype(float)

    def hessian(self, f, t):
        return (np.abs(f - t) < self.delta)[:, :, None] * np.eye(f.shape[1])

    def conjugate(self, a, t):
        inside = np.all(np.abs(len(t) * a) <= self.delta * (1 + 1e-14))
        return float(np.sum(0.5 * len(t) * a * a + a * t)) if inside else np.inf

    def largest_scale(self, a, t):
        largest = np.abs(len(t) * a).max()
        return float(self.delta / largest) if largest > 0 else np.inf

    def conjugate_magnitude(self, a, t):
        return float(np.sum(0.5 * len(t) * a * a + np.abs(a * t)))

    def conjugate_gradient(self, a, t):
        return np.where(np.abs(len(t) * a) < self.delta, len(t) * a + t, np.nan)

    def conjugate_hessian(self, a, t):
        return np.broadcast_to(len(t) * np.eye(a.shape[1]), (len(t), a.shape[1], a.shape[1]))
