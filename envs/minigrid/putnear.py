"""Things in a room, one of them to be put near another."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key, PyTree
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.gotoobject import (
    THINGS,
    check_room,
    different,
    inner_cells,
    named_thing,
    numbered_thing,
    room_with,
    thing_number,
)
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import DROP, PICK_UP, Level, Move, Outcome, Task

# A pair of the same thing twice is never asked for.
_MISSIONS: Final = tuple(
    f"put the {moved} near the {other}" for moved in THINGS for other in THINGS
)


class Errand(NamedTuple):
    """What is to be put where.

    Attributes:
        moved: uint8 `[]`, the byte of the thing to pick up.
        other: uint8 `[]`, that of the one to put it near.
        position: int32 `[]`, the index of the cell where the other one is.
    """

    moved: jax.Array
    other: jax.Array
    position: jax.Array


@final
@component
class PutNear(Task):
    """Things in a room, no two alike and no two near each other, diagonals included.

    Each is placed on any cell that is not near those before it. Upstream draws cells until one is
    not, for ever if there is none; sizes at which that might happen are refused.

    Attributes:
        size: side of the room, walls included; its inside has more than nine cells for each thing
            but the last.
        num_objects: how many things there are, 2 to 18.
    """

    size: int = 6
    num_objects: int = 2

    def __post_init__(self) -> None:
        check_room(self.size, self.num_objects, 2, area=9)

    @property
    def name(self) -> str:
        return f"MiniGrid-PutNear-{self.size}x{self.size}-N{self.num_objects}"

    @property
    def width(self) -> int:
        return self.size

    @property
    def height(self) -> int:
        return self.size

    @property
    def max_steps(self) -> int:
        return 5 * self.size

    @property
    def see_through_walls(self) -> bool:
        return True

    @property
    def missions(self) -> tuple[str, ...]:
        return _MISSIONS

    def mission(self, extra: PyTree) -> jax.Array:
        return thing_number(extra.moved) * len(THINGS) + thing_number(extra.other)

    def sample_level(self, key: Key) -> Level:
        num = self.num_objects
        bits = jax.random.bits(key, (2 * num + 4,), jnp.uint32)
        things = numbered_thing(different(bits[3 : num + 3], len(THINGS)))
        places = self._sample_places(bits[num + 3 :])
        moved = layout.below(bits[0], num)
        other = layout.below_but(bits[1], num, moved)
        return Level(
            grid=room_with(things, places[:num], self.size),
            position=places[num],
            direction=layout.below(bits[2], 4),
            extra=Errand(things[moved], things[other], places[other]),
        )

    def _sample_places(self, bits: jax.Array) -> jax.Array:
        """The cells of things that keep apart, and last the agent's, for as many `bits`."""
        side = self.size - 2
        x, y = layout.coordinates(side, side)
        is_open = is_free = jnp.ones((side, side), bool)
        places = []
        for i in range(self.num_objects):
            place = _choose(bits[i], is_open)
            across, down = jnp.abs(x - place % side), jnp.abs(y - place // side)
            is_open &= (across > 1) | (down > 1)
            is_free &= (across > 0) | (down > 0)
            places.append(place)
        return inner_cells(jnp.stack([*places, _choose(bits[-1], is_free)]), self.size)

    def outcome(self, move: Move) -> Outcome:
        held_before, held = move.before.carrying, move.after.carrying
        errand = move.before.extra
        takes_wrong = (move.action == PICK_UP) & (held != cells.NOTHING) & (held != errand.moved)
        drops = (move.action == DROP) & (held_before != cells.NOTHING)
        across = jnp.abs(move.ahead % self.size - errand.position % self.size)
        down = jnp.abs(move.ahead // self.size - errand.position // self.size)
        succeeds = drops & (held == cells.NOTHING) & (across <= 1) & (down <= 1)
        # A drop ends the episode even where something is in the way.
        return Outcome(success=succeeds, over=takes_wrong | (drops & ~succeeds))

    def extra_from_minigrid(self, env: Any) -> PyTree:
        x, y = env.target_pos
        return Errand(
            moved=named_thing(env.move_type, env.moveColor),
            other=named_thing(env.target_type, env.target_color),
            position=jnp.int32(y * self.width + x),
        )

    def extra_into_minigrid(self, env: Any, extra: PyTree) -> None:
        y, x = divmod(int(extra.position), self.width)
        env.target_pos = x, y
        env.moveColor, env.move_type = THINGS[int(thing_number(extra.moved))].split()
        env.target_color, env.target_type = THINGS[int(thing_number(extra.other))].split()


def _choose(bits: jax.Array, mask: jax.Array) -> jax.Array:
    """The flat index of a True of `mask`, each as likely, from a uniform uint32."""
    count = jnp.cumsum(mask.ravel(), dtype=jnp.int32)
    return jnp.sum(count <= layout.below(bits, count[-1]), dtype=jnp.int32)


@register_env("MiniGrid-PutNear-6x6-N2-v0")
@register_env("MiniGrid-PutNear-8x8-N3-v0", size=8, num_objects=3)
def put_near(
    size: int = 6, num_objects: int = 2, max_steps: int | None = None, view: View = View()
) -> MiniGrid:
    """Keys, balls and boxes in a room: put one of them near another, both named by the mission.

    *What it tests*: two things to do in order, under a time limit that is tight, and to act on the
    mission, which alone tells which things are meant: observe it (`view.mission`).

    *Optimal return*: differs by level; in the mean 0.80 for 6x6-N2, 0.79 for 8x8-N3.

    *Random return*: 0.006 for 6x6-N2, 0.003 for 8x8-N3.

    *Solved when*: the one thing is put down in a cell that touches the other's, at a corner too;
    `info["success"]`. To pick up another ends the episode, and so does to put down in vain.

    *max_steps*: `5 * size`.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(PutNear(size, num_objects), max_steps, view)
