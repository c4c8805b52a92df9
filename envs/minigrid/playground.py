"""Nine rooms full of things, and nothing to achieve."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import Level, Task

_SIZE, _ROOM = 19, 6  # a room and one of its walls
_NUM_DOORS = 12
_NUM_THINGS = 12
_KINDS = (cells.KEY, cells.BALL, cells.BOX)


@final
@component
class Playground(Task):
    """Three by three rooms, a closed door between each two neighbours, twelve things anywhere.

    There is no reward.
    """

    @property
    def name(self) -> str:
        return "MiniGrid-Playground"

    @property
    def width(self) -> int:
        return _SIZE

    @property
    def height(self) -> int:
        return _SIZE

    @property
    def missions(self) -> tuple[str, ...]:
        return ("",)

    @property
    def max_steps(self) -> int:
        return 100

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (2, _NUM_DOORS + _NUM_THINGS + 1), jnp.uint32)
        agent_bits, turn_bits = bits[:, -1]
        door_bits, thing_bits = bits[:, :_NUM_DOORS], bits[:, _NUM_DOORS:-1]
        grid = layout.walled_room(_SIZE, _SIZE)
        grid[_ROOM:-1:_ROOM, :] = cells.GREY_WALL
        grid[:, _ROOM:-1:_ROOM] = cells.GREY_WALL
        free = np.flatnonzero(grid == cells.NOTHING).astype(np.int32)
        agent = layout.below(agent_bits, free.size)
        numbers = layout.skip(_distinct(thing_bits[0], free.size - 1), agent)
        places = jnp.concatenate([_door_places(door_bits[0]), jnp.asarray(free)[numbers]])

        num_colours = len(cells.COLOURS)
        doors = cells.cell(cells.CLOSED_DOOR) + layout.below(door_bits[1], num_colours)
        kinds = layout.below(thing_bits[1], len(_KINDS) * num_colours)
        things = cells.cell(_KINDS[0]) + (kinds // num_colours << 3) + kinds % num_colours
        put = jnp.concatenate([doors, things]).astype(jnp.uint8)
        # No two of these are in one cell, so the sum over them is the one that is there.
        here = np.arange(_SIZE**2)[None, :] == places[:, None]
        drawn = jnp.sum(jnp.where(here, put[:, None], jnp.uint8(0)), axis=0, dtype=jnp.uint8)
        drawn = jnp.where(drawn > 0, drawn, jnp.asarray(grid.ravel()))
        return Level(drawn, jnp.asarray(free)[agent], layout.below(turn_bits, 4))


def _door_places(bits: jax.Array) -> jax.Array:
    """A cell for each door: as upstream draws it, not the last one of its stretch of wall."""
    along = 1 + layout.below(bits, _ROOM - 2)
    wall = np.arange(_NUM_DOORS) // 3 % 2 * _ROOM + _ROOM
    along = along + np.arange(_NUM_DOORS) % 3 * _ROOM
    is_upright = np.arange(_NUM_DOORS) < _NUM_DOORS // 2
    return jnp.where(is_upright, along * _SIZE + wall, wall * _SIZE + along)


def _distinct(bits: jax.Array, num: int) -> jax.Array:
    """As many distinct integers below `num` as there are `bits`, any set of them as likely.

    Floyd's algorithm: the set is uniform, the order is not.
    """
    count = bits.size

    def add(i: jax.Array, numbers: jax.Array) -> jax.Array:
        last = num - count + i
        number = layout.below(bits[i], last + 1)
        taken = jnp.any(numbers == number)
        return jnp.where(np.arange(count) == i, jnp.where(taken, last, number), numbers)

    # A loop: unrolled, it takes seconds to compile.
    numbers: jax.Array = jax.lax.fori_loop(0, count, add, jnp.full(count, -1, jnp.int32))
    return numbers


@register_env("MiniGrid-Playground-v0")
def playground(max_steps: int | None = None, view: View = View()) -> MiniGrid:
    """Nine rooms with doors and keys, balls and boxes: nothing to achieve.

    *What it tests*: what a method does for the sake of novelty alone: how many rooms it visits,
    what it opens and carries.

    *Optimal return*: 0, as there is no reward.

    *Random return*: 0.

    *Solved when*: never; `info["success"]` is always False.

    *max_steps*: 100.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(Playground(), max_steps, view)
