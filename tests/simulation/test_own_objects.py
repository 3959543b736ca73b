"""Laws of objects first: what is given is what runs, and the user's own dynamics, loss and measures work as ours do."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from faults import in_process
from helpers import assert_same
from small_run import SETTINGS, example, largest_u, start

from meanfield import (
    DivergenceError,
    Ensemble,
    InputError,
    Langevin,
    Measure,
    Problem,
    RunFileError,
    certify,
    exact,
    load,
    plots,
    resume,
    simulate,
)
from meanfield.dynamics import DYNAMICS, Dynamics, exponential_move
from meanfield.losses import TwoClassLoss
from meanfield.schedules import Schedule
from meanfield.simulation.toml import load_config, parse_config, to_toml

K = 9  # where runs are cut: no multiple of record_every (5) or checkpoint_every (7)


HEAT = Schedule.of(1.0)


@dataclass(frozen=True)
class Reborn(Dynamics):
    """Langevin with rebirth, and parameters of every kind that a file keeps."""

    rate: float = 1e-2
    heat: Schedule = HEAT
    words: tuple = ("é", 3, True)
    nothing: float | None = None

    name = "reborn"

    def move(self, eta, reg, temperature):
        return exponential_move(eta, reg, temperature, -math.expm1(-self.rate * eta))


class Cooled(Langevin):
    """A subclass of ours under its name: still another law."""

    def move(self, eta, reg, temperature):
        return super().move(eta, reg, temperature / 2)


@dataclass(frozen=True)
class Huge(Dynamics):
    table: object = None

    def move(self, eta, reg, temperature):
        return exponential_move(eta, reg, temperature)


class SquaredHinge(TwoClassLoss):
    """½ max(0, b − yf)², an object without dataclass."""

    name = "logistic"  # a name of ours makes it no loss of ours

    def __init__(self, b=1.0):
        self.b = b

    def value(self, f, t):
        return float(np.mean(0.5 * np.maximum(0.0, self.b - t * f[:, 0]) ** 2))

    def residual(self, f, t):
        return (-t * np.maximum(0.0, self.b - t * f[:, 0]) / len(t))[:, None]

    def conjugate(self, a, t):
        p = -len(t) * a[:, 0] * t
        return float(np.mean(0.5 * p * p - self.b * p)) if np.all(p >= 0) else np.inf

    def largest_scale(self, a, t):
        return np.inf if np.all(-a[:, 0] * t >= 0) else 0.0

    def curvature(self, f, t):
        return np.where(t * f[:, 0] < self.b, 1.0, 0.0)


@pytest.mark.parametrize("anneal", [False, True])
def test_the_very_objects_run(anneal):
    """The problem unless λ is annealed, in which case its data and loss; the dynamics; never another `Problem`."""
    problem, dynamics = example(reg=1e-3, temperature=0.0), Langevin()
    run = simulate(problem, start(m=64), dynamics, steps=2, anneal=anneal).run
    assert run.dynamics is dynamics
    assert (run.problem is problem) is not anneal
    assert run.problem.X is problem.X
    assert run.problem.loss is problem.loss
    assert problem.reg == Schedule.of(1e-3)
    assert run.problem.reg == run.config.objective.reg
    assert (run.problem.reg.shape == "geometric") is anneal


def test_the_critical_value_is_sought_once(monkeypatch):
    """And not at all without annealing, as by default; a problem is posed once from a configuration, and never from
    objects."""
    from meanfield.simulation.new_run import new_run_from_config

    asked, posed, critical, init = [], [], Problem.critical_reg, Problem.__init__
    monkeypatch.setattr(Problem, "critical_reg", lambda self: asked.append(1) or critical(self))
    monkeypatch.setattr(Problem, "__init__", lambda self, *args, **named: posed.append(1) or init(self, *args, **named))
    problem = example(reg=1e-3, temperature=0.0)
    for anneal, times in ((False, 0), (True, 1)):
        simulate(problem, start(m=64), steps=1, anneal=anneal)
        assert (len(asked), len(posed)) == (times, 1)
    for more, times in (([], 1), (["dynamics.method=langevin"], 2)):
        new_run_from_config(load_config(None, ["data.n=20", "ensemble.m=64", *more]))
        assert (len(asked), len(posed)) == (times, times + 1)


@pytest.mark.parametrize("dynamics", [Reborn(), Reborn(rate=0.3, batch=16, step_size=0.4), Cooled()])
@pytest.mark.parametrize("loss", [None, SquaredHinge(1.5)])
def test_interrupted_equals_uninterrupted_with_objects_of_ones_own(tmp_path, dynamics, loss):
    """State and trace with ==, as for our own; through the file, to which both are given again."""
    problem = example() if loss is None else Problem(example().X, example().y, loss=loss, reg=0.01, temperature=1e-3)
    path, own = tmp_path / "run.h5", {"dynamics": dynamics, "loss": loss}
    whole = simulate(problem, start(), dynamics, steps=2 * K, threads=2, **SETTINGS)
    simulate(problem, start(), dynamics, steps=K, threads=1, out=path, **SETTINGS)
    rest = resume(path, until=2 * K, measures=SETTINGS["measures"], **own)
    assert_same(rest, whole)
    kept = load(path, **own)
    assert_same(kept, whole)
    assert kept.dynamics is dynamics
    assert loss is None or kept.problem.loss is loss
    assert whole.dynamics is dynamics


def test_an_own_law_moves_otherwise_than_ours():
    """So that the tests above see it run: rebirth at rate 0 is Langevin bit for bit, at another rate it is not."""
    ends = [simulate(example(), start(), law, steps=5).ensemble.u for law in (Reborn(rate=0.0), Reborn(), Langevin())]
    assert np.array_equal(ends[0], ends[2])
    assert not np.array_equal(ends[1], ends[2])


def test_a_file_names_the_class_and_keeps_its_parameters(tmp_path):
    """`module.QualName` and plain values, which survive being written; a file of our own says nothing of the kind."""
    own = simulate(example(), start(m=64), Reborn(), steps=1).config
    assert own.dynamics.method == f"{__name__}.Reborn"
    heat = {"shape": "constant", "start": 1.0, "end": 1.0, "steps": 0}
    assert own.dynamics.parameters == {"rate": 1e-2, "heat": heat, "words": ["é", 3, True]}
    assert parse_config(to_toml(own), "x") == own
    assert "parameters" not in to_toml(simulate(example(), start(m=64), steps=1).config)
    hinge = simulate(Problem(np.eye(2), [1, -1], loss=SquaredHinge(2.0)), Ensemble.sphere(64, 2), steps=1).config
    assert (hinge.objective.loss, hinge.objective.parameters) == (f"{__name__}.SquaredHinge", {"b": 2.0})


def test_another_object_is_refused(tmp_path):
    """In one line that says what the file has and what was given; a run of ours can be given its own too."""
    path, ours = tmp_path / "own.h5", tmp_path / "ours.h5"
    simulate(example(), start(m=64), Reborn(), steps=3, out=path)
    simulate(example(), start(m=64), steps=3, out=ours)
    for wrong, words in (
        (None, rf"{__name__}\.Reborn.*give it there.*dynamics="),
        (Langevin(), r"dynamics\.method is .*Reborn; the object given has langevin"),
        (Reborn(rate=0.5), r"dynamics\.parameters is .*0\.01.*has .*0\.5"),
        (Reborn(step_size=0.5), r"dynamics\.step_size is auto.*0\.5"),
    ):
        with pytest.raises(RunFileError, match=words) as caught:
            resume(path, more=1, dynamics=wrong)
        assert "\n" not in str(caught.value)
    with pytest.raises(RunFileError, match="langevin"):
        resume(ours, more=1, dynamics=DYNAMICS["birth_death"]())
    assert resume(ours, more=1, dynamics=Langevin()).ensemble.step == 4
    assert load(path).ensemble.step == 3


def test_a_loss_of_ones_own_is_needed_to_open_a_run(tmp_path):
    """Without it, or with another, one line; with it, certificate and optimum are what they are for the problem."""
    path = tmp_path / "run.h5"
    problem = Problem(example().X[:, :3], example().y, loss=SquaredHinge(), reg=0.01)
    result = simulate(problem, Ensemble.sphere(300, 3, seed=1), steps=60, out=path)
    for wrong, words in ((None, "give it there"), (SquaredHinge(2.0), r"parameters is .*1\.0.*2\.0")):
        with pytest.raises(RunFileError, match=words):
            load(path, loss=wrong)
    run = load(path, loss=SquaredHinge())
    found, best = certify(run.problem, run.ensemble, effort=0.1), exact.optimum(problem, effort=0.1)
    assert 0 < found.lower_bound <= best.value * (1 + 1e-9)
    assert best.value <= found.primal * (1 + 1e-9)
    assert found.primal == pytest.approx(problem.objective(result.ensemble).value, rel=1e-6)


def test_what_a_file_cannot_keep_is_refused_at_once():
    """A field that is no plain value, and what is no dynamics at all."""
    for wrong, words in ((Huge(table=object()), r"dynamics\.table"), ("langevin", "must be an object")):
        with pytest.raises(InputError, match=words) as caught:
            simulate(example(), start(m=64), wrong, steps=1)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["dynamics.method", "objective.loss"])
def test_text_alone_makes_no_object(key):
    """A configuration file, and the command line, know ours alone."""
    with pytest.raises(InputError, match="only in the run files of runs made in Python"):
        load_config(None, [f"{key}='mine.Own'"])


def test_the_command_line_sends_such_runs_to_python(tmp_path):
    """In one line, exit status 2; what only looks, looks."""
    law, loss = tmp_path / "law.h5", tmp_path / "loss.h5"
    simulate(example(), start(m=64), Reborn(), steps=3, out=law)
    simulate(Problem(np.eye(2), [1, -1], loss=SquaredHinge()), Ensemble.sphere(64, 2), steps=3, out=loss)
    for path, words in ((law, "resume(path, dynamics=…)"), (loss, "resume(path, loss=…)")):
        status, _, err = in_process("resume", path, "--more", 1)
        assert (status, err.count("\n")) == (2, 1)
        assert words in err
        assert "Python" in err
    for command in (["info", law], ["plot", law], ["report", law, "--seconds", "0"], ["watch", law, "--once"]):
        assert in_process(*command)[0] == 0, command


def test_measures_of_ones_own_are_columns(tmp_path):
    """Objects beside names: those without a cost in every row, those with one as often as measures are taken."""
    seen = []

    def moments(scene):
        seen.append(scene)
        return scene.moments.second, float(np.abs(scene.moments.f).max())

    def moved(scene):
        return (float(np.abs(scene.now.u - scene.start.u).max()),)

    since = Measure(("moved",), moved, seconds=lambda size: 1e-9 * size.m, from_start=True)
    mine = [Measure(("second", "top"), moments), since]
    settings = {"record_every": 5, "anneal": False, "record": {"measures_every": 10}}
    whole = simulate(example(), start(), steps=20, measures=["margins", *mine], **settings)
    trace = whole.trace
    assert trace["second"] == pytest.approx(trace["penalty"] / trace["reg"], rel=1e-12)
    taken = [True, False, True, False, True]
    assert np.isfinite(trace["moved"]).tolist() == np.isfinite(trace["margin_q50"]).tolist() == taken
    assert trace["moved"][0] == 0 < trace["moved"][2]
    assert seen[0].start is None
    path = tmp_path / "run.h5"
    simulate(example(), start(), steps=7, measures=["margins", *mine], out=path, **settings)
    assert_same(resume(path, until=20, measures=mine), whole)


@pytest.mark.parametrize(
    ("measures", "words"),
    [
        ("margins", "list of names"),
        ([largest_u], "must be a name, or a Measure"),
        ({"x": 3.0}, "'x': must be a function"),
        ([Measure(("risk",), lambda scene: (0.0,))], "'risk' is a measure of this trace already"),
        ([Measure(("a", "b"), lambda scene: (0.0,))], "as many numbers as columns"),
        (["marginz"], "did you mean margins"),
    ],
)
def test_what_is_no_measure_is_named(measures, words):
    """InputError, in one line."""
    with pytest.raises(InputError, match=words) as caught:
        simulate(example(), start(m=64), steps=1, measures=measures)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "given", "words"),
    [
        ("value", "0.5", "value at f = 0 is '0.5': must be a number"),
        ("value", None, "value at f = 0 is None"),
        ("value", math.nan, "value at f = 0 is not finite"),
        ("residual", np.ones(20), r"residual must be an array of shape \(20, 1\)"),
        ("residual", np.ones((20, 2)), r"residual must be an array of shape \(20, 1\)"),
        ("residual", np.ones((20, 1), complex), "residual at f = 0 has dtype complex128: must be numbers"),
        ("residual", np.full((20, 1), np.nan), "residual at f = 0 is not finite"),
        ("curvature", 1.0, r"curvature must be an array of shape \(20,\)"),
        ("curvature", np.ones((20, 1)), r"curvature must be an array of shape \(20,\)"),
    ],
)
def test_what_is_no_loss_is_named_at_the_door(monkeypatch, method, given, words):
    """Other shapes were taken for the right ones, or ended in a traceback or as a divergence."""
    monkeypatch.setattr(SquaredHinge, method, lambda self, f, t: given)
    with pytest.raises(InputError, match=words) as caught:
        Problem(np.ones((20, 2)), [1, -1] * 10, loss=SquaredHinge())
    assert str(caught.value).isprintable()


class Forgetful(SquaredHinge):
    """NaN once outputs have grown."""

    def value(self, f, t):
        return super().value(f, t) if np.abs(f).max() < 0.5 else math.nan


def test_an_objective_that_is_no_number_ends_a_run(tmp_path):
    """Naming the step; the checkpoint before stays, and nothing says "done"."""
    path, problem = tmp_path / "run.h5", Problem(example().X, example().y, loss=Forgetful(), reg=0.01)
    with pytest.raises(DivergenceError, match=r"^step \d+: the objective is nan .* of step \d+, is intact") as caught:
        simulate(problem, start(m=64), Langevin(), steps=200, record_every=1, checkpoint_every=1, out=path)
    run = load(path, loss=Forgetful())
    assert f"step {run.ensemble.step}, is intact" in str(caught.value)
    assert np.isfinite(run.trace["objective"]).all()


@pytest.mark.parametrize("given", [None, "5", (0.0, 0.1, 0.0, 0.0)])
def test_a_law_that_gives_no_move_is_named(monkeypatch, given):
    monkeypatch.setattr(Reborn, "move", lambda self, eta, reg, temperature: given)
    with pytest.raises(InputError, match=r"Reborn.move: gave .*, must be a Move"):
        simulate(example(), start(m=64), Reborn(), steps=1)


def test_names_are_no_measures_of_a_resumed_run(tmp_path):
    """They belong to its configuration."""
    simulate(example(), start(m=64), steps=1, out=tmp_path / "run.h5")
    with pytest.raises(InputError, match="chosen when a run begins"):
        resume(tmp_path / "run.h5", more=1, measures=["margins"])


def test_a_run_with_objects_of_ones_own_is_drawn():
    """Every figure and panel, of the result and of its run: the same lines."""
    loss = SquaredHinge()
    problem = Problem(example().X, example().y, loss=loss, reg=0.01)
    result = simulate(problem, start(m=200), Reborn(), steps=10, record_every=5, record={"snapshots": 2})
    for name in (*plots.FIGURES, *plots.PANELS):
        one, other = result.plot(name), plots.figure(result.run, name)
        assert len(one.axes) == len(other.axes) > 0
