"""Laws of the code cache: it saves time where it can, and never stops or falsifies a run where it cannot."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = """
from meanfield.runtime.compiling import compiled

@compiled
def total(n):
    s = 0
    for i in range(n):
        s += i * i
    return s

print(total(1000))
"""
ANSWER = str(sum(i * i for i in range(1000)))


@pytest.fixture
def program(tmp_path):
    """A script with one compiled function beside a cache folder of its own."""
    path = tmp_path / "program.py"
    path.write_text(CODE)
    return path


def launch(program, cache, **env):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(cache), **env}
    return subprocess.Popen(
        [sys.executable, str(program)], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(program, cache, **env):
    """What it says on stderr; its answer is right and its status 0, whatever happened to the cache."""
    child = launch(program, cache, **env)
    out, err = child.communicate(timeout=120)
    assert (child.returncode, out.strip()) == (0, ANSWER), err
    return err


def kept(cache):
    return sorted(path for path in Path(cache).rglob("*") if path.is_file())


def test_code_is_compiled_once(program, tmp_path):
    """The first process says that it compiles and keeps one file; the second is silent and changes nothing."""
    cache = tmp_path / "cache"
    assert "compiling" in run(program, cache)
    (file,) = kept(cache)
    before = file.read_bytes(), file.stat().st_mtime_ns
    assert run(program, cache) == ""
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign", "folder"])
def test_damaged_code_is_compiled_again(program, tmp_path, damage):
    """A file emptied, cut short, with one bit flipped, of another kind, or a folder in its place."""
    cache = tmp_path / "cache"
    run(program, cache)
    (file,) = kept(cache)
    content = file.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    file.unlink()
    if damage == "folder":
        file.mkdir()
    else:
        file.write_bytes({"empty": b"", "cut": content[:middle], "flipped": flipped, "foreign": b"x" * 100}[damage])
    assert "compiling" in run(program, cache)
    if damage != "folder":
        assert run(program, cache) == ""  # mended for the next one


def test_an_edit_of_the_source_makes_new_code(program, tmp_path):
    """Old machine code is not taken for new source, even where only a neighbour that takes part changed."""
    cache = tmp_path / "cache"
    run(program, cache)
    (tmp_path / "neighbour.py").write_text("# compiled\n")
    assert "compiling" in run(program, cache)
    (tmp_path / "neighbour.py").write_text("# compiled otherwise\n")
    assert "compiling" in run(program, cache)
    assert len(kept(cache)) == 3
    assert run(program, cache) == ""


def test_a_cache_that_cannot_be_written_is_said_and_done_without(program, tmp_path):
    """A file stands where the folder should be: compiled each time, with a word on what to set."""
    cache = tmp_path / "cache"
    cache.write_text("not a folder")
    for _ in range(2):
        assert "NUMBA_CACHE_DIR" in run(program, cache)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_done_without(program, tmp_path):
    """Read-only cache folders, as on clusters."""
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert "NUMBA_CACHE_DIR" in run(program, cache)


def test_a_full_disk_leaves_no_half_file(tmp_path):
    """A write cut short is said, leaves nothing that a later process could take, and that one recovers."""
    program, cache = tmp_path / "program.py", tmp_path / "cache"
    body = CODE
    limit = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
    )
    program.write_text(limit + body)
    assert "NUMBA_CACHE_DIR" in run(program, cache)
    assert kept(cache) == []
    program.write_text(body)
    assert "compiling" in run(program, cache)
    assert len(kept(cache)) == 1


def test_processes_at_once_do_not_harm_each_other(program, tmp_path):
    """Three that compile the same into one cache: all are right, and what they leave is whole."""
    cache = tmp_path / "cache"
    children = [launch(program, cache) for _ in range(3)]
    for child in children:
        out, err = child.communicate(timeout=120)
        assert (child.returncode, out.strip()) == (0, ANSWER), err
    assert len(kept(cache)) == 1
    assert run(program, cache) == ""
