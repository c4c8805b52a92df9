"""The fewest steps to success in a level, and the cells that an agent can come to stand on.

`solve` is for jit and vmap. Which `Plan` makes its search exact is a fact about a family of levels,
listed in `plan_for`; `solve_exactly` searches all states of any task, on the host, and is what the
plans are held against.
"""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.errors import ConfigError
from xplore.contracts.types import PyTree
from xplore.envs.minigrid import cells
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.search import NEVER, Plan, search
from xplore.envs.minigrid.task import Level, State, Task

_CHUNK: Final = 4096


class Solution(NamedTuple):
    """What the best play of a level comes to.

    Attributes:
        steps: int32 `[]`, the fewest steps to success, whatever the time limit; -1: there is none.
        solvable: bool `[]`, whether success is possible within the time limit.
        optimal_return: float32 `[]`, `1 - 0.9 * steps / max_steps`; 0 where not solvable.
        reachable: bool `[height * width]`, the cells that the agent can stand on, given time, those
            that end the episode included.
    """

    steps: jax.Array
    solvable: jax.Array
    optimal_return: jax.Array
    reachable: jax.Array


def solve(env: MiniGrid, level: Level, plan: Plan | None = None) -> Solution:
    """Solves a level of `env` exactly, under jit and vmap too.

    On one core a level takes 15 ms at most, but the largest `KeyCorridor` 35 ms, and 0.2 s where a
    ball lies before the door.

    Args:
        env: a task that `plan_for` knows, unless `plan` is given.
        level: of that task.
        plan: what the search keeps track of; None: what `plan_for` says.

    Raises:
        ConfigError: no plan is known for the task, or it draws at random what happens.
    """
    refuse_chance(env.task)
    plan = plan_for(env.task) if plan is None else plan
    found = search(env.task, level, plan)
    return _solution(env, jnp.where(found.steps < NEVER, found.steps, -1), found.stood)


def _solution(env: MiniGrid, steps: jax.Array, reachable: jax.Array) -> Solution:
    solvable = (steps >= 0) & (steps <= env.time_limit)
    best = 1.0 - 0.9 * (steps.astype(jnp.float32) / env.time_limit)
    return Solution(steps, solvable, jnp.where(solvable, best, jnp.float32(0)), reachable)


def refuse_chance(task: Task) -> None:
    """Raises a ConfigError where a task draws at random what happens."""
    if task.stochastic:
        raise ConfigError(
            f"{task.name} draws at random what happens: no level of it has a solution"
        )


# The goal is behind unlocked doors at most, and the shortest way crosses none of them twice. What
# could be picked up ends the episode or cannot shorten it.
_WALK: Final = Plan()
# A key is fetched and its door unlocked; nothing else is to be picked up, so it is never put down.
_UNLOCK: Final = Plan(things=1, doors=1)
# The key is put down behind the door, for a full hand cannot pick up what is asked for.
_UNLOCK_AND_TAKE: Final = Plan(things=2, loose=1, doors=1)
# A ball lies before the door: it and the key may both have to be put down, in any order.
_CLEAR_UNLOCK_AND_TAKE: Final = Plan(things=3, loose=2, doors=1)
_PLANS: Final = {
    "Empty": _WALK,
    "FourRooms": _WALK,
    "SimpleCrossing": _WALK,
    "LavaCrossing": _WALK,
    "LavaGap": _WALK,
    "DistShift": _WALK,
    "MultiRoom": _WALK,
    "WFC": _WALK,
    "Memory": _WALK,
    "GoToDoor": _WALK,
    "Fetch": _WALK,
    "RedBlueDoors": Plan(doors=2, doors_judged=True),
    "DoorKey": _UNLOCK,
    "Unlock": _UNLOCK,
    # The room of the key is left by a door that is open by then.
    "LockedRoom": Plan(things=1, doors=6),
    "UnlockPickup": _UNLOCK_AND_TAKE,
    "ObstructedMaze-1Dl": _UNLOCK_AND_TAKE,
    "ObstructedMaze-1Dlh": _UNLOCK_AND_TAKE,
    "BlockedUnlockPickup": _CLEAR_UNLOCK_AND_TAKE,
    "ObstructedMaze-1Dlhb": _CLEAR_UNLOCK_AND_TAKE,
}
_FAMILY: Final = re.compile(r"MiniGrid-(ObstructedMaze-\w+|[A-Za-z]+?)(?=S?\d|-|$)")


def plan_for(task: Task) -> Plan:
    """The plan with which `solve` is exact for the levels of `task`, by the family in its name.

    Raises:
        ConfigError: none is known.
    """
    match = _FAMILY.match(task.name)
    family = match[1] if match else task.name
    if family in _PLANS:
        return _PLANS[family]
    num_things = int(task.name.rpartition("-N")[2]) if family in ("GoToObject", "PutNear") else 0
    if family == "PutNear" or num_things == 2:
        # What stands in the way can be taken or opened; putting anything down ends the episode, or
        # there is nothing left to make room for.
        return Plan(things=num_things)
    if family == "KeyCorridor":
        # Only the doors of the rooms on the left lead to the key, and back. Behind the locked one
        # there is no other, and it is no shorter to go elsewhere to put down the key.
        num_rows = 3 * (task.height - 1) // (task.width - 1)
        then = Plan(things=2, loose=1)
        return Plan(things=2, doors=2 * num_rows - 1, after_unlocking=then)
    raise ConfigError(
        f"{task.name} has no plan for a search under jit: "
        "try solve_exactly, which visits all states, or give a plan"
    )


def solve_exactly(
    env: MiniGrid, level: Level, max_states: int = 1_000_000, whole: bool = True
) -> Solution:
    """Solves a level of any task in which nothing is random, by a search of all its states.

    Args:
        env: the task, and how it is played.
        level: of that task.
        max_states: the most states to visit, each of which is kept.
        whole: whether to go on after success, for all of `reachable`; otherwise that holds the
            cells that can be stood on within the fewest steps to success.

    Raises:
        ConfigError: the task is random, or `max_states` are not enough.
    """
    refuse_chance(env.task)
    frontier = rows_of_level(level)
    seen = {frontier[0].tobytes()}
    reachable = np.zeros(level.grid.shape, bool)
    reachable[int(level.position)] = True
    steps, depth = -1, 0
    while len(frontier) and (whole or steps < 0):
        depth += 1
        found = expand(env, level, frontier)
        reachable[_positions(found.rows)] = True
        if steps < 0 and found.success.any():
            steps = depth
        # All actions lead to few states: they are made unique in bulk, then looked up.
        successors = np.unique(found.rows[~found.ended], axis=0)
        is_new = np.array([row.tobytes() not in seen for row in successors], bool)
        frontier = successors[is_new]
        seen.update(row.tobytes() for row in frontier)
        if len(seen) > max_states:
            hint = "; whole=False may do" if whole else ""
            raise ConfigError(f"max_states is {max_states}: {env.task.name} needs more{hint}")
    return _solution(env, jnp.int32(steps), jnp.asarray(reachable))


def _rows(
    grid: npt.ArrayLike, position: npt.ArrayLike, direction: npt.ArrayLike, held: npt.ArrayLike
) -> npt.NDArray[np.uint8]:
    """States as bytes `[n, cells + 4]`: the grid, the position's two bytes, direction, load."""
    position = np.asarray(position)
    tail = (position >> 8, position & 255, direction, held)
    return np.column_stack([grid, *tail]).astype(np.uint8)


def _positions(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    return rows[:, -4].astype(np.int32) << 8 | rows[:, -3]


def rows_of_level(level: Level) -> npt.NDArray[np.uint8]:
    """The state that a level starts in, as a row of bytes `[1, cells + 4]`."""
    return _rows(
        np.asarray(level.grid)[None],
        np.asarray(level.position)[None],
        np.asarray(level.direction)[None],
        np.full(1, cells.NOTHING),
    )


class Expanded(NamedTuple):
    """What every action makes of each of n states: leaves `[n * A]`.

    Attributes:
        rows: the states that follow, as bytes `[n * A, cells + 4]`.
        success, ended: bool.
        parent: which of the states it was.
        action: what was done.
    """

    rows: npt.NDArray[np.uint8]
    success: npt.NDArray[np.bool_]
    ended: npt.NDArray[np.bool_]
    parent: npt.NDArray[np.int64]
    action: npt.NDArray[np.int64]


def expand(env: MiniGrid, level: Level, rows: npt.NDArray[np.uint8]) -> Expanded:
    """Tries all actions in states of a level: rows of bytes `[n, cells + 4]`."""
    found = []
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        # 64, 512 or 4,096: few shapes to compile for.
        length = next(n for n in (64, 512, _CHUNK) if n >= len(part))
        padded = np.pad(part, ((0, length - len(part)), (0, 0)))
        made = jax.device_get(_successors(env.task, level.extra, padded))
        made = [leaf[:, : len(part)].reshape(-1, *leaf.shape[2:]) for leaf in made]
        action, parent = np.divmod(np.arange(len(made[0])), len(part))
        found.append([*made, start + parent, action])
    columns = [np.concatenate(leaves) for leaves in zip(*found, strict=True)]
    return Expanded(_rows(*columns[:4]), *columns[4:])


@functools.partial(jax.jit, static_argnums=0)
def _successors(task: Task, extra: PyTree, rows: jax.Array) -> tuple[jax.Array, ...]:
    engine = MiniGrid(task)

    def act(row: jax.Array, action: jax.Array) -> tuple[jax.Array, ...]:
        high, low, direction, held = (row[i].astype(jnp.int32) for i in range(-4, 0))
        here = State(
            row[:-4], high << 8 | low, direction, held.astype(jnp.uint8), jnp.int32(0), extra
        )
        stirred = task.stir(jax.random.key(0), here)  # which draws nothing
        after, step = engine.resolve(here, stirred, action)
        ends = (step.info["success"], step.terminated)
        return after.grid, after.position, after.direction, after.carrying, *ends

    actions = jnp.arange(task.num_actions, dtype=jnp.int32)
    return jax.vmap(jax.vmap(act, (0, None)), (None, 0))(rows, actions)
