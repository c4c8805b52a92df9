"""Boards seen from above, on which one moves in the four directions of the compass.

What the games have in common: actions, the look of a board as symbols and as a picture of 64 x 64
pixels, and levels as text. A board is uint8 `[H * W]` of a game's own codes, closed in by walls;
the agent is not in it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Space, Symbolic
from xplore.envs.families import boards
from xplore.parts.mosaic import mosaic

STAY, RIGHT, DOWN, LEFT, UP = range(5)
NUM_ACTIONS: Final = 5
PIXELS: Final = 64
Look = Literal["symbols", "rgb"]
LOOKS: tuple[Look, ...] = get_args(Look)
_AGENT_LETTER: Final = "@"


class Board(NamedTuple):
    """A start: the board uint8 `[H * W]`, and the agent's cell, int32 `[]`."""

    grid: jax.Array
    position: jax.Array


class Style(NamedTuple):
    """How a game's codes look, in their order; the agent's is the last.

    Attributes:
        letters: one for each code, as text.
        colours: `(red, green, blue)` of each.
        shapes: of each: "block" fills its cell, "dot" and "disc" do not.
    """

    letters: str
    colours: tuple[tuple[int, int, int], ...]
    shapes: tuple[str, ...]


def step_towards(action: jax.Array, width: int) -> jax.Array:
    """The way of an action as a difference of indices, int32 `[]`."""
    sideways = (action == RIGHT).astype(jnp.int32) - (action == LEFT).astype(jnp.int32)
    downwards = (action == DOWN).astype(jnp.int32) - (action == UP).astype(jnp.int32)
    return sideways + width * downwards


def check_look(look: str) -> None:
    """Raises a ConfigError unless `look` is one of `LOOKS`."""
    if look not in LOOKS:
        raise ConfigError(f"look is {look!r}: choose one of {', '.join(LOOKS)}")


def space(look: Look, style: Style, width: int, height: int) -> Space:
    """The space of observations of a board."""
    if look == "rgb":
        return Box((PIXELS, PIXELS, 3), "uint8", 0, 255)
    return Symbolic((height, width, 1), (len(style.letters),))


def observe(
    look: Look, style: Style, grid: jax.Array, position: jax.Array, width: int
) -> jax.Array:
    """The board with the agent in it: `[H, W, 1]` of codes, or a picture `[64, 64, 3]`."""
    agent = np.uint8(len(style.letters) - 1)
    codes = jnp.where(np.arange(grid.size) == position, agent, grid).reshape(-1, width)
    return shown(look, style, codes)


def shown(look: Look, style: Style, codes: jax.Array) -> jax.Array:
    """Codes `[H, W]`, the agent's among them, as they are observed."""
    return codes[..., None] if look == "symbols" else picture(style, codes)


def picture(style: Style, codes: jax.Array) -> jax.Array:
    """Codes `[H, W]` as uint8 `[64, 64, 3]`, in the middle of a black frame."""
    size = PIXELS // max(codes.shape)
    return _painter(style, size)(codes.astype(jnp.int32))


@functools.cache
def _painter(style: Style, size: int) -> Callable[..., jax.Array]:
    return mosaic(_tiles(style, size), PIXELS)


def _tiles(style: Style, size: int) -> npt.NDArray[np.uint8]:
    place = (np.arange(size) + 0.5) / size - 0.5
    distance = np.maximum(abs(place[None]), abs(place[:, None]))
    masks = {"block": distance < 1, "disc": distance < 0.4, "dot": distance < 0.2}
    return np.stack(
        [
            np.where(masks[shape][..., None], np.array(colour, np.uint8), np.uint8(0))
            for colour, shape in zip(style.colours, style.shapes, strict=True)
        ]
    )


def to_text(style: Style, grid: jax.Array, position: jax.Array, width: int) -> str:
    """A board drawn, a line a row, the agent as `@` on an empty cell."""
    drawn = [style.letters[int(code)] for code in np.asarray(grid)]
    drawn[int(position)] = _AGENT_LETTER
    return "\n".join("".join(drawn[i : i + width]) for i in range(0, len(drawn), width))


def from_text(style: Style, text: str, width: int, height: int) -> Board:
    """The inverse of `to_text`.

    Raises:
        ConfigError: another shape, an unknown letter, or not exactly one agent.
    """
    lines = text.split()
    drawn = "".join(lines)
    if [len(line) for line in lines] != [width] * height:
        raise ConfigError(
            f"a drawn level of {len(lines)} lines of {sorted({len(x) for x in lines})} letters:"
            f" this family has {height} lines of {width}"
        )
    if drawn.count(_AGENT_LETTER) != 1:
        raise ConfigError(f"a drawn level needs one agent ({_AGENT_LETTER})")
    if unknown := sorted(set(drawn) - set(style.letters)):
        raise ConfigError(f"a drawn level with {unknown}: the letters are {style.letters}")
    codes = [style.letters.index(letter) for letter in drawn.replace(_AGENT_LETTER, ".")]
    return Board(jnp.asarray(codes, jnp.uint8), jnp.int32(drawn.index(_AGENT_LETTER)))


def edited(
    bits: jax.Array,
    level: Board,
    may_turn: npt.NDArray[np.bool_],
    movable: tuple[int, int],
    space: int = 0,
    wall: int = 1,
) -> Board:
    """A board after one random edit.

    Half of the time one of the cells `may_turn` is turned from wall to space or back; else a thing,
    a code in `range(*movable)`, or the agent is moved to a random space.

    Args:
        bits: uint32 `[4]`.
        level: before.
        may_turn: bool `[H * W]`.
        movable: the first code that can be moved, and the one after the last.
        space: its code.
        wall: its code.
    """
    grid, agent = level
    here = np.arange(grid.size, dtype=np.int32)
    empty = (grid == space) & (here != agent)
    kind = bits[0] >> 30  # 0 and 1: a wall, 2: a thing, 3: the agent
    turned = boards.pick(jnp.asarray(may_turn) & (empty | (grid == wall)), bits[1])
    other = jnp.where(grid == wall, jnp.uint8(space), jnp.uint8(wall))
    walls = jnp.where((here == turned) & (turned > 0), other, grid)
    thing = boards.pick((grid >= movable[0]) & (grid < movable[1]), bits[2])
    free = boards.pick(empty, bits[3])
    swapped = jnp.where(here == thing, jnp.uint8(space), grid)
    swapped = jnp.where(here == free, grid[thing], swapped)
    can_move = (thing > 0) & (free > 0)
    moved = jnp.where((kind == 2) & can_move, swapped, grid)
    return Board(
        grid=jnp.where(kind < 2, walls, moved),
        position=jnp.where((kind == 3) & (free > 0), free, agent),
    )
