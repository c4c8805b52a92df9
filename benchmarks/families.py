"""What the families of levels are like: `python -m xplore.benchmarks.families results/families`.

Of a sample of levels of each: how many are solvable, in how many steps, how often uniformly random
actions succeed; and what a level costs to draw, to edit and to solve, and a step. Times are of the
processor, summed over its cores, so that they hold on a machine that is shared; steps per second
are what two cores would do in that time. `families.json` keeps every figure, `table.md` is made
from it. A family that is there already is not measured again; delete its entry for that.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from xplore.contracts.component import replace, to_json
from xplore.contracts.registry import list_envs, make
from xplore.contracts.types import PyTree, WorldFamily
from xplore.envs.families.world import GridFamily
from xplore.envs.minigrid.observation import View
from xplore.measure.flops import count_flops
from xplore.parts.levels import levels_from_ids, train_ids
from xplore.record.provenance import environment

LEVELS = 1024
_STEPS = 64  # of each env in one timed program
_CORES = 2
_REPEATS = 3


def family_ids() -> list[str]:
    """Registered ids of families: those that can be edited and solved, of CtxDeepSea one."""
    ids = [id for id in list_envs() if "/" not in id and isinstance(make(id), WorldFamily)]
    return [id for id in ids if not id.startswith("CtxDeepSea") or id == "CtxDeepSea-8-16-v0"]


def cpu_seconds(run: Callable[[], Any]) -> float:
    """Processor time of a call, all cores together: the median of a few, after a warm-up."""
    jax.block_until_ready(run())
    times = []
    for _ in range(_REPEATS):
        begun = time.process_time()
        jax.block_until_ready(run())
        times.append(time.process_time() - begun)
    return statistics.median(times)


def looks(env: Any) -> dict[str, Any]:
    """A family as it is, and seen as 64 x 64 pixels if it can be."""
    if isinstance(env, GridFamily):
        return {"symbols": env, "pixels": replace(env, view=View(image="rgb64"))}
    if "look" in (field.name for field in dataclasses.fields(env)):
        return {"symbols": env, "pixels": replace(env, look="rgb")}
    return {"symbols": env}


def _play(env: Any, num_steps: int) -> Callable[..., Any]:
    """Random play of every level until its first end: success, return, and all observations."""
    num_actions = env.spec().action.num

    def play(key: jax.Array, levels: PyTree) -> Any:
        num = jax.tree.leaves(levels)[0].shape[0]
        state, _ = jax.vmap(lambda level: env.reset_to_level(key, level))(levels)

        def step(carry: Any, key: jax.Array) -> Any:
            state, over, success, total, seen = carry
            key_action, key_step = jax.random.split(key)
            action = jax.random.randint(key_action, (num,), 0, num_actions)
            state, ts = jax.vmap(lambda s, a: env.step(key_step, s, a))(state, action)
            success |= ~over & ts.info["success"]
            total += jnp.where(over, 0.0, ts.reward)
            # Every observation is used, so that none is left out of the program.
            seen += sum(
                jnp.sum(x.reshape(num, -1), axis=1, dtype=jnp.int32)
                for x in jax.tree.leaves(ts.obs)
            )
            return (state, over | ts.terminated | ts.truncated, success, total, seen), None

        no = jnp.zeros(num, bool)
        begin = (state, no, no, jnp.zeros(num), jnp.zeros(num, jnp.int32))
        end, _ = jax.lax.scan(step, begin, jax.random.split(key, num_steps))
        return end[2:]

    return jax.jit(play)


def measure(id: str) -> dict[str, Any]:
    """All figures of a family."""
    env: Any = make(id)
    key, ids = jax.random.key(0), train_ids(0, jnp.arange(LEVELS))
    draw = jax.jit(lambda ids: levels_from_ids(env, ids).levels)
    levels = draw(ids)
    solve, edit = jax.jit(jax.vmap(env.optimal_steps)), jax.jit(jax.vmap(env.mutate))
    keys = jax.random.split(key, LEVELS)
    steps = np.asarray(solve(levels))
    limit = env.spec().max_steps
    success, total, _ = _play(env, limit)(key, levels)
    solvable = steps >= 0
    per_level = 1e6 / LEVELS
    found = {
        "id": id,
        "config": to_json(env),
        "levels": LEVELS,
        "max_steps": limit,
        "valid": float(np.mean(jax.jit(jax.vmap(env.is_valid))(levels))),
        "solvable": float(np.mean(solvable)),
        "solvable_in_time": float(np.mean(solvable & (steps <= limit))),
        "steps_median": float(np.median(steps[solvable])),
        "steps_p90": float(np.percentile(steps[solvable], 90)),
        "random_success": float(np.mean(success)),
        "random_return": float(np.mean(total)),
        "draw_microseconds": cpu_seconds(lambda: draw(ids)) * per_level,
        "edit_microseconds": cpu_seconds(lambda: edit(keys, levels)) * per_level,
        "solve_microseconds": cpu_seconds(lambda: solve(levels)) * per_level,
    }
    for name, seen in looks(env).items():
        seconds = cpu_seconds(functools.partial(_play(seen, _STEPS), key, levels))
        found[f"{name}_steps_per_second"] = _CORES * LEVELS * _STEPS / seconds
    found["flops_per_level"] = count_flops(draw, ids) / LEVELS
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """The figures, a line for each family."""
    lines = [
        "| family | solvable | fewest steps, median (p90) | limit | random success | draw, edit,"
        " solve, µs | steps/s, symbols | 64 x 64 pixels |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{r['id']}` | {r['solvable']:.1%} | {r['steps_median']:.0f} ({r['steps_p90']:.0f})"
        f" | {r['max_steps']} | {r['random_success']:.1%} | {r['draw_microseconds']:.1f},"
        f" {r['edit_microseconds']:.0f}, {r['solve_microseconds']:.0f}"
        f" | {r['symbols_steps_per_second'] / 1e6:.1f}M"
        f" | {_millions(r.get('pixels_steps_per_second'))} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def _millions(rate: float | None) -> str:
    return "-" if rate is None else f"{rate / 1e6:.2f}M"


def main(out: tyro.conf.Positional[Path], only: tuple[str, ...] = ()) -> None:
    """Measures what is not there yet, and writes the table.

    Args:
        out: the folder.
        only: ids of families; all if none are given.
    """
    file = out / "families.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"families": []}
    rows = {row["id"]: row for row in kept["families"]}
    for id in only or family_ids():
        if id not in rows:
            rows[id] = measure(id)
            print(table([rows[id]]).splitlines()[-1], flush=True)
            out.mkdir(parents=True, exist_ok=True)
            data = {"families": [rows[i] for i in sorted(rows)], "environment": environment()}
            part = file.with_suffix(".part")
            part.write_text(json.dumps(data, indent=1) + "\n")
            os.replace(part, file)
            (out / "table.md").write_text(table([rows[i] for i in sorted(rows)]))


if __name__ == "__main__":
    tyro.cli(main)
