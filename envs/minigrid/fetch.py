"""Keys and balls in a room, one of them to pick up."""

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
from xplore.envs.minigrid.task import Level, Move, Outcome, Task

_PHRASES: Final = ("get a", "go get a", "fetch a", "go fetch a", "you must fetch a")
_THINGS: Final = THINGS[: 2 * len(cells.COLOURS)]  # no boxes
_MISSIONS: Final = tuple(f"{phrase} {thing}" for phrase in _PHRASES for thing in _THINGS)


class Errand(NamedTuple):
    """What is asked for, and how.

    Attributes:
        thing: uint8 `[]`, the byte of what is to be picked up.
        phrase: uint8 `[]`, which of five phrases the mission begins with.
    """

    thing: jax.Array
    phrase: jax.Array


@final
@component
class Fetch(Task):
    """Things in a room, perhaps alike; one of a colour and kind is to be picked up, and no other.

    Attributes:
        size: side of the room, walls included.
        num_objects: how many things there are, 1 to 18.
    """

    size: int = 8
    num_objects: int = 3

    def __post_init__(self) -> None:
        check_room(self.size, self.num_objects, 1)

    @property
    def name(self) -> str:
        return f"MiniGrid-Fetch-{self.size}x{self.size}-N{self.num_objects}"

    @property
    def width(self) -> int:
        return self.size

    @property
    def height(self) -> int:
        return self.size

    @property
    def max_steps(self) -> int:
        return 5 * self.size**2

    @property
    def see_through_walls(self) -> bool:
        return True

    @property
    def missions(self) -> tuple[str, ...]:
        return _MISSIONS

    def mission(self, extra: PyTree) -> jax.Array:
        return extra.phrase.astype(jnp.int32) * len(_THINGS) + thing_number(extra.thing)

    def sample_level(self, key: Key) -> Level:
        num = self.num_objects
        bits = jax.random.bits(key, (2 * num + 4,), jnp.uint32)
        things = numbered_thing(layout.below(bits[3 : num + 3], len(_THINGS)))
        places = inner_cells(different(bits[num + 3 :], (self.size - 2) ** 2), self.size)
        thing = things[layout.below(bits[0], num)]
        phrase = layout.below(bits[2], len(_PHRASES)).astype(jnp.uint8)
        return Level(
            grid=room_with(things, places[:num], self.size),
            position=places[num],
            direction=layout.below(bits[1], 4),
            extra=Errand(thing, phrase),
        )

    def outcome(self, move: Move) -> Outcome:
        held = move.after.carrying
        is_asked_for = held == move.before.extra.thing
        return Outcome(success=is_asked_for, over=(held != cells.NOTHING) & ~is_asked_for)

    def extra_from_minigrid(self, env: Any) -> PyTree:
        phrase = _PHRASES.index(env.mission.rsplit(" ", 2)[0])
        return Errand(named_thing(env.targetType, env.targetColor), jnp.uint8(phrase))

    def extra_into_minigrid(self, env: Any, extra: PyTree) -> None:
        env.targetColor, env.targetType = THINGS[int(thing_number(extra.thing))].split()


@register_env("MiniGrid-Fetch-5x5-N2-v0", size=5, num_objects=2)
@register_env("MiniGrid-Fetch-6x6-N2-v0", size=6, num_objects=2)
@register_env("MiniGrid-Fetch-8x8-N3-v0")
def fetch(
    size: int = 8, num_objects: int = 3, max_steps: int | None = None, view: View = View()
) -> MiniGrid:
    """Keys and balls in a room: pick up the one that the mission names.

    *What it tests*: to act on the mission, which alone tells right from wrong: observe it
    (`view.mission`), or little more than one episode in `num_objects` can be expected to succeed.

    *Optimal return*: differs by level; in the mean 0.975 for 5x5-N2, 0.979 for 6x6-N2, 0.984 for
    8x8-N3. As upstream, about one level in 3,000 of 8x8-N3 has no solution: the agent or the thing
    asked for is shut into a corner by two others.

    *Random return*: 0.33 for 5x5-N2, 0.30 for 6x6-N2, 0.24 for 8x8-N3.

    *Solved when*: a thing of the colour and kind asked for is picked up; `info["success"]`. Another
    ends the episode.

    *max_steps*: `5 * size**2`.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(Fetch(size, num_objects), max_steps, view)
