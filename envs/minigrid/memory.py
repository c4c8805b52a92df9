"""An object to remember, and a hallway that ends in a choice between two."""

from __future__ import annotations

from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import PICK_UP, TOGGLE, Level, Move, Outcome, Task


class Ends(NamedTuple):
    """The two cells that end an episode, int32 `[]` each.

    Attributes:
        success: the one beside the object that was shown.
        failure: the one beside the other.
    """

    success: jax.Array
    failure: jax.Array


@final
@component
class Memory(Task):
    """A room with an object, a hallway, and a split with the same object and another at its ends.

    Picking up is toggling, so that nothing is ever moved.

    Attributes:
        size: side of the grid, walls included; odd, at least 7.
        random_length: whether the hallway's length is drawn.
    """

    size: int = 13
    random_length: bool = False

    def __post_init__(self) -> None:
        if self.size < 7 or self.size % 2 == 0:
            raise ConfigError(f"size is {self.size}: Memory needs an odd size of at least 7")

    @property
    def name(self) -> str:
        return f"MiniGrid-MemoryS{self.size}{'Random' if self.random_length else ''}"

    @property
    def width(self) -> int:
        return self.size

    @property
    def height(self) -> int:
        return self.size

    @property
    def missions(self) -> tuple[str, ...]:
        return ("go to the matching object at the end of the hallway",)

    @property
    def max_steps(self) -> int:
        return 5 * self.size**2

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (4,), jnp.uint32)
        x, y = layout.coordinates(self.size, self.size)
        middle = self.size // 2
        # The column of the hallway's last cell, between the walls of the split.
        end = jnp.int32(self.size - 3)
        if self.random_length:
            end = 4 + layout.below(bits[0], self.size - 6)

        # Row by row from the middle, as everything but the objects is the same above and below.
        away = abs(y - middle)
        wall = (away == 2) & (x <= 4)
        wall |= (away == 1) & (x >= 4) & (x < end)
        wall |= (away > 0) & (x == end) | (x == end + 2)
        grid = jnp.asarray(layout.walled_room(self.size, self.size))
        grid = jnp.where(wall, jnp.uint8(cells.GREY_WALL), grid)

        shows_ball, ball_above = bits[1] >> 31 == 1, bits[2] >> 31 == 1
        at_split = (x == end + 1) & (away == 2)
        is_shown = (x == 1) & (y == middle - 1)
        is_ball = jnp.where(is_shown, shows_ball, (y < middle) == ball_above)
        ball, a_key = (jnp.uint8(cells.cell(kind, cells.GREEN)) for kind in (cells.BALL, cells.KEY))
        grid = jnp.where(at_split | is_shown, jnp.where(is_ball, ball, a_key), grid)

        above = (middle - 1) * self.size + end + 1
        below = (middle + 1) * self.size + end + 1
        is_above = shows_ball == ball_above
        ends = Ends(jnp.where(is_above, above, below), jnp.where(is_above, below, above))
        position = middle * self.size + 1 + layout.below(bits[3], end)
        return Level(grid.ravel(), position, jnp.int32(0), ends)

    def meant(self, action: jax.Array) -> jax.Array:
        return jnp.where(action == PICK_UP, TOGGLE, action)

    def outcome(self, move: Move) -> Outcome:
        ends: Ends = move.after.extra
        return Outcome(
            success=move.after.position == ends.success, over=move.after.position == ends.failure
        )

    def extra_from_minigrid(self, env: Any) -> Ends:
        places = (env.success_pos, env.failure_pos)
        return Ends(*(jnp.int32(y * self.size + x) for x, y in places))

    def extra_into_minigrid(self, env: Any, extra: Ends) -> None:
        places = (divmod(int(end), self.size) for end in extra)
        env.success_pos, env.failure_pos = ((x, y) for y, x in places)


@register_env("MiniGrid-MemoryS7-v0", size=7)
@register_env("MiniGrid-MemoryS9-v0", size=9)
@register_env("MiniGrid-MemoryS11-v0", size=11)
@register_env("MiniGrid-MemoryS13-v0", size=13)
@register_env("MiniGrid-MemoryS13Random-v0", size=13, random_length=True)
@register_env("MiniGrid-MemoryS17Random-v0", size=17, random_length=True)
def memory(
    size: int = 13,
    random_length: bool = False,
    max_steps: int | None = None,
    view: View = View(),
) -> MiniGrid:
    """A hallway that ends in a choice, and an object near its start that says which end is right.

    *What it tests*: memory. What decides is seen once, behind the agent more often than not, and
    out of sight when it is needed. An agent without memory is right at the split half the time.

    *Optimal return*: differs by level; for one who knows which end is right 0.983 in the mean for
    S7, 0.988 for S9, 0.990 for S11, 0.992 for S13, 0.994 for S13Random, 0.996 for S17Random. To
    turn and look at the object costs a few steps more.

    *Random return*: 0.16 for S7, 0.18 for S9, 0.19 for S11 and S13, 0.24 for S13Random, 0.27 for
    S17Random; 23% of the episodes of S7 succeed, 37% of those of S17Random.

    *Solved when*: the cell beside the matching object is reached; `info["success"]`. The other
    end's ends the episode with nothing.

    *max_steps*: `5 * size**2`.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(Memory(size, random_length), max_steps, view)
