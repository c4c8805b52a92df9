"""How soon Go-Explore reaches the goal of a level, beside PPO with an episodic count.

`python -m xplore.benchmarks.go_explore` runs what is missing in `results/go-explore`, seed by seed,
each until its first success or the end of its budget, and makes the table there from the rows. A
seed's level is the same for both methods: the one level of `fixed` with `num_levels=1`. Go-Explore
goes back to states, which is a privilege; its policy, fitted to the actions it found, begins at the
start like any other.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tyro

from xplore.contracts.component import to_json
from xplore.contracts.registry import make, make_agent, make_bonus, make_world_sampler
from xplore.contracts.types import PyTree
from xplore.loop.config import Config
from xplore.loop.dataset import record_plans
from xplore.loop.evaluate import evaluate
from xplore.loop.imitation import behaviour_clone
from xplore.loop.update import TrainState, make_train, reads_of
from xplore.record.files import new_file, writable_folder
from xplore.record.provenance import environment
from xplore.record.survival import median_time
from xplore.worlds.go_explore import demonstration

FOLDER: Final = Path(__file__).resolve().parents[1] / "results" / "go-explore"
SEEDS: Final = 5
GO_EXPLORE: Final = "Go-Explore"
PPO: Final = "PPO + episodic count"
_CLONE_STEPS: Final = 2000
_EPISODES: Final = 64


class Task(NamedTuple):
    """An environment, and after how many steps either method gives up."""

    env: str
    budget_steps: int


TASKS: Final = (
    Task("MiniGrid-MultiRoom-N6-v0", 1_000_000),
    Task("MiniGrid-KeyCorridorS3R3-v0", 1_000_000),
)


def config_of(task: Task, method: str) -> Config:
    """The run of a method."""
    if method == PPO:
        # As in the suite minigrid-learning, but for the one level.
        return Config(
            make(task.env),
            make_agent("ppo", anneal_steps=task.budget_steps),
            make_bonus("episodic_count", key="position"),
            make_world_sampler("fixed", num_levels=1),
            task.budget_steps // 8192 * 8192,
            num_envs=64,
            num_steps=128,
        )
    return Config(
        make(f"restorable/{task.env}", explore_steps=16),
        make_agent("sticky", stickiness=0.0),
        make_bonus("none"),
        make_world_sampler("go_explore"),
        task.budget_steps // 256 * 256,
        num_envs=16,
        num_steps=16,
        num_levels=16,
    )


def fingerprint_of(config: Config) -> str:
    """A hash of what decides a run's numbers."""
    text = json.dumps(to_json(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def until_success(config: Config) -> Any:
    """A compiled program: of a key, `(state, updates done)` at the first success or the end."""
    pure = make_train(config)

    def run(key: jax.Array) -> tuple[TrainState, jax.Array, jax.Array]:
        def goes_on(loop: tuple[TrainState, jax.Array, jax.Array]) -> jax.Array:
            return ~loop[2] & (loop[1] < config.num_updates)

        def body(
            loop: tuple[TrainState, jax.Array, jax.Array],
        ) -> tuple[TrainState, jax.Array, jax.Array]:
            state, metrics = pure.update(loop[0])
            return state, loop[1] + 1, metrics["episode/total_success"] > 0

        return jax.lax.while_loop(goes_on, body, (pure.init(key), jnp.int32(0), jnp.bool_(False)))

    return jax.jit(run).lower(jax.random.key(0)).compile()


def first_steps(config: Config, updates: int, state: TrainState, found: bool) -> int:
    """Env steps at the first success; PPO's are those when the update with it began."""
    if not found:
        return config.budget_steps
    solved_after = getattr(state.worlds, "solved_after", None)
    if solved_after is not None:
        return int(solved_after)
    return max(1, (updates - 1) * config.steps_per_update)


def cloned(task: Task, worlds: PyTree, seed: int) -> dict[str, float]:
    """What a policy fitted to the actions found does from the start of the level."""
    env, agent = make(task.env), make_agent("ppo")
    key_init, key_plan, key_fit, key_play = jax.random.split(jax.random.key(seed), 4)
    level_id, plans, lengths = demonstration(worlds)
    dataset = record_plans(env, level_id, plans, lengths, key=key_plan)
    config = config_of(task, PPO)
    state = agent.init(key_init, config.run_spec())
    state, metrics = behaviour_clone(key_fit, agent, state, dataset, num_steps=_CLONE_STEPS)
    ids = jnp.repeat(level_id, _EPISODES)
    played = evaluate(env, agent, state, ids, key=key_play)
    return {
        "plan_steps": float(lengths[0]),
        "clone_accuracy": float(metrics["imitation_accuracy"]),
        "clone_success": float(np.mean(played.success)),
    }


def run(task: Task, method: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each seed."""
    config = config_of(task, method)
    started = time.perf_counter()
    program = until_success(config)
    compile_seconds = time.perf_counter() - started
    rows = []
    for seed in seeds:
        started = time.perf_counter()
        state, updates, found = jax.block_until_ready(program(jax.random.key(seed)))
        row = {
            "task": task.env,
            "method": method,
            "seed": seed,
            "level_id": int(np.asarray(state.lanes.level_id)[0]),
            "first": first_steps(config, int(updates), state, bool(found)),
            "solved": bool(found),
            "budget_steps": config.budget_steps,
            "privileged": "+".join(reads_of(config)),
            "compile_seconds": compile_seconds,
            "run_seconds": time.perf_counter() - started,
            "fingerprint": fingerprint_of(config),
        }
        if method == GO_EXPLORE:
            row["level_id"] = int(state.worlds.level_id)
            row["cells"] = int(state.worlds.archive.is_there.sum())
            if row["solved"]:
                row |= cloned(task, state.worlds, seed)
        rows.append(row)
        print(f"{task.env} {method}, seed {seed}: {row['first']:,} steps", flush=True)
    return rows


def report(rows: pd.DataFrame) -> str:
    """The markdown: median steps to the first success of each method, and how they compare."""
    lines = [
        "| task | method | reads | reached the goal | median steps to it | of seeds, least and most"
        " | PPO's steps / its steps | a policy fitted to it succeeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task in TASKS:
        found = {
            m: cell
            for m in (GO_EXPLORE, PPO)
            if len(cell := rows[(rows["task"] == task.env) & (rows["method"] == m)])
        }
        for method, cell in found.items():
            reads = ", ".join(f"`{x}`" for x in cell["privileged"].iloc[0].split("+"))
            solved, first = cell["solved"].to_numpy(bool), cell["first"].to_numpy(float)
            over = "" if solved[first.argmax()] else "over "
            ends = f"{first.min():,.0f} to {over}{first.max():,.0f}"
            ratio, clone = "", ""
            if method == GO_EXPLORE and PPO in found:
                ratio = _ratio(cell, found[PPO])
            if method == GO_EXPLORE and "clone_success" in cell:
                clone = f"{cell['clone_success'].mean():.2f}"
            median = _steps(median_time(first, solved), float(cell["budget_steps"].iloc[0]))
            lines.append(
                f"| `{task.env}` | {method} | {reads} | {solved.sum()} of {len(cell)} | {median} |"
                f" {ends} | {ratio} | {clone} |"
            )
    lines += [
        "",
        "Env steps until an episode first succeeds in a level, by one seed for each level, the same"
        " levels for both. PPO's are those before the update in which it did, Go-Explore's exact."
        " The ratio is of medians; where half of PPO's seeds have not succeeded by the end of the"
        " budget, at least that of the budget. Go-Explore restores states (`snapshot`), which PPO"
        " does not; the policy in the last column is fitted to the actions of its first success and"
        f" acts from the start of the level, with the policy's own noise, {_EPISODES} episodes a"
        " seed.",
    ]
    return "\n".join(lines) + "\n"


def _steps(median: float, budget: float) -> str:
    return f"{median:,.0f}" if math.isfinite(median) else f"over {budget:,.0f}"


def _ratio(mine: pd.DataFrame, other: pd.DataFrame) -> str:
    """Of medians, over the seeds that both have."""
    both = sorted(set(mine["seed"]) & set(other["seed"]))
    medians = []
    for cell in (mine, other):
        kept = cell[cell["seed"].isin(both)]
        medians.append(median_time(kept["first"].to_numpy(), kept["solved"].to_numpy()))
    if not math.isfinite(medians[0]):
        return ""
    if math.isfinite(medians[1]):
        return f"{medians[1] / medians[0]:.1f}"
    return f"over {float(other['budget_steps'].iloc[0]) / medians[0]:.0f}"


def main(
    folder: tyro.conf.Positional[Path] = FOLDER,
    seeds: int = SEEDS,
    tasks: Sequence[str] = (),
    methods: Sequence[str] = (GO_EXPLORE, PPO),
    report_only: bool = False,
) -> None:
    """Runs what is missing in `folder`, and writes `rows.parquet` and `table.md`.

    Args:
        folder: where.
        seeds: of each method in each task.
        tasks: ids; all by default.
        methods: labels.
        report_only: run nothing.
    """
    writable_folder(folder)
    path = folder / "rows.parquet"
    rows = pd.read_parquet(path) if path.exists() else pd.DataFrame()
    for task in () if report_only else TASKS:
        for method in methods if not tasks or task.env in tasks else ():
            wanted = fingerprint_of(config_of(task, method))
            if len(rows):
                mine = (rows["task"] == task.env) & (rows["method"] == method)
                rows = rows[~mine | (rows["fingerprint"] == wanted)]
            done = set(rows["seed"][rows["fingerprint"] == wanted]) if len(rows) else set()
            missing = [seed for seed in range(seeds) if seed not in done]
            if not missing:
                continue
            new = pd.DataFrame(run(task, method, missing))
            rows = pd.concat([rows, new], ignore_index=True) if len(rows) else new
            rows = rows.sort_values(["task", "method", "seed"], ignore_index=True)
            with new_file(path, replace=True) as stream:
                rows.to_parquet(stream, index=False)
            _write(folder / "provenance.json", json.dumps(environment(), indent=1) + "\n")
    _write(folder / "table.md", report(rows))


def _write(path: Path, text: str) -> None:
    with new_file(path, replace=True) as stream:
        stream.write(text.encode())


if __name__ == "__main__":
    tyro.cli(main)
