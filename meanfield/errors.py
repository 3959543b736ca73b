"""What can go wrong, in words that one line can carry."""

_LONGEST = 4000  # characters of a message


def printable(text: str) -> str:
    """What may hold anything, as one line that does nothing to a terminal: the rest escaped."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class InputError(ValueError):
    """Something the user gave is wrong; the message is one line naming what, and what would be right.

    What it quotes may hold anything: it is shown `printable`, and cut where it is very long.
    """

    def __str__(self) -> str:
        return printable(super().__str__()[:_LONGEST])


class RunFileError(InputError):
    """A run file is missing, damaged, foreign, locked or of another format."""


class DivergenceError(ArithmeticError):
    """The simulation left the finite numbers; the message names the step and the quantity."""
