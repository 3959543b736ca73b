"""A run that nothing opens any more: what is whole of it is kept, what is not is said, and a new run goes on."""

import random
import shutil

import h5py
import numpy as np
import pytest
from faults import SETTINGS, ensemble, in_process, problem, uninterrupted
from helpers import assert_same

from meanfield import load, resume, simulate
from meanfield.dynamics import KineticLangevin, Langevin
from meanfield.errors import InputError, RunFileError
from meanfield.simulation.salvage import salvage
from meanfield.storage import atomic, hdf5


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A run at step 6 with its generation before, at step 3, and snapshots."""
    path = tmp_path_factory.mktemp("good") / "run.h5"
    record = {"snapshot_steps": [0, 4]}
    simulate(problem(), ensemble(), Langevin(), steps=6, out=path, record=record, **SETTINGS)
    return path


@pytest.fixture
def path(good, tmp_path):
    for file in (good, atomic.previous(good)):
        shutil.copy(file, tmp_path)
    return tmp_path / good.name


def spoil(file, *names):
    """Change one bit of each of these arrays, where it lies in the file."""
    raw = bytearray(file.read_bytes())
    with open(file, "rb") as opened:
        head, table = hdf5._table_of_contents(opened, None)
    for name in names:
        raw[hdf5._places(table, head["length"])[name].offset] ^= 1
    file.write_bytes(raw)


def check_goes_on(path, step):
    """The particles are those of that step, and go on to those of a run that nothing ever happened to."""
    run = load(path)
    assert np.array_equal(run.ensemble.theta, uninterrupted(step).ensemble.theta)
    result = resume(path, until=12)
    assert np.array_equal(result.ensemble.theta, uninterrupted(12).ensemble.theta)
    assert (
        load(path)
        .attributes["parent"]
        .endswith(f"run.h5{'.prev' * (step == 3)}, step {step}, data {run.dataset.sha256}")
    )


TRACE_LOST = "trace: what is whole of it does not fit the rest"


@pytest.mark.parametrize(
    ("newest", "before", "step", "lost"),
    [
        (["trace/risk"], ["config"], 6, ["run.h5: trace/risk", TRACE_LOST]),
        (["timing/seconds"], ["config"], 6, ["run.h5: timing/seconds", TRACE_LOST]),
        (["trace/test_error"], ["config"], 6, ["run.h5: trace/test_error"]),
        (
            ["snapshots/u"],
            ["config"],
            6,
            ["run.h5: snapshots/u", "snapshots: what is whole of it does not fit the rest"],
        ),
        (["ensemble/u"], ["data/sha256"], 3, []),
        (["data/X"], ["ensemble/w"], 6, ["run.h5: data, taken from run.h5.prev"]),
        (
            ["config", "data/y"],
            ["ensemble/w"],
            6,
            ["run.h5: data, taken from run.h5.prev", "run.h5: config, taken from run.h5.prev"],
        ),
        (["data/X_test"], ["data/y_test"], 6, ["run.h5: data/X_test"]),
        (["ensemble/seed"], ["config"], 6, ["run.h5: ensemble/seed"]),
    ],
)
def test_what_is_whole_goes_on_and_what_is_lost_is_said(path, newest, before, step, lost):
    """One bit of these arrays of either generation is wrong; resume refuses, and the old files are not changed."""
    spoil(path, *newest)
    spoil(atomic.previous(path), *before)
    raw = [file.read_bytes() for file in (path, atomic.previous(path))]
    with pytest.raises(RunFileError):
        resume(path)
    new = path.with_name("new.h5")
    run, found = salvage(path, new)
    assert found == lost
    assert run.ensemble.step == step
    assert [file.read_bytes() for file in (path, atomic.previous(path))] == raw
    assert (run.problem.X_test is None) == ("data/X_test" in newest)
    assert bool(run.trace) == (TRACE_LOST not in lost)
    check_goes_on(new, step)


def test_the_step_that_is_lost_is_counted_anew(path):
    """Schedules begin again; the particles are those that they were."""
    spoil(path, "ensemble/step")
    spoil(atomic.previous(path), "ensemble/w")
    run, lost = salvage(path, path.with_name("new.h5"))
    assert "run.h5: ensemble/step" in lost
    assert (run.ensemble.step, run.trace) == (0, {})
    assert np.array_equal(run.ensemble.theta, uninterrupted(6).ensemble.theta)


@pytest.mark.parametrize("what", ["ensemble/u", "data/X", "config"])
def test_where_nothing_can_be_gone_on_from_nothing_is_made(path, what):
    for file in (path, atomic.previous(path)):
        spoil(file, what)
    status, out, err = in_process("salvage", path, "--out", path.with_name("new.h5"))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "lost in both generations: there is nothing to go on from" in err
    assert not path.with_name("new.h5").exists()


def test_a_file_annotated_with_h5py_is_called_so_and_kept_whole(path):
    """And one written anew, which has lost its checksums, is called that."""
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "mine"
    with pytest.raises(
        RunFileError, match=r"every array in it is whole: another program \(h5py, say\) has annotated it"
    ):
        load(path)
    new = path.with_name("new.h5")
    status, out, _ = in_process("salvage", path, "--out", new)
    assert status == 0
    assert "kept      step 6, m = 300, 4 rows of trace\nlost      nothing\n" in out
    assert_same(load(new), uninterrupted(6))
    again = path.with_name("again.h5")
    with h5py.File(path) as file, h5py.File(again, "w") as copy:
        for name in file:
            file.copy(name, copy)
        for name, value in file.attrs.items():
            copy.attrs[name] = value
    with pytest.raises(RunFileError, match=r"another program \(h5py, h5repack\) has written anew"):
        load(again)


def test_the_software_that_made_it_is_lost_with_the_beginning_of_the_file(path):
    """Its first line is wiped out; each array still has its own digest."""
    atomic.previous(path).unlink()
    raw = path.read_bytes()
    path.write_bytes(bytes(20) + raw[20:])
    run, lost = salvage(path, path.with_name("new.h5"))
    assert lost == ["run.h5: attributes"]
    assert run.attributes["bits"] == 1
    assert_same(run, uninterrupted(6))


def test_nothing_that_exists_is_written_over(path):
    for out in (path, atomic.previous(path)):
        with pytest.raises(InputError, match="exists already"):
            salvage(path, out)


def damaged(raw, chance):
    raw, kind = bytearray(raw), chance.randrange(4)
    start = chance.randrange(len(raw))
    if kind == 0:
        return bytes(raw[:start])
    for _ in range(chance.choice([1, 3, 30])):
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    if kind == 2:
        raw[start : start + 512] = bytes(len(raw[start : start + 512]))
    return bytes(raw)


def test_whatever_happened_to_both_files_what_is_kept_is_what_was_written(path):
    """120 times: particles with the bits of their step, or one line and no file."""
    chance, made = random.Random(0), 0
    files = [path, atomic.previous(path)]
    raws, new = [file.read_bytes() for file in files], path.with_name("new.h5")
    whole = {3: uninterrupted(3).ensemble.theta, 6: uninterrupted(6).ensemble.theta}
    for _ in range(120):
        for file, raw in zip(files, raws, strict=True):
            file.write_bytes(damaged(raw, chance))
        try:
            run, _ = salvage(path, new)
        except RunFileError as error:
            assert str(error).isprintable()  # noqa: PT017
            assert not new.exists()
            continue
        made += 1
        assert any(np.array_equal(run.ensemble.theta, theta) for theta in whole.values())
        assert np.array_equal(run.problem.X, problem().X)
        new.unlink()
    assert made > 40


@pytest.mark.parametrize("spoiled", [[], ["ensemble/velocity_u"]])
def test_velocities_are_kept_where_both_are_whole(tmp_path, spoiled):
    """A kinetic run goes on to the same bits; without those of one layer all begin anew at 0, and it is said."""
    path, law = tmp_path / "run.h5", KineticLangevin(friction=0.5)
    whole = simulate(problem(), ensemble(), law, steps=12, **SETTINGS)
    half = simulate(problem(), ensemble(), law, steps=6, out=path, **SETTINGS)
    spoil(path, "config" if not spoiled else spoiled[0])
    run, lost = salvage(path, tmp_path / "new.h5")
    if spoiled:
        assert lost == ["run.h5: ensemble/velocity_u"]
        assert run.ensemble.velocity is None
        assert np.array_equal(run.ensemble.theta, half.ensemble.theta)
        assert np.isfinite(resume(tmp_path / "new.h5", until=12).ensemble.velocity.theta).all()
    else:
        assert np.array_equal(run.ensemble.velocity.theta, half.ensemble.velocity.theta)
        ended = resume(tmp_path / "new.h5", until=12).ensemble
        assert np.array_equal(ended.theta, whole.ensemble.theta)
        assert np.array_equal(ended.velocity.theta, whole.ensemble.velocity.theta)
