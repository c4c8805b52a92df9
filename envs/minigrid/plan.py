"""Shortest ways to success in levels of MiniGrid, action by action: demonstrations by an expert."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.errors import ConfigError
from xplore.contracts.types import PyTree
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.oracle import expand, refuse_chance, rows_of_level
from xplore.envs.minigrid.task import Level

NO_ACTION = 0


def shortest_plan(
    env: MiniGrid, level: Level, max_states: int = 1_000_000
) -> npt.NDArray[np.int32] | None:
    """The actions of a shortest way to success: int32 `[steps]`, or None where there is none.

    A search of all states breadth first, on the host: milliseconds in small levels, and seconds in
    those with many doors and things.

    Args:
        env: a task in which nothing is random.
        level: of that task.
        max_states: the most states to visit, each of which is kept.

    Raises:
        ConfigError: the task is random, or `max_states` are not enough.
    """
    refuse_chance(env.task)
    frontier = rows_of_level(level)
    seen = {frontier[0].tobytes()}
    # Of each layer: the place of every state's parent in the layer before, and the action from it.
    came: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
    while len(frontier):
        found = expand(env, level, frontier)
        if found.success.any():
            at = int(np.flatnonzero(found.success)[0])
            actions, place = [found.action[at]], found.parent[at]
            for parents, taken in reversed(came):
                actions.append(taken[place])
                place = parents[place]
            return np.asarray(actions[::-1], np.int32)
        going_on = np.flatnonzero(~found.ended)
        _, firsts = np.unique(found.rows[going_on], axis=0, return_index=True)
        candidates = going_on[firsts]
        kept = [i for i in candidates if found.rows[i].tobytes() not in seen]
        frontier = found.rows[kept]
        seen.update(row.tobytes() for row in frontier)
        came.append((found.parent[kept], found.action[kept]))
        if len(seen) > max_states:
            raise ConfigError(f"max_states is {max_states}: {env.task.name} needs more")
    return None


def shortest_plans(
    env: MiniGrid, levels: PyTree, max_states: int = 1_000_000
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Shortest plans `[L, P]` of a batch of levels, and their lengths `[L]`, for `record_plans`.

    A level that has no solution within the time limit gets a length of 0.
    """
    num = jax.tree.leaves(levels)[0].shape[0]
    plans = []
    for i in range(num):
        plan = shortest_plan(
            env, jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), levels), max_states
        )
        plans.append(np.zeros(0, np.int32) if plan is None or len(plan) > env.time_limit else plan)
    lengths = np.asarray([len(plan) for plan in plans], np.int32)
    padded = np.full((num, max(1, lengths.max(initial=0))), NO_ACTION, np.int32)
    for i, plan in enumerate(plans):
        padded[i, : len(plan)] = plan
    return padded, lengths
