"""Mazes, rooms and obstacles made by wave function collapse."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key
from xplore.envs.minigrid import cells, layout, wfc_bank
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import Level, Task

_SIZE = wfc_bank.SIDE + 2


@final
@component
class WaveFunctionCollapse(Task):
    """A layout that looks like a small picture everywhere; agent and goal are anywhere in it.

    Attributes:
        preset: one of `wfc_bank.PRESETS`, which picture and how it is read.
    """

    preset: str = "MazeSimple"

    def __post_init__(self) -> None:
        if self.preset not in wfc_bank.PRESETS:
            known = ", ".join(wfc_bank.PRESETS)
            raise ConfigError(f"preset is {self.preset!r}: it must be one of {known}")

    @property
    def name(self) -> str:
        return f"MiniGrid-WFC-{self.preset}"

    @property
    def width(self) -> int:
        return _SIZE

    @property
    def height(self) -> int:
        return _SIZE

    @property
    def missions(self) -> tuple[str, ...]:
        return ("traverse the maze to get to the goal",)

    @property
    def max_steps(self) -> int:
        return 20 * _SIZE

    def sample_level(self, key: Key) -> Level:
        bank = wfc_bank.load(self.preset)
        bits = jax.random.bits(key, (4,), jnp.uint32)
        rows = jnp.asarray(bank)[layout.below(bits[0], len(bank))]
        columns = np.arange(wfc_bank.SIDE, dtype=np.uint32)
        is_wall = rows[:, None] >> columns[None, :] & 1 == 1

        # All that is free hangs together, so that any two of its cells make a level. The cell of a
        # number is looked for in two goes, its row and then its column.
        in_row = jnp.sum(~is_wall, axis=1, dtype=jnp.int32)
        up_to_row = jnp.cumsum(in_row)
        agent = layout.below(bits[1], up_to_row[-1])
        goal = layout.below_but(bits[2], up_to_row[-1], agent)

        def place(number: jax.Array) -> jax.Array:
            row = jnp.sum(up_to_row <= number, dtype=jnp.int32)
            free = jnp.cumsum(rows[row] >> columns & 1 == 0, dtype=jnp.int32)
            column = jnp.sum(free <= number - up_to_row[row] + in_row[row], dtype=jnp.int32)
            return (row + 1) * _SIZE + column + 1

        walled = jnp.pad(is_wall, 1, constant_values=True).ravel()
        grid = jnp.where(walled, jnp.uint8(cells.GREY_WALL), jnp.uint8(cells.NOTHING))
        here = np.arange(_SIZE**2, dtype=np.int32)
        grid = jnp.where(here == place(goal), jnp.uint8(cells.GREEN_GOAL), grid)
        return Level(grid, place(agent), layout.below(bits[3], 4))


def wfc(preset: str = "MazeSimple", max_steps: int | None = None, view: View = View()) -> MiniGrid:
    """Layouts learnt from a picture by wave function collapse: search them for the goal.

    *What it tests*: search in levels without a plan to rely on: mazes, rooms, or open ground full
    of obstacles, by preset.

    *Optimal return*: differs by level.

    *Random return*: differs by level.

    *Solved when*: the goal is reached; `info["success"]`.

    *max_steps*: 500.

    Deviations from the original: those of `MiniGrid`, and that layouts come from a bank of
    upstream's own, drawn uniformly, while upstream makes a new one each time. Start, goal and
    direction are drawn anew for every level, as upstream does.
    """
    return MiniGrid(WaveFunctionCollapse(preset), max_steps, view)


for _preset in wfc_bank.PRESETS:
    if wfc_bank.path(_preset).exists():
        register_env(f"MiniGrid-WFC-{_preset}-v0", preset=_preset)(wfc)
