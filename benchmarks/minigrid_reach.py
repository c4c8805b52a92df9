"""What can be walked to in samples of MiniGrid levels, in numpy."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from xplore.envs.minigrid import cells

Array = npt.NDArray[Any]
# Levels that are walked through at a time: few enough to stay in the processor's cache.
_CHUNK: Final = 512


def walking_distances(passable: Array, start: Array) -> Array:
    """Steps from `start` `[n]` to each cell of `passable` `[n, height, width]`, flat; -1: none."""
    num, height, width = passable.shape
    found = np.full((num, height * width), -1, np.int16)
    for begin in range(0, num, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        reached = np.zeros((len(passable[part]), height + 2, width + 2), bool)
        y, x = start[part] // width + 1, start[part] % width + 1
        reached[np.arange(len(reached)), y, x] = True
        inside = reached[:, 1:-1, 1:-1]
        steps = np.where(inside, 0, -1).astype(np.int16)
        new, distance = inside.any(), 0
        while new:
            distance += 1
            grown = reached[:, 1:-1, 2:] | reached[:, 1:-1, :-2]
            grown |= reached[:, 2:, 1:-1] | reached[:, :-2, 1:-1]
            grown &= passable[part] & ~inside
            steps[grown] = distance
            inside |= grown
            new = grown.any()
        found[part] = steps.reshape(len(steps), -1)
    return found


def key_colours(grid: Array) -> Array:
    """The colour of the key in each cell, in a box or not; -1: none."""
    boxed = (grid >= 1 << 7) & (grid >> 6 & 1 == 0)
    colour = np.where(boxed, grid >> 3, grid).astype(np.int8) & 7
    return np.where((grid >> 3 == cells.KEY) | boxed, colour, -1)


def reach(grid: Array, position: Array) -> Array:
    """Whether the goal, every door and every thing can be walked up to: bool `[n]`.

    Locked doors open where a key of their colour can be walked up to; what is in the way is taken
    to be put aside. It is not always exact: one may have no room to put things aside, or no time.

    Args:
        grid: uint8 `[n, height, width]`.
        position: of the agents, `[n]`.
    """
    kind = np.where(grid >= 1 << 7, cells.BOX, grid >> 3)
    locked = kind == cells.LOCKED_DOOR
    passable = ~np.isin(kind, (cells.WALL, cells.LAVA)) & ~locked
    keys = key_colours(grid)
    num_passable = -1
    reached = np.zeros_like(passable)
    while num_passable != (num_passable := int(passable.sum())):
        reached = (walking_distances(passable, position) >= 0).reshape(grid.shape)
        for colour in range(len(cells.COLOURS)):
            has_key = (reached & (keys == colour)).any((1, 2))
            passable |= has_key[:, None, None] & locked & (grid & 7 == colour)
    wanted = (cells.GOAL, cells.OPEN_DOOR, cells.KEY, cells.BALL, cells.BOX)
    doors = (cells.CLOSED_DOOR, cells.LOCKED_DOOR)
    return np.asarray((reached | ~np.isin(kind, (*wanted, *doors))).all((1, 2)))
