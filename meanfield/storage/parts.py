"""What of a run is large and will not change: in files of its own beside it, each written once, so that a checkpoint
costs what has changed.

A part holds arrays in their groups, as a run file does, and is called ``RUN.part-`` and twelve digits of the SHA-256 of
what it holds. The run's /parts lists them, JSON: [kind, name, SHA-256, rows] of one after the other. The part of kind
"data" has all of it. Those of the "history" have rows of trace and timing, those of "snapshots" some snapshots, and
/latest what came after them. Where all these are always looked for, links lead there.

Parts are flushed to disk before the run file that names them. One that no generation names any more is removed.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, RunFileError, printable
from . import hdf5
from .hashing import digest
from .links import Elsewhere
from .streams import Stacked

LARGE = 1 << 23  # bytes of data, or of what came since the last part, that are put into a part
LONGEST_SUFFIX = len(".part-") + 12
_SUFFIX = re.compile(r"\.part-[0-9a-f]{12}")
KINDS = {"data": ("data",), "history": ("trace", "timing"), "snapshots": ("snapshots",)}
_OF_ALL_ROWS = ("snapshots/index",)  # stays in the run file
Tree = dict[str, Any]
Rows = np.ndarray | Stacked


@dataclass(frozen=True)
class Part:
    """One of them: where it lies, the SHA-256 of what it holds, how many rows, and the paths of its arrays."""

    path: Path
    sha256: str
    rows: int
    arrays: frozenset[str] = frozenset()

    def holds(self, arrays: Collection[str]) -> bool:
        """Whether it is there, and holds these arrays or rows of them."""
        return self.arrays == {*arrays} and self.path.exists()


@dataclass
class Parts:
    """Those of a run, in the order of their rows: at most one of its data, any number of its history and snapshots."""

    data: list[Part] = field(default_factory=list)
    history: list[Part] = field(default_factory=list)
    snapshots: list[Part] = field(default_factory=list)

    def of(self, kind: str) -> list[Part]:
        return {"data": self.data, "history": self.history, "snapshots": self.snapshots}[kind]

    @property
    def names(self) -> set[str]:
        return {part.path.name for kind in KINDS for part in self.of(kind)}


def forget_lost(path: str | Path, tree: Tree, parts: Parts) -> None:
    """Forget parts that the run at `path` cannot name: those of another name of it, of other arrays, or taken away.

    `parts` are those of the save before, or of the file that the run was loaded from; tree: the content to be saved.
    """
    run = Path(os.path.realpath(path))
    for kind, groups in KINDS.items():
        known, arrays = parts.of(kind), _arrays(tree, groups)
        if not all(part.path == _place(run, part.sha256) and part.holds(arrays) for part in known):
            known.clear()


def divide(path: str | Path, tree: Tree, parts: Parts) -> Tree:
    """The content of the run file at `path` with what is large in parts: those there are, and new ones, written here.

    `parts` are the run's own, and are brought up to date. StorageError: one cannot be written.
    """
    run, divided = Path(os.path.realpath(path)), dict(tree)
    for kind, groups in KINDS.items():
        known, arrays = parts.of(kind), _arrays(tree, groups)
        latest = _latest(kind, known, arrays)
        if sum(values.nbytes for values in latest.values()) >= LARGE:
            known.append(_write(run, latest))
            latest = _latest(kind, known, arrays)
        if known:
            for group in groups:
                divided[group] = dict(tree[group])
            _link(divided, known, arrays, latest)
    if parts.names:
        listed = [(kind, part) for kind in KINDS for part in parts.of(kind)]
        divided["parts"] = json.dumps([[kind, part.path.name, part.sha256, part.rows] for kind, part in listed])
    return divided


def _arrays(tree: Mapping[str, Any], groups: Iterable[str]) -> dict[str, Any]:
    """What may go into parts of some groups, by its paths."""
    return {
        f"{group}/{name}": value
        for group in groups
        for name, value in tree.get(group, {}).items()
        if isinstance(value, Rows) and f"{group}/{name}" not in _OF_ALL_ROWS
    }


def _latest(kind: str, known: Sequence[Part], arrays: Mapping[str, Rows]) -> dict[str, Rows]:
    """What none of these parts holds."""
    if kind == "data" and known:
        return {}
    done = sum(part.rows for part in known)
    return {name: values[done:] for name, values in arrays.items()}


def _link(tree: Tree, known: Sequence[Part], arrays: Mapping[str, Rows], latest: Mapping[str, Rows]) -> None:
    """Put links in the places of arrays, and the latest of them into a group of their own."""
    for path, values in arrays.items():
        group, _, name = path.partition("/")
        sources = [(part.path.name, path, part.rows) for part in known]
        if path in latest:
            tree.setdefault("latest", {}).setdefault(group, {})[name] = latest[path]
            sources += [(".", f"latest/{path}", len(latest[path]))] if len(latest[path]) else []
        tree[group][name] = Elsewhere(values.shape, values.dtype, sources)


def _place(run: Path, sha256: str) -> Path:
    return run.with_name(f"{run.name}.part-{sha256[:12]}")


def _write(run: Path, arrays: Mapping[str, Rows]) -> Part:
    sha256 = _identity(arrays)
    part = Part(_place(run, sha256), sha256, len(next(iter(arrays.values()))), frozenset(arrays))
    tree: Tree = {}
    for path, values in arrays.items():
        group, _, name = path.partition("/")
        tree.setdefault(group, {})[name] = values
    hdf5.write(part.path, tree, owner=run)
    return part


def _identity(arrays: Mapping[str, Rows]) -> str:
    """SHA-256 of the names, types, shapes and bytes of arrays."""
    digests = {}
    for name, one in arrays.items():
        rows = one.chunks if isinstance(one, Stacked) else [np.ascontiguousarray(one)]
        digests[name] = digest(one.dtype, one.shape, rows)
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


# ---- reading ---------------------------------------------------------------------------------------------------------


def join(path: str | Path, tree: Tree, kinds: Collection[str] = tuple(KINDS)) -> Parts:
    """Put into what was read of the run at `path` what its parts hold of these kinds; the parts, for `divide`.

    RunFileError: one that is not there, damaged, or not the one that was written with the run.
    """
    parts, latest = _listed(path, tree), tree.pop("latest", {})
    for kind in kinds:
        known, pieces = parts.of(kind), []
        for k, part in enumerate(known):
            pieces.append(_read(path, part))
            known[k] = replace(part, arrays=frozenset(pieces[-1]))
        if known:
            pieces += [_arrays(latest, KINDS[kind])] if kind != "data" else []
            _put(tree, _joined(path, pieces))
    return parts


def salvage(path: str | Path, tree: Tree, lost: list[str]) -> None:
    """`join` of what is whole, for a run that is damaged or has lost parts; adds the names of what is not to `lost`."""
    try:
        parts, latest = _listed(path, tree), tree.pop("latest", {})
    except RunFileError:
        lost.append("parts")
        return
    for kind, groups in KINDS.items():
        pieces = []
        for part in parts.of(kind):
            try:
                found, missing = hdf5.salvage(part.path)
            except RunFileError:
                found, missing = {}, ["all"]
            lost += [f"{part.path.name}: {name}" for name in missing]
            pieces.append(_arrays(found, groups))
        if pieces:
            pieces += [_arrays(latest, groups)] if kind != "data" else []
            names = [name for name in pieces[-1] if all(name in piece for piece in pieces)]
            _put(tree, _joined(path, [{name: piece[name] for name in names} for piece in pieces]))


def _listed(path: str | Path, tree: Tree) -> Parts:
    """The parts that a run names, of which it is not known yet what they hold. RunFileError: no such list."""
    run, parts = Path(os.path.realpath(path)), Parts()
    if "parts" not in tree:
        return parts
    try:
        for kind, name, sha256, rows in json.loads(tree.pop("parts")):
            if not _SUFFIX.fullmatch(name[-LONGEST_SUFFIX:]) or name in parts.names:
                raise ValueError(name)
            parts.of(kind).append(Part(run.with_name(name), sha256, rows))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise RunFileError(f"{path}: is not a whole run, its list of parts is none") from None
    return parts


def _read(path: str | Path, part: Part) -> dict[str, np.ndarray]:
    """The arrays of a part, verified. RunFileError: they are not there, or not those that the run was written with."""
    if not part.path.exists():
        raise RunFileError(
            f"{path}: its part {printable(part.path.name)} is not beside it: what is moved, copied or sent is a run "
            "file with its parts"
        )
    try:
        tree = hdf5.read(part.path)
        arrays = _arrays(tree, tree)
    except RunFileError as error:
        raise RunFileError(f"{path}: a part of it is damaged: {error}") from None
    if _identity(arrays) != part.sha256 or len(next(iter(arrays.values()))) != part.rows:
        raise RunFileError(f"{path}: its part {part.path.name} is not the one that it was written with")
    return arrays


def _joined(path: str | Path, pieces: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays whose rows come in pieces, in the order of the last of them. RunFileError: they do not fit together."""
    if len(pieces) == 1:
        return dict(pieces[0])
    if any(piece.keys() != pieces[-1].keys() for piece in pieces):
        raise RunFileError(f"{path}: its parts are of other columns than what came after them")
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[-1]}


def _put(tree: Tree, arrays: Mapping[str, np.ndarray]) -> None:
    for path, values in arrays.items():
        group, _, name = path.partition("/")
        if not isinstance(tree.setdefault(group, {}), dict):
            raise TypeError(f"{group} is no group")
        tree[group][name] = values


# ---- removing --------------------------------------------------------------------------------------------------------


def remove_unused(path: str | Path, parts: Parts, generations: Iterable[str | Path]) -> None:
    """Remove parts of the run at `path` that neither it nor these generations of it name; none, if one is damaged."""
    run = Path(os.path.realpath(path))
    with suppress(OSError, InputError):
        length = len(run.name)
        beside = {
            name for name in os.listdir(run.parent) if name[:length] == run.name and _SUFFIX.fullmatch(name[length:])
        }
        if not beside - parts.names:
            return
        for one in generations:
            if os.path.exists(one):
                beside -= _listed(one, hdf5.read(one, ("parts",))).names
        for name in beside - parts.names:
            run.with_name(name).unlink()
