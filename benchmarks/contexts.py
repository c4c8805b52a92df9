"""Episodic against lifelong counts over the number of levels, from one to as many as are drawn.

`python -m xplore.benchmarks.contexts` runs what is missing in `results/contexts`, and makes the
table and the figure there from the rows. Both bonuses count the same thing, and are scored by what
the policy reaches on its training levels, as in the paper.

Reference: Henaff, Jiang and Raileanu (2023), A study of global and episodic bonuses for exploration
in contextual MDPs, arXiv:2306.03236. Its tasks are MiniHack's, and it takes the best of
three coefficients a factor of ten apart; here they are the defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xplore.benchmarks.suite import Method, Suite, Task
from xplore.benchmarks.together import late_means, rows_of_grid, run_grid, tell
from xplore.bonuses.none import NoBonus
from xplore.contracts.component import component, replace
from xplore.contracts.registry import make_bonus
from xplore.contracts.types import Environment, Key, LevelBatch, Metrics, PyTree, Trajectory
from xplore.loop.config import Config
from xplore.parts.levels import levels_from_ids, train_ids
from xplore.record import plots
from xplore.record.stats import Array, bootstrap_interval, mean
from xplore.record.summary import generator_for
from xplore.worlds.fixed import Fixed

FOLDER: Final = Path(__file__).resolve().parents[1] / "results" / "contexts"
METRIC: Final = "episode/success"
LAST_SHARE: Final = 0.2  # of the budget, over which success is averaged
CONTEXTS: Final = (1, 3, 5, 10, 0)  # 0 stands for a new level in every episode
NAMES: Final = {"none": "none", "count": "lifelong count", "episodic_count": "episodic count"}
_BUDGET: Final = 409_600
_KEY: Final = "position"
_COLOURS: Final = {"none": "#4d4d4d", "count": "#0072b2", "episodic_count": "#d55e00"}
_INFINITY: Final = "\N{INFINITY}"

# Of a bonus, over CONTEXTS: success of each seed.
Scores = dict[str, list[Array]]


@final
@component
class AnyFixed:
    """What `Fixed` does, with the number of levels as a float, so that one program serves all."""

    num_levels: float

    def init(self, key: Key, env: Environment) -> PyTree:
        return jax.random.bits(key, (), jnp.uint32)

    def sample(
        self, key: Key, state: PyTree, env: Environment, num_levels: int
    ) -> tuple[PyTree, LevelBatch]:
        index = jax.random.randint(key, (num_levels,), 0, jnp.int32(self.num_levels))
        return state, levels_from_ids(env, train_ids(state, index))

    def update(self, state: PyTree, batch: LevelBatch, traj: Trajectory) -> tuple[PyTree, Metrics]:
        return state, {}


def as_numbers(config: Config) -> Config:
    """The config with its number of levels as a float, and no bonus as a count paid with 0."""
    worlds, bonus = config.worlds, config.bonus
    if isinstance(worlds, Fixed) and worlds.set_seed is None:
        worlds = AnyFixed(float(worlds.num_levels))
    if isinstance(bonus, NoBonus):
        bonus = make_bonus("count", key=_KEY, coefficient=0.0)
    return replace(config, worlds=worlds, bonus=bonus)


def method(bonus: str, contexts: int) -> Method:
    """PPO with a bonus on so many levels."""
    return Method(
        f"{bonus} on {contexts or _INFINITY}",
        bonus=bonus,
        bonus_options={} if bonus == "none" else {"key": _KEY},
        agent_options={"anneal_steps": _BUDGET},
        worlds="fixed" if contexts else "fresh",
        worlds_options={"num_levels": contexts} if contexts else {},
    )


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
    methods=tuple(method(bonus, contexts) for contexts in CONTEXTS for bonus in NAMES),
    seeds=5,
    eval_levels=0,
)


def scores(rows: pd.DataFrame) -> Scores:
    """What the rows say of every bonus whose numbers of levels are all there."""
    found = late_means(GRID, rows, METRIC, LAST_SHARE)
    task = GRID.tasks[0].label
    named = {bonus: [(task, method(bonus, c).label) for c in CONTEXTS] for bonus in NAMES}
    return {
        bonus: [found[cell] for cell in cells]
        for bonus, cells in named.items()
        if all(cell in found for cell in cells)
    }


def difference(one: Array, other: Array, *names: str) -> tuple[float, float, float]:
    """Mean of `one` less mean of `other`, with its 95% bootstrap interval over seeds."""

    def statistic(strata: Any) -> Any:
        return strata[0].mean(-1) - strata[1].mean(-1)

    generator = generator_for(0, *names)
    low, high = bootstrap_interval(statistic, [one, other], generator=generator)
    return float(one.mean() - other.mean()), float(low), float(high)


def table(of: Scores) -> str:
    """The markdown: success of every bonus, then how far episodic is ahead of lifelong."""
    heads = [f"{c:,}" if c else _INFINITY for c in CONTEXTS]
    lines = [f"| bonus | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for bonus, cells in of.items():
        told = [_estimate(cell, bonus, head) for cell, head in zip(cells, heads, strict=True)]
        lines.append(f"| {NAMES[bonus]} | {' | '.join(told)} |")
    pairs = zip(of["episodic_count"], of["count"], heads, strict=True)
    gaps = [difference(episodic, lifelong, "gap", head) for episodic, lifelong, head in pairs]
    told = [f"{value:+.2f} [{low:+.2f}, {high:+.2f}]" for value, low, high in gaps]
    lines.append(f"| **episodic less lifelong** | {' | '.join(told)} |")
    task = GRID.tasks[0]
    seeds = max(len(cell) for cells in of.values() for cell in cells)
    lines += [
        "",
        f"Success on the training levels, by their number, in the last {LAST_SHARE:.0%} of"
        f" {task.budget_steps:,} steps a seed: means over {seeds} seeds [95% interval of the"
        f" bootstrap, with so few seeds somewhat narrow]. {_INFINITY}: a new level in every"
        f" episode. PPO on `{task.env}`, its learning rate falling to 0; both bonuses count by"
        f" `{_KEY}`, with their default coefficients. Each seed has levels of its own.",
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
    """Success against the number of levels, with 95% intervals."""
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    places = np.arange(len(CONTEXTS))
    for bonus, cells in of.items():
        means = [cell.mean() for cell in cells]
        panel.plot(
            places, means, color=_COLOURS[bonus], marker="o", markersize=4, label=NAMES[bonus]
        )
        ends = [
            bootstrap_interval(mean, [cell], generator=generator_for(0, bonus, str(c)))
            for c, cell in zip(CONTEXTS, cells, strict=True)
        ]
        low, high = (np.array([float(e[side]) for e in ends]) for side in (0, 1))
        panel.fill_between(places, low, high, color=_COLOURS[bonus], alpha=0.15, linewidth=0)
    panel.set_xticks(places, [str(c) if c else _INFINITY for c in CONTEXTS])
    panel.set(xlabel="training levels", ylabel="success on them", ylim=(-0.03, 1.03))
    panel.set_title(f"{GRID.tasks[0].label}", fontsize=10.5)
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(of), frameon=False, fontsize=9)
    return figure


def main(
    folder: tyro.conf.Positional[Path] = FOLDER,
    seeds: int = GRID.seeds,
    only: str | None = None,
    report_only: bool = False,
) -> None:
    """Runs what is missing, and makes `table.md` and `success.png`."""
    if not report_only:
        run_grid(
            GRID, folder, [METRIC], seeds=seeds, only=only, as_numbers=as_numbers, on_group=tell
        )
    of = scores(rows_of_grid(GRID, folder))
    if of.keys() == NAMES.keys():
        (folder / "table.md").write_text(table(of), encoding="utf-8")
        plots.save_figure(draw(of), folder / "success.png")


if __name__ == "__main__":
    tyro.cli(main)
