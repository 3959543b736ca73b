"""A run is the same bits everywhere: short runs against committed digests, here and where all that may differ does.

On another processor: `scripts/bits-aarch64`. The names of the parts that differ are those of `bits.digest`.
"""

import configparser
import functools
import json
import os
import platform
import shutil
import subprocess
import sys

import bits
import numpy as np
import pytest

from meanfield.dynamics import DYNAMICS
from meanfield.schedules import SHAPES, Schedule
from meanfield.storage.versions import BITS

QUICK = ["xor_exchange"]  # compiled for another target in some 12 s; all of them take 30 s, and 5 s to run
HASWELL = (
    "64bit aes avx avx2 bmi bmi2 cmov crc32 cx16 cx8 f16c fma fsgsbase fxsr invpcid lzcnt mmx movbe pclmul popcnt "
    "rdrnd sahf sse sse2 sse3 sse4.1 sse4.2 ssse3 xsave xsaveopt"
)
IMPORT_ALL = """
import importlib, pkgutil, meanfield
for found in pkgutil.walk_packages(meanfield.__path__, "meanfield."):
    importlib.import_module(found.name)
"""


followed = functools.cache(bits.followed)


def program(*arguments, python=sys.executable, **variables):
    """What `python tests/bits.py ARGUMENTS` prints, under these variables beside those of this process."""
    command = [python, bits.__file__, *arguments]
    ended = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def assert_committed(found):
    """These digests (name -> parts) are the committed ones."""
    expected = bits.committed()["cases"]
    wrong = {name: bits.differences(parts, expected[name]) for name, parts in found.items()}
    lines = [f"{name}: {', '.join(parts)}" for name, parts in wrong.items() if parts]
    assert not lines, "\n".join(["not the committed bits:", *lines])


# ---------------------------------------------------------------------------------------------------------------------
# the runs, in this process


@pytest.mark.parametrize("name", bits.NAMES)
def test_this_process_computes_the_committed_bits(name):
    """Of a run, and of what a run computes a few times only, here thousands of times."""
    assert_committed({name: bits.digest(followed(name)) if name in bits.CASES else bits.digest_of(name)})


@pytest.mark.parametrize("name", bits.CASES)
def test_where_a_bound_is_recorded_it_is_a_number(name):
    """Or the digests would have nothing to hold."""
    run = followed(name)
    if run.config.record.gap:
        assert np.isfinite([run.trace["lower_bound"][-1], run.trace["relative_gap"][-1]]).all()


def test_the_digests_are_of_these_runs_and_of_this_version():
    """Change bits, raise `versions.BITS`, and then `python tests/bits.py --write`."""
    assert bits.committed()["bits"] == BITS
    assert list(bits.committed()["cases"]) == bits.NAMES


def test_the_runs_meet_every_kind_of_arithmetic():
    runs = [bits.prepared(name) for name in bits.CASES]
    configs = [run.config for run in runs]
    assert {c.objective.loss for c in configs if c.record.gap} == {"logistic", "squared", "cross_entropy"}
    assert {c.dynamics.method for c in configs} == set(DYNAMICS)
    assert {c.ensemble.dtype for c in configs} == {"float32", "float64"}
    assert {c.ensemble.init for c in configs} >= {"sphere", "gaussian"}
    assert {run.problem.outputs for run in runs if run.config.record.gap} >= {1, 2, 3}
    assert {c.data.source for c in configs} >= {"xor", "teacher", "parity", "line", "arrays", "sklearn:digits"}
    assert {c.data.task for c in configs if c.data.source == "teacher"} == {"classification", "regression"}
    for setting in (
        lambda c: c.dynamics.step_size == "auto",
        lambda c: c.dynamics.batch is None,
        lambda c: c.data.standardize,
        lambda c: c.data.bias,
    ):
        assert {setting(c) for c in configs} == {True, False}
    settings = [s for c in configs for s in (c.objective.reg, c.objective.temperature, c.dynamics.step_size)]
    assert {Schedule.of(s).shape for s in settings if s != "auto"} == set(SHAPES)


# ---------------------------------------------------------------------------------------------------------------------
# old libraries on this processor


@pytest.fixture(scope="module")
def hostile():
    """OpenBLAS's oldest kernel, NumPy without SIMD beyond its baseline, libm without FMA and AVX2."""
    return bits.hostile()


def test_old_blas_numpy_without_simd_and_libm_without_fma_change_no_bit(hostile):
    assert_committed(program(**hostile))


@pytest.mark.parametrize("library", ["numpy", "blas", "libm"])
def test_in_that_environment_the_libraries_do_compute_other_bits(hostile, library):
    """The control of the test before: exp, matrix products and so on differ there, or it would show nothing."""
    here, there = bits.controls()[library], program("--controls", **hostile)[library]
    if here["by"] == there["by"]:
        pytest.skip(f"{library} computes by {here['by'] or 'its baseline'!r} in this process already")
    if library == "libm" and platform.libc_ver()[0] != "glibc":
        pytest.skip("no variable takes FMA from this libm")
    if library == "libm" and "hwcaps" in os.environ.get("GLIBC_TUNABLES", ""):
        pytest.skip("this process's libm is held back already")
    assert [name for name in here if name != "by" and here[name] != there[name]]


# ---------------------------------------------------------------------------------------------------------------------
# other machine code


def haswell():
    """Variables with which numba compiles for Haswell's 256-bit vectors, on whatever x86-64."""
    from llvmlite import binding

    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("needs x86-64")
    found = binding.get_host_cpu_features()
    features = ",".join(f"{'+' if on and name in HASWELL.split() else '-'}{name}" for name, on in found.items())
    return {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": features}


@pytest.mark.slow
@pytest.mark.parametrize("names", [QUICK, [*bits.CASES]], ids=["one", "all"])
def test_256_bit_vectors_and_another_target_change_no_bit(names):
    assert_committed(program("--cases", ",".join(names), **haswell()))


# ---------------------------------------------------------------------------------------------------------------------
# the oldest supported versions


def oldest_versions():
    """Name -> the lower bound that setup.cfg declares."""
    setup = configparser.ConfigParser()
    setup.read(bits.ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].strip().splitlines()
    bounds = [line.partition(",")[0].partition(">=") for line in lines]
    return {name.strip(): version.strip() for name, _, version in bounds}


@pytest.mark.slow
def test_the_oldest_supported_versions_compute_the_same_bits(tmp_path):
    """An environment of its own, made by name; all modules can be imported there, and the runs are the same."""
    base = shutil.which("python3.11")
    if base is None:
        pytest.skip("needs python3.11, the oldest supported, for which the oldest versions have wheels")
    subprocess.run([base, "-m", "venv", tmp_path / "oldest"], check=True)
    python = str(tmp_path / "oldest" / "bin" / "python")
    wanted = [f"{name}=={version}" for name, version in oldest_versions().items()]
    install = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--only-binary=:all:", *wanted]
    made = subprocess.run(install, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    own = {"PYTHONPATH": str(bits.ROOT), "PYTHONNOUSERSITE": "1"}
    tried = subprocess.run([python, "-c", IMPORT_ALL], env={**os.environ, **own}, capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr
    assert_committed(program(python=python, **own))
