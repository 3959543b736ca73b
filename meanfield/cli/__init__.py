"""The command line: one file a command, what they share, and exit statuses. Thin: what it does is all in Python too.

May import: all folders above it. Quick to start, since heavy imports happen inside the commands.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import click

from .. import __version__
from ..errors import DivergenceError, InputError, did_you_mean, nearest, ours, printable
from ..runtime.communicator import ALONE, Alone, is_shared, ranks_wanted, world

_COMMANDS = {
    "init": "init",
    "run": "run",
    "resume": "run",
    "salvage": "salvage",
    "info": "show",
    "certify": "certify",
    "theorems": "theorems",
    "plot": "show",
    "watch": "watch",
    "report": "report",
    "ntk": "show",
    "sweep": "sweep",
    "compare": "compare",
    "doctor": "doctor",
}
_HELP = {
    "init": "Write a configuration to start from, every key with its meaning.",
    "run": "Simulate; without CONFIG the paper's problem.",
    "resume": "Go on with a run exactly where it stopped.",
    "salvage": "A new run from what is whole of a damaged one.",
    "info": "Configuration, progress, last measures and integrity of runs.",
    "certify": "How far from the global minimum a run is at most.",
    "theorems": "Which theorems of the paper speak of a run, and what follows.",
    "plot": "Figures of a run, or of several laid over each other.",
    "watch": "Follow a run in another process.",
    "report": "A run as one HTML file: figures, certificate, how to reproduce it.",
    "ntk": "The kernel baseline on the same data.",
    "sweep": "One configuration over a grid of values: one table, one figure.",
    "compare": "Network against kernel over n, d and seeds.",
    "doctor": "Versions, threads, vector width, cache, measured speed.",
}


class _Lazy(click.Group):
    """Imports a command's module only when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        import importlib

        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f".{_COMMANDS[name]}", __name__), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            hint = did_you_mean(args[0], _COMMANDS, f"there are {', '.join(_COMMANDS)}")
            raise click.UsageError(f"{args[0]}: unknown command{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_HELP.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, prog_name="meanfield")
def group() -> None:
    """Infinite-width two-layer ReLU networks as ensembles of particles."""


@contextmanager
def _plain_interrupts() -> Iterator[None]:
    """Ctrl-C ends the process by the signal itself, as SIGTERM does, wherever a run has not taken signals in hand.

    A KeyboardInterrupt raised while packages load can come out of them as another error, with a traceback.
    """
    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def main(args: list[str] | None = None) -> None:
    """Run a command; ends the process. Exit status: 0 done, 2 bad input, 75 out of time, 128 + n a signal, 1 else."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a locale that cannot show λ must not end a run
    warnings.formatwarning = lambda message, *_, **__: f"meanfield: warning: {printable(str(message))}\n"
    ranks = ALONE
    try:
        ranks = _ranks(sys.argv[1:] if args is None else args)
        with _plain_interrupts():
            status = group.main(args, prog_name="meanfield", standalone_mode=False) or 0
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()
    except BaseException as error:
        status = _explained(error)
        if not (is_shared(error) or isinstance(error, DivergenceError)):
            _end_other_ranks(ranks, error, status)
    sys.exit(status)


def _explained(error: BaseException) -> int:
    """Tell what went wrong in one line; the exit status. What is no one's to explain is raised again."""
    match error:
        case BrokenPipeError():  # the reader left, as `| head` does; nothing more can be told to it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        case InputError():
            return _refuse(str(error).replace("force=True", "--force"))  # the library's word, and ours
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message())
            return 0
        case click.NoSuchOption():
            return _refuse(_unknown_option(error))
        case click.ClickException():
            return _refuse(error.format_message())
        case DivergenceError() | OSError():
            return _refuse(str(error), 1)
        case MemoryError():
            return _refuse(f"not enough memory: {error or 'reduce ensemble.m or data.n'}", 1)
        case KeyboardInterrupt() | click.Abort():
            return 128 + signal.SIGINT
    raise error


def _unknown_option(error: click.NoSuchOption) -> str:
    """What was probably meant: an option of the same command, or a key of the configuration where it can be set."""
    command, called = (group, "meanfield") if error.ctx is None else (error.ctx.command, error.ctx.command_path)
    options = [name[2:] for option in command.params for name in option.opts if name.startswith("--")]
    given = error.option_name.lstrip("-")
    if near := nearest(given, options) or next((name for name in options if given in name.split("-")), ""):
        hint = f"did you mean --{near}?"
    elif "set" in options and (keys := _keys(ours(given.replace("-", "_")))):
        hint = f"did you mean {' or '.join(f'--set {key}=…' for key in keys)}?"
    else:
        hint = f"there are {', '.join(f'--{name}' for name in [*options, 'help'])}"
    return f"{called} {error.option_name}: unknown option; {hint}"


def _keys(name: str) -> list[str]:
    """The keys of the configuration that have this name, whatever their section."""
    from ..simulation.config import Config

    sections = {section: type(getattr(Config(), section)).model_fields for section in Config.model_fields}
    return [f"{section}.{name}" for section, keys in sections.items() if name in keys]


def _ranks(args: list[str]) -> Alone:
    """The ranks that share this command; the first alone speaks, and alone has something to do in most commands."""
    if ranks_wanted() == 1:
        return ALONE
    ranks = world()
    if not ranks.leads:
        if args[:1] not in (["run"], ["resume"], ["certify"], ["doctor"], ["compare"], ["sweep"]):
            sys.exit(0)
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    return ranks


def _end_other_ranks(ranks: Alone, error: BaseException, status: int) -> None:
    """After a failure that the other ranks do not know of: they would wait for ever."""
    if ranks.size > 1 and isinstance(error, InputError) and not ranks.leads:
        time.sleep(2)  # most likely all ranks found it, and the first is telling
    elif ranks.size > 1 and not ranks.leads:
        print(
            f"meanfield: error: rank {ranks.rank}: {printable(str(error)) or type(error).__name__}",
            file=sys.__stderr__,
            flush=True,
        )
    ranks.abort(status)


def _refuse(message: str, status: int = 2) -> int:
    one_line = printable(" ".join(message.split("\n")))
    print(f"meanfield: error: {one_line}", file=sys.stderr)
    return status
