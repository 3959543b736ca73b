"""Lives of a run under a shell loop and under a batch scheduler, both of which end it again and again."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import heed_interrupts, in_process, leftovers, wait_for
from helpers import assert_same

from meanfield import load

SCRIPTS = Path(__file__).parents[2] / "scripts"
SETUP = [
    part
    for one in (
        "data.n=40",
        "data.d=6",
        "data.n_test=64",
        "ensemble.m=256",
        "run.record_every=10",
        "run.checkpoint_every=50",
        "dynamics.method=langevin",  # many quick steps
        "objective.reg={shape='constant', end=0.02}",
    )
    for part in ("--set", one)
]
FAKE = """#!/bin/sh
echo "$0 $*" | sed 's|.*/||' >>"$CALLS"
for last; do :; done
"""


@pytest.fixture
def machine(tmp_path):
    """Start a script in an empty folder on a machine whose `meanfield` and `scontrol` are ours; calls are logged."""
    commands, folder = tmp_path / "bin", tmp_path / "a folder"
    commands.mkdir()
    folder.mkdir()

    def provide(name, body):
        (commands / name).write_text(FAKE + body)
        (commands / name).chmod(stat.S_IRWXU)

    provide("meanfield", f"exec '{sys.executable}' -c 'from meanfield.cli import main; main()' \"$@\"\n")
    provide("scontrol", "exit ${REFUSE:-0}\n")
    surroundings = {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "SLURM_JOB_ID": "17",
        "PAUSE": "0",
        "TMPDIR": str(tmp_path),
    }

    def start(script, *args, **changes):
        return subprocess.Popen(
            [SCRIPTS / script, *args],
            cwd=folder,
            env={**surroundings, **changes},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=heed_interrupts,
        )

    start.folder, start.provide, start.log = folder, provide, tmp_path / "calls"
    return start


def calls(machine):
    return [line.split()[:2] for line in machine.log.read_text().splitlines()]


def ends(process, status):
    _, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    return err


def saved_since(path, moment):
    return path.exists() and path.stat().st_mtime_ns > moment


def wait_for_steps(path):
    """The first file is of step 0."""
    wait_for(path.exists)
    begun = path.stat().st_mtime_ns
    wait_for(lambda: saved_since(path, begun))


def check_end(machine, steps):
    """run.h5 has come to its end as if nothing had ever happened."""
    whole = machine.folder.parent / "whole.h5"
    assert in_process("run", *SETUP, "--set", f"run.steps={steps}", "--quiet", "--out", whole)[0] == 0
    assert_same(load(machine.folder / "run.h5"), load(whole))
    assert leftovers(machine.folder) == []


def test_until_done_goes_on_through_time_limits_and_kills(machine):
    """The first life is killed before it has saved, the next ends by --max-time, the third by KILL, the last well."""
    machine.provide(
        "meanfield",
        f"""
life=$(wc -l <"$CALLS")
limit="--max-time 0.1s"
test $life -eq 1 && kill -KILL $$
test $life -ge 4 && limit=
'{sys.executable}' -c 'from meanfield.cli import main; main()' "$@" $limit
status=$?
test $life -eq 3 && kill -KILL $$
exit $status
""",
    )
    err = ends(machine("until-done", "run.h5", *SETUP, "--set", "run.steps=3000", "--quiet"), 0)
    assert [verb for _, verb in calls(machine)] == ["run", "run", "resume", "resume"]
    assert "status 137" in err
    assert "status 75" in err
    check_end(machine, 3000)


def test_until_done_gives_up_where_nothing_is_gained(machine):
    """Bad input at once; failures without a checkpoint after TRIES lives, with the status of the last."""
    assert "data.nn" in ends(machine("until-done", "run.h5", "--set", "data.nn=3"), 2)
    assert len(calls(machine)) == 1
    machine.provide("meanfield", "exit 1\n")
    assert "3 lives in a row" in ends(machine("until-done", "run.h5", TRIES="3"), 1)
    assert len(calls(machine)) == 4
    assert "RUN.h5" in ends(machine("until-done"), 2)


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_to_until_done_saves_and_ends_the_run(machine, name, status):
    """To the script alone, as `kill` does; the next call goes on."""
    path = machine.folder / "run.h5"
    process = machine("until-done", "run.h5", *SETUP, "--set", "run.steps=100000000", "--quiet")
    wait_for_steps(path)
    process.send_signal(getattr(signal, name))
    ends(process, status)
    assert load(path).ensemble.step > 0
    assert leftovers(machine.folder) == []
    assert len(calls(machine)) == 1


@pytest.mark.slow
def test_a_slurm_job_stops_before_its_limit_and_queues_itself_until_done(machine):
    """The scheduler sends USR1 before the limit: saved, queued again, status 75; the last life ends with 0."""
    path, lives = machine.folder / "run.h5", 0
    steps = "run.steps=6000"
    while True:
        before = path.stat().st_mtime_ns if path.exists() else 0
        process = machine("slurm.sbatch", "run.h5", *SETUP, "--set", steps)
        lives += 1
        if lives < 3:
            wait_for(lambda old=before, job=process: job.poll() is not None or saved_since(path, old))
            process.send_signal(signal.SIGUSR1)
            process.wait(timeout=60)
        if process.returncode != 75:
            ends(process, 0)
            break
        ends(process, 75)
    log = calls(machine)
    requeues = [call for call in log if call[0] == "scontrol"]
    assert requeues == [["scontrol", "requeue"]] * (lives - 1)
    assert [verb for name, verb in log if name == "meanfield"] == ["run"] + ["resume"] * (lives - 1)
    assert lives >= 2
    check_end(machine, 6000)


@pytest.mark.slow
def test_a_slurm_job_that_is_cancelled_saves_and_is_not_queued_again(machine):
    """Nor one that fails; and where queueing fails, it says what to do."""
    path = machine.folder / "run.h5"
    arguments = ["slurm.sbatch", "run.h5", *SETUP, "--set", "run.steps=100000000"]
    process = machine(*arguments)
    wait_for_steps(path)
    process.send_signal(signal.SIGTERM)
    ends(process, 143)
    assert load(path).ensemble.step > 0
    ends(machine("slurm.sbatch", "other.h5", "--set", "data.nn=3"), 2)
    assert [name for name, _ in calls(machine)] == ["meanfield"] * 2
    generation, process = path.stat().st_mtime_ns, machine(*arguments, REFUSE="1")
    wait_for(lambda: saved_since(path, generation))
    time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    assert "submit it once more" in ends(process, 1)


def test_a_slurm_job_of_several_tasks_shares_the_ensemble_between_ranks(machine):
    """srun starts them; the signal before the limit saves on all, and the next job goes on, to the same end."""
    pytest.importorskip("mpi4py")
    beside = Path(sys.executable).parent / "mpiexec"
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip("no mpiexec")
    machine.provide("srun", f'exec \'{mpiexec}\' -n "$SLURM_NTASKS" "$@"\n')
    arguments, path = ["slurm.sbatch", "run.h5", *SETUP], machine.folder / "run.h5"
    process = machine(*arguments, "--set", "run.steps=100000000", SLURM_NTASKS="2")
    wait_for_steps(path)
    process.send_signal(signal.SIGUSR1)
    ends(process, 75)
    done = load(path).ensemble.step
    assert in_process("resume", path, "--until", done, "--quiet")[0] == 0
    assert [name for name, _ in calls(machine)] == ["srun", "meanfield", "meanfield", "scontrol"]
    part, whole = load(path), machine.folder / "whole.h5"
    assert in_process("run", *SETUP, "--set", f"run.steps={done}", "--quiet", "--out", whole)[0] == 0
    assert_same(part, load(whole))
