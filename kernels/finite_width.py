"""Networks of finite width: their empirical tangent kernel, and random features under a trained last layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from .neurons import linear_in_w
from .solve import Ridge
from .tiles import as_points


def empirical_ntk(
    X: np.ndarray,
    Z: np.ndarray | None = None,
    *,
    width: int,
    neuron: Any = "relu",
    depth: int = 2,
    w_std: float = 1.0,
    u_std: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Σ over all weights of ∂f(x)/∂θ · ∂f(z)/∂θ at one random initialization of the network of `gram.py`.

    As the width grows this tends to `relu_ntk`, or to `neuron_ntk` in depth 2, with deviations of order 1/√width.

    Parameters
    ----------
    X : array (n, d)
        Points, finite.
    Z : array (k, d), optional
        By default X.
    width : int
        Units in each hidden layer, at least 1.
    neuron : str or meanfield.Neuron
        As of `NeuronKernel`, here in any depth.
    depth : int
        Layers of weights, at least 2.
    w_std, u_std : float
        Standard deviations of the weights after the first layer, and in it; 1/√width is a factor of its own.
    seed : int
        Of the weights.

    Returns
    -------
    ndarray (n, k), float64

    Raises
    ------
    ValueError
        Points that are no such tables, width or depth too small.

    Notes
    -----
    Layer l contributes (inputs of layer l) · (inputs) × (∂f/∂hˡ) · (∂f/∂hˡ).

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import empirical_ntk, relu_ntk
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> bool(np.abs(empirical_ntk(X, width=10_000) - relu_ntk(X)).max() < 0.1)
    True
    """
    if width < 1 or depth < 2:
        raise ValueError(f"width = {width}, depth = {depth}: expected at least 1 and at least 2")
    X = as_points(X, "X")
    points = X if Z is None else np.concatenate([X, as_points(Z, "Z", X.shape[1])])
    rng = np.random.default_rng(seed)
    U = u_std * rng.standard_normal((X.shape[1], width))
    W = [w_std * rng.standard_normal((width, width)) / np.sqrt(width) for _ in range(depth - 2)]
    w = w_std * rng.standard_normal(width) / np.sqrt(width)
    inputs, slopes, evaluate = [points], [], linear_in_w(neuron).evaluate
    h = points @ U
    for weights in [*W, None]:
        value, slope = evaluate(h)
        inputs.append(value)
        slopes.append(slope)
        if weights is not None:
            h = inputs[-1] @ weights
    # From here on the 1/√width of the layers after the first is carried by the inputs of those layers.
    left, right = (slice(None), slice(None)) if Z is None else (slice(len(X)), slice(len(X), None))
    kernel = inputs[-1][left] @ inputs[-1][right].T / width
    back = slopes[-1] * w
    for l in range(depth - 2, -1, -1):
        scale = 1.0 if l == 0 else 1 / width
        kernel += scale * (inputs[l][left] @ inputs[l][right].T) * (back[left] @ back[right].T)
        if l > 0:
            back = slopes[l - 1] * (back @ W[l - 1].T)
    return kernel


class RandomFeatures:
    """m random features with a fixed first layer, relu(U x)/√m or another neuron's, and ridge on the layer above.

    The feature product tends to `neuron_ntk(..., train="last")` as m grows.

    Parameters
    ----------
    m : int
        Number of features, at least 1.
    reg : float
        λ > 0, that of `Ridge`.
    u_std : float
        Standard deviation of the entries of U.
    seed : int
        Of U.
    neuron : str or meanfield.Neuron
        As of `NeuronKernel`.

    Attributes
    ----------
    weights : ndarray (m,) or (m, C)
        Of the layer above, after `fit`.
    fitted : ndarray (n,) or (n, C)
        φ(X) · weights at the training points.
    n_features : int
        d.

    Raises
    ------
    ValueError
        m below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import RandomFeatures
    >>> X = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> model = RandomFeatures(1000, reg=1e-6).fit(X, X[:, 0] * X[:, 1])
    >>> model.predict(X).round(2)
    array([ 1., -1., -1.,  1.])
    """

    def __init__(self, m: int, reg: float = 1.0, *, u_std: float = 1.0, seed: int = 0, neuron: Any = "relu") -> None:
        if m < 1:
            raise ValueError(f"m = {m}: expected at least 1 feature")
        self.m, self.reg, self.u_std, self.seed, self.neuron = m, reg, u_std, seed, neuron

    def features(self, X: np.ndarray) -> np.ndarray:
        """The features of points, divided by √m.

        Parameters
        ----------
        X : array (n, d)
            Points, finite.

        Returns
        -------
        ndarray (n, m), float64

        Raises
        ------
        ValueError
            X that is no such table.

        Examples
        --------
        >>> from meanfield.kernels import RandomFeatures
        >>> RandomFeatures(10).features([[1.0, 2.0], [3.0, 4.0]]).shape
        (2, 10)
        """
        X = as_points(X, "X")
        U = self.u_std * np.random.default_rng(self.seed).standard_normal((self.m, X.shape[1]))
        return linear_in_w(self.neuron).evaluate(X @ U.T)[0] / np.sqrt(self.m)

    def fit(self, X: np.ndarray, y: np.ndarray) -> RandomFeatures:
        """Ridge on the features, through the smaller of the (n, n) and the (m, m) system.

        Parameters
        ----------
        X : array (n, d)
            Points, finite.
        y : array (n,) or (n, C)
            Targets.

        Returns
        -------
        RandomFeatures
            Itself.

        Raises
        ------
        ValueError
            Shapes that do not fit, numbers not finite, a reg that is not positive or too small for the precision.

        Examples
        --------
        >>> from meanfield.kernels import RandomFeatures
        >>> RandomFeatures(10).fit([[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0]).weights.shape
        (10,)
        """
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
        """φ(X) · weights, a block of rows at a time.

        Parameters
        ----------
        X : array (k, d)
            Points, finite.

        Returns
        -------
        ndarray (k,) or (k, C), float64

        Raises
        ------
        ValueError
            X that is no such table, or of another d than in `fit`.

        Examples
        --------
        >>> from meanfield.kernels import RandomFeatures
        >>> model = RandomFeatures(10).fit([[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0])
        >>> model.predict([[0.0, 0.0]])
        array([0.])
        """
        X = as_points(X, "X", self.n_features)
        block = max(1, 2**24 // self.m)
        return np.concatenate([self.features(X[i : i + block]) @ self.weights for i in range(0, len(X), block)])
