"""An empty room where balls wander about."""

from __future__ import annotations

from typing import Any, Final, final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import FORWARD, Level, Move, Outcome, State, Task

_BALL: Final = np.uint8(cells.cell(cells.BALL, cells.BLUE))
_BLOCK: Final = 9  # cells around an obstacle, its own among them
_COLUMN, _ROW = (
    np.arange(_BLOCK, dtype=np.int32) % 3 - 1,
    np.arange(_BLOCK, dtype=np.int32) // 3 - 1,
)
_EARLIER: Final = np.tril(np.ones((_BLOCK, _BLOCK), np.bool_), -1)

# Upstream draws cells of the block 101 times at most. With one cell free it misses it every time
# with this probability, here in units of 2**-32; with two, with 1e-11, which rounds to nothing.
_STAYS: Final = np.uint32(round((1 - 1 / _BLOCK) ** 101 * 2**32))


@final
@component
class DynamicObstacles(Task):
    """A room with its goal in the far corner, and obstacles that move before the agent does.

    Each in its turn goes to a free cell of the block of nine around it, each as likely. To walk
    into a cell where an obstacle or a wall *was*, before they moved, ends the episode.

    Attributes:
        size: side of the room, walls included; at least 5.
        num_obstacles: at least 1, at most `size / 2 + 1`.
        random_start: whether the agent's cell and direction are drawn.
    """

    size: int = 8
    num_obstacles: int = 4
    random_start: bool = False

    def __post_init__(self) -> None:
        if self.size < 5:
            raise ConfigError(f"size is {self.size}: DynamicObstacles needs at least 5")
        most = self.size // 2 + 1
        if not 1 <= self.num_obstacles <= most:
            raise ConfigError(
                f"num_obstacles is {self.num_obstacles}: a room of size {self.size} holds 1 to"
                f" {most}"
            )

    @property
    def name(self) -> str:
        middle = "Random-" if self.random_start else ""
        return f"MiniGrid-Dynamic-Obstacles-{middle}{self.size}x{self.size}"

    @property
    def width(self) -> int:
        return self.size

    @property
    def height(self) -> int:
        return self.size

    @property
    def num_actions(self) -> int:
        return FORWARD + 1

    @property
    def stochastic(self) -> bool:
        return True

    @property
    def see_through_walls(self) -> bool:
        return True

    @property
    def missions(self) -> tuple[str, ...]:
        return ("get to the green goal square",)

    @property
    def max_steps(self) -> int:
        return 4 * self.size**2

    @property
    def _goal(self) -> int:
        return self.size * (self.size - 1) - 2

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (self.num_obstacles + 2,), jnp.uint32)
        # Row by row, the goal's cell is the last of the room's, and the usual start the first.
        side = self.size - 2
        num_cells = side * side - 1
        agent = layout.below(bits[0], num_cells) if self.random_start else jnp.int32(0)
        direction = layout.below(bits[1], 4) if self.random_start else jnp.int32(0)
        others = range(1, self.num_obstacles + 1)
        drawn = [i + layout.below(bits[i + 1], num_cells - i) for i in others]
        numbers = _front_of_shuffle([agent, *drawn])
        places = (numbers // side + 1) * self.size + numbers % side + 1

        grid = layout.walled_room(self.size, self.size)
        grid[-2, -2] = cells.GREEN_GOAL
        filled = _replaced(jnp.asarray(grid.ravel()), places[1:], _BALL)
        return Level(filled, places[0], direction, extra=places[1:])

    def stir(self, key: Key, state: State) -> State:
        bits = jax.random.bits(key, (self.num_obstacles, 2), jnp.uint32)
        places: jax.Array = state.extra
        for i in range(self.num_obstacles):
            moved = self._moved(bits[i], places[i], places, state.position)
            places = places.at[i].set(moved)
        return self.stirred(state, places)

    def _moved(
        self, bits: jax.Array, place: jax.Array, places: jax.Array, agent: jax.Array
    ) -> jax.Array:
        """Where the obstacle at `place` goes, all of them being at `places`."""
        x, y = place % self.size + _COLUMN, place // self.size + _ROW
        there = y * self.size + x
        free = (x > 0) & (x < self.size - 1) & (y > 0) & (y < self.size - 1)
        free &= (there != self._goal) & (there != agent)
        free &= jnp.all(there[:, None] != places[None, :], axis=1)
        rank = jnp.sum(free[None, :] & _EARLIER, axis=1, dtype=jnp.int32)
        num_free = jnp.sum(free, dtype=jnp.int32)
        chosen = free & (rank == layout.below(bits[0], num_free))
        stays = (num_free == 0) | ((num_free == 1) & (bits[1] < _STAYS))
        return jnp.where(stays, place, jnp.sum(jnp.where(chosen, there, 0), dtype=jnp.int32))

    def stirred(self, state: State, draws: jax.Array) -> State:
        emptied = _replaced(state.grid, state.extra, np.uint8(cells.NOTHING))
        return state._replace(grid=_replaced(emptied, draws, _BALL), extra=draws)

    def stirred_from_minigrid(self, env: Any) -> npt.NDArray[np.int32]:
        places = [y * self.size + x for x, y in (thing.cur_pos for thing in env.obstacles)]
        return np.array(places, np.int32)

    def outcome(self, move: Move) -> Outcome:
        was_there = move.before.grid[move.ahead]
        clear = (was_there == cells.NOTHING) | cells.is_kind(was_there, cells.GOAL)
        collides = (move.action == FORWARD) & ~clear
        return Outcome(over=collides, reward=jnp.where(collides, -1.0, 0.0))

    def extra_from_minigrid(self, env: Any) -> jax.Array:
        return jnp.asarray(self.stirred_from_minigrid(env))

    def extra_into_minigrid(self, env: Any, extra: jax.Array) -> None:
        places = (divmod(place, self.size) for place in np.asarray(extra).tolist())
        env.obstacles = [env.grid.get(x, y) for y, x in places]


def _front_of_shuffle(drawn: list[jax.Array]) -> jax.Array:
    """The first numbers of a shuffled `0, 1, ..., n - 1`, the `i`-th of `drawn` being in `[i, n)`.

    The shuffle swaps place `i` with place `drawn[i]`, for one `i` after the other; what a place
    holds is found by going back through the swaps.
    """
    numbers = []
    for i, place in enumerate(drawn):
        held = place
        for j in reversed(range(i)):
            held = jnp.where(held == drawn[j], j, held)
        numbers.append(held)
    return jnp.stack(numbers)


def _replaced(grid: jax.Array, places: jax.Array, byte: np.uint8) -> jax.Array:
    """`grid` with `byte` at `places`."""
    here = np.arange(grid.shape[-1], dtype=np.int32)
    return jnp.where(jnp.any(here[None, :] == places[:, None], axis=0), byte, grid)


@register_env("MiniGrid-Dynamic-Obstacles-5x5-v0", size=5, num_obstacles=2)
@register_env(
    "MiniGrid-Dynamic-Obstacles-Random-5x5-v0", size=5, num_obstacles=2, random_start=True
)
@register_env("MiniGrid-Dynamic-Obstacles-6x6-v0", size=6, num_obstacles=3)
@register_env(
    "MiniGrid-Dynamic-Obstacles-Random-6x6-v0", size=6, num_obstacles=3, random_start=True
)
@register_env("MiniGrid-Dynamic-Obstacles-8x8-v0", size=8)
@register_env("MiniGrid-Dynamic-Obstacles-16x16-v0", size=16, num_obstacles=8)
def dynamic_obstacles(
    size: int = 8,
    num_obstacles: int = 4,
    random_start: bool = False,
    max_steps: int | None = None,
    view: View = View(),
) -> MiniGrid:
    """An empty room with wandering balls: walk to the goal without running into one.

    *What it tests*: exploration where a mistake is dear. Walking into a ball or a wall gives -1 and
    ends the episode, so that a method soon learns not to walk at all.

    *Optimal return*: differs by what the balls do. What is ahead is seen before each step and
    counts as it was seen, so no collision is ever forced; from the corner opposite to the goal at
    most `1 - 0.9 * (2 * size - 5) / max_steps`: 0.955 at size 5, 0.956 at 6, 0.961 at 8, 0.976 at
    16.

    *Random return*: -0.99 at size 5 and 6, -1.00 at 8 and 16; from a random start -0.79 at size 5
    and -0.86 at 6. Random play succeeds in 1 of 150 episodes at size 5, in none of 8,192 at 16.

    *Solved when*: the goal is reached; `info["success"]`.

    *max_steps*: `4 * size**2`.

    Deviations from the original: none but those of `MiniGrid`. As there, walls do not block the
    view; a ball that walks before the agent blocks its way without a penalty, and a ball that walks
    off does not save it from one. Where upstream silently lowers a number of obstacles that is too
    large, it is refused here.
    """
    return MiniGrid(DynamicObstacles(size, num_obstacles, random_start), max_steps, view)
