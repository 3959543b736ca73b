"""Laws of the command line: its contract, and one helpful line for whatever is wrong."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from meanfield import load, runfile
from meanfield.cli import _COMMANDS, main

SMALL = [
    part
    for setting in (
        "ensemble.m=256", "data.n=40", "data.d=6", "data.n_test=64", "run.steps=40", "run.record_every=10",
        "objective.reg=0.02",  # constant, since it lies above where the annealing starts
    )
    for part in ("--set", setting)
]  # fmt: skip
RUN_KEYS = ["step", "time", "objective", "risk", "penalty", "margin", "train_error", "test_error", "lower_bound",
            "relative_gap", "seconds", "out"]  # fmt: skip
HEAVY = {"numpy", "scipy", "numba", "h5py", "pydantic", "sklearn", "matplotlib", "tqdm"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test works in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True, scope="session")
def compiled():
    """Compile what the runs here use, so that its announcement is in no captured stderr."""
    with open(os.devnull, "w") as nowhere:
        command = [sys.executable, "-m", "meanfield.cli", "run"]
        subprocess.run([*script(), "doctor"], stdout=nowhere, stderr=nowhere, check=True)
        del command


def script():
    """The command as a process of its own."""
    return [sys.executable, "-c", "from meanfield.cli import main; main()"]


@pytest.fixture
def call(capsys):
    """Run the command in this process: (status, stdout, stderr)."""

    def run(*args):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.fixture
def finished(call):
    """A small finished run in a.h5."""
    assert call("run", *SMALL, "--out", "a.h5", "--quiet")[0] == 0
    return Path("a.h5")
