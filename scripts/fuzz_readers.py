#!/usr/bin/env python3
"""Coverage-guided fuzzing of whatever reads a file: a reader may raise InputError, in one line, and nothing else.

    pip install atheris
    python scripts/fuzz_readers.py all --minutes 30                     # every target in turn, a line for each
    python scripts/fuzz_readers.py run corpus/ -max_total_time=600      # options of libFuzzer; stops at what it finds
    python scripts/fuzz_readers.py run crash-0123abcd                   # again what was found

Targets:
  run      the table of contents of a run file, all digests put right so that what lies behind them is reached
  tree     what a run file holds: names, types, shapes and values changed, each under a right SHA-256; loaded, outlined
           and salvaged
  config   TOML, and an override as of --set
  csv      a table of examples, in every dialect and with every setting of columns that there is
  arff     the same as ARFF
  svm      the same as LIBSVM
  proof    what a proof file holds, changed as in "tree"
  npz      arrays of NumPy in a ZIP, whose CRCs are put right
  h5       arrays in the user's own HDF5, which has no checksums
  ledger   a table of results of a sweep
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["meanfield", "scipy.io.arff"]):
    import scipy.io.arff  # noqa: F401

    from meanfield.datasets import load
    from meanfield.optimality import proof_file
    from meanfield.simulation import config, run, salvage, toml
    from meanfield.storage import csv_table, hashing, hdf5, run_file
import h5py
import numpy as np

from meanfield.errors import InputError

FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
EXAMPLE = Path(__file__).parents[1] / "tests/formats/v3-snapshots.h5"
for part in EXAMPLE.parent.glob(f"{EXAMPLE.name}.part-*"):
    shutil.copy(part, FOLDER)


MAKE_PROOF = """
import sys
import numpy as np
from meanfield import Ensemble, Problem, certify
from meanfield.optimality.proof_file import save_proof
problem, start = Problem(np.eye(2), [1, -1], reg=0.1), Ensemble.sphere(64, 2)
save_proof(sys.argv[1], problem, start, certify(problem, start))
"""


def may_refuse(reader: Callable[..., Any], *arguments: Any) -> Any:
    """Call a reader; its refusal must be one line of printable text."""
    try:
        return reader(*arguments)
    except InputError as error:
        words = str(error)
    assert words.isprintable(), repr(words)
    return None


# ---- run files -------------------------------------------------------------------------------------------------------


def run_target(data: bytes) -> None:
    """A good run file with a table of contents made of these bytes, and every digest put right."""
    raw, path = EXAMPLE.read_bytes(), FOLDER / "run.h5"
    size, digest = json.loads(raw.split(b"\n")[1])["head"], ""
    with contextlib.suppress(Exception):  # no table: refused before any other digest is looked at
        data = json.dumps(redigested(json.loads(data), raw)).encode()
    with contextlib.suppress(Exception), open(EXAMPLE, "rb") as file:
        digest = hdf5._digest_around(hdf5._places(json.loads(data), len(raw)), size, len(raw), file.fileno())
    head = hdf5._head(size, len(raw), digest, data)[:size]  # a table too long is cut off
    path.write_bytes(head + raw[size:])
    may_refuse(run.load, path)


def redigested(table: dict[str, Any], raw: bytes) -> dict[str, Any]:
    """Each array that there is gets the digest of its bytes."""
    for entry in table.values():
        with contextlib.suppress(Exception):
            kind, shape, offset, _ = entry
            array = np.frombuffer(raw, np.dtype(kind), int(np.prod(shape)), offset)
            entry[3] = hashing.digest(array.dtype, tuple(shape), [array])
    return table


# ---- the contents of a run file --------------------------------------------------------------------------------------


def odd_value(chance: Any) -> Any:
    """A leaf that storage can write, and a run file should not hold there."""
    kind = chance.ConsumeIntInRange(0, 6)
    if kind == 0:
        return chance.ConsumeInt(8)
    if kind == 1:
        return chance.ConsumeFloat()
    if kind == 2:
        return chance.ConsumeUnicodeNoSurrogates(30).rstrip("\0")
    if kind == 3:
        return {}
    shape = [chance.ConsumeIntInRange(0, 4) for _ in range(chance.ConsumeIntInRange(0, 3))]
    dtype = ["f4", "f8", "i8", "u1", "?", "S3", "f2", ">f8", "i4"][chance.ConsumeIntInRange(0, 8)]
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(chance.ConsumeBytes(count).ljust(count, b"\1"), dtype).reshape(shape)


def slightly_changed(value: Any, chance: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "fiu":
        value = value.copy()
        value.reshape(-1)[chance.ConsumeIntInRange(0, value.size - 1)] = (
            chance.ConsumeFloat() if value.dtype.kind == "f" else chance.ConsumeInt(2) % 128
        )
        return value[: chance.ConsumeIntInRange(0, len(value))] if chance.ConsumeBool() and value.ndim else value
    if isinstance(value, str):
        at = chance.ConsumeIntInRange(0, len(value))
        words = value[:at] + chance.ConsumeUnicodeNoSurrogates(10) + value[at + chance.ConsumeIntInRange(0, 10) :]
        return words.rstrip("\0")
    return odd_value(chance)


def change(tree: dict[str, Any], chance: Any) -> None:
    """Take away, add, exchange or change up to four of its things."""
    for _ in range(chance.ConsumeIntInRange(1, 4)):
        group = tree
        while True:
            name = sorted(group)[chance.ConsumeIntInRange(0, len(group) - 1)] if group else "x"
            if not isinstance(group.get(name), dict) or chance.ConsumeIntInRange(0, 7) == 0:
                break
            group = group[name]
        action = chance.ConsumeIntInRange(0, 4)
        if action == 0:
            group.pop(name, None)
        elif action == 1:
            group[chance.ConsumeUnicodeNoSurrogates(8)] = odd_value(chance)
        else:
            group[name] = odd_value(chance) if action == 2 else slightly_changed(group.get(name), chance)


def changed_target(data: bytes, example: Path, reader: Callable[..., Any]) -> None:
    tree, path = hdf5.read(example), FOLDER / "changed.h5"
    change(tree, atheris.FuzzedDataProvider(data))
    try:
        with np.errstate(all="ignore"):
            hdf5.write(path, tree)
    except Exception:
        return  # has no form in a file
    with np.errstate(all="ignore"):
        may_refuse(reader, path)


def open_run(path: Path) -> None:
    """All that reads a run."""
    salvaged = FOLDER / "salvaged.h5"
    for file in FOLDER.glob("salvaged.h5*"):
        file.unlink()
    may_refuse(salvage.salvage, path, salvaged)
    may_refuse(run_file.load_outline, path)
    may_refuse(run.load, path)


def a_proof() -> Path:
    """A proof of two points, made by a process of its own: what is instrumented cannot be compiled."""
    path = FOLDER / "example.proof"
    if not path.exists():
        subprocess.run([sys.executable, "-c", MAKE_PROOF, path], check=True)
    return path


def proof_target(data: bytes) -> None:
    """All of a verification but its compiled end."""
    proof_file.check_proof = lambda *_: None  # type: ignore
    changed_target(data, a_proof(), proof_file.verify_proof)


# ---- the user's files ------------------------------------------------------------------------------------------------


def config_target(data: bytes) -> None:
    chance = atheris.FuzzedDataProvider(data)
    override = chance.ConsumeString(chance.ConsumeIntInRange(0, 40))
    path = FOLDER / "c.toml"
    path.write_bytes(chance.ConsumeBytes(1 << 16))
    found = may_refuse(toml.load_config, path)
    may_refuse(toml.load_config, None, [override])
    if found:
        assert toml.parse_config(toml.to_toml(found), "again") == found


def read_source(name: str, data: bytes, **settings: Any) -> None:
    path = FOLDER / name
    path.write_bytes(data)
    section = config.Config.model_validate({"data": {"source": str(path), **settings}}).data
    with np.errstate(all="ignore"):
        found = may_refuse(load.load_dataset, section)
    assert found is None or np.isfinite(found.X).all()


SETTINGS: dict[str, tuple[Any, ...]] = {
    "missing": ("refuse", "drop", "mean"),
    "standardize": (False, True),
    "bias": (False, True),
    "test_fraction": (0.25, 0.0, 0.9),
    "label": (None, 0, 1, "y", "a"),
    "drop": ([], [0], ["b"], [0, 1, 2]),
    "one_hot": (False, True, [0], ["b"]),
    "header": (None, True, False),
    "delimiter": (None, ",", ";", "\t", " ", "|"),
}


def table_target(name: str, data: bytes, count: int) -> None:
    """The first `count` settings, each chosen by a byte; then the file."""
    chosen = zip(SETTINGS.items(), data[:count].ljust(count, b"\0"), strict=False)
    read_source(name, data[count:], **{key: values[byte % len(values)] for (key, values), byte in chosen})


def npz_target(data: bytes) -> None:
    """After four bytes that say how: a whole file, or its two members, with right CRCs and perhaps a lie about them."""
    packed, lie, cut, method, body = *data[:4].ljust(4, b"\0"), data[4:]
    if not packed % 2:
        read_source("d.npz", body)
        return
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[method % 2]) as archive:
        for name, member in (("X.npy", body[: 4 * cut]), ("y.npy", body[4 * cut :])):
            archive.writestr(name, member)
            info = archive.getinfo(name)
            if lie % 4 == 1:
                info.file_size ^= 1 << method % 32
            elif lie % 4 == 2:
                info.compress_type = method % 20
            elif lie % 4 == 3:
                info.CRC ^= 1
    read_source("d.npz", raw.getvalue())


def ledger_target(data: bytes) -> None:
    path = FOLDER / "t.csv"
    path.write_bytes(data)
    found = may_refuse(csv_table.Ledger, path, "fuzz", ["a", "b"])
    for row in found.rows.values() if found else ():
        for text in row.values():
            csv_table.parse(text)


def seeds(target: str, folder: Path) -> None:
    """A few good files to begin with."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((6, 3)), np.array([1, -1, 1, 1, -1, -1])
    if target == "run":
        raw = EXAMPLE.read_bytes()
        (folder / "good").write_bytes(raw.split(b"\n")[2])
    elif target == "config":
        (folder / "good").write_bytes(b"\0" + toml.to_toml(config.Config()).encode())
    elif target in TABLES:
        for k, text in enumerate(TABLES[target]):
            (folder / f"plain{k}").write_bytes(bytes(len(SETTINGS)) + text)
            (folder / f"other{k}").write_bytes(bytes([1] * len(SETTINGS)) + text)
    elif target == "npz":
        whole, members = io.BytesIO(), io.BytesIO()
        np.savez(whole, X=X, y=y)
        (folder / "whole").write_bytes(bytes(4) + whole.getvalue())
        np.save(members, X)
        cut = members.tell() // 4
        np.save(members, y)
        for method in (0, 1):
            (folder / f"members{method}").write_bytes(bytes([1, 0, cut, method]) + members.getvalue())
    elif target == "h5":
        with h5py.File(folder / "good", "w") as file:
            file["X"], file["y"] = X, y
        with h5py.File(folder / "packed", "w") as file:
            file.create_dataset("X", data=X, chunks=(2, 2), compression="gzip", shuffle=True)
            file["y"] = np.array(["a", "b"] * 3, dtype=object)
    elif target == "ledger":
        (folder / "good").write_text("# fuzz\na,b,c\n1,2.5,x\n2,nan,True\n")


TABLES = {
    "csv": (b"a,b,y\n1,2.5,-1\n-3e4,0,1\n", b'a;"b";y\n"1";2,yes\n\n0,?,no\n', b"# x\n1 2 0\n3 NaN 1\n"),
    "arff": (b"@relation r\n@attribute a numeric\n@attribute y {no,'y s'}\n@data\n1.5,no\n?,'y s'\n",),
    "svm": (b"1 1:0.5 3:-2e3 # c\n-1 2:1\n", b"0 qid:1 1:1\n"),
}
TARGETS: dict[str, Callable[[bytes], None]] = {
    "run": run_target,
    "tree": lambda data: changed_target(data, EXAMPLE, open_run),
    "proof": proof_target,
    "config": config_target,
    "ledger": ledger_target,
    "npz": npz_target,
    "csv": lambda data: table_target("d.csv", data, len(SETTINGS)),
    "arff": lambda data: table_target("d.arff", data, len(SETTINGS) - 2),
    "svm": lambda data: table_target("d.svm", data, 4),
    "h5": lambda data: read_source("d.h5", data),
}


def every_target(minutes: float) -> int:
    """Each in a process of its own; a line of what it did, and what it found lies in the present folder."""
    found = 0
    for target in TARGETS:
        options = f"-max_total_time={60 * minutes / len(TARGETS):.0f}", "-timeout=60", f"-artifact_prefix={target}-"
        command = [sys.executable, __file__, target, str(FOLDER / f"corpus-{target}"), *options]
        ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
        found += ended.returncode != 0
        lines = [line for line in ended.stderr.splitlines() if line.startswith(("Done", " === ", "AssertionError"))]
        print(f"{target:8}{'; '.join(lines) if ended.returncode == 0 else ended.stderr[-1500:]}", flush=True)
    return found


def main() -> None:
    target = sys.argv[1] if len(sys.argv) > 1 else ""
    if target == "all":
        found = every_target(float(sys.argv[sys.argv.index("--minutes") + 1]) if "--minutes" in sys.argv else 30.0)
        shutil.rmtree(FOLDER, ignore_errors=True)
        sys.exit(found and f"{found} of {len(TARGETS)} targets found something")
    if target not in TARGETS:
        sys.exit(f"{target!r} is no target: must be all, or one of {', '.join(TARGETS)}")
    corpus = [Path(one) for one in sys.argv[2:] if not one.startswith("-")]
    for folder in corpus[:1]:
        if not folder.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            seeds(target, folder)
    try:
        atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[target])
        atheris.Fuzz()
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


if __name__ == "__main__":
    main()
