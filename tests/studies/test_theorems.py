"""Laws of the theorem report: what is proven is so, too large a λ is not met, what does not belong is refused."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from meanfield import Ensemble, Problem
from meanfield.cli import main
from meanfield.datasets.generators import generated
from meanfield.errors import InputError
from meanfield.studies.theorems import STATUSES, theorems

CORNERS = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])


def on_paper(reg, size, n=24, d=4, seed=0, **settings):
    """The paper's data, and the network of |x₁| − |x₂| with ∫‖θ‖² = size, whose normalized margin is ⅛."""
    section = SimpleNamespace(source="xor", n=n, d=d, n_test=64, seed=seed)
    X, y, X_test, y_test = generated(section)
    u = np.hstack([CORNERS, np.zeros((4, d - 2))]) * math.sqrt(size / 2)
    ensemble = Ensemble.from_arrays(np.array([1.0, 1.0, -1.0, -1.0]) * math.sqrt(size / 2), u, dtype="float64")
    problem = Problem(X, y, reg=reg, X_test=X_test, y_test=y_test, **settings)
    return SimpleNamespace(problem=problem, ensemble=ensemble)


def size_at(reg):
    """∫‖θ‖² at which that network has about the least objective."""
    return 8 * math.log(1 / (8 * reg))


def test_on_the_papers_data_the_margin_theorem_holds_at_a_small_regularization():
    """γ* ≥ ⅛ on every sample; L within a factor of 2 is proven, and so an eighth of γ*; measured is more than that."""
    found = theorems(on_paper(1e-7, size_at(1e-7)), effort=0.2)
    assert found.max_margin >= 0.125 * (1 - 1e-5)
    assert found.max_margin <= found.max_margin_upper <= found.max_margin * (1 + 1e-3)
    assert 1 <= found.factor < 2
    assert found.margin == pytest.approx(0.125)
    assert found.test_error == 0
    by_constants, here = found["margin by constants"], found["margin at this gap"]
    assert by_constants.status == here.status == "proven"
    assert found["margin"].status == "constant not stated"
    assert found["width"].status == "not met"
    for one in (by_constants, here):
        assert 0 < one.bound <= one.measured
        assert not one.is_vacuous
    assert by_constants.bound == found.max_margin / 8


def test_a_regularization_that_is_too_large_is_not_met():
    found = theorems(on_paper(5e-3, size_at(5e-3)), effort=0.2)
    assert found["margin by constants"].status == "not met"
    assert [one.status for one in found["margin by constants"].hypotheses] == ["proven", "proven", "not met"]
    assert found["margin at this gap"].is_vacuous


def test_a_network_far_from_the_minimum_proves_nothing_of_the_margin_theorem():
    """γ does not change with the scale, and L does: what is asked for is the objective."""
    found = theorems(on_paper(1e-7, 10 * size_at(1e-7)), effort=0.2)
    assert found.factor > 2
    assert found["margin by constants"].status == "not proven"
    assert found["margin at this gap"].bound < found.margin == pytest.approx(0.125)


@pytest.mark.parametrize("outputs", [1, 3])
def test_whatever_follows_from_what_is_proven_is_so(outputs):
    """Networks of random sizes on random data in the plane, two classes and three."""
    rng, held = np.random.default_rng(outputs), 0
    loss, classes = ("logistic", [-1, 1]) if outputs == 1 else ("cross_entropy", [0, 1, 2])
    for reg in (1e-4, 1e-8, 1e-16):
        X = rng.standard_normal((6, 2))
        y = np.resize(classes, 6)
        best = theorems(_network(X, y, loss, reg, rng), effort=0.1)
        for one in best.statements[:3]:
            assert one.status in STATUSES
            if one.status == "proven" and not one.is_vacuous:
                held += 1
                assert one.measured >= one.bound
    assert held > 1


def _network(X, y, loss, reg, rng):
    """The largest margin's network at a good size, its weights a little off."""
    from meanfield import exact

    best = exact.max_margin(X, y, loss=loss, effort=0.1, prove=False)
    factor = math.sqrt(math.log(best.margin / reg) / best.margin * len(best.w))
    w = best.w * factor * rng.uniform(0.9, 1.1, best.w.shape)
    problem = Problem(X, y, loss=loss, reg=reg)
    return SimpleNamespace(problem=problem, ensemble=Ensemble.from_arrays(w, best.u * factor, dtype="float64"))


def test_without_a_network_that_separates_no_theorem_holds():
    """One input with both labels: γ* = 0, but for rounding."""
    ensemble = Ensemble.from_arrays([[1.0]], [[1.0]])
    found = theorems(SimpleNamespace(problem=Problem([[1.0], [1.0]], [1, -1]), ensemble=ensemble), effort=0.1)
    assert {found[name].status for name in ("margin", "margin by constants", "width", "test error")} == {"not met"}
    assert found["margin at this gap"].is_vacuous


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"neuron": "tanh"}, "relu"),
        ({"loss": "squared"}, "logistic"),
        ({"penalty": {"output": 2.0}}, "penalty"),
        ({"temperature": 1e-3}, "temperature"),
        ({"reg": 0.0}, "λ > 0"),
    ],
)
def test_what_is_no_hypothesis_is_refused_in_one_line(settings, words):
    run = on_paper(settings.pop("reg", 1e-3), 1.0, **settings)
    with pytest.raises(InputError, match=words) as refused:
        theorems(run)
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="delta"):
        theorems(on_paper(1e-3, 1.0), delta=1.0)


def test_the_command_says_the_same_in_words_and_in_json(tmp_path, monkeypatch, capsys):
    """At most 80 columns; the keys that the reference names."""
    monkeypatch.chdir(tmp_path)
    settings = ("data.n=20", "data.d=3", "data.n_test=64", "ensemble.m=64", "run.steps=20", "objective.reg=1e-6")

    def call(*args):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(args))
        return ended.value.code or 0, *capsys.readouterr()

    assert call("run", "--out", "a.h5", "--quiet", "--no-gap", *(f"--set={one}" for one in settings))[0] == 0
    status, out, _ = call("theorems", "a.h5", "--effort", "0.1")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    status, line, _ = call("theorems", "a.h5", "--effort", "0.1", "--json")
    found = json.loads(line)
    assert status == 0
    assert {"step", "reg", "n", "factor", "margin", "max_margin_upper", "test_error", "out"} <= set(found)
    for one in found["statements"]:
        assert one["name"] in out
        assert one["holds"] == (one["status"] in ("proven", "assumed"))
        assert {hypothesis["status"] for hypothesis in one["hypotheses"]} <= set(STATUSES)
    assert call("theorems", "absent.h5")[0] == 2
