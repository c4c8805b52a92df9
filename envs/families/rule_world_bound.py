"""What a RuleWorld asks for, and how many steps that takes at the least, under jit."""

from __future__ import annotations

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xplore.envs.families.poses import poses
from xplore.envs.minigrid import cells
from xplore.parts.tour import shortest_tour

HOLD: Final = cells.NOTHING  # what the sign of a goal shows
BESIDE: Final = cells.cell(cells.FLOOR, cells.BLUE)


class Task(NamedTuple):
    """What is to be done, as bytes of `cells`.

    Attributes:
        first, second, product: uint8 `[R]`: side by side, the first two become the third. A rule
            that is not there has walls.
        sign: uint8 `[]`, whether the goal is to hold a thing or to lay it beside another.
        wanted: uint8 `[]`, the thing, what the root of the tree of sub-tasks makes.
        other: uint8 `[]`, what it is to lie beside; a wall if it is to be held.
    """

    first: jax.Array
    second: jax.Array
    product: jax.Array
    sign: jax.Array
    wanted: jax.Array
    other: jax.Array


def least_steps(
    task: Task, room: jax.Array, here: jax.Array, direction: jax.Array, depth: int
) -> jax.Array:
    """A lower bound of the steps to success, int32 `[]`; -1, exactly, if it cannot be made.

    Things that are needed, lie in the room and are more than `depth + 1` cells apart do not come
    together without being carried, a pick-up and a drop each; and the agent walks to within two
    cells of each of them. `rule_world_plan` says why. Where one is there twice, or can be had in
    two ways, or the tree is deeper, the bound is a single step.

    Args:
        task: what is to be done.
        room: uint8 `[size + 2, width]`, the room with its walls.
        here: int32 `[]`, the agent's cell in it.
        direction: int32 `[]`, where it faces.
        depth: of the tree of sub-tasks.
    """
    beside = task.sign == BESIDE
    things = _things(task)
    num, size = len(task.product), len(things)
    is_made = things[:, None] == task.product[None]  # by each rule
    # Which rules are needed, from the goal down.
    needed = is_made[-2]
    before = needed
    for _ in range(depth + 1):
        before = needed
        takes = is_made[:-2].reshape(2, num, num) & before[None, :, None]
        needed = before | jnp.any(takes, axis=(0, 1))
    of_use = jnp.concatenate([needed, needed, jnp.stack([jnp.bool_(True), beside])])

    at = room.reshape(1, -1) == things[:, None]
    count = jnp.sum(at, axis=1)
    itself = np.eye(size, dtype=bool)
    again = (things[:, None] == things[None]) & of_use[None] & ~itself
    ways = count + jnp.sum(is_made, axis=1) + jnp.sum(again, axis=1)
    plain = jnp.all(~of_use | (ways <= 1)) & jnp.all(needed == before)
    plain &= ~(beside & jnp.any(is_made[-1]))

    lies = of_use & (count > 0)
    width = room.shape[1]
    y, x = jnp.divmod(jnp.argmax(at, axis=1), width)
    apart = abs(x[:, None] - x[None]) + abs(y[:, None] - y[None])
    both = lies[:, None] & lies[None]
    joined = both & (apart <= depth + 1)
    for _ in range(size.bit_length()):
        joined = jnp.any(joined[:, :, None] & joined[None], axis=1)
    # Of what is joined, the first is counted.
    drops = jnp.sum(lies & ~jnp.any(joined & np.tri(size, k=-1, dtype=bool), axis=1)) - 1

    # What lies beside another thing that is needed may be left alone.
    alone = ~jnp.any(both & (apart == 1), axis=1)
    agent = here // width - 1, here % width - 1, direction
    walk = _tour(lies & alone, y - 1, x - 1, agent, width - 2, 2**depth + 1)
    steps = jnp.where(plain, jnp.maximum(2 * drops + ~beside + walk, 1), 1)
    return jnp.where(can_be_done(task, room), steps, -1).astype(jnp.int32)


def can_be_done(task: Task, room: jax.Array) -> jax.Array:
    """Whether rules make what is wanted of what lies in the room, bool `[]`; see `least_steps`."""
    things, num = _things(task), len(task.product)
    is_made = things[:, None] == task.product[None]
    # What can be had, from the room up.
    had = jnp.any(room.reshape(1, -1) == things[:, None], axis=1)
    for _ in range(num):
        works = had[:num] & had[num : 2 * num]
        had |= jnp.any(is_made & works[None], axis=1)
    return had[-2] & (had[-1] | (task.sign != BESIDE))


def _things(task: Task) -> jax.Array:
    """Both of each rule, what is wanted, and what it is to lie beside: `[2 R + 2]`."""
    return jnp.concatenate([task.first, task.second, task.wanted[None], task.other[None]])


def _tour(
    wanted: jax.Array,
    y: jax.Array,
    x: jax.Array,
    agent: tuple[jax.Array, jax.Array, jax.Array],
    size: int,
    most: int,
) -> jax.Array:
    """The fewest steps to come near all things that are wanted, in any order, the room empty."""
    table = poses(size)
    row, column, direction = agent
    start = 4 * (size * row + column) + direction
    (which,) = jnp.nonzero(wanted, size=most, fill_value=-1)
    near = jnp.asarray(table.around)[(size * y + x)[which]]
    # For one that is not there, the agent's pose: that is no way round.
    near = jnp.where(which[:, None] < 0, start, near)
    steps = jnp.asarray(table.steps, jnp.int32)
    first, between = steps[near, start], steps[near[None, None], near[:, :, None, None]]
    return shortest_tour(first, between, jnp.zeros_like(first))
