"""How soon Go-Explore reaches the goal of a level, beside PPO with an episodic count.

`python -m xplore.benchmarks.go_explore` runs what is missing in `results/go-explore`, seed by seed,
each until its level is solved or the end of its budget, and makes the table there from the rows. A
seed's level is the same for both methods: the one level of `fixed` with `num_levels=1`. Go-Explore
goes back to states, which is a privilege; its policy, fitted to the actions it found, begins at the
start like any other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tyro

from xplore.benchmarks.cells import fingerprint_of, keep_rows, keep_table
from xplore.contracts.registry import make, make_agent, make_bonus, make_world_sampler
from xplore.contracts.types import PyTree
from xplore.loop.config import Config
from xplore.loop.dataset import record_plans
from xplore.loop.evaluate import evaluate
from xplore.loop.imitation import behaviour_clone
from xplore.loop.update import TrainState, make_train, reads_of
from xplore.record.files import writable_folder
from xplore.record.survival import median_time
from xplore.worlds.go_explore import GoExplore, demonstration

FOLDER: Final = Path(__file__).resolve().parents[1] / "results" / "go-explore"
SEEDS: Final = 16
GO_EXPLORE: Final = "Go-Explore"
PPO: Final = "PPO + episodic count"
SOLVED: Final = 0.9  # of the episodes that end in an update, as many as there are envs or more
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
        make_world_sampler("go_explore", power=2.0),
        task.budget_steps // 64 * 64,
        num_envs=4,
        num_steps=16,
        num_levels=4,
    )


class Ran(NamedTuple):
    """A run until it solved its level: the state, and updates until then, and to a success."""

    state: TrainState
    updates: jax.Array
    found_after: jax.Array
    solved: jax.Array


def until_solved(config: Config) -> Any:
    """A compiled program: of a key, `Ran` to the update that solved the level, or to the end.

    Go-Explore has solved it with its first success: its actions can be done again. PPO has when
    most of many episodes that ended in an update were successful.
    """
    pure = make_train(config)
    by_one = isinstance(config.worlds, GoExplore)

    def run(key: jax.Array) -> Ran:
        def goes_on(ran: Ran) -> jax.Array:
            return ~ran.solved & (ran.updates < config.num_updates)

        def body(ran: Ran) -> Ran:
            state, metrics = pure.update(ran.state)
            updates = ran.updates + 1
            found = metrics["episode/total_success"] > 0
            found_after = jnp.where(found & (ran.found_after < 0), updates, ran.found_after)
            many = metrics["episode/count"] >= config.num_envs
            most = many & (metrics["episode/success"] >= SOLVED)
            solved = found if by_one else most
            return Ran(state, updates, found_after, solved)

        start = Ran(pure.init(key), jnp.int32(0), jnp.int32(-1), jnp.bool_(False))
        return jax.lax.while_loop(goes_on, body, start)

    return jax.jit(run).lower(jax.random.key(0)).compile()


def steps_of(config: Config, ran: Ran) -> dict[str, Any]:
    """Env steps to the first success, and until solved; the budget where it did not come to that.

    Of updates in which something happened, those before count: PPO is given that much.
    """
    found, solved = int(ran.found_after) >= 0, bool(ran.solved)
    before = [(int(x) - 1) * config.steps_per_update for x in (ran.found_after, ran.updates)]
    if isinstance(config.worlds, GoExplore):
        before = [int(ran.state.worlds.solved_after)] * 2  # exact
    return {
        "found": found,
        "first": max(1, before[0]) if found else config.budget_steps,
        "solved": solved,
        "solved_after": max(1, before[1]) if solved else config.budget_steps,
    }


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


def run(task: Task, method: str, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A row for each seed."""
    config = config_of(task, method)
    started = time.perf_counter()
    program = until_solved(config)
    compile_seconds = time.perf_counter() - started
    for seed in seeds:
        started = time.perf_counter()
        ran: Ran = jax.block_until_ready(program(jax.random.key(seed)))
        state = ran.state
        row = {
            "task": task.env,
            "method": method,
            "seed": seed,
            "level_id": int(np.asarray(state.lanes.level_id)[0]),
            **steps_of(config, ran),
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
        told = f"first success after {row['first']:,} steps, solved after {row['solved_after']:,}"
        print(f"{task.env} {method}, seed {seed}: {told}", flush=True)
        yield row


def report(rows: pd.DataFrame) -> str:
    """The markdown: median steps of each method to what it reached, and how they compare."""
    lines = [
        "| task | method | reads | seeds | to the first success | ratio | until solved | ratio"
        " | a policy fitted to it succeeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for task in TASKS:
        cells = {
            m: cell
            for m in (GO_EXPLORE, PPO)
            if len(cell := rows[(rows["task"] == task.env) & (rows["method"] == m)])
        }
        for method, cell in cells.items():
            reads = ", ".join(f"`{x}`" for x in cell["privileged"].iloc[0].split("+"))
            parts = [f"`{task.env}`", method, reads, str(len(cell))]
            for steps, reached in _MILESTONES:
                parts.append(_told(cell, steps, reached))
                is_mine = method == GO_EXPLORE and PPO in cells
                parts.append(_ratio(cell, cells[PPO], steps, reached) if is_mine else "")
            is_fitted = method == GO_EXPLORE and cell["clone_success"].notna().any()
            parts.append(f"{cell['clone_success'].mean():.2f}" if is_fitted else "")
            lines.append(f"| {' | '.join(parts)} |")
    lines += [
        "",
        "Env steps in one level, by seed, of which each has a level of its own, the same for both"
        " methods: medians [least, most], and how many seeds came to it. PPO's are those before the"
        f" update in which it did; a level is solved when {SOLVED:.0%} of the episodes that end in"
        " an update succeed, if those are as many as there are envs. Go-Explore's are exact, and"
        " its first success solves the level: the same actions succeed again. The ratio is PPO's"
        " median by Go-Explore's, over the seeds that both have; over: where half of PPO's had not"
        " come to it by the end of the budget. Go-Explore restores states (`snapshot`), which PPO"
        " does not; it enters cells with chances proportional to (seen + 1)^-2, a power chosen on"
        " other levels (the paper's is 1/2). The policy in the last column is fitted to the actions"
        " of the first success and acts from the start of the level, with its own noise, in"
        f" {_EPISODES} episodes a seed.",
    ]
    return "\n".join(lines) + "\n"


_MILESTONES: Final = (("first", "found"), ("solved_after", "solved"))


def _told(cell: pd.DataFrame, steps: str, reached: str) -> str:
    at, done = cell[steps].to_numpy(float), cell[reached].to_numpy(bool)
    median = median_time(at, done)
    middle = f"{median:,.0f}" if math.isfinite(median) else f"over {at.max():,.0f}"
    over = "" if done[at.argmax()] else "over "
    return f"{middle} [{at.min():,.0f}, {over}{at.max():,.0f}], {done.sum()}"


def _ratio(mine: pd.DataFrame, other: pd.DataFrame, steps: str, reached: str) -> str:
    both = sorted(set(mine["seed"]) & set(other["seed"]))
    kept = [cell[cell["seed"].isin(both)] for cell in (mine, other)]
    medians = [median_time(c[steps].to_numpy(), c[reached].to_numpy()) for c in kept]
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
            for row in run(task, method, missing):
                new = pd.DataFrame([row])
                rows = pd.concat([rows, new], ignore_index=True) if len(rows) else new
                rows = rows.sort_values(["task", "method", "seed"], ignore_index=True)
                keep_rows(folder, rows)
    keep_table(folder, report(rows))


if __name__ == "__main__":
    tyro.cli(main)
