"""One writer a run: a lock file beside the run file, held with flock and signed by its process."""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import RunFileError
from ..runtime.communicator import Alone
from ..runtime.durations import format_duration
from .atomic import process_exists

_SIGNED: dict[Path, dict[str, Any]] = {}  # what this process signed, in the locks that it holds


class RunLock:
    """Hold ``PATH.lock`` while writing to the run at `path`; a context manager.

    The file is signed with host, process number and start, and when. On one host the kernel's flock decides, so that
    the lock of a process that died, however it died, counts for nothing and cannot be taken over by two at once. Where
    the file system has no flock, the process number and its start decide. A lock signed by another host is respected
    whatever flock says, since many network file systems keep flock to each host; `force` takes it over.

    Entering raises RunFileError, naming the holder, if another process may be writing.
    """

    def __init__(self, path: str | Path, force: bool = False) -> None:
        self.run = path
        self.path = Path(os.path.realpath(path) + ".lock")
        self.force = force
        self._descriptor: int | None = None
        self._holder: dict[str, Any] = {}

    def __enter__(self) -> "RunLock":
        try:
            while self._descriptor is None:
                self._descriptor = self._try()
        except OSError as error:
            raise RunFileError(f"{self.path}: cannot lock the run: {error.strerror}") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        if self._descriptor is None:
            return
        if _is_at(self._descriptor, self.path) and _read(self._descriptor) == self._holder:  # nobody forced it from us
            with suppress(OSError):
                self.path.unlink()
        os.close(self._descriptor)
        self._descriptor = None
        _SIGNED.pop(self.path, None)

    def _try(self) -> int | None:
        """The descriptor of the lock now held; None if the file went away underneath, so that one must try again."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            holder = _read(descriptor)
            flocked = _flock(descriptor)
            if flocked is False:
                self._refuse(holder)
            if not _is_at(descriptor, self.path):
                os.close(descriptor)
                return None
            holder = _read(descriptor)
            if holder and not self.force and (_elsewhere(holder) or (flocked is None and _lives(holder))):
                self._refuse(holder)
            self._holder = _SIGNED[self.path] = _sign(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _refuse(self, holder: dict[str, Any]) -> None:
        who = f"process {holder.get('pid', '?')} on {holder.get('host', 'this host')}"
        since = f"for {_age(holder)}" if holder else "just now"
        advice = "stop it, or wait until it ends"
        if _elsewhere(holder):
            advice = f"{_last_written(self.run)}if that has ended, force=True takes the lock over"
        raise RunFileError(f"{self.run}: is being written by {who}, {since}; {advice}")


@contextmanager
def locked(path: str | Path, ranks: Alone, force: bool = False) -> Iterator[None]:
    """RunLock, taken by rank 0 for all of them. RunFileError: on every rank."""
    with ExitStack() as stack:

        def take() -> None:
            stack.enter_context(RunLock(path, force))

        ranks.once(take)
        yield


def _flock(descriptor: int) -> bool | None:
    """Whether the lock was got; None where the file system cannot say."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> dict[str, Any]:
    holder = {**_own_signature(), "when": datetime.now().astimezone().isoformat(timespec="seconds")}
    text = json.dumps(holder).encode() + b"\n"
    os.ftruncate(descriptor, 0)
    if os.pwrite(descriptor, text, 0) != len(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)
    return holder


def _own_signature() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def check_still_held(path: str | Path) -> None:
    """Raise RunFileError if another process has taken this process's lock on the run at `path` over by force.

    To be called before each write: two hosts that both go on would undo each other's checkpoints. A lock file that is
    out of reach, or that nobody signed, is not another's.
    """
    try:
        descriptor = os.open(os.path.realpath(path) + ".lock", os.O_RDONLY)
    except OSError:
        return
    try:
        holder = _read(descriptor)
    finally:
        os.close(descriptor)
    own = _own_signature()
    own["host"] = _SIGNED.get(Path(os.path.realpath(path) + ".lock"), own)["host"]  # it may have another name by now
    if holder and {name: holder.get(name) for name in own} != own:
        who = f"process {holder.get('pid', '?')} on {holder.get('host', 'this host')}"
        raise RunFileError(f"{path}: was taken over by {who}, by force; stopped here without writing to it again")


def _read(descriptor: int) -> dict[str, Any]:
    """What the holder signed; empty if it did not come to that."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot, so that a number used again is not mistaken for it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _elsewhere(holder: dict[str, Any]) -> bool:
    return "host" in holder and holder["host"] != socket.gethostname()


def _lives(holder: dict[str, Any]) -> bool:
    pid, started = holder.get("pid"), holder.get("started")
    return isinstance(pid, int) and pid > 0 and process_exists(pid) and (started is None or _started(pid) == started)


def _age(holder: dict[str, Any]) -> str:
    try:
        return format_duration((datetime.now().astimezone() - datetime.fromisoformat(holder["when"])).total_seconds())
    except (KeyError, TypeError, ValueError):
        return "an unknown time"


def _last_written(path: str | Path) -> str:
    """The only sign of life that another host gives: when its last checkpoint came."""
    with suppress(OSError):
        return f"its last checkpoint came {format_duration(time.time() - os.stat(path).st_mtime)} ago; "
    return "it has written no checkpoint; "
