"""Noise by layer, on labels, and of a temperature that is any function of the step: laws, restart, refusals."""

import math

import numpy as np
import pytest
from faults import in_process
from helpers import assert_same
from small_run import SETTINGS, example, start

from meanfield import (
    Ensemble,
    GradientFlow,
    Implicit,
    InputError,
    KineticLangevin,
    Langevin,
    Problem,
    RunFileError,
    load,
    resume,
    simulate,
)
from meanfield.losses import get_loss

RNG = np.random.default_rng(0)
X = RNG.standard_normal((30, 3))


def still(temperature, reg=0.5):
    """Data that pull at nothing."""
    return Problem(np.zeros((1, 3)), [0.0], loss="squared", reg=reg, temperature=temperature)


def falling(k):
    return 0.02 / (1 + k)


def other(k):
    return 0.02


@pytest.mark.parametrize("kind", [Langevin, KineticLangevin])
def test_each_layer_has_its_own_temperature(kind):
    """Without data each ends at N(0, part τ/2λ), and a part of 0 is no noise, to the bit."""
    many = Ensemble.gaussian(1 << 15, 3, seed=4)
    end = simulate(still(0.3), many, kind(step_size=1.5, noise=(1.0, 0.25)), steps=30).ensemble
    for numbers, variance in ((end.u, 0.3), (end.w, 0.3 / 4)):
        assert numbers.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / numbers.size))
    ends = [simulate(still(tau), many, kind(step_size=0.5, noise=(0.0, 1.0)), steps=3).ensemble for tau in (0.3, 0.0)]
    assert np.array_equal(ends[0].u, ends[1].u)
    assert not np.array_equal(ends[0].w, ends[1].w)


def test_label_noise_of_regression_is_added_and_forgotten():
    """The mean over steps of y + σξ is y and its deviation σ; the recorded risk is that of the labels as they are."""
    loss, t = get_loss("squared"), RNG.standard_normal((40, 2))
    drawn = np.array([loss.mislabelled(t, 2, 0.7, 3, k) for k in range(400)])
    assert np.abs(drawn.mean(axis=0) - t).max() < 5 * 0.7 / 20
    assert (drawn - t).std() == pytest.approx(0.7, rel=5 / math.sqrt(2 * drawn.size))
    problem = Problem(X, X[:, 0], loss="squared", reg=1e-2)
    ensemble = Ensemble.sphere(200, 3, seed=1)
    result = simulate(problem, ensemble, GradientFlow(0.1, label_noise=0.5), steps=5, record_every=1)
    assert result.trace["risk"][-1] == pytest.approx(problem.objective(result.ensemble).risk, rel=1e-12)
    quiet = simulate(problem, ensemble, GradientFlow(0.1), steps=5).ensemble
    assert not np.array_equal(quiet.u, result.ensemble.u)


@pytest.mark.parametrize(("name", "labels"), [("logistic", [-1.0, 1.0]), ("cross_entropy", [0, 1, 2, 3])])
def test_label_noise_of_classes_is_another_label(name, labels):
    """With probability p, and each of the others as often."""
    loss = get_loss(name)
    t, _ = loss.encode(np.array(labels * 5000), where="y")
    found = loss.mislabelled(t, len(labels), 0.3, 1, 2)
    assert np.mean(found != t) == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / len(t)))
    wrong = found[(found != t) & (t == labels[0])]
    for label in labels[1:]:
        assert np.mean(wrong == label) == pytest.approx(1 / (len(labels) - 1), abs=5 / math.sqrt(len(wrong)))
    with pytest.raises(InputError, match=r"label_noise = 1.5: a probability"):
        loss.mislabelled(t, len(labels), 1.5, 1, 2)


def test_on_the_mean_label_noise_moves_particles_as_no_noise_does():
    """One step from many seeds, squared loss: the mean displacement is that of the labels as they are."""
    problem, ensemble = Problem(X, X[:, 0], loss="squared", reg=0.0), Ensemble.sphere(50, 3, seed=1, dtype="float64")
    clean = simulate(problem, ensemble, GradientFlow(0.1), steps=1).ensemble.u
    moved = []
    for seed in range(300):
        other = Ensemble.from_arrays(ensemble.w, ensemble.u, seed=seed)
        moved.append(simulate(problem, other, GradientFlow(0.1, label_noise=1.0), steps=1).ensemble.u)
    error = np.std(moved, axis=0) / math.sqrt(300)
    assert error.max() > 0
    off = np.abs(np.mean(moved, axis=0) - clean)[error > 0] / error[error > 0]
    assert off.max() < 5


def test_a_temperature_may_be_any_function_of_the_step():
    """At λ = 0 and without data the variance is 2η Σ τ(k)."""
    many = Ensemble.from_arrays(np.zeros((1 << 15, 1)), np.zeros((1 << 15, 3)), seed=4)
    result = simulate(still(falling, reg=0.0), many, Langevin(step_size=0.5), steps=4, record_every=1)
    assert result.trace["temperature"] == pytest.approx([0.02, 0.01, 0.02 / 3, 0.005, 0.004])
    numbers = result.ensemble.u
    variance = 2 * 0.5 * 0.02 * (1 + 1 / 2 + 1 / 3 + 1 / 4)
    assert numbers.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / numbers.size))
    assert isinstance(simulate(still(falling), many, steps=1).run.dynamics, Langevin)
    stopped = simulate(
        still(falling), many, Langevin(0.5), steps=20, record_every=1, stop_when={"objective_change": 9.0}
    )
    assert stopped.stopped == "done"  # nobody knows when such a temperature is at rest
    with pytest.raises(InputError, match=r"is -1.0 at step 1: must be a finite number, at least 0"):
        simulate(still(lambda k: 1.0 - 2 * k), many, Langevin(step_size=0.5), steps=2)


def test_a_run_with_them_that_was_cut_ends_with_the_same_bits(tmp_path):
    """The function is given again, and another one, or none, is refused in one line."""
    problem, path = example(temperature=falling), tmp_path / "run.h5"
    law = Langevin(noise=(0.5, 1.0), label_noise=0.2, batch=11)
    whole = simulate(problem, start(), law, steps=20, threads=1, **SETTINGS)
    simulate(problem, start(), law, steps=9, threads=2, out=path, **SETTINGS)
    rest = resume(path, until=20, threads=3, measures=SETTINGS["measures"], temperature=falling)
    assert_same(whole, rest)
    assert load(path, temperature=falling).config.objective.temperature.shape.endswith(".falling")
    for wrong, words in ((None, r"load\(path, temperature=…\)"), (other, "the function given is .*other")):
        with pytest.raises(RunFileError, match=words):
            load(path, temperature=wrong)
    plain = tmp_path / "plain.h5"
    simulate(example(), start(), law, steps=2, out=plain, **SETTINGS)
    with pytest.raises(RunFileError, match=r"objective.temperature is .*the function given is"):
        load(plain, temperature=falling)
    status, _, err = in_process("info", path)
    assert (status, err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["dynamics.noise=[1, 0]", "dynamics.method=implicit"], "an implicit step moves both layers alike"),
        (["dynamics.label_noise=-1"], "dynamics.label_noise = -1: must be at least 0"),
        (["dynamics.noise=[1]"], "must be two finite numbers, of u and of w"),
        (["objective.temperature={shape='mine.falling'}"], "only in the run files of runs made in Python"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(tmp_path, settings, words):
    """By the command, naming the key."""
    asked = [word for one in settings for word in ("--set", one)]
    status, _, err = in_process("run", "--out", tmp_path / "run.h5", *asked)
    assert (status, err.count("\n")) == (2, 1)
    assert words in err


def test_in_python_too():
    """A pair that is none, a level that is none, and implicit steps."""
    for wrong in ({"noise": (1,)}, {"noise": (0, 0)}, {"label_noise": -0.1}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Langevin(**wrong)
    with pytest.raises(InputError, match="implicit"):
        Implicit(label_noise=0.1)
