"""All numbers of a report, from rows and a description of the suite as plain data."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from xplore.contracts.errors import ResultsError
from xplore.record import stats, survival
from xplore.record.stats import Array

Estimate = tuple[float, float, float]  # a value and the two ends of its 95% interval
_UNKNOWN: Estimate = (float("nan"), float("nan"), float("nan"))


@dataclasses.dataclass(frozen=True)
class TaskInfo:
    """How a task is scored: the last value of `metric` of each seed, between `low` and `high`.

    Attributes:
        task: as in the rows.
        label: as in a table; the task if empty.
        metric: the score.
        low: its random value, 0 when normalised.
        high: its optimal value, 1 when normalised.
        solved_at: a seed has solved the task when `solved_metric` is this or more; None: not asked.
        solved_metric: `metric` if empty. Time to solve follows the metric of the same name measured
            during training (`eval/success`: `episode/success`).
        curve_metric: what learning curves show.
    """

    task: str
    label: str = ""
    metric: str = "eval/return"
    low: float = 0.0
    high: float = 1.0
    solved_at: float | None = None
    solved_metric: str = ""
    curve_metric: str = "episode/return"

    @property
    def name(self) -> str:
        """The task as a table names it."""
        return self.label or self.task

    @property
    def solving(self) -> tuple[str, str]:
        """The metrics that tell whether a seed has solved the task, and when."""
        final = self.solved_metric or self.metric
        return final, "episode/" + final.removeprefix("eval/")


@dataclasses.dataclass(frozen=True)
class MethodInfo:
    """A row or column of a table: the runs of one agent with one bonus and one world sampler."""

    label: str
    agent: str
    bonus: str
    worlds: str


@dataclasses.dataclass(frozen=True)
class SuiteInfo:
    """What a report is about: tasks and methods in order; the first method is the baseline.

    With no methods, every one that the rows hold is shown, the one without a bonus first.
    """

    name: str
    tasks: tuple[TaskInfo, ...]
    methods: tuple[MethodInfo, ...] = ()


@dataclasses.dataclass(frozen=True)
class TaskScore:
    """A method on a task.

    Attributes:
        scores: the final score of each seed, `[R]`, in the task's own units.
        normalised: the same between 0 (random) and 1 (optimal), clipped.
        iqm: of `scores`, with its interval.
        solved: how many seeds solved it; None where the task does not say.
        solved_fraction: the same as a fraction with its Wilson interval.
        budget_steps: env steps each seed was given.
        median_steps: env steps until half the seeds had solved it; infinite if they never did.
        mean_steps: env steps to solve, a seed that did not counting with the budget.
    """

    task: TaskInfo
    method: MethodInfo
    scores: Array
    normalised: Array
    iqm: Estimate
    solved: int | None
    solved_fraction: Estimate
    budget_steps: int
    median_steps: float
    mean_steps: float


@dataclasses.dataclass(frozen=True)
class MethodScore:
    """A method over all tasks; the estimates are NaN while a task is missing.

    Attributes:
        privileged: what it reads that a plain agent may not; "" for nothing, None if unknown.
        iqm: of the normalised scores.
        gap: the optimality gap.
        improvement: the probability of improving on the baseline; NaN for the baseline itself.
        solved: seeds that solved their task, of `asked`, over the tasks that say what solved is.
        budget_to_solve: `mean_steps / budget_steps`, the mean over those tasks.
    """

    method: MethodInfo
    privileged: str | None
    num_tasks: int
    iqm: Estimate
    gap: Estimate
    improvement: Estimate
    solved: int
    asked: int
    solved_fraction: Estimate
    budget_to_solve: float


@dataclasses.dataclass(frozen=True)
class Summary:
    """All numbers of a report; `tasks` holds a score for each (task, method) that has runs."""

    suite: SuiteInfo
    methods: tuple[MethodScore, ...]
    tasks: tuple[TaskScore, ...]

    def find(self, task: TaskInfo, method: MethodInfo) -> TaskScore | None:
        """The score of a method on a task, or None if it has no runs."""
        found = (s for s in self.tasks if s.task == task and s.method == method)
        return next(found, None)


def methods_in(rows: pd.DataFrame) -> tuple[MethodInfo, ...]:
    """Every method of the rows: agents in alphabetical order, each first without a bonus.

    A label leaves out the bonus `none` and a world sampler that all methods share.
    """
    held = rows[["agent", "bonus", "worlds"]].astype(str).drop_duplicates()
    found = sorted(
        held.itertuples(index=False, name=None), key=lambda m: (m[0], m[1] != "none", m[1], m[2])
    )
    several = len({worlds for _, _, worlds in found}) > 1
    return tuple(
        MethodInfo(
            agent + (f" + {bonus}" if bonus != "none" else "") + (f" @ {worlds}" * several),
            agent,
            bonus,
            worlds,
        )
        for agent, bonus, worlds in found
    )


def rows_of(rows: pd.DataFrame, task: TaskInfo, method: MethodInfo) -> pd.DataFrame:
    """The rows of a method on a task.

    Raises:
        ResultsError: two runs hold the same seed, so that it is not clear which is meant.
    """
    kept = rows[
        (rows["task"] == task.task)
        & (rows["agent"] == method.agent)
        & (rows["bonus"] == method.bonus)
        & (rows["worlds"] == method.worlds)
    ]
    if "run_id" in kept:
        held = kept[["seed", "run_id"]].astype({"run_id": str}).drop_duplicates()
        twice = held[held.duplicated("seed", keep=False)].sort_values(["seed", "run_id"])
        if len(twice):
            ids = " and ".join(twice["run_id"].unique())
            raise ResultsError(
                f"runs {ids} both hold seed {twice['seed'].iloc[0]} of {method.label} on"
                f" {task.task}: say which runs to read, or use a folder for each"
            )
    return kept


def curves(rows: pd.DataFrame, metric: str) -> tuple[Array, Array, Array]:
    """A metric of one method on one task as an array: seeds `[R]`, env_steps `[U]`, `[R, U]`.

    Where the seeds were measured at different times the points are those of all of them, NaN
    where one was not.
    """
    wide = rows[rows["metric"] == metric].pivot(index="seed", columns="env_steps", values="value")
    wide = wide.sort_index(axis=0).sort_index(axis=1)
    return (
        wide.index.to_numpy(np.int64).astype(np.float64),
        wide.columns.to_numpy(np.int64).astype(np.float64),
        wide.to_numpy(np.float64),
    )


def summarise(
    rows: pd.DataFrame,
    suite: SuiteInfo,
    *,
    sidecars: Mapping[str, Mapping[str, Any]] | None = None,
    reps: int = 2000,
    seed: int = 0,
) -> Summary:
    """Computes every number of a report; the same rows give the same numbers, to the last digit.

    The draws behind an interval depend on `seed` and the names of its task and method only, so
    that adding a method leaves the others as they were.

    Args:
        rows: as `read_rows` returns.
        suite: what to show, in which order, and how a task is scored.
        sidecars: as `read_sidecars` returns; `privileged` says what a method reads.
        reps: bootstrap resamples.
        seed: of the bootstrap.

    Raises:
        ResultsError: no scores of this suite's tasks, two runs with the same seed, or a task whose
            optimal score is not above its random one.
    """
    for task in suite.tasks:
        if not task.high > task.low:
            raise ResultsError(
                f"task {task.task}: the optimal score {task.high} must be above the random score"
                f" {task.low}"
            )
    known = rows[rows["task"].isin([t.task for t in suite.tasks])]
    if known.empty:
        raise ResultsError(
            f"no rows of suite '{suite.name}' ({len(suite.tasks)} tasks) among {len(rows)}:"
            " run it first, or name the folder that holds its results"
        )
    suite = dataclasses.replace(suite, methods=suite.methods or methods_in(known))
    scores = [
        score
        for task in suite.tasks
        for method in suite.methods
        if (score := _task_score(known, task, method, reps, seed)) is not None
    ]
    if not scores:
        metrics = ", ".join(sorted({t.metric for t in suite.tasks}))
        raise ResultsError(
            f"no scores of suite '{suite.name}' among {len(known)} rows of its tasks: they need the"
            f" metric {metrics} of at least one of its methods"
        )
    by_method = {m: [s for s in scores if s.method == m] for m in suite.methods}
    baseline = by_method[suite.methods[0]]
    reads = [_privileged(known, m, sidecars) for m in suite.methods]
    overall = [
        _method_score(m, by_method[m], baseline, len(suite.tasks), read, reps, seed)
        for m, read in zip(suite.methods, reads, strict=True)
    ]
    return Summary(suite, tuple(overall), tuple(scores))


def generator_for(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on a seed and on what it is for, not on what was drawn before."""
    return np.random.default_rng([seed, zlib.crc32("\0".join(names).encode())])


def _task_score(
    rows: pd.DataFrame, task: TaskInfo, method: MethodInfo, reps: int, seed: int
) -> TaskScore | None:
    mine = rows_of(rows, task, method)
    by_seed = _final(mine, task.metric)
    scores = np.asarray(by_seed, np.float64)
    if not scores.size:
        return None
    generator = generator_for(seed, "task", task.task, *dataclasses.astuple(method)[1:])
    interval = stats.bootstrap_interval(stats.iqm, [scores], generator=generator, reps=reps)
    budget = int(mine["env_steps"].max())
    solved, fraction, median, average = None, _UNKNOWN, float("nan"), float("nan")
    if task.solved_at is not None:
        final, during = task.solving
        outcome = _final(mine, final)
        if len(outcome):
            # Of the seeds that have a score: one without an outcome has not solved the task.
            solved = int((outcome.reindex(by_seed.index) >= task.solved_at).sum())
            fraction = (solved / scores.size, *stats.wilson_interval(solved, scores.size))
        median, average = _time_to_solve(mine, during, task.solved_at, budget)
    return TaskScore(
        task=task,
        method=method,
        scores=scores,
        normalised=stats.normalised_score(scores, task.low, task.high),
        iqm=(float(stats.iqm([scores])), float(interval.low), float(interval.high)),
        solved=solved,
        solved_fraction=fraction,
        budget_steps=budget,
        median_steps=median,
        mean_steps=average,
    )


def _final(rows: pd.DataFrame, metric: str) -> pd.Series[float]:
    """The last value of each seed that is a number, by seed."""
    measured = rows[(rows["metric"] == metric) & rows["value"].notna()]
    last = measured.sort_values("env_steps").groupby("seed")["value"].last()
    return last.sort_index()


def _time_to_solve(
    rows: pd.DataFrame, metric: str, threshold: float, budget: int
) -> tuple[float, float]:
    seeds, env_steps, values = curves(rows, metric)
    if not seeds.size:
        return float("nan"), float("nan")
    times, solved = survival.first_reached(env_steps, values, threshold)
    mean_time = survival.restricted_mean_time(times, solved, float(budget))
    return survival.median_time(times, solved), mean_time


def _method_score(
    method: MethodInfo,
    scores: Sequence[TaskScore],
    baseline: Sequence[TaskScore],
    num_tasks: int,
    privileged: str | None,
    reps: int,
    seed: int,
) -> MethodScore:
    names = dataclasses.astuple(method)[1:]
    strata = [s.normalised for s in scores]
    iqm, gap, improvement = _UNKNOWN, _UNKNOWN, _UNKNOWN
    # Over different tasks two aggregates cannot be compared: a method is whole or it has none.
    if len(scores) == num_tasks:
        iqm = _pooled(stats.iqm, strata, generator_for(seed, "iqm", *names), reps)
        gap = _pooled(stats.optimality_gap, strata, generator_for(seed, "gap", *names), reps)
        if len(baseline) == num_tasks and baseline[0].method != method:
            other = [s.normalised for s in baseline]
            interval = stats.improvement_interval(
                strata, other, generator=generator_for(seed, "better", *names), reps=reps
            )
            point = stats.probability_of_improvement(strata, other)
            improvement = (float(point), float(interval.low), float(interval.high))
    asked = [s for s in scores if s.solved is not None]
    solved = sum(s.solved or 0 for s in asked)
    count = sum(s.scores.size for s in asked)
    fraction = (solved / count, *stats.wilson_interval(solved, count)) if count else _UNKNOWN
    spent = [s.mean_steps / s.budget_steps for s in scores if not np.isnan(s.mean_steps)]
    return MethodScore(
        method=method,
        privileged=privileged,
        num_tasks=len(scores),
        iqm=iqm,
        gap=gap,
        improvement=improvement,
        solved=solved,
        asked=count,
        solved_fraction=fraction,
        budget_to_solve=float(np.mean(spent)) if spent else float("nan"),
    )


def _pooled(
    statistic: stats.Statistic, strata: stats.Strata, generator: np.random.Generator, reps: int
) -> Estimate:
    interval = stats.bootstrap_interval(statistic, strata, generator=generator, reps=reps)
    return float(statistic(strata)), float(interval.low), float(interval.high)


def _privileged(
    rows: pd.DataFrame, method: MethodInfo, sidecars: Mapping[str, Mapping[str, Any]] | None
) -> str | None:
    if sidecars is None or "run_id" not in rows:
        return None
    mine = rows[
        (rows["agent"] == method.agent)
        & (rows["bonus"] == method.bonus)
        & (rows["worlds"] == method.worlds)
    ]
    said = [
        sidecars[run]["privileged"]
        for run in mine["run_id"].astype(str).unique()
        if "privileged" in sidecars.get(run, {})
    ]
    words = {word for given in said for word in _words(given)}
    return ", ".join(sorted(words)) if said else None


def _words(given: Any) -> Iterable[str]:
    if isinstance(given, (list, tuple)):
        return [str(g) for g in given]
    if isinstance(given, bool):
        return ["privileged"] if given else []
    return [str(given)] if given else []
