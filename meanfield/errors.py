"""What can go wrong, in words that one line can carry."""


class InputError(ValueError):
    """Something the user gave is wrong; the message is one line naming what, and what would be right.

    What it quotes may hold anything; characters that are not printable are shown escaped.
    """

    def __str__(self) -> str:
        return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in super().__str__())


class RunFileError(InputError):
    """A run file is missing, damaged, foreign, locked or of another format."""


class DivergenceError(ArithmeticError):
    """The simulation left the finite numbers; the message names the step and the quantity."""
