"""MultiRoomLite: a chain of rooms behind closed doors, in a lattice, drawn without a search."""

from __future__ import annotations

import functools
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key
from xplore.envs.families.world import FamilyTask, GridFamily
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import Level

MAX_ROOMS = 10


@functools.cache
def chains(num_rooms: int, side: int) -> npt.NDArray[np.int32]:
    """Every way through `num_rooms` places of a lattice, none twice: `[ways, num_rooms]`."""
    found: list[list[int]] = []

    def extend(chain: list[int]) -> None:
        if len(chain) == num_rooms:
            found.append(chain)
            return
        y, x = divmod(chain[-1], side)
        for dx, dy in ((1, 0), (0, 1), (-1, 0), (0, -1)):
            there = (y + dy) * side + x + dx
            if 0 <= x + dx < side and 0 <= y + dy < side and there not in chain:
                extend([*chain, there])

    for start in range(side**2):
        extend([start])
    return np.array(found, np.int32)


@final
@component
class MultiRoomLiteTask(FamilyTask):
    """Rooms of one size in a lattice, a uniform one of all chains through them.

    Attributes:
        num_rooms: n, 2 to 10; the dial of difficulty.
        room_size: side of a room, its walls included, which it shares; 4 to 7.
    """

    num_rooms: int = 6
    room_size: int = 5

    def __post_init__(self) -> None:
        if not 2 <= self.num_rooms <= MAX_ROOMS:
            raise ConfigError(f"num_rooms is {self.num_rooms}: it must be 2 to {MAX_ROOMS}")
        if not 4 <= self.room_size <= 7:
            raise ConfigError(f"room_size is {self.room_size}: it must be 4 to 7")

    @property
    def name(self) -> str:
        return f"MultiRoomLite-N{self.num_rooms}-S{self.room_size}"

    @property
    def _side(self) -> int:
        return 2 if self.num_rooms <= 3 else 3 if self.num_rooms <= 6 else 4

    @property
    def width(self) -> int:
        return self._side * (self.room_size - 1) + 1

    @property
    def height(self) -> int:
        return self.width

    @property
    def missions(self) -> tuple[str, ...]:
        return ("traverse the rooms to get to the goal",)

    @property
    def max_steps(self) -> int:
        return 20 * self.num_rooms

    def sample_level(self, key: Key) -> Level:
        num = self.num_rooms
        bits = jax.random.bits(key, (2 * num + 6,), jnp.uint32)
        table = jnp.asarray(chains(num, self._side))
        chain = table[layout.below(bits[0], len(table))]
        pitch, inner = self.room_size - 1, self.room_size - 2
        left, top = chain % self._side * pitch, chain // self._side * pitch

        def place(x_bits: jax.Array, y_bits: jax.Array, room: int) -> jax.Array:
            x = left[room] + 1 + layout.below(x_bits, inner)
            return (top[room] + 1 + layout.below(y_bits, inner)) * self.width + x

        x, y = (c[None] for c in layout.coordinates(self.width, self.height))
        left_, top_ = left[:, None, None], top[:, None, None]
        covers = (x > left_) & (x < left_ + pitch) & (y > top_) & (y < top_ + pitch)
        free = jnp.any(covers, axis=0).ravel()
        grid = jnp.where(free, jnp.uint8(cells.NOTHING), jnp.uint8(cells.GREY_WALL))

        # A door is in the wall that two rooms share, at a uniform place of it.
        along = 1 + layout.below(bits[6 : 5 + num], inner)
        sideways = top[:-1] == top[1:]
        door_x = jnp.where(sideways, jnp.maximum(left[:-1], left[1:]), left[:-1] + along)
        door_y = jnp.where(sideways, top[:-1] + along, jnp.maximum(top[:-1], top[1:]))
        doors = door_y * self.width + door_x
        colours = layout.below(bits[5 + num : 4 + 2 * num], len(cells.COLOURS))
        closed = (cells.cell(cells.CLOSED_DOOR) + colours).astype(jnp.uint8)
        here = np.arange(grid.size, dtype=np.int32)
        is_door = here[:, None] == doors[None]
        shut = jnp.max(jnp.where(is_door, closed[None], jnp.uint8(0)), axis=1)
        grid = jnp.where(shut > 0, shut, grid)

        goal = place(bits[1], bits[2], num - 1)
        grid = jnp.where(here == goal, jnp.uint8(cells.GREEN_GOAL), grid)
        return Level(grid, place(bits[3], bits[4], 0), layout.below(bits[5], 4))

    def may_turn(self) -> npt.NDArray[np.bool_]:
        y, x = np.divmod(np.arange(self.width * self.height), self.width)
        return (x % (self.room_size - 1) != 0) & (y % (self.room_size - 1) != 0)


@register_env("MultiRoomLite-N4-v0", num_rooms=4)
@register_env("MultiRoomLite-N6-v0", num_rooms=6)
def multi_room_lite(
    num_rooms: int = 6,
    room_size: int = 5,
    max_steps: int | None = None,
    view: View = View(),
) -> GridFamily:
    """A chain of rooms with closed doors: walk through them all to the goal in the last.

    *What it tests*: what MultiRoom does, deep exploration through bottlenecks, with levels that
    cost a hundredth to draw.

    *Optimal return*: differs by level: `1 - 0.9 * optimal_steps / max_steps`, exact, since no door
    is crossed twice.

    *Random return*: see the table of families in docs/families.md; six rooms and more are hard.

    *Solved when*: the goal is reached; `info["success"]`.

    *max_steps*: `20 * num_rooms`.

    Reference: after Chevalier-Boisvert et al. (2023), arXiv:2306.13831.

    Deviations: rooms have one size and lie in a lattice of 2 x 2 to 4 x 4, so that none is in the
        way of another.
    """
    return GridFamily(MultiRoomLiteTask(num_rooms, room_size), max_steps, view)
