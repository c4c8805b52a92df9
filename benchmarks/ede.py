"""EDE beside itself without its bonus, and QR-DQN, on levels that were never seen.

`python -m xplore.benchmarks.ede` runs what is missing in `results/ede`, and makes the table there
from the rows. All have the same layers (at the end EDE has a set of numbers for each head), replay,
optimiser, gradient steps and levels. EDE and QR-DQN were chosen from as many settings each, on the
first task, by how the trained policy does on its training levels: no held-out level has a say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from xplore.bench import job_of
from xplore.benchmarks import generalisation as grid
from xplore.benchmarks.generalisation_report import Cell, cells_of, estimate, paired
from xplore.benchmarks.jobs import Job
from xplore.benchmarks.suite import Method, Options, Suite, Task
from xplore.benchmarks.together import Metrics, rows_of_grid, run_grid, tell
from xplore.loop.update import TrainState
from xplore.parts.levels import train_ids

FOLDER: Final = Path(__file__).resolve().parents[1] / "results" / "ede"
NUM_LEVELS: Final = 200
PAIRS: Final = (("ede", "ede without its bonus"), ("ede", "qr_dqn"))
_CHOSEN_BY: Final = "eval_train/success"

_SHARED: Final[dict[str, Any]] = {
    "num_quantiles": 8, "discount": 0.95, "n_step": 5, "batch_size": 64, "replay_size": 16_384,
    "updates_per_rollout": 8, "target_period": 8,
}  # fmt: skip
_EDE: Final = {**_SHARED, "share_encoder": True}
_QR: Final = {**_SHARED, "epsilon_steps": 51_200}
_RATES: Final = (5e-4, 1e-3)

# The settings that were tried, by method, and what all of them have.
TRIED: Final[dict[str, tuple[Options, tuple[Options, ...]]]] = {
    "ede": (
        _EDE,
        (
            *(
                {"acting": "thompson", "ucb_coefficient": c, "learning_rate": rate}
                for c in (0.3, 1.0, 3.0)
                for rate in _RATES
            ),
            *({"acting": "ucb", "ucb_coefficient": c, "learning_rate": 1e-3} for c in (0.3, 1.0)),
        ),
    ),
    "qr_dqn": (
        _QR,
        tuple(
            {"exploration": kind, "epsilon_end": end, "learning_rate": rate}
            for kind in ("epsilon", "epsilon_z")
            for end in (0.05, 0.2)
            for rate in _RATES
        ),
    ),
}
# Which of them were best: the table says so.
CHOSEN: Final = {"ede": 3, "qr_dqn": 1}


def _method(label: str, agent: str, options: Options) -> Method:
    return Method(
        label,
        agent=agent,
        agent_options=options,
        worlds="fixed",
        worlds_options={"num_levels": NUM_LEVELS},
        eval_greedy=True,
    )


def _chosen(name: str) -> Options:
    shared, settings = TRIED[name]
    return {**shared, **settings[CHOSEN[name]]}


def _task(env: str, **options: Any) -> Task:
    # Updates are frequent: between two of them little but noise keeps an agent from a loop.
    made = grid.task(env, 102_400, **options)
    return dataclasses.replace(made, num_envs=32, num_steps=8)


# At random 0.3% of episodes succeed in the first, 2% in the second.
TASKS: Final = (
    _task("MultiRoomLite-N4-v0", num_rooms=2),
    _task("MiniGrid-MultiRoom-N2-S4-v0"),
)
# Not SUITEs: settings of one method are no competitors, which tables would make them.
GRID: Final = Suite(
    name="ede",
    description="EDE beside itself without its bonus, and QR-DQN",
    tasks=TASKS,
    methods=(
        _method(f"ede on {NUM_LEVELS}", "ede", _chosen("ede")),
        _method(
            f"ede without its bonus on {NUM_LEVELS}",
            "ede",
            {**_chosen("ede"), "ucb_coefficient": 0.0},
        ),
        _method(f"qr_dqn on {NUM_LEVELS}", "qr_dqn", _chosen("qr_dqn")),
    ),
    seeds=20,
    eval_levels=0,
)
SWEEP: Final = Suite(
    name="ede-sweep",
    description="the settings that EDE and QR-DQN were chosen from",
    tasks=TASKS[:1],
    methods=tuple(
        _method(f"{name} {i} on {NUM_LEVELS}", name, {**shared, **setting})
        for name, (shared, settings) in TRIED.items()
        for i, setting in enumerate(settings)
    ),
    seeds=3,
    eval_levels=0,
)


def measure_training(
    jobs: Sequence[Job], seeds: Sequence[int], update: int, state: TrainState
) -> Metrics:
    """Success on the training levels at the end."""
    if update < jobs[0].config.num_updates:
        return {}
    env: Any = jobs[0].config.env
    agent: Any = jobs[0].config.agent.greedy()
    keys = jax.random.split(jax.random.key(update), len(jobs) * len(seeds))
    ids = jax.vmap(lambda worlds: train_ids(worlds, jnp.arange(NUM_LEVELS)))(state.worlds)
    outcome = jax.device_get(grid.player(env, agent, 1)(state.agent, ids, keys))
    return {_CHOSEN_BY: outcome.success.mean((-2, -1))}


def table(folder: Path) -> str:
    """The markdown: what each reached, how far EDE is ahead, and what was tried to choose them."""
    cells = cells_of(GRID, rows_of_grid(GRID, folder), folder)
    lines: list[str] = []
    for task in TASKS:
        mine = {name: cell for (label, name, _), cell in cells.items() if label == task.label}
        lines += _of_task(task, mine) if mine else []
    return "\n".join([*lines, *_of_sweep(folder / "sweep")]) + "\n"


def _of_task(task: Task, cells: Mapping[str, Cell]) -> list[str]:
    seeds = max(len(cell.last["eval/success"]) for cell in cells.values())
    columns = {
        "training levels": "eval_train/success",
        "held-out levels": "eval/success",
        "worst 10%": "eval/success_worst_10",
        "gap": "gap/success",
    }
    lines = [
        f"**{task.label}**: {task.budget_steps:,} steps, {NUM_LEVELS} training levels,"
        f" {seeds} seeds",
        "",
        f"| success | {' | '.join(columns)} | MFLOP / step |",
        f"|---|{'---|' * len(columns)}---|",
    ]
    for name, cell in cells.items():
        told = [estimate(cell.last[m], task.label, name, m) for m in columns.values()]
        lines.append(f"| {name} | {' | '.join(told)} | {cell.flops_per_step / 1e6:.2f} |")
    lines.append("")
    for name, base in PAIRS:
        if name in cells and base in cells:
            one, other = (cells[n].last["eval/success"] for n in (name, base))
            value, low, high = paired(one, other, task.label, name, base)
            said = "better than" if low > 0 else "worse than" if high < 0 else "not told apart from"
            lines.append(
                f"* {name} is {said} {base} on held-out levels: {value:+.2f}"
                f" [{low:+.2f}, {high:+.2f}], seed by seed."
            )
    return [*lines, ""]


def _of_sweep(folder: Path) -> list[str]:
    """Every setting that was tried, and whether the best is the one that is used."""
    rows = rows_of_grid(SWEEP, folder)
    rows = rows[rows["metric"] == _CHOSEN_BY]
    lines = ["| tried | setting | success on training levels |", "|---|---|---|"]
    for name, (shared, settings) in TRIED.items():
        found = []
        for i, setting in enumerate(settings):
            made = _method(f"{name} {i} on {NUM_LEVELS}", name, {**shared, **setting})
            job = job_of(SWEEP, SWEEP.tasks[0], made)
            found.append(rows[rows["fingerprint"] == job.fingerprint]["value"].to_numpy(np.float64))
        means = [values.mean() if len(values) else -1.0 for values in found]
        for i, (setting, values) in enumerate(zip(settings, found, strict=True)):
            told = ", ".join(f"{key} {value}" for key, value in setting.items())
            best = " (best)" if means[i] == max(means) else ""
            used = " (used)" if i == CHOSEN[name] else ""
            lines.append(f"| {name} | {told} | {estimate(values, name, str(i))}{best}{used} |")
    task = SWEEP.tasks[0]
    return [*lines, "", f"{task.label}, {SWEEP.seeds} seeds each, tested without noise."]


def main(
    folder: tyro.conf.Positional[Path] = FOLDER,
    seeds: int = GRID.seeds,
    sweep: bool = True,
    grid_too: bool = True,
    report_only: bool = False,
) -> None:
    """Runs what is missing, and makes the table."""
    metrics = ["episode/success"]
    if sweep and not report_only:
        run_grid(
            SWEEP, folder / "sweep", metrics, as_numbers=grid.as_numbers,
            measure=measure_training, on_group=tell,
        )  # fmt: skip
    if grid_too and not report_only:
        run_grid(
            GRID, folder, metrics, seeds=seeds, as_numbers=grid.as_numbers,
            measure=grid.measure, on_group=tell,
        )  # fmt: skip
    (folder / "table.md").write_text(table(folder), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
