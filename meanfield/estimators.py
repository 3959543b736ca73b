"""MeanFieldClassifier and MeanFieldRegressor: the network as scikit-learn estimators, for pipelines and grid searches.

Inputs are taken as they are: nothing is scaled. Where features have units of their own, a StandardScaler belongs
before the estimator, in a pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .dynamics import Dynamics
from .engine import exact_math
from .ensemble import Ensemble
from .losses import Loss, get_loss
from .neuron import Neuron
from .optimality.certificate import Certificate, certify
from .problem import Problem
from .schedules import Schedule
from .simulation.loop import simulate
from .simulation.result import Result

__all__ = ["MeanFieldClassifier", "MeanFieldRegressor"]


class _MeanFieldEstimator(BaseEstimator):
    """Parameters and steps that both share."""

    result_: Result
    certificate_: Certificate

    def __init__(
        self,
        *,
        m: int = 1024,
        reg: float | Mapping[str, Any] | Schedule = 5e-3,
        steps: int | None = None,
        loss: str | Loss = "auto",
        temperature: float | Mapping[str, Any] | Schedule = 0.0,
        dynamics: Dynamics | None = None,
        neuron: str | Neuron = "relu",
        fit_intercept: bool = True,
        warm_start: bool = False,
        random_state: Any = 0,
        out: str | Path | None = None,
        threads: int | None = None,
    ) -> None:
        self.m, self.reg, self.steps, self.loss, self.temperature = m, reg, steps, loss, temperature
        self.dynamics, self.neuron, self.fit_intercept, self.warm_start = dynamics, neuron, fit_intercept, warm_start
        self.random_state, self.out, self.threads = random_state, out, threads

    def __getattr__(self, name: str) -> Any:
        """`certificate_`, kept once it was asked for: no property, as the view of a notebook reads all of these."""
        if name != "certificate_":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        check_is_fitted(self)
        self.certificate_ = certify(self.result_.problem, self.result_.ensemble, threads=self.threads)
        return self.certificate_

    @property
    def _goes_on(self) -> bool:
        return self.warm_start and "result_" in vars(self)

    def _simulate(self, X: np.ndarray, y: np.ndarray, suited: str) -> Self:
        loss = get_loss(suited if self.loss == "auto" else self.loss)
        if loss.is_classification != is_classifier(self):
            raise ValueError(f"loss {loss.name!r}: must be one of {'classes' if is_classifier(self) else 'numbers'}")
        problem = Problem(
            self._features(X), y, loss=loss, reg=self.reg, temperature=self.temperature, neuron=self.neuron
        )
        start, anneal = (self.result_.ensemble, False) if self._goes_on else (self._drawn(problem), None)
        settings: dict[str, Any] = {"steps": self.steps, "out": self.out, "threads": self.threads}
        self.result_ = simulate(problem, start, self.dynamics, anneal=anneal, **settings)
        self.__dict__.pop("certificate_", None)
        return self

    def _drawn(self, problem: Problem) -> Ensemble:
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**31)
        return Ensemble.sphere(self.m, problem.d, problem.outputs, seed=seed)

    def _features(self, X: np.ndarray) -> np.ndarray:
        return np.column_stack([X, np.ones(len(X))]) if self.fit_intercept else X

    def _outputs(self, X: Any) -> np.ndarray:
        """f (k, C) of the network."""
        check_is_fitted(self)
        X = self._features(validate_data(self, X, reset=False, dtype=np.float64))
        return self.result_.problem.predict(self.result_.ensemble, X, threads=self.threads).reshape(len(X), -1)


def _has_probabilities(estimator: MeanFieldClassifier) -> bool:
    return get_loss("logistic" if estimator.loss == "auto" else estimator.loss).offers("probabilities")


class MeanFieldClassifier(ClassifierMixin, _MeanFieldEstimator):
    """Classification by a network of infinite width, held as particles: `Problem` and `simulate` for scikit-learn.

    Two classes have one output by the logistic loss; more have one each by cross-entropy. Inputs are not scaled.

    Parameters
    ----------
    m : int
        Particles.
    reg : float, mapping or Schedule
        λ of the penalty λ ∫ ‖θ‖² dρ, as of `Problem`.
    steps : int, optional
        Of each `fit`; by default as of `simulate`.
    loss : str or Loss
        "logistic", "cross_entropy", or a loss of classes of one's own; "auto" takes what suits the classes.
    temperature : float, mapping or Schedule
        τ, as of `Problem`.
    dynamics : Dynamics, optional
        The law of motion; by default as of `simulate`.
    neuron : str or Neuron
        As of `Problem`.
    fit_intercept : bool
        Whether a feature that is 1 everywhere is added, so that every neuron has a bias. It is penalized like others.
    warm_start : bool
        Whether `fit` goes on from the particles of the fit before, at λ without lowering it from above; m and
        random_state are then those of the first.
    random_state : int, RandomState or None
        The seed. The same number gives the same bits.
    out : str or Path, optional
        The run file to keep the fit in. One that exists is not overwritten.
    threads : int, optional
        By default the cores that this process may use; no bit depends on it.

    Attributes
    ----------
    classes_ : ndarray (K,)
        The distinct labels, sorted.
    result_ : Result
        The run: `.trace`, `.final`, `.ensemble`, `.problem`, `.plot()`. Where there is an intercept, its inputs have
        the feature 1 as their last.
    certificate_ : Certificate
        What `certify` says of the fit, by some seconds of work when it is first asked for.
    n_features_in_, feature_names_in_
        As scikit-learn has them.

    Examples
    --------
    >>> from meanfield.estimators import MeanFieldClassifier
    >>> X = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
    >>> model = MeanFieldClassifier(m=256, reg=1e-2, steps=60).fit(X, ["same", "other", "other", "same"])
    >>> model.predict([[2.0, 2.0], [-2.0, 2.0]]).tolist()
    ['same', 'other']
    >>> model.certificate_.relative_gap < 0.01
    True
    """

    classes_: np.ndarray

    def fit(self, X: Any, y: Any) -> Self:
        """Simulate from particles that are drawn, or, with `warm_start`, from those of the fit before.

        Parameters
        ----------
        X : array (n, d)
            Points, finite.
        y : array (n,)
            Labels of at least two classes.

        Returns
        -------
        MeanFieldClassifier
            Itself.

        Raises
        ------
        ValueError
            Points or labels that cannot be used, fewer than two classes, other classes than those of a fit to go on
            from; parameters out of range.
        DivergenceError
            As of `simulate`.

        Examples
        --------
        >>> from meanfield.estimators import MeanFieldClassifier
        >>> model = MeanFieldClassifier(m=64, steps=4)
        >>> model.fit([[1.0, 0.0], [0.0, 1.0]], ["cat", "dog"]).classes_.tolist()
        ['cat', 'dog']
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        classes = np.unique(y)
        if len(classes) < 2:
            raise ValueError(f"y has one class, {classes[0]!r}: must have at least two")
        if self._goes_on and not np.array_equal(classes, self.classes_):
            raise ValueError(f"y has the classes {classes}: with warm_start they must be {self.classes_}, as before")
        self.classes_ = classes
        return self._simulate(X, y, "logistic" if len(classes) == 2 else "cross_entropy")

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of the classes.

        Parameters
        ----------
        X : array (k, d)
            Points, finite.

        Returns
        -------
        ndarray (k,) or (k, K), float64
            (k,) for two classes, positive for classes_[1]; else one for each class.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            X that is no such table, or of another d than in `fit`.

        Examples
        --------
        >>> from meanfield.estimators import MeanFieldClassifier
        >>> model = MeanFieldClassifier(m=64, steps=20).fit([[1.0, 0.0], [0.0, 1.0]], ["cat", "dog"])
        >>> (model.decision_function([[1.0, 2.0], [2.0, 1.0]]) > 0).tolist()
        [True, False]
        """
        f = self._outputs(X)
        if len(self.classes_) > 2:
            return f
        return f[:, 0] if f.shape[1] == 1 else f[:, 1] - f[:, 0]

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
        >>> from meanfield.estimators import MeanFieldClassifier
        >>> X = [[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]
        >>> MeanFieldClassifier(m=64, steps=20).fit(X, ["cat", "dog", "owl"]).predict(X).tolist()
        ['cat', 'dog', 'owl']
        """
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, where the loss is minus their logarithm: not for every loss of one's own.

        Parameters
        ----------
        X : array (k, d)
            Points, finite.

        Returns
        -------
        ndarray (k, K)
            In the order of `classes_`. Penalized as they are, they lie nearer to each other than the data have them.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            X that is no such table, or of another d than in `fit`.

        Examples
        --------
        >>> from meanfield.estimators import MeanFieldClassifier
        >>> model = MeanFieldClassifier(m=64, steps=20).fit([[1.0, 0.0], [0.0, 1.0]], ["cat", "dog"])
        >>> cat, dog = model.predict_proba([[2.0, 1.0]])[0]
        >>> bool(cat > dog), round(float(cat + dog), 12)
        (True, 1.0)
        """
        f = self._outputs(X)
        return self.result_.problem.loss.probabilities(f)


class MeanFieldRegressor(RegressorMixin, _MeanFieldEstimator):
    """Regression by a network of infinite width, held as particles: `Problem` and `simulate` for scikit-learn.

    Inputs are not scaled, and targets are not divided by anything: λ is in their units.

    Parameters
    ----------
    m : int
        Particles.
    reg : float, mapping or Schedule
        λ of the penalty λ ∫ ‖θ‖² dρ, as of `Problem`.
    steps : int, optional
        Of each `fit`; by default as of `simulate`.
    loss : str or Loss
        "squared", which "auto" is too, or a loss of numbers of one's own.
    temperature : float, mapping or Schedule
        τ, as of `Problem`.
    dynamics : Dynamics, optional
        The law of motion; by default as of `simulate`.
    neuron : str or Neuron
        As of `Problem`.
    fit_intercept : bool
        Whether a feature that is 1 everywhere is added, so that every neuron has a bias, which is penalized like its
        other weights; and the mean of the targets is taken out before and added again after, which is not.
    warm_start : bool
        Whether `fit` goes on from the particles of the fit before, at λ without lowering it from above; m and
        random_state are then those of the first.
    random_state : int, RandomState or None
        The seed. The same number gives the same bits.
    out : str or Path, optional
        The run file to keep the fit in. One that exists is not overwritten.
    threads : int, optional
        By default the cores that this process may use; no bit depends on it.

    Attributes
    ----------
    intercept_ : ndarray () or (C,)
        The mean of the targets; 0 without an intercept.
    result_ : Result
        The run: `.trace`, `.final`, `.ensemble`, `.problem`, `.plot()`. Where there is an intercept, its inputs have
        the feature 1 as their last, and its targets have mean 0.
    certificate_ : Certificate
        What `certify` says of the fit, by some seconds of work when it is first asked for.
    n_features_in_, feature_names_in_
        As scikit-learn has them.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.estimators import MeanFieldRegressor
    >>> x = np.linspace(-1, 1, 41)[:, None]
    >>> model = MeanFieldRegressor(m=256, reg=1e-4, steps=60).fit(x, 1000 + np.abs(x[:, 0]))
    >>> model.predict([[-0.5], [0.0], [0.5]]).round(1)
    array([1000.5, 1000. , 1000.5])
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Simulate from particles that are drawn, or, with `warm_start`, from those of the fit before.

        Parameters
        ----------
        X : array (n, d)
            Points, finite.
        y : array (n,) or (n, C)
            Targets.

        Returns
        -------
        MeanFieldRegressor
            Itself.

        Raises
        ------
        ValueError
            Points or targets that cannot be used, parameters out of range.
        DivergenceError
            As of `simulate`.

        Examples
        --------
        >>> from meanfield.estimators import MeanFieldRegressor
        >>> float(MeanFieldRegressor(m=64, steps=4).fit([[1.0], [2.0]], [1.0, 3.0]).intercept_)
        2.0
        """
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        targets = np.asarray(y, dtype=np.float64).reshape(len(X), -1)
        mean = exact_math.column_sums(targets) / len(X) if self.fit_intercept else np.zeros(targets.shape[1])
        self.intercept_ = mean.reshape(np.shape(y)[1:])
        return self._simulate(X, targets - mean, "squared")

    def predict(self, X: Any) -> np.ndarray:
        """The network at the points, and the intercept.

        Parameters
        ----------
        X : array (k, d)
            Points, finite.

        Returns
        -------
        ndarray (k,) or (k, C), float64
            As the targets were.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            X that is no such table, or of another d than in `fit`.

        Examples
        --------
        >>> from meanfield.estimators import MeanFieldRegressor
        >>> model = MeanFieldRegressor(m=64, steps=20).fit([[1.0], [2.0]], [[1.0, 0.0], [3.0, 0.0]])
        >>> model.predict([[1.5]]).shape
        (1, 2)
        """
        return self._outputs(X).reshape(-1, *self.intercept_.shape) + self.intercept_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
