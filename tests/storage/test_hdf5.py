"""Files are replaced whole and read back as they were written, whatever happens meanwhile."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import content, same

from meanfield.errors import RunFileError
from meanfield.storage import atomic, hdf5


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.h5"


def leftovers(folder):
    return [name for name in os.listdir(folder) if ".tmp-" in name]


def test_read_gives_back_what_write_was_given(path):
    """Types, bits, shapes, text and the order of names all come back."""
    hdf5.write(path, content())
    assert same(hdf5.read(path), content())
    assert leftovers(path.parent) == []


def test_equal_content_gives_equal_bytes(path):
    """No clock enters a file: one written a second later is the same."""
    hdf5.write(path, content())
    first = path.read_bytes()
    time.sleep(1.1)
    hdf5.write(path, content())
    assert path.read_bytes() == first


def test_a_stream_writes_what_the_array_writes(path):
    array = np.random.default_rng(0).standard_normal((1000, 3)).astype(np.float32)
    chunks = (array[start : start + 170] for start in range(0, 1000, 170))
    hdf5.write(path, {"u": hdf5.Stream((1000, 3), np.dtype("f4"), chunks)})
    streamed = path.read_bytes()
    hdf5.write(path, {"u": array})
    assert path.read_bytes() == streamed


@pytest.mark.parametrize("rows", [[3, 3], [3, 3, 5]])
def test_a_stream_of_another_length_is_refused_and_the_old_file_stays(path, rows):
    hdf5.write(path, content())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="u: "):
        hdf5.write(path, {"u": hdf5.Stream((10, 2), np.dtype("f4"), (np.zeros((k, 2), "f4") for k in rows))})
    assert path.read_bytes() == before
    assert leftovers(path.parent) == []


def test_a_reader_keeps_its_generation(path):
    """Rows read after the file was replaced twice are those verified before."""
    array = np.arange(3000.0).reshape(1000, 3)
    hdf5.write(path, {"g": {"u": array}})
    reader = hdf5.read(path, rows={"g/u"})["g"]["u"]
    for _ in range(2):
        hdf5.write(path, {"g": {"u": -array}}, keep_previous=True)
    assert (reader.shape, reader.dtype) == (array.shape, array.dtype)
    assert np.array_equal(np.concatenate(list(reader.blocks(170))), array)
    assert np.array_equal(reader.rows(990, 2000), array[990:])
    hdf5.write(path, {"g": {"u": reader}})
    assert np.array_equal(hdf5.read(path)["g"]["u"], array)


def test_a_lazy_read_verifies_first(path):
    array = np.arange(3000.0).reshape(1000, 3)
    hdf5.write(path, {"u": array})
    path.write_bytes(path.read_bytes().replace(np.float64(1234).tobytes(), np.float64(1235).tobytes()))
    with pytest.raises(RunFileError, match="u does not match its checksum"):
        hdf5.read(path, rows={"u"})


def test_names_limit_what_is_read_and_verified(path):
    hdf5.write(path, content())
    assert same(hdf5.read(path, names={"data/z"})["data"]["z"], content()["data"]["z"])
    assert "step" not in hdf5.read(path, names={"data"})


def test_an_open_h5py_file_in_the_same_process_is_no_hindrance(path):
    """HDF5 refuses to open a file twice with different lock settings; that must not look like damage."""
    hdf5.write(path, content())
    with h5py.File(path, "r"):
        assert hdf5.read(path)["step"] == 3
        hdf5.write(path, content(4))
        assert hdf5.read(path)["step"] == 4


# ---- durability ------------------------------------------------------------------------------------------------------


def test_the_file_is_on_disk_before_its_name_and_the_name_before_write_returns(path, monkeypatch):
    """fsync(file), link(old), rename(new), fsync(folder), rename(old -> .prev), fsync(folder)."""
    hdf5.write(path, content(1))
    log = []

    def record(name, describe):
        original = getattr(os, name)

        def wrapped(*args):
            log.append((name, *describe(*args)))
            return original(*args)

        monkeypatch.setattr(os, name, wrapped)

    def short(p):
        return Path(p).name.replace(f"{os.uname().nodename}-{os.getpid()}-{threading.get_native_id()}", "X")

    record("fsync", lambda fd: (short(os.readlink(f"/proc/self/fd/{fd}")),))
    record("link", lambda a, b: (short(a), short(b)))
    record("replace", lambda a, b: (short(a), short(b)))
    hdf5.write(path, content(2), keep_previous=True)
    folder = path.parent.name
    assert log == [
        ("fsync", ".run.h5.tmp-X"),
        ("link", "run.h5", ".run.h5.tmp-X.prev"),
        ("replace", ".run.h5.tmp-X", "run.h5"),
        ("fsync", folder),
        ("replace", ".run.h5.tmp-X.prev", "run.h5.prev"),
        ("fsync", folder),
    ]


class PowerCuts:
    """Keeps, after every file operation, what a disk may hold then: contents without fsync are lost."""

    def __init__(self, folder, shots, monkeypatch):
        self.folder, self.shots, self.safe, self.count = folder, shots, set(), 0
        self.safe = {os.stat(folder / name).st_ino for name in os.listdir(folder)}
        for name in ("fsync", "link", "replace"):
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name), name))

    def wrap(self, original, name):
        def wrapped(*args):
            self.shoot()
            result = original(*args)
            if name == "fsync":
                self.safe.add(os.fstat(args[0]).st_ino)
            self.shoot()
            return result

        return wrapped

    def shoot(self):
        shot = self.shots / str(self.count)
        shutil.copytree(self.folder, shot)
        for name in os.listdir(self.folder):
            if os.stat(self.folder / name).st_ino not in self.safe:
                (shot / name).write_bytes(b"")
        self.count += 1


def generation(path):
    for candidate in (path, atomic.previous(path)):
        try:
            return hdf5.read(candidate)["step"]
        except RunFileError:
            continue
    return None


@pytest.mark.parametrize("hard_links", [True, False])
@pytest.mark.parametrize("damaged", [False, True])
def test_whenever_the_power_goes_a_good_generation_is_there(tmp_path, monkeypatch, damaged, hard_links):
    """Also when the file in place is damaged and only .prev is good, where the file system has hard links."""
    folder, shots = tmp_path / "folder", tmp_path / "shots"
    folder.mkdir()
    path = folder / "run.h5"
    for step in (1, 2):
        hdf5.write(path, content(step), keep_previous=True)
    if damaged:
        path.write_bytes(path.read_bytes()[:1000])
    cuts = PowerCuts(folder, shots, monkeypatch)
    if not hard_links:
        monkeypatch.setattr(os, "link", lambda a, b: (_ for _ in ()).throw(PermissionError(1, "no links")))
    hdf5.write(path, content(3), keep_previous=True)
    monkeypatch.undo()
    seen = [generation(shots / str(k) / "run.h5") for k in range(cuts.count)]
    assert cuts.count >= 8
    assert seen[-1] == 3
    if not (damaged and not hard_links):
        assert None not in seen
    if hard_links:
        assert all((shots / str(k) / "run.h5").exists() for k in range(cuts.count))


FULL_DISK = """
import resource, signal, sys, numpy as np
from meanfield.storage import hdf5
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, start, stop, step = sys.argv[1], *map(int, sys.argv[2:])
for limit in range(start, stop, step):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        hdf5.write(path, {"u": np.ones(2000), "g": {f"x{k}": np.arange(k) for k in range(20)}}, keep_previous=True)
    except hdf5.StorageError as error:
        assert "\\n" not in str(error) and "File too large" in str(error), str(error)
    else:
        sys.exit(f"a limit of {limit} bytes went unnoticed")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
hdf5.write(path, {"step": 7}, keep_previous=True)
"""


def test_a_full_disk_costs_nothing_but_the_new_generation(path):
    """At whichever byte the disk is full: the old file stays, no temporary file, and the same process can go on."""
    hdf5.write(path, content(1))
    before = path.read_bytes()
    code = FULL_DISK.replace('hdf5.write(path, {"step": 7}, keep_previous=True)', "")
    subprocess.run([sys.executable, "-c", code, path, "100", "24000", "977"], check=True, timeout=60)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["run.h5"]
    subprocess.run([sys.executable, "-c", FULL_DISK, path, "16000", "16001", "1"], check=True, timeout=60)
    assert hdf5.read(path)["step"] == 7


def test_a_vanished_folder_or_one_in_the_place_of_the_file_is_one_line(tmp_path):
    for path in (tmp_path / "gone" / "run.h5", tmp_path):
        with pytest.raises(hdf5.StorageError, match="could not be written") as caught:
            hdf5.write(path, content(), keep_previous=True)
        assert "\n" not in str(caught.value)
        assert caught.value.errno
    assert tmp_path.is_dir()


def test_an_interrupted_write_leaves_the_old_file_alone(path):
    hdf5.write(path, content(1))

    def chunks():
        yield np.zeros((1, 2))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hdf5.write(path, {"u": hdf5.Stream((9, 2), np.dtype("f8"), chunks())}, keep_previous=True)
    assert hdf5.read(path)["step"] == 1
    assert os.listdir(path.parent) == ["run.h5"]


def test_what_dead_writers_left_is_removed_and_what_live_ones_write_is_not(path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = os.uname().nodename
    names = (f"{host}-{dead.pid}-7", f"{host}-1-7", "elsewhere-1234567-7")
    stale, live, foreign = (f".run.h5.tmp-{name}" for name in names)
    for name in (stale, stale + ".prev", live, foreign):
        (path.parent / name).touch()
    hdf5.write(path, content())
    assert sorted(os.listdir(path.parent)) == sorted([live, foreign, "run.h5"])


def test_threads_that_write_one_file_at_once_leave_a_whole_one(path):
    """Each writes a file of its own; at every moment the name stands for one of them, whole."""
    hdf5.write(path, content(0))
    failures = []

    def write(step):
        try:
            for _ in range(30):
                hdf5.write(path, content(step), keep_previous=True)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=write, args=(step,)) for step in (1, 2, 3)]
    for one in threads:
        one.start()
    while any(one.is_alive() for one in threads):
        assert hdf5.read(path)["step"] in (0, 1, 2, 3)
    assert failures == []
    assert hdf5.read(atomic.previous(path))["step"] in (0, 1, 2, 3)
    assert leftovers(path.parent) == []


def test_a_name_as_long_as_the_system_allows_can_be_written(tmp_path):
    path = tmp_path / ("é" * 123 + ".h5")  # 249 bytes; .prev makes 254
    for step in (1, 2):
        hdf5.write(path, content(step), keep_previous=True)
    assert hdf5.read(path)["step"] == 2


def test_a_symbolic_link_is_written_through(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run.h5").symlink_to(tmp_path / "disk" / "real.h5")
    for step in (1, 2):
        hdf5.write(tmp_path / "run.h5", content(step), keep_previous=True)
    assert (tmp_path / "run.h5").is_symlink()
    assert sorted(os.listdir(tmp_path / "disk")) == ["real.h5", "real.h5.prev"]
    assert hdf5.read(tmp_path / "run.h5")["step"] == 2


def test_names_and_values_without_a_plain_form_are_refused(path):
    for bad in ({"a/b": 1}, {"": 1}, {"@x": 1}, {".": 1}, {"x": "end\0"}, {"@attrs": {"a": b"b"}}):
        with pytest.raises(ValueError, match=r"name|stored|no plain form|has no"):
            hdf5.write(path, bad)
    for bad in ({"x": None}, {"x": b""}, {"x": np.zeros(3, complex)}, {"x": np.array([object()])}):
        with pytest.raises(TypeError):
            hdf5.write(path, bad)
    assert os.listdir(path.parent) == []


def test_what_could_not_be_read_is_not_written(path, monkeypatch):
    monkeypatch.setattr(hdf5, "_LARGEST_HEAD", 1000)
    with pytest.raises(ValueError, match="too many for one file"):
        hdf5.write(path, content())
    assert os.listdir(path.parent) == []


def test_a_thousand_datasets_outgrow_no_limit(path):
    many = {f"snapshot {k}": np.full(3, k) for k in range(1000)}
    hdf5.write(path, {"snapshots": many})
    assert same(hdf5.read(path)["snapshots"], many)
