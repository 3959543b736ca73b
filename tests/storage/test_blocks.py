"""An array poured into a file has the bytes and the digest it would have had, written and hashed by one thread."""

import errno
import hashlib
import os
import threading
import time

import numpy as np
import pytest

from meanfield.storage import blocks as block_files
from meanfield.storage import hashing, hdf5

RNG = np.random.default_rng(0)


def poured(path, blocks, nbytes=None):
    """Digest of what was poured to offset 5 of a new file."""
    state = hashlib.sha256()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        total = sum(block.nbytes for block in blocks) if nbytes is None else nbytes
        block_files.pour(iter(blocks), total, descriptor, 5, state)
    finally:
        os.close(descriptor)
    return state.hexdigest()


@pytest.mark.parametrize("rows", [0, 1, 7, 100_000, 300_000])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_bytes_and_digest_are_those_of_the_array(tmp_path, monkeypatch, rows, count):
    """Below and above the size that is worth threads; flushed several times on the way."""
    monkeypatch.setattr(block_files, "_FLUSHED_BYTES", 1 << 20)
    array = RNG.standard_normal((rows, 3))
    found = poured(tmp_path / "a", np.array_split(array, count))
    assert found == hashlib.sha256(array.tobytes()).hexdigest()
    assert (tmp_path / "a").read_bytes() == (b"\0" * 5 + array.tobytes() if rows else b"")


def test_where_no_thread_can_be_started_it_is_the_same(tmp_path, monkeypatch):
    """As under a limit on processes: at the first thread, the second, the third."""
    array, start = RNG.standard_normal((40, 50_000)), threading.Thread.start

    for allowed in range(3):
        started = []

        def limited(thread, started=started, allowed=allowed):
            started.append(thread)
            if len(started) > allowed:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", limited)
        found = poured(tmp_path / str(allowed), list(array))
        assert len(started) == 3
        assert found == hashlib.sha256(array.tobytes()).hexdigest()
        assert (tmp_path / str(allowed)).read_bytes() == b"\0" * 5 + array.tobytes()


def test_a_write_that_the_kernel_cuts_short_is_continued(tmp_path, monkeypatch):
    """As above 2 GiB, or where a disk is nearly full."""
    array, pwrite = RNG.standard_normal((3, 20)), os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: pwrite(descriptor, data[:77], offset))
    poured(tmp_path / "a", list(array))
    assert (tmp_path / "a").read_bytes() == b"\0" * 5 + array.tobytes()


def test_few_blocks_are_held_however_slow_the_disk(tmp_path, monkeypatch):
    """The memory of a checkpoint does not grow with the ensemble."""
    written, ahead = [], []

    def slow(block, descriptor, offset):
        time.sleep(0.002)
        written.append(offset)

    def blocks():
        for k in range(60):
            ahead.append(k - len(written))
            yield np.full(8, float(k))

    monkeypatch.setattr(block_files, "_write", slow)
    with open(tmp_path / "a", "wb") as file:
        block_files.pour(blocks(), 1 << 30, file.fileno(), 0, hashlib.sha256())
    assert written == [64 * k for k in range(60)]
    assert 1 < max(ahead) <= block_files._AHEAD + 1


@pytest.mark.parametrize("nbytes", [0, 1 << 30])
@pytest.mark.parametrize("failing", ["_write", "_flush", "blocks"])
def test_a_failure_anywhere_is_raised_once_all_threads_are_done(tmp_path, monkeypatch, failing, nbytes):
    """Also that of a flush beside: the kernel reports a lost block once, and the flush at the end would not see it."""
    monkeypatch.setattr(block_files, "_FLUSHED_BYTES", 1 << 10)
    if failing == "_flush" and not nbytes:
        pytest.skip("small arrays are flushed with the file")

    def fail(*_):
        raise OSError(errno.EIO, "broken")

    def blocks():
        for k in range(50):
            yield np.full(100, float(k)) if k < 40 or failing != "blocks" else fail()

    if failing != "blocks":
        monkeypatch.setattr(block_files, failing, fail)
    before = threading.active_count()
    with open(tmp_path / "a", "wb") as file, pytest.raises(OSError, match="broken"):
        block_files.pour(blocks(), nbytes, file.fileno(), 0, hashlib.sha256())
    assert threading.active_count() == before


def test_dtype_and_shape_are_part_of_a_digest():
    array = np.arange(6.0)
    others = [array, array.reshape(2, 3), array.astype(">f8"), array.view(np.int64)]
    assert len({hashing.digest(one.dtype, one.shape, [one]) for one in others}) == 4


def test_a_large_array_is_verified_after_it_was_poured(tmp_path):
    """Several blocks of 8 MiB: read back whole, and a changed bit in the last of them noticed."""
    path, array = tmp_path / "a.h5", RNG.random(3_000_000)
    hdf5.write(path, {"a": array})
    assert np.array_equal(hdf5.read(path)["a"], array)
    with open(path, "r+b") as file:
        file.seek(path.read_bytes().rindex(array[-1].tobytes()))
        file.write(np.nextafter(array[-1], 2).tobytes())
    with pytest.raises(ValueError, match="a does not match its checksum"):
        hdf5.read(path)
