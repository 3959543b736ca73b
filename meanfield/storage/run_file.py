"""A run as a file: what a run keeps, and how it is found again. Text and arrays; their meaning is left to others.

- /config: the configuration, TOML text
- /data: X, y, X_test, y_test as far as there are any, inputs `narrowed`, and sha256, the digest of the data set
- /ensemble: w (m, C), u (m, d), step, seed, time, and memory, what an automatic step size remembers; under a dynamics
  with velocities velocity_w and velocity_u, of the shapes of w and u
- /trace: one column a measure, all of one length
- /timing: wall-clock columns, the only ones that two equal runs may differ in
- /snapshots, where any were taken: step, time, reg (k,), index (p,) of the particles, w (k, p, C), u (k, p, d)
- /parts and /latest, where data, trace or snapshots are large: what of them lies in files beside this one (`parts`)
- attributes: format, format_version; bits, the version of the bits of its state; of what wrote the file, the software
  versions, processor, libc, BLAS and NumPy's SIMD extensions (`versions.describe`); and what the run adds: its parent,
  say, or bits_history, under which versions of the bits it was before, and until which step
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import InputError, RunFileError
from . import hdf5, parts, versions
from .hdf5 import RowReader, Stream
from .narrowing import DTYPES, narrowed
from .parts import Parts

FORMAT = "meanfield run"
FORMAT_VERSION = 3  # 3: parts, narrow inputs
_OLDEST_FORMAT = 2  # what was before it no release has written
_LARGE = ("ensemble/w", "ensemble/u", "ensemble/velocity_w", "ensemble/velocity_u")
_Particles = np.ndarray | Stream | RowReader
Read = TypeVar("Read")


@dataclass
class RunContent:
    """All that a run file holds.

    Inputs are uint8, float32 or float64. w (m, C) and u (m, d) are float32 or float64, and may be streams (to save) or
    readers (after a lazy load). `step` counts steps done, `time` is the flow's time, `memory` is what an automatic step
    size remembers. `parts` are those of its file; who saves a run again and again hands on those of the save before.
    """

    config: str
    data: dict[str, np.ndarray]
    data_sha256: str
    w: _Particles
    u: _Particles
    step: int
    time: float
    seed: int
    memory: dict[str, float] = field(default_factory=dict)
    velocity_w: _Particles | None = None
    velocity_u: _Particles | None = None
    trace: dict[str, np.ndarray] = field(default_factory=dict)
    timing: dict[str, np.ndarray] = field(default_factory=dict)
    snapshots: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    parts: Parts = field(default_factory=Parts)


def save(path: str | Path, content: RunContent, *, keep_previous: bool = True) -> None:
    """Replace the run file at `path` whole; the generation before stays as ``PATH.prev``, or none does.

    The versions recorded are those of the process that writes, except `bits`, which is the state's where the content's
    attributes have it. Raises `StorageError` where the file cannot be written, RunFileError for what `load` would
    refuse, ValueError for names that HDF5 cannot have; what stands at `path` is then as it was. `content.parts` are
    brought up to date.
    """
    with whole(path):
        _check(content)
    ensemble = {"w": content.w, "u": content.u, "step": int(content.step), "seed": int(content.seed)}
    velocities = {"velocity_w": content.velocity_w, "velocity_u": content.velocity_u}
    ensemble |= {name: values for name, values in velocities.items() if values is not None}
    tree = {
        hdf5.ATTRIBUTES: {
            **content.attributes,
            **versions.describe(),
            "bits": content.attributes.get("bits", versions.BITS),
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
        },
        "config": content.config,
        "data": {**content.data, "sha256": content.data_sha256},
        "ensemble": {**ensemble, "time": float(content.time), "memory": content.memory},
        "trace": content.trace,
        "timing": content.timing,
    }
    if content.snapshots:
        tree["snapshots"] = content.snapshots
    parts.forget_lost(path, tree, content.parts)
    if not content.parts.data:  # else they are not written
        tree["data"] = {**narrowed(content.data), "sha256": content.data_sha256}
    hdf5.write(path, parts.divide(path, tree, content.parts), keep_previous=keep_previous)
    if not keep_previous:
        with suppress(OSError):  # it stays, and is replaced by the next checkpoint
            hdf5.previous(path).unlink(missing_ok=True)
    parts.remove_unused(path, content.parts, [hdf5.previous(path)])


def remove(path: str | Path) -> None:
    """Remove the run file at `path`, if there is one, and its parts. OSError: it cannot be removed."""
    Path(path).unlink(missing_ok=True)
    parts.remove_unused(path, Parts(), [])


def load(path: str | Path, *, lazy: bool = False) -> RunContent:
    """The run kept at `path`, verified; with `lazy`, w and u stay in the file as `RowReader`.

    Raises RunFileError for a file that is missing, damaged, not a run, or of a newer format.
    """
    tree = hdf5.read(path, rows=_LARGE if lazy else (), accept=_accept(path))
    with whole(path):
        tree["parts"] = parts.join(path, tree)
    return _content(path, tree)


def newest(path: str | Path, read: Callable[[str | Path], Read]) -> tuple[Read, str | None]:
    """What `read` makes of the run at `path`, or of the generation before, if it refuses the newest and not that one.

    With it what was wrong with the newest, None where nothing was. InputError: it refuses both, or the file at `path`
    is a good one, but no run or of another format.
    """
    try:
        return read(path), None
    except _ForeignError:
        raise
    except InputError as error:
        damage = error
    older = hdf5.previous(path)
    try:
        return read(older), f"{damage}; went back to {older.name}"
    except InputError:
        raise damage from None


def whole_parts(path: str | Path) -> tuple[dict[str, Any], list[str]]:
    """What is whole of the run at `path`, as a nested mapping, w and u as `RowReader`; and the names of what is not.

    RunFileError: a file that is missing, no run, or of another format, as far as it still says so.
    """
    tree, lost = hdf5.salvage(path, _LARGE)
    with whole(path):
        parts.salvage(path, tree, lost)
    if hdf5.ATTRIBUTES in tree:
        _accept(path)(tree[hdf5.ATTRIBUTES])
    return tree, lost


@dataclass
class Outline:
    """What there is to say of a run without its data and its particles."""

    config: str
    step: int
    trace: dict[str, np.ndarray]
    timing: dict[str, np.ndarray]


def load_outline(path: str | Path) -> Outline:
    """Read and verify that much of the run at `path`. RunFileError: as `load`."""
    names = ("config", "ensemble/step", "trace", "timing", "parts", "latest")
    tree = hdf5.read(path, names, accept=_accept(path))
    with whole(path):
        parts.join(path, tree, ["history"])
        step = _typed(_typed(tree["ensemble"], dict)["step"], int)
        outline = Outline(_typed(tree["config"], str), step, _typed(tree["trace"], dict), _typed(tree["timing"], dict))
        _check_history(outline.trace, outline.timing)
    return outline


@contextmanager
def whole(path: str | Path) -> Iterator[None]:
    """RunFileError for parts that are missing or of another kind."""
    try:
        yield
    except KeyError as error:
        raise RunFileError(f"{path}: is not a whole run, {error} is missing") from None
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise RunFileError(f"{path}: is not a whole run, {error}") from None


class _ForeignError(RunFileError):
    """A good file, but not one to be read here."""


def _accept(path: str | Path) -> Any:
    def check(attributes: Mapping[str, Any]) -> None:
        if attributes.get("format") != FORMAT:
            raise _ForeignError(
                f"{path}: is an HDF5 file but not a meanfield run of a format since {_OLDEST_FORMAT}, or one that "
                "another program (h5py, h5repack) has written anew, without its checksums"
            )
        version = attributes.get("format_version")
        if not isinstance(version, int):
            raise RunFileError(f"{path}: is not a whole run, 'format_version' is missing")
        if version > FORMAT_VERSION:
            raise _ForeignError(
                f"{path}: has run format {version}, written by meanfield {attributes.get('meanfield', '?')}; this one, "
                f"{versions.describe_versions()['meanfield']}, reads formats up to {FORMAT_VERSION}"
            )
        if version < _OLDEST_FORMAT:
            raise _ForeignError(
                f"{path}: has run format {version}, which is not known; formats begin at {_OLDEST_FORMAT}"
            )

    return check


def _content(path: str | Path, tree: Mapping[str, Any]) -> RunContent:
    """Pick a run out of what was read, or say what is missing."""
    attributes = dict(tree[hdf5.ATTRIBUTES])
    for name in ("format", "format_version"):
        attributes.pop(name)
    attributes.setdefault("bits", versions.FIRST_BITS)
    with whole(path):
        _typed(attributes["bits"], int)
        data, ensemble = _typed(tree["data"], dict).copy(), _typed(tree["ensemble"], dict)
        content = RunContent(
            config=_typed(tree["config"], str),
            data_sha256=_typed(data.pop("sha256"), str),
            data=data,
            w=ensemble["w"],
            u=ensemble["u"],
            step=_typed(ensemble["step"], int),
            seed=_typed(ensemble["seed"], int),
            time=_typed(ensemble["time"], float),
            memory=_typed(ensemble["memory"], dict),
            velocity_w=ensemble.get("velocity_w"),
            velocity_u=ensemble.get("velocity_u"),
            trace=_typed(tree["trace"], dict),
            timing=_typed(tree["timing"], dict),
            snapshots=_typed(tree.get("snapshots", {}), dict),
            attributes=attributes,
            parts=tree["parts"],
        )
        _check(content)
    return content


def _check(content: RunContent) -> None:
    """ValueError: parts of the wrong kind, or numbers that no run has."""
    _check_particles(content.w, content.u)
    _check_velocities(content)
    _check_data(content.data)
    _check_history(content.trace, content.timing)
    numbers = {"step": content.step, "seed": content.seed, "time": content.time, **content.memory}
    for name, value in numbers.items():
        most = math.inf if isinstance(value, float) else 2**64 if name == "seed" else 2**63
        if not 0 <= _typed(value, float | int) < most:
            raise ValueError(f"its {name} is {value}")


def _typed(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} stands in the place of a {getattr(kind, '__name__', kind)}")
    return value


def _check_particles(w: Any, u: Any) -> None:
    for array in (w, u):
        if not isinstance(array, np.ndarray | Stream | RowReader) or len(array.shape) != 2 or array.dtype.kind != "f":
            raise ValueError("w and u are not matrices of floats")
    if w.shape[0] != u.shape[0] or w.dtype != u.dtype or not all((*w.shape, *u.shape)):
        raise ValueError(f"w {w.shape} {w.dtype} and u {u.shape} {u.dtype} do not belong together")


def _check_velocities(content: RunContent) -> None:
    """ValueError: velocities that are not those of the particles."""
    w, u = content.velocity_w, content.velocity_u
    if w is None and u is None:
        return
    _check_particles(w, u)
    if (w.shape, u.shape, w.dtype) != (content.w.shape, content.u.shape, content.w.dtype):  # type: ignore[union-attr]
        raise ValueError("its velocities are not of its particles")


def _check_data(data: Mapping[str, Any]) -> None:
    if data.keys() not in ({"X", "y"}, {"X", "y", "X_test", "y_test"}):
        raise ValueError(f"its data are {', '.join(sorted(data))}")
    for end in ("", "_test") if len(data) > 2 else ("",):
        X, y = _typed(data[f"X{end}"], np.ndarray), _typed(data[f"y{end}"], np.ndarray)
        kinds = X.dtype in DTYPES and (y.dtype in (np.int64, np.float64) or y.dtype.kind == "U")
        if not kinds or X.ndim != 2 or y.ndim not in (1, 2) or len(X) != len(y) or X.shape[1] == 0:
            raise ValueError(f"X{end} {X.shape} {X.dtype} and y{end} {y.shape} do not belong together")


def _check_history(trace: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
    """ValueError: not columns of one length, the steps among them ascending."""
    columns = {**{f"timing/{name}": values for name, values in timing.items()}, **trace}
    for column, values in columns.items():
        if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in "if":
            raise ValueError(f"{column} is not a column of numbers")
    lengths = {column: len(values) for column, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns of its trace have unequal lengths: {lengths}")
    if not columns:
        return
    if "step" not in trace or "seconds" not in timing or not np.isfinite(timing["seconds"]).all():
        raise ValueError("its trace has no column of steps, or none of seconds")
    steps = trace["step"]
    if steps.dtype.kind != "i" or np.any(np.diff(steps) <= 0) or np.any(steps < 0):
        raise ValueError("the steps of its trace do not ascend")
