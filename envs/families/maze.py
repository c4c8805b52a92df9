"""Maze: find the goal, in scattered blocks as the literature on environment design has it, or in a
perfect or braided maze.
"""

from __future__ import annotations

from typing import Literal, final, get_args

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError, did_you_mean
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key
from xplore.envs.families import boards, letters, trees
from xplore.envs.families.named_mazes import MAZES
from xplore.envs.families.world import FamilyTask, GridFamily
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import Level

Layout = Literal["blocks", "kruskal", "backtracker", "binary_tree"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
_UED_VIEW = View(size=5, see_through_walls=True, direction=True)


def _is_zero(share: float) -> bool:
    """Whether it is 0 in every level: one that is drawn for each is an array here."""
    return isinstance(share, float) and share == 0.0


@final
@component
class MazeTask(FamilyTask):
    """A maze of `size` x `size` cells within a border, an agent and a goal in free cells.

    Attributes:
        size: side, the border left out; 5 to 30, odd unless `layout` is "blocks".
        layout: "blocks" scatters blocks, drawn with replacement, and does not ask whether the goal
            can be reached; the others are spanning trees of rooms (`trees.spanning_tree`).
        num_blocks: of "blocks".
        any_number: whether the number of blocks is uniform up to `num_blocks`.
        braid: of trees, the share of dead ends that are opened: 0 is a perfect maze.
        far: of trees, how far the goal is at least, as a share of the way to the farthest cell.
    """

    size: int = 13
    layout: Layout = "blocks"
    num_blocks: int = 60
    any_number: bool = False
    braid: float = 0.0
    far: float = 0.0

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ConfigError(
                f"layout is {self.layout!r}{did_you_mean(str(self.layout), LAYOUTS)}"
                f" (layouts: {', '.join(LAYOUTS)})"
            )
        is_tree = self.layout != "blocks"
        if not 5 <= self.size <= boards.MAX_WIDTH - 2 or (is_tree and self.size % 2 == 0):
            raise ConfigError(
                f"size is {self.size}: a Maze is 5 to {boards.MAX_WIDTH - 2} wide, and odd where"
                " its layout is a tree of rooms"
            )
        if not 0 <= self.num_blocks <= self.size**2:
            raise ConfigError(f"num_blocks is {self.num_blocks}: it must be 0 to {self.size**2}")
        for name, share in (("braid", self.braid), ("far", self.far)):
            if isinstance(share, float) and not 0.0 <= share <= 1.0:
                raise ConfigError(f"{name} is {share}: it is a share, 0 to 1")

    @property
    def name(self) -> str:
        if self.layout == "blocks":
            return f"Maze-Blocks-{self.size}x{self.size}-N{self.num_blocks}"
        return f"Maze-{self.layout.title().replace('_', '')}-{self.size}x{self.size}"

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
        return 3  # turn left, turn right, forward

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (8 + self.num_blocks * (self.layout == "blocks"),), jnp.uint32)
        if self.layout == "blocks":
            free = jnp.pad(self._scattered(bits), 1).ravel()
            agent = boards.pick(free, bits[0])
            others = free & (np.arange(free.size) != agent)
        else:
            rows = self._grown(self.layout, bits)
            free = boards.to_cells(rows, self.width)
            agent = boards.pick(free, bits[0])
            start = boards.one_cell(agent, (self.width, self.height))
            others = boards.to_cells(self._far(rows, start), self.width)
        goal = boards.pick(others, bits[1])
        return self._level(free, agent, layout.below(bits[2], 4), goal)

    def _scattered(self, bits: jax.Array) -> jax.Array:
        num = self.size**2
        places = layout.below(bits[8:], num)
        if self.any_number:
            count = layout.below(bits[3], self.num_blocks + 1)
            places = jnp.where(np.arange(self.num_blocks) < count, places, num)
        blocks = jnp.zeros(num, bool).at[places].set(True, mode="drop")
        return ~blocks.reshape(self.size, self.size)

    def _grown(self, algorithm: trees.Algorithm, bits: jax.Array) -> jax.Array:
        """The free cells of a tree of rooms: words `[height]`."""
        half = (self.size + 1) // 2
        tree = trees.spanning_tree(algorithm, bits[5], (half, half))
        if not _is_zero(self.braid):
            tree = trees.braided(tree, bits[6], self.braid)
        return trees.walled(tree).astype(boards.word_type(self.width))

    def _far(self, rows: jax.Array, start: jax.Array) -> jax.Array:
        """Of the free cells `rows` those that the goal may be in, `start` is not one of."""
        return rows & ~start if _is_zero(self.far) else boards.cells_beyond(rows, start, self.far)

    def _level(
        self, free: jax.Array, agent: jax.Array, direction: jax.Array, goal: jax.Array
    ) -> Level:
        grid = jnp.where(free, jnp.uint8(cells.NOTHING), jnp.uint8(cells.GREY_WALL))
        here = np.arange(free.size, dtype=np.int32)
        return Level(jnp.where(here == goal, jnp.uint8(cells.GREEN_GOAL), grid), agent, direction)

    @property
    def always_solvable(self) -> bool:
        return self.layout != "blocks"

    def may_turn(self) -> npt.NDArray[np.bool_]:
        inside = boards.inside(self.width, self.height)
        if self.layout == "blocks":
            return inside
        y, x = np.divmod(np.arange(inside.size), self.width)
        return inside & ((x + y) % 2 == 1)  # walls between rooms, which are at odd places of both


@register_env("Maze-Blocks-13x13-v0")
@register_env("Maze-Perfect-13x13-v0", layout="kruskal")
@register_env("Maze-Long-21x21-v0", size=21, layout="backtracker", far=0.5)
def maze(
    size: int = 13,
    layout: Layout = "blocks",
    num_blocks: int = 60,
    any_number: bool = False,
    braid: float = 0.0,
    far: float = 0.0,
    max_steps: int | None = None,
    view: View = _UED_VIEW,
) -> GridFamily:
    """Find the goal in a maze, seeing 5 x 5 cells ahead, walls or not, and one's direction.

    *What it tests*: world sampling in the maze of environment design (`Blocks`, where a random walk
    is often enough and one level in six has no solution); search in mazes never seen (`Perfect`,
    `Long`).

    *Optimal return*: differs by level: `1 - 0.9 * optimal_steps / max_steps`.

    *Random return*: see the table of families in docs/families.md; `Long` is the hard setting.

    *Solved when*: the goal is reached; `info["success"]`.

    *max_steps*: 250.

    Reference: Dennis et al. (2020), Emergent Complexity and Zero-shot Transfer via Unsupervised
        Environment Design, arXiv:2012.02096; Coward et al. (2024), JaxUED, arXiv:2403.13091.

    Deviations: three actions, where JaxUED has four more that do nothing. `Perfect` and `Long` are
        families of our own.
    """
    task = MazeTask(size, layout, num_blocks, any_number, braid, far)
    return GridFamily(task, max_steps, view)


def named_maze(name: str) -> Level:
    """A published test maze, held out from every sampler: for a `Maze` of its size.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in MAZES:
        raise ConfigError(
            f"unknown maze {name!r}{did_you_mean(name, MAZES)} (mazes: {', '.join(MAZES)})"
        )
    lines = MAZES[name].split()
    side = len(lines) + 2
    text = "\n".join(["#" * side, *(f"#{line}#" for line in lines), "#" * side])
    return letters.from_text(text, (side, side))
