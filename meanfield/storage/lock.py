"""One writer a run: a lock file beside the run file, held with flock, signed by its process and renewed by it."""

import errno
import fcntl
import json
import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from ..errors import RunFileError
from ..runtime.communicator import Alone
from ..runtime.durations import format_duration
from ..runtime.telling import tell
from .atomic import StorageError, process_exists, remove_leftovers

_LEASE = 60  # seconds: who has not renewed its signature for so long has ended, or will look before it writes again
_RENEWALS = 6  # in that time
_NOT_THE_DISK = {  # what is wrong with the path that was given, and not with what it leads to
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP),
    errno.ENAMETOOLONG,
}
_NO_LOCK = "is a link, or no file, which no run makes there; remove it"
_SIGNED: dict[Path, dict[str, Any]] = {}  # what this process signed, in the locks that it holds


class RunLock:
    """Hold ``PATH.lock`` while writing to the run at `path`; a context manager.

    The file is signed with host, process number and start, and when. On one host the kernel's flock decides, so that
    the lock of a process that died, however it died, counts for nothing and cannot be taken over by two at once. Where
    the file system has no flock, the process number and its start decide.

    Many network file systems keep flock to each host. A signature from another host is respected, whatever flock says,
    until its lease is over: whoever holds the lock renews it every ten seconds, and one that has not been renewed for a
    minute is taken over, after waiting as long as it takes to know. That of an earlier life of the same batch job, by
    the scheduler's word, is taken over at once; so is any by `force`. Each of them is told on stderr.

    Who holds the lock removes the temporary files of writers that did not come to their end. Entering raises
    RunFileError, naming the holder, if another process may be writing, and StorageError if the disk fails.
    """

    def __init__(self, path: str | Path, force: bool = False) -> None:
        if not isinstance(path, str | os.PathLike):
            raise RunFileError(f"{path!r}: must be the path of a run file")
        self.run = path
        try:
            self.path = Path(os.path.realpath(path) + ".lock")
        except FileNotFoundError:
            raise RunFileError(f"{path}: the working folder was removed; cd elsewhere, or give a full path") from None
        self.force = force
        self._descriptor: int | None = None
        self._holder: dict[str, Any] = {}
        self._left = threading.Event()

    def __enter__(self) -> "RunLock":
        try:
            while self._descriptor is None:
                self._descriptor = self._try()
        except OSError as error:
            reason = f"{self.path}: cannot lock the run: {error.strerror}"
            if error.errno in _NOT_THE_DISK:
                raise RunFileError(reason) from None
            raise StorageError(reason) from None
        with suppress(OSError):
            remove_leftovers(self.path.with_suffix(""))
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        if self._descriptor is None:
            return
        self._left.set()
        if _is_at(self._descriptor, self.path) and _read(self._descriptor) == self._holder:  # nobody forced it from us
            with suppress(OSError):
                self.path.unlink()
        os.close(self._descriptor)
        self._descriptor = None
        _SIGNED.pop(self.path, None)

    def _try(self) -> int | None:
        """The descriptor of the lock now held; None if the file went away underneath, so that one must try again."""
        descriptor = _open(self.path, os.O_RDWR | os.O_CREAT)
        try:
            holder = _read(descriptor)
            flocked = _flock(descriptor)
            if flocked is False:
                self._refuse(holder)
            if not _is_at(descriptor, self.path):
                os.close(descriptor)
                return None
            self._displace(_read(descriptor), flocked)
            self._sign(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _displace(self, holder: dict[str, Any], flocked: bool | None) -> None:
        """RunFileError, unless whoever signed the lock is gone, or is to yield to force."""
        if not _elsewhere(holder):
            if holder and flocked is None and not self.force and _lives(holder):
                self._refuse(holder)
            return
        if self.force:
            why = "by force"
        elif _earlier_life(holder):
            why = "an earlier life of this batch job"
        elif flocked and self._lease_is_over(holder):
            why = f"which gave no sign of life for {holder['lease']} s"
        else:
            self._refuse(holder)
        tell(f"{self.run}: the lock of {_who(holder)}, {why}, is taken over")

    def _lease_is_over(self, holder: dict[str, Any]) -> bool:
        """Whether a lock was not renewed for as long as its signature says; waits for that where need be."""
        lease, seen = holder.get("lease"), _renewed(self.path)
        if not isinstance(lease, int) or seen is None:
            return False
        end = time.monotonic() + min(lease - (_now(self.path.parent) - seen), lease)
        if end > time.monotonic():
            tell(f"{self.run}: is locked by {_who(holder)}; waiting up to {lease} s for a sign of life")
        while time.monotonic() < end:
            time.sleep(min(1.0, end - time.monotonic()))
            if _renewed(self.path) != seen:
                return False
        return True

    def _sign(self, descriptor: int) -> None:
        """Sign the lock and keep renewing it; the file is removed again where it cannot be written."""
        holder = {**_own_signature(), **_batch_job(), "when": datetime.now().astimezone().isoformat(timespec="seconds")}
        self._left = threading.Event()
        with suppress(RuntimeError):  # no more threads are allowed: then without a lease
            threading.Thread(target=self._renew, args=(descriptor,), daemon=True).start()
            holder["lease"] = _LEASE
        try:
            _write(descriptor, holder)
        except OSError:
            self._left.set()
            self.path.unlink(missing_ok=True)
            raise
        self._holder = _SIGNED[self.path] = holder

    def _renew(self, descriptor: int) -> None:
        """Set the time of the lock file anew, as long as it is ours."""
        while not self._left.wait(_LEASE / _RENEWALS):
            with suppress(OSError):
                if _read(descriptor) == self._holder:
                    os.utime(descriptor)

    def _refuse(self, holder: dict[str, Any]) -> NoReturn:
        since = f"for {_age(holder)}" if holder else "just now"
        advice = "stop it, or wait until it ends"
        if _elsewhere(holder):
            advice = f"{_last_written(self.run)}if that has ended, force=True takes the lock over"
        raise RunFileError(f"{self.run}: is being written by {_who(holder)}, {since}; {advice}")


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


def _open(path: Path, flags: int) -> int:
    """A descriptor of a lock file. OSError where something stands there that is not one, such as a link elsewhere."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise OSError(errno.ELOOP, _NO_LOCK) if error.errno == errno.ELOOP else error from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise OSError(errno.ELOOP, _NO_LOCK)
    return descriptor


def _write(descriptor: int, holder: dict[str, Any]) -> None:
    text = json.dumps(holder).encode() + b"\n"
    os.ftruncate(descriptor, 0)
    if os.pwrite(descriptor, text, 0) != len(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)


def _own_signature() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def _batch_job() -> dict[str, Any]:
    """The job of the batch system that this process belongs to, and which of its lives this is; empty without one."""
    job, life = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_RESTART_COUNT", "0")
    cluster = os.environ.get("SLURM_CLUSTER_NAME", "")
    return {"job": f"{cluster}:{job}", "life": int(life)} if job and life.isdecimal() else {}


def _earlier_life(holder: dict[str, Any]) -> bool:
    """Whether this process belongs to the same batch job as the holder, started again since."""
    own, life = _batch_job(), holder.get("life")
    return bool(own) and isinstance(life, int) and holder.get("job") == own["job"] and life < own["life"]


def writer(path: str | Path) -> str | None:
    """Who is writing the run, by the signature beside it; None if nobody is. The lock itself is left alone."""
    lock = Path(os.path.realpath(path) + ".lock")
    try:
        descriptor = _open(lock, os.O_RDONLY)
    except OSError:
        return None
    try:
        holder, renewed = _read(descriptor), os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
    if not _elsewhere(holder):
        return _who(holder) if _lives(holder) else None
    lease = holder.get("lease")
    over = isinstance(lease, int) and time.time() - renewed > lease
    return None if over else _who(holder)


def check_still_held(path: str | Path) -> None:
    """Raise RunFileError if another process has taken this process's lock on the run at `path` over.

    To be called before each write: two hosts that both go on would undo each other's checkpoints. A lock file that is
    out of reach, or that nobody signed, is not another's.
    """
    lock = Path(os.path.realpath(path) + ".lock")
    try:
        descriptor = _open(lock, os.O_RDONLY)
    except OSError:
        return
    try:
        holder = _read(descriptor)
    finally:
        os.close(descriptor)
    own = _own_signature()
    own["host"] = _SIGNED.get(lock, own)["host"]  # it may have another name by now
    if holder and {name: holder.get(name) for name in own} != own:
        raise RunFileError(f"{path}: was taken over by {_who(holder)}; stopped here without writing to it again")


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


def _renewed(path: Path) -> float | None:
    """When a lock was signed or renewed, by the clock of its file system; None without one.

    Opened for that, since a network file system may remember what it last said of a file that is not.
    """
    try:
        descriptor = _open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def _now(folder: Path) -> float:
    """The time by the clock of a file system, which may be another machine's. OSError: no file can be made there."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def _who(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid', '?')} on {holder.get('host', 'this host')}" if holder else "another process"


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
