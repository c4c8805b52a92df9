"""KeyMaze: the goal of a perfect maze is behind a locked door, whose key is on this side."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key
from xplore.envs.families import boards, trees
from xplore.envs.families.world import FamilyTask, GridFamily
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import Level

_DOOR, _KEY = cells.cell(cells.LOCKED_DOOR, cells.YELLOW), cells.cell(cells.KEY, cells.YELLOW)


@final
@component
class KeyMazeTask(FamilyTask):
    """A perfect maze with a locked door in one of its passages.

    The door parts the maze in two; agent and key are on one side, the goal on the other, each
    uniform over the cells of its side (a side of one cell is the goal's).

    Attributes:
        size: side, the border left out; odd, 5 to 29.
        algorithm: how the maze is grown (`trees.spanning_tree`).
    """

    size: int = 9
    algorithm: trees.Algorithm = "kruskal"

    def __post_init__(self) -> None:
        if self.algorithm not in trees.ALGORITHMS:
            raise ConfigError(
                f"algorithm is {self.algorithm!r}: choose one of {', '.join(trees.ALGORITHMS)}"
            )
        if not 5 <= self.size <= boards.MAX_WIDTH - 2 or self.size % 2 == 0:
            raise ConfigError(f"size is {self.size}: a KeyMaze is odd, 5 to 29 wide")

    @property
    def name(self) -> str:
        return f"KeyMaze-{self.size}x{self.size}"

    @property
    def width(self) -> int:
        return self.size + 2

    @property
    def height(self) -> int:
        return self.size + 2

    @property
    def missions(self) -> tuple[str, ...]:
        return ("use the key to open the door and get to the goal",)

    @property
    def max_steps(self) -> int:
        return 2 * self.size**2

    @property
    def num_actions(self) -> int:
        return 6  # all but "done"

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (8,), jnp.uint32)
        half, shape = (self.size + 1) // 2, (self.width, self.height)
        tree = trees.spanning_tree(self.algorithm, bits[0], (half, half))
        rows = trees.walled(tree).astype(boards.word_type(self.width))
        free = boards.to_cells(rows, self.width)
        here = np.arange(free.size, dtype=np.int32)
        door = boards.pick(free & jnp.asarray(self.may_turn()), bits[1])
        parted = free & (here != door)
        root = boards.one_cell(boards.pick(parted, bits[2]), shape)
        inside = boards.reached(rows & ~boards.one_cell(door, shape), root)
        side = boards.to_cells(inside, self.width)
        # The key has to be beside the agent's cell, so to speak: a side of one cell is too small.
        near = jnp.where(jnp.sum(side) == 1, parted & ~side, side)
        agent = boards.pick(near, bits[3])
        fetched = boards.pick(near & (here != agent), bits[4])
        goal = boards.pick(parted & ~near, bits[5])
        grid = jnp.where(free, jnp.uint8(cells.NOTHING), jnp.uint8(cells.GREY_WALL))
        for cell, byte in ((door, _DOOR), (fetched, _KEY), (goal, cells.GREEN_GOAL)):
            grid = jnp.where(here == cell, jnp.uint8(byte), grid)
        return Level(grid, agent, layout.below(bits[6], 4))

    def may_turn(self) -> npt.NDArray[np.bool_]:
        inside = boards.inside(self.width, self.height)
        y, x = np.divmod(np.arange(inside.size), self.width)
        return inside & ((x + y) % 2 == 1)  # passages, as opposed to rooms

    def optimal_steps(self, level: Level) -> jax.Array:
        """Exact: with the key on the floor, in hand, and the door open, in this order."""
        grid = self.drawn(level)
        key = boards.to_rows(cells.is_kind(grid, cells.KEY))
        door = boards.to_rows(cells.is_kind(grid, cells.LOCKED_DOOR))
        goal = boards.to_rows(cells.is_kind(grid, cells.GOAL))
        free = boards.to_rows(cells.can_overlap(grid))
        several = boards.stages(
            (free, None, boards.facing(key)),
            (free | key, None, boards.facing(door)),
            (free | key | door, None, None),
        )
        return boards.walk_steps(several, self.start(level), level.direction, goal)


@register_env("KeyMaze-9x9-v0")
@register_env("KeyMaze-13x13-v0", size=13)
def key_maze(
    size: int = 9,
    algorithm: trees.Algorithm = "kruskal",
    max_steps: int | None = None,
    view: View = View(),
) -> GridFamily:
    """Fetch the key of a maze, open the locked door, get to the goal behind it.

    *What it tests*: three things in order under one sparse reward, in mazes never seen.

    *Optimal return*: differs by level: `1 - 0.9 * optimal_steps / max_steps`.

    *Random return*: see the table of families in docs/families.md; `13x13` is the hard setting.

    *Solved when*: the goal is reached; `info["success"]`.

    *max_steps*: `2 * size ** 2`.

    Deviations: a family of our own, without an original.
    """
    return GridFamily(KeyMazeTask(size, algorithm), max_steps, view)
