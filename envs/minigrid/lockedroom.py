"""A hallway with six rooms, one of them locked, its key in another."""

from __future__ import annotations

import itertools
from typing import Any, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key, PyTree
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import Level, Task

_SIZE = 19
_NUM_ROOMS = 6  # three on each side of the hallway, numbered from the top, left before right
_ROOM_HEIGHT, _DOOR_ROW = 6, 3  # from the wall above a room
_LEFT_WALL, _RIGHT_WALL = 7, 11  # of the hallway
_INSIDE_WIDTH, _INSIDE_HEIGHT = 6, 5
# The mission names the locked room's colour and that of the room with the key.
_PAIRS = tuple(itertools.permutations(cells.COLOURS, 2))


@final
@component
class LockedRoom(Task):
    """Six rooms with doors of six colours; the goal is in the locked one, the key in another.

    The mission says which is which; the agent starts in the hallway.
    """

    @property
    def name(self) -> str:
        return "MiniGrid-LockedRoom"

    @property
    def width(self) -> int:
        return _SIZE

    @property
    def height(self) -> int:
        return _SIZE

    @property
    def missions(self) -> tuple[str, ...]:
        return tuple(
            f"get the {locked} key from the {other} room,"
            f" unlock the {locked} door and go to the goal"
            for locked, other in _PAIRS
        )

    def mission(self, extra: PyTree) -> jax.Array:
        return extra.astype(jnp.int32)

    @property
    def max_steps(self) -> int:
        return 10 * _SIZE

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (_NUM_ROOMS + 9,), jnp.uint32)
        colours = jnp.argsort(bits[:_NUM_ROOMS])  # of each room: a permutation
        bits = bits[_NUM_ROOMS:]
        locked = layout.below(bits[0], _NUM_ROOMS)
        other = layout.below_but(bits[1], _NUM_ROOMS, locked)
        colour = colours[locked]

        x, y = layout.coordinates(_SIZE, _SIZE)
        here = y * _SIZE + x
        grid = layout.walled_room(_SIZE, _SIZE)
        grid[:, [_LEFT_WALL, _RIGHT_WALL]] = cells.GREY_WALL
        grid[_ROOM_HEIGHT:-1:_ROOM_HEIGHT, : _LEFT_WALL + 1] = cells.GREY_WALL
        grid[_ROOM_HEIGHT:-1:_ROOM_HEIGHT, _RIGHT_WALL:] = cells.GREY_WALL
        drawn = jnp.asarray(grid)
        for room in range(_NUM_ROOMS):
            door_y = room // 2 * _ROOM_HEIGHT + _DOOR_ROW
            door = door_y * _SIZE + (_RIGHT_WALL if room % 2 else _LEFT_WALL)
            kind = jnp.where(locked == room, cells.LOCKED_DOOR, cells.CLOSED_DOOR)
            byte = (kind << 3 | colours[room]).astype(jnp.uint8)
            drawn = jnp.where(here == door, byte, drawn)

        def place(room: jax.Array, x_bits: jax.Array, y_bits: jax.Array) -> jax.Array:
            left = jnp.where(room % 2 == 1, _RIGHT_WALL, 0)
            top = room // 2 * _ROOM_HEIGHT
            inside_x = 1 + layout.below(x_bits, _INSIDE_WIDTH)
            inside_y = 1 + layout.below(y_bits, _INSIDE_HEIGHT)
            return (top + inside_y) * _SIZE + left + inside_x

        goal, thing = place(locked, bits[2], bits[3]), place(other, bits[4], bits[5])
        drawn = jnp.where(here == goal, jnp.uint8(cells.GREEN_GOAL), drawn)
        drawn = jnp.where(here == thing, (cells.cell(cells.KEY) + colour).astype(jnp.uint8), drawn)
        agent_x = _LEFT_WALL + 1 + layout.below(bits[6], _RIGHT_WALL - _LEFT_WALL - 1)
        agent_y = 1 + layout.below(bits[7], _SIZE - 2)
        # Pairs are in the order of the first colour, then of the second, which is not the first.
        second = colours[other] - (colours[other] > colour)
        pair = (colour * (len(cells.COLOURS) - 1) + second).astype(jnp.uint8)
        return Level(drawn.ravel(), agent_y * _SIZE + agent_x, layout.below(bits[8], 4), extra=pair)

    def extra_from_minigrid(self, env: Any) -> PyTree:
        return jnp.uint8(self.missions.index(env.mission))


@register_env("MiniGrid-LockedRoom-v0")
def locked_room(max_steps: int | None = None, view: View = View()) -> MiniGrid:
    """Six rooms, one locked: fetch its key from another room, unlock it, walk to the goal.

    *What it tests*: a long chain of things that must be done in order (open the right room, pick
    up the key, unlock the other, reach the goal) for one reward, under a short time limit. The
    mission says where the key is; without it in the observation, rooms must be searched.

    *Optimal return*: differs by level; 0.81 in the mean.

    *Random return*: 0 (no success in 4,096 episodes).

    *Solved when*: the goal is reached; `info["success"]`.

    *max_steps*: 190.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(LockedRoom(), max_steps, view)
