"""A blue ball behind locked doors, whose keys may be hidden in boxes and which balls may block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key, PyTree
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.roomgrid import (
    NOWHERE,
    TWO_ROOMS,
    RoomGrid,
    choose,
    draw,
    picks_up,
    thing_in_minigrid,
    two_rooms,
)
from xplore.envs.minigrid.task import Level, Move, Outcome, Task

_NUM_COLOURS: Final = len(cells.COLOURS)
_BLUE_BALL: Final = cells.cell(cells.BALL, cells.BLUE)
_GREEN_BALL: Final = cells.cell(cells.BALL, cells.GREEN)
_ROOMS: Final = RoomGrid(6, 3, 3)
_CENTRE: Final = (1, 1)
# Rooms (column, row) to the right of the centre, below, left and above, and the corners after them.
_SIDES: Final = ((2, 1), (1, 2), (0, 1), (1, 0))
_CORNERS: Final = ((2, 0), (2, 2), (0, 2), (0, 0))


def _key(colour: jax.Array, in_box: bool) -> jax.Array:
    """The byte of a key, which may be in a grey box."""
    empty_box = cells.filled_box(cells.GREY, cells.cell(cells.KEY))
    return empty_box | colour << 3 if in_box else cells.KEY << 3 | colour


def _joined(parts: Iterable[jax.typing.ArrayLike]) -> jax.Array:
    return jnp.concatenate([jnp.ravel(part) for part in parts])


@component
class _BlueBall(Task):
    """What all these tasks ask for.

    Attributes:
        key_in_box: whether each key is hidden in a grey box.
        blocked: whether a green ball lies in front of each locked door.
    """

    key_in_box: bool = True
    blocked: bool = True

    @property
    def missions(self) -> tuple[str, ...]:
        return ("pick up the blue ball",)

    @property
    def _marks(self) -> str:
        """Upstream's letters for what makes a locked door harder."""
        return "h" * self.key_in_box + "b" * self.blocked

    def outcome(self, move: Move) -> Outcome:
        return picks_up(move, _BLUE_BALL)

    def extra_into_minigrid(self, env: Any, extra: PyTree) -> None:
        env.obj = thing_in_minigrid(env, "ball", "blue")


@final
@component
class ObstructedRooms(_BlueBall):
    """Two rooms, a locked door between them, the ball in the one where the agent is not."""

    @property
    def name(self) -> str:
        return f"MiniGrid-ObstructedMaze-1Dl{self._marks}"

    @property
    def width(self) -> int:
        return TWO_ROOMS.width

    @property
    def height(self) -> int:
        return TWO_ROOMS.height

    @property
    def max_steps(self) -> int:
        return 8 * TWO_ROOMS.room_size**2

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (5,), jnp.uint32)
        colour = layout.below(bits[4], _NUM_COLOURS)
        ball = _GREEN_BALL if self.blocked else None
        door, thing = cells.LOCKED_DOOR << 3 | colour, _key(colour, self.key_in_box)
        return two_rooms(bits[:4], door, thing, _BLUE_BALL, ball)


@final
@component
class ObstructedMaze(_BlueBall):
    """Three by three rooms; side rooms of the centre have locked doors to the corners beside them.

    Each side room in use holds the keys of its two locked doors; the ball is in a corner to the
    left of who enters one of them. The door from the centre to a side room is only closed.

    Attributes:
        num_quarters: side rooms in use, 1 to 4: right of the centre, below, left, above.
        from_side: whether the agent starts in the room right of the centre, not in the centre.
        num_rooms_visited: rooms that are visited on the way, as upstream counts, to set the limit.
        keys_last: whether keys are put down after the balls before both doors of their room; if
            not, the second ball may cover the first key, which is then lost.
    """

    num_quarters: int = 4
    from_side: bool = False
    num_rooms_visited: int = 25
    keys_last: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.num_quarters <= len(_SIDES):
            raise ConfigError(f"num_quarters is {self.num_quarters}: it must be from 1 to 4")
        if self.num_rooms_visited < 1:
            raise ConfigError(
                f"num_rooms_visited is {self.num_rooms_visited}: it must be at least 1"
            )

    @property
    def name(self) -> str:
        if self.num_quarters == 1 and self.from_side:
            return f"MiniGrid-ObstructedMaze-2Dl{self._marks}"
        quarters = "Full" if self.num_quarters == len(_SIDES) else f"{self.num_quarters}Q"
        return f"MiniGrid-ObstructedMaze-{quarters}"

    @property
    def width(self) -> int:
        return _ROOMS.width

    @property
    def height(self) -> int:
        return _ROOMS.height

    @property
    def max_steps(self) -> int:
        return 4 * self.num_rooms_visited * _ROOMS.room_size**2

    def sample_level(self, key: Key) -> Level:
        num = self.num_quarters
        bits = jax.random.bits(key, (_ROOMS.num_walls + _NUM_COLOURS + 2 * num + 2,), jnp.uint32)
        wall_bits, bits = jnp.split(bits, [_ROOMS.num_walls])
        colour_bits, bits = jnp.split(bits, [_NUM_COLOURS])
        colours = jnp.argsort(colour_bits)  # a permutation
        places = _ROOMS.door_places(wall_bits)

        # The locked doors of a side room are to the left and right of who enters it.
        turns = np.arange(num)[:, None] + np.array([-1, 1])
        inner = np.array([_ROOMS.wall(*_CENTRE, i) for i in range(num)])
        outer = np.array(
            [[_ROOMS.wall(*_SIDES[i], (i + turn) % 4) for turn in (-1, 1)] for i in range(num)]
        )
        outer_colours = colours[turns % _NUM_COLOURS]
        before_door = places[outer] - _ROOMS.steps[turns % 4]
        balls = before_door if self.blocked else jnp.full((num, 2), NOWHERE)
        keys = self._key_places(bits[: 2 * num].reshape(2, num), balls)

        corners = np.stack([_ROOMS.inside(*room) for room in _CORNERS[:num]]).ravel()
        target = jnp.asarray(corners)[layout.below(bits[-2], corners.size)]
        where = (places[inner], places[outer], keys, balls, target)
        what = (
            cells.CLOSED_DOOR << 3 | colours[:num],
            cells.LOCKED_DOOR << 3 | outer_colours,
            _key(outer_colours, self.key_in_box),
            np.full((num, 2), _GREEN_BALL),
            np.array(_BLUE_BALL),
        )
        grid = draw(jnp.asarray(_ROOMS.empty().ravel()), _joined(where), _joined(what))
        floor = _ROOMS.inside(*(_SIDES[0] if self.from_side else _CENTRE))
        return Level(grid, *_ROOMS.place_agent(bits[-1], grid, floor))

    def _key_places(self, bits: jax.Array, balls: jax.Array) -> jax.Array:
        """Where both keys of each side room are, `[num_quarters, 2]`, given its balls."""
        floor = np.stack([_ROOMS.inside(*room) for room in _SIDES[: self.num_quarters]])
        beside_first, beside_second = (floor != balls[:, i, None] for i in range(2))
        beside_both = beside_first & beside_second
        first = choose(bits[0], beside_both if self.keys_last else beside_first, floor)
        second = choose(bits[1], beside_both & (floor != first[:, None]), floor)
        first = jnp.where(first == balls[:, 1], NOWHERE, first)
        return jnp.stack([first, second], axis=1)


@register_env("MiniGrid-ObstructedMaze-1Dl-v0", key_in_box=False, blocked=False)
@register_env("MiniGrid-ObstructedMaze-1Dlh-v0", key_in_box=True, blocked=False)
@register_env("MiniGrid-ObstructedMaze-1Dlhb-v0", key_in_box=True, blocked=True)
def obstructed_rooms(
    key_in_box: bool = True,
    blocked: bool = True,
    max_steps: int | None = None,
    view: View = View(),
) -> MiniGrid:
    """A ball behind a locked door, whose key may be in a box and which another ball may block.

    *What it tests*: a chain of things that must be done in order for a single reward: move the
    green ball aside, open the box, pick up the key, unlock the door, put the key down, pick up the
    blue ball.

    *Optimal return*: differs by level; in the mean 0.949 for 1Dl, 0.946 for 1Dlh, 0.92 for 1Dlhb.

    *Random return*: 0.002 for 1Dl, 0.001 for 1Dlh, 0.0001 for 1Dlhb.

    *Solved when*: the blue ball is picked up; `info["success"]`.

    *max_steps*: 288.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(ObstructedRooms(key_in_box, blocked), max_steps, view)


_SIDE_ROOM: Final[dict[str, Any]] = {"num_quarters": 1, "from_side": True, "num_rooms_visited": 4}
_QUARTER: Final[dict[str, Any]] = {"num_quarters": 1, "num_rooms_visited": 5}
_HALF: Final[dict[str, Any]] = {"num_quarters": 2, "from_side": True, "num_rooms_visited": 11}


@register_env("MiniGrid-ObstructedMaze-2Dl-v0", key_in_box=False, blocked=False, **_SIDE_ROOM)
@register_env("MiniGrid-ObstructedMaze-2Dlh-v0", blocked=False, **_SIDE_ROOM)
@register_env("MiniGrid-ObstructedMaze-2Dlhb-v0", keys_last=False, **_SIDE_ROOM)
@register_env("MiniGrid-ObstructedMaze-2Dlhb-v1", **_SIDE_ROOM)
@register_env("MiniGrid-ObstructedMaze-1Q-v0", keys_last=False, **_QUARTER)
@register_env("MiniGrid-ObstructedMaze-1Q-v1", **_QUARTER)
@register_env("MiniGrid-ObstructedMaze-2Q-v0", keys_last=False, **_HALF)
@register_env("MiniGrid-ObstructedMaze-2Q-v1", **_HALF)
@register_env("MiniGrid-ObstructedMaze-Full-v0", keys_last=False)
@register_env("MiniGrid-ObstructedMaze-Full-v1")
def obstructed_maze(
    num_quarters: int = 4,
    from_side: bool = False,
    num_rooms_visited: int = 25,
    key_in_box: bool = True,
    blocked: bool = True,
    keys_last: bool = True,
    max_steps: int | None = None,
    view: View = View(),
) -> MiniGrid:
    """A ball in a corner of nine rooms, behind a locked door: keys are in boxes, balls in the way.

    *What it tests*: long chains of things that must be done in order, for a single reward, and
    search: the ball is behind one of up to eight locked doors.

    *Optimal return*: differs by level; 0 in the levels of v0 that cannot be solved.

    *Random return*: 0.006 for 2Dl, 0.004 for 2Dlh, 0.001 for 2Dlhb, less than 0.001 for 1Q, 0.011
    for 2Q, 0.016 for Full, whose episodes are long.

    *Solved when*: the blue ball is picked up; `info["success"]`.

    *max_steps*: `144 * num_rooms_visited`: 576 for 2Dl, 720 for 1Q, 1,584 for 2Q, 3,600 for Full.

    Deviations from the original: none but those of `MiniGrid`. As upstream has it, a ball of v0 may
    cover a key: 1 of 15 levels of 2Dlhb and 1Q and 1 of 30 of 2Q cannot be solved, all of Full can.
    """
    task = ObstructedMaze(
        key_in_box, blocked, num_quarters, from_side, num_rooms_visited, keys_last
    )
    return MiniGrid(task, max_steps, view)
