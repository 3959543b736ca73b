"""A file replaced whole: whatever stops the writer, a complete generation is there."""

import errno
import hashlib
import os
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_NO_HARD_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_BEING_WRITTEN: set[Path] = set()  # by threads of this process
_LONGEST_IN_TEMPORARY = 100  # bytes of a name
_TEMPORARY = re.compile(r"(?P<host>(?:(?!\.tmp-).)*)-(?P<pid>\d+)-\d+(?:\.prev)?", re.DOTALL)
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


class StorageError(OSError):
    """A file could not be written; the generation before is intact. The message is one line."""


def previous(path: str | Path) -> Path:
    """Where ``replace_whole(path, ..., keep_previous=True)`` keeps the generation before."""
    target = Path(os.path.realpath(path))
    return target.with_name(target.name + ".prev")


def replace_whole(
    path: str | Path, write: Callable[[Path], None], *, keep_previous: bool = False, owner: str | Path | None = None
) -> None:
    """Let `write` fill a temporary file in the folder of `path`, then put it in the place of `path`.

    owner: the file after which a temporary one is named, and with whose leftovers it is removed; by default `path`.
    A link at `path` leads to the file that is meant; but where there is an owner, it is a stranger's, and is replaced.

    The order is: write, fsync the file, link the present generation to a second temporary name, rename the new file to
    `path`, fsync the folder, rename the link to ``PATH.prev``, fsync the folder. Whatever part of that reaches the
    disk, `path` is complete; and a damaged `path` displaces a good ``PATH.prev`` only once the new file is in place.
    Without hard links (some network and FAT file systems) `path` is renamed to ``PATH.prev`` first, and for an instant
    only ``PATH.prev`` exists. Of several threads that write to a path at once, the last to end leaves its file.

    Raises StorageError for any OSError on the way; other exceptions of `write` pass. The temporary file is removed.
    """
    owned = Path(os.path.realpath(path if owner is None else owner))
    target = owned if owner is None else Path(path)
    own = f"{socket.gethostname()}-{os.getpid()}-{threading.get_native_id()}"
    temporary = owned.with_name(f"{_temporary_prefix(owned)}{own}")
    _BEING_WRITTEN.add(temporary)
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        remove_leftovers(owned, of_any_host=False)
        try:
            _make(temporary)
            write(temporary)
            _sync(temporary)
            _publish(temporary, target, keep_previous)
        except BaseException:
            _discard(temporary)
            _discard(_link_name(temporary))
            raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
        failure = StorageError(f"{path}: could not be written: {reason}")
        failure.errno = error.errno
        raise failure from error
    finally:
        _BEING_WRITTEN.discard(temporary)


def _temporary_prefix(target: Path) -> str:
    """How the names of temporary files begin: not too long, however long the name of the target is."""
    name = os.fsencode(target.name)
    if len(name) > _LONGEST_IN_TEMPORARY:
        name = name[:_LONGEST_IN_TEMPORARY] + b"-" + hashlib.sha256(name).hexdigest()[:12].encode()
    return f".{os.fsdecode(name)}.tmp-"


def _link_name(temporary: Path) -> Path:
    return temporary.with_name(temporary.name + ".prev")


def _make(temporary: Path) -> None:
    """Make an empty file of one's own, whatever anybody has put in its place: a link would be written through."""
    for name in (temporary, _link_name(temporary)):
        name.unlink(missing_ok=True)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def remove_leftovers(target: Path, *, of_any_host: bool = True) -> None:
    """Remove what killed writers left beside the target: of this host, and of others where nobody else may be writing.

    OSError: the folder cannot be read.
    """
    prefix = _temporary_prefix(target)
    for name in os.listdir(target.parent):
        found = _TEMPORARY.fullmatch(name[len(prefix) :]) if name.startswith(prefix) else None
        if found is None or target.with_name(name.removesuffix(".prev")) in _BEING_WRITTEN:
            continue
        pid = int(found["pid"])
        here = found["host"] == socket.gethostname()
        if (pid == os.getpid() or not process_exists(pid)) if here else of_any_host:
            _discard(target.with_name(name))


def process_exists(pid: int) -> bool:
    """Whether a process of this number runs on this host."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _discard(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:  # some network file systems cannot, and need not
            raise


def _publish(temporary: Path, target: Path, keep_previous: bool) -> None:
    link = _link_name(temporary)
    linked = keep_previous and _hold(target, link)
    os.replace(temporary, target)
    _sync_folder(target.parent)
    if linked:
        os.replace(link, previous(target))
        _discard(link)  # still there if it was that file already: between two names of one file a rename does nothing
        _sync_folder(target.parent)


def _hold(target: Path, link: Path) -> bool:
    """Give the present generation a second name; False if there is none to rename later."""
    try:
        os.link(target, link)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        os.replace(target, previous(target))
        return False
    return True
