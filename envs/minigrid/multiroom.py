"""A chain of rooms with closed doors between them."""

from __future__ import annotations

from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import Level, Task

_MIN_ROOM_SIZE = 4
_TRIES_PER_ROOM = 8
# A chain of six rooms needs 45 tries in the mean, one of twelve large ones 13,400. Their number is
# all but geometric: the latter would need more than these about once in 1e16 levels.
_MOST_TRIES = 500_000
_LEFT_WALL = 2


# A room is one word of six fields of five bits: a loop that carries less runs faster.
_FIELD_BITS = 5
_FIELD = (1 << _FIELD_BITS) - 1


class _Room(NamedTuple):
    """A room, walls included, and its entry door (of the first room: its corner)."""

    left: jax.Array
    top: jax.Array
    width: jax.Array
    height: jax.Array
    door_x: jax.Array
    door_y: jax.Array


def _pack(room: _Room) -> jax.Array:
    word: jax.Array = jnp.int32(0)
    for i, field in enumerate(room):
        word = word | field << i * _FIELD_BITS
    return word


def _unpack(words: jax.Array) -> _Room:
    return _Room(*(words >> i * _FIELD_BITS & _FIELD for i in range(len(_Room._fields))))


class _Chain(NamedTuple):
    """The rooms placed so far.

    Attributes:
        rooms: int32 `[num_rooms]`, packed; the first `length` count.
        last: the last of them, packed.
        wall: the side of it that its entry door is in, 0 to 3: right, bottom, left, top.
        tries: how often the next room was drawn in vain.
        total_tries: rooms drawn in all, those of chains given up too.
    """

    rooms: jax.Array
    last: jax.Array
    wall: jax.Array
    length: jax.Array
    tries: jax.Array
    total_tries: jax.Array


def _mix(x: jax.Array) -> jax.Array:
    # A bijection of 32 bits with good avalanche: a full generator per try would cost more than the
    # try.
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0xD35A2D97)
    return x ^ (x >> 15)


@final
@component
class MultiRoom(Task):
    """Rooms placed one after the other, each behind a door in a wall of the one before.

    A room that does not fit is drawn again, eight times at most for each room after the first; then
    the whole chain is begun again. The goal is in the last room, the agent in the first.

    Attributes:
        num_rooms: rooms in a chain; at least 2.
        max_room_size: the largest side of a room, walls included; at least 4.
        size: side of the grid.
    """

    num_rooms: int = 6
    max_room_size: int = 10
    size: int = 25

    def __post_init__(self) -> None:
        if self.num_rooms < 2:
            raise ConfigError(f"num_rooms is {self.num_rooms}: MultiRoom needs at least 2")
        if not _MIN_ROOM_SIZE <= self.max_room_size < self.size <= _FIELD + 1:
            raise ConfigError(
                f"max_room_size is {self.max_room_size} in a grid of {self.size}: it must be at"
                f" least {_MIN_ROOM_SIZE} and less than the grid, which is at most {_FIELD + 1}"
            )

    @property
    def name(self) -> str:
        return f"MiniGrid-MultiRoom-N{self.num_rooms}-S{self.max_room_size}"

    @property
    def width(self) -> int:
        return self.size

    @property
    def height(self) -> int:
        return self.size

    @property
    def missions(self) -> tuple[str, ...]:
        return ("traverse the rooms to get to the goal",)

    @property
    def max_steps(self) -> int:
        return 20 * self.num_rooms

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (self.num_rooms + 6,), jnp.uint32)
        chain = self._sample_chain(bits[0], bits[1])
        rooms = _unpack(chain.rooms)

        def place(x_bits: jax.Array, y_bits: jax.Array, room: jax.Array | int) -> jax.Array:
            # The inside of a room is empty: a uniform cell of it is what upstream's rejection
            # gives.
            x = rooms.left[room] + 1 + layout.below(x_bits, rooms.width[room] - 2)
            y = rooms.top[room] + 1 + layout.below(y_bits, rooms.height[room] - 2)
            return y * self.size + x

        agent = place(bits[2], bits[3], 0)
        goal = place(bits[4], bits[5], chain.length - 1)
        grid = self._draw(rooms, chain.length, _door_colours(bits[7:]))
        here = jnp.arange(self.size**2, dtype=jnp.int32)
        grid = jnp.where(here == goal, jnp.uint8(cells.GREEN_GOAL), grid)
        return Level(grid, agent, layout.below(bits[6], 4))

    def _sample_chain(self, seed: jax.Array, salt: jax.Array) -> _Chain:
        zero = jnp.int32(0)
        rooms = jnp.zeros(self.num_rooms, jnp.int32)
        start = _Chain(rooms, zero, zero, zero, zero, zero)

        def unfinished(chain: _Chain) -> jax.Array:
            in_time = (chain.total_tries < _MOST_TRIES) | (chain.length == 0)
            return (chain.length < self.num_rooms) & in_time

        return jax.lax.while_loop(unfinished, lambda c: self._try_room(seed, salt, c), start)

    def _try_room(self, seed: jax.Array, salt: jax.Array, chain: _Chain) -> _Chain:
        """Draws the next room, and adds it or counts the failure."""
        word = chain.total_tries.astype(jnp.uint32) * jnp.uint32(8) + seed
        is_first = chain.length == 0

        def draw(which: int, num: jax.Array | int) -> jax.Array:
            return layout.below(_mix(_mix(word + jnp.uint32(which)) ^ salt), num)

        num_sizes = self.max_room_size + 1 - _MIN_ROOM_SIZE
        width = _MIN_ROOM_SIZE + draw(0, num_sizes)
        height = _MIN_ROOM_SIZE + draw(1, num_sizes)

        # The door: in one of the three walls of the last room that its own entry is not in.
        last = _unpack(chain.last)
        exit_wall = layout.skip(draw(2, 3), chain.wall)
        is_side = exit_wall & 1 == 0
        along = 1 + draw(3, jnp.where(is_side, last.height, last.width) - 2)
        across_x = jnp.where(exit_wall == 0, last.width - 1, 0)
        across_y = jnp.where(exit_wall == 1, last.height - 1, 0)
        door_x = last.left + jnp.where(is_side, across_x, along)
        door_y = last.top + jnp.where(is_side, along, across_y)
        wall = (exit_wall + 2) & 3

        # The room lies behind its door, which is in no corner of it.
        back = 1 + draw(4, jnp.where(is_side, height, width) - 2)
        left = door_x - jnp.where(is_side, jnp.where(wall == 0, width - 1, 0), back)
        top = door_y - jnp.where(is_side, back, jnp.where(wall == 1, height - 1, 0))

        # The first room has its corner anywhere, and counts as entered from the left.
        first_x, first_y = draw(5, self.size - 2), draw(6, self.size - 2)
        left, door_x = (jnp.where(is_first, first_x, v) for v in (left, door_x))
        top, door_y = (jnp.where(is_first, first_y, v) for v in (top, door_y))
        wall = jnp.where(is_first, _LEFT_WALL, wall)

        room = _Room(left, top, width, height, door_x, door_y)
        fits = self._fits(room, chain)
        packed = _pack(room)
        is_new = fits & (jnp.arange(self.num_rooms, dtype=jnp.int32) == chain.length)
        gives_up = ~fits & (is_first | (chain.tries + 1 == _TRIES_PER_ROOM))
        return _Chain(
            rooms=jnp.where(is_new, packed, chain.rooms),
            last=jnp.where(fits, packed, chain.last),
            wall=jnp.where(fits, wall, chain.wall),
            length=jnp.where(fits, chain.length + 1, jnp.where(gives_up, 0, chain.length)),
            tries=jnp.where(fits | gives_up, 0, chain.tries + 1),
            total_tries=chain.total_tries + 1,
        )

    def _fits(self, room: _Room, chain: _Chain) -> jax.Array:
        # Upstream's comparisons to the letter, strict and not, since they shape the distribution.
        right, bottom = room.left + room.width, room.top + room.height
        inside = (room.left >= 0) & (room.top >= 0) & (right <= self.size) & (bottom < self.size)
        others = _unpack(chain.rooms)
        apart = (right < others.left) | (others.left + others.width <= room.left)
        apart |= (bottom < others.top) | (others.top + others.height <= room.top)
        # It touches the last room, and what comes after that one is left from chains given up.
        not_held = jnp.arange(self.num_rooms, dtype=jnp.int32) >= chain.length - 1
        return inside & jnp.all(apart | not_held)

    def _draw(self, rooms: _Room, length: jax.Array, colours: jax.Array) -> jax.Array:
        """The grid `[size * size]` of the first `length` rooms, their doors in `colours`."""
        x, y = layout.coordinates(self.size, self.size)
        placed = jnp.arange(self.num_rooms, dtype=jnp.int32) < length
        left, top, right, bottom = (
            field[:, None, None]
            for field in (
                rooms.left,
                rooms.top,
                rooms.left + rooms.width - 1,
                rooms.top + rooms.height - 1,
            )
        )
        x, y = x[None], y[None]
        covers = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        edge = (x == left) | (x == right) | (y == top) | (y == bottom)
        walls = jnp.any(placed[:, None, None] & covers & edge, axis=0).ravel()
        grid = jnp.where(walls, jnp.uint8(cells.GREY_WALL), jnp.uint8(cells.NOTHING))
        # No wall is drawn over a door: a room keeps apart from all before it but the last.
        doors = jnp.where(placed, rooms.door_y * self.size + rooms.door_x, self.size**2)[1:]
        closed = (cells.cell(cells.CLOSED_DOOR) + colours).astype(jnp.uint8)
        return grid.at[doors].set(closed, mode="drop")


def _door_colours(bits: jax.Array) -> jax.Array:
    """Colours `[n]` from `n` words of bits, each uniform over those the one before has not."""
    num_colours = len(cells.COLOURS)
    first = layout.below(bits[:1], num_colours)
    steps = 1 + layout.below(bits[1:], num_colours - 1)
    return jnp.cumsum(jnp.concatenate([first, steps]), dtype=jnp.int32) % num_colours


@register_env("MiniGrid-MultiRoom-N2-S4-v0", num_rooms=2, max_room_size=4)
@register_env("MiniGrid-MultiRoom-N4-S5-v0", num_rooms=6, max_room_size=5)
@register_env("MiniGrid-MultiRoom-N4-S5-v1", num_rooms=4, max_room_size=5)
@register_env("MiniGrid-MultiRoom-N6-v0", num_rooms=6)
@register_env("MiniGrid-MultiRoom-N7-S4-v0", num_rooms=7, max_room_size=4)
@register_env("MiniGrid-MultiRoom-N7-S8-v0", num_rooms=7, max_room_size=8)
@register_env("MiniGrid-MultiRoom-N10-S4-v0", num_rooms=10, max_room_size=4)
@register_env("MiniGrid-MultiRoom-N10-S10-v0", num_rooms=10, max_room_size=10)
@register_env("MiniGrid-MultiRoom-N12-S10-v0", num_rooms=12, max_room_size=10)
def multi_room(
    num_rooms: int = 6,
    max_room_size: int = 10,
    max_steps: int | None = None,
    view: View = View(),
) -> MiniGrid:
    """A chain of rooms with closed doors: walk through them all to the goal in the last.

    *What it tests*: deep exploration through bottlenecks under a tight time limit, in levels that
    never repeat: what is new within the episode matters more than what is new in the whole run.

    *Optimal return*: differs by level; in the mean 0.84 for N2-S4, 0.75 for N4-S5-v0, 0.77 for
    N4-S5-v1, 0.65 for N6, 0.78 for N7-S4, 0.68 for N7-S8, 0.77 for N10-S4, 0.65 for N10-S10, 0.66
    for N12-S10.

    *Random return*: 0.01 for N2-S4; 0 for the others (no success in 2,048 episodes; in 500 for
    N12-S10).

    *Solved when*: the goal is reached; `info["success"]`.

    *max_steps*: `20 * num_rooms`.

    Deviations from the original: none but those of `MiniGrid`. As upstream, `MultiRoom-N4-S5-v0`
    has six rooms, not four; `-v1` has four. Upstream lacks N7-S4, N7-S8, N10-S4, N10-S10 and
    N12-S10, sizes of the literature, drawn here by upstream's rules.
    """
    return MiniGrid(MultiRoom(num_rooms, max_room_size), max_steps, view)
