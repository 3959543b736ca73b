"""The certificate at τ > 0 of an ensemble that several ranks share: the same answer, and all ranks return."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mpi4py")
BESIDE = Path(sys.executable).parent / "mpiexec"  # where the wheel of MPICH puts it
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
ASK = """
import json, sys
from meanfield import Ensemble, InputError, Problem
from meanfield.optimality.free_energy_gap import certify_free_energy
from meanfield.runtime.communicator import world
ranks = world()
ensemble = Ensemble.sphere(9000, 2, seed=1, ranks=ranks)
X = [[1.0, 0.2], [-1.0, 0.1], [0.3, 1.0], [0.2, -1.0]]
found = certify_free_energy(Problem(X, [1, 1, -1, -1], reg=1e-2, temperature=2e-2), ensemble)
for rank, answer in enumerate(ranks.gather((found.lower_bound, found.gap, found.dual.tolist()))):
    if ranks.leads:
        print(json.dumps(answer))
try:
    certify_free_energy(Problem(X, [1, 1, -1, -1]), ensemble)
except InputError:
    print("refused", file=sys.stderr)
"""


def answers(ranks, folder, *command):
    launcher = [MPIEXEC, "-n", str(ranks)] if ranks > 1 else []
    line = [*launcher, sys.executable, *command]
    environment = {**os.environ, "MEANFIELD_NUM_THREADS": "1"}
    done = subprocess.run(line, env=environment, cwd=folder, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
@pytest.mark.skipif(MPIEXEC is None, reason="no mpiexec")
def test_every_rank_gets_the_answer_of_a_single_process(tmp_path):
    """In Python: two ranks, equal in every bit, and both refuse what is refused."""
    alone, shared = (answers(ranks, tmp_path, "-c", ASK) for ranks in (1, 2))
    (expected,) = [json.loads(line) for line in alone.stdout.splitlines()]
    assert [json.loads(line) for line in shared.stdout.splitlines()] == [expected, expected]
    assert shared.stderr.count("refused") == 2


@pytest.mark.slow
@pytest.mark.skipif(MPIEXEC is None, reason="no mpiexec")
def test_the_command_returns_too(tmp_path):
    """`certify` of a run at τ > 0 under two ranks prints one object, that of a single process."""
    (tmp_path / "c.toml").write_text(
        "[data]\nn = 12\nd = 2\n[ensemble]\nm = 9000\n[objective]\nreg = 1e-2\ntemperature = 2e-2\n[run]\nsteps = 4\n"
    )
    program = ("-c", "from meanfield.cli import main; main()")
    answers(1, tmp_path, *program, "run", "c.toml", "--out", "a.h5", "--quiet")
    told = [json.loads(answers(ranks, tmp_path, *program, "certify", "a.h5", "--json").stdout) for ranks in (1, 2)]
    assert told[0] == told[1]
    assert told[0]["temperature"] == 2e-2
