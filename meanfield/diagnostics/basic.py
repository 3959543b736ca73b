"""The measures of every trace, margins, calibration, stationarity: numbers of an ensemble and its predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..dynamics import Field
from ..engine.engine import Moments
from ..ensemble import Ensemble
from ..errors import InputError
from ..problem import Problem


def normalized_margin(problem: Problem, moments: Moments) -> float:
    """The least margin of an example over the second moment of the particles: γ(ρ), which no scaling of θ changes.

    Parameters
    ----------
    problem : Problem
        Its loss says what a margin is, its targets whose.
    moments : meanfield.engine.engine.Moments
        Predictions f (n, C), float64, on the problem's n examples, and ∫‖θ‖² dρ.

    Returns
    -------
    float
        NaN where there are no classes, where ∫‖θ‖² dρ = 0, and for a neuron that is not positively homogeneous.

    Notes
    -----
    γ(ρ) = min_i margin_i / ∫‖θ‖² dρ, where margin_i is y_i f_i for one output, f_{y_i} − max_{c≠y_i} f_c for several.

    Examples
    --------
    Two neurons, each on one example: f = ±½ and ∫‖θ‖² dρ = 2.

    >>> from meanfield import Ensemble, Problem, diagnostics
    >>> from meanfield.dynamics import Field
    >>> problem = Problem([[1.0, 0.0], [0.0, 1.0]], [1, -1])
    >>> ensemble = Ensemble.from_arrays(w=[1.0, -1.0], u=[[1.0, 0.0], [0.0, 1.0]])
    >>> moments = Field(problem, ensemble.dtype).predict(ensemble)
    >>> diagnostics.normalized_margin(problem, moments)
    0.25
    """
    margins = problem.loss.margins(moments.f, problem.targets)
    if margins is None or moments.second == 0 or not problem.neuron.is_homogeneous:
        return math.nan
    return float(margins.min()) / moments.second


def margin_quantiles(problem: Problem, moments: Moments, shares: Sequence[float] = (0.1, 0.5, 0.9)) -> np.ndarray:
    """Quantiles of the normalized margins over the examples: of margin_i / ∫‖θ‖² dρ, whose least is γ(ρ).

    Parameters
    ----------
    problem : Problem
        Its loss says what a margin is, its targets whose.
    moments : meanfield.engine.engine.Moments
        Predictions f (n, C), float64, on the problem's n examples, and ∫‖θ‖² dρ.
    shares : sequence of k floats
        Which quantiles, from 0 to 1.

    Returns
    -------
    ndarray (k,), float64
        Each is one of the n margins (the lower of two). NaN where there are no classes, or where ∫‖θ‖² dρ = 0.

    Raises
    ------
    InputError
        A neuron that is not positively homogeneous.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import Problem, diagnostics
    >>> from meanfield.engine.engine import Moments
    >>> problem = Problem([[1.0], [-1.0], [2.0]], [1, -1, 1])
    >>> moments = Moments(f=np.array([[1.0], [-2.0], [3.0]]), second=2.0)
    >>> diagnostics.margin_quantiles(problem, moments, (0, 0.5, 1))
    array([0.5, 1. , 1.5])
    """
    problem.neuron.require_homogeneous("margin_quantiles")
    margins = problem.loss.margins(moments.f, problem.targets)
    if margins is None or moments.second == 0:
        return np.full(len(shares), math.nan)
    return np.quantile(margins, shares, method="lower") / moments.second


def calibration_error(problem: Problem, f: np.ndarray, targets: np.ndarray, *, bins: int = 15) -> float:
    """Expected calibration error of the probabilities that the loss gives to outputs.

    Parameters
    ----------
    problem : Problem
        Its loss says what a margin is.
    f : array (n, C), float64
        Outputs.
    targets : array (n,)
        The labels of the same n examples as the loss encodes them: `problem.targets` or `problem.test_targets`.
    bins : int
        How many equal shares of the examples, at least 1.

    Returns
    -------
    float
        From 0 to 1; NaN for regression. The last bits aside, invariant under permutation of the examples.

    Raises
    ------
    InputError
        bins < 1.

    Notes
    -----
    Σ_b (n_b/n) |share correct − mean confidence| over `bins` equal shares of the examples in the order of confidence,
    σ(|f|) for logistic, the largest softmax for cross-entropy (Guo et al. 2017; Nguyen and O'Connor 2015 for equal
    shares). Noise floor, measured: perfectly calibrated probabilities uniform in [½, 1] have 0.093 at n = 160, 0.019 at
    4096, 0.0038 at 10⁵ (15 bins).

    Examples
    --------
    A confidence of ¾ in every example, of which ½ are right.

    >>> import numpy as np
    >>> from meanfield import Problem, diagnostics
    >>> problem = Problem([[1.0], [2.0], [3.0], [4.0]], [1, 1, -1, -1])
    >>> f = np.full((4, 1), np.log(3.0))
    >>> round(diagnostics.calibration_error(problem, f, problem.targets, bins=1), 6)
    0.25
    """
    if bins < 1:
        raise InputError(f"bins = {bins!r}: must be at least 1")
    margins = problem.loss.margins(f, targets)
    if margins is None or not problem.loss.offers("probabilities"):
        return math.nan
    confidence = problem.loss.probabilities(f).max(axis=1)
    excess = ((margins > 0) - confidence)[np.lexsort((margins, confidence))]
    return float(sum(abs(part.sum()) for part in np.array_split(excess, bins))) / len(f)


def calibration_on_test_set(problem: Problem, ensemble: Ensemble, threads: int | None = None) -> float:
    """`calibration_error`, in 15 bins, of an ensemble on the test set.

    Parameters
    ----------
    problem : Problem
        With the test set.
    ensemble : Ensemble
        Of the problem's d and number of outputs.
    threads : int, optional
        By default the cores that this process may use; no bit depends on it.

    Returns
    -------
    float
        From 0 to 1; NaN without a test set, and for regression.

    Raises
    ------
    InputError
        An ensemble of another d.

    Examples
    --------
    One neuron with a confidence of ¾ in each of four examples, all of which it has right.

    >>> import numpy as np
    >>> from meanfield import Ensemble, Problem, diagnostics
    >>> problem = Problem([[1.0], [-1.0]], [1, -1], X_test=np.full((4, 1), np.log(3.0)), y_test=[1, 1, 1, 1])
    >>> round(diagnostics.calibration_on_test_set(problem, Ensemble.from_arrays([1.0], [[1.0]])), 6)
    0.25
    """
    if problem.test_inputs is None or problem.classes is None:
        return math.nan
    f = problem.predict(ensemble, problem.test_inputs, threads=threads)
    return calibration_error(problem, f[:, None] if f.ndim == 1 else f, problem.test_targets)


def stationarity(field: Field, ensemble: Ensemble, moments: Moments) -> float:
    """How far the first variation L' is from vanishing on the support.

    Parameters
    ----------
    field : meanfield.dynamics.Field
        Of the problem, and of the ensemble's dtype.
    ensemble : Ensemble
        λ is that of its step.
    moments : meanfield.engine.engine.Moments
        What `field.predict` says of the ensemble.

    Returns
    -------
    float
        At least 0; NaN where all particles are 0.

    Raises
    ------
    InputError
        A neuron that is not positively homogeneous; another penalty than ‖θ‖², λ = 0, or an output scale.

    Notes
    -----
    (∫ ‖θ‖² ν² dρ / ∫‖θ‖² dρ)^½ with ν = L'[ρ](θ)/λ‖θ‖². L' is homogeneous of degree two, so ν depends on a particle's
    direction alone. At an optimum at τ = 0 it is 0 on the support; where the residual vanishes it is 1 everywhere; each
    particle counts by its part of ∫‖θ‖² dρ. Floor, measured: rounding leaves 1e-6 in float32.

    Examples
    --------
    One example, x = 1 and y = 1, and one neuron, which fits it: there is no residual. The optimum is at f = 1 − 2λ = ½.

    >>> import numpy as np
    >>> from meanfield import Ensemble, Problem, diagnostics
    >>> from meanfield.dynamics import Field
    >>> field = Field(Problem([[1.0]], [1.0], loss="squared", reg=0.25), np.dtype("float64"))
    >>> for f in (1.0, 0.5):
    ...     ensemble = Ensemble.from_arrays([f**0.5], [[f**0.5]])
    ...     print(round(diagnostics.stationarity(field, ensemble, field.predict(ensemble)), 6))
    1.0
    0.0
    """
    field.problem.neuron.require_homogeneous("stationarity")
    field.problem.require_plain("stationarity")
    reg = field.problem.reg(ensemble.step)
    theta = ensemble.theta
    _, potential = field.engine.observe(ensemble.particles, field.residual(moments), reg, potentials=True)
    square = np.einsum("gkj,gkj->gj", theta, theta, dtype=np.float64).ravel()[: ensemble.m]
    live = square > 0
    total = float(square.sum())
    return math.sqrt(float(np.sum((potential[live] / reg) ** 2 / square[live])) / total) if total > 0 else math.nan


def error_on_test_set(problem: Problem, ensemble: Ensemble, threads: int | None = None) -> float:
    """Fraction misclassified, or mean squared error, on the test set.

    Parameters
    ----------
    problem : Problem
        With the test set; its loss says what an error is.
    ensemble : Ensemble
        Of the problem's d and number of outputs.
    threads : int, optional
        By default the cores that this process may use; no bit depends on it.

    Returns
    -------
    float
        NaN if there is no test set.

    Raises
    ------
    InputError
        An ensemble of another d.

    Examples
    --------
    f(x) = relu(x), on 1 and 2 that should be 1 and 5.

    >>> from meanfield import Ensemble, Problem, diagnostics
    >>> problem = Problem([[1.0]], [1.0], loss="squared", X_test=[[1.0], [2.0]], y_test=[1.0, 5.0])
    >>> diagnostics.error_on_test_set(problem, Ensemble.from_arrays([1.0], [[1.0]]))
    4.5
    """
    if problem.test_inputs is None:
        return math.nan
    f = problem.predict(ensemble, problem.test_inputs, threads=threads)
    return problem.loss.error(f[:, None] if f.ndim == 1 else f, problem.test_targets)


def drift_norm(field: Field, ensemble: Ensemble, moments: Moments) -> float:
    """Root mean square of the gradient ∇L' over the particles: zero where plain gradient flow stands still.

    Parameters
    ----------
    field : meanfield.dynamics.Field
        Of the problem, and of the ensemble's dtype.
    ensemble : Ensemble
        λ is that of its step.
    moments : meanfield.engine.engine.Moments
        What `field.predict` says of the ensemble.

    Returns
    -------
    float
        (∫‖∇L'‖² dρ)^½.

    Examples
    --------
    Without a residual ∇L' = 2λθ, here with ‖θ‖² = 2.

    >>> import numpy as np
    >>> from meanfield import Ensemble, Problem, diagnostics
    >>> from meanfield.dynamics import Field
    >>> field = Field(Problem([[1.0]], [1.0], loss="squared", reg=0.25), np.dtype("float64"))
    >>> ensemble = Ensemble.from_arrays([1.0], [[1.0]])
    >>> round(diagnostics.drift_norm(field, ensemble, field.predict(ensemble)), 6)
    0.707107
    """
    residual, reg = field.residual(moments), field.problem.reg(ensemble.step)
    square, _ = field.engine.observe(ensemble.particles, residual, reg)
    if math.isfinite(square):
        return math.sqrt(square)
    unit = max(reg, float(np.abs(residual).max()))  # its square is none of float32: ∇L' is linear in λ and the residual
    square, _ = field.engine.observe(ensemble.particles, residual / unit, reg / unit)
    return math.sqrt(square) * unit


BASIC = frozenset(
    {
        "step",
        "time",
        "reg",
        "temperature",
        "objective",
        "risk",
        "penalty",
        "margin",
        "train_error",
        "step_size",
        "drift",
    }
)


def basic_measures(field: Field, ensemble: Ensemble, moments: Moments) -> dict[str, float]:
    """The measures of every trace but the test error.

    Parameters
    ----------
    field : meanfield.dynamics.Field
        Of the problem, and of the ensemble's dtype.
    ensemble : Ensemble
        λ and τ are those of its step.
    moments : meanfield.engine.engine.Moments
        What `field.predict` says of the ensemble.

    Returns
    -------
    dict of str to float
        step, time, reg (λ), temperature (τ), objective (at the λ in force), risk, penalty, margin
        (`normalized_margin`), train_error, step_size (that of the last step; NaN before the first), drift
        (`drift_norm`).

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import Ensemble, Problem, diagnostics
    >>> from meanfield.dynamics import Field
    >>> field = Field(Problem([[1.0]], [2.0], loss="squared", reg=0.25), np.dtype("float64"))
    >>> ensemble = Ensemble.from_arrays([1.0], [[1.0]])
    >>> measures = diagnostics.basic_measures(field, ensemble, field.predict(ensemble))
    >>> {name: measures[name] for name in ("step", "risk", "penalty", "objective")}
    {'step': 0, 'risk': 0.5, 'penalty': 0.5, 'objective': 1.0}
    """
    problem, k = field.problem, ensemble.step
    reg = problem.reg(k)
    value, risk, penalty = problem.evaluate(moments.f, moments.penalty, reg)
    return {
        "step": k,
        "time": ensemble.time,
        "reg": reg,
        "temperature": problem.temperature(k),
        "objective": value,
        "risk": risk,
        "penalty": penalty,
        "margin": normalized_margin(problem, moments),
        "train_error": problem.loss.error(moments.f, problem.targets),
        "step_size": ensemble.memory.get("step_size", math.nan),
        "drift": drift_norm(field, ensemble, moments),
    }


def all_finite(moments: Moments) -> bool:
    """Whether all predictions and the second moment are finite numbers.

    Parameters
    ----------
    moments : meanfield.engine.engine.Moments
        Predictions f (n, C), float64, and ∫‖θ‖² dρ.

    Returns
    -------
    bool

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import diagnostics
    >>> from meanfield.engine.engine import Moments
    >>> f = np.zeros((2, 1))
    >>> diagnostics.all_finite(Moments(f, 1.0)), diagnostics.all_finite(Moments(f, np.inf))
    (True, False)
    """
    return bool(np.isfinite(moments.second)) and bool(np.isfinite(moments.f).all())
