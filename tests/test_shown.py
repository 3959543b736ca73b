"""Laws of how objects show themselves: in a few lines, with what matters, escaped, and for nothing."""

import re

import numpy as np
import pytest

from meanfield import Ensemble, Langevin, Problem, Schedule, certify, exact, simulate
from meanfield.engine.engine import Engine

CLASSES = ["<b>cat", "dog"]
LONGEST = 800  # characters


def things():
    """One of each, of a problem in the plane."""
    X = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    problem = Problem(X, np.repeat(CLASSES, 2), X_test=X, y_test=np.repeat(CLASSES, 2))
    result = simulate(problem, Ensemble.sphere(64, 2), Langevin(), steps=9, record_every=4, final_gap=False)
    return {
        "Problem": (problem, ["n=4", "loss=logistic", "reg=0.005", "classes=2", "n_test=4"]),
        "Ensemble": (result.ensemble, ["m=64", "dtype=float32", "step=9"]),
        "Langevin": (result.dynamics, ["step_size=auto", "label_noise=0", "tail_index=2"]),
        "Run": (result.run, ["step=9 of 9", "dynamics=langevin", "recorded=8", "objective="]),
        "Result": (result, ["stopped=done", "step=9 of 9", "recorded=8", "train_error="]),
        "Columns": (result.run.trace, ["step=0 → 8", "objective="]),
        "Trace": (result.run.recorder, ["rows=3", "record_every=4", "step=8"]),
        "Certificate": (certify(problem, result.ensemble, effort=0.01), ["lower_bound=", "relative_gap=", "rigorous="]),
        "Optimum": (exact.optimum(problem), ["value=", "relative_gap=", "w=array ("]),
        "MaxMargin": (exact.max_margin(X, [1, 1, -1, -1], prove=False), ["margin=", "upper=", "w=array ("]),
    }


@pytest.fixture(scope="module")
def shown():
    return things()


NAMES = ("Problem", "Ensemble", "Langevin", "Run", "Result", "Columns", "Trace", "Certificate", "Optimum", "MaxMargin")


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_matters_in_a_few_lines(shown, name):
    """No address, no array, no line beyond what a terminal holds; a table of the same in a notebook."""
    thing, told = shown[name]
    text, page = repr(thing), thing._repr_html_()
    assert text.startswith(f"{name}(")
    assert text.endswith(")")
    assert [part for part in told if part not in text] == []
    assert len(text) < LONGEST
    assert max(map(len, text.splitlines())) <= 100
    assert not re.search(r"0x[0-9a-f]{6}|array\(|\[", text)
    assert page.startswith(f"<table><caption>{name}</caption><tr><th>")
    assert page.count("<tr>") == page.count("</td></tr>") >= 1


def test_showing_predicts_nothing(shown, monkeypatch):
    """Neither the engine nor any measure is asked, so that a repr costs nothing whatever m is."""

    def refuse(*_, **__):
        raise AssertionError("a repr computes")

    monkeypatch.setattr(Engine, "predict", refuse)
    for thing, _ in shown.values():
        assert repr(thing)
        assert thing._repr_html_()


def test_a_result_that_measured_its_end_shows_it():
    """And no longer the last row."""
    result = simulate(Problem(np.eye(2), [1, -1]), Ensemble.sphere(64, 2), steps=5, record_every=2, final_gap=False)
    objective = f"objective={result.final['objective']:.6g}"
    assert objective in repr(result)
    assert "recorded=" not in repr(result)
    assert objective not in repr(result.run)


def test_what_users_named_is_escaped():
    """Names of theirs are text, in a notebook as in a terminal."""

    class Odd(type(Problem([[1.0]], [1.0], loss="squared").loss)):
        name = "<script>&\x1b[2J"

    problem = Problem([[1.0]], [1.0], loss=Odd())
    assert "<td>&lt;script&gt;&amp;\\x1b[2J</td>" in problem._repr_html_()
    assert "\x1b" not in repr(problem)


def falling(k):
    return 0.1 / (1 + k)


def test_schedules_say_where_from_and_where_to():
    """As a number where they are one."""
    assert str(Schedule.of(0.25)) == "0.25"
    assert str(Schedule("geometric", 0.1, 0.005, 70)) == "geometric 0.1 → 0.005 in 70 steps"
    own = repr(Problem([[1.0]], [1.0], loss="squared", temperature=falling))
    assert f"temperature={__name__}.falling" in own
    assert "reg=geometric 0.1 → 0.005 in 70 steps" in repr(
        Problem([[1.0]], [1.0], loss="squared", reg=Schedule("geometric", 0.1, 0.005, 70))
    )
