"""Laws of the comparison: the kernel sees the network's data, errors are counted alike, and nothing is flattered."""

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest

from meanfield import Ensemble, Langevin, Problem, exact, simulate
from meanfield.cli import main
from meanfield.datasets.load import load_dataset
from meanfield.errors import InputError
from meanfield.kernels import relu_ntk
from meanfield.simulation.run import problem_of
from meanfield.simulation.toml import load_config
from meanfield.studies.comparison import (
    cell,
    kernel_baseline,
    kernel_choices,
    learned_kernel,
    optimality,
    paper_problem,
    parse_size,
    summary,
)


def xor(n, d=20):
    config = load_config(None, [f"data.n={n}", f"data.d={d}", "data.n_test=1024"])
    return problem_of(config, load_dataset(config.data))


def test_the_kernel_needs_of_the_order_of_d_squared_examples():
    """The paper's data, d = 10: hardly better than chance at n = 3d, no error at n = 8d² (arXiv 1810.05369, sec. 2)."""
    assert kernel_baseline(xor(30, 10)).test_error > 0.3
    enough = kernel_baseline(xor(800, 10))
    assert (enough.train_error, enough.test_error, enough.n) == (0.0, 0.0, 800)


@pytest.mark.parametrize("loss", ["logistic", "cross_entropy"])
def test_renamed_classes_change_nothing(loss):
    """Labels are names: ±1 and texts give the same errors and margin, in either coding of two classes."""
    problem, names = xor(80), np.array(["no", "yes"])
    renamed = [names[(y > 0).astype(int)] for y in (problem.y, problem.y_test)]
    found = kernel_baseline(problem)
    other = kernel_baseline(Problem(problem.X, renamed[0], loss=loss, X_test=problem.X_test, y_test=renamed[1]))
    assert (found.train_error, found.test_error) == (other.train_error, other.test_error)
    assert found.margin == pytest.approx(other.margin, rel=1e-9)


def test_the_margin_is_below_what_the_kernel_allows():
    """For any f of the kernel's space, min_i y_i f(x_i) / ‖f‖ ≤ √(yᵀKy) / n, since a minimum is below the mean."""
    problem = xor(160)
    y, K = np.asarray(problem.y, float), relu_ntk(problem.X)
    assert 0 < kernel_baseline(problem).margin <= math.sqrt(y @ K @ y) / len(y)


def test_regression_counts_mean_squares_and_recovers_a_function_of_the_kernel_s_space():
    """A linear function (in the kernel's space) is learned: a test error far below its variance, and no margin."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((240, 4))
    y = X @ [1.0, -2.0, 0.5, 0.0]
    found = kernel_baseline(Problem(X[:200], y[:200], loss="squared", X_test=X[200:], y_test=y[200:]))
    assert found.test_error < 1e-2 * y.var()
    assert math.isnan(found.margin)


def test_the_kernel_is_that_of_the_problem_s_neuron():
    """x₁x₂ is in the space of the quadratic kernel, of dimension d(d + 1)/2: exact from n above it."""
    rng = np.random.default_rng(1)
    X, Z = rng.standard_normal((60, 4)), rng.standard_normal((50, 4))
    y, z = X[:, 0] * X[:, 1], Z[:, 0] * Z[:, 1]
    found = {
        name: kernel_baseline(Problem(X, y, loss="squared", X_test=Z, y_test=z, neuron=name))
        for name in ("quadratic", "relu", "tanh")
    }
    assert found["quadratic"].test_error < 1e-12 < 1e-3 < found["relu"].test_error
    assert [found[name].kernel for name in found] == ["quadratic NTK", "ReLU NTK", "tanh NTK"]


def test_without_a_test_set_there_is_no_test_error():
    """NaN, not zero."""
    problem = xor(40)
    assert math.isnan(kernel_baseline(Problem(problem.X, problem.y)).test_error)


def test_the_gap_of_a_network_is_that_of_its_distance_from_the_optimum():
    """Between the objective and the optimum's own lower bound there is the recorded gap; training closes it."""
    problem = paper_problem(60, 10, 0)
    best = exact.optimum(problem, tolerance=1e-5, threads=1)
    found = {
        steps: optimality(problem, simulate(problem, Ensemble.sphere(512, 10), Langevin(), steps=steps).ensemble)
        for steps in (0, 300, 2000)
    }
    for one in found.values():
        assert one.relative_gap >= 1 - best.value / one.objective - 1e-5
        assert one.refit_gap <= one.relative_gap
        assert one.refit_gap < 2e-3
        assert one.relative_gap == pytest.approx(1 - best.lower_bound / one.objective, abs=2e-3)
    assert found[0].relative_gap > 0.3 > 0.03 > found[300].relative_gap > found[2000].relative_gap


def test_a_cell_is_a_pure_function_of_its_configuration():
    """Called twice, the same numbers but the clock's, whatever ran between."""
    configuration = {"d": 6, "n": 24, "seed": 3, "reg": 5e-3, "m": 256, "steps": 200, "n_test": 512}

    def numbers():
        results = cell(**configuration)
        seconds = [results.pop(f"{side}_seconds") for side in ("network", "kernel", "learned")]
        assert min(seconds) > 0
        return results

    first = numbers()
    cell(**{**configuration, "seed": 4})
    assert numbers() == first


def test_a_kernel_that_learns_its_metric_stands_between_the_network_and_fixed_kernels():
    """d 20, n 180 = 9d = 0.45 d²: no errors; the best fixed NTK still errs on a fifth, and at n = 4d both do."""
    problem = paper_problem(180, 20, seed=0, n_test=1024)
    assert learned_kernel(problem)["learned_error"] == 0 < 0.2 < kernel_choices(problem)["kernel_best_error"]
    assert learned_kernel(paper_problem(80, 20, seed=0, n_test=1024))["learned_error"] > 0.3
    with pytest.raises(InputError, match="test set"):
        learned_kernel(Problem(problem.X, problem.y))


def test_the_best_kernel_of_all_is_no_worse_than_the_one_chosen_without_the_test_set():
    """It may look at the test set over a path that holds the other's; random features come with their own path."""
    for seed in range(4):
        found = kernel_choices(paper_problem(80, 10, seed, n_test=512), features=256)
        assert found["kernel_best_error"] <= found["kernel_error"]
        assert 0 <= found["features_best_error"] <= 0.5


SIZES = [("160", 160), ("6d", 120), ("0.5d2", 200), ("d", 20), ("1.1d^2", 440), (".5d²", 200)]


@pytest.mark.parametrize(("text", "n"), SIZES)
def test_sizes_are_numbers_or_multiples_of_d(text, n):
    assert parse_size(text, 20) == n


@pytest.mark.parametrize("text", ["", "x", "1.5", "6n", "-3d", "0.01d", "d3", "1"])
def test_other_sizes_are_refused(text):
    with pytest.raises(InputError, match="n = "):
        parse_size(text, 20)


def test_a_summary_has_the_mean_and_its_standard_error():
    """Over the rows that agree in d and n; texts and seeds have no mean."""
    values = ((4, 1, 1.0), (4, 3, 3.0), (8, 0, 7.0))
    rows = [{"d": 2, "n": n, "seed": seed, "e": e, "how": "ridge"} for n, seed, e in values]
    first, second = summary(rows)
    assert first == {"d": 2, "n": 4, "cells": 2, "e": 2.0, "e_se": 1.0}
    assert second["e"] == 7.0
    assert math.isnan(second["e_se"])


SMALL = ["--d", "4,6", "--n", "3d,30", "--seeds", "2", "--m", "128", "--steps", "100", "--n-test", "128"]


@pytest.fixture
def compare(tmp_path, capsys):
    """Run the command in a folder of its own: (status, stdout, stderr)."""

    def run(*args):
        with pytest.raises(SystemExit) as ended:
            main(["compare", *args, "-o", str(tmp_path), "--processes", "1", "--quiet"])
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def test_the_command_prints_a_table_writes_both_files_and_goes_on(compare, tmp_path):
    """One JSON object; shares say what is missing and merge; what is there is not computed again."""
    status, out, err = compare(*SMALL, "--shard", "1/2", "--json")
    found = json.loads(out)
    assert (status, found["cells"], found["missing"], found["figure"]) == (0, 4, 4, None)
    assert "4 of 8 cells are missing" in err
    compare(*SMALL, "--quiet")
    began = time.perf_counter()
    status, out, _ = compare(*SMALL, "--json")
    assert time.perf_counter() - began < 3.0  # no worker was started
    found = json.loads(out)
    assert (status, found["missing"], len(found["table"])) == (0, 0, 4)
    assert [(line["d"], line["n"]) for line in found["table"]] == [(4, 12), (4, 30), (6, 18), (6, 30)]
    assert {line["cells"] for line in found["table"]} == {2}
    assert Path(found["figure"]).stat().st_size > 10_000
    status, out, _ = compare(*SMALL)
    assert "relative gap" in out.splitlines()[0]
    assert "chosen on the test set itself" in out
    assert len((tmp_path / "compare.csv").read_text().splitlines()) == 3 + 1 + 8  # comments, header, rows


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--d", "1"], "--d 1"),
        (["--d", "a"], "--d a"),
        (["--n", "6x"], "--n n = '6x'"),
        (["--reg", "0"], "--reg 0.0"),
        (["--shard", "3/2"], "shard 3/2"),
        (["--seeds", "0"], "--seeds"),
    ],
)
def test_bad_grids_are_refused_in_one_line(compare, wrong, words):
    status, out, err = compare(*wrong)
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
