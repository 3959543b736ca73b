"""Formats that others write, and files that are not what they seem."""

import gzip
import os
import threading
import zipfile

import h5py
import numpy as np
import pytest

from meanfield.datasets.load import load_dataset
from meanfield.errors import InputError
from meanfield.simulation.config import Data

IMAGES = np.arange(6 * 2 * 3, dtype=np.uint8).reshape(6, 2, 3)


def load(path, **settings):
    """The dataset in a file, not split."""
    return load_dataset(Data(source=str(path), test_fraction=0.0, **settings))


def refusal(path, **settings):
    """The message, one line that begins with the file."""
    with pytest.raises(InputError) as caught:
        load(path, **settings)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("ending", ["npz", "h5"])
@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),  # Keras
        ("X_train", "y_train", "X_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST
        ("data", "target", None, None),
        ("x", "y", None, None),
        ("images", "labels", None, None),
    ],
)
def test_arrays_go_by_many_names(tmp_path, names, ending):
    """Images become rows, and labels (n, 1) a label each."""
    path, y = tmp_path / f"a.{ending}", np.arange(6) % 2
    arrays = dict(zip(names, (IMAGES, y[:, None], IMAGES[:2] + 1, y[:2, None]), strict=True))
    arrays.pop(None, None)
    if ending == "npz":
        np.savez(path, val_images=IMAGES, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    data = load(path)
    np.testing.assert_array_equal(data.X, IMAGES.reshape(6, 6))
    np.testing.assert_array_equal(data.y, y)
    if names[2]:
        np.testing.assert_array_equal(data.X_test, IMAGES[:2].reshape(2, 6) + 1.0)


def test_a_refusal_lists_the_arrays_that_are_there(tmp_path):
    """Under whatever names they have."""
    np.savez(tmp_path / "a.npz", arr_0=np.arange(6), inputs=IMAGES)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["arr_0"], file["inputs"] = np.arange(6), IMAGES
    for name in ("a.npz", "a.h5"):
        message = refusal(tmp_path / name)
        assert message.startswith("has no array 'X' among arr_0, inputs: must hold X (n, d) and y (n,)")


@pytest.mark.parametrize(
    ("names", "source"),
    [
        (("X.npy", "y.npy"), "X.npy"),
        (("X_train.npy", "y_train.npy", "X_test.npy", "y_test.npy"), "X_train.npy"),
        (("iris_x.npy", "iris_y.npy"), "iris_x.npy"),
    ],
)
def test_npy_files_come_in_pairs(tmp_path, names, source):
    """Inputs are named, labels lie beside, and so may a test set."""
    for name, array in zip(names, (IMAGES, np.arange(6), IMAGES[:2], np.arange(2)), strict=False):
        np.save(tmp_path / name, array)
    data = load(tmp_path / source)
    assert (data.X.shape, data.y.tolist()) == ((6, 6), list(range(6)))
    assert (data.X_test is not None) == (len(names) == 4)


def test_an_npy_file_alone_says_what_it_lacks(tmp_path):
    """The name of the file that was looked for."""
    for name in ("X.npy", "table.npy"):
        np.save(tmp_path / name, IMAGES)
    with pytest.raises(InputError, match=r"y\.npy: cannot be read: No such file"):
        load(tmp_path / "X.npy")
    assert "must be called X.npy" in refusal(tmp_path / "table.npy")
    (tmp_path / "X.npy").write_bytes((tmp_path / "X.npy").read_bytes()[:-8])
    assert "declares shape" in refusal(tmp_path / "X.npy")


@pytest.mark.parametrize("ending", ["npz", "npy"])
def test_missing_values_of_arrays_follow_the_same_policy(tmp_path, ending):
    """As those of tables do."""
    X = np.array([[1.0, np.nan], [3, 4], [5, 6]])
    np.savez(tmp_path / "X.npz", X=X, y=[0, 1, 0])
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", [0, 1, 0])
    path = tmp_path / f"X.{ending}"
    assert refusal(path).startswith("X[0, 1] is nan or missing (1 in all, of 1 feature): must be finite")
    assert load(path, missing="drop").X.tolist() == [[3, 4], [5, 6]]
    assert load(path, missing="mean").X.tolist() == [[1, 5], [3, 4], [5, 6]]
    np.savez(tmp_path / "X.npz", X=X, y=[0, np.nan, 1])
    np.save(tmp_path / "y.npy", [0, np.nan, 1])
    assert "y[1] is nan: must be finite" in refusal(path, missing="mean")
    assert load(path, missing="drop").X.tolist() == [[5, 6]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.svm", "1 2:x\n"),
        ("a.svm", "yes 1:2\n"),
        ("a.libsvm", "\0\1\2"),
        ("a.arff", "no arff\n"),
        ("a.arff", "@relation a\n@attribute x numeric\n@attribute y {u,v}\n@data\n1,w\n"),
        ("a.arff", "@relation a\n@attribute x string\n@attribute y numeric\n@data\n'a',1\n"),
        ("a.arff", "@relation a\n@attribute x numeric\n@attribute y {u,v}\n@data\n"),
    ],
)
def test_damaged_texts_of_other_formats_are_refused(tmp_path, name, text):
    """In one line, whatever their readers raise."""
    (tmp_path / name).write_text(text)
    refusal(tmp_path / name)


def test_gaps_of_an_arff_follow_the_same_policy(tmp_path):
    """Rows have no lines there; labels may be missing too."""
    path = tmp_path / "a.arff"
    path.write_text("@relation a\n@attribute x real\n@attribute y {u,v}\n@data\n1,u\n?,v\n3,?\n5,v\n")
    assert refusal(path) == (
        "row 2, column 'y' is nan or missing (1 in all): must be a label; "
        'data.missing = "drop" leaves such examples out'
    )
    data = load(path, missing="drop")
    assert (data.X.tolist(), data.y.tolist()) == ([[1.0], [5.0]], ["u", "v"])


def test_a_frame_comes_from_parquet(tmp_path):
    """With its texts, gaps and names; without a reader the extra is named."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2, 3], "b": [0.5, None, 2.5], "c": ["u", "v", None], "y": ["no", "yes", "no"]})
    try:
        frame.to_parquet(tmp_path / "a.parquet")
    except ImportError:
        (tmp_path / "a.parquet").write_bytes(b"")
        assert "needs pyarrow: pip install 'meanfield-networks[parquet]'" in refusal(tmp_path / "a.parquet")
        return
    data = load(tmp_path / "a.parquet", one_hot=True, missing="mean")
    assert data.feature_names == ("a", "b", "c=u", "c=v")
    assert data.X.tolist() == [[1, 0.5, 1, 0], [2, 1.5, 0, 1], [3, 2.5, 0.5, 0.5]]
    assert data.y.tolist() == ["no", "yes", "no"]
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    refusal(tmp_path / "a.parquet")


# Files that are none, or far more than they seem


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "npz", "npy", "h5", "svm", "arff", "parquet"])
def test_pipes_and_devices_are_no_files(tmp_path, ending):
    """A pipe without a writer would be waited for, and /dev/zero has no end."""
    pipe, zero = tmp_path / f"X.{ending}", tmp_path / f"zero_X.{ending}"
    os.mkfifo(pipe)
    zero.symlink_to("/dev/zero")
    watch = threading.Timer(20, lambda: os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)))
    watch.start()
    try:
        for path in (pipe, zero):
            message = refusal(path)
            assert "is no file but a" in message or "pyarrow" in message
        assert watch.is_alive()
    finally:
        watch.cancel()


def bombs(folder):
    """Files of a megabyte at most that would take gigabytes."""
    header = b"{'descr': '|i1', 'fortran_order': False, 'shape': (30000, 10000), }".ljust(117) + b"\n"
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(3 * 10**8))
    with h5py.File(folder / "a.h5", "w") as file:
        X = file.create_dataset("X", shape=(30000, 10000), dtype="i1", chunks=(3000, 1000), compression="gzip")
        for k in range(0, 30000, 3000):
            X[k : k + 3000] = np.zeros((3000, 10000), "i1")
    with gzip.open(folder / "a.csv.gz", "wb") as packed:
        packed.write(b"a,y\n")
        for _ in range(300):
            packed.write(b"1,0\n" * (1 << 18))
    (folder / "a.svm").write_text("1 40000000:1\n0 1:1\n")
    return sorted(path for path in folder.iterdir() if path.suffix in (".npz", ".h5", ".gz", ".svm"))


def test_a_small_file_does_not_become_gigabytes(tmp_path):
    """More than 256 MiB, and 200 times what the file holds, is refused before the memory is taken."""
    found = bombs(tmp_path)
    assert len(found) == 4
    for path in found:
        assert path.stat().st_size < 2**21
        message = refusal(path)
        assert "200 times its size" in message, message
