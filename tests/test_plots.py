"""Laws of the figures: they show the trace, whatever it holds, and equal runs give equal files."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from meanfield import Ensemble, Problem, load, plots, simulate
from meanfield.config import load_config
from meanfield.run import prepare
from meanfield.simulate import follow


def small(*overrides):
    """A short run of the paper's problem, in memory."""
    settings = ("ensemble.m=256", "data.n=40", "data.d=6", "data.n_test=64", "run.steps=40", "run.record_every=10")
    run = prepare(load_config(None, [*settings, *overrides]))
    follow(run, None)
    return run


@pytest.fixture(scope="module")
def run():
    return small()


def curves(ax):
    """Label -> (x, y) of the lines of an Axes."""
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in ax.get_lines()}


@pytest.mark.parametrize(
    ("plot", "columns"),
    [
        (plots.plot_objective, ["objective", "risk", "penalty", "reg"]),
        (plots.plot_margin, ["margin"]),
        (plots.plot_errors, ["train_error"]),
        (plots.plot_steps, ["step_size", "drift"]),
    ],
)
def test_each_panel_shows_columns_of_the_trace(run, plot, columns):
    """Every panel draws on the axes it is given, against the step, the numbers of the trace as they are."""
    ax = Figure().subplots()
    assert plot(run, ax) is ax
    drawn = list(curves(ax).values())
    for (x, y), name in zip(drawn, columns, strict=False):
        np.testing.assert_array_equal(x, run.trace["step"])
        np.testing.assert_array_equal(y, run.trace[name])
    assert len(drawn) >= len(columns)
    assert ax.get_xlabel() == "step"
    assert ax.get_ylabel()


def test_the_test_error_is_drawn_only_where_it_was_measured(run):
    """Rows without a test leave no gap in the line, for there is no point there."""
    x, y = curves(plots.plot_errors(run, Figure().subplots()))["test"]
    assert np.isfinite(y).all()
    assert set(x) == set(run.trace["step"][np.isfinite(run.trace["test_error"])])


def test_lines_of_a_panel_differ_without_colour(run):
    """No two lines of a panel share a line style, so that they can be told apart in greyscale."""
    for ax in plots.convergence(run).axes:
        styles = [line.get_linestyle() for line in ax.get_lines()]
        assert len(set(styles)) == len(styles)


def test_legends_cover_no_curve(run):
    """A legend stands above its axes."""
    figure = plots.convergence(run)
    figure.draw_without_rendering()
    legends = [(ax, ax.get_legend()) for ax in figure.axes if ax.get_legend()]
    assert len(legends) == 3
    for ax, legend in legends:
        assert legend.get_window_extent().y0 >= ax.get_window_extent().y1 - 1


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_equal_runs_give_equal_figures(run, tmp_path, kind):
    """No date or version goes into the file: two equal runs give the same bytes."""
    (one,) = plots.write(run, tmp_path / "new" / "folder", "a", kind)
    (other,) = plots.write(small(), tmp_path, "a", kind)
    assert one.name == f"a-convergence.{kind}"
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("steps", [0, 10])
def test_short_regression_runs_can_be_drawn(tmp_path, steps):
    """One row of trace, no classes, no margin, no test set: the figure is drawn without a warning."""
    rng = np.random.default_rng(0)
    problem = Problem(rng.standard_normal((20, 3)), rng.standard_normal(20), loss="squared", reg=0.1)
    simulate(problem, Ensemble.sphere(256, 3), steps=steps, record_every=10, out=tmp_path / "a.h5")
    (path,) = plots.write(load(tmp_path / "a.h5"), tmp_path, "a")
    assert path.stat().st_size > 0
