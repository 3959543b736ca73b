#!/usr/bin/env python3
"""Coverage-guided fuzzing of whatever reads a file: a reader may raise InputError, in one line, and nothing else.

    pip install atheris
    python scripts/fuzz_readers.py run corpus/ -max_total_time=600      # options of libFuzzer; stops at what it finds
    python scripts/fuzz_readers.py run crash-0123abcd                   # again what was found

Targets:
  run      the table of contents of a run file, all digests put right so that what lies behind them is reached
  tree     what a run file holds: names, types, shapes and values changed, each under a right SHA-256
  config   TOML, and an override as of --set
  csv      a table of examples
  npz      arrays of NumPy in a ZIP, whose CRCs are put right
  h5       arrays in the user's own HDF5, which has no checksums
  ledger   a table of results of a sweep
"""

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["meanfield"]):
    from meanfield.datasets import load
    from meanfield.simulation import config, run, toml
    from meanfield.storage import csv_table, hashing, hdf5
import h5py
import numpy as np

from meanfield.errors import InputError

FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
EXAMPLE = Path(__file__).parents[1] / "tests/formats/v2.h5"


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


def tree_target(data: bytes) -> None:
    chance = atheris.FuzzedDataProvider(data)
    tree = hdf5.read(EXAMPLE)
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
    path = FOLDER / "run.h5"
    try:
        with np.errstate(all="ignore"):
            hdf5.write(path, tree)
    except Exception:
        return  # has no form in a file
    may_refuse(run.load, path)


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


def read_source(name: str, data: bytes) -> None:
    path = FOLDER / name
    path.write_bytes(data)
    section = config.Config.model_validate({"data": {"source": str(path)}}).data
    with np.errstate(all="ignore"):
        found = may_refuse(load.load_dataset, section)
    assert found is None or np.isfinite(found.X).all()


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
    elif target == "csv":
        (folder / "good").write_text("a,b,y\n1,2.5,-1\n-3e4,0,1\n")
        (folder / "words").write_text('a;"b";y\n"1";2,yes\n\n0,1,no\n')
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


TARGETS = {
    "run": run_target,
    "tree": tree_target,
    "config": config_target,
    "ledger": ledger_target,
    "npz": npz_target,
    "csv": lambda data: read_source("d.csv", data),
    "h5": lambda data: read_source("d.h5", data),
}


def main() -> None:
    target = sys.argv[1] if len(sys.argv) > 1 else ""
    if target not in TARGETS:
        sys.exit(f"{target!r} is no target: must be one of {', '.join(TARGETS)}")
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
