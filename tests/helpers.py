"""What several test modules share: trees and runs compared bit for bit, and what this machine may do."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

import numpy as np


def slow_cell(x, marks):
    """A study's cell that leaves its process's number; cells from 3 on hang."""
    (Path(marks) / f"pid-{os.getpid()}").touch()
    time.sleep(0.01 if x < 3 else 600)
    return {"y": x}


def content(step=3):
    """A tree with every type that a file may hold."""
    return {
        "@attrs": {"format": "test", "version": 1, "scale": 0.1},
        "config": "[run]\nsteps = 10  # é\n",
        "empty text": "",
        "step": step,
        "seed": 2**63 + 1,
        "raw": b"a\0\0",
        "data": {"@attrs": {"origin": "é"}, "z": np.arange(12.0).reshape(3, 4), "a": np.array([True, False])},
        "labels": np.array(["cat", "ñandú"]),
        "big endian": np.arange(6, dtype=">i4").reshape(2, 3).T,
        "none": np.zeros((0, 3), np.float32),
        "group": {"inner": {}, "contents": 2},
    }


def same(a, b):
    """Whether two trees hold the same values of the same types, bit for bit."""
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()
    return type(a) is type(b) and a == b


def assert_same(a, b):
    """Two results or runs: the whole state and the whole trace, bit for bit."""
    x, y = a.ensemble, b.ensemble
    assert np.array_equal(x.theta, y.theta)
    assert (x.m, x.outputs, x.seed, x.step, x.time, x.memory) == (y.m, y.outputs, y.seed, y.step, y.time, y.memory)
    traces = [getattr(one, "run", one).trace for one in (a, b)]  # a result's own has the last state as a row
    assert list(traces[0]) == list(traces[1])
    for name in traces[0]:
        assert np.array_equal(traces[0][name], traces[1][name], equal_nan=True), name


def may_mount():
    """Whether this process may mount in a namespace of its own."""
    with contextlib.suppress(OSError):
        script = "mount -t tmpfs none /mnt"
        return subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True).returncode == 0
    return False
