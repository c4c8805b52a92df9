"""A room with a door in each wall, one of them to walk to."""

from __future__ import annotations

from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key, PyTree
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.gotoobject import different, say_done_beside
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import Level, Move, Outcome, Task

_MIN_SIDE = 5


class Target(NamedTuple):
    """The door to walk to: its cell, int32 `[]`, and its colour, uint8 `[]`."""

    position: jax.Array
    colour: jax.Array


@final
@component
class GoToDoor(Task):
    """A room of any width and height from 5 to `size`, a door of another colour in each wall.

    It lies in the upper left corner of the grid, and what is outside its walls is empty.

    Attributes:
        size: side of the grid; at least 5.
    """

    size: int = 5

    def __post_init__(self) -> None:
        if self.size < _MIN_SIDE:
            raise ConfigError(f"size is {self.size}: GoToDoor needs at least {_MIN_SIDE}")

    @property
    def name(self) -> str:
        return f"MiniGrid-GoToDoor-{self.size}x{self.size}"

    @property
    def width(self) -> int:
        return self.size

    @property
    def height(self) -> int:
        return self.size

    @property
    def max_steps(self) -> int:
        return 4 * self.size**2

    @property
    def see_through_walls(self) -> bool:
        return True

    @property
    def missions(self) -> tuple[str, ...]:
        return tuple(f"go to the {colour} door" for colour in cells.COLOURS)

    def mission(self, extra: PyTree) -> jax.Array:
        return extra.colour.astype(jnp.int32)

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (14,), jnp.uint32)
        right, bottom = _MIN_SIDE - 1 + layout.below(bits[:2], self.size - _MIN_SIDE + 1)
        # As upstream draws it, no door is next to a corner. Above, below, left, right:
        zero, along_x, along_y = (
            jnp.int32(0),
            2 + layout.below(bits[2:4], right - 3),
            2 + layout.below(bits[4:6], bottom - 3),
        )
        door_x = jnp.stack([*along_x, zero, right])
        door_y = jnp.stack([zero, bottom, *along_y])
        doors = door_y * self.size + door_x
        colours = different(bits[6:10], len(cells.COLOURS))

        x, y = layout.coordinates(self.size, self.size)
        is_wall = (x <= right) & (y <= bottom)
        is_wall &= (x == 0) | (y == 0) | (x == right) | (y == bottom)
        walls = jnp.where(is_wall, jnp.uint8(cells.GREY_WALL), jnp.uint8(cells.NOTHING))
        grid = walls.ravel()
        for door, colour in zip(doors, colours, strict=True):
            closed = (cells.cell(cells.CLOSED_DOOR) + colour).astype(jnp.uint8)
            grid = jnp.where(np.arange(grid.size) == door, closed, grid)

        agent_x = 1 + layout.below(bits[10], right - 1)
        agent_y = 1 + layout.below(bits[11], bottom - 1)
        asked = layout.below(bits[12], 4)
        extra = Target(doors[asked], colours[asked].astype(jnp.uint8))
        return Level(grid, agent_y * self.size + agent_x, layout.below(bits[13], 4), extra)

    def outcome(self, move: Move) -> Outcome:
        return say_done_beside(move, move.before.extra.position, self.width)

    def extra_from_minigrid(self, env: Any) -> PyTree:
        x, y = env.target_pos
        colour = cells.COLOURS.index(env.target_color)
        return Target(jnp.int32(y * self.width + x), jnp.uint8(colour))

    def extra_into_minigrid(self, env: Any, extra: PyTree) -> None:
        y, x = divmod(int(extra.position), self.width)
        env.target_pos, env.target_color = (x, y), cells.COLOURS[int(extra.colour)]


@register_env("MiniGrid-GoToDoor-5x5-v0")
@register_env("MiniGrid-GoToDoor-6x6-v0", size=6)
@register_env("MiniGrid-GoToDoor-8x8-v0", size=8)
def go_to_door(size: int = 5, max_steps: int | None = None, view: View = View()) -> MiniGrid:
    """A room with four doors: walk to the one of the colour that the mission names, and say so.

    *What it tests*: to act on the mission, which alone tells the doors apart: observe it
    (`view.mission`), or no more than one episode in four can be expected to succeed.

    *Optimal return*: differs by level; in the mean 0.966 at size 5, 0.974 at 6, 0.982 at 8.

    *Random return*: 0.05 at size 5, 0.04 at 6, 0.03 at 8.

    *Solved when*: `done` is chosen beside the door; `info["success"]`. Elsewhere `done` ends the
    episode, as toggling does.

    *max_steps*: `4 * size**2`.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(GoToDoor(size), max_steps, view)
