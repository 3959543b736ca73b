"""Neurons Φ(θ; x) = w φ(u·x), or ψ(w) φ(u·x): which activation φ, and which ψ, a network is made of.

May import: the errors, formulas and the engine. The built-in activations, and those of formulas, are made of the
engine's own arithmetic, the same bits on every machine; one of the user's own has the bits that its functions have.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .engine.built_in import ACTIVATIONS, Function
from .engine.composition import compose
from .engine.engine import Activation
from .errors import InputError, did_you_mean
from .formula import is_formula, read_formula

_STEP = 1e-5  # of the finite differences that a derivative is compared with
_TOLERANCE = 1e-6
_LINEAR = 1.01  # the power with which an activation may grow at τ > 0
_CELLS = 64  # of the range on which `steepness` looks


class Neuron:
    """A neuron of the user's own, Φ(θ; x) = w φ(u·x), from φ and its derivative.

    The built-in ones are asked for by name (`get_neuron`). A bias is a constant feature of the data, as for relu.

    Parameters
    ----------
    activation : callable
        φ, a plain Python function of one number, or one of numba's; numba compiles it, so it may use `math`.
    derivative : callable
        φ', likewise; at a kink either side's.
    name : str, optional
        What messages call it; by default `module.QualName` of φ, by which run files know it in any case.

    Attributes
    ----------
    activation, derivative : callable
        As given.
    name : str
    formula : str or None
        What it was read from (`from_formula`); a run file keeps it, so that nothing need be given again.
    output : Neuron or None
        Whose activation is ψ, where the neuron is ψ(w) φ(u·x) (`with_output`).

    Raises
    ------
    InputError
        In one line, what is wrong with them: no functions, not to be compiled, a derivative that is not φ's by finite
        differences, numbers that are not finite at 0 or near it.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import Ensemble, GradientFlow, Neuron, Problem, simulate
    >>> def swish(z):
    ...     return z / (1.0 + np.exp(-z))
    >>> def swish_slope(z):
    ...     s = 1.0 / (1.0 + np.exp(-z))
    ...     return s + z * s * (1.0 - s)
    >>> problem = Problem(np.eye(2), [1, -1], reg=0.01, neuron=Neuron(swish, swish_slope, name="swish"))
    >>> result = simulate(problem, Ensemble.sphere(64, 2, seed=0), GradientFlow(), steps=20)
    >>> bool(result.trace["objective"][-1] < result.trace["objective"][0])
    True
    """

    def __init__(self, activation: Function, derivative: Function, *, name: str | None = None) -> None:
        for what, function in (("activation", activation), ("derivative", derivative)):
            if not callable(function) or not hasattr(function, "__qualname__"):
                raise InputError(f"neuron: {what} = {function!r}: must be a function of one number")
        self._set(Activation(activation, derivative), qualified(activation) if name is None else name)
        _check(self)

    def _set(self, code: Activation, name: str, formula: str | None = None, output: Neuron | None = None) -> None:
        self.activation, self.derivative, self._code = code.value, code.slope, code
        self.name, self.formula, self.output = name, formula, output

    @classmethod
    def from_formula(cls, text: str) -> Neuron:
        """The neuron of a line such as "tanh(z) + 0.1*z", with the derivative by the rules of calculus.

        It has the same bits on every machine, as the built-in ones have. `get_neuron`, `Problem` and a configuration
        take the line itself.

        Parameters
        ----------
        text : str
            Of numbers, z, + − * /, whole powers (z**2), parentheses and relu, abs, tanh, erf, logistic, softplus,
            gauss (e^{−z²}), sin and cos. It is read, not run.

        Returns
        -------
        Neuron

        Raises
        ------
        InputError
            In one line, what is not understood, or is not finite near 0.

        Examples
        --------
        >>> from meanfield import Neuron
        >>> value, slope = Neuron.from_formula("z**2 - abs(z)/2").evaluate([3.0, -1.0])
        >>> value.tolist(), slope.tolist()
        ([7.5, 0.5], [5.5, -1.5])
        """
        neuron = cls(*compose(read_formula(text)), name=text)
        neuron.formula = text
        return neuron

    def with_output(self, output: str | Neuron) -> Neuron:
        """The neuron ψ(w) φ(u·x), such as tanh(w) φ(u·x), whose output stays within bounds.

        Its scale R is the problem's `output_scale`: f = (R/m) Σ_j ψ(w_j) φ(u_j·x). A configuration says
        `neuron.output`, and `Problem` and `get_neuron` take a table of both.

        Parameters
        ----------
        output : str or Neuron
            ψ: a name or a formula that `get_neuron` knows, such as "tanh", or "relu(z + 1) - relu(z - 1) - 1" to clip.

        Returns
        -------
        Neuron

        Raises
        ------
        InputError
            One of the user's own functions, or a neuron that has such an output itself.

        Examples
        --------
        >>> from meanfield import Ensemble
        >>> from meanfield.neuron import get_neuron
        >>> bounded = get_neuron("relu").with_output("tanh")
        >>> Ensemble.from_arrays([100.0, -100.0], [[1.0], [2.0]]).predict([[3.0], [-3.0]], neuron=bounded)
        array([-1.5,  0. ])
        """
        psi = get_neuron(output)
        if psi.output or self.output or not (psi.is_built_in or psi.formula):
            raise InputError(f"neuron: output = {output!r}: must be a name or a formula, of a neuron that has none yet")
        neuron = type(self).__new__(type(self))
        neuron._set(Activation(*self._code.pair, psi._code.pair), self.name, self.formula, psi)
        return neuron

    def __reduce__(self) -> Any:
        if self.output:
            inner = type(self).__new__(type(self))
            inner._set(Activation(*self._code.pair), self.name, self.formula)
            return type(self).with_output, (inner, self.output)
        return (get_neuron, (self.formula,)) if self.formula else super().__reduce__()

    @classmethod
    def _built_in(cls, name: str) -> Neuron:
        """One of ours, whose laws are tested and not checked again."""
        neuron = cls.__new__(cls)
        neuron._set(Activation(*ACTIVATIONS[name]), name)
        return neuron

    @property
    def is_relu(self) -> bool:
        """Whether it is the built-in relu, for which the passes keep activation bits and the references are proven."""
        return self.activation is ACTIVATIONS["relu"][0] and self.output is None

    @property
    def is_built_in(self) -> bool:
        """Whether φ is one of ours, which its name alone tells.

        Examples
        --------
        >>> from meanfield.neuron import get_neuron
        >>> get_neuron("erf").is_built_in
        True
        """
        return ACTIVATIONS.get(self.name) == (self.activation, self.derivative)

    @property
    def passes(self) -> Activation | None:
        """What engines take: None for the relu."""
        return None if self.is_relu else self._code

    def evaluate(self, z: Any) -> tuple[np.ndarray, np.ndarray]:
        """φ and φ' at many numbers, as the passes compute them.

        Parameters
        ----------
        z : array
            Float32 or float64; any other becomes float64.

        Returns
        -------
        (ndarray, ndarray)
            φ(z) and φ'(z), of the shape and dtype of z.

        Examples
        --------
        >>> from meanfield.neuron import get_neuron
        >>> value, slope = get_neuron("quadratic").evaluate([3.0, -1.0])
        >>> value.tolist(), slope.tolist()
        ([9.0, 1.0], [6.0, -2.0])
        """
        z = np.asarray(z)
        return self._code.at(np.ascontiguousarray(z, z.dtype if z.dtype == np.float32 else np.float64))

    @functools.cached_property
    def is_homogeneous(self) -> bool:
        """Whether φ(cz) = cφ(z) for c > 0, so that Φ is positively 2-homogeneous: by evaluation, but for the relu.

        Examples
        --------
        >>> from meanfield.neuron import get_neuron
        >>> [name for name in ("relu", "leaky_relu", "tanh", "relu2") if get_neuron(name).is_homogeneous]
        ['relu', 'leaky_relu']
        """
        if self.is_relu:  # nothing is compiled for what tests hold
            return True
        if self.output:
            return False
        z = np.concatenate([_places(40), 100 * _places(40)])
        at_z, scaled = self.evaluate(z)[0], [(c, self.evaluate(c * z)[0]) for c in (2.0**-10, 3.0, 1e3)]
        return all(bool(np.all(np.abs(values - c * at_z) <= 1e-12 * np.abs(c * z))) for c, values in scaled)

    @functools.cached_property
    def sides(self) -> tuple[float, float] | None:
        """φ(1) and φ(−1) of a built-in positively homogeneous neuron, φ(z) = φ(1) relu(z) + φ(−1) relu(−z); else None.

        What is proven of such neurons rests on them. One of the user's own is known at some places only.

        Examples
        --------
        >>> from meanfield.neuron import get_neuron
        >>> get_neuron("leaky_relu").sides, get_neuron("tanh").sides
        ((1.0, -0.01), None)
        """
        if self.is_relu:
            return 1.0, 0.0
        if not (self.is_built_in and self.is_homogeneous):
            return None
        right, left = self.evaluate([1.0, -1.0])[0]
        return float(right), float(left)

    @functools.cached_property
    def growth(self) -> float:
        """The power with which |φ| grows between 2¹⁰ and 2²⁰, on the side where it grows faster; and |ψ|, beyond w.

        Examples
        --------
        >>> from meanfield.neuron import get_neuron
        >>> [round(get_neuron(name).growth, 2) for name in ("relu", "tanh", "quadratic")]
        [1.0, 0.0, 2.0]
        """
        near, far = np.abs(self.evaluate([[2.0**10, -(2.0**10)], [2.0**20, -(2.0**20)]])[0])
        if not np.isfinite(far).all():
            return math.inf
        more = self.output.growth - 1 if self.output else 0.0
        return max(math.log2(max(1.0, a) / max(1.0, b)) / 10 for a, b in zip(far, near, strict=True)) + more

    def steepness(self, reach: float) -> tuple[float, float]:
        """The largest |φ'| and |φ''| on [−reach, reach], from φ' at 65 points: what an automatic step size rests on.

        A kink counts as a bend over a sixty-fourth of the range.

        Examples
        --------
        >>> from meanfield.neuron import get_neuron
        >>> steep, bend = get_neuron("quadratic").steepness(3.0)
        >>> round(steep, 9), round(bend, 9)
        (6.0, 2.0)
        """
        slope = self.evaluate(reach * (np.arange(_CELLS + 1) / (_CELLS / 2) - 1.0))[1]
        bend = np.abs(slope[1:] - slope[:-1]).max() * (_CELLS / 2) / max(reach, 1e-300)
        return float(np.abs(slope).max()), float(bend)

    def require_relu(self, reference: str) -> None:
        """Check that the neuron is the relu, where a reference knows no other.

        Raises
        ------
        InputError
            In one line with the names of the reference and the neuron, and what there is for any neuron.
        """
        if not self.is_relu:
            raise InputError(
                f"{reference} knows relu neurons only, not {self.label!r}; "
                "for any neuron there are the objective, the errors and the drift of a trace"
            )

    def require_sides(self, reference: str) -> tuple[float, float]:
        """`sides`, where a reference needs them.

        Raises
        ------
        InputError
            In one line with the names of the reference and the neuron, and what there is for any neuron.
        """
        if self.sides is None:
            raise InputError(
                f"{reference} knows the positively homogeneous neurons relu and leaky_relu only, not {self.label!r}; "
                "for any neuron there are the objective and an estimate of the gap by `certify`"
            )
        return self.sides

    def require_homogeneous(self, reference: str) -> None:
        """Check that the neuron is positively 2-homogeneous, where a reference rests on that.

        Raises
        ------
        InputError
            In one line with the names of the reference and the neuron, and what there is for any neuron.
        """
        if not self.is_homogeneous:
            raise InputError(
                f"{reference} needs a positively homogeneous neuron, which {self.label!r} is not; "
                "for any neuron there are the objective, the errors and the drift of a trace"
            )

    def require_linear_growth(self, reference: str) -> None:
        """Check that Φ grows at most quadratically in its weights, where a reference needs a minimum of L to exist.

        Raises
        ------
        InputError
            In one line with the names of the reference and the neuron, and the reason.
        """
        if not self.is_relu and self.growth > _LINEAR:
            raise InputError(
                f"{reference} needs a neuron that grows at most quadratically in its weights, which {self.label!r} "
                "does not: few particles of large weights fit anything at a vanishing penalty; "
                "for any neuron there are the objective, the errors and the drift of a trace"
            )

    @property
    def label(self) -> str:
        """What messages call it: its name, and that of ψ."""
        return f"{self.name}, output {self.output.name}" if self.output else self.name

    def __repr__(self) -> str:
        return f"Neuron({self.name!r}, output={self.output.name!r})" if self.output else f"Neuron({self.name!r})"


def qualified(function: Any) -> str:
    """`module.QualName` of a function."""
    return f"{function.__module__}.{function.__qualname__}"


@functools.cache
def _named(name: str) -> Neuron:
    return Neuron._built_in(name) if name in ACTIVATIONS else Neuron.from_formula(name)


def get_neuron(neuron: Any) -> Neuron:
    """The neuron of that name, or the Neuron object itself.

    Parameters
    ----------
    neuron : str, Neuron or mapping
        "relu", "leaky_relu" (slope 0.01 below 0), "tanh", "erf", "softplus", "gelu", "relu2" (relu²), "sine",
        "quadratic" (z²), a formula such as "tanh(z) + 0.1*z" (`Neuron.from_formula`), or a `Neuron`; or a table
        {"activation": one of these, "output": ψ} (`Neuron.with_output`).

    Returns
    -------
    Neuron

    Raises
    ------
    InputError
        Neither a known name (the nearest is suggested), nor a formula, nor such an object.

    Examples
    --------
    >>> from meanfield.neuron import get_neuron
    >>> get_neuron("tanh")
    Neuron('tanh')
    >>> get_neuron({"activation": "relu", "output": "tanh"})
    Neuron('relu', output='tanh')
    """
    if isinstance(neuron, Mapping):
        unknown = [key for key in neuron if key not in ("activation", "output")]
        if unknown:
            raise InputError(f"neuron.{unknown[0]}: unknown key; known are activation, output")
        inner, output = get_neuron(neuron.get("activation", "relu")), neuron.get("output")
        return inner if output is None else inner.with_output(output)
    if isinstance(neuron, Neuron):
        return neuron
    if not isinstance(neuron, str):
        raise InputError(f"neuron = {neuron!r}: must be one of {', '.join(ACTIVATIONS)}, or an object of Neuron")
    if neuron not in ACTIVATIONS and not is_formula(neuron):
        hint = did_you_mean(neuron, ACTIVATIONS)
        raise InputError(f"neuron {neuron!r} is unknown: must be one of {', '.join(ACTIVATIONS)}{hint}")
    return _named(neuron)


def check_growth(neuron: Neuron, temperature: float) -> None:
    """Check that noise cannot carry particles away: at τ > 0 φ may grow at most linearly, so that λ‖θ‖² holds them.

    Parameters
    ----------
    neuron : Neuron
        Any.
    temperature : float
        The largest τ.

    Raises
    ------
    InputError
        A neuron w φ(u·x) that grows faster than quadratically, and τ > 0.

    Examples
    --------
    >>> from meanfield.neuron import check_growth, get_neuron
    >>> check_growth(get_neuron("quadratic"), 0.0)
    """
    if temperature > 0 and not neuron.is_relu and neuron.growth > _LINEAR:
        raise InputError(
            f"temperature = {temperature!r}: neuron {neuron.label!r} grows faster than quadratically in its weights, "
            "so the free energy has no minimum; take temperature = 0, or an activation that grows at most linearly"
        )


def _places(count: int) -> np.ndarray:
    """Numbers in (−6, 6), none of them round: kinks and jumps are at round ones."""
    return 12.0 * ((np.arange(1, count + 1) * 0.6180339887498949) % 1.0) - 6.0


def _check(neuron: Neuron) -> None:
    """InputError, in one line, unless the two functions compile, are finite, and one is the other's derivative."""
    z = _places(200)
    try:
        value, slope = neuron.evaluate(np.concatenate([[0.0], z]))
        ahead, behind = neuron.evaluate(z + _STEP)[0], neuron.evaluate(z - _STEP)[0]
        neuron._code.rule(np.float32)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Failed in")]
        reason = lines[0] if lines else type(error).__name__
        raise InputError(f"neuron {neuron.name!r}: numba cannot compile its functions: {reason[:200]}") from None
    for what, values in (("activation", value), ("derivative", slope)):
        if not np.isfinite(values).all():
            where = np.concatenate([[0.0], z])[~np.isfinite(values)][0]
            raise InputError(f"neuron {neuron.name!r}: its {what} at {where:.6g} is not a finite number")
    found = (ahead - behind) / (2 * _STEP)
    off = np.abs(found - slope[1:]) > _TOLERANCE * (1 + np.abs(slope[1:]) + np.abs(value[1:]))
    if off.any():
        k = int(np.argmax(off))
        raise InputError(
            f"neuron {neuron.name!r}: its derivative at {z[k]:.6g} is {slope[1 + k]:.6g}, "
            f"where differences of the activation give {found[k]:.6g}"
        )
