"""A run file names the version of its bits, the software and the machine; a resume tells where the bits change."""

import json
import os
import subprocess
import sys

import pytest
import threadpoolctl
from faults import SETTINGS, ensemble, in_process, problem, uninterrupted
from helpers import assert_same

from meanfield import load, simulate
from meanfield.dynamics import Langevin
from meanfield.errors import RunFileError
from meanfield.simulation.loop import resume
from meanfield.storage import hdf5, versions

NAMES = {"python", "meanfield", "numpy", "numba", "llvmlite", "h5py", "bits", *versions.MACHINE}


@pytest.fixture
def path(tmp_path):
    """A run of 6 steps."""
    simulate(problem(), ensemble(), Langevin(), steps=6, out=tmp_path / "run.h5", **SETTINGS)
    return tmp_path / "run.h5"


@pytest.fixture
def afresh():
    """Descriptions are looked up anew in the test, and once more after it."""

    def forget():
        versions._versions.cache_clear()
        versions._machine.cache_clear()

    forget()
    yield
    forget()


def rewritten(path, **attributes):
    """The same file with other attributes; None takes one away."""
    tree = hdf5.read(path)
    tree["@attrs"] = {name: value for name, value in {**tree["@attrs"], **attributes}.items() if value is not None}
    hdf5.write(path, tree, keep_previous=False)


def described_by(code, **environment):
    """`describe` in a new process that first runs `code`."""
    code += "; import json; from meanfield.storage import versions; print(json.dumps(versions.describe()))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_a_run_file_records_what_computed_it(path):
    """The names of the documentation; each value is a number, or a text of one plain line that says something."""
    found = load(path).attributes
    assert found == versions.describe()
    assert set(found) == NAMES
    assert found["bits"] == versions.BITS
    for value in found.values():
        assert isinstance(value, int) or (value and value.isprintable() and value == value.strip())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux")
def test_on_linux_everything_is_known():
    """Nothing is "unknown" where /proc and a BLAS of its own are there."""
    assert "unknown" not in versions.describe().values()
    assert "kernel " in versions.describe()["blas"]


def test_the_description_does_not_depend_on_what_was_imported_before():
    """Else two equal runs in two processes would differ in more than their times."""
    assert described_by("pass") == versions.describe()
    assert described_by("import meanfield.simulation.loop, scipy.linalg, sklearn") == versions.describe()


def test_the_description_is_of_what_is_in_use():
    """A BLAS kernel chosen by hand, and NumPy's extensions taken away, show."""
    here = versions.describe()
    extension = here["numpy_simd"].split()[-1]
    if extension == "none" or not here["blas"].startswith("openblas") or os.uname().machine != "x86_64":
        pytest.skip("needs OpenBLAS on x86-64, and extensions found at run time")
    there = described_by("pass", OPENBLAS_CORETYPE="Prescott", NPY_DISABLE_CPU_FEATURES=extension)
    assert extension in here["numpy_simd"].split()
    assert extension not in there["numpy_simd"].split()
    assert {name for name in here if here[name] != there[name]} == {"blas", "numpy_simd"}


@pytest.mark.usefixtures("afresh")
def test_what_is_not_found_is_unknown(monkeypatch, tmp_path):
    """No BLAS, no /proc, no libc's name, no NumPy that tells, packages without versions: nothing is raised."""

    def fail(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr(threadpoolctl, "threadpool_info", list)
    monkeypatch.setattr(versions, "_CPUINFO", str(tmp_path / "nowhere"))
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    monkeypatch.setattr("platform.processor", fail)
    monkeypatch.setattr("numpy.show_config", fail)
    monkeypatch.setattr("importlib.metadata.version", fail)
    found = versions.describe()
    assert {name for name, value in found.items() if value == "unknown"} == NAMES - {"python", "meanfield", "bits"}


@pytest.mark.usefixtures("afresh")
@pytest.mark.parametrize(
    ("text", "name", "family", "model"),
    [
        (
            "processor : 0\nvendor_id : AuthenticAMD\ncpu family : 25\nmodel : 17\n"
            "model name : AMD EPYC\n\nmodel : 18\n",
            "AMD EPYC",
            "AuthenticAMD 25",
            "17",
        ),
        (
            "processor : 0\nCPU implementer : 0x41\nCPU part : 0xd0c\n\nprocessor : 1\n",
            None,
            "implementer 0x41",
            "part 0xd0c",
        ),
        (
            "processor : 0\nvendor_id : A\x1b[2J\ncpu family : 6\nmodel : \xff\x07\nmodel name : \x1b]0;x\n",
            "\\x1b]0;x",
            "A\\x1b[2J 6",
            "ÿ\\x07",
        ),
    ],
    ids=["x86", "arm", "hostile"],
)
def test_a_processor_is_named_by_the_first_of_proc(monkeypatch, tmp_path, text, name, family, model):
    """On x86 and ARM; what would do something to a terminal is escaped."""
    (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")
    monkeypatch.setattr(versions, "_CPUINFO", str(tmp_path / "cpuinfo"))
    found = versions.describe()
    assert found["processor"] == name or (name is None and found["processor"])
    assert (found["processor_family"], found["processor_model"]) == (family, model)


def test_what_is_given_out_is_the_receivers_own():
    """Changing a description does not change the next one."""
    versions.describe()["bits"] = versions.describe_versions()["bits"] = 99
    assert versions.describe()["bits"] == versions.describe_versions()["bits"] == versions.BITS


def test_info_shows_bits_and_machine(path):
    """In JSON the number, and every attribute; as text the values, in 80 columns."""
    status, out, err = in_process("info", path, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["bits"] == versions.BITS
    assert found["software"] == versions.describe()
    text = in_process("info", path)[1]
    assert f"\nbits: version {versions.BITS}\n" in text
    words = " ".join(text.split())
    assert "machine: " in words
    assert all(str(value) in words for value in versions.describe().values())
    assert max(map(len, text.splitlines())) <= 80


def test_info_of_a_file_of_another_version_says_what_a_resume_does(path):
    """Also of a file from before there were numbers, which is version 1, and whose machine is not known."""
    rewritten(path, bits=None, **dict.fromkeys(versions.MACHINE))
    assert json.loads(in_process("info", path, "--json")[1])["bits"] == 1
    text = in_process("info", path)[1]
    assert f"\nbits: version 1; a resume goes on under version {versions.BITS}\n" in text
    assert text.endswith("\nmachine: unknown\n")


def test_doctor_shows_bits_and_machine():
    """In JSON and as text, in a table of 80 columns; advice that may follow it is as long as it is."""
    found = json.loads(in_process("doctor", "--json")[1])
    assert versions.describe().items() <= found.items()
    text = in_process("doctor")[1].partition("\n\n")[0]
    words = " ".join(text.split())
    assert all(f"{name.replace('_', ' ')} {value}" in words for name, value in versions.describe().items())
    assert max(len(line) for line in text.splitlines() if found["cache_folder"] not in line) <= 80


@pytest.mark.parametrize("bits", [None, 1, versions.BITS + 1])
def test_a_resume_under_another_version_says_so_once_and_goes_on(path, bits):
    """Status 0 and one line that names the step and both numbers; the file then has the new one, and the history."""
    rewritten(path, bits=bits)
    status, _, err = in_process("resume", path, "--until", "9", "--quiet", "--no-gap")
    assert status == 0
    assert err.count("\n") == 1
    assert f"step 6: made under version {bits or 1} of the bits, goes on under version {versions.BITS}: " in err
    assert "digest" in err
    assert load(path).attributes == {**versions.describe(), "bits_history": f"{bits or 1} until step 6"}
    assert in_process("resume", path, "--until", "12", "--quiet", "--no-gap")[::2] == (0, "")
    assert f"bits: version {versions.BITS}, before that {bits or 1} until step 6\n" in in_process("info", path)[1]
    assert_same(load(path), uninterrupted(12))


def test_a_second_change_is_added_to_the_history(path, capsys):
    """From Python as from the command."""
    rewritten(path, bits=versions.BITS + 2, bits_history="1 until step 4")
    resume(path, until=9)
    assert "made under version" in capsys.readouterr().err
    assert load(path).attributes["bits_history"] == f"1 until step 4, {versions.BITS + 2} until step 6"


def test_nothing_is_said_where_the_bits_are_the_same(path, capsys):
    """Of a new run, and of one resumed under its own version; neither has a history."""
    simulate(problem(), ensemble(), steps=2, out=path.with_name("new.h5"), **SETTINGS)
    resume(path, until=9)
    assert capsys.readouterr().err == ""
    assert "bits_history" not in load(path).attributes


def test_a_run_that_does_not_go_on_keeps_its_version(path, capsys):
    """Nothing is said by a resume without steps to do; a file only read and saved again has the bits that it had."""
    rewritten(path, bits=1)
    resume(path, more=0)
    assert capsys.readouterr().err == ""
    load(path).save(path)
    assert load(path).attributes == {**versions.describe(), "bits": 1}


def test_bits_that_are_no_number_are_refused(path):
    """By name, like every part of another kind."""
    rewritten(path, bits="two\x1b[2J")
    with pytest.raises(RunFileError, match="is not a whole run, a str stands in the place of a int"):
        load(path)
