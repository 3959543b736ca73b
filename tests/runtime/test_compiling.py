"""Laws of the code cache: it saves time where it can, and never stops or falsifies a run where it cannot."""

import hashlib
import os
import pickle
import shutil
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


class Odd:
    """Divides by zero when it is loaded."""

    def __reduce__(self):
        return divmod, (1, 0)


class Harm:
    """Makes a file when it is loaded: proof that it was."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


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


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign", "folder", "other", "raises"])
def test_damaged_code_is_compiled_again(program, tmp_path, damage):
    """A file emptied, cut short, with one bit flipped, of another kind, or a folder in its place.

    other, raises: whole by its sum, but a tuple that is no code, or what raises something odd when it is loaded.
    """
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
        other, raises = (hashlib.sha256(part).digest() + part for part in (pickle.dumps(()), pickle.dumps(Odd())))
        damaged = {"empty": b"", "cut": content[:middle], "flipped": flipped, "foreign": b"x" * 100}
        file.write_bytes({**damaged, "other": other, "raises": raises}[damage])
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


@pytest.mark.parametrize("edited", ["engine/noise.py", "runtime/arithmetic.py", "kernels/relu.py"])
def test_an_edit_in_any_folder_makes_new_code_in_all(tmp_path, edited):
    """Functions of dynamics call into engine, those of kernels into runtime: machine code holds what it calls."""
    for name in ("meanfield", "kernels"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "from meanfield.dynamics.birth_death import _exchange; from meanfield.kernels.gram import _map_tile;"
        "import meanfield; print(meanfield.__file__, _exchange._cache.cache_path, _map_tile._cache.cache_path)"
    )

    def folders():
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            check=True,
            capture_output=True,
            text=True,
        )
        origin, *paths = done.stdout.split()
        assert Path(origin).is_relative_to(tmp_path)
        return paths

    before = folders()
    assert folders() == before
    source = tmp_path / "meanfield" / edited
    source.write_text(source.read_text() + "# another\n")
    assert all(a != b for a, b in zip(before, folders(), strict=True))


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners of files")
@pytest.mark.parametrize("taken", ["", "open", "link", "foreign"])
def test_a_folder_in_a_temporary_place_is_used_only_where_it_is_the_users_alone(tmp_path, taken):
    """Where there is no home. Made with mode 0700; one open to others, a link, or another user's is not even read."""
    home = "import pathlib\ndef nowhere(*_): raise RuntimeError\npathlib.Path.home = nowhere\n"
    if taken == "foreign":
        home += "import os; os.getuid = lambda uid=os.getuid(): uid + 1\n"
    program = tmp_path / "program.py"
    program.write_text(home + CODE)
    temporary, elsewhere = tmp_path / "temporary", tmp_path / "elsewhere"
    temporary.mkdir()
    elsewhere.mkdir(mode=0o700)
    folder = temporary / f"meanfield-{os.getuid() + (taken == 'foreign')}"
    environment = {"NUMBA_CACHE_DIR": "", "XDG_CACHE_HOME": "", "TMPDIR": str(temporary)}

    def say():
        return run(program, "", **environment)

    if not taken:
        say()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert len(kept(folder)) == 1
        assert say() == ""
        folder.chmod(0o770)
        assert "NUMBA_CACHE_DIR" in say()  # what lies there now could be anyone's
    elif taken == "link":
        folder.symlink_to(elsewhere)
    else:
        folder.mkdir(mode=0o700)
        folder.chmod(0o777 if taken == "open" else 0o700)
    if taken:
        assert "not this user's alone" in say()
        assert kept(temporary) == kept(elsewhere) == []


@pytest.mark.parametrize("how", ["own", "open folder", "open file", "link", "linked folder", "foreign file", "foreign"])
def test_code_that_others_can_have_put_there_is_not_run(program, tmp_path, how):
    """In a NUMBA_CACHE_DIR that is shared: only what this user alone, or the superuser, can have written is loaded."""
    if how.startswith("foreign") and os.geteuid() != 0:
        pytest.skip("needs the right to give a file away")
    cache, harm, away = tmp_path / "cache", tmp_path / "harm", tmp_path / "away"
    run(program, cache)
    (file,) = kept(cache)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (file, file.parent, cache / "meanfield")] == [
        0o600,
        0o700,
        0o700,
    ]
    content = pickle.dumps(Harm(harm))
    file.write_bytes(hashlib.sha256(content).digest() + content)
    if how == "open folder":
        file.parent.chmod(0o770)
    elif how == "open file":
        file.chmod(0o602)
    elif how in ("link", "linked folder"):
        moved = file if how == "link" else file.parent
        moved.rename(away)
        moved.symlink_to(away)
    elif how != "own":
        os.chown(file if how == "foreign file" else file.parent, 12345, 12345)
    assert "compiling" in run(program, cache)
    assert harm.exists() == (how == "own")


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


def test_a_run_without_compilation_is_refused_in_one_line():
    """numba's own switch for debugging, under which intrinsics cannot run."""
    command = [sys.executable, "-m", "meanfield", "run", "--set", "run.steps=1"]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("meanfield: error: NUMBA_DISABLE_JIT is set")
    assert done.stderr.count("\n") == 1
