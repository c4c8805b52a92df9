"""Rivers of lava, or walls, to be crossed where each has its one opening."""

from __future__ import annotations

from typing import Final, Literal, final

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

Obstacle = Literal["lava", "wall"]
# Of each obstacle: its byte, the word in the task's name, the mission.
_OBSTACLES: Final = {
    "lava": (
        cells.cell(cells.LAVA, cells.RED),
        "Lava",
        "avoid the lava and get to the green goal square",
    ),
    "wall": (cells.GREY_WALL, "Simple", "find the opening and get to the green goal square"),
}


@final
@component
class Crossing(Task):
    """Straight rivers between the agent in one corner and the goal in the other.

    They run from wall to wall in even rows and columns. A path that only goes right and down
    crosses all of them in a random order, and each has an opening where the path crosses it.

    Attributes:
        size: side of the room, walls included; odd, at least 5.
        num_crossings: rivers; 1 to `size - 3`.
        obstacle: what they are made of, "lava" or "wall".
    """

    size: int = 9
    num_crossings: int = 1
    obstacle: Obstacle = "lava"

    def __post_init__(self) -> None:
        if self.size < 5 or self.size % 2 == 0:
            raise ConfigError(f"size is {self.size}: Crossing needs an odd size of at least 5")
        if not 1 <= self.num_crossings <= self.size - 3:
            raise ConfigError(
                f"num_crossings is {self.num_crossings}: at size {self.size} it must be 1 to"
                f" {self.size - 3}"
            )
        if self.obstacle not in _OBSTACLES:
            raise ConfigError(
                f"obstacle is {self.obstacle!r}: it must be one of {', '.join(_OBSTACLES)}"
            )

    @property
    def name(self) -> str:
        kind = _OBSTACLES[self.obstacle][1]
        return f"MiniGrid-{kind}CrossingS{self.size}N{self.num_crossings}"

    @property
    def width(self) -> int:
        return self.size

    @property
    def height(self) -> int:
        return self.size

    @property
    def missions(self) -> tuple[str, ...]:
        return (_OBSTACLES[self.obstacle][2],)

    @property
    def max_steps(self) -> int:
        return 4 * self.size**2

    def sample_level(self, key: Key) -> Level:
        num_rivers = self.size - 3  # that there could be: the upright ones, then the level ones
        bits = jax.random.bits(key, (num_rivers + self.num_crossings,), jnp.uint32)
        # A shuffle of all rivers says both which there are, its first ones, and in which order the
        # path crosses them: given the set, the sequence of directions is as likely as any other.
        shuffled = jnp.argsort(bits[:num_rivers])[: self.num_crossings]
        is_upright = shuffled < num_rivers // 2
        line = 2 + 2 * (shuffled % (num_rivers // 2))
        is_its = line[:, None] == np.arange(self.size)[None, :]
        is_column = jnp.any(is_upright[:, None] & is_its, axis=0)
        is_row = jnp.any(~is_upright[:, None] & is_its, axis=0)

        # Before each crossing, the path is past so many columns and rows.
        num_right = jnp.cumsum(is_upright) - is_upright
        num_down = jnp.cumsum(~is_upright) - ~is_upright
        left, top = _limit(is_column, num_right), _limit(is_row, num_down)
        right, bottom = _limit(is_column, num_right + 1), _limit(is_row, num_down + 1)
        # It leaves the room it is in anywhere along the river.
        low, high = jnp.where(is_upright, top, left), jnp.where(is_upright, bottom, right)
        along = low + 1 + layout.below(bits[num_rivers:], high - low - 1)
        opening_x = jnp.where(is_upright, right, along)[:, None, None]
        opening_y = jnp.where(is_upright, along, bottom)[:, None, None]

        x, y = layout.coordinates(self.size, self.size)
        opening = jnp.any((x[None] == opening_x) & (y[None] == opening_y), axis=0)
        grid = layout.walled_room(self.size, self.size)
        inside = grid == cells.NOTHING
        grid[-2, -2] = cells.GREEN_GOAL
        river = inside & (is_column[None, :] | is_row[:, None]) & ~opening
        drawn = jnp.where(river, jnp.uint8(_OBSTACLES[self.obstacle][0]), jnp.asarray(grid))
        return Level(drawn.ravel(), jnp.int32(self.size + 1), jnp.int32(0))


def _limit(is_river: jax.Array, number: jax.Array) -> jax.Array:
    """Where the rivers of these numbers are, from 1: 0 before the first, the wall after the last.

    Args:
        is_river: bool `[size]`, by coordinate.
        number: int32 `[n]`.
    """
    return jnp.sum(jnp.cumsum(is_river)[None, :-1] < number[:, None], axis=1, dtype=jnp.int32)


@register_env("MiniGrid-LavaCrossingS9N1-v0", size=9, num_crossings=1)
@register_env("MiniGrid-LavaCrossingS9N2-v0", size=9, num_crossings=2)
@register_env("MiniGrid-LavaCrossingS9N3-v0", size=9, num_crossings=3)
@register_env("MiniGrid-LavaCrossingS11N5-v0", size=11, num_crossings=5)
@register_env("MiniGrid-SimpleCrossingS9N1-v0", size=9, num_crossings=1, obstacle="wall")
@register_env("MiniGrid-SimpleCrossingS9N2-v0", size=9, num_crossings=2, obstacle="wall")
@register_env("MiniGrid-SimpleCrossingS9N3-v0", size=9, num_crossings=3, obstacle="wall")
@register_env("MiniGrid-SimpleCrossingS11N5-v0", size=11, num_crossings=5, obstacle="wall")
def crossing(
    size: int = 9,
    num_crossings: int = 1,
    obstacle: Obstacle = "lava",
    max_steps: int | None = None,
    view: View = View(),
) -> MiniGrid:
    """Rivers of lava, or walls, with an opening in each: cross them to the goal in the far corner.

    *What it tests*: exploration where most steps into the unknown are deadly (lava), and the same
    search where they cost nothing but time (walls).

    *Optimal return*: differs by level, not by obstacle; 0.96 in the mean for S9N1, S9N2 and S11N5,
    0.95 for S9N3.

    *Random return*: lava: 0.004 for S9N1, below 0.001 for the others (1 success in 8,192 episodes
    for S11N5); walls: 0.015 for S9N1, 0.009 for S9N2, 0.011 for S9N3, 0.006 for S11N5.

    *Solved when*: the goal is reached; `info["success"]`.

    *max_steps*: `4 * size**2`.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(Crossing(size, num_crossings, obstacle), max_steps, view)
