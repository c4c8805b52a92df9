"""World samplers side by side, at equal env steps and at equal FLOPs.

`python -m xplore.benchmarks.samplers` runs what is missing in `results/samplers` and makes the
table there from the rows. CtxDeepSea is the control: its levels are equally hard, so that
no sampler has anything to choose by.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tyro

from xplore.bench import job_of
from xplore.benchmarks.generalisation import player
from xplore.benchmarks.generalisation_report import estimate
from xplore.benchmarks.held_out import optimal_steps
from xplore.benchmarks.jobs import Job
from xplore.benchmarks.suite import Method, Suite, Task
from xplore.benchmarks.together import Metrics, kept, rows_of_grid, run_grid, tell
from xplore.loop.update import TrainState
from xplore.measure import generalisation as measured
from xplore.parts.levels import held_out_ids
from xplore.record.stats import Array

FOLDER: Final = Path(__file__).resolve().parents[1] / "results" / "samplers"
HELD_OUT: Final = 1000
TRIES: Final = 2
_FEWER: Final = 200  # levels, on the way
_POINTS: Final = 4
_TOLD: Final = ("success", "success_worst_10", "success_worst_5", "success_worst_1")
_COSTS: Final = ("worlds/scoring_steps", "worlds/levels_generated")

# Sizes for rollouts of 32 envs: new levels as with the papers' replay probabilities.
SAMPLERS: Final[dict[str, dict[str, Any]]] = {
    "fresh": {},
    "plr": {"buffer_size": 1000},
    "robust_plr": {"buffer_size": 1000, "num_new": 8},
    "accel": {"buffer_size": 1000, "num_new": 2, "num_edited": 8},
    "sfl": {"num_tried": 16, "num_candidates": 512},
    "paired": {"num_levels": 32},
    "learning_progress": {"num_levels": 1000},
    "curriculum": {"num_levels": 1000},
}
# Mean success and CVaR at 10, 5 and 1% on 10,000 solvable mazes, 13x13 with 60 walls, 10 seeds:
# aggregated from the files that the authors of arXiv:2408.15099 published with their code.
PUBLISHED: Final = {
    "sfl": (0.995, 0.953, 0.906, 0.654),
    "fresh": (0.993, 0.934, 0.869, 0.561),
    "accel (no robust replay)": (0.984, 0.852, 0.717, 0.325),
    "plr, l1_value_loss": (0.983, 0.843, 0.707, 0.329),
    "accel": (0.957, 0.599, 0.371, 0.089),
    "robust_plr": (0.948, 0.526, 0.284, 0.063),
}


def _task(env: str, budget_steps: int, label: str, **options: Any) -> Task:
    return Task(
        env=env, options=options, budget_steps=budget_steps, num_envs=32, num_steps=64, label=label,
        score="eval/success", curve="episode/success", low=0.0, high=1.0,
        high_reason="exact: every level can be solved within its time limit", solved_when=0.9,
    )  # fmt: skip


GRID: Final = Suite(
    name="samplers",
    description="world samplers at equal env steps and equal FLOPs",
    tasks=(
        _task(
            "Maze-Perfect-13x13-v0", 122_880, "Maze-Perfect-7x7", size=7, num_blocks=0, max_steps=60
        ),
        _task("CtxDeepSea-6-16-v0", 49_152, "CtxDeepSea-4 (control)", size=4),
    ),
    methods=tuple(
        Method(name, worlds=name, worlds_options=options) for name, options in SAMPLERS.items()
    ),
    seeds=5,
    eval_levels=0,
)


def measure(jobs: Sequence[Job], seeds: Sequence[int], update: int, state: TrainState) -> Metrics:
    """What the protocol measures of held-out levels; of fewer of them on the way."""
    config = jobs[0].config
    if update * _POINTS % config.num_updates >= _POINTS:
        return {}
    env: Any = config.env
    agent: Any = config.agent
    num = HELD_OUT if update == config.num_updates else _FEWER
    lanes = len(jobs) * len(seeds)
    ids = jnp.tile(held_out_ids(0, num), (lanes, 1))
    keys = jax.random.split(jax.random.key(update), lanes)
    outcome = measured.Tries(*jax.device_get(player(env, agent, TRIES)(state.agent, ids, keys)))
    found = measured.of_levels(outcome, optimal_steps(env, num))
    return {f"eval/{name}": x for name, x in found.items()}


def at_flops(rows: pd.DataFrame, metric: str, flops: float, per_step: float) -> Array:
    """A metric of each seed `[S]` once `flops` were spent, between evaluations linear."""
    mine = rows[rows["metric"] == metric]
    points = mine.pivot_table(index="env_steps", columns="seed", values="value", observed=True)
    steps = np.concatenate([[0.0], points.index.to_numpy(np.float64)])
    reached = flops / per_step
    return np.array([np.interp(reached, steps, [0.0, *points[s]]) for s in points.columns])


def table(rows: pd.DataFrame, folder: Path) -> str:
    """The markdown: every task by steps and by FLOPs, then the published numbers."""
    records = kept(folder).records
    by_job = dict(tuple(rows.groupby("fingerprint", observed=True)))
    lines = []
    for task in GRID.tasks:
        jobs = {m.label: job_of(GRID, task, m) for m in GRID.methods if _fits(task, m)}
        shown = {name: job for name, job in jobs.items() if job.fingerprint in by_job}
        if not shown:
            continue
        per_step = {
            name: records[job.fingerprint]["flops_per_update"] / job.config.steps_per_update
            for name, job in shown.items()
        }
        least = min(per_step.values()) * task.budget_steps
        heads = ["success", "worst 10%", "worst 5%", "worst 1%", "scoring / training steps"]
        heads += ["MFLOP / step", f"success after {least / 1e9:,.0f} GFLOP", "worst 10%"]
        lines += [f"**{task.label}**: {task.budget_steps:,} steps, {GRID.seeds} seeds", ""]
        lines += [f"| sampler | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
        for name, job in shown.items():
            mine = by_job[job.fingerprint]
            last = mine[mine["env_steps"] == task.budget_steps]
            told = []
            for metric in _TOLD:
                values = last[last["metric"] == f"eval/{metric}"]["value"].to_numpy(np.float64)
                told.append(estimate(values, task.label, name, metric))
            scoring = mine[mine["metric"] == _COSTS[0]]["value"].sum() / mine["seed"].nunique()
            told += [f"{scoring / task.budget_steps:.2f}", f"{per_step[name] / 1e6:.2f}"]
            for metric in _TOLD[:2]:
                values = at_flops(mine, f"eval/{metric}", least, per_step[name])
                told.append(estimate(values, task.label, name, metric, "flops"))
            lines.append(f"| {name} | {' | '.join(told)} |")
        lines.append("")
    lines += ["| published (see the text) | success | worst 10% | worst 5% | worst 1% |"]
    lines += ["|---|---|---|---|---|"]
    lines += [f"| {n} | {' | '.join(f'{x:.3f}' for x in v)} |" for n, v in PUBLISHED.items()]
    return "\n".join(lines) + "\n"


def _fits(task: Task, method: Method) -> bool:
    """Whether a sampler works there: CtxDeepSea's levels cannot be edited."""
    return method.worlds != "accel" or not task.env.startswith("CtxDeepSea")


def main(
    folder: tyro.conf.Positional[Path] = FOLDER,
    seeds: int = GRID.seeds,
    only: str | None = None,
    report_only: bool = False,
) -> None:
    """Runs what is missing, and makes the table."""
    for task in () if report_only else GRID.tasks:
        for method in GRID.methods:
            name = f"{task.label}/{method.label}"
            if _fits(task, method) and (only is None or only.lower() in name.lower()):
                run_grid(
                    GRID, folder, ["episode/success", *_COSTS], seeds=seeds, only=name,
                    measure=measure, on_group=tell,
                )  # fmt: skip
    rows = rows_of_grid(GRID, folder)
    if len(rows):
        (folder / "table.md").write_text(table(rows, folder), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
