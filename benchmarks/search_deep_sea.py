"""Agents that plan, in DeepSea-10: episodes to the treasure, and what the planning costs.

`python -m xplore.benchmarks.search_deep_sea results/search-deep-sea` runs every method (all seeds
as one program, one env, one episode an update), writes a row for each seed, and the table of them.
What is done is not run again: a changed agent is another cell.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import tyro

from xplore.benchmarks.cells import fingerprint_of, keep_rows, keep_table
from xplore.contracts.registry import make, make_agent, make_bonus, make_world_sampler
from xplore.contracts.types import Simulates
from xplore.loop.config import Config
from xplore.loop.programs import compiled
from xplore.loop.train import train
from xplore.record.files import writable_folder

SIZE = 10
_SOLVED = 0.1  # solved: at the first episode at which more than this part has had the treasure


class Method(NamedTuple):
    """A line of the table: an agent by its id and options; `by_number` if it sees the state's."""

    label: str
    id: str
    options: dict[str, Any]
    episodes: int = 100
    by_number: bool = False


_PUCT = {"policy": "puct"}
_QUIET = {"dirichlet_fraction": 0.0, "temperature": 0.01}
_NEW = {"novelty_bonus": 0.1}
# Every episode has N steps: that exploring goes on would only make values larger.
_UNTRIED = {"novelty_bonus": 0.1, "untried_value": 1.0, "intrinsic_episodic": True}
METHODS = (
    Method("R-max, m=1", "rmax", {}, by_number=True),
    Method("Dyna-Q, k=50", "dyna_q", {"planning_steps": 50}, by_number=True),
    Method(
        "Dyna-Q+, k=50, kappa=.001",
        "dyna_q",
        {"planning_steps": 50, "time_bonus": 1e-3, "epsilon": 0.0},
        by_number=True,
    ),
    Method(
        "Dyna-Q, k=20, prioritized, Q0=1",
        "dyna_q",
        {"prioritized": True, "initial_value": 1.0, "epsilon": 0.0, "discount": 1.0},
        by_number=True,
    ),
    Method("AlphaZero, Gumbel", "alphazero", {}),
    Method("AlphaZero, Gumbel, novelty .1", "alphazero", _NEW),
    Method("AlphaZero, PUCT, novelty .1", "alphazero", _NEW | _PUCT),
    Method("AlphaZero, PUCT, novelty .1, no noise", "alphazero", _NEW | _PUCT | _QUIET),
    Method("MuZero, Gumbel", "muzero", {}, 60),
    Method("MuZero, Gumbel, untried 1", "muzero", _UNTRIED, 80),
    Method("Plan2Explore", "plan2explore", {}, 80),
)


def cell(method: Method) -> tuple[Config, str]:
    """The run of a method, and a hash of what decides its numbers."""
    config = Config(
        env=make("tabular/DeepSea-v0" if method.by_number else "DeepSea-v0", size=SIZE),
        agent=make_agent(method.id, **method.options),
        bonus=make_bonus("none"),
        worlds=make_world_sampler("fresh"),
        budget_steps=method.episodes * SIZE,
        num_envs=1,
        num_steps=SIZE,
    )
    return config, fingerprint_of(config)


def run(method: Method, seeds: int) -> list[dict[str, Any]]:
    """A row for each seed: `first` and `solved` are NaN where the run ended before."""
    config, fingerprint = cell(method)
    began = _cpu_seconds()
    compiled(config, seeds)
    compile_seconds = _cpu_seconds() - began
    result = train(config, seeds=seeds)
    found = result.metrics["episode/success"] > 0  # [S, U]
    solved = found.cumsum(axis=1) / np.arange(1, found.shape[1] + 1) > _SOLVED
    searched = result.metrics.get("agent/model_steps", np.zeros(found.shape))[:, -1]
    return [
        {
            "agent": method.label,
            "id": method.id,
            "privileged": isinstance(config.agent, Simulates),
            "seed": seed,
            "first": _when(found[seed]),
            "solved": _when(solved[seed]),
            "episodes": found.shape[1],
            "last": float(found[seed, -20:].mean()),
            "model_steps": float(searched[seed]) / config.budget_steps,
            "flops": result.flops_per_update / config.steps_per_update,
            "compile_cpu_seconds": compile_seconds,
            "fingerprint": fingerprint,
        }
        for seed in range(seeds)
    ]


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _when(happened: np.ndarray) -> float:
    return float(happened.argmax() + 1) if happened.any() else math.nan


def report(rows: pd.DataFrame) -> str:
    """The markdown: a line for each method, in their order."""
    lines = [
        "| agent | seeds | first | solved | seeds solved | success of the last 20"
        " | model steps per step | FLOPs per step | compile, CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        part = rows[rows["agent"] == method.label]
        if not len(part):
            continue
        mark = " (privileged)" if part["privileged"].any() else ""
        cells = [
            method.label + mark,
            str(len(part)),
            *(_spread(part, column) for column in ("first", "solved")),
            f"{int(part['solved'].notna().sum())}",
            f"{part['last'].mean():.2f}",
            f"{part['model_steps'].mean():,.0f}",
            f"{part['flops'].mean():.2g}",
            f"{part['compile_cpu_seconds'].mean():.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(part: pd.DataFrame, column: str) -> str:
    """The median [least, most]."""
    budget = int(part["episodes"].max())
    episodes = part[column].fillna(math.inf).to_numpy()
    found = (np.median(episodes), episodes.min(), episodes.max())
    shown = [f"{x:g}" if math.isfinite(x) else f">{budget}" for x in found]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def main(
    folder: tyro.conf.Positional[Path],
    /,
    seeds: int = 8,
    agents: Sequence[str] = (),
    report_only: bool = False,
) -> None:
    """Runs what is missing in `folder`, and writes `rows.parquet` and `table.md`.

    Args:
        folder: where.
        seeds: of each method.
        agents: labels or ids of what to run; all by default.
        report_only: run nothing.
    """
    # What was compiled before would seem to cost nothing.
    jax.config.update("jax_enable_compilation_cache", False)
    writable_folder(folder)
    path = folder / "rows.parquet"
    rows = pd.read_parquet(path) if path.exists() else pd.DataFrame()
    for method in () if report_only else METHODS:
        if agents and not {method.label, method.id} & set(agents):
            continue
        if _done(rows, method, seeds):
            continue
        print(method.label, flush=True)
        if len(rows):
            rows = rows[rows["agent"] != method.label]
        rows = pd.concat([rows, pd.DataFrame(run(method, seeds))], ignore_index=True)
        keep_rows(folder, rows)
    keep_table(folder, report(rows))


def _done(rows: pd.DataFrame, method: Method, seeds: int) -> bool:
    if not len(rows):
        return False
    mine = rows[rows["agent"] == method.label]
    return bool((mine["fingerprint"] == cell(method)[1]).sum() >= seeds)


if __name__ == "__main__":
    tyro.cli(main)
