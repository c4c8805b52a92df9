"""A corridor between rooms, a ball in a locked one, and its key in another."""

from __future__ import annotations

from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key, PyTree
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.roomgrid import (
    NEVER,
    NOWHERE,
    RIGHT,
    RoomGrid,
    connect_all,
    draw,
    picks_up,
    thing_in_minigrid,
)
from xplore.envs.minigrid.task import Level, Move, Outcome, Task

_LEFT, _MIDDLE, _RIGHT = range(3)  # columns of rooms


@final
@component
class KeyCorridor(Task):
    """A room on the right is locked and holds a ball; a room on the left holds the key.

    The rooms in the middle make a corridor. Closed doors are added at random until all rooms are
    joined; none but the locked one leads to the locked room.

    Attributes:
        room_size: side of a room, walls included; at least 3.
        num_rows: rooms on each side; at least 1.
    """

    room_size: int = 6
    num_rows: int = 3

    def __post_init__(self) -> None:
        if self.room_size < 3:
            raise ConfigError(f"room_size is {self.room_size}: a room needs at least 3")
        if self.num_rows < 1:
            raise ConfigError(f"num_rows is {self.num_rows}: KeyCorridor needs at least 1")

    @property
    def _rooms(self) -> RoomGrid:
        return RoomGrid(self.room_size, 3, self.num_rows)

    @property
    def name(self) -> str:
        return f"MiniGrid-KeyCorridorS{self.room_size}R{self.num_rows}"

    @property
    def width(self) -> int:
        return self._rooms.width

    @property
    def height(self) -> int:
        return self._rooms.height

    @property
    def missions(self) -> tuple[str, ...]:
        return tuple(f"pick up the {colour} ball" for colour in cells.COLOURS)

    def mission(self, extra: PyTree) -> jax.Array:
        return (extra & 7).astype(jnp.int32)

    @property
    def max_steps(self) -> int:
        return 30 * self.room_size**2

    def sample_level(self, key: Key) -> Level:
        rooms, rows = self._rooms, range(self.num_rows)
        bits = jax.random.bits(key, (3 * rooms.num_walls + 6,), jnp.uint32)
        wall_bits, bits = bits[:-6].reshape(3, -1), bits[-6:]
        places = rooms.door_places(wall_bits[0])
        colours = layout.below(wall_bits[1], len(cells.COLOURS))
        locked_row = layout.below(bits[0], self.num_rows)
        walls = np.array([rooms.wall(_MIDDLE, row, RIGHT) for row in rows])
        is_locked = np.arange(rooms.num_walls) == jnp.asarray(walls)[locked_row]
        locked_place = jnp.sum(jnp.where(is_locked, places, 0))
        colour = jnp.sum(jnp.where(is_locked, colours, 0))

        ball_colour = layout.below(bits[1], len(cells.COLOURS))
        ball = (cells.BALL << 3 | ball_colour).astype(jnp.uint8)
        right = np.stack([rooms.inside(_RIGHT, row) for row in rows])
        ball_place = jnp.asarray(right)[locked_row, layout.below(bits[2], right.shape[1])]
        left = np.stack([rooms.inside(_LEFT, row) for row in rows]).ravel()
        key_place = jnp.asarray(left)[layout.below(bits[3], left.size)]

        # The agent is placed when the locked door is the only one.
        grid = self._corridor()
        floor = rooms.floor(grid, _MIDDLE, self.num_rows // 2)
        locked = (cells.LOCKED_DOOR << 3 | colour).astype(jnp.uint8)
        drawn = jnp.where(np.arange(grid.size) == locked_place, locked, jnp.asarray(grid.ravel()))
        agent, direction = rooms.place_agent(bits[4], drawn, floor)

        has_door = self._doors(wall_bits[2], locked_row) & ~is_locked
        places = jnp.where(has_door, places, NOWHERE)
        doors = cells.CLOSED_DOOR << 3 | colours
        places = jnp.concatenate([places, jnp.stack([ball_place, key_place])])
        things = jnp.concatenate([doors, jnp.stack([ball, cells.KEY << 3 | colour])])
        return Level(draw(drawn, places, things), agent, direction, extra=ball)

    def _corridor(self) -> npt.NDArray[np.uint8]:
        """The walls, without those between the rooms in the middle."""
        grid, pitch = self._rooms.empty(), self.room_size - 1
        grid[1:-1, pitch + 1 : 2 * pitch] = cells.NOTHING
        return grid

    def _doors(self, bits: jax.Array, locked_row: jax.Array) -> jax.Array:
        """Which walls get a door: bool `[num_walls]`."""
        rows = np.arange(self.num_rows)
        order = bits >> 1  # below NEVER
        right = order[: self._rooms.num_right].reshape(-1, 2)
        down = order[self._rooms.num_right :].reshape(-1, 3)
        # The locked door is there from the beginning, as is the corridor.
        right = right.at[:, _MIDDLE].set(jnp.where(rows == locked_row, 0, right[:, _MIDDLE]))
        beside_locked = (rows[:-1] == locked_row) | (rows[1:] == locked_row)
        down = down.at[:, _RIGHT].set(jnp.where(beside_locked, NEVER, down[:, _RIGHT]))
        down = down.at[:, _MIDDLE].set(0)
        last = connect_all(right, down)
        down = down.at[:, _MIDDLE].set(NEVER)
        return jnp.concatenate([right.ravel(), down.ravel()]) <= last

    def outcome(self, move: Move) -> Outcome:
        return picks_up(move, move.before.extra)

    def extra_from_minigrid(self, env: Any) -> PyTree:
        return jnp.uint8(cells.cell(cells.BALL, cells.COLOURS.index(env.obj.color)))

    def extra_into_minigrid(self, env: Any, extra: PyTree) -> None:
        env.obj = thing_in_minigrid(env, "ball")


@register_env("MiniGrid-KeyCorridorS3R1-v0", room_size=3, num_rows=1)
@register_env("MiniGrid-KeyCorridorS3R2-v0", room_size=3, num_rows=2)
@register_env("MiniGrid-KeyCorridorS3R3-v0", room_size=3, num_rows=3)
@register_env("MiniGrid-KeyCorridorS4R3-v0", room_size=4, num_rows=3)
@register_env("MiniGrid-KeyCorridorS5R3-v0", room_size=5, num_rows=3)
@register_env("MiniGrid-KeyCorridorS6R3-v0", room_size=6, num_rows=3)
def key_corridor(
    room_size: int = 6, num_rows: int = 3, max_steps: int | None = None, view: View = View()
) -> MiniGrid:
    """A corridor between rooms: find the key on the left, unlock a room on the right, take a ball.

    *What it tests*: search of rooms behind closed doors for a key, and a chain of things that must
    be done in order with it, for a single reward: pick it up, unlock the door, put it down, pick
    up the ball.

    *Optimal return*: differs by level; in the mean 0.95 for S3R1, 0.94 for S3R2, 0.93 for S3R3.

    *Random return*: 0.019 for S3R1, 0.002 for S3R2, 0.001 for S3R3. Of 16,384 episodes of each of
    the others, none succeeded but 2 of S6R3.

    *Solved when*: the ball is picked up; `info["success"]`.

    *max_steps*: `30 * room_size**2`.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(KeyCorridor(room_size, num_rows), max_steps, view)
