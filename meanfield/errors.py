"""What can go wrong, in words that one line can carry."""


class InputError(ValueError):
    """Something the user gave is wrong; the message is one line naming what, and what would be right."""


class RunFileError(InputError):
    """A run file is missing, damaged, foreign, locked or of another format."""


class DivergenceError(ArithmeticError):
    """The simulation left the finite numbers; the message names the step and the quantity."""
