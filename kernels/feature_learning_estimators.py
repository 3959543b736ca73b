"""RFMRegressor and RFMClassifier: the kernel that learns its metric, as scikit-learn estimators."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .feature_learning import RecursiveFeatureMachine
from .intercept import Intercept
from .interpolation import Interpolation
from .solve import Ridge, class_targets
from .weights import that_count


class _RFMEstimator(BaseEstimator):
    """Parameters and steps that both share."""

    def __init__(
        self,
        *,
        kernel: str = "ntk",
        bandwidth: float = 1.0,
        iterations: int = 5,
        diagonal: bool = False,
        reg: float = 1e-3,
    ) -> None:
        self.kernel, self.bandwidth, self.iterations = kernel, bandwidth, iterations
        self.diagonal, self.reg = diagonal, reg

    def _fit_targets(
        self, X: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, intercept: bool = False
    ) -> None:
        solver: Any = Interpolation() if self.reg == 0 else Ridge(self.reg)
        solver = Intercept(solver) if intercept else solver
        machine = RecursiveFeatureMachine(
            self.kernel, solver=solver, bandwidth=self.bandwidth, iterations=self.iterations, diagonal=self.diagonal
        )
        self.machine_ = machine.fit(X, targets, weights)
        self.M_, self.coef_ = machine.M, machine.coef
        self.intercept_ = solver.intercept if intercept else 0.0

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self.machine_.predict(validate_data(self, X, reset=False, dtype=np.float64))


class RFMRegressor(RegressorMixin, _RFMEstimator):
    """Kernel ridge regression with a kernel that learns its metric, as a scikit-learn estimator.

    Parameters
    ----------
    kernel : "ntk", "laplace" or "gaussian"
        As of `RecursiveFeatureMachine`. The NTK has no bias: append a constant feature for one.
    bandwidth : float
        Of the other two, in units of the root mean squared distance of the training points.
    iterations : int
        How often the metric is learned.
    diagonal : bool
        Whether only weights of the coordinates are learned.
    reg : float
        Of `Ridge`, where K(x, x) is about 1; 0 for the least-norm interpolant.
    fit_intercept : bool
        Whether a constant that is not penalized stands beside f, at every step.

    Attributes
    ----------
    M_ : ndarray (d, d)
        The metric learned.
    coef_ : ndarray (n,) or (n, C)
        Coefficients of the training points.
    intercept_ : float or ndarray (C,)
        The constant; 0.0 without.
    machine_ : RecursiveFeatureMachine
        What was fitted; it has the gradients too.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import RFMRegressor
    >>> X = np.random.default_rng(0).normal(size=(300, 10))
    >>> y = np.abs(X[:, 0])
    >>> plain, learned = (RFMRegressor(iterations=k).fit(X[:200], y[:200]).score(X[200:], y[200:]) for k in (0, 5))
    >>> round(plain, 2), round(learned, 2)
    (0.9, 1.0)
    """

    def __init__(
        self,
        *,
        kernel: str = "ntk",
        bandwidth: float = 1.0,
        iterations: int = 5,
        diagonal: bool = False,
        reg: float = 1e-3,
        fit_intercept: bool = True,
    ) -> None:
        super().__init__(kernel=kernel, bandwidth=bandwidth, iterations=iterations, diagonal=diagonal, reg=reg)
        self.fit_intercept = fit_intercept

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit, learning the metric on the way.

        Parameters
        ----------
        X : array (n, d)
            Points, finite.
        y : array (n,) or (n, C)
            Targets.
        sample_weight : array (n,), optional
            How often each example counts, at least 0; by default 1. Whole numbers are the same as rows repeated.

        Returns
        -------
        RFMRegressor
            Itself.

        Raises
        ------
        ValueError
            Shapes that do not fit, numbers not finite, parameters out of range; as of the solver's `fit`.

        Examples
        --------
        >>> from meanfield.kernels import RFMRegressor
        >>> RFMRegressor(iterations=0).fit([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0]).coef_.round(4)
        array([ 1.1879, -1.1879])
        """
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        X, y, weights = that_count(X, np.asarray(y, dtype=np.float64), sample_weight)
        self._fit_targets(X, y, weights, self.fit_intercept)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """f at the points.

        Parameters
        ----------
        X : array (k, d)
            Points, finite.

        Returns
        -------
        ndarray (k,) or (k, C), float64

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            X that is no such table, or of another d than in `fit`.

        Examples
        --------
        >>> from meanfield.kernels import RFMRegressor
        >>> RFMRegressor(reg=0).fit([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0]).predict([[2.0, 0.0]]).round(4)
        array([2.])
        """
        return np.asarray(self._scores(X) + self.intercept_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class RFMClassifier(ClassifierMixin, _RFMEstimator):
    """Least squares on classes with a kernel that learns its metric, as a scikit-learn estimator.

    Two classes are ±1, more have one output each, whose outer products are added up.

    Parameters
    ----------
    kernel : "ntk", "laplace" or "gaussian"
        As of `RecursiveFeatureMachine`. The NTK has no bias: append a constant feature for one.
    bandwidth : float
        Of the other two, in units of the root mean squared distance of the training points.
    iterations : int
        How often the metric is learned.
    diagonal : bool
        Whether only weights of the coordinates are learned.
    reg : float
        Of `Ridge`, where K(x, x) is about 1; 0 for the least-norm interpolant.

    Attributes
    ----------
    M_ : ndarray (d, d)
        The metric learned.
    coef_ : ndarray (n,) or (n, C)
        Coefficients of the training points.
    machine_ : RecursiveFeatureMachine
        What was fitted; it has the gradients too.
    classes_ : ndarray (C,)
        The distinct labels, sorted.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import RFMClassifier
    >>> X = np.random.default_rng(0).normal(size=(400, 10))
    >>> y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    >>> [RFMClassifier(iterations=k).fit(X[:300], y[:300]).score(X[300:], y[300:]) for k in (0, 5)]
    [0.83, 0.92]
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit, learning the metric on the way.

        Parameters
        ----------
        X : array (n, d)
            Points, finite.
        y : array (n,)
            Labels of at least two classes.
        sample_weight : array (n,), optional
            How often each example counts, at least 0; by default 1. Whole numbers are the same as rows repeated.

        Returns
        -------
        RFMClassifier
            Itself.

        Raises
        ------
        ValueError
            Shapes that do not fit, numbers not finite, parameters out of range; as of the solver's `fit`.

        Examples
        --------
        >>> from meanfield.kernels import RFMClassifier
        >>> RFMClassifier().fit([[1.0, 0.0], [0.0, 1.0]], ["cat", "dog"]).classes_.tolist()
        ['cat', 'dog']
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        X, y, weights = that_count(X, y, sample_weight)
        self.classes_, targets = class_targets(y)
        self._fit_targets(X, targets, weights)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """f at the points.

        Parameters
        ----------
        X : array (k, d)
            Points, finite.

        Returns
        -------
        ndarray (k,) or (k, C), float64
            (k,) for two classes, positive for classes_[1]; else (k, C).

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            X that is no such table, or of another d than in `fit`.

        Examples
        --------
        >>> from meanfield.kernels import RFMClassifier
        >>> model = RFMClassifier(kernel="laplace").fit([[1.0, 0.0], [0.0, 1.0]], ["cat", "dog"])
        >>> (model.decision_function([[1.0, 2.0], [2.0, 1.0]]) > 0).tolist()
        [True, False]
        """
        return self._scores(X)

    def predict(self, X: Any) -> np.ndarray:
        """The class of each point.

        Parameters
        ----------
        X : array (k, d)
            Points, finite.

        Returns
        -------
        ndarray (k,)
            Labels, of `classes_`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            X that is no such table, or of another d than in `fit`.

        Examples
        --------
        >>> from meanfield.kernels import RFMClassifier
        >>> model = RFMClassifier(reg=0).fit([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], ["cat", "dog", "owl"])
        >>> model.predict([[2.0, 0.0], [-1.0, -2.0]]).tolist()
        ['cat', 'owl']
        """
        scores = self._scores(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]
