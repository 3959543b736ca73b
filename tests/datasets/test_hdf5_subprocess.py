"""A user's own HDF5 file is read, or refused in one line, whatever it does to the HDF5 library."""

import sys
import threading

import h5py
import numpy as np
import pytest
from helpers import same

from meanfield.datasets import hdf5_subprocess
from meanfield.errors import InputError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.h5"


def virtual(file):
    layout = h5py.VirtualLayout((3, 4), "f8")
    layout[...] = h5py.VirtualSource("other.h5", "x", (3, 4))
    file.create_virtual_dataset("bad", layout)


MALICE = {
    "soft link": lambda f: f.__setitem__("bad", h5py.SoftLink("/step")),
    "external link": lambda f: f.__setitem__("bad", h5py.ExternalLink("other.h5", "/x")),
    "external storage": lambda f: f.create_dataset("bad", (9,), "u1", external=[("/etc/passwd", 0, 9)]),
    "virtual dataset": virtual,
    "absurd shape": lambda f: f.create_dataset("bad", (10**15,), "f8"),
    "absurd chunked shape": lambda f: f.create_dataset("bad", (10**15,), "f8", chunks=(10,)),
    "nothing behind it": lambda f: f.create_dataset("bad", (10**8,), "f8", chunks=(10**6,), compression="gzip"),
    "compound": lambda f: f.create_dataset("bad", (3,), [("a", "f8"), ("b", "i4")]),
    "reference": lambda f: f.create_dataset("bad", data=f["step"].ref),
    "enum": lambda f: f.create_dataset("bad", (3,), h5py.enum_dtype({"A": 1})),
    "array type": lambda f: f.create_dataset("bad", (3,), "(2,)f8"),
    "complex": lambda f: f.create_dataset("bad", (3,), "c16"),
    "named type": lambda f: f.__setitem__("bad", np.dtype("f8")),
    "no space": lambda f: f.create_dataset("bad", data=h5py.Empty("f8")),
}


def test_a_users_arrays_are_read_with_gzip_and_text(path):
    X = np.arange(12.0).reshape(4, 3)
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=X, compression="gzip", shuffle=True)
        file["y"] = ["a", "é", "a", "b"]
    arrays = hdf5_subprocess.read_arrays(path, ["X", "y", "X_test"])
    assert same(arrays, {"X": X, "y": np.array(["a", "é", "a", "b"])})


@pytest.mark.parametrize("kind", MALICE)
def test_a_users_file_cannot_reach_elsewhere_or_ask_for_the_absurd(path, kind):
    with h5py.File(path, "w") as file:
        file["step"] = 1
        MALICE[kind](file)
    with pytest.raises(InputError, match="bad") as caught:
        hdf5_subprocess.read_arrays(path, ["bad"])
    assert str(caught.value).isprintable()


def test_a_file_at_which_the_library_crashes_or_hangs_is_refused(path, monkeypatch):
    """The process that reads it may do anything: end by a signal, wait for ever, or write half of an array."""
    path.write_bytes(b"")
    for deed in (
        "import os; os.kill(os.getpid(), 11)",
        "import time; time.sleep(99)",
        "",
        "print('[' * 10**5)",
        'import sys; print(\'{"found": {"X": ["<f8", [9]]}}\'); print(1)',
    ):
        monkeypatch.setattr(hdf5_subprocess, "_CHILD", deed)
        monkeypatch.setattr(hdf5_subprocess, "_PATIENCE", 1)
        with pytest.raises(InputError, match="made the HDF5 library crash or hang"):
            hdf5_subprocess.read_arrays(path, ["X"])


def test_nothing_in_the_working_folder_is_run(path, monkeypatch):
    with h5py.File(path, "w") as file:
        file["X"] = np.ones((2, 3))
    (path.parent / "json.py").write_text("open('ran', 'w'); raise SystemExit")
    monkeypatch.chdir(path.parent)
    assert same(hdf5_subprocess.read_arrays(path, ["X"]), {"X": np.ones((2, 3))})
    assert not (path.parent / "ran").exists()


def test_where_no_process_or_thread_can_be_started_it_is_said_or_does_without(path, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with h5py.File(path, "w") as file:
        file["X"] = np.ones((2, 3))
    with monkeypatch.context() as context:
        context.setattr(threading.Thread, "start", refuse)
        assert same(hdf5_subprocess.read_arrays(path, ["X"]), {"X": np.ones((2, 3))})
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(InputError, match=r"data\.h5: another process is to read it, but /nowhere/python could not"):
        hdf5_subprocess.read_arrays(path, ["X"])


def test_damaged_files_are_read_or_refused(path):
    """Bytes overwritten in the format that h5py writes unless told, without checksums: arrays or one line."""
    rng, found = np.random.default_rng(0), {"read": 0, "refused": 0}
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=rng.standard_normal((6, 3)), chunks=(2, 2), compression="gzip")
        file["y"] = ["a", "b"] * 3
    raw = path.read_bytes()
    for _ in range(25):
        spoilt = bytearray(raw)
        for _ in range(3):
            spoilt[rng.integers(len(raw))] = rng.integers(256)
        path.write_bytes(spoilt)
        try:
            arrays = hdf5_subprocess.read_arrays(path, ["X", "y"])
        except InputError as error:
            assert str(error).isprintable()  # noqa: PT017
            found["refused"] += 1
        else:
            assert all(isinstance(array, np.ndarray) for array in arrays.values())
            found["read"] += 1
    assert min(found.values()) > 0
