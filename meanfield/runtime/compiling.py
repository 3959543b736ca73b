"""`compiled`: numba's nopython mode without the GIL, and a cache of machine code that cannot break a run.

numba's own cache fails at import where no folder is writable, never recovers from a file cut short, mixes up
signatures when processes race, and does not notice an edit in another file of the package. Here each compiled
signature is one file, replaced whole, carrying its own SHA-256, in a folder named after the sources it was made from;
whatever cannot be read is compiled again, and whatever cannot be written is compiled each time.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

_said: set[str] = set()


def announce(kind: str, message: str) -> None:
    """Tell the user once per process; replace this function to silence or redirect it."""
    if kind not in _said:
        _said.add(kind)
        print(f"meanfield: {message}", file=sys.stderr, flush=True)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile `function` on first use (nopython, GIL released) and keep the machine code on disk."""
    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = _CodeCache(function)
    return dispatcher


def cache_folder() -> Path:
    """Where machine code is kept: $NUMBA_CACHE_DIR, else the user's cache folder, else a temporary one."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return Path(os.environ["NUMBA_CACHE_DIR"]) / "meanfield"
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "meanfield"
    except RuntimeError:  # no home folder
        return Path(tempfile.gettempdir()) / f"meanfield-{os.getuid()}"


@functools.cache
def _sources_digest(folder: Path) -> str:
    """Digest of every file beside the function that takes part in compiling: an edit anywhere makes new code."""
    digest = hashlib.sha256(f"{numba.__version__} {sys.version}".encode())
    for path in sorted(folder.glob("*.py")):
        source = path.read_bytes()
        if b"compiled" in source or b"intrinsic" in source:
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
            content = self._file(sig, target_context).read_bytes()
            if self._enabled and hashlib.sha256(content[32:]).digest() == content[:32]:
                return CompileResult._rebuild(target_context, *pickle.loads(content[32:]))
        except (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError):
            pass
        announce("compiling", "compiling for this processor; this happens once and takes some seconds")
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not self._enabled or not CompileResultCacheImpl.check_cachable(self, data):  # type: ignore[arg-type]
            return
        content = dumps(data._reduce())
        path = self._file(sig, data.target_context)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
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
