"""Laws of runs shared by MPI ranks: the same bits however many there are, one file, and an end that is told.

With real processes under mpiexec; skipped where there is no mpi4py or no launcher.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from meanfield.dynamics import DYNAMICS
from meanfield.engine.engine import BLOCK
from meanfield.runtime.communicator import Alone, Span
from meanfield.simulation.run import load

pytest.importorskip("mpi4py")
BESIDE = Path(sys.executable).parent / "mpiexec"  # where the wheel of MPICH puts it
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
needs_launcher = pytest.mark.skipif(MPIEXEC is None, reason="no mpiexec")
PROGRAM = [sys.executable, "-c", "from meanfield.cli import main; main()"]
SEVERAL = """
import json, sys
from meanfield.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as ended:
        if ended.code:
            raise
"""
CONFIG = """
[data]
n = 60
d = 7
n_test = 100
[ensemble]
m = 9000
[objective]
reg = 1e-2
[dynamics]
method = "langevin"
[run]
steps = 20
record_every = 5
checkpoint_every = 10
[record]
gap = true
gap_every = 10
snapshots = 2
snapshot_particles = 300
"""


def command(ranks, *arguments, threads=1, program=PROGRAM):
    launcher = [MPIEXEC, "-n", str(ranks)] if ranks else []
    return [*launcher, *program, *map(str, arguments)], {**os.environ, "MEANFIELD_NUM_THREADS": str(threads)}


def run_all(ranks, commands, *, threads=1, folder):
    """Several commands one after the other, in one start of so many processes; it ends at the first that fails."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    return run(ranks, words, threads=threads, folder=folder, program=[sys.executable, "-c", SEVERAL])


def run(ranks, *arguments, threads=1, folder, program=PROGRAM):
    line, environment = command(ranks, *arguments, threads=threads, program=program)
    return subprocess.run(line, env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "c.toml").write_text(CONFIG)
    return tmp_path


def contents(path):
    """Every dataset of a run file but the clock's, as bytes."""
    found = {}

    def visit(name, node):
        if isinstance(node, h5py.Dataset) and not name.startswith("timing"):
            found[name] = np.asarray(node[()]).tobytes() if node.dtype.kind != "O" else node[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


@pytest.mark.parametrize("total", [1, BLOCK, 9 * BLOCK + 1, 100 * BLOCK])
@pytest.mark.parametrize("size", [1, 2, 3, 16])
def test_spans_are_whole_blocks_and_miss_nothing(total, size):
    """End to end they are all particles, none begins within a block, and their sizes differ by one block at most."""
    spans = []
    for rank in range(size):
        ranks = Alone()
        ranks.rank, ranks.size = rank, size
        spans.append(Span.of(total, BLOCK, ranks))
    assert [span.first for span in spans] == [0, *np.cumsum([span.count for span in spans])[:-1]]
    assert sum(span.count for span in spans) == total
    assert all(span.first % BLOCK == 0 or span.count == 0 for span in spans)
    blocks = [-(-span.count // BLOCK) for span in spans]
    assert max(blocks) - min(blocks) <= 1


@needs_launcher
def test_any_number_of_ranks_and_threads_writes_the_same_file(folder):
    """No rank × 2 threads and 3 × 1, langevin 2 × 1 and 4 × 2 too: state, trace, snapshots, configuration with ==."""
    settings = [
        "--quiet",
        "--set",
        "dynamics.rebirth_rate=0.05",
        "--set",
        "dynamics.exchange_rate=3.0",
        "--set",
        "objective.temperature={start=1e-3, end=0.0, steps=9}",
    ]
    shapes = {(0, 2): [*DYNAMICS], (2, 1): ["langevin"], (3, 1): [*DYNAMICS], (4, 2): ["langevin"]}
    for (ranks, threads), names in shapes.items():
        commands = [
            ["run", "c.toml", "--out", f"{name}-{ranks}.h5", "--set", f"dynamics.method={name}", *settings]
            for name in names
        ]
        found = run_all(ranks, commands, threads=threads, folder=folder)
        assert found.returncode == 0, found.stderr
    for name in DYNAMICS:
        made = [f"{name}-{ranks}.h5" for (ranks, _), names in shapes.items() if name in names]
        first, *others = (contents(folder / one) for one in made)
        assert {"ensemble/w", "ensemble/u", "trace/relative_gap", "snapshots/u"} <= set(first)
        assert others, name
        assert all(other == first for other in others), name


@needs_launcher
@pytest.mark.slow
def test_sixteen_ranks_on_few_cores_write_the_same_file(folder):
    """More ranks than blocks of particles: slow, but right."""
    for ranks in (0, 16):
        found = run(ranks, "run", "c.toml", "--out", f"{ranks}.h5", "--quiet", folder=folder)
        assert found.returncode == 0, found.stderr
    assert contents(folder / "0.h5") == contents(folder / "16.h5")


@needs_launcher
def test_a_run_goes_on_with_another_number_of_ranks(folder):
    """Begun on 3, gone on with on 2, ended by one process, as if it never stopped."""
    options = [
        "--quiet",
        "--set",
        "objective.reg={shape='geometric', start=0.02, end=0.01, steps=9}",
        "--set",
        "record.snapshot_steps=[0, 7]",
    ]
    kinds = {"langevin": [], "implicit": ["--set", "dynamics.method=implicit", "--set", "dynamics.cooled_at=12"]}

    def begun(part, *more):
        return [
            ["run", "c.toml", "--out", f"{kind}-{part}.h5", *options, *chosen, *more] for kind, chosen in kinds.items()
        ]

    def further(until):
        return [["resume", f"{kind}-part.h5", "--until", until, "--quiet"] for kind in kinds]

    first = begun("part", "--set", "run.steps=7")
    for ranks, commands in ((3, first), (2, further(13)), (0, further(20) + begun("whole"))):
        found = run_all(ranks, commands, folder=folder)
        assert found.returncode == 0, found.stderr
    for kind in kinds:
        assert contents(folder / f"{kind}-part.h5") == contents(folder / f"{kind}-whole.h5"), kind


@needs_launcher
def test_rank_zero_alone_speaks(folder):
    """One JSON object on stdout, one line for bad input, whatever the number of ranks; certify too."""
    found = run(3, "run", "c.toml", "--out", "a.h5", "--quiet", "--json", folder=folder)
    assert json.loads(found.stdout)["step"] == 20
    again = run(3, "run", "c.toml", "--out", "a.h5", folder=folder)
    assert again.returncode == 2
    assert again.stderr.count("meanfield: error: --out a.h5: exists already") == 1
    gap = run(2, "certify", "a.h5", "--json", "--seconds", "1", folder=folder)
    assert json.loads(gap.stdout)["relative_gap"] > 0


@needs_launcher
@pytest.mark.slow
def test_a_sweep_over_ranks_has_the_rows_of_a_pool(folder):
    """`compare` with the cells on other ranks writes the same table but for the seconds, and every rank ends."""
    options = ["--d", "4", "--n", "2d,3d", "--seeds", "2", "--m", "256", "--steps", "50", "--n-test", "64", "--quiet"]
    rows = []
    for ranks in (0, 3):
        (folder / str(ranks)).mkdir()
        found = run(ranks, "compare", *options, "-o", str(ranks), "--json", folder=folder)
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout)["missing"] == 0
        lines = (folder / str(ranks) / "compare.csv").read_text().splitlines()
        table = list(csv.DictReader(line for line in lines if not line.startswith("#")))
        rows.append([{name: value for name, value in row.items() if "seconds" not in name} for row in table])
    assert len(rows[0]) == 4
    assert rows[0] == rows[1]


@needs_launcher
def test_out_of_time_and_signals_save_on_every_rank(folder):
    """--max-time ends with 75, SIGTERM to the launcher with 143, both with a file from which the run goes on."""
    found = run(2, "run", "c.toml", "--out", "a.h5", "--quiet", "--max-time", "0.01s", folder=folder)
    assert found.returncode == 75
    line, environment = command(2, "run", "c.toml", "--out", "b.h5", "--quiet", "--set", "run.steps=10000000")
    process = subprocess.Popen(line, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True)
    wait_for(folder / "b.h5")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    for name in ("a.h5", "b.h5"):
        assert run(0, "resume", name, "--more", "1", "--quiet", folder=folder).returncode == 0


@needs_launcher
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the ranks in /proc")
def test_a_lost_rank_ends_the_run_and_costs_no_more_than_the_checkpoint(folder):
    """SIGKILL to one rank: the launcher says so and ends within seconds; the file is whole and the run goes on."""
    line, environment = command(3, "run", "c.toml", "--out", "a.h5", "--quiet", "--set", "run.steps=10000000")
    process = subprocess.Popen(
        line, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for(folder / "a.h5")
    time.sleep(1.0)
    os.kill(ranks_of(process.pid)[-1], signal.SIGKILL)
    began = time.monotonic()
    told, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert process.returncode != 0
    assert "signal 9" in told.lower() or "killed" in told.lower()
    assert load(folder / "a.h5").ensemble.step % 10 == 0
    assert (
        run(
            2, "resume", "a.h5", "--until", load(folder / "a.h5").ensemble.step + 3, "--quiet", folder=folder
        ).returncode
        == 0
    )


@needs_launcher
@pytest.mark.slow
def test_a_stopped_rank_only_delays_the_run(folder):
    """SIGSTOP for some seconds, then SIGCONT: the same file."""
    options = ["--quiet", "--set", "run.steps=3000", "--set", "record.gap=false"]
    run(0, "run", "c.toml", "--out", "whole.h5", *options, folder=folder)
    line, environment = command(2, "run", "c.toml", "--out", "a.h5", *options)
    process = subprocess.Popen(line, env=environment, cwd=folder, stdout=subprocess.DEVNULL)
    wait_for(folder / "a.h5")
    one = ranks_of(process.pid)[-1]
    os.kill(one, signal.SIGSTOP)
    time.sleep(30)
    assert process.poll() is None
    os.kill(one, signal.SIGCONT)
    assert process.wait(120) == 0
    assert contents(folder / "a.h5") == contents(folder / "whole.h5")


def wait_for(path, seconds=120):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def ranks_of(launcher):
    """Process numbers of the Python ranks below a launcher."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    below, found = {launcher}, []
    for _ in range(4):
        below = {child for child, parent in parents.items() if parent in below}
        found += [
            child
            for child in below
            if "meanfield.cli" in cmdline(child)
            and "mpiexec" not in cmdline(child)
            and "pmi_proxy" not in cmdline(child)
        ]
    return sorted(found)


def cmdline(process):
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
