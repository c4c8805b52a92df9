"""A key, a locked door, and the goal behind it."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import Level, Task


@final
@component
class DoorKey(Task):
    """A wall with a locked door between the agent with the key and the goal in the corner.

    Attributes:
        size: side of the room, walls included; at least 5.
    """

    size: int = 8

    def __post_init__(self) -> None:
        if self.size < 5:
            raise ConfigError(f"size is {self.size}: DoorKey needs at least 5 to hold its wall")

    @property
    def name(self) -> str:
        return f"MiniGrid-DoorKey-{self.size}x{self.size}"

    @property
    def width(self) -> int:
        return self.size

    @property
    def height(self) -> int:
        return self.size

    @property
    def missions(self) -> tuple[str, ...]:
        return ("use the key to open the door and then get to the goal",)

    @property
    def max_steps(self) -> int:
        return 10 * self.size**2

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (5,), jnp.uint32)
        x, y = layout.coordinates(self.size, self.size)
        wall_x = 2 + layout.below(bits[0], self.size - 4)
        # As upstream draws it, the door is never in the last row before the wall.
        door_y = 1 + layout.below(bits[1], self.size - 3)

        # The left part has `wall_x - 1` columns; the key takes any of its cells but the agent's.
        rows = self.size - 2
        num_cells = (wall_x - 1) * rows
        agent = layout.below(bits[2], num_cells)
        thing = layout.below_but(bits[3], num_cells, agent)

        def place(n: jax.Array) -> jax.Array:
            return (n % rows + 1) * self.size + n // rows + 1

        grid = layout.walled_room(self.size, self.size)
        grid[-2, -2] = cells.GREEN_GOAL
        drawn = jnp.where(x == wall_x, jnp.uint8(cells.GREY_WALL), jnp.asarray(grid))
        locked = jnp.uint8(cells.cell(cells.LOCKED_DOOR, cells.YELLOW))
        drawn = jnp.where((x == wall_x) & (y == door_y), locked, drawn)
        yellow_key = jnp.uint8(cells.cell(cells.KEY, cells.YELLOW))
        drawn = jnp.where(y * self.size + x == place(thing), yellow_key, drawn)
        return Level(drawn.ravel(), place(agent), layout.below(bits[4], 4))


@register_env("MiniGrid-DoorKey-5x5-v0", size=5)
@register_env("MiniGrid-DoorKey-6x6-v0", size=6)
@register_env("MiniGrid-DoorKey-8x8-v0", size=8)
@register_env("MiniGrid-DoorKey-16x16-v0", size=16)
def door_key(size: int = 8, max_steps: int | None = None, view: View = View()) -> MiniGrid:
    """A key, a locked door and the goal behind it.

    *What it tests*: a chain of things that must be done in order for a single reward at its end:
    pick up the key, unlock the door, reach the goal. Random play does so in 1 of 11 episodes of
    250 steps at size 5, and in 1 of 70 episodes of 2,560 steps at size 16.

    *Optimal return*: differs by level; in the mean 0.964 at size 5, 0.969 at 6, 0.976 at 8, 0.988
    at 16.

    *Random return*: 0.035 at size 5, 0.020 at 6, 0.010 at 8, 0.007 at 16.

    *Solved when*: the goal is reached; `info["success"]`.

    *max_steps*: `10 * size**2`.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(DoorKey(size), max_steps, view)
