"""Laws of studies: cells are computed once, whatever stops the run, wherever they run, however they are shared out."""

import copy
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import slow_cell

from meanfield.errors import InputError, RunFileError
from meanfield.runtime.process_pool import Pool, WorkerError, shares
from meanfield.runtime.threads import usable_cores
from meanfield.storage.atomic import process_exists
from meanfield.storage.csv_table import parse, text_of
from meanfield.studies.study import Study, parse_shard


def square(x, name, marks):
    """Leaves a mark of being computed in the folder `marks`."""
    with open(Path(marks) / f"{x}-{name}", "a") as file:
        file.write("!")
    return {"square": x * x + 0.1, "label": f"{name},{x}", "even": x % 2 == 0}


def troubled(x, marks):
    """Kills its process at 1, raises at 2, exits at 3, until the folder holds a file `well`."""
    if not (Path(marks) / "well").exists():
        if x == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if x == 2:
            raise ValueError("two is\nnot welcome")
        if x == 3:
            sys.exit(7)
    return {"y": 2 * x}


def surroundings(x):
    from threadpoolctl import threadpool_info

    from meanfield.runtime.threads import default_threads

    __import__("scipy.linalg")
    blas = [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
    ignored = all(signal.getsignal(s) is signal.SIG_IGN for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    return {"blas": max(blas), "engine": default_threads(), "ignores": ignored}


def uneven(x):
    return {"y": x} if x else {"z": x}


def clashing(x):
    return {"x": x}


@pytest.fixture
def here():
    """Cells in a thread of this process: nothing to start."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def squares(tmp_path):
    """(study, configurations, times each cell was computed)."""
    marks = tmp_path / "marks"
    marks.mkdir()
    cells = [{"x": x, "name": f"{x}d", "marks": str(marks)} for x in (5, 3, 4, 1)]
    study = Study("squares", square, tmp_path / "out")
    return study, cells, lambda: {path.name: path.stat().st_size for path in marks.iterdir()}


def timeless(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_rows_come_in_order_with_their_types_and_the_file_says_what_it_is(squares, here):
    """Whether just computed or read back; the columns are configuration, results, seconds."""
    study, cells, _ = squares
    rows = study.run(cells, executor=here, quiet=True)
    assert timeless(rows) == [
        {**c, "square": c["x"] ** 2 + 0.1, "label": f"{c['name']},{c['x']}", "even": c["x"] % 2 == 0} for c in cells
    ]
    assert study.run(cells, executor=here, quiet=True) == rows == study.read()
    lines = (study.folder / "squares.csv").read_text().splitlines()
    assert lines[0] == "# study squares, version 1"
    assert lines[1] == "# a cell is x, name, marks"
    assert lines[2].startswith("# computed with python ")
    assert lines[3] == "x,name,marks,square,label,even,seconds"
    assert [line[0] for line in lines[4:]] == ["5", "3", "4", "1"]


def test_no_cell_is_computed_twice_and_new_ones_join(squares, here):
    """Asking for fewer, more or repeated cells computes only what no file holds; others stay in the file."""
    study, cells, computed = squares
    study.run([cells[1], cells[1]], executor=here, quiet=True)
    study.run(cells[:3], executor=here, quiet=True)
    assert len(study.run(cells[3:], executor=here, quiet=True)) == 1
    assert set(computed().values()) == {1}
    assert len(study.read()) == 4
    content = (study.folder / "squares.csv").read_bytes()
    study.run(cells[::2], executor=here, quiet=True)
    assert (study.folder / "squares.csv").read_bytes() == content


def test_every_row_stands_below_the_software_that_made_it(squares, here, monkeypatch):
    """Two versions in turn, and then the rows in another order, from shares put together: each keeps its own."""
    study, cells, _ = squares
    for k, shard in ((0, (1, 1)), (1, (2, 2)), (2, (1, 1)), (3, (1, 1))):
        monkeypatch.setattr("meanfield.studies.study.software", lambda k=k: f"# computed with bits {k % 2}\n")
        study.run(cells[k : k + 1] if shard == (1, 1) else [cells[3], cells[k]], shard=shard, executor=here, quiet=True)
    study.run(cells[::-1], executor=here, quiet=True)
    lines = (study.folder / "squares.csv").read_text().splitlines()
    bits = [line[-1] if line.startswith("# computed") else line[0] for line in lines[2:]]
    assert bits == ["1", "x", "1", "0", "4", "1", "3", "0", "5"]


@pytest.mark.parametrize("value", [0.1, 1e-300, -0.0, float("inf"), 3, 10**20, True, False, "6d", 'a,b"c', "", "1_0"])
def test_a_value_comes_back_from_its_text(value):
    """Every bit of a float, and the type."""
    back = parse(text_of(value))
    assert (back, type(back), str(back)) == (value, type(value), str(value))


@pytest.mark.parametrize("value", [None, "two\nlines", "# comment", [1]])
def test_what_does_not_fit_a_cell_of_the_file_is_refused(value):
    with pytest.raises(ValueError, match="must be a number"):
        text_of(value)


def test_a_crash_takes_along_only_its_own_cell_and_the_next_run_tries_it_again(tmp_path, capfd):
    """An exception, a killed process, an exit: reported with the reason; all others are kept."""
    study = Study("troubled", troubled, tmp_path)
    cells = [{"x": x, "marks": str(tmp_path)} for x in range(6)]
    rows = study.run(cells, processes=2, quiet=True)
    assert [row["x"] for row in rows] == [0, 4, 5]
    reasons = {one["x"]: reason for one, reason in study.failures}
    assert reasons == {
        1: "the worker process was killed by SIGKILL",
        2: "ValueError: two is not welcome",
        3: "SystemExit: 7",
    }
    told = capfd.readouterr().err
    assert "cell x=1" in told
    assert 'raise ValueError("two is' in told  # the traceback in the worker
    (tmp_path / "well").touch()
    assert [row["y"] for row in study.run(cells, processes=1, quiet=True)] == [0, 2, 4, 6, 8, 10]
    assert study.failures == []


def test_workers_take_the_threads_they_are_given_and_no_signals(tmp_path):
    """BLAS one, the engine what is asked for; a signal to the whole group cannot cut a simulation short."""
    (row,) = Study("surroundings", surroundings, tmp_path).run([{"x": 0}], processes=1, threads=1, quiet=True)
    assert (row["blas"], row["engine"], row["ignores"]) == (1, 1, True)


def test_processes_times_threads_never_exceeds_the_cores():
    """Whatever is asked for; and all cores are used where nothing is."""
    for cores in range(1, 9):
        for threads in range(1, 12):
            for processes in (None, *range(1, 12)):
                taken, each = shares(processes, threads, cores)
                assert 1 <= taken * each <= cores
            assert shares(None, 1, cores) == (cores, 1)
    assert shares(None, 1)[0] == len(usable_cores())
    for wrong in ((0, 1), (1, 0)):
        with pytest.raises(InputError, match="at least 1"):
            shares(*wrong)


def test_a_torn_last_line_is_ignored_and_computed_again(squares, here):
    """The file cut after every byte of its last line, as a power cut may leave it."""
    study, cells, _ = squares
    rows = timeless(study.run(cells, executor=here, quiet=True))
    path = study.folder / "squares.csv"
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last, len(whole)):
        path.write_bytes(whole[:cut])
        assert len(study.read()) == 3
        assert timeless(study.run(cells, executor=here, quiet=True)) == rows
        assert path.read_bytes().count(b"\n") == whole.count(b"\n")


@pytest.mark.parametrize("cut", [0, 5, 60])
def test_a_file_that_was_hardly_begun_is_begun_again(squares, here, cut):
    study, cells, _ = squares
    study.run(cells, executor=here, quiet=True)
    path = study.folder / "squares.csv"
    path.write_bytes(path.read_bytes()[:cut])
    assert len(study.run(cells, executor=here, quiet=True)) == 4
    assert path.read_text().count("# study") == 1


@pytest.mark.parametrize("damaged", [b"3,3d\n", b"3,3\rd,9\n", b'"3,3d,9\n', b"\xff\x00\n", b"3," + b"9" * 200_000])
def test_a_damaged_line_is_left_out_and_computed_again(squares, here, damaged):
    study, cells, computed = squares
    rows = timeless(study.run(cells, executor=here, quiet=True))
    path = study.folder / "squares.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], damaged.rstrip(b"\n") + b"\n", *lines[6:]]))
    assert timeless(study.run(cells, executor=here, quiet=True)) == rows
    assert computed() == {"5-5d": 1, "3-3d": 2, "4-4d": 1, "1-1d": 1}
    assert damaged not in path.read_bytes()


def test_shares_are_disjoint_complete_and_merge(squares, here):
    """Each k of K writes its own file; a run of the whole then computes nothing, and holds all rows in order."""
    study, cells, computed = squares
    first = study.run(cells, shard=(1, 3), executor=here, quiet=True)
    assert [row["x"] for row in first] == [5, 1]
    for k in (2, 3):
        study.run(cells, shard=(k, 3), executor=here, quiet=True)
    assert not (study.folder / "squares.csv").exists()
    rows = study.run(cells, executor=here, quiet=True)
    assert [row["x"] for row in rows] == [5, 3, 4, 1]
    assert set(computed().values()) == {1}
    for path in study.folder.glob("*.shard-*"):
        path.unlink()
    assert study.run(cells, executor=here, quiet=True) == rows
    assert set(computed().values()) == {1}


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2", ""])
def test_a_share_that_makes_no_sense_is_refused(text):
    with pytest.raises(InputError, match="shard"):
        parse_shard(text)


def test_rows_of_another_version_study_or_grid_are_refused_not_mixed(squares, here):
    study, cells, _ = squares
    study.run(cells, executor=here, quiet=True)
    path = study.folder / "squares.csv"
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"version 1, not study squares, version 2: move it away"):
        Study("squares", square, study.folder, version=2).run(cells, executor=here, quiet=True)
    with pytest.raises(InputError, match="a cell now is x: move it away"):
        study.run([{"x": 1}], executor=here, quiet=True)
    (study.folder / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="something else"):
        Study("other", square, study.folder).run(cells, executor=here, quiet=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["a line", "link", "pipe"])
def test_what_is_no_table_is_left_as_it_is(squares, here, tmp_path, kind):
    """A line without an end is none of a table that was cut; a pipe would be waited for."""
    study, cells, computed = squares
    place, file = study.folder / "squares.csv", tmp_path / "precious"
    study.folder.mkdir(exist_ok=True)
    file = place if kind == "a line" else file
    file.write_text("precious")
    if kind == "link":
        place.symlink_to(file)
    if kind == "pipe":
        os.mkfifo(place)
    with pytest.raises(InputError, match="move it away to compute anew"):
        study.run(cells, executor=here, quiet=True)
    assert file.read_text() == "precious"
    assert computed() == {}


def test_results_with_other_columns_or_taken_names_fail_their_cell(tmp_path, here):
    study = Study("uneven", uneven, tmp_path)
    assert len(study.run([{"x": x} for x in (1, 0, 2)], executor=here, quiet=True)) == 2
    assert "results z: the file has y" in study.failures[0][1]
    study = Study("clashing", clashing, tmp_path)
    assert study.run([{"x": 1}], executor=here, quiet=True) == []
    assert "taken" in study.failures[0][1]


def test_configurations_that_differ_in_columns_are_refused(squares):
    study, cells, _ = squares
    for wrong in ({"x": 1}, {**cells[0], "seconds": 1}, {**cells[0], "name": None}):
        with pytest.raises(InputError, match="configuration"):
            study.run([cells[0], wrong], quiet=True)


def test_two_writers_of_one_file_are_refused_and_shares_are_not(squares, here):
    study, cells, _ = squares

    class Nested(ThreadPoolExecutor):
        def submit(self, *args):
            with pytest.raises(RunFileError, match="being written"):
                study.run(cells[:1], executor=here, quiet=True)
            assert len(study.run(cells[:1], shard=(1, 2), executor=here, quiet=True)) == 1
            return super().submit(*args)

    with Nested(1) as executor:
        assert len(study.run(cells[:1], executor=executor, quiet=True)) == 1


def test_an_executor_that_breaks_costs_only_what_it_had_not_done(squares):
    study, cells, _ = squares

    class Breaking(Executor):
        left = 2

        def submit(self, function, /, *args):
            self.left, future = self.left - 1, Future()
            if self.left >= 0:
                future.set_result(function(*args))
            else:
                future.set_exception(BrokenExecutor("gone"))
            return future

    assert len(study.run(cells, executor=Breaking(), quiet=True)) == 2
    assert [reason for _, reason in study.failures] == ["BrokenExecutor: gone"] * 2


def test_progress_is_told_in_lines_with_the_time_left(squares, here, capfd, monkeypatch):
    """Off a terminal: how many of how many, and an estimate; --quiet says nothing."""
    study, cells, _ = squares
    ticks = iter(range(0, 10_000, 100))
    monkeypatch.setattr("meanfield.studies.study.time.monotonic", lambda: next(ticks))
    study.run(cells, executor=here)
    told = capfd.readouterr().err
    assert re.search(r"^1 of 4 cells, about \d+ (s|min|h) left$", told, re.M)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from meanfield.studies.study import Study
from helpers import slow_cell
if __name__ == "__main__":
    Study("slow", slow_cell, {folder!r}).run([dict(x=x, marks={folder!r}) for x in range(8)], processes=2, quiet=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopping_costs_the_cells_in_flight_and_leaves_no_orphans(tmp_path, number):
    """Ctrl-C goes to the whole group, SIGKILL to the parent alone; finished rows are there, the workers are not."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path)))
    process = subprocess.Popen([sys.executable, script], stderr=subprocess.DEVNULL, start_new_session=True)
    table, limit = tmp_path / "slow.csv", time.monotonic() + 60
    while not (table.exists() and table.read_text().count("\n") >= 6):
        assert time.monotonic() < limit
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.2)
    (process.kill if number == signal.SIGKILL else lambda: os.killpg(process.pid, number))()
    assert process.wait(30) != 0
    workers = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    limit = time.monotonic() + 20
    while any(map(process_exists, workers)):
        assert time.monotonic() < limit, "orphans"
        time.sleep(0.05)
    assert workers
    assert sorted(row["x"] for row in Study("slow", slow_cell, tmp_path).read()) == [0, 1, 2]


def test_what_a_pool_returns_is_what_the_function_returns_and_it_can_be_cut_short():
    """Results and keywords go through; cancelled, it ends at once although a worker sleeps."""
    with Pool(1) as pool:
        assert pool.submit(divmod, 7, 2).result() == (3, 1)
        assert pool.submit(sorted, [1, 2], reverse=True).result() == [2, 1]
        with pytest.raises(WorkerError, match="ZeroDivisionError"):
            pool.submit(divmod, 1, 0).result()
        with pytest.raises(WorkerError, match=r"pickle|lambda"):
            pool.submit(eval, "lambda: 0").result()
        sleeping = pool.submit(time.sleep, 600)
        time.sleep(0.2)
        pool.shutdown(cancel_futures=True)
        assert isinstance(sleeping.exception(), WorkerError)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda study: pickle.loads(pickle.dumps(study))])
def test_a_copy_of_a_study_is_the_same_study(tmp_path, duplicate):
    """Same file, same cells; its failures are its own from then on."""
    study = Study("copied", troubled, tmp_path)
    study.run([{"x": 2, "marks": str(tmp_path)}], 1, quiet=True)
    again = duplicate(study)
    assert [configuration for configuration, _ in again.failures] == [{"x": 2, "marks": str(tmp_path)}]
    (tmp_path / "well").touch()
    assert again.run([{"x": 2, "marks": str(tmp_path)}], 1, quiet=True) == study.read()
    assert again.failures == [] != study.failures


def test_a_study_can_be_read_in_another_process(tmp_path):
    """It travels to a worker, as do what a worker failed with and its traceback."""
    study = Study("far", uneven, tmp_path)
    study.run([{"x": 1}], 1, quiet=True)
    with Pool(1) as pool:
        assert pool.submit(study.read).result() == study.read()
    failure = pickle.loads(pickle.dumps(WorkerError("no", "a traceback")))
    assert (str(failure), failure.details) == ("no", "a traceback")
