"""What the families of levels are like: `python -m xplore.benchmarks.families results/families`.

Of a sample of levels of each: how many are solvable, in how many steps, how often uniformly random
actions succeed; what a level costs to draw, to edit and to solve; steps per second, as
`xplore.benchmarks.throughput` measures them; and, of the hard setting of each, what share of a
training run goes into drawing its levels. Times are of the clock: let nothing else run.
`families.json` keeps every figure, `table.md` is made from it. A family that is there already is
not measured again; delete its entry for that.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from xplore.benchmarks.throughput import measure_env_speed
from xplore.contracts.component import replace, to_json
from xplore.contracts.registry import list_envs, make, make_agent, make_bonus, make_world_sampler
from xplore.contracts.types import PyTree, WorldFamily
from xplore.envs.families.world import GridFamily
from xplore.envs.minigrid.observation import View
from xplore.loop.config import Config
from xplore.loop.update import make_train
from xplore.measure.flops import count_flops
from xplore.parts.levels import levels_from_ids, train_ids
from xplore.record.provenance import environment

LEVELS = 1024
# The hard setting of each family: an id, and options if its defaults are not hard.
HARD: Final[dict[str, dict[str, Any]]] = {
    "Caves-19x19-v0": {"far": 0.8},
    "Chaser-Hard-v0": {},
    "CtxDeepSea-8-16-v0": {},
    "Heist-Full-v0": {},
    "KeyMaze-13x13-v0": {},
    "Maze-Long-21x21-v0": {},
    "Miner-Hard-v0": {},
    "MultiRoomLite-N6-v0": {},
    "RuleWorld-D2-v0": {},
}
_STEPS = {"symbols": 256, "pixels": 64}  # of each env in one timed program
_REPEATS = 5


def settings() -> dict[str, tuple[str, dict[str, Any]]]:
    """Ids and options by label: every registered id of a family, and the hard settings.

    They are those that can be edited and solved; of CtxDeepSea one is shown.
    """
    ids = [id for id in list_envs() if "/" not in id and isinstance(make(id), WorldFamily)]
    ids = [id for id in ids if not id.startswith("CtxDeepSea") or id in HARD]
    both: list[tuple[str, dict[str, Any]]] = [(id, {}) for id in ids]
    both += [(id, options) for id, options in HARD.items() if options]
    return {_label(id, options): (id, options) for id, options in both}


def _label(id: str, options: dict[str, Any]) -> str:
    listed = ",".join(f"{name}={value}" for name, value in options.items())
    return f"{id}({listed})" if options else id


def seconds(run: Callable[[], Any]) -> float:
    """Time of a call: the median of a few, after a warm-up."""
    jax.block_until_ready(run())
    times = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def looks(env: Any) -> dict[str, Any]:
    """A family as it is, and seen as 64 x 64 pixels."""
    of_pixels = {"view": View(image="rgb64")} if isinstance(env, GridFamily) else {"look": "rgb"}
    return {"symbols": env, "pixels": replace(env, **of_pixels)}


def _play(env: Any, num_steps: int) -> Callable[..., Any]:
    """Random play of every level until its first end: success and return."""
    num_actions = env.spec().action.num

    def play(key: jax.Array, levels: PyTree) -> Any:
        num = jax.tree.leaves(levels)[0].shape[0]
        state, _ = jax.vmap(lambda level: env.reset_to_level(key, level))(levels)

        def step(carry: Any, key: jax.Array) -> Any:
            state, over, success, total = carry
            key_action, key_step = jax.random.split(key)
            action = jax.random.randint(key_action, (num,), 0, num_actions)
            state, ts = jax.vmap(lambda s, a: env.step(key_step, s, a))(state, action)
            success |= ~over & ts.info["success"]
            total += jnp.where(over, 0.0, ts.reward)
            return (state, over | ts.terminated | ts.truncated, success, total), None

        no = jnp.zeros(num, bool)
        begin = (state, no, no, jnp.zeros(num))
        end, _ = jax.lax.scan(step, begin, jax.random.split(key, num_steps))
        return end[2:]

    return jax.jit(play)


def level_share(env: Any) -> float:
    """The share of a training run that goes into drawing its levels, all of them new ones.

    The run is PPO's at all defaults: `Config` says how many levels each of its updates is given.
    """
    plugs = make_agent("ppo"), make_bonus("none"), make_world_sampler("fresh")
    config = Config(env, *plugs, budget_steps=8192)
    pure, key = make_train(config), jax.random.key(0)
    state = jax.jit(pure.init)(key)
    worlds = jax.jit(
        lambda key: config.worlds.sample(key, state.worlds, env, config.levels_per_rollout)
    )
    update = jax.jit(pure.update)
    return seconds(lambda: worlds(key)) / seconds(lambda: update(state))


def measure(id: str, options: dict[str, Any]) -> dict[str, Any]:
    """All figures of a family."""
    env: Any = make(id, **options)
    key, ids = jax.random.key(0), train_ids(0, jnp.arange(LEVELS))
    draw = jax.jit(lambda ids: levels_from_ids(env, ids).levels)
    levels = draw(ids)
    solve, edit = jax.jit(jax.vmap(env.optimal_steps)), jax.jit(jax.vmap(env.mutate))
    keys = jax.random.split(key, LEVELS)
    steps = np.asarray(solve(levels))
    limit = env.spec().max_steps
    success, total = _play(env, limit)(key, levels)
    solvable = steps >= 0
    found = {
        "id": _label(id, options),
        "hard": HARD.get(id) == options,
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
        "levels_per_second": LEVELS / seconds(lambda: draw(ids)),
        "edits_per_second": LEVELS / seconds(lambda: edit(keys, levels)),
        "solutions_per_second": LEVELS / seconds(lambda: solve(levels)),
        "flops_per_level": count_flops(draw, ids) / LEVELS,
    }
    for name, seen in looks(env).items():
        speed = measure_env_speed(seen, num_steps=_STEPS[name], repeats=_REPEATS)
        found[f"{name}_steps_per_second"] = speed.steps_per_second
        found[f"{name}_repeats"] = speed.steps_per_second_of_repeats
    if found["hard"]:
        found["level_share"] = level_share(env)
    found["load"] = os.getloadavg()[0]
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """The figures, a line for each setting."""
    lines = [
        "| family | hard setting | solvable | fewest steps, median (p90) | limit | random success"
        " | drawn, edited, solved per second | drawing, of training | steps/s, symbols"
        " | 64 x 64 pixels |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{r['id']}` | {'yes' if r['hard'] else ''} | {r['solvable']:.1%}"
        f" | {r['steps_median']:.0f} ({r['steps_p90']:.0f})"
        f" | {r['max_steps']} | {r['random_success']:.1%}"
        f" | {_rates(r)} | {format(r['level_share'], '.1%') if r['hard'] else ''}"
        f" | {r['symbols_steps_per_second'] / 1e6:.1f}M"
        f" | {r['pixels_steps_per_second'] / 1e6:.2f}M |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def _rates(row: dict[str, Any]) -> str:
    rates = (row[f"{what}_per_second"] for what in ("levels", "edits", "solutions"))
    return ", ".join(f"{rate / 1e3:,.0f}k" for rate in rates)


def main(out: tyro.conf.Positional[Path], only: tuple[str, ...] = ()) -> None:
    """Measures what is not there yet, and writes the table.

    Args:
        out: the folder.
        only: labels, ids with options; all if none are given.
    """
    file = out / "families.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"families": []}
    rows = {row["id"]: row for row in kept["families"]}
    for label, setting in settings().items():
        if label not in rows and (not only or label in only):
            rows[label] = measure(*setting)
            print(table([rows[label]]).splitlines()[-1], flush=True)
            out.mkdir(parents=True, exist_ok=True)
            data = {"families": [rows[i] for i in sorted(rows)], "environment": environment()}
            part = file.with_suffix(".part")
            part.write_text(json.dumps(data, indent=1) + "\n")
            os.replace(part, file)
            (out / "table.md").write_text(table([rows[i] for i in sorted(rows)]))


if __name__ == "__main__":
    tyro.cli(main)
