"""Networks of finite width: their empirical tangent kernel, and random ReLU features under a trained last layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from .gram import as_points
from .solve import Ridge


def empirical_ntk(
    X: np.ndarray,
    Z: np.ndarray | None = None,
    *,
    width: int,
    depth: int = 2,
    w_std: float = 1.0,
    u_std: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Σ over all weights of ∂f(x)/∂θ · ∂f(z)/∂θ at one random initialization, (n, k) float64.

    The network of `gram.py` with `width` units in each hidden layer; as the width grows this tends to `relu_ntk`, with
    deviations of order 1/√width. Layer l contributes (inputs of layer l) · (inputs) × (∂f/∂hˡ) · (∂f/∂hˡ).
    """
    if width < 1 or depth < 2:
        raise ValueError(f"width = {width}, depth = {depth}: expected at least 1 and at least 2")
    X = as_points(X, "X")
    points = X if Z is None else np.concatenate([X, as_points(Z, "Z", X.shape[1])])
    rng = np.random.default_rng(seed)
    U = u_std * rng.standard_normal((X.shape[1], width))
    W = [w_std * rng.standard_normal((width, width)) / np.sqrt(width) for _ in range(depth - 2)]
    w = w_std * rng.standard_normal(width) / np.sqrt(width)
    inputs, open_ = [points], []
    h = points @ U
    for weights in [*W, None]:
        open_.append(h > 0)
        inputs.append(np.maximum(h, 0))
        if weights is not None:
            h = inputs[-1] @ weights
    # From here on the 1/√width of the layers after the first is carried by the inputs of those layers.
    left, right = (slice(None), slice(None)) if Z is None else (slice(len(X)), slice(len(X), None))
    kernel = inputs[-1][left] @ inputs[-1][right].T / width
    back = open_[-1] * w
    for l in range(depth - 2, -1, -1):
        scale = 1.0 if l == 0 else 1 / width
        kernel += scale * (inputs[l][left] @ inputs[l][right].T) * (back[left] @ back[right].T)
        if l > 0:
            back = open_[l - 1] * (back @ W[l - 1].T)
    return kernel


class RandomFeatures:
    """m ReLU features with a fixed random first layer, and ridge on the layer above: φ(x) = relu(U x)/√m.

    The feature product tends to `relu_ntk(..., train="last")` as m grows; `reg` is that of `solve.Ridge`.
    """

    def __init__(self, m: int, reg: float = 1.0, *, u_std: float = 1.0, seed: int = 0) -> None:
        if m < 1:
            raise ValueError(f"m = {m}: expected at least 1 feature")
        self.m, self.reg, self.u_std, self.seed = m, reg, u_std, seed

    def features(self, X: np.ndarray) -> np.ndarray:
        """φ(X): (n, m) float64."""
        X = as_points(X, "X")
        U = self.u_std * np.random.default_rng(self.seed).standard_normal((self.m, X.shape[1]))
        return np.maximum(X @ U.T, 0) / np.sqrt(self.m)

    def fit(self, X: np.ndarray, y: np.ndarray) -> RandomFeatures:
        """X (n, d), y (n,) or (n, C); through the smaller of the (n, n) and the (m, m) system."""
        phi, y = self.features(X), np.asarray(y, dtype=float)
        self.n_features = np.shape(X)[1]
        if len(phi) <= self.m:
            self.weights = phi.T @ Ridge(self.reg).fit(phi @ phi.T, y).coef
        else:
            self.weights = Ridge(self.reg).fit(phi.T @ phi, phi.T @ y).coef
        fitted: Any = phi @ self.weights
        self.fitted = fitted
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """φ(X) · weights, (k,) or (k, C), a block of rows at a time."""
        X = as_points(X, "X", self.n_features)
        block = max(1, 2**24 // self.m)
        return np.concatenate([self.features(X[i : i + block]) @ self.weights for i in range(0, len(X), block)])
