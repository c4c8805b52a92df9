"""Shortest plans of the families whose `optimal_steps` is a bound, searched level by level.

`python -m xplore.benchmarks.plans results/plans` goes on where it stopped: what is searched is not
searched again. Of every level: the jitted bound, what is proven, the plan that was found, played
back, and the seconds. `table.md` is made from the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np
import pandas as pd
import tyro

from xplore.benchmarks.cells import keep_rows, keep_table
from xplore.contracts.registry import list_envs, make
from xplore.contracts.solution import Planned
from xplore.parts.levels import level_from_id, train_ids
from xplore.record.files import writable_folder

_KEPT_EVERY: Final = 10  # levels


def families() -> list[str]:
    """The ids whose levels are searched."""
    return [id for id in list_envs() if "/" not in id and isinstance(make(id), Planned)]


def searcher(id: str) -> Callable[[int], dict[str, Any]]:
    """What makes the row of a level."""
    env: Any = make(id)
    bound, draw = jax.jit(env.optimal_steps), jax.jit(lambda i: level_from_id(env, i))
    reset, step, key = jax.jit(env.reset_to_level), jax.jit(env.step), jax.random.key(0)

    def succeeds(level: Any, plan: Sequence[int]) -> bool:
        """Whether the plan ends in success at its last step and not before."""
        state, ts = reset(key, level)[0], None
        for action in plan:
            if ts is not None and bool(ts.terminated):
                return False
            state, ts = step(key, state, np.int32(action))
        return ts is not None and bool(ts.info["success"])

    def search(level_id: int) -> dict[str, Any]:
        level = draw(level_id)
        begun = time.perf_counter()
        found = env.shortest_plan(level)
        seconds = time.perf_counter() - begun
        plan = [] if found.plan is None else found.plan.tolist()
        # With chance a plan is one that can succeed, not one that must.
        if plan and not env.spec().stochastic and not succeeds(level, plan):
            raise AssertionError(f"{id}, level {level_id}: the plan does not end in success")
        return {
            "id": id,
            "level_id": level_id,
            "bound": int(bound(level)),
            "least": found.least,
            "steps": len(plan) or -1,
            "exact": found.exact,
            "seconds": seconds,
        }

    return search


def report(rows: pd.DataFrame) -> str:
    """The markdown of the rows, a line for each family."""
    lines = [
        "| family | levels | with a plan | shortest proven | proven to have none | fewest steps,"
        " median (p90) | plan over what is proven, mean | proven over the jitted bound, mean"
        " | seconds a level, median (p90) |",
        "|---" * 9 + "|",
    ]
    for id, mine in rows.groupby("id", sort=True):
        planned = mine[mine["steps"] >= 0]
        steps, bound = planned["steps"], planned["bound"]
        lines.append(
            f"| `{id}` | {len(mine):,} | {len(planned) / len(mine):.1%}"
            f" | {planned['exact'].sum() / len(mine):.1%} | {(mine['least'] < 0).mean():.1%}"
            f" | {steps.median():.0f} ({steps.quantile(0.9):.0f})"
            f" | {(steps / planned['least']).mean():.3f} | {(planned['least'] / bound).mean():.3f}"
            f" | {mine['seconds'].median():.2f} ({mine['seconds'].quantile(0.9):.2f}) |"
        )
    return "\n".join(lines) + "\n"


def main(
    folder: tyro.conf.Positional[Path],
    /,
    ids: Sequence[str] = (),
    levels: int = 200,
    report_only: bool = False,
) -> None:
    """Searches what is missing in `folder`, and writes `rows.parquet` and `table.md`.

    Args:
        folder: where.
        ids: only these families; all by default.
        levels: of each.
        report_only: search nothing.
    """
    writable_folder(folder)
    path = folder / "rows.parquet"
    rows = pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=["id", "level_id"])
    wanted = [int(i) for i in np.asarray(train_ids(0, jax.numpy.arange(levels)))]
    for id in () if report_only else ids or families():
        done = set(rows.loc[rows["id"] == id, "level_id"])
        missing = [i for i in wanted if i not in done]
        search = searcher(id)
        for k in range(0, len(missing), _KEPT_EVERY):
            made = pd.DataFrame([search(i) for i in missing[k : k + _KEPT_EVERY]])
            rows = pd.concat([rows, made], ignore_index=True) if len(rows) else made
            keep_rows(folder, rows)
            print(f"{id}: {k + len(made)} of {len(missing)}", flush=True)
    keep_table(folder, report(rows))


if __name__ == "__main__":
    tyro.cli(main)
