"""How much the normaliser, the value heads and the coefficient move what a bonus reaches.

`python -m xplore.benchmarks.ablation` runs what is missing in `results/ablation` of all 180 cells
(three bonuses, two tasks, five normalisers, one or two value heads, three coefficients), and makes
the tables and the figure there from the rows.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Final, final

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tyro

from xplore.benchmarks import ablation_report as report
from xplore.benchmarks.suite import Method, Suite, Task
from xplore.benchmarks.together import late_means, rows_of_grid, run_grid, tell
from xplore.bonuses.combinators import Scale
from xplore.contracts.component import component, replace
from xplore.contracts.types import Bonus, Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.loop.config import Config
from xplore.parts.normalisers import NORMALISER_KINDS, init_reward_stats, normalise_reward
from xplore.record.plots import save_figure

FOLDER: Final = Path(__file__).resolve().parents[1] / "results" / "ablation"
METRIC: Final = "episode/success"
LAST_SHARE: Final = 0.2  # of the budget, over which success is averaged
HEADS: Final = (1, 2)
MULTIPLES: Final = (0.1, 1.0, 10.0)
# A bonus's default normaliser and coefficient; a test holds them to the code.
DEFAULTS: Final = {"rnd": ("return_std", 0.5), "noveld": ("none", 0.05), "e3b": ("std", 0.05)}


def method(bonus: str, normaliser: str, heads: int, multiple: float) -> Method:
    """The cell of a bonus."""
    coefficient = round(DEFAULTS[bonus][1] * multiple, 6)
    return Method(
        f"{bonus}, {normaliser}, {heads} heads, x{multiple:g}",
        bonus=bonus,
        bonus_options={"normaliser": normaliser, "coefficient": coefficient},
        agent_options={"value_heads": heads},
    )


@final
@component
class AnyNormaliser:
    """What `Normalise` does, with the place of its kind in `NORMALISER_KINDS` as a float.

    All kinds are computed and one is chosen, so that cells of different kinds share one program.
    """

    bonus: Bonus
    place: float
    discount: float = 0.99

    def reads(self) -> tuple[str, ...]:
        return self.bonus.reads()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return self.bonus.init(key, spec), init_reward_stats(spec.num_envs)

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        inner, stats = state
        inner, r_int = self.bonus.reward(inner, traj)
        found = [normalise_reward(kind, stats, r_int, self.discount) for kind in NORMALISER_KINDS]
        place = jnp.int32(self.place)
        stats, r_int = jax.tree.map(lambda *kinds: jnp.stack(kinds)[place], *found)
        return (inner, stats), r_int

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        inner, stats = state
        inner, metrics = self.bonus.update(key, inner, traj)
        return (inner, stats), metrics


def with_any_normaliser(config: Config) -> Config:
    """The config of a cell with its normaliser as a number."""
    scaled: Any = config.bonus
    if not isinstance(scaled, Scale):
        return config
    one: Any = scaled.bonus
    place = float(NORMALISER_KINDS.index(one.normaliser))
    bonus = Scale(AnyNormaliser(one.bonus, place, one.discount), scaled.coefficient)
    return replace(config, bonus=bonus)


def _task(env: str, budget_steps: int, num_envs: int, num_steps: int) -> Task:
    return Task(
        env=env,
        budget_steps=budget_steps,
        num_envs=num_envs,
        num_steps=num_steps,
        score=METRIC,
        curve=METRIC,
        low=0.0,
        high=1.0,
        high_reason="exact: every level can be solved within its time limit",
        solved_when=0.9,
    )


_NONE: Final = Method("none")  # for comparison, with one head

# Not a SUITE: its report compares factors, not 90 methods.
GRID: Final = Suite(
    name="ablation",
    description="normaliser x value heads x coefficient",
    tasks=(
        _task("DeepSea-14-v0", 35_840, 32, 14),
        _task("MiniGrid-MultiRoom-N2-S4-v0", 65_536, 32, 128),
    ),
    methods=(
        _NONE,
        *(
            method(*cell)
            for cell in itertools.product(DEFAULTS, NORMALISER_KINDS, HEADS, MULTIPLES)
        ),
    ),
    seeds=3,
    eval_levels=0,
)


def panels(rows: pd.DataFrame) -> list[report.Panel]:
    """For each task and bonus of which all cells are there: the scores of all its cells."""
    found, made = late_means(GRID, rows, METRIC, LAST_SHARE), []
    factors = {
        "normaliser": tuple(NORMALISER_KINDS),
        "heads": tuple(map(str, HEADS)),
        "coefficient": tuple(f"x{m:g}" for m in MULTIPLES),
    }
    for task in GRID.tasks:
        none = found.get((task.label, _NONE.label))
        for bonus, (normaliser, _) in DEFAULTS.items():
            cells = [
                found.get((task.label, method(bonus, *cell).label))
                for cell in itertools.product(NORMALISER_KINDS, HEADS, MULTIPLES)
            ]
            there = [cell for cell in cells if cell is not None]
            if none is None or len(there) < len(cells):
                continue
            shape = (*map(len, factors.values()), -1)
            values = np.stack(there).reshape(shape)
            default = (factors["normaliser"].index(normaliser), 0, MULTIPLES.index(1.0))
            plain = float(none.mean())
            made.append(report.Panel(task.label, bonus, factors, values, default, plain))
    return made


def table(rows: pd.DataFrame) -> str:
    """The markdown of what the rows say."""
    steps = {task.label: task.budget_steps for task in GRID.tasks}
    seeds = max(int(rows["seed"].max()) + 1, 1)
    budgets = " and ".join(f"{n:,} on `{label}`" for label, n in steps.items())
    note = (
        f"Success in the last {LAST_SHARE:.0%} of the budget ({budgets} steps a seed, {seeds}"
        " seeds), PPO."
    )
    return report.tables(panels(rows), note)


def main(
    folder: tyro.conf.Positional[Path] = FOLDER,
    seeds: int = GRID.seeds,
    only: str | None = None,
    report_only: bool = False,
) -> None:
    """Runs what is missing, and makes `table.md` and `cells.png`."""
    if not report_only:
        run_grid(
            GRID,
            folder,
            [METRIC],
            seeds=seeds,
            only=only,
            as_numbers=with_any_normaliser,
            on_group=tell,
        )
    rows = rows_of_grid(GRID, folder)
    if made := panels(rows):
        (folder / "table.md").write_text(table(rows), encoding="utf-8")
        save_figure(report.figure(made), folder / "cells.png")


if __name__ == "__main__":
    tyro.cli(main)
