"""NTKRegressor and NTKClassifier: the kernel as scikit-learn estimators, for pipelines and grid searches."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .gram import ReluKernel
from .intercept import Intercept
from .interpolation import Interpolation
from .iterative import IterativeRidge
from .iterative_path import IterativePath
from .logistic import Logistic
from .neuron_kernel import NeuronKernel
from .nystrom import NystromRidge
from .rounds import ConjugateGradients
from .select import Selection, best
from .solve import Predictor, Ridge, class_targets
from .solver_choice import without_matrix
from .streamed import StreamedGram
from .streamed_centres import StreamedCentres
from .svm import SVM
from .weights import that_count


class _NTKEstimator(BaseEstimator):
    """Parameters and steps that both share."""

    def __init__(
        self,
        *,
        neuron: Any = "relu",
        depth: int = 2,
        w_std: float = 1.0,
        u_std: float = 1.0,
        train: str = "all",
        reg: float | str = "auto",
        solver: Any = "auto",
        centres: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.neuron, self.depth, self.w_std, self.u_std, self.train = neuron, depth, w_std, u_std, train
        self.reg, self.solver, self.centres, self.threads = reg, solver, centres, threads

    def _kernel(self) -> ReluKernel | NeuronKernel:
        if isinstance(self.neuron, str) and self.neuron == "relu":
            return ReluKernel(self.depth, self.w_std, self.u_std, self.train)
        if self.depth != 2:
            raise ValueError(f"depth = {self.depth!r}: expected 2, the only depth for another neuron than relu")
        return NeuronKernel(self.neuron, self.w_std, self.u_std, self.train)

    def _fit_targets(
        self,
        X: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray | None,
        method: str,
        loss: str,
        intercept: bool = False,
    ) -> None:
        kernel, n = self._kernel(), len(X)
        if weights is not None and self.centres is not None:
            raise ValueError(f"centres = {self.centres!r}: expected None with sample_weight")
        without = without_matrix(self.solver, method, self.reg, n, self.centres)
        self.X_fit_, self.selection_ = X, None
        fitted: Any
        if without is None:
            K = kernel.gram(X, threads=self.threads)
            fitted, self.selection_ = _solve(method, self.reg, K, targets, weights, loss, intercept)
        elif self.centres is None:
            gram = StreamedGram(X, kernel, threads=self.threads)
            fitted, self.selection_ = _solve_without(self.reg, gram, targets, weights, without, intercept)
        else:
            some = StreamedCentres(X, self.centres, kernel, seed=without.seed, threads=self.threads)
            fitted = _around(NystromRidge(self.reg, without), intercept).fit(some, targets)  # type: ignore[arg-type]
            self.X_fit_ = some.centres
        self.reg_ = self.reg if self.selection_ is None else self.selection_.setting
        self.solver_: Predictor = fitted.solver if intercept else fitted
        self.coef_ = fitted.coef
        self.intercept_ = fitted.intercept if intercept else 0.0

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return self._kernel().dot(X, self.X_fit_, self.coef_, threads=self.threads)


class NTKRegressor(RegressorMixin, _NTKEstimator):
    """Kernel ridge regression with the neural tangent kernel of `NeuronKernel`, as a scikit-learn estimator.

    The kernel has no bias: append a constant feature for one. Beside f there is a constant that is not penalized, so
    that a number added to y is added to the predictions.

    Parameters
    ----------
    neuron : str or meanfield.Neuron
        As of `NeuronKernel`.
    depth : int
        Layers of weights, at least 2; 2 for another neuron than relu.
    w_std, u_std : float
        Standard deviations of the weights after the first layer, and in it; see `ReluKernel`.
    train : "all", "first" or "last"
        Which layers are trained.
    reg : float or "auto"
        A positive number, that of `Ridge`; 0 for the least-norm interpolant; or "auto": the reg of least squared
        leave-one-out error on a path of 50, without the matrix that of `IterativePath`; with an intercept of y less
        its mean.
    fit_intercept : bool
        Whether there is that constant. Without, the prediction is the kernel's alone, as in the theory.
    solver : "auto", "dense", "iterative" or ConjugateGradients
        With the kernel matrix, or without it by `IterativeRidge`. "auto" does without where the matrix does not fit
        into the memory that is available, and says so in a line.
    centres : int, optional
        M: f is a sum over M points drawn as centres, fitted to all of them by `NystromRidge`. Needs a number reg > 0.
    threads : int, optional
        By default the cores that this process may use.

    Attributes
    ----------
    coef_ : ndarray (n,) or (n, C)
        Coefficients of the training points, or of the centres.
    X_fit_ : ndarray (n, d)
        The training points, or the centres.
    solver_ : Predictor
        What was fitted to the Gram matrix; an `IterativeRidge` says whether it has converged.
    intercept_ : float or ndarray (C,)
        The constant; 0.0 without.
    reg_ : float
        The reg used.
    selection_ : Selection or None
        The path; None for a given reg.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import NTKRegressor
    >>> X = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [3.0, 1.0], [4.0, 1.0]])
    >>> NTKRegressor(reg=0).fit(X, np.abs(X[:, 0] - 2)).predict(X[:2]).round(4)
    array([2., 1.])
    """

    def __init__(
        self,
        *,
        neuron: Any = "relu",
        depth: int = 2,
        w_std: float = 1.0,
        u_std: float = 1.0,
        train: str = "all",
        reg: float | str = "auto",
        fit_intercept: bool = True,
        solver: Any = "auto",
        centres: int | None = None,
        threads: int | None = None,
    ) -> None:
        scales: dict[str, Any] = {"depth": depth, "w_std": w_std, "u_std": u_std, "train": train}
        super().__init__(neuron=neuron, **scales, reg=reg, solver=solver, centres=centres, threads=threads)
        self.fit_intercept = fit_intercept

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Compute the Gram matrix and fit; keep the points for `predict`.

        Parameters
        ----------
        X : array (n, d)
            Points, finite.
        y : array (n,) or (n, C)
            Targets.
        sample_weight : array (n,), optional
            How often each example counts, at least 0; by default 1. Whole numbers are the same as rows repeated. Not
            with `centres`.

        Returns
        -------
        NTKRegressor
            Itself.

        Raises
        ------
        ValueError
            Shapes that do not fit, numbers not finite, parameters out of range; as of the solver's `fit`.

        Examples
        --------
        >>> from meanfield.kernels import NTKRegressor
        >>> NTKRegressor(reg=1.0).fit([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0]).coef_.round(4)
        array([ 0.5432, -0.5432])
        """
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        X, y, weights = that_count(X, np.asarray(y, dtype=np.float64), sample_weight)
        self._fit_targets(X, y, weights, "ridge", "squared", self.fit_intercept)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """f at the points, which are streamed: no (k, n) matrix is held.

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
        >>> from meanfield.kernels import NTKRegressor
        >>> NTKRegressor(reg=0).fit([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0]).predict([[2.0, 0.0]]).round(4)
        array([2.])
        """
        return np.asarray(self._scores(X) + self.intercept_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class NTKClassifier(ClassifierMixin, _NTKEstimator):
    """Classification with the neural tangent kernel of `NeuronKernel`, as a scikit-learn estimator.

    Two classes are ±1, more have one output each. There is no bias: append a constant feature for one.

    Parameters
    ----------
    method : "ridge", "logistic" or "svm"
        `Ridge` (reg 0: `Interpolation`), `Logistic` or `SVM`.
    neuron : str or meanfield.Neuron
        As of `NeuronKernel`.
    depth : int
        Layers of weights, at least 2; 2 for another neuron than relu.
    w_std, u_std : float
        Standard deviations of the weights after the first layer, and in it; see `ReluKernel`.
    train : "all", "first" or "last"
        Which layers are trained.
    reg : float or "auto"
        Of the method; for "svm" nu in [0, 1], 0 the hard margin. "auto" takes the setting with the fewest errors over
        a path, by leave-one-out for ridge and otherwise on a fifth of the points held out.
    solver : "auto", "dense", "iterative" or ConjugateGradients
        As of `NTKRegressor`; without the matrix there is only method "ridge", whose "auto" is `IterativePath`'s.
    centres : int, optional
        As of `NTKRegressor`.
    threads : int, optional
        By default the cores that this process may use.

    Attributes
    ----------
    coef_ : ndarray (n,) or (n, C)
        Coefficients of the training points, or of the centres.
    X_fit_ : ndarray (n, d)
        The training points, or the centres.
    solver_ : Predictor
        What was fitted to the Gram matrix; an `IterativeRidge` says whether it has converged.
    reg_ : float
        The reg used.
    selection_ : Selection or None
        The path; None for a given reg.
    classes_ : ndarray (C,)
        The distinct labels, sorted.

    Examples
    --------
    >>> from meanfield.kernels import NTKClassifier
    >>> X = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
    >>> model = NTKClassifier(method="logistic", reg=0.1).fit(X, ["same", "other", "other", "same"])
    >>> model.predict([[2.0, 2.0], [-2.0, 2.0]]).tolist()
    ['same', 'other']
    """

    def __init__(
        self,
        *,
        method: str = "ridge",
        neuron: Any = "relu",
        depth: int = 2,
        w_std: float = 1.0,
        u_std: float = 1.0,
        train: str = "all",
        reg: float | str = "auto",
        solver: Any = "auto",
        centres: int | None = None,
        threads: int | None = None,
    ) -> None:
        scales: dict[str, Any] = {"depth": depth, "w_std": w_std, "u_std": u_std, "train": train}
        super().__init__(neuron=neuron, **scales, reg=reg, solver=solver, centres=centres, threads=threads)
        self.method = method

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Compute the Gram matrix and fit; keep the points for `predict`.

        Parameters
        ----------
        X : array (n, d)
            Points, finite.
        y : array (n,)
            Labels of at least two classes.
        sample_weight : array (n,), optional
            How often each example counts, at least 0; by default 1. Whole numbers are the same as rows repeated. Not
            with `centres`, nor with reg "auto" of another method than ridge.

        Returns
        -------
        NTKClassifier
            Itself.

        Raises
        ------
        ValueError
            Shapes that do not fit, numbers not finite, parameters out of range; as of the solver's `fit`.

        Examples
        --------
        >>> from meanfield.kernels import NTKClassifier
        >>> NTKClassifier(reg=1.0).fit([[1.0, 0.0], [0.0, 1.0]], ["cat", "dog"]).classes_.tolist()
        ['cat', 'dog']
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        X, y, weights = that_count(X, y, sample_weight)
        self.classes_, targets = class_targets(y)
        self._fit_targets(X, targets, weights, self.method, "error")
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """f at the points, which are streamed: no (k, n) matrix is held.

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
        >>> from meanfield.kernels import NTKClassifier
        >>> model = NTKClassifier(method="svm", reg=0).fit([[1.0, 0.0], [0.0, 1.0]], ["cat", "dog"])
        >>> (model.decision_function([[1.0, 2.0], [2.0, 1.0]]) > 0).tolist()
        [True, False]
        """
        return self._scores(X)

    @available_if(lambda self: self.method == "logistic")
    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class at each point; only of method "logistic", as the others have no likelihood.

        Parameters
        ----------
        X : array (k, d)
            Points, finite.

        Returns
        -------
        ndarray (k, C), float64
            In the order of `classes_`, of sum 1.

        Raises
        ------
        AttributeError
            Of another method.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            X that is no such table, or of another d than in `fit`.

        Examples
        --------
        >>> from meanfield.kernels import NTKClassifier
        >>> model = NTKClassifier(method="logistic", reg=0.1).fit([[1.0, 0.0], [0.0, 1.0]], ["cat", "dog"])
        >>> model.predict_proba([[2.0, 0.0], [1.0, 1.0]]).round(4)
        array([[0.9539, 0.0461],
               [0.5   , 0.5   ]])
        """
        scores = self._scores(X)
        if scores.ndim == 1:
            return np.stack([expit(-scores), expit(scores)], axis=1)
        return np.asarray(softmax(scores, axis=1))

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
        >>> from meanfield.kernels import NTKClassifier
        >>> model = NTKClassifier(reg=0).fit([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], ["cat", "dog", "owl"])
        >>> model.predict([[2.0, 0.0], [-1.0, -2.0]]).tolist()
        ['cat', 'owl']
        """
        scores = self._scores(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]


def _solve(
    method: str,
    reg: float | str,
    K: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None,
    loss: str,
    intercept: bool,
) -> tuple[Any, Selection | None]:
    if method not in ("ridge", "logistic", "svm"):
        raise ValueError(f'method = {method!r}: expected "ridge", "logistic" or "svm"')
    choice = None
    if reg == "auto":
        by = "leave-one-out" if method == "ridge" else "validation"
        choice = best(method, K, _less_mean(targets, weights, intercept), by=by, loss=loss, weights=weights)
        if not intercept:
            return choice.predictor, choice
        reg = choice.setting
    if isinstance(reg, str):
        raise ValueError(f'reg = {reg!r}: expected a number of at least 0 or "auto"')
    if method != "ridge":
        return (Logistic(reg) if method == "logistic" else SVM(reg)).fit(K, targets, weights), None
    if reg == 0:
        return _around(Interpolation(), intercept).fit(K, targets, weights=weights), None
    return _around(Ridge(reg), intercept).fit(K, targets, weights=weights, overwrite=True), choice


def _solve_without(
    reg: Any,
    gram: StreamedGram,
    targets: np.ndarray,
    weights: np.ndarray | None,
    how: ConjugateGradients,
    intercept: bool,
) -> tuple[Any, Selection | None]:
    if reg != "auto":
        return _around(IterativeRidge(reg, how), intercept).fit(gram, targets, weights=weights), None
    path = IterativePath(method=how).fit(gram, _less_mean(targets, weights, intercept), weights)
    solver, by, score = IterativeRidge(path.reg, how), "generalized cross-validation", float(path.scores.min())
    fitted = _around(solver, intercept).fit(gram, targets, weights=weights)
    return fitted, Selection("ridge", by, path.reg, score, path.regs, path.scores, solver, path.errors)


def _around(solver: Any, intercept: bool) -> Any:
    return Intercept(solver) if intercept else solver


def _less_mean(targets: np.ndarray, weights: np.ndarray | None, intercept: bool) -> np.ndarray:
    return targets - np.average(targets, axis=0, weights=weights) if intercept else targets
