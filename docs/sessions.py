"""The examples of a page, run in order as a reader would type them: Python in one namespace, commands in one folder."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("MPLBACKEND", "Agg")

_PART = re.compile(
    r"^```(?P<language>python|console|toml)\n(?P<code>.*?)^```$"
    r"|^(?P<output><!-- output -->)$"
    r"|^<!-- figure: (?P<figure>\S+) \| (?P<caption>.*?) -->$",
    re.MULTILINE | re.DOTALL,
)
_SMALL = {  # added to commands that a test runs for their sense and not for their result; the last value counts
    "run": "--set run.steps=40 --set run.record_every=10",
    "resume": "--more 20",
    "certify": "--seconds 0.5 --method estimate",
    "theorems": "--effort 0.05",
    "report": "--seconds 0.5",
}
_LONG = ("compare", "doctor", "watch")  # checked to parse, in a test


class Block(NamedTuple):
    """A fenced block and the line it starts at: "python", "console" or "toml" (a file that its first line names)."""

    language: str
    code: str
    line: int


def blocks(text: str) -> list[Block]:
    """The fenced examples of a page."""
    return [_block(text, found) for found in _PART.finditer(text) if found["language"]]


def commands(code: str) -> Iterator[list[str]]:
    """The arguments of every `meanfield` command in a console block; other lines are the reader's own affair."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["meanfield"]:
            yield words[1:]


def check(arguments: list[str]) -> None:
    """Raise click.ClickException or InputError unless the command's arguments and its --set keys are valid."""
    from meanfield.cli import group
    from meanfield.simulation.toml import load_config

    with group.make_context("meanfield", list(arguments), resilient_parsing=False) as context:
        name, command, rest = group.resolve_command(context, list(arguments))
        assert command is not None
        with command.make_context(name, list(rest), parent=context):
            load_config(None, [b for a, b in itertools.pairwise(rest) if a == "--set"])


def shows(text: str) -> bool:
    """Whether a page has outputs or figures of its examples, which are then run as they are."""
    return any(found["output"] or found["figure"] for found in _PART.finditer(text))


class Session:
    """One reader in one folder. `small` makes commands short, as far as that leaves their sense."""

    def __init__(self, name: str, folder: Path, *, small: bool = False) -> None:
        self.name, self.folder, self.small = name, folder, small
        self.names: dict[str, object] = {"__name__": "__main__"}

    def run(self, block: Block) -> str:
        """What the block prints on stdout. RuntimeError: a command with another exit status than 0."""
        with contextlib.chdir(self.folder):
            if block.language == "toml":
                file = re.match(r"# (\S+\.toml)$", block.code, re.MULTILINE)
                if file:
                    Path(file[1]).write_text(block.code, encoding="utf-8")
                return ""
            with contextlib.redirect_stdout(io.StringIO()) as out:
                if block.language == "python":
                    code = "\n" * (block.line - 1) + block.code  # so that a traceback has the page's line
                    exec(compile(code, self.name, "exec"), self.names)
                else:
                    for arguments in commands(block.code):
                        self._command(arguments, block.line)
            return out.getvalue()

    def _command(self, arguments: list[str], line: int) -> None:
        from meanfield.cli import main

        if self.small:
            if arguments[0] in _LONG:
                return check(arguments)
            small = _SMALL.get(arguments[0], "").split()
            if arguments[0] == "run" and not any(word.startswith("ensemble.init=") for word in arguments):
                small += ["--set", "ensemble.m=128"]
            arguments = [*arguments, *small]
        complaints = io.StringIO()
        try:
            with contextlib.redirect_stderr(complaints):
                main(arguments)
        except SystemExit as end:
            if end.code:
                told = complaints.getvalue().strip()[-500:]
                raise RuntimeError(f"{self.name}:{line}: {shlex.join(arguments)}: status {end.code}: {told}") from None
        return None


def expand(text: str, name: str, folder: Path, figures: Path, address: str) -> str:
    """The page with what its examples print in the place of output comments, and figures they wrote in that of theirs.

    Figures are copied into `figures`, which the page reaches as `address`. A page that shows nothing is not run.
    """
    if not shows(text):
        return text
    session, printed = Session(name, folder), ""

    def replaced(found: re.Match[str]) -> str:
        nonlocal printed
        if found["language"]:
            printed = session.run(_block(text, found))
            return found[0]
        if found["output"]:
            return f"```text\n{printed.rstrip()}\n```"
        figures.mkdir(parents=True, exist_ok=True)
        name = Path(found["figure"]).name
        shutil.copy(folder / found["figure"], figures / name)
        return f"![{found['caption']}]({address}/{name})\n\n*{found['caption']}*"

    return _PART.sub(replaced, text)


def _block(text: str, found: re.Match[str]) -> Block:
    return Block(found["language"], found["code"], text.count("\n", 0, found.start("code")) + 1)
