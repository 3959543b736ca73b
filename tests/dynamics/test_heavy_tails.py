"""Noise of heavy tails: the law by its characteristic function, the twin, both limits, restart, refusals."""

import math

import numpy as np
import pytest
from helpers import assert_same
from small_run import SETTINGS, example, start

from meanfield import (
    BirthDeath,
    Ensemble,
    GradientFlow,
    Implicit,
    InputError,
    KineticLangevin,
    Langevin,
    Problem,
    load,
    resume,
    simulate,
)
from meanfield.dynamics.base import heavy_spread
from meanfield.engine.noise import Purpose, normals, raw
from meanfield.simulation.toml import load_config

M, ETA, TAU = 1 << 15, 0.7, 0.3


def ended(tail, reg, steps=1, dtype="float32", **settings):
    """θ (M, 4) from 0, without data that pull."""
    still = Problem(np.zeros((1, 3)), [0.0], loss="squared", reg=reg, temperature=TAU)
    first = Ensemble.from_arrays(np.zeros(M), np.zeros((M, 3)), seed=5, dtype=dtype)
    end = simulate(still, first, Langevin(ETA, tail_index=tail), steps=steps, final_gap=False, **settings).ensemble
    return np.hstack([end.u, end.w]).astype(float)


@pytest.mark.parametrize("tail", [1.0, 1.4, 1.9])
@pytest.mark.parametrize(("reg", "steps"), [(0.0, 1), (0.5, 1), (0.5, 6)])
def test_the_law_is_stable_alike_in_all_directions(tail, reg, steps):
    """E cos t·θ = e^{−τ T‖t‖^α}, T = ∫ e^{−2αλs} ds: for any step, at any time, along an axis and across layers."""
    time = ETA * steps if reg == 0 else (1 - math.exp(-2 * tail * reg * ETA * steps)) / (2 * tail * reg)
    theta = ended(tail, reg, steps)
    for direction in ([1, 0, 0, 0], [0, 0, 0, 1], [0.5, 0.5, -0.5, 0.5]):
        for size in (0.3, 1.0, 3.0):
            found = np.cos(size * theta @ direction)
            assert found.mean() == pytest.approx(
                math.exp(-TAU * time * size**tail), abs=4.5 * found.std() / math.sqrt(M)
            )


def test_a_step_is_the_twins():
    """θ = spread √A ξ with Chambers, Mallows and Stuck's A of the particle's words, and the usual ξ."""
    words = raw(5, Purpose.TAIL, 0, M).astype(np.uint64)
    turn, uniform = (
        ((high << np.uint64(21) | low >> np.uint64(11)).astype(float) + 0.5) * 2.0**-53
        for high, low in (words[:2], words[2:])
    )
    a, U = 0.7, np.pi * turn
    A = np.sin(a * U) / np.sin(U) ** (1 / a) * (np.sin((1 - a) * U) / -np.log(uniform)) ** ((1 - a) / a)
    spread = math.sqrt(2) * (TAU * (1 - math.exp(-1.4 * ETA)) / 1.4) ** (1 / 1.4)
    xi = normals(5, Purpose.LANGEVIN, 0, M, 4, dtype="float64")
    found = ended(1.4, 0.5, dtype="float64")
    assert np.allclose(found, spread * np.sqrt(A)[:, None] * xi, rtol=1e-9, atol=0)


@pytest.mark.slow
def test_towards_two_the_noise_becomes_gaussian():
    """And at 2 it is, to the bit; the spread goes over into that of the exponential scheme."""
    assert np.array_equal(ended(2.0, 0.5), ended(2, 0.5))
    near, gaussian = ended(2 - 1e-9, 0.5, dtype="float64"), ended(2.0, 0.5, dtype="float64")
    assert np.quantile(np.abs(near / gaussian - 1), 0.99) < 1e-6
    assert heavy_spread(0.3, 0.5, 0.2, 2 - 1e-9) == pytest.approx(0.3, rel=1e-8)
    tails = [np.mean(np.abs(ended(tail, 0.5)) > 6.0) for tail in (2.0, 1.8, 1.2)]
    assert tails[0] == 0 < tails[1] < tails[2]


@pytest.mark.parametrize("kind", [Langevin, BirthDeath])
def test_interrupted_equals_uninterrupted(tmp_path, kind):
    """State and trace with ==, whatever the threads; the file says which noise it was."""
    problem, path, law = example(1), tmp_path / "run.h5", kind(tail_index=1.5, noise=(1.0, 0.5))
    whole = simulate(problem, start(1, m=1100), law, steps=18, threads=2, **SETTINGS)
    simulate(problem, start(1, m=1100), law, steps=9, threads=1, out=path, **SETTINGS)
    assert load(path).config.dynamics.tail_index == 1.5
    assert_same(resume(path, until=18, measures=SETTINGS["measures"]), whole)
    gaussian = simulate(problem, start(1, m=1100), kind(noise=(1.0, 0.5)), steps=18, **SETTINGS)
    assert not np.array_equal(gaussian.ensemble.u, whole.ensemble.u)
    ended = simulate(example(temperature=1e-3), start(m=64), kind(tail_index=1.5), steps=2)
    assert "heavy tails" in ended.final_gap.missing


def test_what_has_no_such_noise_says_so():
    """In one line; without noise it is nothing."""
    for refused in (
        lambda: Langevin(tail_index=0.9),
        lambda: Langevin(tail_index=math.nan),
        lambda: KineticLangevin(tail_index=1.5),
        lambda: Implicit(tail_index=1.5),
        lambda: load_config(None, ["dynamics.tail_index=2.5"]),
    ):
        with pytest.raises(InputError, match="tail_index") as caught:
            refused()
        assert "\n" not in str(caught.value)
    assert load_config(None, ["dynamics.tail_index=1.5"]).dynamics.method == "langevin"
    ends = [simulate(example(), start(m=64), GradientFlow(tail_index=one), steps=3).ensemble for one in (1.5, 2.0)]
    assert np.array_equal(ends[0].theta, ends[1].theta)
