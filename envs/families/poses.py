"""Walking in an empty square room: steps between poses, a cell and a direction each."""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

FAR: Final = 200  # steps to a pose that is none
_WAYS: Final = ((1, 0), (0, 1), (-1, 0), (0, -1))
_MOST: Final = 16  # poses around a cell: 4 before it, 3 before each of its neighbours


class Poses(NamedTuple):
    """The poses of a room of n cells, row by row: `4 * cell + direction`; P = 4n is none.

    Attributes:
        steps: int16 `[P + 1, P + 1]`, turns and moves from the second pose to the first.
        around: int64 `[n, 16]`, the poses off a cell that face it or a neighbour of it, and none.
        before: bool `[n, 16]`, which of these face the cell itself.
        away: int64 `[n, n]`, moves between cells.
    """

    steps: npt.NDArray[np.int16]
    around: npt.NDArray[np.int64]
    before: npt.NDArray[np.bool_]
    away: npt.NDArray[np.int64]


@functools.cache
def poses(size: int) -> Poses:
    """Those of a room of `size` x `size`."""
    num = size * size
    x, y = np.arange(num) % size, np.arange(num) // size
    away = abs(x[:, None] - x) + abs(y[:, None] - y)
    # What is ahead of each pose: a cell, or -1 for the wall.
    ahead = np.full((num, 4), -1)
    for way, (dx, dy) in enumerate(_WAYS):
        inside = (x + dx >= 0) & (x + dx < size) & (y + dy >= 0) & (y + dy < size)
        ahead[inside, way] = (x + dx + size * (y + dy))[inside]
    here, facing = np.arange(4 * num) // 4, np.arange(4 * num) % 4
    faced = ahead.ravel()
    moved = np.where(faced < 0, np.arange(4 * num), 4 * faced + facing)
    after = np.concatenate([4 * here + (facing + 1) % 4, 4 * here + (facing - 1) % 4, moved])
    before = np.tile(np.arange(4 * num), 3)
    graph = csr_array((np.ones(len(after)), (before, after)), shape=(4 * num, 4 * num))
    steps = np.full((4 * num + 1, 4 * num + 1), FAR, np.int16)
    steps[:-1, :-1] = dijkstra(graph, unweighted=True).T
    around = np.full((num, _MOST), 4 * num)
    for cell in range(num):
        near = np.flatnonzero((faced >= 0) & (away[cell, faced] <= 1) & (here != cell))
        around[cell, : len(near)] = near
    return Poses(steps, around, np.append(faced, -1)[around] == np.arange(num)[:, None], away)
