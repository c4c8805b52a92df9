"""Jobs that differ only in numbers, such as a coefficient, run as one program; rows in one file.

Compiling is most of what a cell of a large grid of short runs costs. Floats of a component are
values, so that all coefficients and seeds of a cell can be lanes of one program; what a lane
computes is what its job computes by itself, up to rounding. The rows of all jobs of a grid are in
one Parquet file, with the columns of `xplore.record.rows` and the metrics the grid is scored by,
and what each was made by in a JSON file beside it, by the job's fingerprint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from xplore.bench import job_of, jobs_of
from xplore.benchmarks.jobs import Job, thinned
from xplore.benchmarks.suite import Suite
from xplore.contracts.component import to_json
from xplore.contracts.errors import ConfigError, ResultsError
from xplore.loop.config import Config
from xplore.loop.programs import flops_per_update, seed_keys
from xplore.loop.update import TrainState, make_train, reads_of
from xplore.record.files import new_file, writable_folder
from xplore.record.provenance import environment, jsonable
from xplore.record.rows import COLUMNS, long_rows

Metrics = dict[str, np.ndarray]
AsNumbers = Callable[[Config], Config]
# Of jobs and seeds, updates made, and the states of all lanes, `[J*S, ...]`: metrics `[J*S]`.
Measure = Callable[[Sequence[Job], Sequence[int], int, TrainState], Metrics]


def as_it_is(config: Config) -> Config:
    """No choice of a config is turned into a number."""
    return config


class Kept(NamedTuple):
    """What a folder holds: rows with a column `fingerprint`, and of each of those its record."""

    rows: pd.DataFrame
    records: dict[str, dict[str, Any]]


def kept(folder: Path) -> Kept:
    """Reads `rows.parquet` and `provenance.json`, or returns nothing where there are none.

    Raises:
        ResultsError: one of the two is missing, or cannot be read.
    """
    rows, records = folder / "rows.parquet", folder / "provenance.json"
    if not rows.exists() and not records.exists():
        return Kept(pd.DataFrame(columns=[*COLUMNS, "fingerprint"]), {})
    try:
        return Kept(pd.read_parquet(rows), json.loads(records.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ResultsError(f"cannot read the rows in {str(folder)!r}: {error}") from error


def rows_of_grid(suite: Suite, folder: Path) -> pd.DataFrame:
    """The rows of the grid as it is now; those of changed settings are left out."""
    wanted = {job.fingerprint for job in jobs_of(suite)}
    rows = kept(folder).rows
    return rows[rows["fingerprint"].isin(wanted)].reset_index(drop=True)


def late_means(
    suite: Suite, rows: pd.DataFrame, metric: str, share: float
) -> dict[tuple[str, str], np.ndarray]:
    """Means of a metric over the last `share` of the budget, `[S]`, by labels of task and method.

    A cell of which there are no rows is left out.
    """
    rows = rows[rows["metric"] == metric]
    by_job = dict(tuple(rows.groupby("fingerprint", observed=True)))
    found = {}
    for task in suite.tasks:
        for method in suite.methods:
            mine = by_job.get(job_of(suite, task, method).fingerprint)
            if mine is None:
                continue
            late = mine[mine["env_steps"] > (1 - share) * task.budget_steps]
            means = late.groupby("seed")["value"].mean()
            if len(means):
                found[task.label, method.label] = means.to_numpy(np.float64)
    return found


def groups_of(jobs: Sequence[Job], as_numbers: AsNumbers = as_it_is) -> list[list[Job]]:
    """The jobs that one program can run, in order: equal but for floats of their configs.

    Args:
        jobs: of a grid.
        as_numbers: rewrites a config into one that does the same, but holds as a float what else
            would be part of the program, such as a choice among few formulas.
    """
    groups: dict[Any, list[Job]] = {}
    for job in jobs:
        alike = (job.labels.task, jax.tree.structure(as_numbers(job.config)))
        groups.setdefault(alike, []).append(job)
    return list(groups.values())


def run_grid(
    suite: Suite,
    folder: Path,
    metrics: Sequence[str],
    *,
    seeds: int | None = None,
    only: str | None = None,
    as_numbers: AsNumbers = as_it_is,
    measure: Measure | None = None,
    most_jobs: int | None = None,
    on_group: Callable[[int, int, Sequence[Job], float], None] = lambda *told: None,
) -> None:
    """Runs what of the grid is not in `folder` yet; killed and called again, it goes on.

    What was there and belongs to the grid no more, its settings having changed, is dropped.

    Args:
        suite: what to run. Its budgets are whole numbers of updates, and it has no held-out levels.
        folder: where `rows.parquet` and `provenance.json` are.
        metrics: what of a run is kept.
        seeds: how many, if not the suite's own number.
        only: run only the part of the grid that this matches.
        as_numbers: see `groups_of`.
        measure: called after every update; what it returns is kept beside `metrics`.
        most_jobs: of one program; larger groups are run in parts, which memory may ask for.
        on_group: told number, total, jobs and seconds of every group that was run.

    Raises:
        ConfigError: a suite that asks for more than this can do.
        ResultsError: a run diverged, or lacks one of `metrics`; or `folder` cannot be written.
    """
    if suite.eval_levels:
        raise ConfigError(f"grid {suite.name}: nothing is evaluated here: set eval_levels to 0")
    numbers = tuple(range(suite.seeds if seeds is None else seeds))
    wanted = {job.fingerprint for job in jobs_of(suite)}
    groups = _parts(groups_of(jobs_of(suite, only), as_numbers), most_jobs)
    writable_folder(folder)
    for number, group in enumerate(groups, start=1):
        there = kept(folder)
        missing = [job for job in group if not _has(there, job, numbers)]
        if not missing:
            continue
        started = time.perf_counter()
        frames, records = _run(missing, numbers, metrics, as_numbers, measure)
        replaced = {job.fingerprint for job in missing}
        old = there.rows[there.rows["fingerprint"].isin(wanted - replaced)]
        rows = pd.concat([old, *frames] if len(old) else frames, ignore_index=True)
        records = {k: v for k, v in there.records.items() if k in wanted} | records
        # The record last: rows without one are not taken for done.
        with new_file(folder / "rows.parquet", replace=True) as stream:
            rows.to_parquet(stream, index=False, compression="zstd")
        with new_file(folder / "provenance.json", replace=True) as stream:
            stream.write(_text(records).encode())
        on_group(number, len(groups), missing, time.perf_counter() - started)


def _parts(groups: list[list[Job]], most_jobs: int | None) -> list[list[Job]]:
    """The groups, those of more than `most_jobs` in parts of that many."""
    size = most_jobs or max(map(len, groups), default=1)
    return [group[i : i + size] for group in groups for i in range(0, len(group), size)]


def _text(records: dict[str, dict[str, Any]]) -> str:
    """JSON with a line for each record."""
    lines = [f'"{name}": {json.dumps(records[name], sort_keys=True)}' for name in sorted(records)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def tell(number: int, total: int, group: Sequence[Job], seconds: float) -> None:
    """Prints a line on a group that was run."""
    print(f"{number}/{total} {group[0].title} ({len(group)} jobs) {seconds:.0f} s", flush=True)


def _has(there: Kept, job: Job, seeds: Sequence[int]) -> bool:
    record = there.records.get(job.fingerprint, {"seeds": []})
    return set(seeds) <= set(record["seeds"])


def _run(
    jobs: Sequence[Job],
    seeds: tuple[int, ...],
    metrics: Sequence[str],
    as_numbers: AsNumbers,
    measure: Measure | None,
) -> tuple[list[pd.DataFrame], dict[str, dict[str, Any]]]:
    started = time.perf_counter()
    measured: list[tuple[int, Metrics]] = []

    def visit(update: int, state: TrainState) -> None:
        if measure is not None and (found := measure(jobs, seeds, update, state)):
            measured.append((update * jobs[0].config.steps_per_update, found))

    steps, found, compile_seconds = train_together(jobs, seeds, as_numbers, visit)
    seconds = time.perf_counter() - started
    frames, records, made_by = [], {}, environment()
    flops: dict[tuple[str, ...], float] = {}
    for number, (job, history) in enumerate(zip(jobs, found, strict=True)):
        points, joined = thinned(steps, history)
        if missing := sorted(set(metrics) - joined.keys()):
            raise ResultsError(f"{job.title} has no metric {missing[0]}")
        parts = [long_rows(seeds, points, {name: joined[name] for name in metrics})]
        mine = slice(number * len(seeds), (number + 1) * len(seeds))
        for at, values in measured:
            parts.append(long_rows(seeds, [at], {name: x[mine] for name, x in values.items()}))
        frame = pd.concat(parts, ignore_index=True)
        plugs = (job.labels.agent, job.labels.bonus, job.labels.worlds.partition("(")[0])
        if plugs not in flops:  # how many levels there are does not change it
            flops[plugs] = flops_per_update(job.config)
        frame = frame.dropna(subset=["value"]).assign(**vars(job.labels))
        frames.append(frame[list(COLUMNS)].assign(fingerprint=job.fingerprint))
        records[job.fingerprint] = jsonable(
            {
                "labels": vars(job.labels),
                "bonus": to_json(job.config.bonus),
                "agent": to_json(job.config.agent),
                "worlds": to_json(job.config.worlds),
                "budget_steps": job.config.budget_steps,
                "seeds": seeds,
                "flops_per_update": flops[plugs],
                "privileged": reads_of(job.config),
                "jobs_together": len(jobs),
                "compile_seconds_together": compile_seconds,
                "run_seconds_together": seconds - compile_seconds,
                "environment": made_by,
            }
        )
    return frames, records


def train_together(
    jobs: Sequence[Job],
    seeds: tuple[int, ...],
    as_numbers: AsNumbers = as_it_is,
    visit: Callable[[int, TrainState], None] = lambda *told: None,
) -> tuple[np.ndarray, list[Metrics], float]:
    """Trains every seed of every job of one group as one program.

    Args:
        jobs: of one group.
        seeds: of each.
        as_numbers: see `groups_of`.
        visit: shown the number of updates made and the state, leaves `[J*S, ...]`, after each.

    Returns:
        Env steps `[U]`; for each job its metrics, `[S, U]` each; and seconds spent compiling.

    Raises:
        ConfigError: the jobs are of several groups, or a budget is no whole number of updates.
        ResultsError: a metric of agent or bonus became NaN or infinite.
    """
    config = as_numbers(jobs[0].config)
    if len(groups_of(jobs, as_numbers)) != 1:
        raise ConfigError("these jobs differ in more than numbers: they need programs of their own")
    if config.budget_steps % config.steps_per_update:
        raise ConfigError(
            f"{jobs[0].title}: a budget of {config.budget_steps:,} steps is no multiple of the"
            f" {config.steps_per_update:,} of an update"
        )
    leaves = [jax.tree.leaves(as_numbers(job.config)) for job in jobs]
    structure = jax.tree.structure(config)
    differ = [
        i
        for i, (first, *others) in enumerate(zip(*leaves, strict=True))
        if not all(np.array_equal(first, other) for other in others)
    ]

    def with_values(values: jax.Array) -> Any:
        # Only what differs becomes an array: the rest stays constants, as in a program of its own.
        mine = list(leaves[0])
        for place, i in enumerate(differ):
            mine[i] = values[place]
        return jax.tree.unflatten(structure, mine)

    table = np.array([[row[i] for i in differ] for row in leaves], np.float32)  # [J, differ]
    values = jnp.asarray(np.repeat(table, len(seeds), axis=0))
    keys = jnp.tile(seed_keys(seeds), len(jobs))
    init = jax.jit(jax.vmap(lambda v, key: make_train(with_values(v)).init(key)))
    update = jax.jit(
        jax.vmap(lambda v, state: make_train(with_values(v)).update(state)), donate_argnums=1
    )
    started = time.perf_counter()
    program = update.lower(values, jax.eval_shape(init, values, keys)).compile()
    compile_seconds = time.perf_counter() - started
    state, history = init(values, keys), []
    for update_number in range(1, config.num_updates + 1):
        state, metrics = program(values, state)
        history.append(jax.device_get(metrics))
        visit(update_number, state)
    lanes = {name: np.stack([h[name] for h in history], axis=1) for name in history[0]}
    for name, numbers in lanes.items():
        if name.startswith(("agent/", "bonus/")) and not np.isfinite(numbers).all():
            lane = int(np.argwhere(~np.isfinite(numbers))[0, 0])
            job, seed = jobs[lane // len(seeds)], seeds[lane % len(seeds)]
            raise ResultsError(f"{job.title}, seed {seed}: {name} became NaN or infinite")
    steps = np.arange(1, config.num_updates + 1, dtype=np.int64) * config.steps_per_update
    found = [
        {name: x[j * len(seeds) : (j + 1) * len(seeds)] for name, x in lanes.items()}
        for j in range(len(jobs))
    ]
    return steps, found, compile_seconds
