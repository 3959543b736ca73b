"""A digest is that of dtype, shape and bytes, whether it was taken beside the writing or not."""

import hashlib
import threading

import numpy as np
import pytest

from meanfield import hashing, storage


def plain(array):
    """As `sha256sum` would, after a line that names dtype and shape."""
    return hashlib.sha256(f"{array.dtype.str} {array.shape}\n".encode() + array.tobytes()).hexdigest()


@pytest.mark.parametrize("rows", [3, 100_000, 300_000])
def test_a_digest_is_the_same_in_blocks_and_beside_other_work(rows):
    """Blocks below and above the size from which a thread of its own is worth it."""
    array = np.random.default_rng(0).standard_normal((rows, 3))
    halves = [array[: rows // 2], array[rows // 2 :]]
    assert hashing.digest(array.dtype, array.shape, halves) == plain(array)
    state = hashing.hasher(array.dtype, array.shape)
    for half in halves:
        with hashing.absorbing(state, half):
            sum(range(1000))
    assert state.hexdigest() == plain(array)


def test_dtype_and_shape_are_part_of_it():
    array = np.arange(6.0)
    others = [array.reshape(2, 3), array.astype(">f8"), array.view(np.int64)]
    assert len({plain(array), *(hashing.digest(one.dtype, one.shape, [one]) for one in others)}) == 4


def test_where_no_thread_can_be_started_the_digest_is_the_same(monkeypatch):
    """As under a limit on processes."""
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    array, tried = np.arange(500_000.0), []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: tried.append(thread) or refuse(thread))
    state = hashing.hasher(array.dtype, array.shape)
    with hashing.absorbing(state, array):
        pass
    assert tried
    assert state.hexdigest() == plain(array)


def test_a_large_array_is_verified_after_it_was_hashed_beside_its_writing(tmp_path):
    """Several blocks of 8 MiB: read back whole, and a changed bit in the last of them noticed."""
    path, array = tmp_path / "a.h5", np.random.default_rng(0).random(3_000_000)
    storage.write(path, {"a": array})
    assert np.array_equal(storage.read(path)["a"], array)
    with open(path, "r+b") as file:
        file.seek(path.read_bytes().rindex(array[-1].tobytes()))
        file.write(np.nextafter(array[-1], 2).tobytes())
    with pytest.raises(ValueError, match="a does not match its checksum"):
        storage.read(path)
