"""A folder to which others can write: what they put there is neither written through nor taken for ours."""

import os

import pytest
from faults import SETTINGS, ensemble, in_parts, problem
from helpers import assert_same

from meanfield import Langevin, load, simulate
from meanfield.errors import RunFileError
from meanfield.storage import atomic, hdf5
from meanfield.storage.lock import RunLock, check_still_held, writer


@pytest.fixture
def victim(tmp_path):
    file = tmp_path / "victim"
    file.write_text("precious")
    return file


@pytest.fixture
def plant(victim):
    """Puts a link to the victim into a place, or a pipe: one that is read, so that a writer would not wait for ever."""
    readers = []

    def put(kind, place):
        if kind == "pipe":
            os.mkfifo(place)
            readers.append(os.open(place, os.O_RDONLY | os.O_NONBLOCK))
        else:
            (os.symlink if kind == "link" else os.link)(victim, place)

    yield put
    for one in readers:
        os.close(one)


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_a_lock_is_not_written_through_what_stands_in_its_place(tmp_path, victim, plant, kind):
    """Refused in one line, whoever asks; nothing is followed, emptied or waited for."""
    path = tmp_path / "run.h5"
    plant(kind, tmp_path / "run.h5.lock")
    for force in (False, True):
        with pytest.raises(RunFileError, match=r"run\.h5\.lock: cannot lock the run: is a link, or no file"):
            RunLock(path, force).__enter__()
    check_still_held(path)
    assert writer(path) is None
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
@pytest.mark.parametrize("suffix", ["", ".prev"])
def test_a_temporary_file_is_made_anew_whatever_stands_in_its_place(tmp_path, victim, plant, monkeypatch, kind, suffix):
    """The file that comes out is a plain file of its own, twice, with a generation before; the victim is as it was."""
    path, names, original = tmp_path / "z.h5", [], atomic._make
    monkeypatch.setattr(atomic, "_make", lambda temporary: names.append(temporary) or original(temporary))
    hdf5.write(path, {"a": 1})
    for value in (2, 3):
        plant(kind, names[0].with_name(names[0].name + suffix))
        hdf5.write(path, {"a": value}, keep_previous=True)
        assert victim.read_text() == "precious"
        for file, held in ((path, value), (atomic.previous(path), value - 1)):
            assert not file.is_symlink()
            assert hdf5.read(file)["a"] == held
    assert sorted(os.listdir(tmp_path)) == ["victim", "z.h5", "z.h5.prev"]


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_a_part_is_made_anew_whatever_stands_in_its_place(tmp_path, victim, plant, monkeypatch, kind):
    """Its name says what it holds, so that whoever knows the data knows it beforehand. The run is whole, and opens."""
    in_parts(monkeypatch.setattr)

    def run(folder):
        path = tmp_path / folder / "run.h5"
        path.parent.mkdir(exist_ok=True)
        return simulate(problem(), ensemble(), Langevin(), steps=6, out=path, **SETTINGS), path

    first, path = run("first")
    names = [file.name for file in path.parent.iterdir() if ".part-" in file.name]
    (tmp_path / "second").mkdir()
    for name in [*names, "run.h5.prev"]:
        plant(kind, tmp_path / "second" / name)
    second, path = run("second")
    assert second.saved
    assert_same(load(path), first)
    assert victim.read_text() == "precious"
    assert [file.name for file in path.parent.iterdir() if file.is_symlink() or not file.is_file()] == []
