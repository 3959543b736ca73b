"""A damaged file, or one that means harm, is refused in one line or read as it was written: it can do nothing."""

import contextlib
import json
import os

import h5py
import numpy as np
import pytest
from helpers import content, same
from hypothesis import given, settings
from hypothesis import strategies as st

from meanfield.errors import RunFileError
from meanfield.storage import hdf5


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.h5"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "good.h5"
    hdf5.write(path, content())
    return path.read_bytes()


DAMAGE = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 10**9), st.integers(0, 7)),
    st.tuples(st.just("set"), st.integers(0, 10**9), st.sampled_from([0, 1, 127, 128, 255])),
    st.tuples(st.just("cut"), st.integers(0, 10**9), st.just(0)),
    st.tuples(st.just("zero"), st.integers(0, 10**9), st.integers(1, 10**9)),
    st.tuples(st.just("copy"), st.integers(0, 10**9), st.integers(0, 10**9)),
)


def spoil(good, damages):
    raw = bytearray(good)
    for kind, at, value in damages:
        at %= len(raw) or 1
        if kind == "cut" or not raw:
            raw = raw[:at]
        elif kind == "flip":
            raw[at] ^= 1 << value
        elif kind == "set":
            raw[at] = value
        elif kind == "zero":
            raw[at : at + value] = bytes(len(raw[at : at + value]))
        else:
            piece = raw[value % len(raw) :][:64][: len(raw) - at]
            raw[at : at + len(piece)] = piece
    return bytes(raw)


def check_harmless(good, damages, folder):
    path = folder / "bad.h5"
    path.write_bytes(spoil(good, damages))
    try:
        found = hdf5.read(path)
    except RunFileError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert same(found, content())


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(damages=st.lists(DAMAGE, min_size=1, max_size=4))
def test_damage_is_reported_or_changes_nothing(good, tmp_path_factory, damages):
    """Whatever happens to the bytes, the content read is the content written, or RunFileError is raised."""
    check_harmless(good, damages, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@settings(max_examples=20000, deadline=None, derandomize=True, database=None)
@given(damages=st.lists(DAMAGE, min_size=1, max_size=4))
def test_much_damage_is_reported_or_changes_nothing(good, tmp_path_factory, damages):
    check_harmless(good, damages, tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("raw", [b"", b"x", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" * 500, bytes(5000)])
def test_other_bytes_are_not_a_file_of_ours(path, raw):
    path.write_bytes(raw)
    with pytest.raises(RunFileError, match=r"written by meanfield, or is damaged|without a table of contents"):
        hdf5.read(path)


def test_every_dataset_and_attribute_is_under_a_checksum(path):
    """A change by somebody else's HDF5 library, good in itself, is reported: of an array by name, else as such."""
    changes = {
        "step does": lambda f: f["step"].write_direct(np.array(4)),
        "data/z does": lambda f: f["data/z"].write_direct(np.zeros((3, 4))),
        "config does": lambda f: f["config"].__setitem__((), "[run]\nsteps = 11  # é\n"),
        "its attributes, format or HDF5 structure do": lambda f: f.attrs.modify("scale", 0.2),
        "structure do": lambda f: f["data"].attrs.create("origin", np.bytes_(b"e")),
    }
    for message, change in changes.items():
        hdf5.write(path, content())
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(RunFileError, match=f"{message} not match"):
            hdf5.read(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.create_dataset("new", data=1.0),
        lambda f: f.create_group("group/more"),
        lambda f: f.attrs.create("new", 1),
        lambda f: f["step"].attrs.create("unit", 1),
        lambda f: f.__delitem__("step"),
        lambda f: f.attrs.__delitem__("scale"),
        lambda f: f.__setitem__("link", h5py.ExternalLink("other.h5", "/x")),
        lambda f: f.create_dataset("bad", (9,), "u1", external=[("/etc/passwd", 0, 9)]),
    ],
)
def test_objects_added_or_taken_away_are_reported(path, change):
    hdf5.write(path, content())
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(RunFileError, match=r"structure do not match their checksum|was changed after it was written"):
        hdf5.read(path)


def test_a_file_is_good_hdf5_and_opening_it_to_write_does_not_change_it(path):
    """What any HDF5 library reads is what was written, nothing more; the table of contents before it is text."""
    hdf5.write(path, content())
    before = path.read_bytes()
    with h5py.File(path, "r+") as file:
        assert file["config"].asstr()[()] == content()["config"]
        assert np.array_equal(file["data/z"], content()["data"]["z"])
        assert (file.attrs["format"], file.attrs["scale"]) == (b"test", 0.1)
        assert list(file) == sorted(content().keys() - {"@attrs"})
        table = json.loads(before[: file.userblock_size].split(b"\n")[2])
        assert table["data/z"][:3] == ["<f8", [3, 4], file["data/z"].id.get_offset()]
        assert table["@scale"] == 0.1
    assert path.read_bytes() == before


def test_no_hdf5_library_is_asked_where_things_are(path, monkeypatch):
    """It could crash on a file that means harm, with all its own checksums right."""
    hdf5.write(path, content())
    monkeypatch.setattr(hdf5, "h5py", None)
    assert same(hdf5.read(path), content())


def parts(path):
    """Head, table and the rest of a file."""
    raw = path.read_bytes()
    head = json.loads(raw.split(b"\n")[1])
    return head, json.loads(raw.split(b"\n")[2]), raw[head["head"] :]


def forge(path, change):
    """Change a file's table of contents, and put right all that then would not fit: as one who means harm can."""
    head, table, rest = parts(path)
    table = change(table)
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    size, digest = head["head"], ""
    if len(text) + 300 > size:  # then no array is where it was, and other reasons to refuse the file come first
        size = len(text) + 300
        assert not isinstance(table, dict)
    path.write_bytes(bytes(size) + rest)
    with contextlib.suppress(Exception), open(path, "rb") as file:  # not a table whose arrays lie in the file
        places = hdf5._places(json.loads(text), size + len(rest))
        digest = hdf5._digest_around(places, size, size + len(rest), file.fileno())
    path.write_bytes(hdf5._head(size, size + len(rest), digest, text) + rest)


def test_what_forge_makes_is_read_where_it_does_no_harm(path):
    hdf5.write(path, content())
    forge(path, lambda table: {**table, "step": table["seed"]} | {"seed": table["step"]})
    assert hdf5.read(path)["step"] == content()["seed"]


PLACE = ["<f8", [3, 4], 5000, "0" * 64]
MALICE = {
    "absurd shape": {"bad": ["<f8", [10**15], 5000, ""]},
    "absurd shape of nothing": {"bad": ["<f8", [0, 10**30], 5000, ""]},
    "many axes": {"bad": ["<f8", [1] * 99, 5000, ""]},
    "absurd element": {"bad": ["|S9999999999", [], 5000, ""]},
    "bytes of another array": {"bad": PLACE, "worse": PLACE},
    "the head": {"bad": ["<f8", [3], 0, ""]},
    "before the file": {"bad": ["<f8", [3], -8, ""]},
    "after the file": {"bad": ["<f8", [3], 10**9, ""]},
    "negative axis": {"bad": ["<f8", [-3], 5000, ""]},
    "fractional axis": {"bad": ["<f8", [3.0], 5000, ""]},
    "true axis": {"bad": ["<f8", [True], 5000, ""]},
    "objects": {"bad": ["|O", [1], 5000, ""]},
    "fields": {"bad": ["<f8,<f8", [1], 5000, ""]},
    "dates": {"bad": ["<M8[s]", [1], 5000, ""]},
    "complex": {"bad": ["<c16", [1], 5000, ""]},
    "no group": {"nowhere/bad": PLACE},
    "an array as group": {"step/bad": PLACE},
    "a group twice": {"step/": None},
    "a list as attribute": {"@bad": [1]},
    "a table as group": {"bad/": {}},
    "too few": {"bad": ["<f8", [3]]},
    "no list": {"bad": 3},
    "control characters": {"bad\nX\x1b[2J": ["|O", [], 5000, ""]},
    "list": [1],
    "number": 3,
    "very many axes": b'{"bad": ["<f4", [' + b"2, " * 10**6 + b'2], 5000, ""]}',
    "deep": b"[" * 10**6,
    "no JSON": b"{",
    "not UTF-8": b'"\xff"',
}


@pytest.mark.parametrize("kind", MALICE)
def test_what_write_never_writes_is_refused(path, kind):
    """In one line, though all digests are right; no memory is taken that the file does not fill."""
    hdf5.write(path, content())
    bad = MALICE[kind]
    forge(path, lambda table: {**table, **bad} if isinstance(bad, dict) else bad)
    with pytest.raises(RunFileError) as caught:
        hdf5.read(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("size", [0, 511, 10**15, -1, 5000, 513.0, "600", None, [1]])
def test_a_head_of_an_absurd_length_is_refused(path, size):
    hdf5.write(path, content())
    head, table, rest = parts(path)
    head["head"] = size
    path.write_bytes(b"meanfield storage 1\n" + json.dumps(head).encode() + b"\n" + json.dumps(table).encode() + rest)
    with pytest.raises(RunFileError) as caught:
        hdf5.read(path)
    assert str(caught.value).isprintable()


def test_a_file_of_a_form_to_come_is_called_so(path):
    hdf5.write(path, content())
    path.write_bytes(path.read_bytes().replace(b"meanfield storage 1\n", b"meanfield storage 2\n"))
    with pytest.raises(RunFileError, match="'meanfield storage 2', which is not known here: a newer version"):
        hdf5.read(path)


def test_a_fifo_a_folder_and_nothing_are_one_line(tmp_path):
    """A pipe without a writer too: opening it would wait for one."""
    os.mkfifo(tmp_path / "fifo")
    for name, reason in {"gone.h5": "no such file", ".": "is not a file", "fifo": "is not a file"}.items():
        with pytest.raises(RunFileError, match=reason):
            hdf5.read(tmp_path / name)
