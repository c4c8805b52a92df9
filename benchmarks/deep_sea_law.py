"""How the episodes a tabular agent needs in DeepSea grow with its size.

`python -m xplore.benchmarks.deep_sea_law results/tabular` runs every agent at every size (all seeds
as one program, one episode an update), writes a row for each seed, and makes the table and the
figure of them. What is done is not run again: a changed agent is another cell.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tyro

from xplore.benchmarks.deep_sea_report import figure, report
from xplore.contracts.component import to_json
from xplore.contracts.registry import make, make_agent, make_bonus, make_world_sampler
from xplore.loop.config import Config
from xplore.loop.train import train
from xplore.record.files import new_file, writable_folder
from xplore.record.plots import save_figure
from xplore.record.provenance import environment

SIZES = (5, 10, 14, 20, 30)
_UNSOLVED = 0.9  # solved: at the first episode at which fewer than this part has had no treasure


class Method(NamedTuple):
    """An agent of the table.

    Attributes:
        label: in the table.
        id: of the agent.
        options: of the agent.
        episodes: how many are run at size N, or none where 0.
    """

    label: str
    id: str
    options: dict[str, Any]
    episodes: Callable[[int], float]


def _samples(n: int) -> float:
    return min(300 + 1.2 * n**3, 12_000)


METHODS = (
    Method("uniform random", "random", {}, lambda n: 8 * 2**n if n <= 10 else 0),
    Method("R-max, m=1", "rmax", {}, lambda n: 5 * n + 20),
    Method("model-based UCB, .1/sqrt(n), clip 1", "model_ucb", {}, lambda n: n**2 / 1.5 + 50),
    Method(
        "model-based UCB, 1/sqrt(n), clip 1",
        "model_ucb",
        {"bonus": 1.0},
        lambda n: 2000 if n <= 14 else 0,
    ),
    Method("UCBVI, practical", "ucbvi", {}, lambda n: 2 * n**2 + 50),
    Method("MBIE-EB, .1/sqrt(n)", "mbie_eb", {}, lambda n: 2 * n**2 + 50),
    Method("BEB, beta=.1", "beb", {"bonus": 0.1}, lambda n: 2 * n**2 + 50),
    Method("optimistic Q-learning", "optimistic_q", {}, lambda n: 1.4 * n**2 + 20),
    Method("UCB-Q, .05/sqrt(n)", "ucb_q", {}, lambda n: 2.5 * n**2 + 60),
    Method(
        "UCB-Q, .05/sqrt(n), V not clipped", "ucb_q", {"clip": False}, lambda n: 2.5 * n**2 + 60
    ),
    Method("RLSVI, sigma=1, lambda=1", "rlsvi", {}, _samples),
    Method("RLSVI, sigma=.3, lambda=1", "rlsvi", {"noise": 0.3}, _samples),
    Method("PSRL, Dir(1/N)", "psrl", {}, lambda n: min(300 + 1.2 * n**3, 4000)),
)


def cell(method: Method, size: int) -> tuple[Config, str]:
    """The run of a method at a size, and a hash of what decides its numbers."""
    config = Config(
        env=make("tabular/DeepSea-v0", size=size),
        agent=make_agent(method.id, **method.options),
        bonus=make_bonus("none"),
        worlds=make_world_sampler("fresh"),
        budget_steps=math.ceil(method.episodes(size)) * size,
        num_envs=1,
        num_steps=size,
    )
    text = json.dumps(to_json(config), sort_keys=True)
    return config, hashlib.sha256(text.encode()).hexdigest()[:16]


def run(method: Method, size: int, seeds: int) -> list[dict[str, Any]]:
    """A row for each seed: `first` and `solved` are NaN where the run ended before."""
    config, fingerprint = cell(method, size)
    found = train(config, seeds=seeds).metrics["episode/success"] > 0  # [S, U]
    episodes = np.arange(1, found.shape[1] + 1)
    solved = (episodes - found.cumsum(axis=1)) / episodes < _UNSOLVED
    return [
        {
            "agent": method.label,
            "id": method.id,
            "size": size,
            "seed": seed,
            "first": _when(found[seed]),
            "solved": _when(solved[seed]),
            "episodes": found.shape[1],
            "censored": not solved[seed].any(),
            "fingerprint": fingerprint,
        }
        for seed in range(seeds)
    ]


def _when(happened: np.ndarray) -> float:
    return float(happened.argmax() + 1) if happened.any() else math.nan


def main(
    folder: tyro.conf.Positional[Path],
    /,
    seeds: int = 20,
    sizes: Sequence[int] = SIZES,
    agents: Sequence[str] = (),
    report_only: bool = False,
) -> None:
    """Runs what is missing in `folder`, and writes `rows.parquet`, `table.md` and `scaling.png`.

    Args:
        folder: where.
        seeds: of each agent at each size.
        sizes: of DeepSea.
        agents: labels or ids of the agents to run; all by default.
        report_only: run nothing.
    """
    writable_folder(folder)
    path = folder / "rows.parquet"
    rows = pd.read_parquet(path) if path.exists() else pd.DataFrame()
    for size in () if report_only else sorted(sizes):
        for method in METHODS:
            chosen = not agents or {method.label, method.id} & set(agents)
            if not chosen or not method.episodes(size):
                continue
            if _done(rows, method, size, seeds):
                continue
            print(f"{method.label}, N={size}", flush=True)
            if len(rows):
                rows = rows[(rows["agent"] != method.label) | (rows["size"] != size)]
            rows = pd.concat([rows, pd.DataFrame(run(method, size, seeds))], ignore_index=True)
            with new_file(path, replace=True) as stream:
                rows.to_parquet(stream, index=False)
            _write(folder / "provenance.json", json.dumps(environment(), indent=1) + "\n")
    order = [m.label for m in METHODS]
    _write(folder / "table.md", report(rows, order))
    save_figure(figure(rows, order), folder / "scaling.png")


def _done(rows: pd.DataFrame, method: Method, size: int, seeds: int) -> bool:
    if not len(rows):
        return False
    mine = rows[(rows["agent"] == method.label) & (rows["size"] == size)]
    return bool((mine["fingerprint"] == cell(method, size)[1]).sum() >= seeds)


def _write(path: Path, text: str) -> None:
    with new_file(path, replace=True) as stream:
        stream.write(text.encode())


if __name__ == "__main__":
    tyro.cli(main)
