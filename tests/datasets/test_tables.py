"""Tables as people pass them on: what they become, with how many settings, and what is refused instead of guessed."""

import bz2
import gzip
import lzma
import tomllib
from pathlib import Path

import numpy as np
import pytest

from meanfield.datasets.load import load_dataset
from meanfield.errors import InputError
from meanfield.simulation.config import Data

SETS = tomllib.loads((Path(__file__).parent / "sets.toml").read_text(encoding="utf-8"))


def read(tmp_path, text, name="table.csv", **settings):
    """The dataset in a file with this text, not split."""
    path = tmp_path / name
    path.write_bytes(text.encode())
    return load_dataset(Data(source=str(path), test_fraction=0.0, **settings))


def refusal(tmp_path, text, name="table.csv", **settings):
    """The message, one line that begins with the file."""
    with pytest.raises(InputError) as caught:
        read(tmp_path, text, name, **settings)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(str(tmp_path / name))
    return message.removeprefix(f"{tmp_path / name}: ")


@pytest.mark.parametrize("known", SETS)
def test_a_known_set_is_read_right(tmp_path, known):
    """Every example, every feature, every label, and none made up."""
    one = SETS[known]
    data = read(tmp_path, one["text"], one["file"], **one.get("settings", {}))
    n, d, labels = one["becomes"]
    assert data.X.shape == (n, d)
    assert data.y.tolist() == labels
    assert np.isfinite(data.X).all()


def test_nearly_all_need_two_settings_at_most():
    """Nine in ten of them."""
    counts = [len(one.get("settings", ())) for one in SETS.values()]
    assert len(counts) > 80
    assert sum(count <= 2 for count in counts) >= 0.9 * len(counts)


# The header


@pytest.mark.parametrize(
    ("text", "names", "n"),
    [
        ("5.1,3.5,a\n4.9,3.0,a\n", ("0", "1"), 2),
        ("a,a,x\na,b,x\n", ("0", "1"), 2),
        ("0,1,y\n5,3,1\n4,3,0\n", ("0", "1"), 2),
        ("0,1,2,y\n5,3,1,a\n4,3,1,b\n", ("0", "1", "2"), 2),
        ("0,1,2\n5,3,a\n4,3,b\n", ("0", "1"), 2),
        ("0,1,y\n5,3,a\n4,3,a\n", ("0", "1"), 2),
        ("0,1,2,a\n5,3,1,a\n4,3,1,b\n", ("0", "1", "2"), 3),
        ("who1,7,1\nwho2,8,0\nwho3,9,0\n", ("0", "1"), 3),
        ("a,b,2020,y\n1,2,3,no\n4,5,6,yes\n", ("a", "b", "2020"), 2),
        ("17;3 a\n18;4 a\n", ("0",), 2),
        ("y,0,1,2\na,3,5,1\nb,3,4,0\n", ("y", "0", "1"), 2),
        ("u,v,w\na,a,x\na,b,x\n", ("u", "v"), 2),
        ("a,b,y\n?,2,1\n3,NA,0\n", ("a", "b"), 2),
        ("5,2,1\n?,3,0\n", ("0", "1"), 2),
        ("5,2\n", ("0",), 1),
    ],
)
def test_a_header_is_known_by_what_stands_below(tmp_path, text, names, n):
    """Texts over numbers or texts of which none comes again; pandas' 0, 1, 2, ...; otherwise an example."""
    data = read(tmp_path, text, missing="mean", one_hot=True)
    assert len(data.y) == n
    assert tuple(dict.fromkeys(name.split("=")[0] for name in data.feature_names)) == names


@pytest.mark.parametrize(
    "text",
    [
        "0,1,2\n5,3,1\n4,3,0\n",  # pandas' names, or whole numbers that happen to count
        "country,1999,2000\n1,5,7\n2,6,8\n",  # years, or numbers under a name
        "5,none,2\n1,4,7\n2,6,8\n",  # numbers and a text over numbers
        "a,b,c\na,x,1a\ny,z,2b\n",  # one text of three comes again
        "1,2,y\n5,3,a\n4,3,b\n",  # numbers that count, but not as pandas does
        "0,1,y\n5,3,a\n4,3,b\n",  # too few to be no chance
        "0,who1\n5,who2\n4,who2\n",
        "400,402,kind\n0.5,0.6,a\n0.7,0.6,a\n",  # wavelengths, and a text that is new above texts that are not
    ],
)
def test_a_first_line_that_may_be_either_is_refused(tmp_path, text):
    """The setting that decides is named, and decides."""
    assert "line 1 may name the columns or be an example" in refusal(tmp_path, text)
    assert "set data.header = true or false" in refusal(tmp_path, text)
    for header, n in ((True, 2), (False, 3)):
        data = read(tmp_path, text, header=header, one_hot=[0, 1])
        assert len(data.y) == n


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "rownames"])
def test_a_first_column_may_name_the_rows(tmp_path, name):
    """By whole numbers or texts, each once; what else has no name must get one."""
    for first in ("1947", "Adelie 1"):
        data = read(tmp_path, f"{name},a,y\n{first},2,0\n7,3,1\n")
        assert (data.feature_names, data.X.tolist()) == (("a",), [[2.0], [3.0]])
    for first in ("0.5", "7", ""):
        assert "must have one" in refusal(tmp_path, f"{name},a,y\n{first},2,0\n7,3,1\n")


def test_no_example_is_lost_or_made_up(tmp_path):
    """Random tables, written with a header and without, of numbers with a text label, come back whole."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        n, d = rng.integers(8, 20), rng.integers(1, 5)
        X, y = rng.standard_normal((n, d)).round(3), rng.choice(["yes", "no"], n)
        rows = "".join(",".join([*map(str, x), label]) + "\n" for x, label in zip(X.tolist(), y, strict=True))
        for header in ("", ",".join(f"f{j}" for j in range(d)) + ",y\n"):
            data = read(tmp_path, header + rows)
            np.testing.assert_array_equal(data.X, X)
            np.testing.assert_array_equal(data.y, y)


# What stands between the fields


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
def test_a_delimiter_is_found_or_named(tmp_path, delimiter):
    """The same table between any of them; fields may be quoted, and hold the others."""
    text = 'a,b,"the label"\n1,2.5,"x; y | z"\n3,4,"x; y | z"\n'.replace(",", delimiter)
    for settings in ({}, {"delimiter": delimiter}):
        data = read(tmp_path, text, **settings)
        assert data.X.tolist() == [[1.0, 2.5], [3.0, 4.0]]
        assert data.y.tolist() == ["x; y | z"] * 2


def test_a_line_of_another_width_names_the_delimiter(tmp_path):
    """And the line that gave the number."""
    message = refusal(tmp_path, "a;b;y\n1;2;0\n1;2\n")
    assert message == "line 3: 2 fields between ';': must be 3, as in line 1"


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", 3])
def test_a_delimiter_is_one_character(delimiter):
    """Which a field can do without."""
    with pytest.raises(ValueError, match="must be one character"):
        Data(source="a.csv", delimiter=delimiter)


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_texts_may_be_packed(tmp_path, ending, pack):
    """And a damaged one is refused."""
    packed, path = pack(b"a,y\n1,no\n2,yes\n"), tmp_path / f"a.csv{ending}"
    path.write_bytes(packed)
    assert load_dataset(Data(source=str(path), test_fraction=0.0)).y.tolist() == ["no", "yes"]
    for damaged in (packed[:-6], b"a,y\n1,2\n", packed[:15] + b"\0\1\2\3" + packed[19:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read"):
            load_dataset(Data(source=str(path)))


# Columns


def test_columns_are_meant_by_name_or_place(tmp_path):
    """From 0 on, from -1 backwards, or by name, which a number can be."""
    text = "a,b,2020,y\n1,2,3,no\n4,5,6,yes\n"
    for label in ("b", 1, -3):
        assert read(tmp_path, text, label=label, drop="y").y.tolist() == [2, 5]
    for drop in (["y", "a"], [-1, 0], "y"):
        data = read(tmp_path, text, drop=drop)
        assert data.y.tolist() == [3, 6]
        assert data.feature_names == tuple("ab" if drop == "y" else "b")
    assert read(tmp_path, text, label=2020, drop="y").y.tolist() == [3, 6]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"label": "name"}, "data.label = 'name': no such column; there are a, b, y"),
        ({"label": "Y"}, "data.label = 'Y': no such column; did you mean y?"),
        ({"label": 3}, "data.label = 3: no such column"),
        ({"drop": ["bb", "c"]}, "data.drop = 'bb': no such column"),
        ({"one_hot": [-4]}, "data.one_hot = -4: no such column"),
        ({"label": "y", "drop": ["y"]}, "data.drop leaves no features, or no label"),
        ({"drop": ["a", "b"]}, "data.drop leaves no features, or no label"),
    ],
)
def test_a_column_that_is_not_there_is_named(tmp_path, settings, words):
    """With the columns that are, or the nearest."""
    assert words in refusal(tmp_path, "a,b,y\n1,2,0\n3,4,1\n", **settings)


def test_texts_become_features_on_request(tmp_path):
    """One for each text, named by it, in order; numbers among them count as texts where the column is named."""
    text = "size,door,y\nbig,2,0\nsmall,4,1\nbig,5more,0\n"
    message = refusal(tmp_path, text)
    assert message.startswith("line 2, column 'size' is 'big': must be a number; data.one_hot = ['size']")
    message = refusal(tmp_path, text, one_hot=True)
    assert message.startswith("line 4, column 'door' is '5more' among numbers: must be a number")
    data = read(tmp_path, text, one_hot=["size", "door"])
    assert data.feature_names == ("size=big", "size=small", "door=2", "door=4", "door=5more")
    assert data.X.tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 1]]
    assert read(tmp_path, "a,y\n-0,1\n0.0,0\n2,1\n", one_hot="a").X.tolist() == [[1, 0], [1, 0], [0, 1]]
    assert "line 2, column 'a' is nan or missing" in refusal(tmp_path, "a,b,y\n,1,1\n,2,0\n", one_hot=[0])


@pytest.mark.parametrize("text", ["a;y\n1,5;0\n2,5;1\n", "a;y\n1;0,5\n2;1,5\n", "a;y\n1;0,5\n2;1\n"])
def test_a_comma_in_a_number_is_refused(tmp_path, text):
    """It may stand for the point or for thousands; it makes neither a feature nor a class of the number."""
    for one_hot in (False, True):
        assert "must be a number with a decimal point" in refusal(tmp_path, text, one_hot=one_hot)


def test_a_column_of_names_makes_no_features(tmp_path):
    """More than 256 texts are no kinds of a thing."""
    text = "who,y\n" + "".join(f"name{k},{k % 2}\n" for k in range(257))
    assert "column 'who' holds 257 different values: must be at most 256" in refusal(tmp_path, text, one_hot=True)


# What is missing

GAPS = "a,b,c,y\n1,2,u,0\n?,4,v,1\n5,NA,,1\n9,6,u,0\n"


def test_a_missing_value_is_refused_with_place_and_count(tmp_path):
    """The first of them, and what can be done."""
    message = refusal(tmp_path, GAPS, one_hot=True)
    assert message.startswith("line 3, column 'a' is nan or missing (4 in all, of 4 features)")
    assert 'data.missing = "drop"' in message


def test_missing_values_can_be_dropped_or_filled(tmp_path):
    """The examples go, or the mean of the training set comes: of a feature made of a text, the text's share."""
    data = read(tmp_path, GAPS, one_hot=True, missing="drop")
    assert data.feature_names == ("a", "b", "c=u")
    assert data.X.tolist() == [[1, 2, 1], [9, 6, 1]]
    data = read(tmp_path, GAPS, one_hot=True, missing="mean")
    assert data.X.tolist() == [[1, 2, 1, 0], [5, 4, 0, 1], [5, 4, 2 / 3, 1 / 3], [9, 6, 1, 0]]
    assert data.y.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_the_mean_is_that_of_the_training_set(tmp_path, ending):
    """A test set is filled with what the training set knows."""
    X, y = np.arange(24.0).reshape(12, 2), np.array([0, 1] * 6)
    X[3, 0] = X[7, 1] = X[8, 0] = np.nan
    path = tmp_path / f"a.{ending}"
    if ending == "npz":
        np.savez(path, X=X, y=y)
    else:
        np.savetxt(path, np.column_stack([X, y]), delimiter=",", header="a,b,y", comments="", fmt="%g")
    data = load_dataset(Data(source=str(path), missing="mean", test_fraction=0.5))
    there = [row for row in X.tolist() if row in data.X.tolist()]
    mean = np.nanmean(
        [row for row in X if any(np.array_equal(row[~np.isnan(row)], kept[~np.isnan(row)]) for kept in data.X)], axis=0
    )
    assert len(there) >= 3
    for name in ("X", "X_test"):
        for row in getattr(data, name):
            (own,) = [one for one in X if (np.isnan(one) | (one == row)).all()]
            np.testing.assert_allclose(row, np.where(np.isnan(own), mean, own), rtol=1e-15)


@pytest.mark.parametrize("marker", ["", "?", "NA", "nan", "NaN", "N/A", "null", "NULL", "None", "<NA>"])
def test_a_missing_label_is_no_class(tmp_path, marker):
    """Under no policy but that which leaves the example out."""
    text = f"a,y\n1,no\n2,{marker}\n3,yes\n4,{marker}\n"
    for missing in ("refuse", "mean"):
        message = refusal(tmp_path, text, missing=missing)
        assert message.startswith("line 3, column 'y' is nan or missing (2 in all): must be a label")
    data = read(tmp_path, text, missing="drop")
    assert data.y.tolist() == ["no", "yes"]
    assert data.X.tolist() == [[1.0], [3.0]]


def test_a_text_among_measurements_is_no_label(tmp_path):
    """It would make a class of every number; among whole numbers it may be one."""
    message = refusal(tmp_path, "a,y\n1,0.5\n2,n.d.\n3,1.5\n")
    assert message == "line 3, column 'y' is 'n.d.' among numbers: must be a number"
    assert read(tmp_path, "a,y\n1,1\n2,3+\n3,2\n").y.tolist() == ["1", "3+", "2"]


@pytest.mark.parametrize(
    ("text", "missing", "words"),
    [
        ("a,b,y\n1,?,0\n?,2,1\n", "drop", "every example lacks a value"),
        ("a,b,y\n1,?,0\n3,?,1\n", "mean", "feature 'b' has no value in the training set"),
        ("a,b,y\n1,?,0\n3,inf,1\n", "mean", "line 3, column 'b' is inf: must be finite"),
    ],
)
def test_a_policy_that_leaves_nothing_is_refused(tmp_path, text, missing, words):
    """Not answered by an empty table or by NaN."""
    assert words in refusal(tmp_path, text, missing=missing)


# The split


def test_a_split_keeps_the_shares_of_classes(tmp_path):
    """Every class gives its share to the test set, within one example, and the numbers add up."""
    rng = np.random.default_rng(4)
    for kind in (str, int):
        y = np.array([kind(k) for k in rng.permutation(np.repeat([0, 1, 2], [80, 13, 4]))])
        np.savez(tmp_path / "a.npz", X=np.arange(97.0)[:, None], y=y)
        for fraction, seed in ((0.25, 0), (0.5, 1), (0.1, 2)):
            data = load_dataset(Data(source=str(tmp_path / "a.npz"), test_fraction=fraction, seed=seed))
            assert len(data.y_test) == round(fraction * 97)
            for kind_of_y in np.unique(y):
                share = fraction * np.sum(y == kind_of_y)
                assert abs(np.sum(data.y_test == kind_of_y) - share) <= 1
            assert sorted([*data.X[:, 0], *data.X_test[:, 0]]) == list(range(97))


def test_a_class_of_one_stays_in_the_training_set(tmp_path):
    """Where it can be learned; a split that cannot leave it there says so."""
    text = "a,y\n" + "".join(f"{k},{'rare' if k == 5 else 'often'}\n" for k in range(12))
    path = tmp_path / "a.csv"
    path.write_text(text)
    for seed in range(10):
        assert "rare" in load_dataset(Data(source=str(path), test_fraction=0.25, seed=seed)).y
    with pytest.raises(InputError, match=r"data.test_fraction = 0\.9 leaves no example of 'rare' to train on"):
        load_dataset(Data(source=str(path), test_fraction=0.9))


def test_a_damaged_table_is_read_or_refused(tmp_path):
    """Whatever sign of a known set is changed: finite arrays or one line of InputError, and nothing else."""
    rng, signs, refusals = np.random.default_rng(5), list("19.,;\t\n|\"'?# \0aé{}@:-"), []
    for known, one in SETS.items():
        for _ in range(6):
            text = list(one["text"])
            text[rng.integers(len(text))] = rng.choice(signs)
            try:
                data = read(tmp_path, "".join(text), one["file"], **one.get("settings", {}))
            except InputError as error:
                refusals.append(str(error))
            else:
                assert np.isfinite(data.X).all(), known
                assert len(data.X) == len(data.y) <= len("".join(text).splitlines()), known
    assert len(SETS) < len(refusals) < 5 * len(SETS)
    assert all(len(refusal.splitlines()) == 1 for refusal in refusals)
