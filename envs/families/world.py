"""Families on MiniGrid's cells: a task whose levels can be edited, solved and written down."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.component import component
from xplore.contracts.types import EnvSpec, Key, PyTree, TimeStep
from xplore.envs.families import boards, letters
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import Level, State, Task


def is_door(grid: jax.Array) -> jax.Array:
    """Whether each cell is a door, in whatever state."""
    kind = grid >> 3
    return (kind == cells.OPEN_DOOR) | (kind == cells.CLOSED_DOOR) | (kind == cells.LOCKED_DOOR)


@component
class FamilyTask(Task):
    """Base of every family: a MiniGrid `Task` that can also edit and solve its levels."""

    @property
    def always_solvable(self) -> bool:
        """Whether every level has a solution; an edit that leaves none is then not made."""
        return True

    def may_turn(self) -> npt.NDArray[np.bool_]:
        """Cells that an edit may turn into a wall or a free cell: bool `[height * width]`."""
        return boards.inside(self.width, self.height)

    def is_hopeless(self, level: Level) -> jax.Array:
        """Whether it is known that `level` has no solution, bool `[]`: `optimal_steps` is -1."""
        return self.optimal_steps(level) < 0

    def mutate(self, key: Key, level: Level) -> Level:
        """`level` after one random edit: another valid level of the family.

        Half of the time a wall is turned into a free cell or back, else a thing or the agent is
        moved to a free cell.

        Reference: Parker-Holder et al. (2022), Evolving Curricula with Regret-Based Environment
            Design (ACCEL), arXiv:2203.01302.
        """
        moved = self._edited(jax.random.bits(key, (6,), jnp.uint32), level)
        if not self.always_solvable:
            return moved
        hopeless = self.is_hopeless(moved)
        return jax.tree.map(lambda old, new: jnp.where(hopeless, old, new), level, moved)

    def _edited(self, bits: jax.Array, level: Level) -> Level:
        grid, agent = level.grid, level.position
        here = np.arange(grid.size, dtype=np.int32)
        empty = (grid == cells.NOTHING) & (here != agent)
        is_wall = grid == cells.GREY_WALL
        is_thing = ~empty & ~is_wall & (here != agent) & ~is_door(grid)
        kind = bits[0] >> 30  # 0 and 1: a wall, 2: a thing, 3: the agent

        turned = boards.pick(jnp.asarray(self.may_turn()) & (empty | is_wall), bits[1])
        other = jnp.where(is_wall, jnp.uint8(cells.NOTHING), jnp.uint8(cells.GREY_WALL))
        walls = jnp.where((here == turned) & (turned > 0), other, grid)

        thing, free = boards.pick(is_thing, bits[2]), boards.pick(empty, bits[3])
        can_move = (thing > 0) & (free > 0)
        byte = grid[thing]
        swapped = jnp.where(here == thing, jnp.uint8(cells.NOTHING), grid)
        swapped = jnp.where(here == free, byte, swapped)
        return Level(
            grid=jnp.where(kind < 2, walls, jnp.where((kind == 2) & can_move, swapped, grid)),
            position=jnp.where((kind == 3) & (free > 0), free, agent),
            direction=jnp.where(kind == 3, layout.below(bits[4], 4), level.direction),
            extra=level.extra,
        )

    def optimal_steps(self, level: Level) -> jax.Array:
        """The fewest steps to success, whatever the time limit: int32 `[]`; -1: there is no way.

        By default that of walking to the goal, closed doors being opened on the way.
        """
        grid = self.drawn(level)
        goal = boards.to_rows(cells.is_kind(grid, cells.GOAL))
        free = boards.to_rows(cells.can_overlap(grid) & ~cells.is_kind(grid, cells.LAVA))
        shut = boards.to_rows(cells.is_kind(grid, cells.CLOSED_DOOR))
        only = boards.stages((free, shut, None))
        return boards.walk_steps(only, self.start(level), level.direction, goal)

    def drawn(self, level: Level) -> jax.Array:
        """The grid of a level: uint8 `[height, width]`."""
        return level.grid.reshape(self.height, self.width)

    def start(self, level: Level) -> jax.Array:
        """The agent's cell as a set: words `[height]`."""
        return boards.one_cell(level.position, (self.width, self.height))

    def is_valid(self, level: Level) -> jax.Array:
        """Whether a level is well formed, bool `[]`: closed in, its agent on an empty cell."""
        border = ~boards.inside(self.width, self.height)
        known = np.isin(np.arange(256), letters.ALL_BYTES)
        return (
            jnp.all(jnp.where(border, level.grid == cells.GREY_WALL, True))
            & jnp.all(jnp.asarray(known)[level.grid.astype(jnp.int32)])
            & (level.grid[level.position] == cells.NOTHING)
            & (level.direction >= 0)
            & (level.direction < 4)
        )

    def level_to_text(self, level: Level) -> str:
        """`level` as text (see `letters.to_text`)."""
        return letters.to_text(level, self.width)

    def level_from_text(self, text: str) -> Level:
        """The inverse of `level_to_text`."""
        return letters.from_text(text, (self.width, self.height))


@component
class GridFamily:
    """An environment of a family on MiniGrid's cells; the dynamics are those of `MiniGrid`.

    A family that can do more, such as search for the shortest way, derives its own from this.

    Attributes:
        task: where levels come from, and what is success.
        max_steps: the time limit; None for the family's own.
        view: what is observed.
    """

    task: FamilyTask
    max_steps: int | None = None
    view: View = View()

    def __post_init__(self) -> None:
        _ = self.engine  # which checks the time limit

    @property
    def engine(self) -> MiniGrid:
        """The same without what makes it a family."""
        return MiniGrid(self.task, self.max_steps, self.view)

    def spec(self) -> EnvSpec:
        return self.engine.spec()

    def sample_level(self, key: Key) -> Level:
        return self.task.sample_level(key)

    def reset_to_level(self, key: Key, level: Level) -> tuple[State, PyTree]:
        return self.engine.reset_to_level(key, level)

    def step(self, key: Key, state: State, action: jax.Array) -> tuple[State, TimeStep]:
        return self.engine.step(key, state, action)

    def privileged(self, state: State) -> dict[str, jax.Array]:
        return self.engine.privileged(state)

    def mutate(self, key: Key, level: Level) -> Level:
        return self.task.mutate(key, level)

    def optimal_steps(self, level: Level) -> jax.Array:
        return self.task.optimal_steps(level)

    def is_valid(self, level: Level) -> jax.Array:
        return self.task.is_valid(level)

    def level_to_text(self, level: Level) -> str:
        return self.task.level_to_text(level)

    def level_from_text(self, text: str) -> Level:
        return self.task.level_from_text(text)
