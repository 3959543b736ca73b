"""Where a run may write: new names, and refusals that say the way out."""

from __future__ import annotations

import os
import shlex
from datetime import datetime
from pathlib import Path

from ..errors import InputError, RunFileError
from ..storage.lock import writer
from ..storage.parts import LONGEST_SUFFIX
from ..storage.run_file import load_outline
from .toml import parse_config


def new_name(folder: str | Path = ".") -> Path:
    """A name by the date for a new run in `folder`, "run-YYYYMMDD-HHMMSS.h5", that no file there has yet."""
    stem = datetime.now().strftime("run-%Y%m%d-%H%M%S")
    taken = set(os.listdir(folder)) if os.path.isdir(folder) else set()
    number, name = 1, f"{stem}.h5"
    while name in taken or f"{name}.lock" in taken:
        number += 1
        name = f"{stem}-{number}.h5"
    return Path(folder) / name


class OutputExistsError(InputError):
    """A file stands where a run was to be written; `progress` is "step 500 of 4000" if it is an unfinished run."""

    def __init__(self, path: str | Path, progress: str | None = None) -> None:
        go_on = f"it is unfinished ({progress}): go on with resume({str(path)!r}), or " if progress else ""
        super().__init__(f"out = {path}: exists already; {go_on}overwrite it with force=True")
        self.path, self.progress = path, progress

    def __reduce__(self) -> tuple[type[OutputExistsError], tuple[str | Path, str | None]]:
        return OutputExistsError, (self.path, self.progress)


def check_output(path: str | Path, force: bool = False) -> None:
    """Raise InputError, with the way out, unless a run can be written to `path`; over a present file only by force."""
    target = Path(os.path.realpath(absolute(path)))
    if not os.path.exists(target.parent):
        raise InputError(f"out = {path}: the folder {target.parent} does not exist; make it first")
    if not target.parent.is_dir():
        raise InputError(f"out = {path}: {target.parent} is not a folder")
    length, most = len(os.fsencode(target.name)), os.pathconf(target.parent, "PC_NAME_MAX") - LONGEST_SUFFIX
    if length > most:
        raise InputError(f"out = {path}: the name has {length} bytes; must have at most {most}")
    if target.is_dir():
        raise InputError(f"out = {path}: is a folder; give the name of a file, such as {new_name(path)}")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise InputError(f"out = {path}: the folder {target.parent} is not writable")
    if not force and target.exists():
        if who := writer(path):
            raise RunFileError(f"out = {path}: is being written by {who}; give another name")
        raise OutputExistsError(path, _unfinished(path))


def absolute(path: str | Path) -> Path:
    """A path that means the same after the working folder has changed.

    InputError: what is no path, and one in a working folder that was removed.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"out = {path!r}: must be a path")
    if "\0" in str(path):
        raise InputError(f"out = {path}: a path has no NUL character")
    try:
        return Path(os.path.abspath(path))
    except FileNotFoundError:
        raise InputError(f"out = {path}: the working folder was removed; cd elsewhere, or give a full path") from None


def quoted(path: str | Path) -> str:
    """A path as a shell takes it for the argument of a command, also where it begins with a dash."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def _unfinished(path: str | Path) -> str | None:
    """ "step 500 of 4000", if the file is a run that has steps to go."""
    try:
        outline = load_outline(path)
        steps = parse_config(outline.config, str(path)).run.steps
        return f"step {outline.step} of {steps}" if outline.step < steps else None
    except InputError:
        return None
