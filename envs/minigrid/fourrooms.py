"""Four rooms joined by gaps in their walls."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp
import numpy as np

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
class FourRooms(Task):
    """Two walls cross in the middle, a gap drawn in each of their four arms.

    Agent and goal are anywhere, in a gap too.

    Attributes:
        size: side of the grid, walls included; odd, at least 7.
    """

    size: int = 19

    def __post_init__(self) -> None:
        if self.size < 7 or self.size % 2 == 0:
            raise ConfigError(f"size is {self.size}: FourRooms needs an odd size of at least 7")

    @property
    def name(self) -> str:
        return "MiniGrid-FourRooms"

    @property
    def width(self) -> int:
        return self.size

    @property
    def height(self) -> int:
        return self.size

    @property
    def missions(self) -> tuple[str, ...]:
        return ("reach the goal",)

    @property
    def max_steps(self) -> int:
        return 100

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (7,), jnp.uint32)
        middle = self.size // 2
        x, y = layout.coordinates(self.size, self.size)
        # Arms above, left of, below and right of the crossing: cells 1 to middle - 1 of each.
        above, left, below, right = 1 + layout.below(bits[:4], middle - 1)
        gap = (x == middle) & ((y == above) | (y == below + middle))
        gap |= (y == middle) & ((x == left) | (x == right + middle))

        grid = layout.walled_room(self.size, self.size)
        grid[middle, :] = cells.GREY_WALL
        grid[:, middle] = cells.GREY_WALL
        drawn = jnp.where(gap, jnp.uint8(cells.NOTHING), jnp.asarray(grid))

        # The free cells, numbered: those of the rooms, then the gaps.
        rooms = np.flatnonzero(grid == cells.NOTHING).astype(np.int32)
        gap_y = jnp.stack([above, jnp.int32(middle), below + middle, jnp.int32(middle)])
        gap_x = jnp.stack([jnp.int32(middle), left, jnp.int32(middle), right + middle])
        free = jnp.concatenate([jnp.asarray(rooms), gap_y * self.size + gap_x])
        agent = layout.below(bits[4], free.size)
        goal = free[layout.below_but(bits[5], free.size, agent)]
        drawn = jnp.where(y * self.size + x == goal, jnp.uint8(cells.GREEN_GOAL), drawn)
        return Level(drawn.ravel(), free[agent], layout.below(bits[6], 4))


@register_env("MiniGrid-FourRooms-v0")
def four_rooms(size: int = 19, max_steps: int | None = None, view: View = View()) -> MiniGrid:
    """Four rooms joined by gaps: find the goal, which is in any of them.

    *What it tests*: search under a short time limit, and generalisation over levels; a lucky start
    needs no exploration at all.

    *Optimal return*: differs by level; 0.85 in the mean.

    *Random return*: 0.02; 3% of the episodes, those that start beside the goal, succeed.

    *Solved when*: the goal is reached; `info["success"]`.

    *max_steps*: 100.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(FourRooms(size), max_steps, view)
