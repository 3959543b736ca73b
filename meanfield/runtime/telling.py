"""A line to the user on stderr, and room for it where a progress bar is drawn."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from ..errors import printable

Room = Callable[[], AbstractContextManager[Any]]

_room: list[Room] = [nullcontext]


def tell(message: str) -> None:
    """Print "meanfield: message", one line whatever it quotes; what is drawn there makes room first.

    A stderr that takes nothing is no error.
    """
    with suppress(OSError, ValueError), aside():  # it may be closed, or a file on the disk that is full
        print(f"meanfield: {printable(message)}", file=sys.stderr, flush=True)


def aside() -> AbstractContextManager[Any]:
    """Within it, stderr is free for lines."""
    return _room[-1]()


def draw_there(room: Room) -> None:
    """From now on `room` clears stderr for a line and draws again after it."""
    _room.append(room)


def draw_no_more() -> None:
    """What was drawn before, if anything, is there again."""
    if _room[1:]:
        _room.pop()
