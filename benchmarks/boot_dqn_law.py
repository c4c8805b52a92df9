"""How many heads bootstrapped DQN needs in DeepSea, with and without randomised priors.

`python -m xplore.benchmarks.boot_dqn_law results/boot-dqn-law` runs what is missing (all seeds of a
cell as one program), and makes the table of the rows. If each head finds the treasure of size n by
itself with a chance of psi^n, K heads do with 1 - (1 - psi^n)^K: psi is fitted to all cells by
maximum likelihood, its interval is where twice the log likelihood is within 3.84 of the best.

Reference: the law and the published psi are those of "A unified scaling law of bootstrapped DQNs"
(TU Delft, 2025), whose runs are of 50,000 episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import tyro
from scipy.optimize import minimize_scalar

from xplore.benchmarks.cells import fingerprint_of, keep_rows, keep_table
from xplore.contracts.registry import make, make_agent, make_bonus, make_world_sampler
from xplore.loop.config import Config
from xplore.loop.train import train
from xplore.record.files import writable_folder
from xplore.record.stats import wilson_interval

SIZES: Final = (6, 8, 10, 12)
HEADS: Final = (1, 3, 10)
PRIORS: Final = {"with priors": 3.0, "without priors": 0.0}
PUBLISHED: Final = {"with priors": "0.87 ± 0.02", "without priors": "0.80 ± 0.01"}
NUM_ENVS: Final = 8
EPISODES_PER_SIZE: Final = 48  # a run at size N has so many times N episodes
_LAST: Final = 0.1  # of the episodes, of which more than half must end with the treasure
_WITHIN: Final = 3.841  # the 95% point of chi^2 with one degree of freedom


def config_of(size: int, heads: int, prior_scale: float) -> Config:
    """The run of a cell."""
    return Config(
        env=make("DeepSea-10-v0", size=size),
        agent=make_agent(
            "boot_dqn",
            num_heads=heads,
            prior_scale=prior_scale,
            batch_size=64,
            updates_per_rollout=16,
        ),
        bonus=make_bonus("none"),
        worlds=make_world_sampler("fresh"),
        budget_steps=EPISODES_PER_SIZE * size * size,
        num_envs=NUM_ENVS,
        num_steps=size,
    )


def run(size: int, heads: int, priors: str, seeds: int) -> list[dict[str, Any]]:
    """A row for each seed of a cell."""
    config = config_of(size, heads, PRIORS[priors])
    found = train(config, seeds=seeds).metrics["episode/success"]  # [S, U], of NUM_ENVS episodes
    last = max(1, round(_LAST * found.shape[1]))
    first = np.where((found > 0).any(axis=1), (found > 0).argmax(axis=1) * NUM_ENVS, -1)
    return [
        {
            "size": size,
            "heads": heads,
            "priors": priors,
            "seed": seed,
            "solved": bool(found[seed, -last:].mean() > 0.5),
            "episodes_before_treasure": int(first[seed]),
            "episodes": found.shape[1] * NUM_ENVS,
            "fingerprint": fingerprint_of(config),
        }
        for seed in range(seeds)
    ]


def fit_psi(cells: pd.DataFrame) -> tuple[float, float, float]:
    """The psi of the law and its 95% interval, from rows with `size`, `heads`, `solved`."""
    groups = cells.groupby(["size", "heads"])["solved"].agg(["sum", "count"]).reset_index()
    n, k = groups["size"].to_numpy(float), groups["heads"].to_numpy(float)
    won, runs = groups["sum"].to_numpy(float), groups["count"].to_numpy(float)

    def loss(psi: float) -> float:
        chance = np.clip(1.0 - (1.0 - psi**n) ** k, 1e-12, 1.0 - 1e-12)
        return -2.0 * float(np.sum(won * np.log(chance) + (runs - won) * np.log1p(-chance)))

    best = float(minimize_scalar(loss, bounds=(1e-3, 1 - 1e-6), method="bounded").x)
    near = [psi for psi in np.linspace(1e-3, 1 - 1e-4, 4000) if loss(psi) < loss(best) + _WITHIN]
    return best, min(near, default=best), max(near, default=best)


def report(rows: pd.DataFrame) -> str:
    """The markdown of the rows."""
    heads = sorted(set(rows["heads"]))
    columns = [f"K={k}" for k in heads]
    lines = [
        f"| | N | episodes | {' | '.join(columns)} | {' | '.join(f'law, {c}' for c in columns)} |",
        "|---" * (3 + 2 * len(heads)) + "|",
    ]
    fits = []
    for priors in PRIORS:
        mine = rows[rows["priors"] == priors]
        if mine.empty:
            continue
        psi, low, high = fit_psi(mine)
        fits.append(
            f"{priors}: psi = {psi:.3f} [{low:.3f}, {high:.3f}] (published {PUBLISHED[priors]})"
        )
        for size in sorted(set(mine["size"])):
            cells = []
            for k in heads:
                solved = mine[(mine["size"] == size) & (mine["heads"] == k)]["solved"]
                if solved.empty:
                    cells.append("-")
                    continue
                low, high = wilson_interval(int(solved.sum()), len(solved))
                cells.append(f"{int(solved.sum())}/{len(solved)} [{low:.2f}, {high:.2f}]")
            law = [f"{1 - (1 - psi**size) ** k:.2f}" for k in heads]
            episodes = int(mine[mine["size"] == size]["episodes"].max())
            lines.append(f"| {priors} | {size} | {episodes} | {' | '.join(cells + law)} |")
    lines += ["", "Seeds that solved [95% interval], and the fitted law 1 - (1 - psi^N)^K:"]
    lines += [f"{'; '.join(fits)}. Solved: more than half of the last tenth of the episodes."]
    return "\n".join(lines) + "\n"


def main(
    folder: tyro.conf.Positional[Path],
    /,
    seeds: int = 32,
    sizes: Sequence[int] = SIZES,
    heads: Sequence[int] = HEADS,
    report_only: bool = False,
) -> None:
    """Runs what is missing in `folder`, and writes `rows.parquet` and `table.md`.

    Args:
        folder: where.
        seeds: of each cell.
        sizes: of DeepSea.
        heads: how many.
        report_only: run nothing.
    """
    writable_folder(folder)
    path = folder / "rows.parquet"
    rows = pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=["fingerprint"])
    for size, k in [] if report_only else [(s, k) for s in sorted(sizes) for k in sorted(heads)]:
        for priors, scale in PRIORS.items():
            mark = fingerprint_of(config_of(size, k, scale))
            if (rows["fingerprint"] == mark).sum() >= seeds:
                continue
            made = pd.DataFrame(run(size, k, priors, seeds))
            print(f"N={size} K={k} {priors}: {made['solved'].sum()}/{seeds}", flush=True)
            old = rows[rows["fingerprint"] != mark]
            rows = pd.concat([old, made], ignore_index=True) if len(old) else made
            keep_rows(folder, rows)
    keep_table(folder, report(rows))


if __name__ == "__main__":
    tyro.cli(main)
