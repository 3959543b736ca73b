"""What is large and will not change lies in parts beside the run: written once, verified, and gone with the run."""

import json
import os
import shutil
from contextlib import suppress

import h5py
import numpy as np
import pytest
from faults import SETTINGS, ensemble, in_parts, in_process, problem, uninterrupted
from helpers import assert_same

from meanfield import load, resume, simulate
from meanfield.dynamics import Langevin
from meanfield.errors import RunFileError
from meanfield.simulation.salvage import salvage
from meanfield.storage import atomic, hdf5, parts, run_file
from meanfield.storage.lock import RunLock


@pytest.fixture(autouse=True)
def small(monkeypatch):
    in_parts(monkeypatch.setattr)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A run at step 42, before that at step 39, with its data in one part, its trace and its snapshots in several."""
    path = tmp_path_factory.mktemp("good") / "run.h5"
    with pytest.MonkeyPatch.context() as patch:
        in_parts(patch.setattr)
        simulate(problem(), ensemble(), Langevin(), steps=42, out=path, record={"snapshots": 6}, **SETTINGS)
    return path


@pytest.fixture
def path(good, tmp_path):
    shutil.copytree(good.parent, tmp_path / "folder")
    return tmp_path / "folder" / good.name


def parts_of(path):
    return sorted(name for name in os.listdir(path.parent) if ".part-" in name)


def listed(path, kind):
    """Paths of the parts that a run file names."""
    return [path.with_name(one[1]) for one in json.loads(hdf5.read(path, ("parts",))["parts"]) if one[0] == kind]


def held(path):
    """(mtime, inode) by name of all parts: what has been written anew has others."""
    stats = {name: os.stat(path.parent / name) for name in parts_of(path)}
    return {name: (one.st_mtime_ns, one.st_ino) for name, one in stats.items()}


def test_a_run_in_parts_is_the_same_run(path):
    """Loaded, in either generation, and as another HDF5 library reads it, at the same names."""
    whole = uninterrupted(42)
    assert_same(load(path), whole)
    assert_same(load(atomic.previous(path)), uninterrupted(39))
    assert len(listed(path, "history")) > 1
    assert len(listed(path, "snapshots")) == 6
    with h5py.File(path) as file:
        for name, column in whole.trace.items():
            np.testing.assert_array_equal(file["trace"][name], column)
        assert len(file["timing/seconds"]) == len(whole.trace["step"])
        assert np.array_equal(file["data/X"], problem().X)
        assert np.array_equal(file["data/y_test"], problem().y_test)
    outline = run_file.load_outline(path)
    assert np.array_equal(outline.trace["objective"], whole.trace["objective"])


def test_what_is_small_stays_in_the_one_file(tmp_path, monkeypatch):
    monkeypatch.undo()
    simulate(problem(), ensemble(), Langevin(), steps=42, out=tmp_path / "run.h5", **SETTINGS)
    assert sorted(os.listdir(tmp_path)) == ["run.h5", "run.h5.prev"]


def test_a_checkpoint_writes_what_has_changed(tmp_path):
    """Over thirty steps more no part is written twice, nor one that there was; the run file is as long as it was."""
    path = tmp_path / "run.h5"
    simulate(problem(), ensemble(), Langevin(), steps=42, out=path, **SETTINGS)
    before, length = held(path), path.stat().st_size
    result = resume(path, more=30)
    assert {name: held(path)[name] for name in before} == before
    assert len(held(path)) > len(before)
    assert path.stat().st_size < length + 4096  # some more names of parts, no more rows
    assert_same(result, uninterrupted(72))
    assert_same(load(path), uninterrupted(72))


def test_snapshots_in_parts_are_the_same_snapshots(path):
    """Loaded, as another HDF5 library reads them, and after the run has gone on; a checkpoint writes none again."""
    whole = uninterrupted(42, record={"snapshots": 6}).snapshots
    run = load(path)
    with h5py.File(path) as file:
        for name in ("step", "time", "reg", "w", "u"):
            values = np.array([getattr(one, name) for one in whole])
            assert np.array_equal([getattr(one, name) for one in run.snapshots], values)
            assert np.array_equal(file["snapshots"][name], values)
        assert np.array_equal(file["snapshots/index"], whole[0].index)
    before = {one.name: held(path)[one.name] for one in listed(path, "snapshots")}
    resume(path, more=3)
    assert {one.name: held(path)[one.name] for one in listed(path, "snapshots")} == before
    assert [one.step for one in load(path).snapshots] == [one.step for one in whole]


def test_a_run_without_its_parts_is_refused_in_one_line_that_names_one(path, tmp_path):
    """Moved alone by every command; with its parts it goes on elsewhere, to the same bits."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    shutil.copy(path, alone)
    for command in ("info", "resume", "plot", "certify", "report"):
        status, out, err = in_process(command, alone / "run.h5")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert ".part-" in err
        assert "is not beside it" in err
    with h5py.File(alone / "run.h5") as file:
        with pytest.raises(KeyError):
            file["data/X"]
        assert (file["trace/step"][0], file["trace/step"][-1]) == (-1, 42)
        assert np.isnan(file["trace/risk"][0])
    shutil.copytree(path.parent, together)
    shutil.rmtree(path.parent)
    assert_same(resume(together / "run.h5", more=6), uninterrupted(48))


def test_a_run_of_another_name_and_a_copy_beside_it_have_parts_of_their_own(path):
    """From their first checkpoint on; until then they share those of the first. Neither spoils the other."""
    renamed, copied = path.with_name("renamed.h5"), path.with_name("copied.h5")
    shutil.copy(path, copied)
    assert_same(resume(copied, more=9), uninterrupted(51))
    assert {name.partition(".part-")[0] for name in parts_of(path)} == {"run.h5", "copied.h5"}
    assert_same(load(path), uninterrupted(42))
    path.rename(renamed)
    assert_same(resume(renamed, more=6), uninterrupted(48))
    for name in parts_of(path):
        if name.startswith("run.h5"):
            (path.parent / name).unlink()
    assert_same(load(renamed), uninterrupted(48))
    assert_same(load(copied), uninterrupted(51))


def test_the_generation_before_goes_on_where_the_newest_is_damaged(path):
    """Its trace ends earlier, in the same parts or fewer."""
    resume(path, more=30)
    step = load(atomic.previous(path)).ensemble.step
    path.write_bytes(path.read_bytes()[:5000])
    assert_same(resume(path, until=step + 20), uninterrupted(step + 20))
    assert_same(load(path), uninterrupted(step + 20))


@pytest.mark.parametrize("kind", parts.KINDS)
def test_a_damaged_or_exchanged_part_is_refused(path, kind):
    """Every 97th byte changed, cut off, or that of another run, whole: one line that names it; nothing is touched."""
    part = listed(path, kind)[0]
    raw, refused = part.read_bytes(), 0
    spoilt = [raw[:k] + bytes([raw[k] ^ 8]) + raw[k + 1 :] for k in range(0, len(raw), 97)]
    for bad in [*spoilt, raw[:-1], b""]:
        part.write_bytes(bad)
        with pytest.raises(RunFileError, match=part.name) as caught:
            load(path)
        assert "\n" not in str(caught.value)
        refused += 1
    assert refused > 30
    part.write_bytes(raw)
    tree = hdf5.read(part)
    group, name = {"data": ("data", "X"), "history": ("trace", "risk"), "snapshots": ("snapshots", "u")}[kind]
    tree[group][name] = tree[group][name] * tree[group][name].dtype.type(1 + 1e-6)
    hdf5.write(part, tree)
    with pytest.raises(RunFileError, match="is not the one that it was written with"):
        load(path)


def test_a_part_that_somebody_removed_under_way_is_written_again(tmp_path):
    """The run goes on, and its file is whole: all that a part holds is in memory too."""
    path = tmp_path / "run.h5"

    def remove(ensemble, row):
        if row["step"] == 20:
            assert len(parts_of(path)) == 2
            for name in parts_of(path):
                (tmp_path / name).unlink()

    simulate(problem(), ensemble(), Langevin(), steps=42, out=path, callback=remove, **SETTINGS)
    assert_same(load(path), uninterrupted(42))
    assert_same(load(atomic.previous(path)), uninterrupted(39))


def test_parts_that_no_generation_names_are_removed(path):
    """With --force all of the run that was there; what only looks like a part, or is another run's, stays."""
    others = ["run.h5.part-x", "run.h5.part-0123456789abc", "other.h5.part-0123456789ab"]
    for name in others:
        path.with_name(name).touch()
    path.with_name("run.h5.part-0123456789ab").touch()
    resume(path, more=3)
    files = [path, atomic.previous(path)]
    named = {part.name for file in files for kind in parts.KINDS for part in listed(file, kind)}
    assert {*parts_of(path)} == named | {*others}
    simulate(problem(n=20), ensemble(), Langevin(), steps=6, out=path, force=True, **SETTINGS)
    assert not named & {*parts_of(path)}
    assert load(path).trace["step"].tolist() == [0, 2, 4, 6]


def test_where_a_generation_is_damaged_no_part_of_it_is_removed(path):
    """salvage may want them."""
    older = atomic.previous(path)
    orphan = path.with_name("run.h5.part-0123456789ab")
    orphan.touch()
    content = run_file.load(path)
    run_file.save(path, content)
    assert not orphan.exists()
    orphan.touch()
    path.write_bytes(path.read_bytes()[:5000])
    run_file.save(path, content)
    assert older.stat().st_size == 5000
    assert orphan.exists()


def test_a_column_that_joins_later_is_in_every_part(path):
    """A measure of one's own from step 42 on: NaN before, as in a trace in one file. The generation before keeps the
    parts that it had."""
    measures = {"own": lambda ensemble: 1.0}
    resume(path, more=3, measures=measures)
    assert_same(load(atomic.previous(path)), uninterrupted(42))
    resume(path, more=27, measures=measures)
    own = load(path).trace["own"]
    assert np.isnan(own[:22]).all()
    assert (own[22:] == 1.0).all()
    for part in listed(path, "history"):
        assert hdf5.read(part)["trace"].keys() == load(path).trace.keys()


def test_what_a_killed_writer_of_a_part_left_is_removed_by_the_next(path, monkeypatch):
    """Its temporary file bears the name of the run's, and so goes with them."""
    content, made, write = run_file.load(path), [], hdf5._write_file
    monkeypatch.setattr(hdf5, "_write_file", lambda file, tree: (made.append(file.name), write(file, tree)))
    run_file.save(path.with_name("new.h5"), content)
    assert len(made) > 2
    own = f"{os.uname().nodename}-{os.getpid()}-"
    left = [path.with_name(name.replace(own, f"{os.uname().nodename}-{2**22 + 1}-")) for name in made]
    for file in left:
        file.touch()
    with RunLock(path.with_name("new.h5")):
        assert not any(file.exists() for file in left)


@pytest.mark.parametrize(
    "text",
    [
        '[["data", "../run.h5.part-0123456789ab", "", 1]]',
        '[["data", "/etc/passwd", "", 1]]',
        '[["data", "run.h5.part-0123456789ab\\u0000", "", 1]]',
        '[["data", "run.h5.part-0123456789ab", "", 1], ["data", "run.h5.part-0123456789ab", "", 1]]',
        '[["data", "run.h5.part-0123456789ab"]]',
        '[["other", "run.h5.part-0123456789ab", "", 1]]',
        '[["data", 3, "", 1]]',
        "[1]",
        "{",
        "[" * 100_000,
    ],
)
def test_a_list_of_parts_that_means_harm_is_refused(path, text):
    """Other folders, the same part a thousand times: in one line, under right digests."""
    tree = hdf5.read(path)
    tree["parts"] = text
    path.unlink()
    hdf5.write(path, tree)
    with pytest.raises(RunFileError, match="its list of parts is none") as caught:
        load(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("group", ["data", "trace", "timing", "snapshots", "ensemble", "latest", "config", "parts"])
@pytest.mark.parametrize("value", [np.zeros(3), "x"], ids=["array", "text"])
def test_what_stands_in_the_place_of_a_group_is_refused(path, group, value):
    """Under right digests, by all that reads a run, in one line; an array takes no name as an index."""
    if group in ("config", "parts"):  # these are texts
        value = {"x": value}
    hdf5.write(path, {**hdf5.read(path), group: value})
    with pytest.raises(RunFileError) as caught:
        load(path)
    assert str(caught.value).isprintable()
    for read in (run_file.load_outline, lambda path: salvage(path, path.with_name("new.h5"))):
        with suppress(RunFileError):  # they may do without what is spoilt
            read(path)


def test_rows_that_a_part_does_not_have_are_refused(path):
    tree = hdf5.read(path)
    names = json.loads(tree["parts"])
    names[1][3] += 1
    tree["parts"] = json.dumps(names)
    hdf5.write(path, tree)
    with pytest.raises(RunFileError, match="is not the one that it was written with"):
        load(path)


@pytest.mark.parametrize("kind", parts.KINDS)
def test_salvage_keeps_what_is_whole_of_parts(path, kind):
    """Without a part of its history a run goes on without a trace, and likewise without snapshots; the data are to be
    had nowhere else."""
    listed(path, kind)[-1].unlink()
    new = path.with_name("new.h5")
    if kind == "data":
        with pytest.raises(RunFileError, match="its data are lost in both generations"):
            salvage(path, new)
        return
    run, lost = salvage(path, new)
    assert any(".part-" in line for line in lost)
    assert np.array_equal(run.ensemble.theta, uninterrupted(42).ensemble.theta)
    assert (len(run.trace) == 0, len(run.snapshots) == 0) == (kind == "history", kind == "snapshots")


def test_salvage_of_a_run_in_parts_has_all_of_it(path):
    with open(path, "ab") as file:
        file.write(b"what does not belong here")
    run, lost = salvage(path, path.with_name("new.h5"))
    assert lost == []
    assert_same(run, uninterrupted(42))


def test_salvage_that_comes_to_nothing_leaves_nothing(path):
    """Each array is whole, and they are not one run's."""
    atomic.previous(path).unlink()
    tree = hdf5.read(path)
    tree["ensemble"]["seed"] += 1
    hdf5.write(path, tree)
    before = sorted(os.listdir(path.parent))
    with pytest.raises(RunFileError, match="what is whole of it makes no run"):
        salvage(path, path.with_name("new.h5"))
    assert sorted(os.listdir(path.parent)) == before


def test_the_large_becomes_a_part_and_stays_one(monkeypatch, tmp_path):
    """At the very size that is stated, and not below it; all of the data, a test set longer than the rest too."""
    arrays = {"X": np.zeros((4, 10)), "y": np.zeros(4), "X_test": np.zeros((9, 10)), "y_test": np.zeros(9)}
    tree = {"data": {**arrays, "sha256": ""}, "trace": {}, "timing": {}}
    for limit, count in ((1145, 0), (1144, 1)):
        monkeypatch.setattr(parts, "LARGE", limit)
        found = parts.Parts()
        divided = parts.divide(tmp_path / "run.h5", tree, found)
        assert len(found.data) == count
        assert ("parts" in divided) == bool(count)
        assert "latest" not in divided
