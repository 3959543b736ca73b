"""Problem: data, network, loss, penalty and temperature; together they define what is minimized."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .arrays import inputs, is_number, labels, refuse_other_columns
from .engine import exact_math, noise
from .engine.exact_algebra import product
from .errors import InputError
from .losses import LOSSES, Loss, get_loss
from .losses.check import refuse_unusable_loss
from .neuron import Neuron, check_growth, get_neuron
from .penalty import Penalty
from .schedules import OwnSchedule, Schedule
from .shown import Shown

if TYPE_CHECKING:
    from .engine.engine import Engine, Workers
    from .ensemble import Ensemble


_PLAIN = Penalty()
_TIE = 1e-12  # of ‖u‖‖x‖: what rounding makes of a u·x that is 0


class Objective(NamedTuple):
    """value = risk + penalty: L[ρ] = R(f_ρ) + λ ∫ p(θ) dρ, where p = ‖θ‖² unless the problem has another."""

    value: float
    risk: float
    penalty: float


class Problem(Shown):
    """What is minimized: L[ρ] = R(f_ρ) + λ ∫ ‖θ‖² dρ, or F_τ[ρ] = L[ρ] + τ ∫ ρ log ρ (arXiv 1810.05369, section 3).

    Parameters
    ----------
    X : array (n, d)
        Inputs, finite, at most 1e15 in size; kept as uint8, float32 or float64.
    y : array (n,) or (n, C)
        Labels, which the loss encodes.
    loss : str or Loss
        "logistic", "squared", "cross_entropy", or an object of a subclass of `meanfield.losses.Loss`.
    reg : float, mapping or Schedule
        λ ≥ 0, for every step or as a function of it. Implicit steps, bounds and certificates need λ > 0.
    temperature : float, mapping, Schedule or callable
        τ ≥ 0, likewise; or any function of the step, which a run's file names and `load` and `resume` take again.
    neuron : str, Neuron or mapping
        What the network is made of, Φ(θ; x) = w φ(u·x): "relu", another name that `meanfield.neuron.get_neuron` knows,
        or a `Neuron` of one's own; with an `output` ψ, ψ(w) φ(u·x).
    X_test, y_test : arrays (k, d) and (k,) or (k, C), optional
        A test set, of the classes of `y`.

    Attributes
    ----------
    loss : Loss
        The very object given, or that of the name.
    neuron : Neuron
        Likewise.
    penalty : Penalty
    output_scale : float
    inputs, test_inputs : array
        X and X_test as they are kept. `X` and `X_test` are float64: copies, made when first asked for, of what is not.
    targets, test_targets : array
        Labels as the loss encodes them.
    classes : array (K,) or None
        The sorted classes that the targets number; None for regression.
    outputs : int
        C, the number of network outputs.

    Raises
    ------
    InputError
        Shapes, labels that do not suit the loss, a loss or neuron that is none, λ < 0, τ < 0, numbers not finite; at
        τ > 0 a neuron that grows faster than quadratically in its weights.

    Examples
    --------
    >>> from meanfield import Problem
    >>> problem = Problem([[1.0, 0.0], [0.0, 1.0]], ["cat", "dog"], reg=1e-2)
    >>> problem.n, problem.d, problem.outputs, problem.targets.tolist()
    (2, 2, 1, [-1.0, 1.0])
    >>> problem
    Problem(n=2, d=2, outputs=1, loss=logistic, reg=0.01, temperature=0, neuron=relu,
        classes=2)
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        *,
        loss: str | Loss = "logistic",
        reg: float | Mapping[str, Any] | Schedule = 5e-3,
        temperature: float | Mapping[str, Any] | Schedule | Callable[[int], float] = 0.0,
        neuron: str | Neuron | Mapping[str, Any] = "relu",
        penalty: Penalty | Mapping[str, float] = _PLAIN,
        output_scale: float = 1.0,
        X_test: Any = None,
        y_test: Any = None,
    ) -> None:
        self.inputs, self.y = inputs(X, "X"), labels(y, "y")
        self.loss, self.neuron = get_loss(loss), get_neuron(neuron)
        self.targets, self.classes = self.loss.encode(self.y, where="y")
        if len(self.targets) != self.n:
            raise InputError(f"y {self.y.shape}: must have one label for each of the {self.n} rows of X")
        self.outputs = self.loss.outputs(self.targets)
        if self.loss not in LOSSES.values():
            refuse_unusable_loss(self.loss, self.targets, self.outputs)
        self.penalty, self.output_scale = Penalty.of(penalty), _positive("output_scale", output_scale)
        self.reg = _regularization(reg)
        self.temperature = _temperature(temperature)
        if min(self.temperature.start, self.temperature.end) < 0:
            raise InputError(f"temperature = {min(self.temperature.start, self.temperature.end)!r}: must be at least 0")
        check_growth(self.neuron, max(self.temperature.start, self.temperature.end))
        self.test_inputs: np.ndarray | None = None
        self.y_test: np.ndarray | None = None
        if (X_test is None) != (y_test is None):
            raise InputError(
                f"{'X_test' if X_test is None else 'y_test'} is missing: a test set needs X_test and y_test"
            )
        if X_test is not None:
            refuse_other_columns(X, X_test)
            self.test_inputs, self.y_test = inputs(X_test, "X_test"), labels(y_test, "y_test")
            if self.test_inputs.shape[1] != self.d:
                raise InputError(f"X_test {self.test_inputs.shape}: must have shape (n, {self.d}) like X")
            self.test_targets, _ = self.loss.encode(self.y_test, where="y_test", classes=self.classes)
            if len(self.test_targets) != self.n_test:
                raise InputError(f"y_test {self.y_test.shape}: must have one label for each row of X_test")

    def _facts(self) -> dict[str, Any]:
        names = ("n", "d", "outputs", "loss", "reg", "temperature", "neuron")
        return {
            **{name: getattr(self, name) for name in names},
            "neuron": self.neuron.label,
            "penalty": None if self.penalty == _PLAIN else self.penalty,
            "output_scale": None if self.output_scale == 1 else self.output_scale,
            "classes": None if self.classes is None else len(self.classes),
            "n_test": self.n_test or None,
        }

    @cached_property
    def X(self) -> np.ndarray:
        """The inputs (n, d), float64."""
        return np.asarray(self.inputs, np.float64)

    @cached_property
    def X_test(self) -> np.ndarray | None:
        """Those of the test set (k, d), float64, if there is one."""
        return None if self.test_inputs is None else np.asarray(self.test_inputs, np.float64)

    @property
    def n(self) -> int:
        """The number of examples."""
        return self.inputs.shape[0]

    @property
    def n_test(self) -> int:
        """The number of those of the test set."""
        return 0 if self.test_inputs is None else len(self.test_inputs)

    @property
    def d(self) -> int:
        """The number of features."""
        return self.inputs.shape[1]

    def objective(self, ensemble: Ensemble, *, threads: int | None = None) -> Objective:
        """The objective of an ensemble at the λ that its step has.

        Parameters
        ----------
        ensemble : Ensemble
            With the problem's d and number of outputs.
        threads : int, optional
            By default the cores that this process may use; the answer does not depend on it.

        Returns
        -------
        Objective
            `value` = `risk` + `penalty`.

        Raises
        ------
        InputError
            An ensemble of another d or number of outputs.

        Examples
        --------
        >>> from meanfield import Ensemble, Problem
        >>> problem = Problem([[1.0, 0.0]], [2.0], loss="squared", reg=0.1)
        >>> ensemble = Ensemble.from_arrays([[1.0]], [[1.0, 0.0]])
        >>> value, risk, penalty = problem.objective(ensemble)
        >>> risk, penalty
        (0.5, 0.2)
        """
        self.check(ensemble)
        moments = self.engine(self.inputs, ensemble.dtype, threads).predict(ensemble.particles, keep=False)
        return self.evaluate(moments.f, moments.penalty, self.reg(ensemble.step))

    def engine(self, X: np.ndarray, dtype: Any, threads: int | Workers | None = None) -> Engine:
        """The compiled passes of this problem's network and penalty on inputs X (n, d)."""
        from .engine.engine import Engine

        network = self.neuron.passes, self.penalty.coefficients, self.output_scale
        return Engine(X, self.outputs, dtype, threads, *network)

    def predict(self, ensemble: Ensemble, X: Any = None, *, threads: int | None = None) -> np.ndarray:
        """The problem's network f(x) = (α/m) Σ_j w_j φ(u_j·x): `ensemble.predict` with the problem's φ and α.

        Parameters
        ----------
        ensemble : Ensemble
            The particles.
        X : array (k, d), optional
            Inputs; by default the training set.
        threads : int, optional
            By default the cores that this process may use; no bit depends on it.

        Returns
        -------
        ndarray (k,) for one output, else (k, C); float64

        Raises
        ------
        InputError
            X of another shape.

        Examples
        --------
        >>> from meanfield import Ensemble, Problem
        >>> problem = Problem([[1.0], [2.0]], [0, 1], output_scale=10.0)
        >>> problem.predict(Ensemble.from_arrays([0.5], [[1.0]]))
        array([ 5., 10.])
        """
        f = ensemble.predict(self.inputs if X is None else X, neuron=self.neuron, threads=threads)
        return f if self.output_scale == 1 else self.output_scale * f

    @property
    def is_plain(self) -> bool:
        """Whether λ > 0, p = ‖θ‖² and α = 1, the problem that implicit steps and references know."""
        return min(self.reg.start, self.reg.end) > 0 and self.penalty.is_plain and self.output_scale == 1

    def require_plain(self, reference: str) -> None:
        """Check that λ > 0, p = ‖θ‖² and α = 1, where a reference knows no other problem.

        Parameters
        ----------
        reference : str
            Which, for the message.

        Raises
        ------
        InputError
            In one line with the names of the reference and of what it does not know; and, where that is known, with the
            λ of the plain problem that has the same minimum.

        Examples
        --------
        >>> from meanfield import Problem
        >>> Problem([[1.0]], [0], reg=0.1, output_scale=4.0).require_plain("certify")
        Traceback (most recent call last):
        meanfield.errors.InputError: certify needs output_scale = 1, not 4.0; ...minimum is that of reg = 0.025...
        """
        if min(self.reg.start, self.reg.end) == 0:
            raise InputError(
                f"{reference} needs λ > 0, and reg is, or ends at, 0: without a penalty there is no minimum"
            )
        if self.is_plain:
            return
        factor = self.penalty.factor if self.neuron.is_homogeneous else None
        same = (
            ""
            if not factor
            else f"; the minimum is that of reg = {self.reg.end * factor / self.output_scale:.6g} alone"
        )
        what = "the penalty ‖θ‖²" if not self.penalty.is_plain else "output_scale = 1"
        own = repr(self.penalty) if not self.penalty.is_plain else repr(self.output_scale)
        raise InputError(f"{reference} needs {what}, not {own}{same}")

    def evaluate(self, f: np.ndarray, penalty: float, reg: float) -> Objective:
        """The objective from predictions.

        Parameters
        ----------
        f : array (n, C), float64
            Predictions on the training set.
        penalty : float
            ∫ p dρ, which is ∫‖θ‖² dρ unless the problem has another penalty.
        reg : float
            λ.

        Returns
        -------
        Objective

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield import Problem
        >>> Problem([[1.0]], [2.0], loss="squared").evaluate(np.array([[0.0]]), 3.0, 0.5)
        Objective(value=3.5, risk=2.0, penalty=1.5)
        """
        risk = self.loss.value(f, self.targets)
        return Objective(risk + reg * penalty, risk, reg * penalty)

    def restricted(self, rows: np.ndarray) -> Problem:
        """The same problem on some of its examples, without a test set.

        Parameters
        ----------
        rows : array (k,), int
            Which; repeats are allowed.

        Returns
        -------
        Problem
            With the outputs and classes of the whole.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield import Problem
        >>> Problem([[1.0], [2.0], [3.0]], [0, 1, 1]).restricted(np.array([0, 2])).X.tolist()
        [[1.0], [3.0]]
        """
        part = copy.copy(self)
        part.__dict__.pop("X", None)
        part.inputs, part.y, part.targets = self.inputs[rows], self.y[rows], self.targets[rows]
        part.test_inputs = part.X_test = part.y_test = None
        return part

    def critical_reg(self, *, starts: int = 256, iterations: int = 20) -> float:
        """Estimate (from below) of the λ above which no neuron pays: max_u ‖G_r(u)‖ / 2 on the sphere at f = 0.

        u ← ∇‖G_r(u)‖, normalized, from random starts, on at most 2048 examples. On inputs such as ±1 and 0 many u·x_i
        are 0 but for rounding, and these count as inactive; else the answer would jump with the last bits.

        Parameters
        ----------
        starts : int
            Random directions to ascend from.
        iterations : int
            Steps of each.

        Returns
        -------
        float
            In units of λ.

        Raises
        ------
        InputError
            A neuron other than relu.

        Examples
        --------
        One example: r = −y/2n = ½, and G is largest, ‖x‖/2, along x.

        >>> from meanfield import Problem
        >>> round(Problem([[0.0, 2.0]], [-1]).critical_reg(), 6)
        0.5
        """
        self.neuron.require_relu("critical_reg")
        self.require_plain("critical_reg")
        rows = np.arange(min(self.n, 2048)) * self.n // min(self.n, 2048)
        X = np.asarray(self.inputs[rows], np.float64)
        r = self.loss.residual(np.zeros((self.n, self.outputs)), self.targets)[rows] * (self.n / len(rows))
        ties = _TIE * exact_math.row_norms(X)
        u = noise.normals(0, 0, 0, starts, self.d, dtype="float64")
        best = 0.0
        for _ in range(iterations):
            u /= np.maximum(exact_math.row_norms(u), 1e-300)[:, None]
            activation = product(u, X.T)
            active = activation > ties
            G = product(activation * active, r)
            best = max(best, float(exact_math.row_norms(G).max()))
            u = product(product(G, r.T) * active, X)
        return best / 2

    def check(self, ensemble: Ensemble) -> None:
        """Check that an ensemble fits.

        Parameters
        ----------
        ensemble : Ensemble
            Any.

        Raises
        ------
        InputError
            Another input dimension or number of outputs.

        Examples
        --------
        >>> from meanfield import Ensemble, Problem
        >>> Problem([[1.0], [2.0]], [0, 1]).check(Ensemble.sphere(4, 1))
        """
        if (ensemble.d, ensemble.outputs) != (self.d, self.outputs):
            raise InputError(
                f"ensemble with d = {ensemble.d}, outputs = {ensemble.outputs}: "
                f"the problem needs d = {self.d}, outputs = {self.outputs}"
            )

    def with_schedules(
        self,
        *,
        reg: float | Mapping[str, Any] | Schedule,
        temperature: float | Mapping[str, Any] | Schedule | None = None,
    ) -> Problem:
        """The same problem, its data and loss shared, with another λ, and τ if given: numbers or schedules."""
        other = copy.copy(self)
        other.reg = _regularization(reg)
        if temperature is not None:
            other.temperature = Schedule.of(temperature)
            check_growth(other.neuron, max(other.temperature.start, other.temperature.end))
        return other


def _regularization(reg: float | Mapping[str, Any] | Schedule) -> Schedule:
    """λ as a schedule. InputError: negative, or so small that 1/λ is no number."""
    schedule = Schedule.of(reg)
    for value in (schedule.start, schedule.end):
        if value != 0 and value < sys.float_info.min:
            raise InputError(f"reg = {value!r}: must be positive, and no denormal number, or 0")
    return schedule


def _temperature(value: float | Mapping[str, Any] | Schedule | Callable[[int], float]) -> Schedule:
    if callable(value) and not isinstance(value, Schedule):
        return OwnSchedule.of_function(value)
    return Schedule.of(value)  # type: ignore[arg-type]


def _positive(name: str, value: float) -> float:
    if not (is_number(value) and 1e-15 <= value <= 1e15):
        raise InputError(f"{name} = {value!r}: must be a number from 1e-15 to 1e15")
    return float(value)
