"""`compiled`: numba's nopython mode without the GIL, and a cache of machine code that cannot break a run.

numba's own cache fails at import where no folder is writable, never recovers from a file cut short, mixes up
signatures when processes race, and does not notice an edit in another file of the package. Here each compiled
signature is one file, replaced whole, carrying its own SHA-256, in a folder named after the sources it was made from;
whatever cannot be read is compiled again, and whatever cannot be written is compiled each time. What is read there is
executed: a file or folder that anybody else could have changed is passed over.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import pickle
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from ..errors import InputError
from .telling import tell

if numba.config.DISABLE_JIT:
    raise InputError("NUMBA_DISABLE_JIT is set: there is nothing here that runs without being compiled; unset it")

_PACKAGE = Path(__file__).resolve().parents[1]
_COMPILES = (b"compiled", b"intrinsic", b"register_jitable", b"overload")  # in the files that make machine code
_NOT_OURS = "not this user's alone"
_said: set[str] = set()


def announce(kind: str, message: str) -> None:
    """Tell the user once per process; replace this function to silence or redirect it."""
    if kind not in _said:
        _said.add(kind)
        tell(message)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile `function` on first use (nopython, GIL released) and keep the machine code on disk."""
    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = _CodeCache(function)
    return dispatcher


def cache_folder() -> Path:
    """Where machine code is kept: $NUMBA_CACHE_DIR, else the user's cache folder, else a temporary one."""
    return _place()[0]


def cache_is_usable() -> bool:
    """Whether machine code can be kept in `cache_folder`, which is made where it is missing."""
    try:
        _make_folder()
    except OSError:
        return False
    return os.access(cache_folder(), os.W_OK)


def _make_folder() -> None:
    """OSError: not possible, or in a temporary folder, and not this user's alone."""
    folder, shared = _place()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if shared and not _is_private(folder):
        raise PermissionError(errno.EACCES, _NOT_OURS)


def _place() -> tuple[Path, bool]:
    """The cache folder, and whether it lies where every user may make files."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return Path(os.environ["NUMBA_CACHE_DIR"]) / "meanfield", False
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "meanfield", False
    except RuntimeError:  # no home folder
        return Path(tempfile.gettempdir()) / f"meanfield-{os.getuid()}", True


def _is_private(folder: Path) -> bool:
    """Whether a folder, and no link to one, belongs to this user and is closed to all others."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


@contextmanager
def _trusted(path: Path | str, flags: int = os.O_RDONLY, folder: int | None = None) -> Iterator[int]:
    """A descriptor of a file or folder, no link, that only this user, or the superuser, can have made or changed.

    What is read there is executed. PermissionError: others can write to it, or it is theirs.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if status.st_uid not in (0, os.getuid()) or status.st_mode & 0o022:
            raise PermissionError(errno.EACCES, _NOT_OURS)
        yield descriptor
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    """What is kept in a file. OSError: it is not there, or others could have put it there."""
    if _place()[1] and not _is_private(cache_folder()):
        raise PermissionError(errno.EACCES, _NOT_OURS)
    with (
        _trusted(path.parent, os.O_DIRECTORY) as folder,
        _trusted(path.name, folder=folder) as descriptor,
        os.fdopen(os.dup(descriptor), "rb") as file,
    ):
        return file.read()


@functools.cache
def _sources_digest(folder: Path) -> str:
    """Digest of every source that takes part in compiling, in the package or beside the function: in `folder`.

    Functions call into other folders (dynamics into engine, kernels into runtime), so an edit anywhere makes new code
    everywhere. The package's hundred files are read once a process, in a few milliseconds.
    """
    digest = hashlib.sha256(f"{numba.__version__} {sys.version}".encode())
    folders = {folder, *(Path(name).resolve() for name, _, _ in os.walk(_PACKAGE, followlinks=True))}
    for path in sorted(path for place in folders for path in place.glob("*.py")):
        source = path.read_bytes()
        if any(word in source for word in _COMPILES):
            digest.update(source)
    return digest.hexdigest()[:16]


class _CodeCache(_Cache):
    """One file per compiled signature; never raises."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._enabled = True

    @property
    def cache_path(self) -> str:
        return str(cache_folder() / _sources_digest(Path(self._function.__code__.co_filename).resolve().parent))

    def _file(self, signature: Any, context: Any) -> Path:
        key = (str(signature), context.codegen().magic_tuple(), self._function.__module__, self._function.__qualname__)
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
        return Path(self.cache_path) / f"{self._function.__name__}-{digest}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        try:
            content = _read(self._file(sig, target_context)) if self._enabled else b""
            if hashlib.sha256(content[32:]).digest() == content[:32]:
                return CompileResult._rebuild(target_context, *pickle.loads(content[32:]))
        except Exception:  # whatever is wrong with it, new code is right
            pass
        announce("compiling", "compiling for this processor; this happens once and can take a minute")
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not self._enabled or not CompileResultCacheImpl.check_cachable(self, data):  # type: ignore[arg-type]
            return
        content = dumps(data._reduce())
        path = self._file(sig, data.target_context)
        try:
            _make_folder()
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with _trusted(path.parent, os.O_DIRECTORY):
                handle, name = tempfile.mkstemp(dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(content).digest() + content)
                os.replace(name, path)
            except OSError:
                os.unlink(name)
                raise
        except OSError as error:
            announce(
                "no cache",
                f"compiled code cannot be kept in {path.parent} ({error.strerror}): every start "
                "compiles again; set NUMBA_CACHE_DIR to a folder you can write to",
            )

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        """Nothing to do: a file is only ever replaced."""
