"""A strip of lava with one gap."""

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
class LavaGap(Task):
    """An upright strip of lava, one cell of it left out, between agent and goal.

    Attributes:
        size: side of the room, walls included; at least 5.
    """

    size: int = 7

    def __post_init__(self) -> None:
        if self.size < 5:
            raise ConfigError(f"size is {self.size}: LavaGap needs at least 5 to hold its strip")

    @property
    def name(self) -> str:
        return f"MiniGrid-LavaGapS{self.size}"

    @property
    def width(self) -> int:
        return self.size

    @property
    def height(self) -> int:
        return self.size

    @property
    def missions(self) -> tuple[str, ...]:
        return ("avoid the lava and get to the green goal square",)

    @property
    def max_steps(self) -> int:
        return 4 * self.size**2

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (2,), jnp.uint32)
        gap_x = 2 + layout.below(bits[0], self.size - 4)
        gap_y = 1 + layout.below(bits[1], self.size - 2)
        x, y = layout.coordinates(self.size, self.size)
        grid = layout.walled_room(self.size, self.size)
        inside = grid == cells.NOTHING
        grid[-2, -2] = cells.GREEN_GOAL
        lava = jnp.uint8(cells.cell(cells.LAVA, cells.RED))
        drawn = jnp.where(inside & (x == gap_x) & (y != gap_y), lava, jnp.asarray(grid))
        return Level(drawn.ravel(), jnp.int32(self.size + 1), jnp.int32(0))


@register_env("MiniGrid-LavaGapS5-v0", size=5)
@register_env("MiniGrid-LavaGapS6-v0", size=6)
@register_env("MiniGrid-LavaGapS7-v0", size=7)
def lava_gap(size: int = 7, max_steps: int | None = None, view: View = View()) -> MiniGrid:
    """A strip of lava with one gap: walk through it to the goal in the far corner.

    *What it tests*: exploration beside danger: every step into the lava ends the episode without a
    reward, so that a method which seeks what is new learns to die unless it also learns to avoid.

    *Optimal return*: differs by level; in the mean 0.946 at size 5, 0.949 at 6, 0.952 at 7.

    *Random return*: 0.043 at size 5, 0.020 at 6, 0.011 at 7; 80 to 85% of the episodes end
    in the lava.

    *Solved when*: the goal is reached; `info["success"]`.

    *max_steps*: `4 * size**2`.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(LavaGap(size), max_steps, view)
