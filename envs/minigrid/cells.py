"""What is in a cell, in one byte, and upstream's three numbers for it.

A cell is `kind << 3 | colour`, or, with the top bit set, a box that holds something:
`1 << 7 | is_ball << 6 | content_colour << 3 | box_colour`, a key or a ball being all that tasks
hide. Kinds are numbered so that every rule of the dynamics is a comparison: what can be walked on
comes first, what can be picked up next, what blocks the view last. The state of a door is part of
its kind.
"""

from __future__ import annotations

from typing import Final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

UNSEEN, EMPTY, FLOOR, GOAL, LAVA, OPEN_DOOR = 0, 1, 2, 3, 4, 5
KEY, BALL, BOX = 6, 7, 8
AGENT = 9  # upstream numbers the agent; it never stands in a cell of ours
WALL, CLOSED_DOOR, LOCKED_DOOR = 13, 14, 15

COLOURS: Final = ("red", "green", "blue", "purple", "yellow", "grey")
RED, GREEN, BLUE, PURPLE, YELLOW, GREY = range(6)

# Upstream's object number and door state of each kind.
_OBJECT: Final = {
    UNSEEN: (0, 0),
    EMPTY: (1, 0),
    FLOOR: (3, 0),
    GOAL: (8, 0),
    LAVA: (9, 0),
    OPEN_DOOR: (4, 0),
    KEY: (5, 0),
    BALL: (6, 0),
    BOX: (7, 0),
    AGENT: (10, 0),
    WALL: (2, 0),
    CLOSED_DOOR: (4, 1),
    LOCKED_DOOR: (4, 2),
}
_BOX_OBJECT: Final = _OBJECT[BOX][0]
NUM_OBJECTS: Final = 10  # of upstream's 11, the agent is never in its own view
NUM_DOOR_STATES: Final = 3
NUM_CARRIED: Final = 19  # nothing, or a key, ball or box of six colours


def cell(kind: int, colour: int = 0) -> int:
    """The byte of a `kind` of thing in a `colour`.

    >>> cell(EMPTY), cell(WALL, GREY)
    (8, 109)
    """
    return kind << 3 | colour


def filled_box(colour: int, content: int) -> int:
    """The byte of a box that holds the key or ball `content` (a byte).

    >>> bin(filled_box(RED, cell(KEY, GREY)))
    '0b10101000'
    """
    return 1 << 7 | (content >> 3 == BALL) << 6 | (content & 7) << 3 | colour


NOTHING: Final = cell(EMPTY)
GREY_WALL: Final = cell(WALL, GREY)
GREEN_GOAL: Final = cell(GOAL, GREEN)


def content(box: int) -> int:
    """The byte of what a filled box holds."""
    return cell(BALL if box >> 6 & 1 else KEY, box >> 3 & 7)


def _tables() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    upstream = np.zeros((256, 3), np.uint8)
    toggled = np.arange(256, dtype=np.uint8)
    for kind, (number, state) in _OBJECT.items():
        for colour in range(len(COLOURS)):
            upstream[cell(kind, colour)] = number, colour, state
    for colour in range(len(COLOURS)):
        toggled[cell(OPEN_DOOR, colour)] = cell(CLOSED_DOOR, colour)
        toggled[cell(CLOSED_DOOR, colour)] = cell(OPEN_DOOR, colour)
        toggled[cell(BOX, colour)] = NOTHING
    for box in range(1 << 7, 1 << 8):
        upstream[box] = _BOX_OBJECT, box & 7, 0
        toggled[box] = content(box)
    return upstream, toggled


# uint8 `[256, 3]`: upstream's (object, colour, state) of a byte; uint8 `[256]`: what toggling
# leaves.
UPSTREAM, TOGGLED = _tables()


def can_overlap(cells: jax.Array) -> jax.Array:
    """Whether the agent may stand there."""
    return cells < cell(OPEN_DOOR + 1)


def can_pick_up(cells: jax.Array) -> jax.Array:
    """Whether it can be carried."""
    return ((cells >= cell(KEY)) & (cells < cell(BOX + 1))) | (cells >= 1 << 7)


def blocks_view(cells: jax.Array) -> jax.Array:
    """Whether nothing behind it can be seen."""
    return (cells >= cell(WALL)) & (cells < 1 << 7)


def is_kind(cells: jax.Array, kind: int) -> jax.Array:
    """Whether each cell is of a `kind` (an empty box for `BOX`)."""
    return cells >> 3 == kind


def toggled(cells: jax.Array, carrying: jax.Array) -> jax.Array:
    """What a cell becomes when an agent who holds `carrying` toggles it.

    Doors open and close, a locked one opens for a key of its colour, a box leaves what it holds.
    """
    unlocks = is_kind(cells, LOCKED_DOOR) & is_kind(carrying, KEY) & ((cells ^ carrying) & 7 == 0)
    opened = cells - cell(LOCKED_DOOR - OPEN_DOOR)
    return jnp.where(unlocks, opened, jnp.asarray(TOGGLED)[cells.astype(jnp.int32)])


def carried_index(carrying: jax.Array) -> jax.Array:
    """What is carried as an int32 in `[0, NUM_CARRIED)`: 0 for nothing, then by kind and colour."""
    colour = (carrying & 7).astype(jnp.int32)
    kind = jnp.where(carrying >= 1 << 7, BOX, carrying >> 3).astype(jnp.int32)
    return jnp.where(carrying == NOTHING, 0, 1 + (kind - KEY) * len(COLOURS) + colour)
