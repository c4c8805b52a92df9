"""Ours against the `minigrid` package, step for step: same levels, same actions, same everything.

`python -m xplore.benchmarks.minigrid_parity results/minigrid` plays every id: levels of the package
loaded into ours and levels of ours loaded into the package, by random actions and by actions that
like to pick up, drop and toggle. What a level held, what was observed and what came of every step
must be equal. Ids already in the folder's `parity.json` are not played again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import tyro

from xplore.contracts.component import replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import make
from xplore.envs.minigrid import cells
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import View, mission_words
from xplore.envs.minigrid.task import DROP, FORWARD, NUM_ACTIONS, PICK_UP, TOGGLE, Level
from xplore.envs.minigrid.upstream import (
    grid_from_minigrid,
    level_from_minigrid,
    level_into_minigrid,
)
from xplore.parts.levels import levels_from_ids

# The package draws these in tenths of a second each, from pictures that its releases lack.
SLOW: Final = "MiniGrid-WFC-"
Array = npt.NDArray[Any]
Record = dict[str, Array]


class Parity(NamedTuple):
    """How many steps of an id were compared, and how many differed.

    Attributes:
        levels_of_package, levels_of_ours: levels played from each side.
        steps: steps compared.
        episodes: episodes that ended among them; successes: those that ended with a reward.
        mismatches: steps at which anything differed.
        what_differed: names of what did.
        seconds: the comparison took.
    """

    levels_of_package: int
    levels_of_ours: int
    steps: int
    episodes: int
    successes: int
    mismatches: int
    what_differed: tuple[str, ...]
    seconds: float


def upstream_env(id: str) -> Any:
    """The unwrapped environment of the `minigrid` package; ConfigError where it has none."""
    import minigrid  # noqa: F401  (registers its environments)

    if id not in gymnasium.registry:
        raise ConfigError(f"the minigrid package has no {id!r}")
    return gymnasium.make(id).unwrapped


def package_env(id: str, pictures: Path | None = None) -> Any:
    """The same, which for WFC draws from `pictures`, or without them from ours."""
    if not id.startswith(SLOW):
        return upstream_env(id)
    from xplore.benchmarks.minigrid_wfc import generator

    return generator(id.removeprefix(SLOW).removesuffix("-v0"), pictures)[0]


def minigrid_ids() -> list[str]:
    """The ids that the `minigrid` package registers outside BabyAI, sorted."""
    import minigrid  # noqa: F401  (registers its environments)

    return sorted(id for id in gymnasium.registry if id.startswith("MiniGrid-"))


def compare(id: str, num_levels: int, num_steps: int, *, seed: int = 0) -> Parity:
    """Compares an id of the package with ours: see `compare_envs`."""
    ours = make(id)
    assert isinstance(ours, MiniGrid)
    return compare_envs(package_env(id), ours, num_levels, num_levels, num_steps, seed=seed)


def compare_envs(
    theirs: Any,
    ours: MiniGrid,
    num_theirs: int,
    num_ours: int,
    num_steps: int,
    *,
    seed: int = 0,
) -> Parity:
    """Plays `num_theirs` levels of the package and `num_ours` of ours in both, each twice.

    Args:
        theirs: an unwrapped environment of the package.
        ours: the same of ours; its view is replaced by one that shows all that theirs does.
        num_theirs: levels of the package.
        num_ours: levels of ours.
        num_steps: steps in each level under each of the two ways to act; an episode that ends
            before is begun again in the same level.
        seed: of levels and actions.
    """
    begun = time.perf_counter()
    ours = replace(ours, view=View(direction=True, mission=True))
    key = np.random.default_rng(seed)
    levels: list[Level] = []
    for i in range(num_theirs):
        theirs.reset(seed=seed * num_theirs + i)
        levels.append(jax.device_get(level_from_minigrid(theirs, ours.task)))
    if num_ours:
        theirs.reset(seed=seed)
        ids = jnp.arange(seed * num_ours, (seed + 1) * num_ours, dtype=jnp.uint32)
        sampled = jax.device_get(jax.jit(lambda i: levels_from_ids(ours, i).levels)(ids))
        levels += [jax.tree.map(lambda x: x[i], sampled) for i in range(num_ours)]  # noqa: B023
    records = [
        _play(theirs, ours, level, key, num_steps, eager)
        for level in levels
        for eager in (False, True)
    ]
    differed, mismatches = _replay(ours, levels, records)
    return Parity(
        levels_of_package=num_theirs,
        levels_of_ours=num_ours,
        steps=len(records) * num_steps,
        episodes=int(sum(r["last"].sum() for r in records)),
        successes=int(sum((r["reward"] > 0).sum() for r in records)),
        mismatches=mismatches,
        what_differed=differed,
        seconds=time.perf_counter() - begun,
    )


def eager_action(env: Any, key: np.random.Generator) -> int:
    """Random, but likelier to do something with what is in front, so that doors are passed."""
    ahead = env.grid.get(*env.front_pos)
    if key.random() < 0.6:
        if ahead is not None and ahead.type == "door" and not ahead.is_open:
            return TOGGLE
        if ahead is not None and ahead.can_pickup():
            return PICK_UP if key.random() < 0.7 else TOGGLE
        if ahead is None and env.carrying and key.random() < 0.2:
            return DROP
        if ahead is None or (ahead.can_overlap() and ahead.type != "lava"):
            return FORWARD
    return int(key.choice(NUM_ACTIONS, p=[0.25, 0.25, 0.25, 0.07, 0.04, 0.07, 0.07]))


def _play(
    theirs: Any,
    ours: MiniGrid,
    level: Level,
    key: np.random.Generator,
    num_steps: int,
    eager: bool,
) -> Record:
    """Plays a level in the package; arrays over its steps, and the grid after the last."""
    num_actions = int(theirs.action_space.n)
    words = ours.task.missions
    level_into_minigrid(theirs, ours.task, level)
    obs = theirs.gen_obs()
    first = obs["image"]
    steps: dict[str, list[Any]] = {}
    last = False
    for _ in range(num_steps):
        if last:
            level_into_minigrid(theirs, ours.task, level)
        action = min(eager_action(theirs, key), num_actions - 1) if eager else int(
            key.integers(num_actions)
        )  # fmt: skip
        obs, reward, terminated, truncated, _ = theirs.step(action)
        held = theirs.carrying
        last = bool(terminated or truncated)
        seen = {
            "action": action,
            "image": obs["image"],
            "direction": obs["direction"],
            "mission": words.index(obs["mission"]),
            "reward": reward,
            "terminated": terminated,
            "truncated": truncated,
            "carrying": held.encode() if held else (0, 0, 0),
            "position": theirs.agent_pos[1] * theirs.width + theirs.agent_pos[0],
            "last": last,
            "stirred": ours.task.stirred_from_minigrid(theirs),
        }
        for name, value in seen.items():
            steps.setdefault(name, []).append(value)
    record = {name: np.asarray(values) for name, values in steps.items()}
    return {**record, "first": first, "grid": grid_from_minigrid(theirs)}


def _replay(
    ours: MiniGrid, levels: list[Level], records: list[Record]
) -> tuple[tuple[str, ...], int]:
    """Takes the recorded actions in ours, all levels at once; what differed, at how many steps."""
    key = jax.random.key(0)

    @jax.jit
    @jax.vmap
    def run(level: Level, actions: jax.Array, last: jax.Array, stirred: jax.Array) -> Any:
        start, first = ours.reset_to_level(key, level)

        def one_step(state: Any, now: Any) -> Any:
            action, ended, moved = now
            after, step = ours.resolve(state, ours.task.stirred(state, moved), action)
            carry = jax.tree.map(lambda a, b: jnp.where(ended, a, b), start, after)
            return carry, (after, step)

        _, (states, steps) = jax.lax.scan(one_step, start, (actions, last, stirred))
        return first, states.position, states.carrying, states.grid[-1], steps

    batch: Level = jax.tree.map(lambda *leaves: jnp.stack(leaves), *_twice(levels))
    columns = {name: np.stack([r[name] for r in records]) for name in records[0]}
    actions = jnp.asarray(columns["action"], jnp.int32)
    first, position, carrying, grid, steps = jax.device_get(
        run(batch, actions, jnp.asarray(columns["last"]), jnp.asarray(columns["stirred"]))
    )
    held = np.where((carrying == cells.NOTHING)[..., None], 0, cells.UPSTREAM[carrying])
    sentences = mission_words(ours.task.missions)
    equal = {
        "image": (steps.obs["image"] == columns["image"]).all((2, 3, 4)),
        "direction": steps.obs["direction"] == columns["direction"],
        "mission": (steps.obs["mission"][..., 0] == sentences[columns["mission"]]).all(2),
        "reward": np.isclose(steps.reward, columns["reward"], rtol=1e-6, atol=0),
        "terminated": steps.terminated == columns["terminated"],
        "truncated": steps.truncated == columns["truncated"],
        "carrying": (held == columns["carrying"]).all(2),
        "position": position == columns["position"],
        "success": steps.info["success"] == (columns["reward"] > 0),
        "first image": (first["image"] == columns["first"]).all((1, 2, 3))[:, None],
        "last grid": (grid == columns["grid"]).all(1)[:, None],
    }
    differed = tuple(name for name, same in equal.items() if not same.all())
    shape = columns["last"].shape
    every = np.stack([np.broadcast_to(same, shape) for same in equal.values()])
    return differed, int((~every.all(0)).sum())


def _twice(levels: Iterable[Level]) -> list[Level]:
    return [level for level in levels for _ in range(2)]


def main(
    folder: tyro.conf.Positional[Path],
    ids: tuple[str, ...] = (),
    levels: int = 200,
    steps: int = 300,
) -> None:
    """Compares `ids` (all of the package's without any) and keeps `parity.json` in `folder`."""
    path = folder / "parity.json"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for id in ids or minigrid_ids():
        if id not in found:
            parity = compare(id, levels, steps)
            found = json.loads(path.read_text()) if path.exists() else {}  # another may have added
            found[id] = parity._asdict()
            path.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")
            print(f"{id}: {parity.steps:,} steps, {parity.mismatches} mismatches", flush=True)
    total = sum(p["steps"] for p in found.values())
    wrong = sum(p["mismatches"] for p in found.values())
    print(f"{len(found)} ids, {total:,} steps, {wrong} mismatches")


if __name__ == "__main__":
    tyro.cli(main)
