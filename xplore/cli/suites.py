"""`xplore bench`, `table` and `plot`: a suite, and what its rows say."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from xplore.benchmarks.suite import find_suite
from xplore.cli.options import parse
from xplore.cli.progress import duration
from xplore.cli.run import show_progress
from xplore.contracts.errors import ConfigError

if TYPE_CHECKING:
    from xplore.bench import Event, Report


@dataclasses.dataclass(frozen=True)
class _Options:
    suite: Annotated[str, tyro.conf.Positional]
    """name of the suite, or path/to/file.py with a variable SUITE"""
    results: Path = Path("results")
    """where rows are, in a sub-folder named as the suite"""
    seeds: int | None = None
    """seeds 0 to n-1, instead of the suite's own number"""


@dataclasses.dataclass(frozen=True)
class BenchOptions(_Options):
    """Runs a suite's grid of tasks x methods x seeds, then writes its tables and figures.

    What is done is not run again; what was interrupted goes on from its last checkpoint.
    """

    only: str | None = None
    """run only the jobs whose task/method contains this or matches it (* and ?)"""


@dataclasses.dataclass(frozen=True)
class TableOptions(_Options):
    """Prints a suite's tables, made from its rows."""

    format: Literal["markdown", "csv", "latex"] = "markdown"
    """csv holds every number in full"""
    of: Literal["tasks", "methods", "both"] = "both"
    """which table; as csv `both` prints that of the tasks, since one CSV is one table"""


@dataclasses.dataclass(frozen=True)
class PlotOptions(_Options):
    """Draws a suite's learning curves, performance profiles and aggregates from its rows."""

    out: Path | None = None
    """folder for the figures; that of the rows if not given"""


def bench(args: Sequence[str]) -> None:
    """`xplore bench SUITE`."""
    options = parse(BenchOptions, args, prog="xplore bench")
    from xplore.bench import bench as run_bench
    from xplore.bench import write_report

    suite = find_suite(options.suite)
    folder = options.results / suite.name
    run_bench(
        suite,
        folder,
        only=options.only,
        seeds=options.seeds,
        on_event=_tell,
        show_progress=show_progress,
    )
    made = _report(options)
    print("\n" + _markdown(made))
    for path in write_report(made, folder):
        print(path)


def table(args: Sequence[str]) -> None:
    """`xplore table SUITE`."""
    options = parse(TableOptions, args, prog="xplore table")
    made = _report(options)
    if options.format == "csv":
        chosen = made.methods if options.of == "methods" else made.tasks
        print(chosen.to_csv(), end="")
    elif options.of == "both" and options.format == "markdown":
        print(_markdown(made), end="")
    else:
        tables = {"tasks": [made.tasks], "methods": [made.methods]}
        both = tables.get(options.of, list(made.tables))
        latex = options.format == "latex"
        print("\n".join(t.to_latex() if latex else t.to_markdown() for t in both), end="")


def plot(args: Sequence[str]) -> None:
    """`xplore plot SUITE`."""
    options = parse(PlotOptions, args, prog="xplore plot")
    from xplore.bench import write_figures
    from xplore.record.files import writable_folder

    made = _report(options)
    folder = options.out or options.results / find_suite(options.suite).name
    for path in write_figures(made, writable_folder(folder)):
        print(path)


def _report(options: _Options) -> Report:
    from xplore.bench import report

    if options.seeds is not None and options.seeds < 1:
        raise ConfigError(f"--seeds is {options.seeds}: give at least 1")
    suite = find_suite(options.suite)
    made = report(suite, options.results / suite.name, seeds=options.seeds, on_problem=_warn)
    for task in made.left_out:
        _warn(f"{task} is left out: it has no rows yet, or none of the random agent")
    return made


def _markdown(made: Report) -> str:
    return "\n".join(t.to_markdown() for t in made.tables)


def _warn(problem: str) -> None:
    print(f"xplore: warning: {problem}", file=sys.stderr)


def _tell(event: Event) -> None:
    if event.kind == "start":
        return  # the live display shows it
    what = {"kept": "there already", "busy": "another process is at it; later"}.get(event.kind, "")
    if event.outcome is not None:
        compiling, running = event.outcome.compile_seconds, event.outcome.run_seconds
        what = f"{duration(compiling + running)} ({compiling:.1f} s to compile)"
    print(f"[{event.number}/{event.total}] {event.job.title}: {what}", file=sys.stderr, flush=True)
