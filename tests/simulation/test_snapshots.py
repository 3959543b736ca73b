"""Laws of snapshots: the same particles each time, at steps fixed once, and interrupted equals uninterrupted."""

import itertools
import os
import signal

import numpy as np
import pytest
from faults import SETTINGS, ensemble, problem
from hypothesis import given
from hypothesis import strategies as st

from meanfield import load, simulate
from meanfield.errors import InputError, RunFileError
from meanfield.simulation.config import check_config
from meanfield.simulation.loop import resume
from meanfield.simulation.new_run import new_run_from_config
from meanfield.simulation.snapshots import spaced, subset
from meanfield.simulation.toml import parse_config, to_toml
from meanfield.storage import hdf5

RECORD = {"snapshots": 5, "snapshot_particles": 70, "snapshot_spacing": "log"}


def run(steps=16, record=RECORD, **settings):
    return simulate(problem(), ensemble(), steps=steps, record=record, **{**SETTINGS, **settings})


def assert_same(a, b):
    """Two lists of snapshots, bit for bit."""
    assert [(s.step, s.time, s.reg) for s in a] == [(s.step, s.time, s.reg) for s in b]
    for x, y in zip(a, b, strict=True):
        for name in ("w", "u", "index"):
            one, other = getattr(x, name), getattr(y, name)
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)


def test_a_snapshot_holds_the_particles_of_its_step():
    """Those that the same run, ended there, has at these places; its time and λ are those of the step."""
    snapshots = run().snapshots
    assert [s.step for s in snapshots] == [0, 1, 3, 6, 16]
    for s in snapshots:
        there = run(steps=s.step, record=None).ensemble
        assert np.array_equal(s.w, there.w[s.index])
        assert np.array_equal(s.u, there.u[s.index])
        assert (s.time, s.reg) == (there.time, problem().reg(s.step))
        assert (s.ensemble.m, s.ensemble.step, s.ensemble.dtype) == (70, s.step, there.dtype)
        assert np.array_equal(s.ensemble.w, s.w)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("particles", [1, 70, 300, 10**9, "all"])
def test_as_many_particles_are_kept_as_there_are(particles, dtype):
    """ "all", or more than there are, is every one, in order."""
    kept = simulate(
        problem(), ensemble(dtype=dtype), steps=2, **SETTINGS, record={"snapshots": 2, "snapshot_particles": particles}
    ).snapshots
    expected = 300 if particles == "all" else min(300, particles)
    assert kept[1].u.shape == (expected, 5)
    assert kept[1].u.dtype == dtype
    if expected == 300:
        assert np.array_equal(kept[1].index, np.arange(300))


def test_the_particles_kept_are_a_uniform_sample_by_seed():
    """Distinct, in order, fewer a part of more, another seed another sample; each as often as any other."""
    chosen = subset(3, 10_000, 500)
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, subset(3, 10_000, 500))
    assert set(subset(3, 10_000, 50)) < set(chosen)
    assert not np.array_equal(chosen, subset(4, 10_000, 500))
    assert len(subset(3, 300, 299)) == 299
    counts = np.zeros(40)
    for seed in range(2000):
        counts[subset(seed, 40, 10)] += 1
    assert abs(counts - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


def test_particles_far_apart_are_chosen_across_pieces(monkeypatch):
    """Drawn piece by piece the sample is the same as drawn at once."""
    from meanfield.simulation import snapshots

    whole = subset(0, 5000, 300)
    monkeypatch.setattr(snapshots, "_CHUNK", 128)
    assert np.array_equal(subset(0, 5000, 300), whole)


@given(st.integers(0, 10**6), st.integers(0, 300), st.integers(0, 60), st.sampled_from(["linear", "log"]))
def test_steps_are_as_many_as_asked_and_reach_both_ends(first, span, count, spacing):
    """Growing, from the first to the last step; one alone is the last; all there are if there are no more."""
    steps = spaced(first, first + span, count, spacing)
    assert len(steps) == min(count, span + 1)
    assert all(a < b for a, b in itertools.pairwise(steps))
    if steps:
        assert steps[-1] == first + span
    if len(steps) > 1:
        assert steps[0] == first


def test_spacing_is_even_or_geometric():
    """Linear: differences within one of each other. Log: distances from the start in one ratio, up to rounding."""
    even = np.diff(spaced(7, 1007, 13, "linear"))
    assert np.ptp(even) <= 1
    assert spaced(100, 100 + 2**10, 12, "log") == [100] + [100 + 2**k for k in range(11)]


def test_steps_are_written_out_and_never_rescaled(tmp_path):
    """The configuration kept lists them; going on longer adds none and moves none."""
    path = tmp_path / "run.h5"
    first = run(record={"snapshots": 3}, out=path)
    record = load(path).config.record
    assert (record.snapshots, record.snapshot_steps) == (3, [0, 8, 16])
    assert "snapshot_steps = [0, 8, 16]" in to_toml(load(path).config)
    longer = resume(path, more=20)
    assert_same(longer.snapshots, first.snapshots)
    assert_same(load(path).snapshots, first.snapshots)
    assert load(path).config.record == record


def test_steps_of_ones_own_are_kept_and_may_lie_ahead(tmp_path):
    """Those behind the end are taken once the run goes on that far."""
    path = tmp_path / "run.h5"
    run(steps=10, record={"snapshot_steps": [2, 9, 15]}, out=path)
    assert [s.step for s in load(path).snapshots] == [2, 9]
    whole = run(steps=20, record={"snapshot_steps": [2, 9, 15]})
    assert_same(resume(path, until=20).snapshots, whole.snapshots)
    assert len(whole.snapshots) == 3


def test_a_start_that_has_moved_already_is_spaced_from_there():
    """The steps lie between the given ensemble's step and the end."""
    moved = run(steps=6, record=None).ensemble
    result = simulate(problem(), moved, steps=6, record={"snapshots": 3}, **SETTINGS)
    assert [s.step for s in result.snapshots] == [6, 9, 12]


def test_interrupted_equals_uninterrupted(tmp_path):
    """Cut after every step, through the file, and on another number of threads: the same snapshots with ==."""
    whole, path = run(threads=2), tmp_path / "run.h5"
    run(out=path, threads=1, max_time=0)
    for _ in range(16):
        resume(path, until=load(path).ensemble.step + 1, threads=1)
    assert_same(load(path).snapshots, whole.snapshots)


@pytest.mark.parametrize("at", [4, 8, 14])
def test_a_killed_run_ends_with_the_same_snapshots(tmp_path, at):
    """SIGKILL between checkpoints, then resume: those taken since the last checkpoint are taken again."""
    path = tmp_path / "run.h5"
    whole = run(record={**RECORD, "snapshots": 12})

    def die(ensemble, row):
        if row["step"] == at:
            os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        try:
            run(record={**RECORD, "snapshots": 12}, out=path, callback=die, threads=1)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert 0 < load(path).ensemble.step < at + 1
    assert len(load(path).snapshots) < 12
    assert_same(resume(path).snapshots, whole.snapshots)
    assert_same(load(path).snapshots, whole.snapshots)


def test_snapshots_change_nothing_else(tmp_path):
    """The particles and the trace are those of the run without; a file without snapshots has no group for them."""
    with_, without = run(out=tmp_path / "a.h5"), run(record=None, out=tmp_path / "b.h5")
    assert np.array_equal(with_.ensemble.theta, without.ensemble.theta)
    assert all(np.array_equal(with_.trace[name], without.trace[name], equal_nan=True) for name in without.trace)
    assert hdf5.read(tmp_path / "a.h5")["snapshots"]["u"].shape == (5, 70, 5)
    assert "snapshots" not in hdf5.read(tmp_path / "b.h5")
    assert load(tmp_path / "b.h5").snapshots == []


def test_the_file_is_of_the_size_that_was_asked_for(tmp_path):
    """Its growth is the bytes of the kept particles and a few kilobytes."""
    run(out=tmp_path / "a.h5")
    run(record=None, out=tmp_path / "b.h5")
    growth = (tmp_path / "a.h5").stat().st_size - (tmp_path / "b.h5").stat().st_size
    assert 0 <= growth - 5 * 70 * 6 * 4 - 70 * 8 < 8192


def spoiled(name, words):
    def change(held):
        if name == "index":
            held["index"] = held["index"][::-1].copy()
        elif name == "step":
            held["step"] = held["step"] + 1
        else:
            del held[name]

    return pytest.param(change, words, id=name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        spoiled("index", "not of 70 of its 300"),
        spoiled("step", "of steps"),
        spoiled("reg", "not whole"),
    ],
)
def test_snapshots_that_are_not_the_runs_are_refused(tmp_path, change, words):
    """Under right checksums, but of other particles, of a later step, or not whole: RunFileError in one line."""
    path = tmp_path / "run.h5"
    run(out=path)
    tree = hdf5.read(path)
    change(tree["snapshots"])
    hdf5.write(path, tree)
    with pytest.raises(RunFileError, match=words) as caught:
        load(path)
    assert "run.h5" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"snapshots": -1}, "at least 0"),
        ({"snapshot_particles": 0}, '"all"'),
        ({"snapshot_particles": "most"}, '"all"'),
        ({"snapshot_spacing": "lin"}, "did you mean linear"),
        ({"snapshot_steps": [3, 3]}, "grow"),
        ({"snapshot_steps": [-1]}, "whole numbers"),
        ({"snapshot_steps": "often"}, '"auto"'),
        ({"snapshots": 3, "snapshot_steps": [1, 2]}, "lists 2"),
        ({"snapshot": 3}, "did you mean record.snapshots"),
    ],
)
def test_bad_settings_are_named(record, words):
    """InputError of one line with the key and what would be valid."""
    with pytest.raises(InputError, match=words) as caught:
        check_config({"record": record}, "test")
    assert "record.snapshot" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_than_is_held_in_memory_is_refused_before_the_run():
    """With the size, and what to ask for instead."""
    config = check_config({"run": {"steps": 4000}, "record": {"snapshots": 4000, "snapshot_particles": "all"}}, "test")
    with pytest.raises(InputError, match=r"snapshots = 4000: 5\.13 GiB.*at most 4 GiB"):
        new_run_from_config(config)


def test_the_configuration_survives_its_own_text():
    """Lists of steps too, empty ones included."""
    for steps in ([], [0, 5, 9], "auto"):
        config = check_config({"record": {"snapshot_steps": steps}}, "test")
        assert parse_config(to_toml(config), "test") == config
