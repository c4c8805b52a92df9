"""An empty room."""

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
class Empty(Task):
    """A room with its goal in the far corner; the agent starts opposite to it or anywhere.

    Attributes:
        size: side of the room, walls included; at least 4.
        random_start: whether the agent's cell and direction are drawn.
    """

    size: int = 8
    random_start: bool = False

    def __post_init__(self) -> None:
        if self.size < 4:
            raise ConfigError(f"size is {self.size}: an empty room needs at least 4")

    @property
    def name(self) -> str:
        middle = "Random-" if self.random_start else ""
        return f"MiniGrid-Empty-{middle}{self.size}x{self.size}"

    @property
    def width(self) -> int:
        return self.size

    @property
    def height(self) -> int:
        return self.size

    @property
    def see_through_walls(self) -> bool:
        return True

    @property
    def missions(self) -> tuple[str, ...]:
        return ("get to the green goal square",)

    @property
    def max_steps(self) -> int:
        return 4 * self.size**2

    def sample_level(self, key: Key) -> Level:
        grid = layout.walled_room(self.size, self.size)
        grid[-2, -2] = cells.GREEN_GOAL
        cells_of_grid = jnp.asarray(grid.ravel())
        if not self.random_start:
            return Level(cells_of_grid, jnp.int32(self.size + 1), jnp.int32(0))
        bits = jax.random.bits(key, (2,), jnp.uint32)
        # Row by row, the goal's cell is the last of the room's.
        side = self.size - 2
        n = layout.below(bits[0], side * side - 1)
        place = (n // side + 1) * self.size + n % side + 1
        return Level(cells_of_grid, place, layout.below(bits[1], 4))


@register_env("MiniGrid-Empty-5x5-v0", size=5)
@register_env("MiniGrid-Empty-Random-5x5-v0", size=5, random_start=True)
@register_env("MiniGrid-Empty-6x6-v0", size=6)
@register_env("MiniGrid-Empty-Random-6x6-v0", size=6, random_start=True)
@register_env("MiniGrid-Empty-8x8-v0", size=8)
@register_env("MiniGrid-Empty-16x16-v0", size=16)
def empty(
    size: int = 8,
    random_start: bool = False,
    max_steps: int | None = None,
    view: View = View(),
) -> MiniGrid:
    """An empty room: walk to the goal in the far corner.

    *What it tests*: that a method learns at all, and what its bonus costs where none is needed.

    *Optimal return*: from the corner opposite to the goal, `1 - 0.9 * (2 * size - 5) / max_steps`
    (one turn): 0.955 at size 5, 0.956 at 6, 0.961 at 8, 0.976 at 16; from a random start 0.97 in
    the mean.

    *Random return*: 0.20 at size 5, 0.14 at 6, 0.086 at 8, 0.037 at 16; from a random start 0.30 at
    size 5 and 0.25 at 6.

    *Solved when*: the goal is reached; `info["success"]`.

    *max_steps*: `4 * size**2`.

    Deviations from the original: none but those of `MiniGrid`; as there, walls do not block the
    view.
    """
    return MiniGrid(Empty(size, random_start), max_steps, view)
