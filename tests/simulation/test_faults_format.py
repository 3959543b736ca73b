"""What may not be resumed is refused by name: newer formats, other data, parts of two runs. Old formats are read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from faults import SETTINGS, ensemble, in_process, problem, uninterrupted
from helpers import assert_same

from meanfield import load, simulate
from meanfield.dynamics import Langevin
from meanfield.errors import RunFileError
from meanfield.simulation.loop import resume
from meanfield.storage import atomic, hdf5, run_file

FORMATS = Path(__file__).parents[1] / "formats"


@pytest.fixture
def path(tmp_path):
    """A run of 6 steps."""
    simulate(problem(), ensemble(), Langevin(), steps=6, out=tmp_path / "run.h5", **SETTINGS)
    return tmp_path / "run.h5"


def test_every_format_has_an_example():
    """So that a change of the format cannot forget the files that are out there."""
    kept = {file.stem.partition("-")[0] for file in FORMATS.glob("*.h5")}
    assert kept == {f"v{version}" for version in range(1, run_file.FORMAT_VERSION + 1)}


def test_a_format_that_is_no_longer_read_is_refused_by_name(tmp_path):
    """Format 1, which no release wrote. Nor is its file taken for a damaged one, in whose place run.h5.prev goes."""
    for name in ("run.h5", "run.h5.prev"):
        shutil.copy(FORMATS / "v1.h5", tmp_path / name)
    with pytest.raises(RunFileError, match="not a meanfield run of a format since 2"):
        resume(tmp_path / "run.h5", more=1)


READ = [file for file in sorted(FORMATS.glob("*.h5")) if file.stem != "v1"]


@pytest.mark.parametrize("example", READ, ids=lambda file: file.stem)
def test_a_run_of_every_format_is_read_as_it_was_written_and_goes_on(tmp_path, example):
    """Step, time, particles, velocities and trace are those that h5py saw when the file was made; resume goes on."""
    held = json.loads(example.with_suffix(".json").read_text())
    for file in (example, *FORMATS.glob(f"{example.name}.part-*")):
        shutil.copy(file, tmp_path)
    path = tmp_path / example.name
    run = load(path)
    assert (run.ensemble.step, run.ensemble.time.hex()) == (held["step"], held["time"])
    layers = {"": run.ensemble, "velocity_": run.ensemble.velocity}
    for name in (name for name in held if name.endswith(("u", "w"))):
        values = getattr(layers[name[:-1]], name[-1])
        assert [float(value).hex() for value in values.ravel()] == held[name]
    assert {name: [float(v).hex() for v in column] for name, column in run.trace.items()} == held["trace"]
    for name, values in held.get("snapshots", {}).items():
        ours = run.kept.index if name == "index" else np.array([getattr(one, name) for one in run.snapshots])
        assert [float(value).hex() for value in ours.ravel()] == values
    result = resume(path, more=4)
    assert (result.ensemble.step, result.saved) == (held["step"] + 4, True)
    assert np.isfinite(result.trace["objective"]).all()


def rewritten(path, change):
    """The same file with a change that is under a right checksum: what a tool, or a person who means it, can make."""
    tree = hdf5.read(path)
    change(tree)
    hdf5.write(path, tree)


def setting(name, old, new):
    def change(tree):
        assert old in tree["config"]
        tree["config"] = tree["config"].replace(old, new)

    return pytest.param(change, name, id=name)


def other_data(tree):
    tree["data"]["X"] = tree["data"]["X"] + 1e-12


def other_seed(tree):
    tree["ensemble"]["seed"] += 1


def earlier_particles(tree):
    tree["ensemble"]["step"] = 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda tree: tree["@attrs"].update(format_version=4, meanfield="9.9"),
            r"run format 4, written by meanfield 9\.9",
        ),
        (lambda tree: tree["@attrs"].update(format_version=0), "run format 0, which is not known"),
        (lambda tree: tree["@attrs"].update(format="another"), "not a meanfield run"),
    ],
)
def test_a_good_file_of_another_kind_is_refused_by_name_and_left_alone(path, change, words):
    """load and resume, in one line; the file is not touched, nor is run.h5.prev taken in its place."""
    rewritten(path, change)
    before = path.read_bytes()
    for call in (load, lambda path: resume(path, more=5)):
        with pytest.raises(RunFileError, match=words) as caught:
            call(path)
        assert "\n" not in str(caught.value)
        assert "run.h5" in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_data, "the data are not those the run was started with"),
        (other_seed, r"ensemble.seed = 9, but holds 10"),
        (earlier_particles, "its trace of every 2 steps ends at step 6, its particles at step 3"),
        setting("ensemble.m = 301, but holds 300", "m = 300\n", "m = 301\n"),
        setting("data.n = 25, but holds 24", "n = 24\n", "n = 25\n"),
        setting("data.d = 4, but holds 5", "\nd = 5\n", "\nd = 4\n"),
        setting("ensemble.dtype = float64, but holds float32", '"float32"', '"float64"'),
        setting("objective.loss", '"logistic"', '"hinge"'),
        setting("run.stepps", "\nsteps = 6\nrecord", "\nstepps = 6\nrecord"),
    ],
)
def test_what_does_not_belong_together_is_refused_by_name_and_the_generation_before_goes_on(path, change, words):
    """load and info, in one line; resume goes back, says so in the same words, and comes to the same end."""
    rewritten(path, change)
    before = path.read_bytes()
    with pytest.raises((RunFileError, ValueError), match=words) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert "run.h5" in str(caught.value)
    assert in_process("info", path)[0] == 2
    assert path.read_bytes() == before
    status, _, err = in_process("resume", path, "--until", 9, "--quiet", "--no-gap")
    assert (status, err.count("\n")) == (0, 1), err
    assert f"meanfield: {caught.value}; went back to run.h5.prev, step 3\n" == err
    assert_same(load(path), uninterrupted(9))


def rows(choose):
    """Of the trace and its timing, those that `choose` gives of a column."""

    def change(tree):
        for name in ("trace", "timing"):
            tree[name] = {column: choose(values) for column, values in tree[name].items()}

    return change


def put(place, value):
    """Another value in the place "group/name"; None takes it away."""

    def change(tree):
        *groups, name = place.split("/")
        for group in groups:
            tree = tree[group]
        if value is None:
            del tree[name]
        else:
            tree[name] = value(tree[name]) if callable(value) else value

    return change


def spoilt(array):
    array = array.copy()
    array[3, 0] = np.nan
    return array


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rows(lambda column: column[::-1]), "the steps of its trace do not ascend"),
        (rows(lambda column: np.repeat(column, 2)), "do not ascend"),
        (rows(lambda column: np.delete(column, 1)), "its trace of every 2 steps ends at step 6"),
        (rows(lambda column: column[:-1]), "ends at step 4, its particles at step 6"),
        (rows(lambda column: column[:0]), "its trace has no rows"),
        (put("trace/step", lambda steps: steps - 10), "do not ascend"),
        (put("trace/step", lambda steps: steps * 1.0), "do not ascend"),
        (put("trace/step", None), "no column of steps"),
        (put("trace/objective", None), "its trace has no objective"),
        (put("trace/margin", lambda column: column[1:]), "unequal lengths"),
        (put("trace/margin", lambda column: column.astype(str)), "margin is not a column of numbers"),
        (put("trace/reg", lambda column: column * 2), "says reg = 0.1 at step 0, but recorded 0.2"),
        (put("trace", np.zeros(3)), "stands in the place of a dict"),
        (put("timing/seconds", lambda column: column[1:]), "unequal lengths"),
        (put("timing/seconds", lambda column: column * np.nan), "none of seconds"),
        (put("timing", {"foo": np.zeros(4)}), "none of seconds"),
        (put("ensemble/step", 7), None),  # of a trace of every 2 steps, so that nothing tells
        (put("ensemble/step", 8), "ends at step 6, its particles at step 8"),
        (put("ensemble/step", 2**62), "ends at step 6, its particles at step 4"),  # no room is made for so many rows
        (put("ensemble/step", 2**63 + 5), "its step is 9"),
        (put("ensemble/step", np.nan), "float stands in the place of a int"),
        (put("ensemble/time", np.inf), "its time is inf"),
        (put("ensemble/memory/curvature_ratio", -1.0), "its curvature_ratio is -1"),
        (put("ensemble/memory/curvature_ratio", 1e308), "its curvature ratio is 1e[+]308"),
        (put("ensemble/memory/step_size", np.nan), "its step_size is nan"),
        (put("ensemble/u", spoilt), "its particles 0 to 299 are not all finite"),
        (put("ensemble/w", lambda w: w.astype(np.float64)), "do not belong together"),
        (put("data/y", lambda y: y.astype(np.float16)), "do not belong together"),
        (put("data/X_test", None), "its data are X, y, y_test"),
        setting("data.n_test = 8, but holds 7", "n_test = 7\n", "n_test = 8\n"),
        setting("record.test_every = 'auto' was not decided", "test_every = 4\n", 'test_every = "auto"\n'),
        setting("says reg = 0.2 at step 0, but recorded 0.1", "start = 0.1,", "start = 0.2,"),
        setting("trace of every 3 steps ends at step 6", "record_every = 2\n", "record_every = 3\n"),
    ],
)
def test_parts_of_the_wrong_kind_or_of_another_run_are_refused(path, change, words):
    """Under right digests, in one line; and all commands that read a run agree on it."""
    rewritten(path, change)
    atomic.previous(path).unlink()
    if words is None:
        assert load(path).ensemble.step == 7
        return
    for call in (load, lambda path: resume(path, more=5)):
        with pytest.raises(RunFileError, match=words) as caught:
            call(path)
        assert str(caught.value).isprintable()
        assert "run.h5: " in str(caught.value)
    for command in ("info", "plot", "certify", "report", "ntk"):
        status, out, err = in_process(command, path)
        assert (status, out, err.count("\n")) == (2, "", 1), command


def test_only_named_settings_may_change_when_a_run_goes_on(path):
    """resume knows these options and no others; of the configuration only the step at which the run ends changes."""
    from meanfield.cli.run import resume as command_resume

    names = {parameter.name for parameter in command_resume.params}
    assert names == {"path", "until", "more", "threads", "max_time", "force", "as_json", "quiet", "no_gap"}
    status, _, err = in_process("resume", path, "--set", "objective.reg=1")
    assert (status, err.count("\n")) == (2, 1)
    assert "--set" in err
    before = load(path)
    resume(path, until=9, threads=1)
    after = load(path)
    assert after.config.run.steps == 9
    assert after.config.model_copy(update={"run": before.config.run}) == before.config
