"""A red door and a blue one, to be opened in this order."""

from __future__ import annotations

from typing import Any, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key, PyTree
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import Level, Move, Outcome, Task


@final
@component
class RedBlueDoors(Task):
    """A room with a red door in its left wall and a blue one in its right; no goal.

    Opening the blue door ends the episode: with success if the red one is open then.

    Attributes:
        size: side of the room in the middle, walls included, and half the grid's width; at least 4.
    """

    size: int = 8

    def __post_init__(self) -> None:
        if self.size < 4:
            raise ConfigError(f"size is {self.size}: RedBlueDoors needs at least 4")

    @property
    def name(self) -> str:
        return f"MiniGrid-RedBlueDoors-{self.size}x{self.size}"

    @property
    def width(self) -> int:
        return 2 * self.size

    @property
    def height(self) -> int:
        return self.size

    @property
    def missions(self) -> tuple[str, ...]:
        return ("open the red door then the blue door",)

    @property
    def max_steps(self) -> int:
        return 20 * self.size**2

    @property
    def _walls(self) -> tuple[int, int]:
        """The columns of the red and of the blue door."""
        left = self.size // 2
        return left, left + self.size - 1

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (5,), jnp.uint32)
        red_x, blue_x = self._walls
        side = self.size - 2
        # The agent is somewhere inside, each door anywhere but in the corners of its wall.
        agent_x = red_x + 1 + layout.below(bits[0], side)
        agent_y, red_y, blue_y = 1 + layout.below(bits[1:4], side)
        x, y = layout.coordinates(self.width, self.height)
        grid = layout.walled_room(self.width, self.height)
        grid[:, [red_x, blue_x]] = cells.GREY_WALL
        red, blue = (cells.cell(cells.CLOSED_DOOR, c) for c in (cells.RED, cells.BLUE))
        drawn = jnp.where((x == red_x) & (y == red_y), jnp.uint8(red), jnp.asarray(grid))
        drawn = jnp.where((x == blue_x) & (y == blue_y), jnp.uint8(blue), drawn)
        return Level(drawn.ravel(), agent_y * self.width + agent_x, layout.below(bits[4], 4))

    def outcome(self, move: Move) -> Outcome:
        red_before, blue_before = self._are_open(move.before.grid)
        red_after, blue_after = self._are_open(move.after.grid)
        return Outcome(
            success=blue_after & red_before,
            over=(blue_after & ~red_before) | (red_after & blue_before),
        )

    def _are_open(self, grid: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Whether the red and the blue door are open."""
        rows = grid.reshape(self.height, self.width)
        red_x, blue_x = self._walls
        red, blue = (cells.cell(cells.OPEN_DOOR, c) for c in (cells.RED, cells.BLUE))
        return jnp.any(rows[:, red_x] == red), jnp.any(rows[:, blue_x] == blue)

    def extra_into_minigrid(self, env: Any, extra: PyTree) -> None:
        doors = {thing.color: thing for thing in env.grid.grid if thing and thing.type == "door"}
        env.red_door, env.blue_door = doors["red"], doors["blue"]


@register_env("MiniGrid-RedBlueDoors-6x6-v0", size=6)
@register_env("MiniGrid-RedBlueDoors-8x8-v0", size=8)
def red_blue_doors(size: int = 8, max_steps: int | None = None, view: View = View()) -> MiniGrid:
    """A red door and a blue one, at opposite sides of a room: open the red one, then the blue one.

    *What it tests*: order and memory: the blue door ends the episode, so that an agent who stands
    before it must know whether it has opened the red one.

    *Optimal return*: differs by level; in the mean 0.984 at size 6, 0.988 at 8.

    *Random return*: 0.057 at size 6, 0.038 at 8.

    *Solved when*: the blue door is opened while the red one is open; `info["success"]`.

    *max_steps*: `20 * size**2`.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(RedBlueDoors(size), max_steps, view)
