"""Laws of what a run says of itself at its end: how far from the minimum, and whether it went the wrong way."""

import math
import warnings

import numpy as np
import pytest
from helpers import assert_same
from own_losses import SquaredHinge
from small_run import SETTINGS, example, start

from meanfield import Ensemble, GradientFlow, Implicit, Langevin, Problem, RunWarning, exact, resume, simulate
from meanfield.simulation import final_gap
from meanfield.simulation.final_gap import LEAST, MOST, SHARE, work_of

CALM = {"temperature": 0.0, "reg": 0.02}


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize(("dynamics", "numbers"), [(Langevin(), (10, 600)), (Implicit(cooled_at=30), (1, 30))])
def test_the_gap_is_that_of_the_minimum(dynamics, numbers, outputs):
    """The bound is below the least value known, the gap goes down with steps, and the trace has neither."""
    problem = example(outputs, **CALM)
    best = exact.optimum(problem, effort=0.02)
    few, many = (simulate(problem, start(outputs), dynamics, steps=steps, **SETTINGS) for steps in numbers)
    for result in (few, many):
        assert (result.final_gap.kind, result.final_gap.missing) == ("objective", "")
        assert result.final["lower_bound"] == result.final_gap.lower_bound <= best.value * (1 + 1e-9)
        assert result.final["relative_gap"] >= 1 - best.value / result.final["objective"] - 1e-9
        assert "lower_bound" not in result.trace
    assert many.final["relative_gap"] < 0.05 < few.final["relative_gap"]


@pytest.mark.parametrize("dynamics", [Langevin(), Implicit(cooled_at=40)], ids=["langevin", "implicit"])
def test_without_it_a_run_is_the_same_run(tmp_path, dynamics):
    """State, trace and file hold nothing of it; interrupted or not, with one thread or two, it is the same number."""
    problem = example(**CALM)
    whole = simulate(problem, start(), dynamics, steps=60, threads=1, **SETTINGS)
    without = simulate(problem, start(), dynamics, steps=60, final_gap=False, **SETTINGS)
    gap = whole.final_gap
    assert_same(whole, without)
    assert "relative_gap" not in without.final
    simulate(problem, start(), dynamics, steps=23, out=tmp_path / "run.h5", **SETTINGS).final  # noqa: B018
    rest = resume(tmp_path / "run.h5", until=60, threads=2, measures=SETTINGS["measures"])
    assert rest.final_gap == gap
    assert_same(rest, whole)


def test_in_few_dimensions_it_is_proven():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 2))
    result = simulate(Problem(X, np.abs(X[:, 0]), loss="squared", reg=1e-2), Ensemble.sphere(500, 2), steps=30)
    assert result.final_gap.rigorous
    assert result.final_gap.words == "relative gap (proven)"


def test_a_stationary_point_that_is_no_minimum_is_told():
    """Particles that all face away from the data never move towards them: `objective_change` stops, the gap is 90 %."""
    problem = Problem(np.ones((4, 1)), np.ones(4), loss="squared", reg=1e-3)
    dead = Ensemble.from_arrays(np.ones(64), -np.ones((64, 1)))
    result = simulate(problem, dead, GradientFlow(step_size=5.0), steps=9000, stop_when={"objective_change": 1e-6})
    assert result.stopped == "objective_change"
    assert result.final["relative_gap"] > 0.9


class Silent(SquaredHinge):
    """A loss without a conjugate."""

    name = "silent"
    conjugate = SquaredHinge.__mro__[2].conjugate


class Broken(SquaredHinge):
    """One whose conjugate fails."""

    name = "broken"

    def conjugate(self, a, t):
        raise ZeroDivisionError("no conjugate today")


@pytest.mark.parametrize(("loss", "words"), [(Silent(), "conjugate"), (Broken(), "no conjugate today")])
@pytest.mark.parametrize("temperature", [0.0, 1e-3])
def test_where_it_cannot_be_had_the_run_says_why(loss, words, temperature):
    """In one line, and never by an exception: the run is done."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 3))
    result = simulate(Problem(X, np.sign(X[:, 0]), loss=loss, temperature=temperature), Ensemble.sphere(64, 3), steps=5)
    assert words in result.final_gap.missing
    assert math.isnan(result.final["relative_gap"])


@pytest.mark.parametrize(
    ("loss", "ranks", "shared", "told"),
    [
        ("logistic", 1, False, False),
        (SquaredHinge(), 1, False, True),
        (SquaredHinge(), 2, True, True),
        (SquaredHinge(), 2, False, False),
    ],
)
def test_an_error_is_a_reason_only_where_a_loss_may_have_raised_it(monkeypatch, loss, ranks, shared, told):
    """With a loss of ours it is raised; also what one rank of several has, since the others wait for it."""

    def fails(*_):
        error = ZeroDivisionError("nothing to divide by")
        error.shared = shared
        raise error

    result = simulate(Problem(np.eye(2), [1, -1], loss=loss), Ensemble.sphere(64, 2), steps=1)
    monkeypatch.setattr(final_gap, "quick_bound", fails)
    monkeypatch.setattr(type(result.ensemble.span.ranks), "size", ranks)
    if told:
        assert result.final_gap.missing == "ZeroDivisionError: nothing to divide by"
    else:
        with pytest.raises(ZeroDivisionError):
            result.final_gap  # noqa: B018


def test_one_that_is_cut_short_has_none():
    result = simulate(example(**CALM), start(), steps=5000, max_time=0.0, **SETTINGS)
    assert (result.stopped, math.isnan(result.final["relative_gap"])) == ("max_time", True)


def test_its_work_is_a_tenth_of_the_steps_between_two_limits():
    """By what a step of the run's dynamics costs: an explicit one 42 ps a particle, example and dimension."""
    explicit, implicit = (
        simulate(example(**CALM), start(), one, steps=3, **SETTINGS) for one in (Langevin(), Implicit())
    )
    assert work_of(explicit.run) == work_of(implicit.run) == LEAST
    for result, few in ((explicit, 7 * 10**5), (implicit, 500)):
        result.ensemble.step = few
        each = 1e9 * result.dynamics.cost(1500, 40, 6)
        assert work_of(result.run) == pytest.approx(SHARE * few * each)
        assert LEAST < work_of(result.run) < MOST
        result.ensemble.step = 10**12
        assert work_of(result.run) == MOST
    assert explicit.dynamics.cost(1500, 40, 6) == pytest.approx(0.042e-9 * 1500 * 40 * 6)


def test_at_a_temperature_it_is_the_free_energy_s():
    """Small where the particles have come to rest, large where they start."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 3))
    problem = Problem(X, np.sign(X[:, 0]), reg=0.02, temperature=2e-3)
    gaps = [simulate(problem, Ensemble.gaussian(4000, 3), steps=steps, anneal=False).final_gap for steps in (1, 1500)]
    assert [gap.kind for gap in gaps] == ["free energy"] * 2
    assert [gap.rigorous for gap in gaps] == [False] * 2
    assert abs(gaps[1].relative_gap) < 0.03 < gaps[0].relative_gap


def test_an_objective_that_rose_is_warned_of():
    """Not one that only fell with λ; and compared at the same λ, so that annealing does not hide it."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 4))
    problem = Problem(X, np.sign(X[:, 0] * X[:, 1]), reg=1e-3)
    falling = problem.with_schedules(reg={"start": 1.0, "end": 1e-3, "steps": 50, "shape": "geometric"})
    with pytest.warns(RunWarning, match="step 1000: the objective is .* step 0"):
        simulate(falling, Ensemble.sphere(256, 4), GradientFlow(step_size=0.5, batch=1), steps=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate(problem, Ensemble.sphere(256, 4), steps=60)
        simulate(falling, Ensemble.sphere(256, 4), GradientFlow(step_size=0.2), steps=60)
        simulate(problem, Ensemble.sphere(256, 4), steps=0)
