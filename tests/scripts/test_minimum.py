"""The suite of minima and what runs on it: problems are well-formed, values attained, tables follow from runs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from meanfield import Ensemble, exact
from meanfield.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import bench_minimum
import claim_minimum
import minimum_references as references
import minimum_suite
import peers_adam
from minimum_suite import Case, Known

ONE = Case("one", np.array([[1.0]]), np.array([1.0]), "squared", 0.25)  # its minimum is 3/8, at f = ½


def small(loss, outputs=1):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((12, 3))
    y = {
        "squared": rng.standard_normal((12, outputs)),
        "logistic": rng.choice([-1.0, 1.0], 12),
        "cross_entropy": np.arange(12) % outputs,
    }
    return Case("small", X, y[loss], loss, 1e-2)


KINDS = [("squared", 1), ("squared", 3), ("logistic", 1), ("cross_entropy", 3)]


def test_the_suite_holds_what_it_says():
    """At least 40 problems of the names that the file knows, three losses, up to ten outputs and 5000 examples."""
    cases = minimum_suite.suite()
    assert len(cases) >= 40
    assert list(minimum_suite.known()) == list(cases)
    assert {case.loss for case in cases.values()} == {"squared", "logistic", "cross_entropy"}
    assert max(case.problem.outputs for case in cases.values()) == 10
    assert max(case.problem.n for case in cases.values()) == 5000
    assert len({claim_minimum.digest(case) for case in cases.values()}) == len(cases), "two are the same problem"


@pytest.mark.parametrize("group", ["_functions", "_drawn_in_turn", "_targets", "_paper", "_classes", "_bundled"])
def test_problems_are_well_formed_and_come_out_the_same_twice(group):
    """Finite numbers, a positive λ, names of their own, and the same bits again."""
    first, second = (list(getattr(minimum_suite, group)()) for _ in range(2))
    assert len({case.name for case in first}) == len(first)
    for case, again in zip(first, second, strict=True):
        assert claim_minimum.digest(case) == claim_minimum.digest(again)
        assert np.isfinite(case.X).all()
        assert np.isfinite(np.asarray(case.y, float)).all()
        assert case.problem.reg.end == case.reg > 0


def test_known_values_lie_between_their_bounds_and_the_network_that_predicts_nothing():
    """lower_bound ≤ lowest < R(0): nothing is gained by a network that is not better than none."""
    for name, known in minimum_suite.known().items():
        problem = minimum_suite.suite()[name].problem
        nothing = problem.loss.value(np.zeros((problem.n, problem.outputs)), problem.targets)
        assert 0 < known.lowest < nothing, name
        assert known.found, name
        assert known.lower_bound is None or known.lower_bound <= known.lowest * (1 + 1e-9), name


@pytest.mark.parametrize("name", ["sin 3x", "10 + |x|", "step", "three units"])
def test_known_values_come_out_again(name):
    """Conditional gradient comes to within 0.1 % of them, and to nothing lower."""
    found = exact.optimum(minimum_suite.suite()[name].problem, tolerance=1e-6)
    assert found.value == pytest.approx(minimum_suite.known()[name].lowest, rel=1e-3)
    assert found.value >= minimum_suite.known()[name].lowest * (1 - 1e-5)


def test_what_is_known_survives_being_written(tmp_path):
    """Read, written, read: the same, in the order of the suite."""
    known = minimum_suite.known()
    minimum_suite.keep(dict(reversed(known.items())), tmp_path / "known.json")
    assert list(minimum_suite.known(tmp_path / "known.json").items()) == list(known.items())


@pytest.mark.parametrize(("loss", "outputs"), KINDS)
def test_the_slope_of_finite_networks_is_that_of_their_objective(loss, outputs):
    """Against central differences of step h: error h² and rounding; and L is the library's own."""
    case, h = small(loss, outputs), 1e-6
    w, u = references.start_of(case, 5, seed=1)
    theta = np.concatenate([w.ravel(), u.ravel()])
    assert references.objective(case, theta, 5)[0] == pytest.approx(references.attained(case, (w, u)), rel=1e-12)
    for rounded in (0.0, 0.3):
        _, slope = references.objective(case, theta, 5, rounded)
        for k in range(len(theta)):
            step = h * (np.arange(len(theta)) == k)
            up, down = (references.objective(case, theta + sign * step, 5, rounded)[0] for sign in (1, -1))
            assert slope[k] == pytest.approx((up - down) / (2 * h), abs=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "outputs"), [("squared", 1), ("logistic", 1), ("cross_entropy", 3)])
def test_finite_networks_descend_to_the_minimum_over_all_widths(loss, outputs):
    """L-BFGS and conditional gradient, which share nothing but the loss, agree to 10⁻⁴, in the best of three starts."""
    case = small(loss, outputs)
    networks = [references.descend(case, references.start_of(case, 256, seed), 60.0) for seed in range(3)]
    least = min(references.attained(case, network) for network in networks)
    found = exact.optimum(case.problem, tolerance=1e-5)
    assert found.lower_bound * (1 - 1e-9) <= least <= (1 + 1e-4) * found.value


def test_a_network_and_its_particles_are_the_same():
    """There and back; the heaviest neuron alone has less of the penalty."""
    network = references.start_of(small("squared"), 7, seed=2)
    for before, after in zip(network, references.network_of(references.ensemble_of(network)), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-12)
    w, u = network[0].copy(), network[1]
    w[3] *= 2
    assert references.heaviest((w, u), 1)[0].tolist() == [w[3].tolist()]


@pytest.mark.slow
def test_a_search_keeps_the_least_and_never_raises_it():
    """On one example the minimum is 3/8 and proven; what was lower before stays, with its name."""
    found, by_method = references.search(ONE, None, seconds=2.0, threads=1)
    assert found.lowest == pytest.approx(0.375, rel=1e-6)
    assert found.lowest == min(by_method.values())
    assert found.proven
    lower = 0.375 * (1 - 5e-10)  # within what is let pass for rounding
    kept, _ = references.search(ONE, Known(lower, "somebody"), seconds=2.0, threads=1)
    assert (kept.lowest, kept.found) == (lower, "somebody")


def test_of_bounds_the_proven_one_is_kept_if_it_is_nearly_as_high():
    """Within a hundredth of the lowest; an estimate above what is attained is dropped, a proof of that is an error."""
    assert references.bound_kept(1.0, [(0.5, True), (0.9, False)]) == (0.9, False)
    assert references.bound_kept(1.0, [(0.895, True), (0.9, False)]) == (0.895, True)
    assert references.bound_kept(1.0, [(0.5, True), (1.1, False)]) == (0.5, True)
    assert references.bound_kept(1.0, [(1.1, False)]) is None
    with pytest.raises(ValueError, match="is attained"):
        references.bound_kept(1.0, [(1.1, True)])


def run(folder, *arguments):
    claim_minimum.run([*arguments, "--m", "64", "--steps", "3", "--threads", "1", "--json", str(folder / "runs.json")])
    return json.loads((folder / "runs.json").read_text())


def test_runs_are_kept_as_they_come_and_not_done_again(tmp_path, monkeypatch, capsys):
    """A second problem is added, the first is left alone; of another size it is run again."""
    first = run(tmp_path, "sin 3x")["default"]["sin 3x"]
    both = run(tmp_path, "sin 3x", "10 + |x|")["default"]
    assert both["sin 3x"] == first
    assert set(both) == {"sin 3x", "10 + |x|"}
    monkeypatch.setattr(claim_minimum, "timed", None)
    run(tmp_path, "sin 3x")
    with pytest.raises(TypeError):
        claim_minimum.run(["sin 3x", "--m", "65", "--json", str(tmp_path / "runs.json")])
    assert "10 + \\|x\\|" in (tmp_path / "runs.md").read_text()
    assert capsys.readouterr().out.endswith((tmp_path / "runs.md").read_text())


def test_the_default_run_is_simulate_s(tmp_path):
    """The objective is that of a call of `simulate` with the same particles, evaluated at the problem's λ."""
    case = minimum_suite.suite()["sin 3x"]
    end = claim_minimum.simulate(case.problem, Ensemble.sphere(64, 2), steps=3, threads=1).ensemble
    assert run(tmp_path, "sin 3x")["default"]["sin 3x"]["objective"] == case.problem.objective(end).value


def test_the_table_counts_what_it_shows():
    """1.001, 1.005 and 1.2 times the lowest known, one below it and one that failed."""
    names = list(minimum_suite.suite())[:5]
    known = {name: Known(2.0, "x", 1.0, proven=True) for name in names}
    asked = {"m": 8, "threads": 1}
    runs = {
        name: {"asked": asked, "objective": 2 * ratio, "seconds": 1.0, "steps": 3, "dynamics": "langevin"}
        for name, ratio in zip(names, (1.001, 1.005, 1.2, 0.9), strict=False)
    }
    runs[names[4]] = {"asked": asked, "failed": "out of range", "seconds": 1.0}
    text = claim_minimum.table({"default": runs}, known)
    assert "5 problems, 2 within 0.2 %, 3 within 1 %" in text
    assert f"Below the lowest known: {names[3]}." in text
    assert text.count("0.50000 p") == 5
    assert "| failed | failed | 1.0 |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {len(claim_minimum.HEAD) + 1}


@pytest.mark.parametrize("script", [claim_minimum, bench_minimum])
@pytest.mark.parametrize("arguments", [["sin 3"], ["--m", "0"], ["--json", "text"]])
def test_bad_input_is_one_line(script, arguments, tmp_path, monkeypatch, capsys):
    """On stderr, with status 2."""
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("no JSON")
    monkeypatch.setattr(sys, "argv", ["script", *arguments])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def options(**more):
    names = {"m": 64, "every": 1, "limit": 5.0, "repeats": 1, "threads": 1}
    return bench_minimum.argparse.Namespace(**{**names, **more})


def test_the_race_stops_at_the_goal_and_not_before():
    """R(0) and more is met at once, what is below the minimum never; of two goals the harder one takes longer."""
    case, lowest = minimum_suite.suite()["D, n 40, 5e-03"], minimum_suite.known()["D, n 40, 5e-03"].lowest
    for ask in (bench_minimum.seconds_of_run, bench_minimum.seconds_of_optimum):
        assert ask(case, 1.0, options()) < 0.1
        assert ask(case, 0.99 * lowest, options(m=256, limit=1.5)) is None
        assert ask(case, 1.02 * lowest, options(m=256)) > ask(case, 0.5, options(m=256))


def test_who_does_not_arrive_counts_as_the_limit():
    """Medians, the best of the rates, and the geometric mean over problems, each at its own limit."""
    assert bench_minimum.counted([None, 1.0, 3.0], 60) == 3.0
    assert bench_minimum.counted([None], 60) == 60
    assert bench_minimum.best_of_adam({"0.1": [None], "0.3": [2.0, 4.0, 3.0]}, 60) == (3.0, "0.3")
    assert bench_minimum.best_of_adam({"0.1": [None], "0.3": [None]}, 60) == (60, "–")
    names = list(minimum_suite.suite())[:2]
    found = [
        {"asked": {"limit": 5.0}, "run": [1.0], "adam": {"0.1": [4.0]}, "optimum": [2.0]},
        {"asked": {"limit": 9.0}, "run": [1.0], "adam": {"0.1": [None]}, "optimum": [2.0]},
    ]
    text = bench_minimum.table(dict(zip(names, found, strict=True)))
    assert "Geometric mean of Adam's time over the default run's: 6." in text
    assert "in 5 or 9 s" in text
    assert "> 9" in text
    assert "default run 2, Adam 1, exact.optimum 2" in text


def test_the_peer_gives_a_rate_up_where_another_was_faster(monkeypatch):
    """Limits of the later rates are the best so far; the best runs again under the whole limit."""
    times = {0.3: None, 0.1: 8.0, 0.03: 3.0, 0.01: None, 0.003: None}
    limits = []

    def seconds_to(goal, rate, limit):
        limits.append(limit)
        return times[rate]

    monkeypatch.setattr(peers_adam, "descent", lambda torch, task, rate: Rate(rate))
    monkeypatch.setattr(peers_adam, "seconds_to", seconds_to)
    found = peers_adam.race(None, {"goal": 1.0}, 10.0, 3)
    assert limits == [10.0, 10.0, 8.0, 3.0, 3.0, 10.0, 10.0]
    assert found[0.03] == [3.0, 3.0, 3.0]


class Rate(float):
    """A learning rate in the place of a step of that rate."""

    def __call__(self):
        return 1.0


def test_the_peer_minimizes_the_same_objective():
    """Where PyTorch is there: its L at the start is the library's, for every loss, in float32."""
    torch = pytest.importorskip("torch")
    for loss, outputs in KINDS:
        case = small(loss, outputs)
        start = Ensemble.sphere(64, 3, outputs)
        task = {"X": case.X, "y": case.problem.targets, "U": start.u, "w": start.w, "loss": loss, "reg": case.reg}
        L = peers_adam.descent(torch, task, 0.1)()
        assert case.problem.objective(start).value == pytest.approx(L, rel=1e-5)


def test_names_are_found_or_refused():
    """All, some in the order asked for, and a hint at the nearest."""
    assert len(claim_minimum.chosen([])) == len(minimum_suite.suite())
    assert [case.name for case in claim_minimum.chosen(["iris", "sin 3x"])] == ["iris", "sin 3x"]
    with pytest.raises(InputError, match="did you mean iris"):
        claim_minimum.chosen(["irsi"])
