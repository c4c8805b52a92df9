"""Levels as text, one letter a cell, and back without loss."""

from __future__ import annotations

from typing import Final

import jax.numpy as jnp
import numpy as np

from xplore.contracts.errors import ConfigError
from xplore.contracts.types import PyTree
from xplore.envs.minigrid import cells
from xplore.envs.minigrid.task import Level

_AGENT: Final = ">v<^"
# The six colours of each kind, in the order of `cells.COLOURS`.
_COLOURED: Final = {
    cells.KEY: "abcdef",
    cells.LOCKED_DOOR: "ABCDEF",
    cells.CLOSED_DOOR: "ghijkl",
    cells.OPEN_DOOR: "mnopqr",
    cells.BALL: "012345",
    cells.BOX: "stuwxy",
}
_BYTES: Final = {
    ".": cells.NOTHING,
    "#": cells.GREY_WALL,
    "G": cells.GREEN_GOAL,
    "L": cells.cell(cells.LAVA, cells.RED),
    "_": cells.cell(cells.FLOOR, cells.BLUE),
} | {letter: cells.cell(k, c) for k, row in _COLOURED.items() for c, letter in enumerate(row)}
_LETTERS: Final = {byte: letter for letter, byte in _BYTES.items()}
ALL_BYTES: Final = tuple(_LETTERS)


def to_text(level: Level, width: int) -> str:
    """`level` drawn, a line a row: `.` empty, `#` wall, `_` floor, `G` goal, `L` lava,
    the agent one of `>v<^`.

    Keys are `a` to `f` by colour, balls `0` to `5`, boxes `stuwxy`; doors `A` to `F` locked, `g` to
    `l` closed, `m` to `r` open.
    """
    drawn = [_LETTERS[int(byte)] for byte in np.asarray(level.grid)]
    drawn[int(level.position)] = _AGENT[int(level.direction)]
    return "\n".join("".join(drawn[i : i + width]) for i in range(0, len(drawn), width))


def from_text(text: str, shape: tuple[int, int], extra: PyTree = ()) -> Level:
    """The level drawn in `text`; the inverse of `to_text`.

    Args:
        text: as `to_text` has it, border included.
        shape: `(width, height)` of the family's grid.
        extra: what the level keeps beside the grid.

    Raises:
        ConfigError: another shape, an unknown letter, or not exactly one agent.
    """
    width, height = shape
    lines = text.split()
    if [len(line) for line in lines] != [width] * height:
        raise ConfigError(
            f"a drawn level of {len(lines)} lines of {sorted({len(x) for x in lines})} letters:"
            f" this family has {height} lines of {width}"
        )
    drawn = "".join(lines)
    agents = [i for i, letter in enumerate(drawn) if letter in _AGENT]
    if len(agents) != 1:
        raise ConfigError(f"a drawn level with {len(agents)} agents ({_AGENT}): it needs one")
    if unknown := sorted(set(drawn) - set(_BYTES) - set(_AGENT)):
        raise ConfigError(
            f"a drawn level with {unknown}: the letters are {''.join(_BYTES)}{_AGENT}"
        )
    return Level(
        grid=jnp.asarray([_BYTES.get(letter, cells.NOTHING) for letter in drawn], jnp.uint8),
        position=jnp.int32(agents[0]),
        direction=jnp.int32(_AGENT.index(drawn[agents[0]])),
        extra=extra,
    )
