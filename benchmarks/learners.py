"""What the learners reach where their own way of acting or remembering matters.

`python -m xplore.benchmarks.learners results/learners` runs what is missing: all seeds of a cell as
one program, then greedily on held-out levels. What is done is not run again: a changed agent is
another cell. The table is made of the rows. `--authors FILE` adds the curves that
`benchmarks/pqn_authors.py` makes of the published code of PQN.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import numpy as np
import pandas as pd
import tyro
from flax import linen as nn

from xplore.agents.networks import PatchConv
from xplore.benchmarks.cells import fingerprint_of, keep_rows, keep_table
from xplore.benchmarks.suite import Options, spelt
from xplore.contracts.registry import make, make_agent, make_bonus, make_world_sampler
from xplore.loop.config import Config
from xplore.loop.evaluate import evaluate_result
from xplore.loop.train import train
from xplore.parts.levels import held_out_ids
from xplore.record.files import writable_folder
from xplore.record.stats import bootstrap_interval, mean
from xplore.record.summary import generator_for

POINTS: Final = 20  # of a curve; the last is what the table calls the end of training
AUTHORS: Final = "PQN, its authors' code"
_COLUMNS: Final = ["metric", "env_steps", "seed", "value"]


class Cell(NamedTuple):
    """One line of the table.

    Attributes:
        group: the question that this line answers with others.
        task: id of the environment.
        label: of the method.
        agent: id of it.
        options: of the agent.
        budget_steps, num_envs, num_steps, seeds: sizes of the run.
    """

    group: str
    task: str
    label: str
    agent: str
    options: Options
    budget_steps: int
    num_envs: int
    num_steps: int
    seeds: int = 5

    @property
    def config(self) -> Config:
        """What is run."""
        return Config(
            env=make(self.task),
            agent=make_agent(self.agent, **self.options),
            bonus=make_bonus("none"),
            worlds=make_world_sampler("fresh"),
            budget_steps=self.budget_steps,
            num_envs=self.num_envs,
            num_steps=self.num_steps,
        )

    @property
    def fingerprint(self) -> str:
        """A hash of what decides the numbers."""
        return fingerprint_of(self.config)


class OneConvolution(nn.Module):
    """The convolution of PQN's own network for MinAtar: `[B, H, W, C] -> [B, D]`.

    Observations are 0 or 1, and yet its code divides them by 255. It matters: what the filters
    give is then small beside their biases and the epsilon of the normalisation.
    """

    divisor: float = 255.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.LayerNorm()(PatchConv(16)(x / self.divisor)))
        return x.reshape(x.shape[0], -1)


# Those of the method's own code for these tasks, but for the scale of CartPole's rewards.
_CARTPOLE: Final = {
    "learning_rate": 1e-4, "trace": 0.95, "num_epochs": 4, "num_minibatches": 16,
    "hidden_sizes": (128, 128), "epsilon_steps": 100_000,
}  # fmt: skip
_BREAKOUT: Final = {
    "learning_rate": 5e-4, "trace": 0.65, "num_epochs": 2, "num_minibatches": 32,
    "hidden_sizes": (128,), "torso": OneConvolution(), "epsilon_steps": 1_000_000,
    "anneal_steps": 9_998_336,
}  # fmt: skip
_MEMORY: Final = ("memory", "MemoryLen-10-v0")
_CUE: Final[dict[str, Any]] = {"budget_steps": 253_952, "num_envs": 64, "num_steps": 64}

CELLS: Final = (
    Cell("gymnax", "gymnax/CartPole-v1", "PQN", "pqn", _CARTPOLE, 499_712, 32, 64),
    Cell("gymnax", "gymnax/Breakout-MinAtar", "PQN", "pqn", _BREAKOUT, 9_998_336, 128, 32),
    Cell(*_MEMORY, "PPO", "ppo", {}, **_CUE),
    Cell(*_MEMORY, "PPO-RNN", "ppo_rnn", {}, **_CUE),
    Cell(*_MEMORY, "PQN", "pqn", {"trace": 0.95}, **_CUE),
    Cell(*_MEMORY, "PQN-RNN", "pqn_rnn", {"trace": 0.95}, **_CUE),
)


def run(cell: Cell) -> pd.DataFrame:
    """The rows of a cell: points of the curve, and what the greedy agent reaches at last."""
    result = train(cell.config, seeds=cell.seeds)
    rows = []
    for name in ("return", "success"):
        rows += _points(name, result.env_steps, result.metrics[f"episode/{name}"])
    found = evaluate_result(result, held_out_ids(0, 128), greedy=True)
    for name, values in (("return", found.returns), ("success", found.success)):
        rows += [
            (f"held-out {name}", cell.budget_steps, seed, value)
            for seed, value in enumerate(np.asarray(values, np.float64).mean(axis=(1, 2)))
        ]
    return pd.DataFrame(rows, columns=_COLUMNS).assign(
        group=cell.group,
        task=cell.task,
        method=cell.label,
        agent=spelt(cell.agent, cell.options),
        fingerprint=cell.fingerprint,
    )


def of_authors(path: Path) -> pd.DataFrame:
    """The rows of PQN's own code, from the curves that `pqn_authors.py` wrote."""
    with np.load(path) as kept:
        env_steps, returns, greedy = kept["env_steps"], kept["returns"], kept["greedy"]
        task = f"gymnax/{kept['env']}"
    rows = _points("return", env_steps, returns)
    rows += [
        ("held-out return", int(env_steps[-1]), seed, value)
        for seed, value in enumerate(greedy[:, -1])
    ]
    return pd.DataFrame(rows, columns=_COLUMNS).assign(
        group="gymnax", task=task, method=AUTHORS, agent="purejaxql", fingerprint=AUTHORS
    )


def _points(name: str, env_steps: np.ndarray, history: np.ndarray) -> list[tuple[Any, ...]]:
    """The points of curves `[S, U]`, NaN where no episode ended."""
    rows: list[tuple[Any, ...]] = []
    for part in np.array_split(np.arange(history.shape[1]), POINTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # no episode ended in a part
            values = np.nanmean(history[:, part], axis=1)
        steps = int(env_steps[part[-1]])
        rows += [(name, steps, seed, value) for seed, value in enumerate(values)]
    return rows


def report(rows: pd.DataFrame) -> str:
    """The markdown of the rows, a line for each cell that has some."""
    lines = [
        "| | task | method | env steps | seeds | return at half |"
        " return at the end | held-out return | held-out success |",
        "|---" * 9 + "|",
    ]
    own = CELLS[1]._replace(label=AUTHORS)
    for cell in (*CELLS[:2], own, *CELLS[2:]):
        mine = rows[(rows["task"] == cell.task) & (rows["method"] == cell.label)]
        if mine.empty:
            continue
        curve = mine[mine["metric"] == "return"]
        steps = sorted(set(curve["env_steps"]))
        values = [
            curve[curve["env_steps"] == steps[POINTS // 2 - 1]],
            curve[curve["env_steps"] == steps[-1]],
            mine[mine["metric"] == "held-out return"],
            mine[mine["metric"] == "held-out success"],
        ]
        cells = [
            _interval(frame["value"].to_numpy(np.float64), cell) if len(frame) else ""
            for frame in values
        ]
        lines.append(
            f"| {cell.group} | `{cell.task}` | {cell.label} |"
            f" {int(mine['env_steps'].max()):,} | {mine['seed'].nunique()} | {' | '.join(cells)} |"
        )
    lines += [
        "",
        "Means over seeds [95% interval of a bootstrap over seeds, if there are several]. Returns"
        " in training are of a twentieth of the run, exploration included; those on held-out"
        " levels are of the greedy agent after the run, on 128 levels. Of the authors' code the"
        " former are means over steps of the last return of every env, the latter are of the"
        " episodes that end in 1,000 greedy steps of 128 envs.",
    ]
    return "\n".join(lines) + "\n"


def _interval(values: np.ndarray, cell: Cell) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    generator = generator_for(0, cell.task, cell.label)
    low, high = bootstrap_interval(mean, [values], generator=generator)
    return f"{values.mean():.2f} [{float(low):.2f}, {float(high):.2f}]"


def main(
    folder: tyro.conf.Positional[Path],
    /,
    groups: Sequence[str] = (),
    methods: Sequence[str] = (),
    authors: Path | None = None,
    report_only: bool = False,
) -> None:
    """Runs what is missing in `folder`, and writes `rows.parquet` and `table.md`.

    Args:
        folder: where.
        groups: run only these; all by default.
        methods: run only these; all by default.
        authors: curves that `benchmarks/pqn_authors.py` wrote.
        report_only: run nothing.
    """
    writable_folder(folder)
    path = folder / "rows.parquet"
    rows = pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=["fingerprint"])
    for cell in () if report_only else CELLS:
        chosen = (not groups or cell.group in groups) and (not methods or cell.label in methods)
        if not chosen or (rows["fingerprint"] == cell.fingerprint).any():
            continue
        print(f"{cell.task}, {cell.label}", flush=True)
        rows = _with(rows, run(cell))
        keep_rows(folder, rows)
    if authors is not None:
        rows = _with(rows, of_authors(authors))
        keep_rows(folder, rows)
    keep_table(folder, report(rows))


def _with(rows: pd.DataFrame, made: pd.DataFrame) -> pd.DataFrame:
    """Both, but for what `rows` had of the same task and method with other settings."""
    if rows.empty:
        return made
    same = (rows["task"] == made["task"].iloc[0]) & (rows["method"] == made["method"].iloc[0])
    return pd.concat([rows[~same], made], ignore_index=True)


if __name__ == "__main__":
    tyro.cli(main)
