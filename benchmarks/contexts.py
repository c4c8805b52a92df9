"""Episodic against lifelong counts over the number of levels, from one to as many as are drawn.

`python -m xplore.benchmarks.contexts` runs what is missing in `results/contexts`, and makes the
table and the figure there from the rows. Both bonuses count the same thing, and are scored by what
the policy reaches on its training levels, as in the paper.

Reference: Henaff, Jiang and Raileanu (2023), A study of global and episodic bonuses for exploration
in contextual MDPs, arXiv:2306.03236. Its tasks are MiniHack's, its sweep that of `CONTEXTS` and of
three coefficients a factor of ten apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xplore.benchmarks.suite import Method, Suite, Task
from xplore.benchmarks.together import late_means, rows_of_grid, run_grid, tell
from xplore.record import plots
from xplore.record.stats import Array, bootstrap_interval, mean
from xplore.record.summary import generator_for

FOLDER: Final = Path(__file__).resolve().parents[1] / "results" / "contexts"
METRIC: Final = "episode/success"
LAST_SHARE: Final = 0.2  # of the budget, over which success is averaged
CONTEXTS: Final = (1, 3, 5, 10, 0)  # 0 stands for a new level in every episode
MULTIPLES: Final = (0.1, 1.0, 10.0)  # of a bonus's default coefficient
DEFAULTS: Final = {"count": 0.1, "episodic_count": 0.01}
NAMES: Final = {"none": "none", "count": "lifelong count", "episodic_count": "episodic count"}
_BUDGET: Final = 614_400
_KEY: Final = "position"
_COLOURS: Final = {"none": "#4d4d4d", "count": "#0072b2", "episodic_count": "#d55e00"}
_INFINITY: Final = "\N{INFINITY}"

# Of a bonus and a multiple of its coefficient, over CONTEXTS: success of each seed.
Scores = dict[tuple[str, float], list[Array]]


def method(bonus: str, multiple: float, contexts: int) -> Method:
    """PPO with a bonus on so many levels."""
    options: dict[str, Any] = {}
    if bonus != "none":
        options = {"key": _KEY, "coefficient": round(DEFAULTS[bonus] * multiple, 6)}
    return Method(
        f"{bonus} x{multiple:g} on {contexts or _INFINITY}",
        bonus=bonus,
        bonus_options=options,
        agent_options={"anneal_steps": _BUDGET},
        worlds="fixed" if contexts else "fresh",
        worlds_options={"num_levels": contexts} if contexts else {},
    )


def _arms() -> list[tuple[str, float]]:
    return [("none", 1.0), *((bonus, m) for bonus in DEFAULTS for m in MULTIPLES)]


# Not a SUITE: methods on different levels are not competitors, which its tables would make them.
GRID: Final = Suite(
    name="contexts",
    description="episodic against lifelong counts over the number of levels",
    tasks=(
        Task(
            env="MiniGrid-MultiRoom-N4-S5-v0",
            budget_steps=_BUDGET,
            num_envs=64,
            num_steps=128,
            score=METRIC,
            curve=METRIC,
            low=0.0,
            high=1.0,
            high_reason="exact: every level can be solved within its time limit",
            solved_when=0.9,
        ),
    ),
    methods=tuple(method(*arm, contexts) for contexts in CONTEXTS for arm in _arms()),
    seeds=5,
    eval_levels=0,
)


def scores(rows: pd.DataFrame) -> Scores:
    """What the rows say of every arm whose numbers of levels are all there."""
    found = late_means(GRID, rows, METRIC, LAST_SHARE)
    task = GRID.tasks[0].label
    named = {arm: [method(*arm, contexts).label for contexts in CONTEXTS] for arm in _arms()}
    return {
        arm: [found[task, label] for label in labels]
        for arm, labels in named.items()
        if all((task, label) in found for label in labels)
    }


def best_arm(bonus: str, of: Scores) -> tuple[str, float]:
    """The coefficient of a bonus with the most success over all numbers of levels together."""
    return max((arm for arm in of if arm[0] == bonus), key=lambda arm: _average(of[arm]))


def _average(cells: Sequence[Array]) -> float:
    return float(np.mean([cell.mean() for cell in cells]))


def difference(one: Array, other: Array, *names: str) -> tuple[float, float, float]:
    """Mean of `one` less mean of `other`, with its 95% bootstrap interval over seeds."""

    def statistic(strata: Any) -> Any:
        return strata[0].mean(-1) - strata[1].mean(-1)

    generator = generator_for(0, *names)
    low, high = bootstrap_interval(statistic, [one, other], generator=generator)
    return float(one.mean() - other.mean()), float(low), float(high)


def table(of: Scores) -> str:
    """The markdown: success of every arm, then how far episodic is ahead of lifelong."""
    heads = [f"{c:,}" if c else _INFINITY for c in CONTEXTS]
    lines = [
        f"| bonus | coefficient | {' | '.join(heads)} | mean |",
        f"|---|---|{'---|' * (len(heads) + 1)}",
    ]
    best = {bonus: best_arm(bonus, of) for bonus in NAMES}
    for arm, cells in of.items():
        bonus, multiple = arm
        coefficient = "-" if bonus == "none" else f"{DEFAULTS[bonus] * multiple:g}"
        if arm == best[bonus] and bonus != "none":
            coefficient = f"**{coefficient}**"
        told = [
            _estimate(cell, bonus, str(multiple), head)
            for cell, head in zip(cells, heads, strict=True)
        ]
        average = f"{_average(cells):.2f}"
        lines.append(f"| {NAMES[bonus]} | {coefficient} | {' | '.join([*told, average])} |")
    lifelong, episodic = of[best["count"]], of[best["episodic_count"]]
    gaps = [
        difference(e, x, "gap", head) for e, x, head in zip(episodic, lifelong, heads, strict=True)
    ]
    told = [f"{value:+.2f} [{low:+.2f}, {high:+.2f}]" for value, low, high in gaps]
    lines.append(
        f"| **episodic less lifelong** | bold ones | {' | '.join(told)} |"
        f" {_average(episodic) - _average(lifelong):+.2f} |"
    )
    task = GRID.tasks[0]
    seeds = max(len(cell) for cells in of.values() for cell in cells)
    lines += [
        "",
        f"Success on the training levels, by their number, in the last {LAST_SHARE:.0%} of"
        f" {task.budget_steps:,} steps a seed: means over {seeds} seeds [95% interval of the"
        f" bootstrap, with so few seeds somewhat narrow]. PPO on `{task.env}`, its learning rate"
        f" falling to 0; both bonuses count by `{_KEY}`. {_INFINITY}: a new level in every episode."
        " In bold, for each bonus, the coefficient that is best over all columns, on these seeds.",
        "",
        verdict(gaps),
    ]
    return "\n".join(lines) + "\n"


def _estimate(cell: Array, *names: str) -> str:
    low, high = bootstrap_interval(mean, [cell], generator=generator_for(0, *names))
    return f"{cell.mean():.2f} [{float(low):.2f}, {float(high):.2f}]"


def verdict(gaps: Sequence[tuple[float, float, float]]) -> str:
    """Whether the two bonuses cross, in a sentence; a gap counts where its interval excludes 0."""
    (_, _, high_at_one), (_, low_at_many, _) = gaps[0], gaps[-1]
    one = "lifelong" if high_at_one < 0 else "episodic" if gaps[0][1] > 0 else ""
    many = "episodic" if low_at_many > 0 else "lifelong" if gaps[-1][2] < 0 else ""
    at_one = f"the {one} count is ahead" if one else "neither is ahead"
    at_many = f"the {many} count is ahead" if many else "neither is ahead"
    crossed = "cross" if (one, many) == ("lifelong", "episodic") else "do not cross"
    return f"On one level {at_one}, on new ones {at_many}: the two {crossed}."


def draw(of: Scores) -> Figure:
    """Success against the number of levels, each bonus with its best coefficient."""
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    places = np.arange(len(CONTEXTS))
    for bonus, name in NAMES.items():
        for arm in (arm for arm in of if arm[0] == bonus):
            means = [cell.mean() for cell in of[arm]]
            if arm != best_arm(bonus, of):
                panel.plot(places, means, color=_COLOURS[bonus], linewidth=0.9, alpha=0.35)
                continue
            label = name if bonus == "none" else f"{name}, {DEFAULTS[bonus] * arm[1]:g}"
            panel.plot(places, means, color=_COLOURS[bonus], marker="o", markersize=4, label=label)
            ends = [
                bootstrap_interval(mean, [cell], generator=generator_for(0, bonus, str(i)))
                for i, cell in enumerate(of[arm])
            ]
            low, high = (np.array([float(e[side]) for e in ends]) for side in (0, 1))
            panel.fill_between(places, low, high, color=_COLOURS[bonus], alpha=0.15, linewidth=0)
    panel.set_xticks(places, [str(c) if c else _INFINITY for c in CONTEXTS])
    panel.set(xlabel="training levels", ylabel="success on them", ylim=(-0.03, 1.03))
    panel.set_title(f"{GRID.tasks[0].label}", fontsize=10.5)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=9)
    return figure


def main(
    folder: tyro.conf.Positional[Path] = FOLDER,
    seeds: int = GRID.seeds,
    only: str | None = None,
    report_only: bool = False,
) -> None:
    """Runs what is missing, and makes `table.md` and `success.png`."""
    if not report_only:
        run_grid(GRID, folder, [METRIC], seeds=seeds, only=only, on_group=tell)
    of = scores(rows_of_grid(GRID, folder))
    if {bonus for bonus, _ in of} == set(NAMES):
        (folder / "table.md").write_text(table(of), encoding="utf-8")
        plots.save_figure(draw(of), folder / "success.png")


if __name__ == "__main__":
    tyro.cli(main)
