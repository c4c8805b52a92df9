"""Equal rooms side by side, as upstream's `RoomGrid` lays them out, and what is drawn in them.

Upstream draws again until a place will do; here a place is drawn among those that will. It puts
things down in an order, and while it does, the agent is thought to stand in the middle room:
nothing is put beside it. Only then the agent is placed where it will start.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.task import PICK_UP, Level, Move, Outcome

Cells = npt.NDArray[np.int32]
RIGHT, DOWN, LEFT, UP = range(4)
NOWHERE: Final = 2**16  # outside of any grid
NEVER: Final = np.uint32(2**32 - 1)


class RoomGrid(NamedTuple):
    """Rooms of one size in columns and rows; neighbours share a wall.

    The walls between rooms are numbered row by row, first those on the right of a room, then those
    below one.

    Attributes:
        room_size: side of a room, walls included.
        num_columns: rooms in a row.
        num_rows: rooms in a column.
    """

    room_size: int
    num_columns: int
    num_rows: int

    @property
    def width(self) -> int:
        """Cells in a row of the grid."""
        return (self.room_size - 1) * self.num_columns + 1

    @property
    def height(self) -> int:
        """Cells in a column of the grid."""
        return (self.room_size - 1) * self.num_rows + 1

    @property
    def steps(self) -> Cells:
        """What a step in each direction adds to the index of a cell: int32 `[4]`."""
        return np.array([1, self.width, -1, -self.width], np.int32)

    @property
    def num_right(self) -> int:
        """Walls that are on the right of a room."""
        return self.num_rows * (self.num_columns - 1)

    @property
    def num_walls(self) -> int:
        """Walls between rooms."""
        return self.num_right + (self.num_rows - 1) * self.num_columns

    def empty(self) -> npt.NDArray[np.uint8]:
        """All walls and nothing else: uint8 `[height, width]`."""
        grid = np.full((self.height, self.width), cells.NOTHING, np.uint8)
        grid[:: self.room_size - 1, :] = cells.GREY_WALL
        grid[:, :: self.room_size - 1] = cells.GREY_WALL
        return grid

    def wall(self, column: int, row: int, direction: int) -> int:
        """The number of the wall of a room in a direction."""
        if direction in (LEFT, UP):
            column, row = (column - 1, row) if direction == LEFT else (column, row - 1)
        if direction in (RIGHT, LEFT):
            return row * (self.num_columns - 1) + column
        return self.num_right + row * self.num_columns + column

    def door_places(self, bits: jax.Array) -> jax.Array:
        """A cell of each wall, of uint32 `[num_walls]`, where a door may be: int32 `[num_walls]`.

        It is in no corner of a room.
        """
        number, pitch = np.arange(self.num_walls), self.room_size - 1
        is_right = number < self.num_right
        columns = np.where(is_right, max(self.num_columns - 1, 1), self.num_columns)
        row, column = np.divmod(np.where(is_right, number, number - self.num_right), columns)
        # The corner where the wall begins, and the step along it.
        begin_x = (column + is_right) * pitch
        begin_y = (row + ~is_right) * pitch
        begin = (begin_y * self.width + begin_x).astype(np.int32)
        step = np.where(is_right, self.width, 1).astype(np.int32)
        return (1 + layout.below(bits, self.room_size - 2)) * step + begin

    def inside(self, column: int, row: int) -> Cells:
        """The cells of a room but for its walls."""
        return self.floor(self.empty(), column, row)

    def floor(self, grid: npt.NDArray[np.uint8], column: int, row: int) -> Cells:
        """The cells of a room that are empty in `grid`, gaps in its walls included."""
        pitch = self.room_size - 1
        is_free = np.zeros_like(grid, bool)
        part = np.s_[row * pitch : (row + 1) * pitch + 1, column * pitch : (column + 1) * pitch + 1]
        is_free[part] = grid[part] == cells.NOTHING
        return np.flatnonzero(is_free).astype(np.int32)

    def not_beside_the_middle(self, places: Cells) -> Cells:
        """Those of `places` that are not where things may not be, as long as they are put down."""
        pitch, half = self.room_size - 1, self.room_size // 2
        y, x = np.divmod(places, self.width)
        middle_x = self.num_columns // 2 * pitch + half
        middle_y = self.num_rows // 2 * pitch + half
        is_far = abs(x - middle_x) + abs(y - middle_y) >= 2
        return places[is_far]

    def place_agent(
        self, bits: jax.Array, grid: jax.Array, floor: Cells
    ) -> tuple[jax.Array, jax.Array]:
        """Where the agent starts, and its direction: before it is nothing, or a wall.

        Args:
            bits: uint32 `[]`.
            grid: uint8 `[height * width]`, as far as it is drawn by then.
            floor: the cells it may start in, if they are empty in `grid`.
        """
        ahead = grid[floor[:, None] + self.steps]
        is_free = (ahead == cells.NOTHING) | cells.is_kind(ahead, cells.WALL)
        is_free &= (grid[floor] == cells.NOTHING)[:, None]
        number = choose(bits, is_free.ravel(), np.arange(is_free.size, dtype=np.int32))
        return jnp.asarray(floor)[number >> 2], number & 3


def choose(bits: jax.Array, is_free: jax.Array, numbers: Cells) -> jax.Array:
    """One of `numbers` `[..., n]`, each that `is_free` as likely; `bits` are uint32 `[...]`."""
    rank = jnp.cumsum(is_free, axis=-1, dtype=jnp.int32)
    chosen = layout.below(bits, rank[..., -1])
    is_chosen = is_free & (rank == chosen[..., None] + 1)
    return jnp.sum(jnp.where(is_chosen, numbers, 0), axis=-1, dtype=jnp.int32)


def draw(grid: jax.Array, places: jax.Array, things: jax.Array) -> jax.Array:
    """`grid` with `things` (bytes `[n]`) in `places` (int32 `[n]`), all different or `NOWHERE`."""
    # A scatter: comparisons would be fused with what follows, and all be done again for each cell.
    return grid.at[places].set(things.astype(jnp.uint8), mode="drop")


def connect_all(right: jax.Array, down: jax.Array) -> jax.Array:
    """The number of the last door that is needed, where doors are made in the order of numbers.

    Upstream makes doors in walls drawn at random until all rooms are joined, needed or not: that
    is all with a number up to the one returned, if numbers are random.

    Args:
        right: uint32 `[rows, columns - 1]`, of the walls on the right of rooms; 0 where the way is
            open from the beginning, `NEVER` where no door may be.
        down: uint32 `[rows - 1, columns]`, the same of those below rooms.
    """
    num_rows, num_columns = right.shape[0], down.shape[1]

    def spread(_: int, joined: jax.Array) -> jax.Array:
        # By which number each room is joined to the first, found for longer and longer ways.
        def shifted(numbers: jax.Array, row: tuple[int, int], column: tuple[int, int]) -> jax.Array:
            return jnp.pad(numbers, (row, column), constant_values=NEVER)

        joined = jnp.minimum(
            joined,
            jnp.minimum(
                shifted(jnp.maximum(joined[:, :-1], right), (0, 0), (1, 0)),
                shifted(jnp.maximum(joined[:, 1:], right), (0, 0), (0, 1)),
            ),
        )
        return jnp.minimum(
            joined,
            jnp.minimum(
                shifted(jnp.maximum(joined[:-1], down), (1, 0), (0, 0)),
                shifted(jnp.maximum(joined[1:], down), (0, 1), (0, 0)),
            ),
        )

    first = np.full((num_rows, num_columns), NEVER, np.uint32)
    first[0, 0] = 0
    most = num_rows * num_columns - 1
    joined: jax.Array = jax.lax.fori_loop(0, most, spread, jnp.asarray(first))
    return jnp.max(joined)


TWO_ROOMS: Final = RoomGrid(6, 2, 1)


def two_rooms(
    bits: jax.Array,
    door: jax.Array,
    key: jax.Array,
    target: jax.Array | int = cells.NOTHING,
    ball: jax.Array | int | None = None,
) -> Level:
    """Two rooms, a locked door between them, the agent in the left one.

    Args:
        bits: uint32 `[4]`.
        door: as all that follow, a byte of `cells`.
        key: in the left room, as itself or in a box.
        target: in the right room.
        ball: in front of the door, unless None.
    """
    rooms = TWO_ROOMS
    left, right = rooms.inside(0, 0), rooms.not_beside_the_middle(rooms.inside(1, 0))
    door_place = rooms.door_places(bits[:1])[0]
    ball_place = jnp.int32(NOWHERE) if ball is None else door_place - 1
    key_place = choose(bits[1], left != ball_place, left)
    target_place = jnp.asarray(right)[layout.below(bits[2], right.size)]
    places = jnp.stack([door_place, key_place, target_place, ball_place])
    things = (door, key, target, cells.NOTHING if ball is None else ball)
    grid = draw(jnp.asarray(rooms.empty().ravel()), places, jnp.stack(things))
    return Level(grid, *rooms.place_agent(bits[3], grid, left))


def picks_up(move: Move, target: jax.Array | int) -> Outcome:
    """Success once `target`, of which there is one in a level, is picked up."""
    return Outcome(success=(move.action == PICK_UP) & (move.after.carrying == target))


def thing_in_minigrid(env: Any, kind: str, colour: str | None = None) -> Any:
    """The one thing of a `kind` in the grid of an environment of the `minigrid` package."""
    of_kind = (thing for thing in env.grid.grid if thing is not None and thing.type == kind)
    (thing,) = (thing for thing in of_kind if colour in (None, thing.color))
    return thing
