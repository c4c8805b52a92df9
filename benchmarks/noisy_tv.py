"""Who watches the noisy television: the share of steps spent on it, by bonus.

`python -m xplore.benchmarks.noisy_tv` runs what is missing in `results/noisy-tv` (a seed's rows are
kept, and killed runs go on), and makes the table and the figure there from the rows.

The task is a large empty MiniGrid room with the action "watch" added, short enough that its goal is
met seldom; one who chooses at random watches in an eighth of the steps. A television with a picture
of its own for every step is new for ever to whoever looks at pictures; one with thirty, as in the
paper, is soon known but never predicted. Both are the doing of an action, so a picture tells which
action was taken, and features that tell actions apart cannot leave it out. The third television is
on all the time: to the north, in a world of rooms full of things and without a goal, colours are
noise, and a quarter of the directions that one may look in is watching.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

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
_NAMES: Final = ("pictures without end", "30 pictures", "noise to the north")
_RANDOM: Final = (1 / 8, 1 / 8, 1 / 4)


def _task(env: str, options: dict[str, Any], label: str, budget_steps: int) -> Task:
    return Task(
        env=env,
        options={"max_steps": 128} | options,
        label=f"{env}, {label}" if label else env,
        budget_steps=budget_steps,
        num_envs=32,
        num_steps=128,
        score=METRIC,
        curve=METRIC,
        low=0.0,
        high=1.0,
        high_reason="by definition: every step watches",
        solved_when=1.0,
    )


# Not a SUITE: a high score is no success here, so tables and aggregates of suites do not apply.
GRID: Final = Suite(
    name="noisy-tv",
    description="who watches the noisy television",
    tasks=(
        _task("noisy_tv/MiniGrid-Empty-16x16-v0", {}, "", 204_800),
        _task("noisy_tv/MiniGrid-Empty-16x16-v0", {"channels": 30}, _NAMES[1], 204_800),
        _task(
            "colour_noise/MiniGrid-Playground-v0",
            {"places": 0.25, "by": "direction"},
            _NAMES[2],
            1_024_000,
        ),
    ),
    methods=(
        Method("none"),
        Method("count, position", bonus="count", bonus_options={"key": "position"}),
        Method(
            "episodic count, position", bonus="episodic_count", bonus_options={"key": "position"}
        ),
        Method("e3b, inverse features", bonus="e3b"),
        Method(
            "e3b, inverse features, all steps learned from",
            bonus="e3b",
            bonus_options={"update_fraction": 1.0, "num_minibatches": 32},
        ),
        Method("disagreement", bonus="disagreement"),
        Method(
            "disagreement, all steps learned from",
            bonus="disagreement",
            bonus_options={"update_fraction": 1.0, "num_minibatches": 32},
        ),
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
    budget_steps = next(t.budget_steps for t in GRID.tasks if t.label == task.task)
    late = mine[mine["env_steps"] > (1 - LAST_SHARE) * budget_steps]
    return late.groupby("seed")["value"].mean().to_numpy(np.float64)


def table(rows: pd.DataFrame) -> str:
    """The markdown of what the rows say."""
    names = [f"{name}, 95% interval" for name in _NAMES]
    lines = [
        f"| bonus | reads | {' | '.join(names)} | seeds |",
        "|---|---|" + "---|" * (len(names) + 1),
    ]
    for method in GRID.methods:
        cells, seeds = [], set()
        for task in infos():
            shares = watched(rows, method, task)
            if not len(shares):
                cells.append("-")
                continue
            generator = generator_for(0, task.task, method.label)
            low, high = bootstrap_interval(mean, [shares], generator=generator)
            cells.append(f"{shares.mean():.3f} [{float(low):.3f}, {float(high):.3f}]")
            seeds.add(len(shares))
        told = ", ".join(make_bonus(method.bonus, **method.bonus_options).reads())
        reads = "nothing" if method.bonus == "none" else told or "what the agent sees"
        if seeds:
            how_many = " to ".join(map(str, sorted(seeds)))
            lines.append(f"| {method.label} | {reads} | {' | '.join(cells)} | {how_many} |")
    lines += [
        "",
        f"The share of steps spent watching, mean over episodes in the last {LAST_SHARE:.0%} of"
        " training by PPO: "
        + "; ".join(
            f"{name}: `{task.env}`, {task.budget_steps:,} steps a seed, where random actions would"
            f" watch in {random:.3f}"
            for name, task, random in zip(_NAMES, GRID.tasks, _RANDOM, strict=True)
        )
        + "."
        " Intervals are of the bootstrap over seeds, and with five of them somewhat narrow.",
    ]
    return "\n".join(lines) + "\n"


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Writes the curves of all bonuses as a PNG."""
    methods = tuple(MethodInfo(m.label, **m.names) for m in GRID.methods)
    figure = plots.learning_curves(rows, SuiteInfo(GRID.name, infos(), methods))
    for axes, name, random in zip(figure.axes, _NAMES, _RANDOM, strict=False):
        axes.set_title(name)
        axes.set_ylabel("steps spent watching")
        axes.axhline(random, color="#888888", linewidth=1.0, linestyle=":")
    plots.save_figure(figure, path)


def infos() -> tuple[TaskInfo, ...]:
    """The tasks, as reports take them."""
    return tuple(TaskInfo(t.label, metric=METRIC, curve_metric=METRIC) for t in GRID.tasks)


def main(folder: tyro.conf.Positional[Path] = FOLDER, seeds: int = GRID.seeds) -> None:
    """Runs what is missing, and makes `table.md` and `curves.png`."""
    bench(GRID, folder, seeds=seeds, on_event=lambda e: print(e.kind, e.job.labels, flush=True))
    rows = suite_rows(GRID, folder)
    (folder / "table.md").write_text(table(rows), encoding="utf-8")
    draw(rows, folder / "curves.png")


if __name__ == "__main__":
    tyro.cli(main)
