"""Things of different colours and kinds in a room, one of them to walk to."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, final

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
from xplore.envs.minigrid.task import DONE, TOGGLE, Level, Move, Outcome, Task

KINDS: Final = ("key", "ball", "box")
THINGS: Final = tuple(f"{colour} {kind}" for kind in KINDS for colour in cells.COLOURS)


class Target(NamedTuple):
    """What to walk to.

    Attributes:
        thing: uint8 `[]`, its byte.
        position: int32 `[]`, the index of the cell where it is, or was at the start.
    """

    thing: jax.Array
    position: jax.Array


def thing_number(thing: jax.Array) -> jax.Array:
    """The index in `THINGS` of what a byte stands for."""
    return cells.carried_index(thing) - 1


def numbered_thing(number: jax.Array) -> jax.Array:
    """The byte of what is named in `THINGS` at `number`."""
    kind, colour = number // len(cells.COLOURS), number % len(cells.COLOURS)
    return ((cells.KEY + kind) << 3 | colour).astype(jnp.uint8)


def named_thing(kind: str, colour: str) -> jax.Array:
    """The byte of what upstream calls so."""
    return numbered_thing(jnp.int32(THINGS.index(f"{colour} {kind}")))


def different(bits: jax.Array, num: int) -> jax.Array:
    """An int32 in `[0, num)` for each of `bits` `[n]`, no two alike, any order of any as likely.

    What drawing each again until it is new comes to, without the loop.
    """
    ranks = layout.below(bits, num - jnp.arange(bits.size))
    numbers = []
    for i in range(bits.size):
        # The `ranks[i]`-th of the numbers not taken: passing by those before in this order, latest
        # first, needs no sorting of them.
        number = ranks[i]
        for j in reversed(range(i)):
            number = layout.skip(number, ranks[j])
        numbers.append(number)
    return jnp.stack(numbers)


def inner_cells(numbers: jax.Array, size: int) -> jax.Array:
    """The indices of cells inside the walls of a square room, of numbers row by row."""
    side = size - 2
    return (numbers // side + 1) * size + numbers % side + 1


def room_with(things: jax.Array, places: jax.Array, size: int) -> jax.Array:
    """The grid `[size * size]` of a square room with `things` `[n]` in the cells `places` `[n]`."""
    here = np.arange(size**2)[None, :] == places[:, None]
    # No two things are in one cell, so the sum over them is the one that is there.
    drawn = jnp.sum(jnp.where(here, things[:, None], jnp.uint8(0)), axis=0, dtype=jnp.uint8)
    return jnp.where(drawn > 0, drawn, jnp.asarray(layout.walled_room(size, size).ravel()))


def say_done_beside(move: Move, target: jax.Array, width: int) -> Outcome:
    """The rules where `target` is to be walked to: `done` ends the episode, as toggling does.

    It is a success in a cell that shares a side with the target, whichever way the agent faces.
    """
    # The agent is never on the border, so that cells one apart are neighbours.
    distance = jnp.abs(move.after.position - target)
    is_beside = (distance == 1) | (distance == width)
    done = move.action == DONE
    return Outcome(success=done & is_beside, over=(done & ~is_beside) | (move.action == TOGGLE))


def check_room(size: int, num_objects: int, least: int, area: int = 1) -> None:
    """Refuses a room in which some thing might find no place, each taking an `area` of it."""
    if not least <= num_objects <= len(THINGS):
        raise ConfigError(f"num_objects is {num_objects}: it must be {least} to {len(THINGS)}")
    taken = max(num_objects, area * (num_objects - 1))
    if size < 3 or (size - 2) ** 2 <= taken:
        raise ConfigError(
            f"size is {size}: {num_objects} objects and an agent need a room of more than {taken}"
            " cells inside its walls"
        )


@final
@component
class GoToObject(Task):
    """Things in a room, no two alike in colour and kind; one is to be walked to.

    Attributes:
        size: side of the room, walls included.
        num_objects: how many things there are, 1 to 18.
    """

    size: int = 6
    num_objects: int = 2

    def __post_init__(self) -> None:
        check_room(self.size, self.num_objects, 1)

    @property
    def name(self) -> str:
        return f"MiniGrid-GoToObject-{self.size}x{self.size}-N{self.num_objects}"

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
        return tuple(f"go to the {thing}" for thing in THINGS)

    def mission(self, extra: PyTree) -> jax.Array:
        return thing_number(extra.thing)

    def sample_level(self, key: Key) -> Level:
        num = self.num_objects
        bits = jax.random.bits(key, (2 * num + 3,), jnp.uint32)
        things = numbered_thing(different(bits[2 : num + 2], len(THINGS)))
        places = inner_cells(different(bits[num + 2 :], (self.size - 2) ** 2), self.size)
        target = layout.below(bits[0], num)
        return Level(
            grid=room_with(things, places[:num], self.size),
            position=places[num],
            direction=layout.below(bits[1], 4),
            extra=Target(things[target], places[target]),
        )

    def outcome(self, move: Move) -> Outcome:
        return say_done_beside(move, move.before.extra.position, self.width)

    def extra_from_minigrid(self, env: Any) -> PyTree:
        x, y = env.target_pos
        thing = named_thing(env.targetType, env.target_color)
        return Target(thing, jnp.int32(y * self.width + x))

    def extra_into_minigrid(self, env: Any, extra: PyTree) -> None:
        y, x = divmod(int(extra.position), self.width)
        env.target_pos = x, y
        env.target_color, env.targetType = THINGS[int(thing_number(extra.thing))].split()


@register_env("MiniGrid-GoToObject-6x6-N2-v0")
@register_env("MiniGrid-GoToObject-8x8-N2-v0", size=8)
def go_to_object(
    size: int = 6, num_objects: int = 2, max_steps: int | None = None, view: View = View()
) -> MiniGrid:
    """Keys, balls and boxes in a room: walk to the one that the mission names, and say so.

    *What it tests*: to act on the mission, which alone tells the things apart: observe it
    (`view.mission`), or it has to be guessed.

    *Optimal return*: differs by level; in the mean 0.982 at size 6, 0.986 at 8.

    *Random return*: 0.09 at size 6, 0.04 at 8.

    *Solved when*: `done` is chosen beside the thing, or beside where it was if it was taken away;
    `info["success"]`. Elsewhere `done` ends the episode, as toggling does.

    *max_steps*: `5 * size**2`.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(GoToObject(size, num_objects), max_steps, view)
