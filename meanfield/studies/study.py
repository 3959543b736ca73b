"""Study: a table of independent cells, computed in parallel, resumed, and shared out between machines.

One CSV file is one study (its form: storage/csv_table.py): the configuration's columns, the results', `seconds`. A row
is appended, and flushed to the disk, when its cell is done.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path
from typing import Any

from ..errors import InputError, printable
from ..runtime.durations import format_duration
from ..runtime.process_pool import Pool, WorkerError, shares
from ..runtime.telling import aside
from ..simulation import progress
from ..storage.csv_table import Key, Ledger, Value, parse, text_of
from ..storage.lock import RunLock

Cell = Callable[..., Mapping[str, Any] | None]


class Study:
    """Cells of `cell(**configuration) -> results`, kept in `folder`/`name`.csv.

    Configurations and results are flat: integers, floats, bools, text in one line; text that reads like a number comes
    back as a number.

    Parameters
    ----------
    name : str
        Of the study and its file.
    cell : callable
        A module-level pure function; its results are a mapping, with the same names for every cell, or None: the cell
        is left to the next run.
    folder : str or Path
        Where the file lies; made by `run` where it is missing.
    version : int
        To be raised when `cell` changes its meaning: a file with rows of another version is refused, never mixed.

    Attributes
    ----------
    failures : list of (dict, str)
        (configuration, reason) of the cells that failed in the last run.
    left : int
        How many cells the last run left to the next one.

    Examples
    --------
    >>> import tempfile
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from meanfield.studies.study import Study
    >>> def cell(a, b):
    ...     return {"product": a * b}
    >>> with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as executor:
    ...     study = Study("products", cell, folder)
    ...     rows = study.run([{"a": 2, "b": 3}, {"a": 4, "b": 5}], quiet=True, executor=executor)
    >>> list(rows[0]), [row["product"] for row in rows], study.failures
    (['a', 'b', 'product', 'seconds'], [6, 20], [])
    """

    def __init__(self, name: str, cell: Cell, folder: str | Path, version: int = 1) -> None:
        self.name, self.cell, self.folder = name, cell, Path(folder)
        self.failures: list[tuple[dict[str, Value], str]] = []
        self.left = 0
        self._title = f"study {name}, version {version}"

    def run(
        self,
        configurations: Iterable[Mapping[str, Value]],
        processes: int | None = None,
        threads: int = 1,
        shard: tuple[int, int] = (1, 1),
        quiet: bool = False,
        executor: Executor | None = None,
    ) -> list[dict[str, Value]]:
        """Compute the cells that no file holds yet.

        A cell that fails is reported and left out, and the next run tries it again.

        Parameters
        ----------
        configurations : iterable of mappings
            What `cell` is called with, all with the same names.
        processes, threads : int
            Worker processes, by default as many as fit, and threads in each; their product never exceeds the cores.
        shard : (int, int)
            (k, K) computes the k-th of K shares into its own file NAME.shard-k-of-K.csv; every run reads all of them.
        quiet : bool
            Without progress on stderr.
        executor : concurrent.futures.Executor, optional
            Anything with `submit`, in the place of worker processes on this machine.

        Returns
        -------
        list of dict
            The rows there are then, in the order of `configurations`: configuration, results and `seconds`.

        Raises
        ------
        InputError
            Columns that do not fit, a foreign file, another process writing it, a shard that makes no sense, processes
            or threads below 1.

        Examples
        --------
        >>> import tempfile
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from meanfield.studies.study import Study
        >>> def cell(a):
        ...     return {"square": a * a}
        >>> cells = [{"a": 2}, {"a": 3}, {"a": 4}]
        >>> with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as executor:
        ...     study = Study("squares", cell, folder)
        ...     first = study.run(cells, shard=(1, 2), quiet=True, executor=executor)
        ...     second = study.run(cells, shard=(2, 2), quiet=True, executor=executor)
        >>> [row["square"] for row in first], [row["square"] for row in second]
        ([4, 16], [4, 9, 16])
        """
        wanted = _checked(configurations)
        k, K = check_shard(shard)
        path = self.folder / (f"{self.name}.csv" if K == 1 else f"{self.name}.shard-{k}-of-{K}.csv")
        columns = list(next(iter(wanted.values()), {}))
        self.failures, self.left = [], 0
        self.folder.mkdir(parents=True, exist_ok=True)
        with RunLock(path):
            kept = self._kept(columns)
            missing = {key: wanted[key] for key in list(wanted)[k - 1 :: K] if key not in kept}
            if missing:
                self._compute(missing, Ledger(path, self._title, columns), processes, threads, quiet, executor)
                kept = self._kept(columns)
            if K == 1 and wanted and all(key in kept for key in wanted):
                self._tidy(path, columns, list(wanted))
        results = {key: list(kept[key].items())[len(columns) :] for key in wanted if key in kept}
        return [{**wanted[key], **{name: parse(text) for name, text in row}} for key, row in results.items()]

    def read(self) -> list[dict[str, Value]]:
        """All rows of all files of the study.

        Returns
        -------
        list of dict
            Each with configuration, results and `seconds`.

        Raises
        ------
        InputError
            A foreign file, or one of another version.

        Examples
        --------
        >>> from meanfield.studies.study import Study
        >>> Study("squares", pow, "no-such-folder").read()
        []
        """
        rows: dict[Key, dict[str, str]] = {}
        for ledger in self._ledgers():
            rows = {**ledger.rows, **rows}
        return [{name: parse(text) for name, text in row.items()} for row in rows.values()]

    def _ledgers(self, columns: Sequence[str] = ()) -> list[Ledger]:
        """The whole study's file, if there is one, and those of its shares."""
        shard = re.compile(re.escape(self.name) + r"\.shard-\d+-of-\d+\.csv")
        paths = sorted(path for path in self.folder.glob("*.csv") if shard.fullmatch(path.name))
        whole = self.folder / f"{self.name}.csv"
        return [Ledger(path, self._title, columns) for path in [*([whole] if whole.exists() else []), *paths]]

    def _kept(self, columns: Sequence[str]) -> dict[Key, dict[str, str]]:
        """Configuration, as texts -> the row, over all files; the first that holds a cell counts."""
        kept: dict[Key, dict[str, str]] = {}
        for ledger in self._ledgers(columns):
            kept = {**ledger.rows, **kept}
        return kept

    def _compute(
        self,
        missing: Mapping[Key, dict[str, Value]],
        ledger: Ledger,
        processes: int | None,
        threads: int,
        quiet: bool,
        executor: Executor | None,
    ) -> None:
        """Submit all, write each as it comes; on the way out, however, nothing is left waiting or running."""
        own = executor or Pool(*shares(processes, threads))
        shown = progress.Silent() if quiet else _progress()
        futures = {own.submit(timed, self.cell, one): key for key, one in missing.items()}
        shown.start(0, len(futures))
        try:
            for done, future in enumerate(as_completed(futures), 1):
                key = futures[future]
                try:
                    results, seconds = future.result()
                    row = None if results is None else _row(missing[key], results, seconds, ledger.header)
                except Exception as error:
                    self._fail(missing[key], error)
                else:
                    self.left += row is None
                    if row is not None:
                        ledger.append(key, row, software())
                shown.update(done, {"failed": len(self.failures)} if self.failures else {})
        finally:
            shown.close()
            for future in futures:
                future.cancel()
            if executor is None:
                own.shutdown(cancel_futures=True)

    def _fail(self, one: dict[str, Value], error: Exception) -> None:
        words = " ".join(f"{name}={value}" for name, value in one.items())
        details = getattr(error, "details", "")
        reason = str(error) if isinstance(error, WorkerError) else f"{type(error).__name__}: {error}"
        with aside():
            told = printable(f"{self.name}: cell {words} failed, the next run tries it again: {reason}")
            print(f"{told}\n{details}".rstrip(), file=sys.stderr, flush=True)
        self.failures.append((one, reason))

    def _tidy(self, path: Path, columns: Sequence[str], order: Sequence[Key]) -> None:
        """All rows of all files in one, those asked for first and in their order; nothing if that is so already."""
        ledgers = self._ledgers(columns)
        own = ledgers[0]
        asked = set(order)
        if own.path == path and not own.damaged and [key for key in own.rows if key in asked] == list(order):
            return
        kept: dict[Key, tuple[dict[str, str], str]] = {}
        for ledger in ledgers:
            kept = {**{key: (row, ledger.made[key]) for key, row in ledger.rows.items()}, **kept}
        own.path = path
        own.rewrite([*(kept[key] for key in order), *(row for key, row in kept.items() if key not in asked)])


def software() -> str:
    """The comment line on what computed the rows below it.

    Returns
    -------
    str
        With its newline.

    Examples
    --------
    >>> from meanfield.studies.study import software
    >>> software().startswith("# computed with python ")
    True
    """
    from ..storage.versions import describe_versions

    return "# computed with " + ", ".join(f"{name} {value}" for name, value in describe_versions().items()) + "\n"


def timed(cell: Cell, configuration: Mapping[str, Value]) -> tuple[dict[str, Any] | None, float]:
    """What runs in the worker: a cell, and the clock.

    Parameters
    ----------
    cell : callable
        Of a study.
    configuration : mapping
        What it is called with.

    Returns
    -------
    (dict or None, float)
        The results, and wall-clock seconds.

    Examples
    --------
    >>> from meanfield.studies.study import timed
    >>> results, seconds = timed(dict, {"a": 1})
    >>> results, seconds < 1
    ({'a': 1}, True)
    """
    began = time.perf_counter()
    results = cell(**configuration)
    return None if results is None else dict(results), time.perf_counter() - began


def check_shard(shard: tuple[int, int]) -> tuple[int, int]:
    """The shard itself, if it makes sense.

    Parameters
    ----------
    shard : (int, int)
        (k, K): the k-th of K shares.

    Returns
    -------
    (int, int)
        (k, K).

    Raises
    ------
    InputError
        Not 1 ≤ k ≤ K.

    Examples
    --------
    >>> from meanfield.studies.study import check_shard
    >>> check_shard((2, 8))
    (2, 8)
    """
    k, K = shard
    if not (isinstance(k, int) and isinstance(K, int) and 1 <= k <= K):
        raise InputError(f"shard {k}/{K}: must be k/K with 1 ≤ k ≤ K")
    return k, K


def parse_shard(text: str) -> tuple[int, int]:
    """A shard from its text.

    Parameters
    ----------
    text : str
        "k/K"; spaces do not matter.

    Returns
    -------
    (int, int)
        (k, K).

    Raises
    ------
    InputError
        Any other text, or not 1 ≤ k ≤ K.

    Examples
    --------
    >>> from meanfield.studies.study import parse_shard
    >>> parse_shard("2/8")
    (2, 8)
    """
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    if match is None:
        raise InputError(f"shard {text}: must be k/K, such as 2/8")
    return check_shard((int(match[1]), int(match[2])))


def _checked(configurations: Iterable[Mapping[str, Value]]) -> dict[Key, dict[str, Value]]:
    """Configuration as text -> configuration, each once. InputError: columns that differ, values of another kind."""
    wanted: dict[Key, dict[str, Value]] = {}
    columns: list[str] | None = None
    for one in configurations:
        columns = columns or list(one)
        if set(one) != set(columns) or "seconds" in one or not columns:
            raise InputError(
                f"configuration {dict(one)}: needs the same columns as the first ({', '.join(columns)}), "
                "and none called seconds"
            )
        try:
            wanted[tuple(text_of(one[name]) for name in columns)] = {name: one[name] for name in columns}
        except ValueError as error:
            raise InputError(f"configuration {dict(one)}: {error}") from None
    return wanted


def _row(one: Mapping[str, Value], results: Mapping[str, Any], seconds: float, header: list[str]) -> dict[str, str]:
    """Names and texts of a row. ValueError: columns that are taken, or are not those of the file."""
    if taken := sorted({*one, "seconds"} & set(results)):
        raise ValueError(f"results named {', '.join(taken)}: taken by the configuration or the clock")
    row = {name: text_of(value) for name, value in {**one, **results, "seconds": round(seconds, 3)}.items()}
    if header and set(row) != set(header):
        raise ValueError(f"results {', '.join(results)}: the file has {', '.join(header[len(one) : -1])}")
    return {name: row[name] for name in header or row}


def _progress() -> progress.Silent:
    return _Bar() if isinstance(progress.suitable(), progress.Bar) else _Lines()


class _Bar(progress.Bar):
    """tqdm, with its estimate of the time left from the mean pace so far."""

    unit, smoothing = "cell", 0


class _Lines(progress.Lines):
    def update(self, step: int, shown: dict[str, float]) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._wait = min(2 * self._wait, 600.0)
            self._next = now + self._wait
            left = (now - self._began) / step * (self._until - step)
            failed = f", {shown['failed']:.0f} failed" if shown else ""
            line = f"{step} of {self._until} cells{failed}, about {format_duration(left)} left"
            print(line, file=sys.stderr, flush=True)
