"""How strongly to regularize: the best setting over a path, and by what it was judged best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .flow import GradientFlow
from .logistic import Logistic
from .solve import Predictor, RidgePath, check_problem, reg_path, score
from .svm import SVM


@dataclass(frozen=True)
class Selection:
    """The best setting of a path, as `best` returns it.

    By "test" the score is the smallest over the path on the very points it is reported on: what the kernel could reach
    with any regularization, a bound on what it does reach.

    Attributes
    ----------
    method : str
        "ridge", "logistic", "svm" or "flow".
    by : str
        What judged it: "leave-one-out", "validation", "test", or, by `IterativePath`, "generalized cross-validation".
    setting : float
        The best: reg, nu or time.
    score : float
        Its score: fraction of errors, or mean square.
    settings, scores : ndarray (r,)
        The path, and the score of each.
    predictor : Predictor
        Fitted on all points at `setting`.
    errors : ndarray (r,) or None
        Standard errors of the scores, where these are estimates from random probes.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import Selection, best
    >>> choice = best("ridge", np.ones((3, 3)), np.ones(3), [1.0, 0.1], loss="squared")
    >>> isinstance(choice, Selection), choice.setting, choice.scores.round(4)
    (True, 0.1, array([0.1111, 0.0023]))
    """

    method: str
    by: str
    setting: float
    score: float
    settings: np.ndarray
    scores: np.ndarray
    predictor: Predictor
    errors: np.ndarray | None = None


def best(
    method: str,
    K: np.ndarray,
    y: np.ndarray,
    settings: Sequence[float] | np.ndarray | None = None,
    *,
    by: str = "leave-one-out",
    loss: str = "error",
    fraction: float = 0.2,
    seed: int = 0,
    K_test: np.ndarray | None = None,
    y_test: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Selection:
    """Fit a method over a path of settings and take the best.

    Parameters
    ----------
    method : "ridge", "logistic", "svm" or "flow"
        `RidgePath`, `Logistic`, `SVM` or `GradientFlow`.
    K : array (n, n)
        Gram matrix.
    y : array (n,) or (n, C)
        Targets.
    settings : array (r,), optional
        reg, reg, nu or time; by default a path for the method: reg and 1/time go with K's trace, nu from 0.1 to 0.9.
    by : "leave-one-out", "validation" or "test"
        What judges. Leave-one-out is closed-form, for ridge alone.
    loss : "error" or "squared"
        Fraction of errors or mean square. Ties go to the smaller mean square.
    fraction : float
        Of the points, held out at random for "validation".
    seed : int
        Of that choice.
    K_test : array (k, n), optional
        Kernel of test against training points, only for "test".
    y_test : array (k,) or (k, C), optional
        Targets there, only for "test".
    weights : array (n,), optional
        Of the examples, as of `Ridge.fit`; only for "leave-one-out".

    Returns
    -------
    Selection

    Raises
    ------
    ValueError
        Another method or `by`, leave-one-out for another method than ridge, "test" without a test set, a fraction
        that leaves one side empty, no settings, weights for what takes none; what the method's `fit` raises.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import best, relu_ntk
    >>> X = np.array([[1.0, 0.1], [0.9, -0.2], [1.2, 0.3], [-1.0, 0.2], [-0.8, -0.1], [-1.1, 0.1]])
    >>> choice = best("svm", relu_ntk(X), np.sign(X[:, 0]), [0.2, 0.5], by="validation", fraction=0.5)
    >>> choice.score, choice.settings, choice.predictor.fitted.shape
    (0.0, array([0.2, 0.5]), (6,))
    """
    K, y = check_problem(K, y)
    values = _settings(method, K, settings)
    if weights is not None and by != "leave-one-out":
        raise ValueError(f'by = {by!r}: with weights expected "leave-one-out", and so method "ridge"')
    if by == "leave-one-out":
        if method != "ridge":
            raise ValueError(f'by = "leave-one-out" has a closed form for ridge only: for {method} use "validation"')
        path = RidgePath(settings).fit(K, y, weights)
        values = path.regs
        judged = [(score(f, y, loss, weights), score(f, y, "squared", weights)) for f in path.leave_one_out]
    elif by == "validation":
        train, held = _split(len(K), fraction, seed)
        judged = _judge(method, values, K[np.ix_(train, train)], y[train], K[np.ix_(held, train)], y[held], loss)
    elif by == "test":
        if K_test is None or y_test is None:
            raise ValueError('by = "test" needs K_test and y_test')
        judged = _judge(method, values, K, y, K_test, np.asarray(y_test, dtype=float), loss)
    else:
        raise ValueError(f'by = {by!r}: expected "leave-one-out", "validation" or "test"')
    scores, squares = np.array(judged).T
    choice = int(np.lexsort((squares, scores))[0])
    predictor = path.select(values[choice]) if by == "leave-one-out" else next(_fits(method, values[[choice]], K, y))
    return Selection(method, by, float(values[choice]), float(scores[choice]), values, scores, predictor)


def _judge(
    method: str, values: np.ndarray, K: np.ndarray, y: np.ndarray, K_held: np.ndarray, y_held: np.ndarray, loss: str
) -> list[tuple[float, float]]:
    predictions = (fit.predict(K_held) for fit in _fits(method, values, K, y))
    return [(score(f, y_held, loss), score(f, y_held, "squared")) for f in predictions]


def _fits(method: str, values: np.ndarray, K: np.ndarray, y: np.ndarray) -> Iterator[Predictor]:
    """A fit at each value in turn; the same object may come back changed, so use each before the next."""
    if method == "ridge":
        path = RidgePath(values).fit(K, y)
        yield from (path.select(value) for value in values)
    elif method == "flow":
        flow = GradientFlow(values[0]).fit(K, y)
        yield from (flow.until(value) for value in values)
    elif method == "logistic":
        start = None
        for value in values:
            fit = Logistic(value).fit(K, y, start=start)
            start = fit.coef
            yield fit
    else:
        yield from (SVM(value).fit(K, y) for value in values)


def _settings(method: str, K: np.ndarray, settings: Sequence[float] | np.ndarray | None) -> np.ndarray:
    scale = float(np.trace(K)) / len(K) or 1.0
    defaults = {
        "ridge": lambda: reg_path(K),
        "logistic": lambda: scale * np.logspace(2, -6, 9),
        "svm": lambda: np.linspace(0.1, 0.9, 9),
        "flow": lambda: np.append(np.logspace(-3, 9, 25) / scale, np.inf),
    }
    if method not in defaults:
        raise ValueError(f"method = {method!r}: expected one of {', '.join(defaults)}")
    values = defaults[method]() if settings is None else np.atleast_1d(np.asarray(settings, dtype=float))
    if values.ndim != 1 or len(values) == 0:
        raise ValueError("settings: expected at least one number")
    return values


def _split(n: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    held = round(fraction * n)
    if not 0 < held < n:
        raise ValueError(f"fraction = {fraction!r} of {n} points leaves one side of the validation split empty")
    order = np.random.default_rng(seed).permutation(n)
    return order[held:], order[:held]
