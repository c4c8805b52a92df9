"""A suite: a grid of tasks x methods x seeds, run to its end however often it is interrupted.

What a suite holds is data (`xplore.benchmarks.suite`); here it becomes jobs, and their rows a
report.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from xplore.benchmarks.jobs import (
    Job,
    Outcome,
    ShowProgress,
    finished_seeds,
    run_job,
    silent,
    sources_of,
)
from xplore.benchmarks.suite import Method, Suite, Task
from xplore.contracts.errors import ConfigError, ResultsError
from xplore.contracts.registry import make, make_agent, make_bonus, make_world_sampler
from xplore.loop.config import Config
from xplore.record.experiments import experiment_table
from xplore.record.rows import Labels, read_rows, read_sidecars
from xplore.record.summary import MethodInfo, SuiteInfo, Summary, TaskInfo, summarise
from xplore.record.tables import Table, method_table, task_table

_BUSY_WAIT_SECONDS = 1.0


def job_of(suite: Suite, task: Task, method: Method) -> Job:
    """The job of one method on one task.

    Raises:
        XploreError: an id or option that there is not, or numbers that do not fit each other.
    """
    config = Config(
        env=make(task.env, **task.options),
        agent=make_agent(method.agent, **method.agent_options),
        bonus=make_bonus(method.bonus, **method.bonus_options),
        worlds=make_world_sampler(method.worlds, **method.worlds_options),
        budget_steps=task.budget_steps,
        num_envs=task.num_envs,
        num_steps=task.num_steps,
    )
    sources = sources_of(task.env, method.agent, method.bonus, method.worlds)
    labels = Labels(suite.name, task.label, **method.names)
    return Job(labels, config, suite.eval_levels, sources, suite.eval_episodes, method.eval_greedy)


def jobs_of(suite: Suite, only: str | None = None) -> list[Job]:
    """The grid; with `only`, the jobs whose `task/method` contains or matches it.

    Where the random agent's score is the zero of a task, its job always belongs to the task's.

    Raises:
        ConfigError: `only` matches nothing.
        XploreError: a task or method cannot be made.
    """
    cells = [(task, method) for task in suite.tasks for method in suite.methods]
    if only is not None:
        pattern = f"*{only.lower()}*"
        names = [f"{task.label}/{method.label}".lower() for task, method in cells]
        kept = [
            c for c, name in zip(cells, names, strict=True) if fnmatch.fnmatchcase(name, pattern)
        ]
        measured = {task.label for task, _ in kept if task.low is None}
        cells = [
            (t, m) for t, m in cells if (t, m) in kept or (t.label in measured and m.is_random)
        ]
        if not kept:
            raise ConfigError(
                f"--only {only!r} matches no task/method of {suite.name}: they look like"
                f" {names[0]!r}"
            )
    return [job_of(suite, task, method) for task, method in cells]


class Event(NamedTuple):
    """What `bench` tells as it goes.

    Attributes:
        kind: "start", "done" (just now), "kept" (was there already), "busy" (in another process).
        number, total: of the jobs of the grid, from 1.
        job: which.
        outcome: of a job that is done.
    """

    kind: str
    number: int
    total: int
    job: Job
    outcome: Outcome | None = None


def bench(
    suite: Suite,
    folder: str | Path,
    *,
    only: str | None = None,
    seeds: int | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    show_progress: ShowProgress = silent,
) -> None:
    """Runs every seed of the grid whose rows are not in `folder` yet.

    Killed at any moment and called again, it goes on from the last checkpoint. Several processes
    may share a folder: a job that another one is running is left for later.

    Args:
        suite: what to run.
        folder: where the rows go.
        only: run only the part of the grid that this matches.
        seeds: how many, if not the suite's own number.
        on_event: told of every job as it starts, ends, or is found to be there.
        show_progress: see `run_job`.

    Raises:
        XploreError: a job cannot be run; what was done is kept.
    """
    grid = jobs_of(suite, only)
    wanted = set(range(suite.seeds if seeds is None else seeds))
    if not wanted:
        raise ConfigError(f"seeds is {seeds}: give at least one")
    waiting = list(enumerate(grid, start=1))
    while waiting:
        left = []
        for number, job in waiting:
            missing = sorted(wanted - set(finished_seeds(folder, [job])[job.fingerprint]))
            if not missing:
                on_event(Event("kept", number, len(grid), job))
                continue
            on_event(Event("start", number, len(grid), job))
            outcome = run_job(job, missing, folder, show_progress=show_progress)
            on_event(Event("busy" if outcome is None else "done", number, len(grid), job, outcome))
            if outcome is None:
                left.append((number, job))
        if left and len(left) == len(waiting):
            time.sleep(_BUSY_WAIT_SECONDS)
        waiting = left


class Report(NamedTuple):
    """What the rows of a suite say.

    Attributes:
        rows: what it is made from.
        suite: how the tasks are scored, the measured random scores filled in.
        summary: all numbers.
        tasks, methods: the two tables.
        experiments: the third, of suites that score tasks together; None of others.
        left_out: tasks without rows, or without those of the random agent that is their zero.
    """

    rows: pd.DataFrame
    suite: SuiteInfo
    summary: Summary
    tasks: Table
    methods: Table
    experiments: Table | None
    left_out: tuple[str, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """All of them, in the order of a page."""
        both = (self.tasks, self.methods)
        return both if self.experiments is None else (self.experiments, *both)


def report(
    suite: Suite,
    folder: str | Path,
    *,
    seeds: int | None = None,
    on_problem: Callable[[str], None] | None = None,
) -> Report:
    """Makes the report from the rows in `folder`, and from nothing else.

    Only rows of the suite as it is now count: those of other settings stay in the folder unread.

    Args:
        suite: which.
        folder: where its rows are.
        seeds: use the seeds 0 to n-1 only.
        on_problem: told of each file that could not be read; see `read_rows`.

    Raises:
        ResultsError: there are no rows of the suite, or no such folder.
    """
    rows = suite_rows(suite, folder, seeds=seeds, on_problem=on_problem)
    scored = [(task, _info(task, _low(suite, task, rows))) for task in suite.tasks]
    found = tuple(info for _, info in scored if info is not None)
    if not found:
        raise _no_results(suite, folder)
    methods = tuple(MethodInfo(m.label, **m.names) for m in suite.methods)
    present = rows[["agent", "bonus", "worlds"]].astype(str).drop_duplicates()
    held = set(present.itertuples(index=False, name=None))
    methods = tuple(m for m in methods if (m.agent, m.bonus, m.worlds) in held)
    info = SuiteInfo(suite.name, found, methods)
    summary = summarise(rows, info, sidecars=read_sidecars(folder, on_problem=lambda problem: None))
    left_out = tuple(task.label for task, info in scored if info is None)
    tables = task_table(summary), method_table(summary)
    together = experiment_table(rows, info, suite.experiments) if suite.experiments else None
    return Report(rows, info, summary, *tables, together, left_out)


def suite_rows(
    suite: Suite,
    folder: str | Path,
    *,
    seeds: int | None = None,
    on_problem: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """The rows of the suite's grid as it is now, each seed of a job once.

    Raises:
        ResultsError: no such folder.
    """
    if not Path(folder).is_dir():
        raise _no_results(suite, folder)
    grid = finished_seeds(folder, jobs_of(suite))
    pairs = {(run, seed) for done in grid.values() for seed, run in done.items()}
    if seeds is not None:
        pairs = {(run, seed) for run, seed in pairs if seed < seeds}
    problem = {} if on_problem is None else {"on_problem": on_problem}
    rows = read_rows(folder, run_ids={run for run, _ in pairs}, **problem)
    # Two processes may have made the same seed in runs of different seeds: one of them is meant.
    held = zip(rows["run_id"].astype(str), rows["seed"], strict=True)
    kept = np.fromiter((pair in pairs for pair in held), bool, len(rows))
    return rows[kept].reset_index(drop=True)


def _no_results(suite: Suite, folder: str | Path) -> ResultsError:
    return ResultsError(
        f"no results of suite {suite.name!r} in {str(folder)!r}: run"
        f" `xplore bench {suite.name}` first"
    )


def _low(suite: Suite, task: Task, rows: pd.DataFrame) -> float | None:
    if task.low is not None:
        return task.low if (rows["task"] == task.label).any() else None
    names = [m.names for m in suite.methods if m.is_random]
    for name in names:
        mine = rows[(rows["task"] == task.label) & (rows["metric"] == task.score)]
        mine = mine[(mine["agent"] == name["agent"]) & (mine["worlds"] == name["worlds"])]
        if len(mine):
            last = mine.sort_values("env_steps").groupby("seed")["value"].last()
            return float(last.mean())
    return None


def _info(task: Task, low: float | None) -> TaskInfo | None:
    if low is None:
        return None
    return TaskInfo(
        task=task.label,
        metric=task.score,
        low=low,
        high=task.high,
        solved_at=task.solved_when,
        curve_metric=task.curve,
    )


def write_report(made: Report, folder: str | Path) -> list[Path]:
    """Writes the tables as markdown, LaTeX and CSV and the figures; returns their paths.

    Raises:
        ResultsError: a file cannot be written.
    """
    texts = {
        "table.md": "\n".join(t.to_markdown() for t in made.tables),
        "table.tex": "\n".join(t.to_latex() for t in made.tables),
        "tasks.csv": made.tasks.to_csv(),
        "methods.csv": made.methods.to_csv(),
    }
    if made.experiments is not None:
        texts["experiments.csv"] = made.experiments.to_csv()
    paths = []
    try:
        for name, text in texts.items():
            paths.append(Path(folder) / name)
            paths[-1].write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"cannot write {str(paths[-1])!r}: {error.strerror}") from error
    return paths + write_figures(made, folder)


def write_figures(made: Report, folder: str | Path) -> list[Path]:
    """Writes learning curves, performance profiles and aggregate intervals; returns their paths."""
    from xplore.record import plots  # matplotlib takes a second to import

    figures = {
        "curves": plots.learning_curves(made.rows, made.suite),
        "profiles": plots.performance_profiles(made.summary),
        "intervals": plots.aggregate_intervals(made.summary),
    }
    paths = []
    for name, figure in figures.items():
        paths.append(Path(folder) / f"{name}.png")
        plots.save_figure(figure, paths[-1])
    return paths
