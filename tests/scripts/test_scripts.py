"""Laws of what a new user meets first: the set-up on bare machines, and a README that tells the truth."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from meanfield.simulation.toml import load_config

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "env", "dirname", "cat", "cksum", "mkdir", "date", "rm", "chmod")
# Stands in for python: logs its arguments, makes an environment of itself, and fails at what FAILS names.
PYTHON = """#!/bin/sh
echo "$@" >>"$LOG"
case "$*" in *"${FAILS:-nothing to fail at}"*) exit 1 ;; esac
case "$*" in "-m venv"*) mkdir -p .venv/bin; cat "$0" >.venv/bin/python; cat "$0" >.venv/bin/meanfield
    chmod +x .venv/bin/python .venv/bin/meanfield ;; esac
"""


@pytest.fixture
def machine(tmp_path):
    """A bare machine: the scripts, in a folder with a space, and a stand-in for Python 3."""
    repository, path = tmp_path / "a copy", tmp_path / "bin"
    shutil.copytree(ROOT / "scripts", repository / "scripts")
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, repository)
    path.mkdir()
    for tool in TOOLS:
        (path / tool).symlink_to(shutil.which(tool))
    (path / "python3").write_text(PYTHON)
    (path / "python3").chmod(0o755)
    return repository


def start(repository, script, *args, fails=""):
    """Run a script there: the finished process, and the lines that stand-ins for Python logged."""
    log = repository / "log"
    log.write_text("")
    surroundings = {"PATH": str(repository.parent / "bin"), "LOG": str(log), "HOME": str(repository)}
    if fails:
        surroundings["FAILS"] = fails
    ended = subprocess.run(
        [repository / "scripts" / script, *args],
        env=surroundings,
        cwd=repository.parent,
        capture_output=True,
        text=True,
    )
    return ended, log.read_text().splitlines()


def test_quickstart_sets_up_once_and_runs_every_time(machine):
    """The first call makes an environment and installs, the second only runs; arguments reach the run."""
    ended, log = start(machine, "quickstart", "--quiet")
    assert ended.returncode == 0, ended.stderr
    assert "installing meanfield into .venv" in ended.stderr
    assert [line for line in log if "-m venv" in line or "-m pip install" in line]
    assert re.fullmatch(r"run --ntk --plot --out runs/quickstart-\d{8}-\d{6}\.h5 --quiet", log[-1])
    ended, log = start(machine, "quickstart")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not [line for line in log if "-m venv" in line or "-m pip install" in line]
    assert log[-1].startswith("run --ntk")


def test_a_moved_folder_and_a_changed_setup_install_again(machine):
    """What was installed from another place or for other requirements does not count."""
    start(machine, "quickstart")
    with open(machine / "setup.cfg", "a") as file:
        file.write("\n")
    assert "installing" in start(machine, "quickstart")[0].stderr
    moved = machine.rename(machine.parent / "elsewhere")
    assert "installing" in start(moved, "quickstart")[0].stderr


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        ("version_info", "needs Python 3.11 or newer"),
        ("-m venv", "apt install python3-venv"),
        ("-m pip install", "needs the network"),
    ],
)
def test_what_is_missing_is_named_in_the_last_line(machine, fails, words):
    """No Python, no venv, no network: a line that says what to do, a failing status, and no half-made stamp."""
    ended, _ = start(machine, "quickstart", fails=fails)
    assert ended.returncode != 0
    assert words in ended.stderr.splitlines()[-1]
    assert not (machine / ".venv" / "installed").exists()
    assert start(machine, "quickstart")[0].returncode == 0  # and then it works


def test_the_tests_script_checks_lint_types_and_tests_in_that_order(machine):
    """`scripts/test` ends with pytest; `--slow` widens the selection, other arguments go through."""
    ended, log = start(machine, "test", "--slow", "-k", "a b")
    assert ended.returncode == 0, ended.stderr
    assert [line.split()[1] for line in log[-3:]] == ["ruff", "mypy", "pytest"]
    shared = "-m pytest -n auto --maxprocesses 8 --dist worksteal"
    assert log[-1] == f"{shared} -m slow or not slow -k a b"
    assert start(machine, "test")[1][-1] == shared
    assert "installing" not in start(machine, "quickstart")[0].stderr  # what the tests need holds what a run needs


@pytest.mark.parametrize("tool", ["ruff", "mypy", "pytest"])
def test_the_tests_script_fails_where_a_check_fails(machine, tool):
    """Lint, types and tests each decide."""
    assert start(machine, "test", fails=f"-m {tool}")[0].returncode != 0


def test_scripts_can_be_started():
    """They are executable, and .ci/run is the tests."""
    for name in ("scripts/quickstart", "scripts/test", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK), name
    assert "scripts/test" in (ROOT / ".ci" / "run").read_text()


def test_a_soak_of_a_second_ends_with_a_whole_file(tmp_path):
    """scripts/soak steps, saves, and says what it saw."""
    command = [sys.executable, ROOT / "scripts/soak", "--time", "1s", "--every", "1s", "--m", "64"]
    ended = subprocess.run([*command, "--out", tmp_path / "soak.h5"], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "is whole, at step" in ended.stdout


def shown(language, page="README.md"):
    """A page's blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_configurations_that_the_docs_show_are_ones(tmp_path):
    """README's first run, and the examples beside the keys."""
    (first,) = shown("toml")
    (tmp_path / "first.toml").write_text(first, encoding="utf-8")
    assert load_config(tmp_path / "first.toml").data.n == 320
    (example,) = shown("toml", "docs/reference/configuration.md")
    (tmp_path / "example.toml").write_text(example, encoding="utf-8")
    assert load_config(tmp_path / "example.toml").data.source == "multi_index"


def test_the_readme_s_python_runs(tmp_path, monkeypatch):
    """The block of Python works as it stands (with fewer steps)."""
    monkeypatch.chdir(tmp_path)
    (block,) = shown("python")
    names = {}
    exec(block.replace('out="own.h5"', 'out="own.h5", steps=40').replace("more=60", "more=20"), names)
    assert names["load"]("own.h5").ensemble.step == 60
