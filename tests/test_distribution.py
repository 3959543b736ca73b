"""Laws of what others install: the sdist builds, its wheel holds the package alone, and it runs from anywhere."""

import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

import meanfield
from meanfield.cli.run import _program

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "meanfield", "kernels")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that is built of the sdist that is built of a copy of the sources."""
    folder = tmp_path_factory.mktemp("built")
    copy = folder / "source"
    copy.mkdir()
    for name in SOURCE:
        subprocess.run(["cp", "-a", str(ROOT / name), str(copy)], check=True)
    command = [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", "--outdir", str(folder)]
    done = subprocess.run([*command, str(copy)], capture_output=True, text=True)
    if done.returncode and "No module named build" in done.stderr:
        pytest.skip("needs the build package")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = folder.glob("*.whl")
    assert len(list(folder.glob("meanfield_networks-*.tar.gz"))) == 1
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder that pip installs the wheel to, without what it needs, which the environment of the tests has."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*command, str(wheel)], check=True)
    return folder


def test_the_wheel_holds_the_kernels_under_our_name_alone(wheel):
    """No top-level `kernels` (another publisher's name); meanfield/kernels/*.py are files in it, as is every module."""
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert {name.split("/")[0] for name in held if ".dist-info/" not in name} == {"meanfield"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "meanfield").rglob("*.py")}
    modules |= {f"meanfield/{path.relative_to(ROOT)}" for path in (ROOT / "kernels").rglob("*.py")}
    assert len(modules) > 100
    assert modules <= held
    assert {"meanfield/py.typed", "meanfield/simulation/configuration-keys.toml"} <= held


def test_what_is_installed_runs_as_a_module_and_says_its_version(installed, tmp_path):
    """From another folder, and importing none of the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    for code, said in (
        (["-m", "meanfield", "--version"], f"meanfield, version {meanfield.__version__}"),
        (["-c", "import meanfield.kernels as k; print(k.__file__)"], str(installed / "meanfield/kernels/__init__.py")),
    ):
        command = [sys.executable, *code]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == said, done.stderr


def test_a_run_that_a_module_made_is_gone_on_with_by_the_module(monkeypatch):
    """The plain name may not be on the path."""
    monkeypatch.setattr(sys, "argv", [str(ROOT / "meanfield/__main__.py"), "run"])
    assert _program() == "python -m meanfield"


def test_the_metadata_name_licence_and_pythons(installed):
    """The distribution is not called meanfield, carries its licence, and names every Python that it runs on."""
    (folder,) = installed.glob("*.dist-info")
    metadata = PathDistribution(folder).metadata
    assert (metadata["Name"], metadata["Version"]) == ("meanfield-networks", meanfield.__version__)
    assert "BSD-3-Clause" in (metadata["License"], metadata["License-Expression"])
    assert any(path.read_bytes() == (ROOT / "LICENSE").read_bytes() for path in folder.rglob("LICENSE"))
    classifiers = metadata.get_all("Classifier")
    pythons = [one.rpartition(" ")[2] for one in classifiers if re.fullmatch(r".*Python :: 3\.\d+", one)]
    assert pythons == ["3.11", "3.12", "3.13"]
    assert metadata["Requires-Python"] == f">={pythons[0]}"


def test_the_citation_is_that_of_this_version():
    """And of the licence in the folder."""
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert f"version: {meanfield.__version__}" in lines
    assert "license: BSD-3-Clause" in lines
    assert f"version = {{{meanfield.__version__}}}," in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("BSD 3-Clause License\n")


def test_whoever_is_told_to_install_is_told_our_name():
    """`pip install meanfield` brings another publisher's code: no page or message says it."""
    folders = [ROOT / name for name in ("docs", "meanfield", "kernels", "scripts", "tests")]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".md", ".py", "")]
    files = [path for path in (*files, *ROOT.glob("*.md"), *ROOT.glob("*.cfg")) if path.is_file()]
    wrong = re.compile(r"pip install\s+(?:-\S+\s+)*['\"]?meanfield(?!-networks)")
    allowed = {Path(__file__).resolve(), ROOT / "CHANGELOG.md"}
    assert len(files) > 100
    assert [str(path) for path in files if path not in allowed and wrong.search(path.read_text(encoding="utf-8"))] == []
