"""Laws of the data: what the generators draw, and what a file must be."""

import copy
import csv
import io
import pickle
import zipfile
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from meanfield.datasets.array_files import read_arrays
from meanfield.datasets.dataset import Dataset, checked_dataset
from meanfield.datasets.generators import GENERATORS
from meanfield.datasets.load import load_dataset
from meanfield.errors import InputError
from meanfield.simulation.config import Data


def load(**fields):
    return load_dataset(Data(**fields))


def failure(**fields):
    """The message of the InputError, which must be one line."""
    with pytest.raises(InputError) as caught:
        load(**fields)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def csv_file(tmp_path, content):
    path = tmp_path / "data.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def npz_file(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return str(tmp_path / "data.npz")


generated = pytest.mark.parametrize(
    "fields",
    [
        {"source": "xor"},
        {"source": "teacher"},
        {"source": "teacher", "task": "regression"},
        {"source": "parity", "k": 3},
        {"source": "parity_normal", "k": 3},
        {"source": "line"},
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)


@generated
def test_the_seed_is_the_whole_dataset(fields):
    """The same seed gives the same bytes, another seed others (the line's training set has no randomness)."""
    a, b, c = (load(n=30, n_test=10, seed=seed, **fields) for seed in (5, 5, 6))
    assert a.sha256 == b.sha256 != c.sha256
    assert a.X.flags.c_contiguous
    assert a.X.dtype == a.X_test.dtype == np.float64
    assert (a.X.shape[0], a.X_test.shape[0]) == (len(a.y), len(a.y_test)) == (30, 10)


@generated
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_longer_set_begins_with_the_shorter(fields, part):
    """The first n of 3000 examples are the n alone, across a chunk of the teacher's draws; all but the line's grid."""
    X, y, n = ("X", "y", "n") if part == "train" else ("X_test", "y_test", "n_test")
    if fields["source"] == "line" and part == "train":
        pytest.skip("evenly spaced")
    long = load(**{"n": 3, "n_test": 3, n: 3000, **fields})
    for size in (1, 7, 1500):
        short = load(**{"n": 3, "n_test": 3, n: size, **fields})
        np.testing.assert_array_equal(getattr(short, X), getattr(long, X)[:size])
        np.testing.assert_array_equal(getattr(short, y), getattr(long, y)[:size])


@generated
def test_training_and_test_sets_are_independent(fields):
    """No training input appears in the test set, where d is large enough that none would by chance."""
    data = load(**{"n": 200, "n_test": 200, **({} if fields["source"] == "line" else {"d": 60}), **fields})
    assert not {row.tobytes() for row in data.X} & {row.tobytes() for row in data.X_test}


def test_the_sizes_of_one_part_leave_the_other_alone():
    """n_test and n choose lengths, not random numbers; no test set is None."""
    a, b = load(n=10, n_test=20), load(n=50, n_test=0)
    np.testing.assert_array_equal(a.X, b.X[:10])
    assert b.X_test is b.y_test is None


@pytest.mark.parametrize("d", [3, 6])
def test_xor_is_the_papers_distribution(d):
    """y = |x₁| - |x₂|, four corners of weight ¼, the rest fair ±1, all uncorrelated, within 5 standard deviations."""
    n = 20_000
    data = load(n=n, d=d)
    X, y = data.X, data.y
    np.testing.assert_array_equal(np.abs(X[:, 0]) - np.abs(X[:, 1]), y)
    assert set(np.unique(np.abs(X[:, 2:]))) == {1.0}
    five = 5 * np.sqrt(0.25 * 0.75 / n)
    for corner in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        assert abs(np.mean(np.all(X[:, :2] == corner, axis=1)) - 0.25) < five
    signs = np.column_stack([X[:, 2:], y, X[:, 0] + X[:, 1], y * (X[:, 0] + X[:, 1])])
    assert np.abs(signs.T @ signs / n - np.eye(d + 1)).max() < 5 / np.sqrt(n)
    assert np.abs(X[:, 2:].mean(axis=0)).max() < 5 / np.sqrt(n)


def test_parity_is_the_product_of_k_signs():
    """Exactly, and each sign is fair."""
    data = load(source="parity", n=20_000, d=5, k=3)
    np.testing.assert_array_equal(data.y, data.X[:, 0] * data.X[:, 1] * data.X[:, 2])
    assert set(np.unique(data.X)) == {-1.0, 1.0}
    assert np.abs(data.X.mean(axis=0)).max() < 5 / np.sqrt(20_000)


def test_parity_with_normal_noise_is_signs_and_normals():
    """y is the product of the first k, which are fair signs; the others have the normal's moments, all uncorrelated."""
    n, k, d = 20_000, 2, 6
    data = load(source="parity_normal", n=n, d=d, k=k)
    X, y = data.X, data.y
    np.testing.assert_array_equal(y, X[:, 0] * X[:, 1])
    assert set(np.unique(X[:, :k])) == {-1.0, 1.0}
    columns = np.column_stack([X, y])
    assert np.abs(columns.mean(axis=0)).max() < 5 / np.sqrt(n)
    assert np.abs(columns.T @ columns / n - np.eye(d + 1)).max() < 5 * np.sqrt(2 / n)
    assert np.abs((X[:, k:] ** 4).mean(axis=0) - 3).max() < 5 * np.sqrt(96 / n)
    assert load(source="parity_normal", n=5, d=2, k=2).X.shape == (5, 2)


def test_the_teacher_is_one_network_for_both_sets_and_both_tasks():
    """A margin only drops inputs: those kept are the inputs of margin 0 with |g| above it, with the same sign.

    The regression's y is that g, on all of its inputs.
    """
    every = load(source="teacher", n=2000, d=4, task="regression", n_test=2000)
    kept = load(source="teacher", n=500, d=4, margin=2.0, n_test=500)
    for X, g, X_kept, y in ((every.X, every.y, kept.X, kept.y), (every.X_test, every.y_test, kept.X_test, kept.y_test)):
        far = np.abs(g) >= 2.0
        assert 500 <= far.sum() < 1900
        np.testing.assert_array_equal(X[far][:500], X_kept)
        np.testing.assert_array_equal(np.sign(g[far][:500]), y)
    assert set(np.unique(kept.y)) == {-1, 1}


def test_the_teachers_inputs_are_standard_normal():
    """Mean 0 and covariance I within 5 standard deviations, and one unit gives one ramp, the same in both sets."""
    data = load(source="teacher", n=20_000, d=4, hidden=1, task="regression")
    n, X, y = 20_000, data.X, data.y
    assert np.abs(X.mean(axis=0)).max() < 5 / np.sqrt(n)
    assert np.abs(X.T @ X / n - np.eye(4)).max() < 5 * np.sqrt(2 / n)
    fit, *_ = np.linalg.lstsq(X[y > 0], y[y > 0], rcond=None)
    np.testing.assert_allclose(np.maximum(X @ fit, 0), y, atol=1e-12)
    np.testing.assert_allclose(np.maximum(data.X_test @ fit, 0), data.y_test, atol=1e-12)


def test_a_teacher_without_margin_has_no_zero_outputs():
    """With 2 units a quarter of the inputs activate none; they have no class and are dropped."""
    data = load(source="teacher", n=500, hidden=2, margin=0.0)
    assert set(np.unique(data.y)) == {-1, 1}


def test_the_line_has_six_intervals():
    """Evenly spaced middles, a constant 1, five changes of class; balanced classes."""
    data = load(source="line", n=60, n_test=300)
    assert np.ptp(np.diff(data.X[:, 0])) < 1e-14
    assert np.all(data.X[:, 1] == 1)
    assert np.count_nonzero(np.diff(data.y)) == 5
    assert (data.y[0], data.y.sum()) == (1, 0)
    np.testing.assert_array_equal(data.y_test, np.where(np.sin(3 * np.pi * (data.X_test[:, 0] + 1)) > 0, 1, -1))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n": 0}, "data.n = 0: must be at least 1"),
        ({"d": 0}, "data.d = 0: must be at least 1"),
        ({"n_test": -1}, "data.n_test = -1: must be at least 0"),
        ({"n": 10**9, "d": 10**6}, "at most 64 GiB"),
        ({"source": "xor", "d": 1}, "data.d = 1: must be at least 2"),
        ({"margin": 1e9}, "data.margin = 1000000000.0: fewer than one input in a thousand"),
        ({"hidden": 1}, "at least 2 units"),
    ],
)
def test_generators_refuse_impossible_sizes(fields, words):
    """Also when nobody validated the section."""
    section = {
        "source": "teacher",
        "n": 5,
        "d": 3,
        "n_test": 2,
        "seed": 0,
        "task": "classification",
        "hidden": 6,
        "margin": 0.1,
        "k": 2,
        "standardize": False,
        "bias": False,
        **fields,
    }
    with pytest.raises(InputError, match=words):
        load_dataset(SimpleNamespace(**section))


def test_every_generator_is_tested():
    """The list above names them all."""
    others = {"single_index", "multi_index", "two_gaussians", "two_moons", "spirals"}  # in test_generators
    assert set(GENERATORS) == {"xor", "teacher", "parity", "parity_normal", "line"} | others


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [("digits", (1797, 64), "i"), ("breast_cancer", (569, 30), "i"), ("diabetes", (442, 10), "f")],
)
def test_sklearn_sets_are_split(name, shape, kind):
    """Whole sets, a quarter of them set aside."""
    data = load(source=f"sklearn:{name}")
    n_test = round(0.25 * shape[0])
    assert data.X.shape == (shape[0] - n_test, shape[1])
    assert data.X_test.shape == (n_test, shape[1])
    assert data.y.dtype.kind in ("i", kind)
    assert len(data.feature_names) == shape[1]


def test_a_split_is_a_partition_by_seed(tmp_path):
    """Every example goes to exactly one side, in its old order; the fraction and the seed decide."""
    source = npz_file(tmp_path, X=np.arange(40.0)[:, None], y=np.arange(40))
    a, b, c = (
        load(source=source, test_fraction=0.3),
        load(source=source, test_fraction=0.3, seed=1),
        load(source=source, test_fraction=0.0),
    )
    assert len(a.y_test) == 12
    assert sorted([*a.y, *a.y_test]) == list(range(40))
    assert list(a.y) == sorted(a.y)
    np.testing.assert_array_equal(a.X[:, 0], a.y)
    assert set(a.y_test) != set(b.y_test)
    assert c.X_test is None
    assert len(c.y) == 40


def test_standardizing_uses_the_training_set_alone(tmp_path):
    """Mean 0 and scale 1 there, the same map on the test set, constant columns become 0, then the bias is 1."""
    rng = np.random.default_rng(0)
    X, X_test = np.column_stack([rng.normal(3, 5, 50), np.full(50, 0.1)]), rng.normal(0, 1, (9, 2))
    source = npz_file(tmp_path, X=X, y=np.arange(50), X_test=X_test, y_test=np.arange(9))
    data = load(source=source, standardize=True, bias=True)
    np.testing.assert_allclose(data.X[:, 0].mean(), 0, atol=1e-15)
    np.testing.assert_allclose(data.X[:, 0].std(), 1, rtol=1e-14)
    assert np.all(data.X[:, 1] == 0)
    assert np.all(data.X[:, 2] == 1)
    np.testing.assert_allclose(data.X_test[:, 0], (X_test[:, 0] - X[:, 0].mean()) / X[:, 0].std(), rtol=1e-13)
    np.testing.assert_array_equal(data.X_test[:, 1:], np.column_stack([X_test[:, 1] - 0.1, np.ones(9)]))


def test_standardizing_cannot_blow_up_the_test_set(tmp_path):
    """A training column of scale 1e-150 would send the test set's 1 beyond all bounds."""
    source = npz_file(tmp_path, X=[[0.0], [1e-150]], y=[0, 1], X_test=[[0.0], [1.0]], y_test=[0, 1])
    assert "standardized X_test[1, 0]" in failure(source=source, standardize=True)


def test_random_tables_are_read_or_refused(tmp_path):
    """Any text of a table's characters gives finite arrays or one line of InputError, nothing else."""
    rng, letters, refusals = np.random.default_rng(2), list('12.,-,\n,"e_xny \r\0\ufeff;é'), []
    for _ in range(300):
        text = "a,y\n1,2\n" + "".join(rng.choice(letters, size=rng.integers(12)))
        source = csv_file(tmp_path, text)
        try:
            data = load(source=source, test_fraction=0.0)
        except InputError as error:
            refusals.append(str(error))
        else:
            assert np.isfinite(data.X).all()
            assert len(data.y) <= text.count("\n") + text.count("\r")
    assert 50 < len(refusals) < 290
    assert all(len(refusal.splitlines()) == 1 for refusal in refusals)


def test_the_digest_sees_every_array():
    """Values, shapes, dtypes and absence all count; the name does not."""
    X, y = np.arange(6.0).reshape(3, 2), np.array([0, 1, 0])
    base = Dataset(X, y, X, y, "a")
    others = [
        Dataset(X + 1e-15, y, X, y, "a"),
        Dataset(X.reshape(2, 3), y, X, y, "a"),
        Dataset(X, y.astype(float), X, y, "a"),
        Dataset(X, y, None, None, "a"),
        Dataset(X, y, X, 1 - y, "a"),
    ]
    assert base.sha256 == Dataset(X.copy(), y.copy(), X, y, "b").sha256
    assert len({base.sha256, *(other.sha256 for other in others)}) == 6
    zero = np.zeros(3, np.int64)
    assert Dataset(X, zero, None, None, "a").sha256 != Dataset(X, zero.astype(float), None, None, "a").sha256


# Files


@pytest.mark.parametrize("ending", ["npz", "h5"])
@pytest.mark.parametrize("labels", [np.array([0, 1, 1]), np.array(["a", "b", "ü"]), np.array([0.5, 1.0, 2.0])])
def test_array_files_come_back(tmp_path, ending, labels):
    """Values and labels survive, whatever the storage type; unnamed arrays are not read."""
    X = np.arange(6).reshape(3, 2)
    path = tmp_path / f"data.{ending}"
    arrays = {"X": X.astype(">f4"), "y": labels, "X_test": X + 1, "y_test": labels}
    if ending == "npz":
        np.savez_compressed(path, other=np.array([{}], dtype=object), **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                file[name] = value.astype(object) if value.dtype.kind == "U" else value
    data = load(source=str(path))
    np.testing.assert_array_equal(data.X, X)
    np.testing.assert_array_equal(data.X_test, X + 1)
    np.testing.assert_array_equal(data.y, labels)
    assert data.y.dtype.kind == labels.dtype.kind


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": [1]}, "has no array 'X'"),
        ({"X": [[1]]}, "has no array 'y'"),
        ({"X": [1, 2], "y": [1, 2]}, r"X has shape \(2,\): must be \(n, d\)"),
        ({"X": np.zeros((0, 3)), "y": []}, "not empty"),
        ({"X": np.zeros((3, 0)), "y": [1, 2, 3]}, "not empty"),
        ({"X": [[1], [2]], "y": [1]}, "as many examples in both"),
        ({"X": [["a"]], "y": [1]}, "must be numbers"),
        ({"X": [[1j]], "y": [1]}, "must be numbers"),
        (
            {"X": [[1, 2], [3, np.nan]], "y": [1, 2]},
            r"X\[1, 1\] is nan or missing \(1 in all, of 1 feature\): must be finite",
        ),
        ({"X": [[1], [2]], "y": [1, np.inf]}, r"y\[1\] is inf: must be finite"),
        ({"X": [[1e16]], "y": [1]}, r"X\[0, 0\] is 1e\+16: rescale"),
        ({"X": [[1]], "y": np.array([2**64 - 1], np.uint64)}, r"y\[0\].*rescale"),
        ({"X": [[1]], "y": [1], "X_test": [[1]]}, "both or neither"),
        ({"X": [[1]], "y": [1], "X_test": [[1, 2]], "y_test": [1]}, r"X_test has shape \(1, 2\)"),
        ({"X": [[1]], "y": [1], "X_test": [[1], [2]], "y_test": [1]}, "as many examples in both"),
        ({"X": [[1]], "y": [1], "X_test": [[np.inf]], "y_test": [1]}, r"X_test\[0, 0\] is inf"),
        ({"X": np.array([[None]]), "y": [1]}, "pickled objects"),
    ],
)
def test_unusable_arrays_are_named(tmp_path, arrays, words):
    """The array, its shape or the first place, and what would do."""
    with pytest.raises(InputError, match=words) as caught:
        load(source=npz_file(tmp_path, **arrays))
    assert str(caught.value).startswith(str(tmp_path))


def npy(shape, content=b"", descr="<f8"):
    """Bytes of an .npy file with any declared shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + content


@pytest.mark.parametrize("shape", [(10**6, 10**6), (2, 2), (2**62, 2**62), (-1, 2), (-1, -1), (0, 1)])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_npz_that_declares_more_than_it_holds_is_refused_unread(tmp_path, shape, compression):
    """Before any memory is taken: 8 bytes of content for up to 2^127, and none of it silently left over."""
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("X.npy", npy(shape, b"\0" * 8))
    message = failure(source=str(path))
    assert "declares shape" in message


def test_damaged_array_files_are_refused(tmp_path):
    """Cut short, a changed byte anywhere, other content: an InputError or, where the byte is idle, the same data."""
    path = tmp_path / "data.npz"
    np.savez(path, X=np.arange(4.0).reshape(2, 2), y=np.array([0, 1]))
    good, base = path.read_bytes(), load(source=str(path), test_fraction=0.0).sha256
    rng, refused = np.random.default_rng(0), 0
    for place in rng.integers(len(good), size=300):
        path.write_bytes(good[:place] + bytes([good[place] ^ rng.integers(1, 256)]) + good[place + 1 :])
        try:
            assert load(source=str(path), test_fraction=0.0).sha256 == base
        except InputError:
            refused += 1
    assert refused > 150
    for content in (b"", b"PK", good[: len(good) // 2], b"a,b\n1,2\n"):
        path.write_bytes(content)
        assert "not a readable .npz" in failure(source=str(path))


def test_scrambled_array_headers_are_refused(tmp_path):
    """Random bytes in an .npy header under a valid checksum never escape as another exception."""
    rng, path = np.random.default_rng(1), tmp_path / "data.npz"
    good = npy((2, 2), b"\0" * 32)
    for _ in range(300):
        member = bytearray(good)
        for place in rng.integers(len(good) - 40, size=3):
            member[place] = rng.integers(256)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("X.npy", bytes(member))
        with pytest.raises(InputError) as caught:
            load(source=str(path))
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("ending", ["csv", "npz", "h5"])
def test_missing_files_and_folders_are_named(tmp_path, ending):
    """One line with the path."""
    missing, folder = tmp_path / f"no.{ending}", tmp_path / f"folder.{ending}"
    folder.mkdir()
    for path in (missing, folder):
        assert str(path) in failure(source=str(path))
    failure(source=f"a\0b.{ending}")
    if ending != "csv":
        with pytest.raises(InputError, match=str(missing)):
            read_arrays(missing, ("w", "u"))


def test_read_arrays_leaves_absent_names_out(tmp_path):
    """Only what is asked for and there."""
    source = npz_file(tmp_path, w=np.ones((2, 1)), u=np.ones((2, 3)))
    assert set(read_arrays(source, ("w", "v"))) == {"w"}


def test_a_csv_is_read_by_column_name(tmp_path):
    """A byte-order mark, quotes, blank lines, carriage returns; the label last or named; labels of three kinds."""
    content = '\ufeffa, b ,"y,z"\r\n1,2.5e0,7\r\n\r\n-3,4, 8 \r\n'
    data = load(source=csv_file(tmp_path, content), test_fraction=0.0)
    np.testing.assert_array_equal(data.X, [[1, 2.5], [-3, 4]])
    assert data.y.dtype == np.int64
    assert data.y.tolist() == [7, 8]
    assert data.feature_names == ("a", "b")
    data = load(source=csv_file(tmp_path, content), test_fraction=0.0, label="b")
    np.testing.assert_array_equal(data.X, [[1, 7], [-3, 8]])
    assert data.y.tolist() == [2.5, 4.0]
    data = load(source=csv_file(tmp_path, "a,y\n1,ja\n2,nein\n"), test_fraction=0.0)
    assert data.y.tolist() == ["ja", "nein"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("\n1,2\n", "line 2 may name the columns or be an example (1, 2, ...)"),
        ("1,2\n3,4\n", "line 1 may name the columns or be an example (1, 2, ...): set data.header = true or"),
        ("a,b\n", "no rows"),
        ("a\n1\n", "one column only"),
        ("a,a,b\n1,2,3\n", "column name 'a' appears 2 times"),
        ("a,,b\n1,2,3\n", "a column has no name"),
        ("a,b,y\n1,2,3\n4,x1,6\n", "line 3, column 'b' is 'x1' among numbers: must be a number; data.one_hot = ['b']"),
        ("a,b,y\n1,2,3\n\n4,,6\n", "line 4, column 'b' is nan or missing (1 in all, of 1 feature)"),
        ("a,b,y\n1,2,3\n4,5\n", "line 3: 2 fields between ',': must be 3, as in line 1"),
        ("a,b,y\n1,2,3,4\n", "line 2: 4 fields between ',': must be 3"),
        ("a,b,y\n1,2,3\n\n4,nan,6\n", "line 4, column 'b' is nan or missing"),
        ("a,b,y\n1,-inf,3\n", "line 2, column 'b' is -inf: must be finite"),
        ("a,b,y\n1,1e16,3\n", "line 2, column 'b' is 1e+16: rescale"),
        ("a,y\n1,2\n1,nan\n", "line 3, column 'y' is nan or missing (1 in all): must be a label"),
        ("a,y\n1,2\n1,\n", "line 3, column 'y' is nan or missing"),
        ("a,y\n1," + "k" * 300 + "\n", "longer than 256 characters"),
        ('a,y\n1,0\n2,"1\n3,0\n', "line 4: unexpected end of data"),
        ('a,y\n1,0\n"2"x,1\n', "line 3: ',' expected"),
        ("a,y\n1,0\n1_0,1\n", "line 3, column 'a' is '1_0' among numbers"),
        (b"a,y\n1,\xff\n", "not UTF-8"),
        (b"\x89HDF\r\n\x1a\n\0\0", "not UTF-8"),
        ("a:b\n1:2\n", "one column only, 'a:b'"),
    ],
)
def test_bad_tables_name_the_line_and_the_column(tmp_path, content, words):
    """Lines count as in the file, the header being line 1."""
    message = failure(source=csv_file(tmp_path, content))
    assert words in message
    assert message.startswith(str(tmp_path))


@pytest.mark.parametrize("limit", [131072, 2**31 - 1])
@pytest.mark.parametrize("content", ["a,y\n1," + "k" * 200_000 + "\n", 'a,y\n1,"2\n3,4\n' + "5,6\n" * 50_000])
def test_a_field_without_end_is_refused(tmp_path, content, limit):
    """Whatever limit another library left in the module csv: scikit-learn lifts it."""
    before = csv.field_size_limit(limit)
    try:
        message = failure(source=csv_file(tmp_path, content))
    finally:
        csv.field_size_limit(before)
    assert any(words in message for words in ("larger than field limit", "longer than 256", "unexpected end of data"))


def test_an_unknown_label_column_suggests_the_nearest(tmp_path):
    """`--set data.label=clas`."""
    assert "did you mean class" in failure(source=csv_file(tmp_path, "a,class,b\n1,2,3\n"), label="clas")


def test_checked_arrays_are_copied_to_one_form():
    """Python's own lists, Fortran order and small integers become C-contiguous float64."""
    data = checked_dataset(np.asfortranarray(np.arange(6, dtype=np.int8).reshape(2, 3)), [True, False])
    assert data.X.flags.c_contiguous
    assert data.X.dtype == np.float64
    assert data.y.tolist() == [1, 0]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))])
def test_a_dataset_can_be_copied_and_pickled(again):
    """The same bytes, before and after its digest is known; test set and names come along."""
    dataset = load(source="sklearn:digits", test_fraction=0.1, bias=True)
    for _ in range(2):
        second = again(dataset)
        assert second.sha256 == dataset.sha256
        assert (second.name, second.feature_names) == (dataset.name, dataset.feature_names)
