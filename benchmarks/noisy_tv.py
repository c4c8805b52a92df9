"""Who watches the noisy television: the share of steps spent on it, by bonus.

`python -m xplore.benchmarks.noisy_tv` runs what is missing in `results/noisy-tv` (a seed's rows are
kept, and killed runs go on), and makes the table and the figure there from the rows.

The task is a large empty MiniGrid room with the action "watch" added, short enough that its goal is
met seldom; one who chooses at random watches in an eighth of the steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import tyro

from xplore.bench import bench, suite_rows
from xplore.benchmarks.suite import Method, Suite, Task
from xplore.contracts.registry import make_bonus
from xplore.record import plots
from xplore.record.stats import bootstrap_interval, mean
from xplore.record.summary import MethodInfo, SuiteInfo, TaskInfo, generator_for, rows_of

FOLDER: Final = Path(__file__).resolve().parents[1] / "results" / "noisy-tv"
METRIC: Final = "episode/watched"
LAST_SHARE: Final = 0.2  # of the budget, over which the table's numbers are means
_RANDOM: Final = 1 / 8

# Not a SUITE: a high score is no success here, so tables and aggregates of suites do not apply.
GRID: Final = Suite(
    name="noisy-tv",
    description="who watches the noisy television",
    tasks=(
        Task(
            env="noisy_tv/MiniGrid-Empty-16x16-v0",
            options={"max_steps": 128},
            label="noisy_tv/MiniGrid-Empty-16x16-v0",
            budget_steps=204_800,
            num_envs=32,
            num_steps=128,
            score=METRIC,
            curve=METRIC,
            low=0.0,
            high=1.0,
            high_reason="by definition: every step watches",
            solved_when=1.0,
        ),
    ),
    methods=(
        Method("none"),
        Method("count, position", bonus="count", bonus_options={"key": "position"}),
        Method(
            "episodic count, position", bonus="episodic_count", bonus_options={"key": "position"}
        ),
        Method("e3b, inverse features", bonus="e3b"),
        Method("disagreement", bonus="disagreement"),
        Method("icm, inverse features", bonus="icm"),
        Method("icm, random features", bonus="icm", bonus_options={"encoding": "random"}),
        Method("rnd", bonus="rnd"),
        Method("count, observation", bonus="count"),
    ),
    seeds=5,
    eval_levels=0,
)


def watched(rows: pd.DataFrame, method: Method, task: TaskInfo) -> np.ndarray:
    """The share of steps spent watching at the end of training, a number for each seed."""
    mine = rows_of(rows, task, MethodInfo(method.label, **method.names))
    mine = mine[mine["metric"] == METRIC]
    late = mine[mine["env_steps"] > (1 - LAST_SHARE) * GRID.tasks[0].budget_steps]
    return late.groupby("seed")["value"].mean().to_numpy(np.float64)


def table(rows: pd.DataFrame) -> str:
    """The markdown of what the rows say."""
    task = _info()
    lines = [
        "| bonus | reads | steps spent watching | 95% interval | seeds |",
        "|---|---|---|---|---|",
    ]
    for method in GRID.methods:
        shares = watched(rows, method, task)
        if not len(shares):
            continue
        generator = generator_for(0, task.task, method.label)
        low, high = bootstrap_interval(mean, [shares], generator=generator)
        told = ", ".join(make_bonus(method.bonus, **method.bonus_options).reads())
        reads = "nothing" if method.bonus == "none" else told or "what the agent sees"
        lines.append(
            f"| {method.label} | {reads} | {shares.mean():.3f} |"
            f" {float(low):.3f} to {float(high):.3f} | {len(shares)} |"
        )
    lines += [
        "",
        f"PPO on `{task.task}` with {GRID.tasks[0].budget_steps:,} steps a seed: mean over episodes"
        f" of the share of their steps, in the last {LAST_SHARE:.0%} of the budget; random actions"
        f" would watch in {_RANDOM:.3f} of them. Intervals are of the bootstrap over seeds, and"
        " with five of them somewhat narrow.",
    ]
    return "\n".join(lines) + "\n"


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Writes the curves of all bonuses as a PNG."""
    methods = tuple(MethodInfo(m.label, **m.names) for m in GRID.methods)
    figure = plots.learning_curves(rows, SuiteInfo(GRID.name, (_info(),), methods))
    figure.axes[0].set_ylabel("steps spent watching")
    figure.axes[0].axhline(_RANDOM, color="#888888", linewidth=1.0, linestyle=":")
    plots.save_figure(figure, path)


def _info() -> TaskInfo:
    (task,) = GRID.tasks
    return TaskInfo(task.label, metric=METRIC, curve_metric=METRIC)


def main(folder: tyro.conf.Positional[Path] = FOLDER, seeds: int = GRID.seeds) -> None:
    """Runs what is missing, and makes `table.md` and `curves.png`."""
    bench(GRID, folder, seeds=seeds, on_event=lambda e: print(e.kind, e.job.labels, flush=True))
    rows = suite_rows(GRID, folder)
    (folder / "table.md").write_text(table(rows), encoding="utf-8")
    draw(rows, folder / "curves.png")


if __name__ == "__main__":
    tyro.cli(main)
