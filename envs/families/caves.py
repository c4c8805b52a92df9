"""Caves: walls grown by a cellular automaton, the goal far away from the agent."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key
from xplore.envs.families import boards
from xplore.envs.families.world import FamilyTask, GridFamily
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import Level
from xplore.parts.apart import apart

_CROWDED = 5  # walls among the nine cells around one that make it a wall


@apart
def _grown(wall: jax.Array) -> jax.Array:
    """One round of the automaton on bool `[H, W]`; outside is wall."""
    padded = jnp.pad(wall.astype(jnp.uint8), 1, constant_values=1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] >= _CROWDED


@final
@component
class CavesTask(FamilyTask):
    """A cave of `size` x `size` cells within a border.

    Each cell is a wall with probability `fill`; then a cell is a wall if five of the nine cells
    around it are, `num_rounds` times. The middle is dug out. The agent is in a uniform free cell; a
    tunnel leads on from it to another one if there is no way.

    Attributes:
        size: side, the border left out; 7 to 30.
        fill: share of walls to begin with.
        num_rounds: of the automaton.
        far: how far the goal is at least, as a share of the way to the farthest cell.
    """

    size: int = 19
    fill: float = 0.42
    num_rounds: int = 3
    far: float = 0.5

    def __post_init__(self) -> None:
        if not 7 <= self.size <= boards.MAX_WIDTH - 2:
            raise ConfigError(f"size is {self.size}: a cave is 7 to {boards.MAX_WIDTH - 2} wide")
        if self.num_rounds < 0:
            raise ConfigError(f"num_rounds is {self.num_rounds}: it must be at least 0")
        for name, share in (("fill", self.fill), ("far", self.far)):
            if isinstance(share, float) and not 0.0 <= share <= 1.0:
                raise ConfigError(f"{name} is {share}: it is a share, 0 to 1")

    @property
    def name(self) -> str:
        return f"Caves-{self.size}x{self.size}"

    @property
    def width(self) -> int:
        return self.size + 2

    @property
    def height(self) -> int:
        return self.size + 2

    @property
    def missions(self) -> tuple[str, ...]:
        return ("get to the goal",)

    @property
    def max_steps(self) -> int:
        return 250

    @property
    def num_actions(self) -> int:
        return 3

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (6,), jnp.uint32)
        size, shape = self.size, (self.width, self.height)
        draws = (boards.noise(bits[0], size**2) >> 8).astype(jnp.float32)
        wall = (draws < jnp.float32(self.fill) * 2.0**24).reshape(size, size)
        for _ in range(self.num_rounds):
            wall = _grown(wall)
        y, x = np.mgrid[:size, :size]
        middle = np.maximum(abs(x - size // 2), abs(y - size // 2)) <= 1
        free = jnp.pad(~wall | middle, 1).ravel()
        agent = boards.pick(free, bits[1])
        here = np.arange(free.size, dtype=np.int32)
        other = boards.pick(free & (here != agent), bits[2])
        start = boards.one_cell(agent, shape)
        inside = boards.reached(boards.to_rows(free.reshape(shape[::-1])), start)
        cut_off = ~jnp.any(inside & boards.one_cell(other, shape) != 0)
        dug = free.reshape(shape[::-1]) | self._tunnel(agent, other) & cut_off
        beyond = boards.cells_beyond(boards.to_rows(dug), start, self.far)
        goal = boards.pick(boards.to_cells(beyond, self.width), bits[3])
        grid = jnp.where(dug.ravel(), jnp.uint8(cells.NOTHING), jnp.uint8(cells.GREY_WALL))
        grid = jnp.where(here == goal, jnp.uint8(cells.GREEN_GOAL), grid)
        return Level(grid, agent, layout.below(bits[4], 4))

    def _tunnel(self, start: jax.Array, end: jax.Array) -> jax.Array:
        """Along the row of `start`, then along the column of `end`: bool `[H, W]`."""
        x, y = layout.coordinates(self.width, self.height)
        (y0, x0), (y1, x1) = (divmod(cell, self.width) for cell in (start, end))
        along_row = (y == y0) & (x >= jnp.minimum(x0, x1)) & (x <= jnp.maximum(x0, x1))
        return along_row | (x == x1) & (y >= jnp.minimum(y0, y1)) & (y <= jnp.maximum(y0, y1))


@register_env("Caves-19x19-v0")
def caves(
    size: int = 19,
    fill: float = 0.42,
    num_rounds: int = 3,
    far: float = 0.5,
    max_steps: int | None = None,
    view: View = View(),
) -> GridFamily:
    """Find the goal in a cave.

    *What it tests*: search in open, irregular places, where walls say less of the way than in a
    maze.

    *Optimal return*: differs by level: `1 - 0.9 * optimal_steps / max_steps`.

    *Random return*: see the table of families in docs/families.md; `far` makes it hard.

    *Solved when*: the goal is reached; `info["success"]`.

    *max_steps*: 250.

    Reference: Johnson et al. (2010), Cellular automata for real-time generation of infinite cave
        levels.

    Deviations: a family of our own.
    """
    return GridFamily(CavesTask(size, fill, num_rounds, far), max_steps, view)
