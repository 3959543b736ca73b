"""The power fails: the system calls of a run, as the kernel saw them, replayed to every point onto a model of a disk.

The model is a harsh one. Data that were not flushed are on the disk wholly, not at all, as zeros, or torn in sectors;
changes of names that were not flushed with their folder are there in any selection. Only a flush is relied upon.
"""

import itertools
import os
import random
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from faults import TESTS, uninterrupted

from meanfield.simulation.run import load

RUN = """
import sys
sys.path.insert(0, {tests!r})
from faults import *
if {threads}:
    pour_in_threads()
if {parts}:
    in_parts()
settings = {{**SETTINGS, "checkpoint_every": 2}}
simulate(problem(), ensemble(), Langevin(), steps=4, out={path!r}, threads=1, **settings)
resume({path!r}, more=2, threads=1)
"""
CALLS = (
    "openat,creat,write,pwrite64,writev,pwritev,pwritev2,lseek,truncate,ftruncate,fallocate,fsync,fdatasync,"
    "link,linkat,rename,renameat,renameat2,unlink,unlinkat,close,dup,dup2,mmap,copy_file_range,"
    "clone,clone3"
)
SECTOR = 512


def can_trace():
    return shutil.which("strace") and subprocess.run(["strace", "-qq", "-o", os.devnull, "true"]).returncode == 0


def traced(folder, threads=False, parts=False):
    """The system calls of RUN's process, in the order of their ends: (name, arguments, result), strings as bytes."""
    log, path = folder.parent / "strace.log", folder / "run.h5"
    code = RUN.format(tests=str(TESTS), path=str(path), threads=threads, parts=parts)
    command = ["strace", "-f", "-qq", "-xx", "-s", "100000000", "-e", f"trace={CALLS}", "-o", log]
    subprocess.run([*command, sys.executable, "-c", code], check=True, timeout=120)
    lines = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
    own, begun, whole = {lines[0][0]}, {}, []
    for number, call in lines:
        if call.endswith("<unfinished ...>"):
            begun[number] = call.removesuffix("<unfinished ...>")
            continue
        if " resumed>" in call:
            call = begun[number] + call.split(" resumed>", 1)[1]
        whole.append((number, call))
        thread = re.match(r"clone.*CLONE_THREAD.* = (\d+)$", call)
        if thread:
            own.add(thread[1])
    for number, call in whole:
        found = re.fullmatch(r"(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+).*", call)
        if found and number in own:  # not of another process, which has open files of its own
            arguments = [argument.strip() for argument in found[2].split(", ")]
            yield found[1], [text(one) if one.startswith('"') else one for one in arguments], int(found[3], 0)


def text(argument):
    return bytes.fromhex(argument.strip('"').replace("\\x", ""))


class File:
    """What is flushed, and the writes that are not."""

    def __init__(self):
        self.flushed, self.content = b"", b""

    def write(self, data, at):
        self.content = self.content[:at].ljust(at, b"\0") + data + self.content[at + len(data) :]

    def on_disk(self, chance):
        """What a power cut may leave: everything, nothing, zeros of the full length, and sectors of each."""
        if self.content == self.flushed:
            return [self.content]
        old, new = self.flushed.ljust(len(self.content), b"\0"), self.content
        torn = b"".join((new if chance.random() < 0.5 else old)[k : k + SECTOR] for k in range(0, len(new), SECTOR))
        return [new, self.flushed, bytes(len(new)), torn]


class Disk:
    """A folder as the system shows it, and as a power cut may leave it."""

    def __init__(self, folder):
        self.folder = os.fsencode(folder)
        self.names, self.durable, self.pending = {}, {}, []  # name -> File; changes of names not flushed yet
        self.open, self.at = {}, {}
        self.chance = random.Random(0)

    def change(self, **names):
        self.names.update(names)
        self.pending.append(names)

    def name(self, path):
        inside = isinstance(path, bytes) and os.path.dirname(path) == self.folder
        return os.path.basename(path).decode() if inside else None

    def call(self, call, arguments, result):
        """Follow a system call; whether it changed what a power cut could leave."""
        if result < 0:
            return False
        method = getattr(self, f"do_{call}", None)
        if method:
            return bool(method(arguments, result))
        for one in arguments:
            ours = self.name(one) or (isinstance(one, str) and one.isdigit() and int(one) in self.open)
            assert not ours, f"{call} is not followed"
        return False

    def do_openat(self, arguments, result):
        path, flags = arguments[1], arguments[2]
        if path == self.folder:
            self.open[result] = self
        name = self.name(path)
        if name is None:
            return False
        new = self.names.get(name) is None
        if new:
            self.change(**{name: File()})
        elif "O_TRUNC" in flags:
            self.names[name].content = b""
        self.open[result], self.at[result] = self.names[name], 0
        return new or "O_TRUNC" in flags

    def do_close(self, arguments, result):
        self.open.pop(int(arguments[0]), None)

    def do_mmap(self, arguments, result):
        assert int(arguments[4]) not in self.open, "writes through a mapping are not followed"

    def do_lseek(self, arguments, result):
        self.at[int(arguments[0])] = result

    def do_write(self, arguments, result):
        number = int(arguments[0])
        file = self.open.get(number)
        if file is not None:
            file.write(arguments[1][:result], self.at[number])
            self.at[number] += result
        return file is not None

    def do_pwrite64(self, arguments, result):
        file = self.open.get(int(arguments[0]))
        if file is not None:
            file.write(arguments[1][:result], int(arguments[3]))
        return file is not None

    def do_ftruncate(self, arguments, result):
        file, size = self.open.get(int(arguments[0])), int(arguments[1])
        if file is not None:
            file.content = file.content[:size].ljust(size, b"\0")
        return file is not None

    def do_fsync(self, arguments, result):
        file = self.open.get(int(arguments[0]))
        if file is self:
            for names in self.pending:
                self.durable.update(names)
            self.pending = []
        elif file is not None:
            file.flushed = file.content
        return file is not None

    def do_fdatasync(self, arguments, result):
        """Beside the writing, to save time: writes may be under way in other threads, so nothing may rely on it."""
        return False

    def do_link(self, arguments, result):
        old, new = map(self.name, arguments[:2])
        self.change(**{new: self.names[old]})
        return True

    def do_rename(self, arguments, result):
        old, new = map(self.name, arguments[:2])
        self.change(**{new: self.names[old], old: None})
        return True

    def do_unlink(self, arguments, result):
        name = self.name(arguments[0])
        if name:
            self.change(**{name: None})
        return name is not None

    def after_a_power_cut(self):
        """Every folder that may be found: (name, bytes) of run.h5, run.h5.prev and their parts."""
        for count in range(len(self.pending) + 1):
            for kept in itertools.combinations(self.pending, count):
                names = dict(self.durable)
                for change in kept:
                    names.update(change)
                files = {name: file for name, file in sorted(names.items()) if file and name.startswith("run.h5")}
                files.pop("run.h5.lock", None)
                contents = (file.on_disk(self.chance) for file in files.values())
                yield from (tuple(zip(files, raws, strict=True)) for raws in itertools.product(*contents))


@pytest.fixture(scope="module", params=[{}, {"threads": True}, {"parts": True}], ids=["", "threads", "parts"])
def calls(tmp_path_factory, request):
    if not can_trace():
        pytest.skip("needs strace, and the right to trace")
    folder = tmp_path_factory.mktemp("power") / "folder"
    folder.mkdir()
    return folder, list(traced(folder, **request.param))


def found(path, content, cache):
    """The step of the run that is found after a power cut; None where there is no file at all."""
    if content not in cache:
        for name in os.listdir(path.parent):
            (path.parent / name).unlink()
        for name, raw in content:
            (path.parent / name).write_bytes(raw)
        run = load(path, fall_back=True) if {"run.h5", "run.h5.prev"} & dict(content).keys() else None
        cache[content] = run and run.ensemble
    return cache[content]


def test_after_a_power_cut_at_any_point_a_whole_generation_is_found(calls, tmp_path):
    """None older than what a flush of the folder had confirmed, each with the bits of the run at its step; and
    run.h5 itself is whole, so that nobody has to go back to run.h5.prev."""
    folder, sequence = calls
    disk, cache, points, confirmed = Disk(folder), {}, 0, -1
    path = tmp_path / "run.h5"
    whole = {step: uninterrupted(step).ensemble for step in (0, 2, 4, 6)}
    for call, arguments, result in sequence:
        if not disk.call(call, arguments, result):
            continue
        points += 1
        steps = []
        for content in disk.after_a_power_cut():
            ensemble = found(path, content, cache)
            steps.append(-1 if ensemble is None else ensemble.step)
            assert ensemble is None or np.array_equal(ensemble.theta, whole[ensemble.step].theta)
            assert ensemble is None or "run.h5" in dict(content)
            assert ensemble is None or load_alone(path, content, cache) == ensemble.step
        assert min(steps) >= confirmed, f"{call}: a generation that was on disk is gone"
        confirmed = min(steps)
    assert confirmed == 6
    assert points > 200
    assert {ensemble.step for ensemble in cache.values() if ensemble} == {0, 2, 4, 6}


def load_alone(path, content, cache):
    ensemble = found(path, tuple(one for one in content if one[0] != "run.h5.prev"), cache)
    return ensemble.step


def test_the_model_of_the_disk_is_harsh(calls, tmp_path):
    """Without the flush of the file, or with the names changed before it, a cut is found that loses the run."""
    folder, sequence = calls
    for forgotten in ("fsync of the file", "fsync of the folder"):
        disk, lost, cache = Disk(folder), False, {}
        for call, arguments, result in sequence:
            if call == "fsync":
                is_folder = disk.open.get(int(arguments[0])) is disk
                if is_folder == (forgotten == "fsync of the folder"):
                    continue
            disk.call(call, arguments, result)
            if call == "rename" and not lost and forgotten == "fsync of the file":
                for content in disk.after_a_power_cut():
                    try:
                        found(tmp_path / "run.h5", content, cache)
                    except ValueError:
                        lost = True
        if forgotten == "fsync of the folder":
            lost = () in disk.after_a_power_cut()
        assert lost, forgotten
