"""Every public name has a docstring in numpydoc form, with an example, and every example gives what it shows."""

import doctest
import functools
import importlib
import inspect
import pkgutil

import matplotlib
import pytest

import meanfield
from meanfield import Ensemble, Problem, simulate

PUBLIC = (
    "",
    ".exact",
    ".kernels",
    ".diagnostics",
    ".plots",
    ".convert",
    ".estimators",
    ".study",
    ".dynamics",
    ".losses",
)
MODULES = [found.name for found in pkgutil.walk_packages(meanfield.__path__, "meanfield.")]


def public():
    """(name, object) of every class and function that a module announces."""
    for suffix in PUBLIC:
        module = functools.reduce(getattr, suffix.split(".")[1:], meanfield)
        own = [name for name, held in vars(module).items() if getattr(held, "__module__", "") == module.__name__]
        for name in getattr(module, "__all__", [name for name in own if not name.startswith("_")]):
            held = getattr(module, name)
            if inspect.isclass(held) or inspect.isfunction(held):
                yield f"{module.__name__}.{name}", held


@functools.cache
def result():
    """A short run in the plane, of which the examples of `plots` draw figures."""
    X = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    problem = Problem(X, [1, 1, -1, -1], X_test=X, y_test=[1, 1, -1, -1])
    record = {"snapshots": 2, "gap": True}
    return simulate(problem, Ensemble.sphere(64, 2), steps=10, record_every=1, record=record)


@pytest.mark.parametrize(("name", "held"), [pytest.param(*pair, id=pair[0]) for pair in public()])
def test_a_public_name_has_an_example(name, held):
    """And what takes something says what it takes."""
    text = inspect.getdoc(held) or ""
    assert ">>> " in text, name
    if inspect.isfunction(held) and inspect.signature(held).parameters:
        assert "Parameters\n----------" in text, name


@pytest.mark.parametrize("module", MODULES)
def test_examples_give_what_they_show(module):
    """As they stand in the docstrings; those of plots are given a `result`."""
    matplotlib.use("Agg")
    held = importlib.import_module(module)
    names = {"plots": meanfield.plots, "result": result()} if module.startswith("meanfield.plots") else {}
    assert doctest.testmod(held, extraglobs=names, optionflags=doctest.ELLIPSIS).failed == 0
