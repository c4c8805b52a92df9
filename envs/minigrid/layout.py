"""Drawing levels: uniform numbers, cells from coordinates, and levels drawn as text."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.envs.minigrid import cells
from xplore.envs.minigrid.task import Level

_LETTERS = {
    ".": cells.NOTHING,
    "#": cells.GREY_WALL,
    "G": cells.GREEN_GOAL,
    "L": cells.cell(cells.LAVA, cells.RED),
    "K": cells.cell(cells.KEY, cells.YELLOW),
    "B": cells.cell(cells.BALL, cells.BLUE),
    "X": cells.cell(cells.BOX, cells.PURPLE),
    "/": cells.cell(cells.OPEN_DOOR, cells.YELLOW),
    "|": cells.cell(cells.CLOSED_DOOR, cells.YELLOW),
    "D": cells.cell(cells.LOCKED_DOOR, cells.YELLOW),
}
_AGENT = ">v<^"


def coordinates(width: int, height: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """`x` `[1, width]` and `y` `[height, 1]`, to say by comparisons where things are."""
    return np.arange(width, dtype=np.int32)[None, :], np.arange(height, dtype=np.int32)[:, None]


def walled_room(width: int, height: int) -> npt.NDArray[np.uint8]:
    """An empty grid `[height, width]` closed in by walls."""
    grid = np.full((height, width), cells.GREY_WALL, np.uint8)
    grid[1:-1, 1:-1] = cells.NOTHING
    return grid


def below(bits: jax.Array, num: jax.Array | int) -> jax.Array:
    """An int32 in `[0, num)` from a uniform uint32: `floor(bits * num / 2**32)`, for `num < 2**16`.

    It is off uniform by at most `num / 2**32`. A level is drawn from the bits of one call, since a
    call for each of its numbers costs more, to run and to compile, than all the rest.

    >>> [int(below(jnp.uint32(bits), 6)) for bits in (0, 2**31, 2**32 - 1)]
    [0, 3, 5]
    """
    n = jnp.asarray(num).astype(jnp.uint32)
    high, low = bits >> 16, bits & 0xFFFF
    return ((high * n + (low * n >> 16)) >> 16).astype(jnp.int32)


def below_but(bits: jax.Array, num: jax.Array | int, taken: jax.Array) -> jax.Array:
    """An int32 in `[0, num)` that is not `taken`, each of the others as likely.

    What drawing again until it is not `taken` comes to, without the loop.
    """
    return skip(below(bits, num - 1), taken)


def skip(number: jax.Array, taken: jax.Array) -> jax.Array:
    """The `number`-th of the integers that are not `taken`, counted from 0."""
    return jnp.where(number >= taken, number + 1, number)


def level_from_text(text: str) -> Level:
    """The level drawn in `text`, a line for each row.

    `.` empty, `#` wall, `G` goal, `L` lava, `K` key, `B` ball, `X` box, and a door `/` open, `|`
    closed, `D` locked (key and doors are yellow); the agent is one of `>v<^`, on an empty cell.

    >>> level = level_from_text('''
    ... ####
    ... #>G#
    ... ####
    ... ''')
    >>> level.grid.shape, int(level.position), int(level.direction)
    ((12,), 5, 0)

    Raises:
        ValueError: the lines differ in length, or there is not exactly one agent.
    """
    lines = text.split()
    letters = "".join(lines)
    agents = [i for i, letter in enumerate(letters) if letter in _AGENT]
    if len({len(line) for line in lines}) != 1 or len(agents) != 1:
        raise ValueError("a drawn level needs lines of one length and exactly one agent")
    drawn = [_LETTERS.get(letter, cells.NOTHING) for letter in letters]
    return Level(
        grid=jnp.asarray(drawn, jnp.uint8),
        position=jnp.int32(agents[0]),
        direction=jnp.int32(_AGENT.index(letters[agents[0]])),
    )
