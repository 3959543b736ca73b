"""Laws of the figures: they show what the run holds and say what it does not, and equal runs give equal files."""

import itertools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from PIL import Image

from meanfield import Ensemble, InputError, Problem, load, plots, simulate
from meanfield.cli import main
from meanfield.plots.particles import caption
from meanfield.plots.plane import SHOWN, input_plane, present, spread
from meanfield.plots.slices import moved_to
from meanfield.simulation.loop import run_to_end
from meanfield.simulation.new_run import new_run_from_config
from meanfield.simulation.toml import load_config


def small(*overrides):
    """A short run of the paper's problem, in memory."""
    settings = ("ensemble.m=256", "data.n=40", "data.d=6", "data.n_test=64", "run.steps=40", "run.record_every=10")
    settings = (*settings, "dynamics.method=langevin")
    run = new_run_from_config(load_config(None, [*settings, *overrides]))
    run_to_end(run, None)
    return run


@pytest.fixture(scope="module")
def run():
    return small()


@pytest.fixture(scope="module")
def rich():
    """A run that has recorded all there is: gaps, and snapshots at five steps."""
    return small("record.gap=true", "record.gap_every=20", "record.snapshots=5")


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


def test_figures_need_no_latex(run, tmp_path, monkeypatch):
    """Though the user's own are typeset by it."""
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    monkeypatch.setenv("PATH", "")
    (path,) = plots.write(run, tmp_path, "a", "svg", ["gap"])
    assert path.stat().st_size > 0


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


# ---- whole figures ---------------------------------------------------------------------------------------------------


def texts(figure):
    """(text, box in pixels) of all that is written in a figure."""
    figure.draw_without_rendering()
    axes = [axis for ax in figure.findobj(Axes) for axis in (ax.xaxis, ax.yaxis)]
    drawn = {id(tick) for axis in axes if axis.axes.axison for tick in axis._update_ticks()}  # the rest is out of sight
    beyond = {
        id(label)
        for axis in axes
        for tick in (*axis.majorTicks, *axis.minorTicks)
        if id(tick) not in drawn
        for label in (tick.label1, tick.label2)
    }
    seen = [one for one in figure.findobj(Text) if one.get_visible() and one.get_text().strip()]
    boxes = [(one.get_text(), one.get_window_extent()) for one in seen if id(one) not in beyond]
    return [(text, box) for text, box in boxes if box.width > 0]


@pytest.mark.parametrize("name", ["convergence", "dashboard", "particles", "decision", "potential", "margins"])
@pytest.mark.parametrize("which", ["plain", "rich"])
def test_no_text_lies_over_another_or_outside(run, rich, name, which):
    """At the size it is printed, whether or not gaps and snapshots were kept."""
    refuse_crowded(plots.FIGURES[name](rich if which == "rich" else run))


@pytest.mark.parametrize("name", [name for name in plots.FIGURES if name != "dashboard"])
@pytest.mark.parametrize("which", ["plain", "rich"])
def test_at_the_width_of_a_column_letters_keep_their_size_and_their_room(run, rich, name, which):
    """What was printed at 6.5 inches is not made small: it goes below each other, in letters of 7 to 9 points."""
    own = plots.FIGURES[name](rich if which == "rich" else run)
    panels, sizes = len(own.axes), {text.get_fontsize() for text in own.findobj(Text) if text.get_text().strip()}
    figure = plots.fit(own, 3.25)
    assert figure.get_figwidth() == 3.25
    assert len(figure.axes) == panels
    assert {text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()} >= sizes
    assert min(sizes) >= 7
    assert max(sizes) <= 9
    refuse_crowded(figure)


def test_overlays_fit_a_column_and_dashboards_a_page(run):
    """The one is laid out anew, the other has letters of 7 to 9 points at the one width it has."""
    assert {7, 8} <= {text.get_fontsize() for text in plots.dashboard(run).findobj(Text)} <= {7, 8, 9, 10}
    refuse_crowded(plots.overlay([run, small("objective.reg=0.02", "ensemble.m=64")], width=3.25))
    with pytest.raises(InputError, match="that of a page"):
        plots.fit(plots.dashboard(run), 3.25)


def refuse_crowded(figure):
    """Fails if texts overlap, or leave the figure."""
    found = texts(figure)
    assert len(found) > 1
    page = figure.bbox.padded(1.0)
    for text, box in found:
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, text
    for (one, a), (other, b) in itertools.combinations(found, 2):
        width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert not (width > 1 and height > 1), f"{one!r} over {other!r}"
    for legend in figure.findobj(Legend):
        box, own = legend.get_window_extent(), {text.get_text() for text in legend.get_texts()}
        for text, other in found:
            width, height = min(box.x1, other.x1) - max(box.x0, other.x0), min(box.y1, other.y1) - max(box.y0, other.y0)
            assert text in own or not (width > 1 and height > 1), f"{text!r} over a legend"


def test_a_dashboard_has_no_empty_panel(run, rich):
    """Whatever a run lacks, each panel shows something, each row is filled, and a regression has no margin anywhere."""
    rng = np.random.default_rng(0)
    one = still(np.ones(4), np.ones((4, 1)), rng.standard_normal((9, 1)), rng.standard_normal(9), loss="squared")
    tanh = small('neuron.activation="tanh"', "run.steps=4")
    counts = []
    for each in (run, rich, one, tanh):
        for figure in (plots.dashboard(each), plots.convergence(each)):
            own = [ax for ax in figure.findobj(Axes) if ax.get_subplotspec() is not None]
            assert all(ax.has_data() for ax in own)
            filled = Counter()  # share of each row
            for spec in (ax.get_subplotspec() for ax in own):
                grid = spec.get_gridspec()
                filled[grid, spec.rowspan.start] += len(spec.colspan) / grid.ncols
            assert all(share == pytest.approx(1) for share in filled.values())
            counts.append(len(own))
    assert counts == [11, 4, 15, 4, 9, 3, 9, 3]


def test_every_axis_is_named(rich):
    """Each panel of the dashboard that has numbers on an axis says what they are."""
    for ax in plots.dashboard(rich).findobj(lambda artist: hasattr(artist, "get_xlabel")):
        if ax.axison and ax.get_xticklabels() and ax.get_visible() and not hasattr(ax, "_colorbar"):
            assert ax.get_xlabel(), ax.get_ylabel()


def test_unknown_figures_are_refused(run, tmp_path):
    """By name, with those there are; nothing is written."""
    with pytest.raises(InputError, match="there are convergence, dashboard"):
        plots.write(run, tmp_path / "new", "a", "png", ["nope"])
    assert not (tmp_path / "new").exists()


def test_what_was_not_recorded_is_said_and_not_drawn(run):
    """A gap or free energy that nobody asked for is a line of text, not an empty frame."""
    for plot, word in ((plots.plot_gap, "record.gap"), (plots.plot_free_energy, "equal to $L$")):
        ax = plot(run, Figure().subplots())
        assert not ax.get_lines()
        assert word in ax.texts[0].get_text()


def test_the_free_energy_is_drawn_where_it_was_recorded():
    """At a temperature, if asked for; if not, the panel says how to."""
    hot = ("objective.temperature=1e-3",)
    plain, measured = small(*hot), small(*hot, 'record.measures=["free_energy"]', "record.measures_every=20")
    assert "record.measures" in plots.plot_free_energy(plain, Figure().subplots()).texts[0].get_text()
    (line,) = plots.plot_free_energy(measured, Figure().subplots()).get_lines()
    column = measured.trace["free_energy"]
    np.testing.assert_array_equal(line.get_ydata(), column[np.isfinite(column)])
    assert len(line.get_ydata()) > 0


def test_bounds_stand_where_they_were_recorded_and_are_called_estimates(rich):
    """Neither the bound nor the gap is drawn at rows between."""
    step, value = curves(plots.plot_objective(rich, Figure().subplots()))["lower bound (estimate)"]
    bound = rich.trace["lower_bound"]
    np.testing.assert_array_equal(value, bound[bound > 0])
    np.testing.assert_array_equal(step, rich.trace["step"][bound > 0])
    assert 0 < len(value) < len(bound)
    assert "estimate" in plots.plot_gap(rich, Figure().subplots()).get_ylabel()


def test_the_largest_margin_is_a_line_within_the_axes(run):
    """γ*, if given, is shown whole."""
    ax = plots.plot_margin(run, Figure().subplots(), optimum=0.3)
    assert [y for _, y in curves(ax).values()][-1] == [0.3, 0.3]
    assert ax.get_ylim()[1] > 0.3


# ---- particles -------------------------------------------------------------------------------------------------------


def test_the_plane_of_known_data_is_that_of_their_labels(run):
    """The paper's data are decided by their first two coordinates."""
    np.testing.assert_array_equal(plots.informative_plane(run).e, np.eye(2, 6))


def still(w, u, X, y, **settings):
    """A run in memory of particles that stand still."""
    problem = Problem(X, y, loss=settings.get("loss", "logistic"), reg=settings.get("reg", 0.1))
    return simulate(problem, Ensemble.from_arrays(w, u, dtype="float64"), steps=0)


@pytest.fixture(scope="module")
def planted():
    """200 particles along two directions of R^5, with noise a thousandth of that; the last feature is constant."""
    rng = np.random.default_rng(3)
    axes = np.linalg.qr(rng.standard_normal((5, 2)))[0].T
    u = np.where(np.arange(200)[:, None] % 2, 3 * axes[0], -2 * axes[1]) + 1e-3 * rng.standard_normal((200, 5))
    X = rng.standard_normal((30, 5))
    X[:, -1] = 1.0
    y = np.sign(X @ axes[0] + 0.1)
    return still(np.where(np.arange(200) % 3, 1.0, -1.0), u, X, y), axes


def test_the_plane_of_other_data_is_that_of_the_mass(planted):
    """Two directions that hold all the mass are found, orthonormal, and the share they hold is said."""
    run, axes = planted
    plane = plots.informative_plane(run)
    np.testing.assert_allclose(plane.e @ plane.e.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(plane.e.T @ plane.e, axes.T @ axes, atol=1e-3)
    assert plane.share > 0.999


def test_particles_without_mass_do_not_count():
    """Those at the origin have no direction; fits of the masses leave some there."""
    rng = np.random.default_rng(4)
    u, X = rng.standard_normal((50, 3)), rng.standard_normal((20, 3))
    w, y = np.sign(u[:, 0]), np.sign(X[:, 1])
    some = plots.informative_plane(still(w, u, X, y))
    more = plots.informative_plane(still(np.append(w, 0.0), np.append(u, np.zeros((1, 3)), axis=0), X, y))
    np.testing.assert_allclose(more.e, some.e, atol=1e-12)
    assert more.share == pytest.approx(some.share)


def test_inputs_move_in_the_plane_without_leaving_constant_features(planted):
    """A point of the slice has the coordinates asked for, the base its own, and a constant feature stays."""
    run, _ = planted
    e = input_plane(run, plots.informative_plane(run))
    np.testing.assert_allclose(e @ e.T, np.eye(2), atol=1e-12)
    at = np.array([[0.5, -2.0], [1.0, 3.0]])
    base = run.problem.X[4]
    moved = moved_to(base, e, at)
    np.testing.assert_allclose(moved @ e.T, at, atol=1e-12)
    np.testing.assert_allclose(moved[:, -1], 1.0, atol=1e-12)
    np.testing.assert_allclose(moved_to(base, e, (e @ base)[None]), base[None], atol=1e-12)


def test_signs_are_told_apart_by_colour_and_by_marker(planted):
    """Every particle is drawn once, on its side, where its input weight is."""
    run, _ = planted
    ax = plots.plot_particles(run, Figure().subplots())
    plus, minus = ax.collections
    w = run.ensemble.w[:, 0]
    plane = plots.informative_plane(run)
    np.testing.assert_allclose(plus.get_offsets(), run.ensemble.u[w > 0] @ plane.e.T)
    np.testing.assert_allclose(minus.get_offsets(), run.ensemble.u[w < 0] @ plane.e.T)
    assert len(plus.get_paths()[0].vertices) != len(minus.get_paths()[0].vertices)
    assert not np.array_equal(plus.get_edgecolors()[0], minus.get_edgecolors()[0])


def test_areas_grow_with_the_mass_of_a_particle(planted):
    """In order of ‖w‖‖u‖, no marker is smaller than one before."""
    run, _ = planted
    plus = plots.plot_particles(run, Figure().subplots()).collections[0]
    rows = run.ensemble.w[:, 0] > 0
    order = np.argsort(np.linalg.norm(run.ensemble.u[rows], axis=1))
    assert (np.diff(plus.get_sizes()[order]) >= 0).all()
    assert np.ptp(plus.get_sizes()) > 0


def test_large_ensembles_are_thinned_by_address_and_the_figure_says_so():
    """At most SHOWN markers, the same ones each time, and their number in the caption."""
    rng = np.random.default_rng(0)
    run = still(
        rng.standard_normal(3 * SHOWN),
        rng.standard_normal((3 * SHOWN, 4)),
        rng.standard_normal((9, 4)),
        np.where(np.arange(9) % 2, 1, -1),
    )
    cloud = present(run)
    assert SHOWN / 2 < len(cloud.u) <= SHOWN
    np.testing.assert_array_equal(cloud.u, present(run).u)
    assert f"{len(cloud.u)} of {3 * SHOWN} particles" in caption([cloud], plots.informative_plane(run))


def test_states_are_the_snapshots_and_the_present_of_the_same_particles(rich):
    """In the order of steps, the last one as the ensemble is now."""
    states = plots.clouds(rich)
    assert [one.step for one in states] == [0, 10, 20, 30, 40]
    np.testing.assert_array_equal(states[1].u, rich.snapshots[1].u)
    np.testing.assert_array_equal(states[-1].u, rich.ensemble.u[rich.snapshots[0].index])


def test_an_animation_has_a_frame_a_state(rich, run, tmp_path):
    """A GIF that goes on by itself; a run without snapshots has nothing to show."""
    with Image.open(plots.animate(rich, tmp_path / "a.gif", dpi=40)) as image:
        assert image.n_frames == 5
    with pytest.raises(InputError, match=r"record\.snapshots"):
        plots.animate(run, tmp_path / "b.gif")


# ---- functions -------------------------------------------------------------------------------------------------------


def pull(run, u):
    """‖Σ_i r_i relu(u·x_i)‖ / 2λ, with the residual of the logistic loss written out."""
    X, y = run.problem.X, np.asarray(run.problem.targets)
    f = np.maximum(X @ run.ensemble.u.T.astype(float), 0) @ run.ensemble.w[:, 0].astype(float) / run.ensemble.m
    r = -y / (1 + np.exp(y * f)) / len(y)
    return abs(sum(r[i] * max(u @ X[i], 0) for i in range(len(y)))) / (2 * run.problem.reg(run.ensemble.step))


def test_the_potential_is_that_of_the_residual(run):
    """On the circle, and at each particle's own direction, in the plane or out of it."""
    ax = plots.plot_potential(run, Figure().subplots())
    angle, value = curves(ax)["in the plane"]
    for k in (0, 100, 333, 650):
        direction = np.cos(angle[k]) * np.eye(6)[0] + np.sin(angle[k]) * np.eye(6)[1]
        assert value[k] == pytest.approx(pull(run, direction), rel=1e-4)
    u = present(run, 1500).u[present(run, 1500).w[:, 0] > 0][3]
    assert ax.collections[0].get_offsets()[3][1] == pytest.approx(pull(run, u / np.linalg.norm(u)), rel=1e-4)


def test_the_least_margin_of_an_example_is_the_margin_of_the_network(run):
    """The line of γ(ρ) stands where the trace has it, and the bars hold all examples."""
    ax = plots.plot_margins(run, Figure().subplots())
    assert curves(ax)[r"$\gamma(\rho)$"][0][0] == pytest.approx(run.trace["margin"][-1], rel=1e-5)
    bars = ax.patches[0].get_path()
    heights = bars.vertices[:, 1]
    assert 0 < heights.max() <= 1


def test_the_decision_of_the_network_is_its_own(rich):
    """The coloured levels hold the network's outputs on the slice; the kernel's are others."""
    shown = [plots.plot_decision(rich, Figure().subplots(), who=who) for who in ("network", "kernel")]
    network, kernel = (ax.collections[0] for ax in shown)
    base = rich.problem.X_test[0]
    sides = (np.linspace(*limits, 81) for limits in (shown[0].get_xlim(), shown[0].get_ylim()))
    points = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    f = rich.ensemble.predict(moved_to(base, np.eye(2, 6), points))
    assert network.levels[0] <= f.min() < network.levels[1]  # levels that begin and end with the function's own values
    assert network.levels[-2] < f.max() <= network.levels[-1]
    assert not np.array_equal(network.levels, kernel.levels)
    with pytest.raises(InputError, match="network or kernel"):
        plots.plot_decision(rich, Figure().subplots(), who="other")


def test_network_and_kernel_are_on_one_scale(rich):
    """Side by side a colour means the same value, and the scale holds both functions."""
    network, kernel = (ax.collections[0] for ax in plots.decision(rich).axes)
    np.testing.assert_array_equal(network.levels, kernel.levels)
    alone = [plots.plot_decision(rich, Figure().subplots(), who=who).collections[0] for who in ("network", "kernel")]
    assert network.levels[0] <= min(one.levels[1] for one in alone)
    assert network.levels[-1] >= max(one.levels[-2] for one in alone)


def test_a_curve_turns_where_its_neurons_do():
    """A kink that lies between any two even steps is a corner of the drawn line, and examples lie on points of it."""
    X = np.column_stack([np.linspace(-1, 1, 7), np.ones(7)])
    u = np.array([[1.0, -0.1234567], [1.0, 0.7654321]])
    run = still(np.array([2.0, -3.0]), u, X, X[:, 0], loss="squared")
    figure = plots.decision(run)
    limits = {ax.get_ylim() for ax in figure.axes}
    assert len(limits) == 1
    x, f = figure.axes[0].get_lines()[0].get_data()
    for kink in (0.1234567, -0.7654321, *X[:, 0]):
        k = np.abs(x - kink).argmin()
        assert x[k] == pytest.approx(kink, abs=1e-12)
        exact = (2 * max(kink - 0.1234567, 0) - 3 * max(kink + 0.7654321, 0)) / 2
        assert f[k] == pytest.approx(exact, abs=1e-12)


def test_states_are_shown_at_steps_that_grow_geometrically():
    """The first, the last, and between them most of the early ones."""
    states = [plots.Cloud(step, np.ones((1, 1)), np.ones((1, 2)), 1) for step in range(0, 1010, 10)]
    assert [one.step for one in spread(states, 4)] == [0, 10, 100, 1000]
    assert [one.step for one in spread(states[:3], 4)] == [0, 10, 20]
    far = [states[0], *states[50:]]  # nothing early: no state is shown twice
    assert [one.step for one in spread(far, 4)] == [0, 500, 710, 1000]


@pytest.mark.parametrize(
    "settings",
    [
        ("data.source=line", "data.n=12", "objective.loss=squared", "objective.temperature=1e-3"),
        pytest.param(
            ("data.source=sklearn:digits", "data.test_fraction=0.8", "data.bias=true", "objective.loss=cross_entropy"),
            marks=pytest.mark.slow,
        ),
        ("data.source=parity", "data.d=3", "data.n=30"),
    ],
)
def test_dashboards_of_other_problems_can_be_drawn(settings, tmp_path):
    """One dimension and noise, ten classes, three dimensions: without a warning."""
    run = new_run_from_config(load_config(None, ["ensemble.m=64", "run.steps=10", "run.record_every=5", *settings]))
    run_to_end(run, None)
    (path,) = plots.write(run, tmp_path, "a", "png", ["dashboard"])
    assert path.stat().st_size > 0


# ---- several runs ----------------------------------------------------------------------------------------------------


def test_runs_are_named_by_what_sets_them_apart(run):
    """Only settings that differ, schedules by their end; runs that differ in nothing go by their names."""
    assert plots.differing([run, small("objective.reg=0.02")]) == ["reg = 0.005", "reg = 0.02"]
    assert plots.differing([run, small("ensemble.m=64", "ensemble.seed=3")]) == [
        "m = 256, ensemble.seed = 0",
        "m = 64, ensemble.seed = 3",
    ]
    assert plots.differing([run, run], ["a", "b"]) == ["a", "b"]


def test_an_overlay_has_a_line_a_run(run):
    """Each panel shows the measure of each run, by a line style of its own."""
    other = small("objective.reg=0.02")
    figure = plots.overlay([run, other])
    for ax, measure in zip(figure.axes, ("objective", "margin"), strict=False):
        for line, one in zip(ax.get_lines(), (run, other), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), one.trace[measure])
        assert len({line.get_linestyle() for line in ax.get_lines()}) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["reg = 0.005", "reg = 0.02"]


def call(*args):
    with pytest.raises(SystemExit) as ended:
        main(list(args))
    return ended.value.code


def test_the_command_draws_one_run_or_several(run, rich, tmp_path, monkeypatch, capsys):
    """Convergence and dashboard of one, the overlay of several; --only picks; runs of one name are told apart."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").mkdir()
    run.save("a.h5")
    rich.save("b/a.h5")
    assert call("plot", "a.h5") == 0
    assert capsys.readouterr().out.split() == ["a-convergence.png", "a-dashboard.png"]
    assert call("plot", "a.h5", "b/a.h5", "-o", "out") == 0
    assert call("plot", "b/a.h5", "a.h5", "-o", "out", "--only", "gap", "--format", "svg", "--animate") == 2
    assert "record.snapshots" in capsys.readouterr().err
    assert {one.name for one in (tmp_path / "out").iterdir()} >= {f"{tmp_path.name}-a-overlay.png", "b-a-gap.svg"}
    assert call("plot", "a.h5", "--width", "3.25", "--format", "pdf") == 0
    assert capsys.readouterr().out.split() == ["a-convergence.pdf"]
    assert call("plot", "b/a.h5", "--width", "82.55mm", "--only", "gap") == 0
    assert Image.open("b/a-gap.png").width == 3.25 * 300
    assert call("plot", "a.h5", "--width", "3.25 inch") == 2
    assert "such as 3.25in, 8.3cm" in capsys.readouterr().err
    assert call("plot", "a.h5", "--width", "3.25", "--only", "dashboard") == 2
    assert "that of a page" in capsys.readouterr().err
    assert call("plot", "a.h5", "--only", "convergance") == 2
    assert "must name some of" in capsys.readouterr().err


def test_a_backend_that_matplotlib_does_not_know_is_one_line_and_costs_no_run(run, tmp_path):
    """MPLBACKEND is read when matplotlib is loaded: plot and report refuse it, a run that was to be drawn is kept."""
    run.save(tmp_path / "a.h5")
    command = [sys.executable, "-c", "from meanfield.cli import main; main()"]
    small = [word for key in ("data.n=20", "data.d=3", "ensemble.m=64", "run.steps=2") for word in ("--set", key)]
    root = Path(__file__).resolve().parents[2]
    for words, status in (
        (["plot", "a.h5"], 2),
        (["report", "a.h5"], 2),
        (["run", *small, "--out", "b.h5", "--plot"], 0),
    ):
        done = subprocess.run(
            [*command, *words],
            cwd=tmp_path,
            env={**os.environ, "MPLBACKEND": "bogus", "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
        )
        told = [line for line in done.stderr.splitlines() if "MPLBACKEND" in line]
        assert (done.returncode, len(told), "Traceback" in done.stderr) == (status, 1, False), done.stderr
    assert "objective L" in done.stdout
    assert load(tmp_path / "b.h5").ensemble.step == 2


def test_a_name_with_an_underscore_is_its_own_lines_in_an_overlay(run):
    """Matplotlib leaves such labels out, and the names that were left stood beside the wrong lines."""
    texts = plots.overlay([run, run], ["_a", "US$ and C$"]).legends[0].get_texts()
    assert [text.get_text().strip() for text in texts] == ["_a", r"US\$ and C\$"]
