"""Steps that remain in Miner at the least: walks by all diamonds to the exit, as far as proven."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from xplore.envs.families import boards, miner_moves

FAR: Final = 10_000  # no way
Ints: TypeAlias = npt.NDArray[np.int32]
Bools: TypeAlias = npt.NDArray[np.bool_]
Words: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
_SPACE, _WALL, _DIRT, _BOULDER, _DIAMOND = range(5)
_ROCK: Final = 4.0  # steps that are guessed for a boulder in the way
# Tables have a row for each set of diamonds: so many are told apart, and in `walks` so many.
_MOST_IN_TOURS: Final = 12
_MOST_IN_DETOURS: Final = 4


def region(cell: int, thing: Bools, side: int) -> list[int]:
    """Cells of which the agent enters one before the diamond in `cell` is taken or moves.

    It can fall only if the cell below is emptied; or it lies on another thing: then that has to
    move, or it rolls beside it, which takes two empty cells there. Things among these cells are
    taken together with their own. While nothing in them changes but dirt, and the agent is not in
    them, nothing in them moves; for what moves at all does so as soon as it can.

    Args:
        cell: that of the diamond.
        thing: bool `[H * W]`, boulders and diamonds.
        side: of the board.
    """
    found, todo = {cell}, [cell]
    while todo:
        below = (here := todo.pop()) + side
        near = [below]
        if thing[below]:
            near += [here - 1, here + 1, below - 1, below + 1]
        new = set(near) - found
        found |= new
        todo += [k for k in new if thing[k]]
    return sorted(found)


def distances(cost: npt.NDArray[np.float64], side: int) -> Ints:
    """Of each cell to each other, int32 `[H * W, H * W]`; `FAR` where there is no way.

    Args:
        cost: of entering a cell, `[H * W]`; infinite for those that cannot be.
        side: of the board.
    """
    near = np.arange(cost.size)[:, None] + np.array([1, -1, side, -side])
    start, way = np.nonzero(np.isfinite(cost)[:, None] & np.isfinite(cost)[near % cost.size])
    end = near[start, way]
    graph = csr_array((cost[end], (start, end)), shape=(cost.size, cost.size))
    return np.asarray(np.minimum(shortest_path(graph), FAR), np.int32)


def tours(metric: Ints, places: Sequence[Sequence[int]], exit_: int) -> Ints:
    """Steps from a cell by one of each of `places[i]`, i in a set, to the exit.

    Returns:
        int32 `[2**n, H * W]`, sets as bits; the shortest of all orders.
    """
    found = np.full((1 << len(places), len(metric)), FAR, np.int32)
    found[0] = metric[:, exit_]
    for chosen in range(1, len(found)):
        best = found[chosen]
        for i, cells in enumerate(places):
            if chosen >> i & 1:
                rest = found[chosen ^ 1 << i]
                for cell in cells:
                    np.minimum(best, metric[:, cell] + rest[cell], out=best)
    return found


def walks(
    metric: Ints,
    places: Sequence[Sequence[int]],
    over_dirt: Sequence[bool],
    exit_: int,
    by: Ints | None = None,
) -> Ints:
    """`tours`, but longer: a diamond over dirt has to be taken, not only let fall.

    One that is `over_dirt`, with `places[i]` its cell and the one below, is taken where it is; or
    the agent comes to the cell below at a time t, and takes it elsewhere later. It is in that cell
    at t + 1 at the earliest, and needs a step for each row that it falls and for each column that
    it rolls to the left, none for rolling to the right. The agent needs as long if it does nothing
    else in between.

    Args:
        metric: int32 `[H * W, H * W]`.
        places: of each diamond.
        over_dirt: of each diamond.
        exit_: the last cell.
        by: what this found without it; then each other cell is visited, too.

    Returns:
        int32 `[3**n, 1, H * W]`, or by each other cell `[3**n, H * W, H * W]`. The digits of an
        index are 0 for a diamond that is taken, 1 for one that was let fall, 2 for one in place.
    """
    num, cells = 3 ** len(places), len(metric)
    found = np.full((num, 1 if by is None else cells, cells), FAR, np.int32)
    none = np.full(found.shape[1:], FAR, np.int32)
    others: dict[tuple[int, int], Ints] = {}
    ends = [
        _falls(metric, x[-1]) if falls else None for x, falls in zip(places, over_dirt, strict=True)
    ]
    for code in range(num):
        visit = none if by is None else metric.T + by[code, 0, :, None]
        if by is None and not code:
            visit = metric[None, :, exit_]
        events: list[Ints] = []
        for i, (here, end) in enumerate(zip(places, ends, strict=True)):
            event, unit = none.copy(), 3**i
            if code // unit % 3 == 2:
                rest = found[code - 2 * unit]
                for cell in here if end is None else here[:1]:
                    np.minimum(event, metric[None, :, cell] + rest[:, cell, None], out=event)
                if end is not None:
                    direct = np.min(end[1] + rest[:, end[0]], axis=1)
                    after = np.minimum(direct, others[code - unit, i][:, here[1]])
                    np.minimum(event, metric[None, :, here[1]] + after[:, None], out=event)
            elif code // unit % 3 == 1 and end is not None:
                rest = found[code - unit][:, None, end[0]]
                event = np.min(metric[None, :, end[0]] + rest, axis=2)
            events.append(event)
        found[code] = np.min([none, visit, *events], axis=0)
        for i in range(len(places)):
            others[code, i] = np.min([none, visit, *events[:i], *events[i + 1 :]], axis=0)
    return found


def _falls(metric: Ints, cell: int) -> tuple[Ints, Ints]:
    """Cells to which a diamond may come from over `cell`, and the steps until it is taken there.

    Another thing may roll into `cell` first. Then it can roll off that, but a step later.
    """
    side = math.isqrt(len(metric))
    y, x = np.divmod(np.arange(len(metric)), side)
    rows, right = y - cell // side, x - cell % side
    where = np.flatnonzero((rows >= -1) & (right <= rows + 1)).astype(np.int32)
    off = (rows < 0) | (right > rows)
    steps = 2 + rows + np.maximum(-right, 0) + off
    return where, np.maximum(metric[cell], steps)[where].astype(np.int32)


class Level:
    """A level as words, and tables of steps that remain."""

    def __init__(self, grid: npt.NDArray[np.uint8], position: int, exit_: int) -> None:
        self.side = side = math.isqrt(grid.size)
        self.position, self.exit = position, np.int32(exit_)
        self.walls = self.rows(grid == _WALL)
        thing = (grid == _BOULDER) | (grid == _DIAMOND)
        kinds = (
            (grid == _WALL) | (grid == _DIRT),
            grid == _BOULDER,
            grid == _DIAMOND,
            grid > _DIAMOND,
        )
        self.planes = np.stack([self.rows(x) for x in kinds])
        self.diamonds = np.flatnonzero(grid == _DIAMOND)[:_MOST_IN_TOURS].astype(np.int32)
        regions = [region(int(x), thing, side) for x in self.diamonds]
        here = np.arange(grid.size)
        self.regions = [self.rows(np.isin(here, x)) for x in regions]
        cost = np.where(self._reachable(grid), 1.0, np.inf)
        metric = distances(cost, side)
        self.tours = tours(metric, regions, exit_)
        self.detours = (metric + metric[:, exit_])[None]
        if len(regions) <= _MOST_IN_DETOURS:
            # The dirt under them is there for as long as they are.
            over_dirt = [bool(grid[x + side] == _DIRT) for x in self.diamonds]
            args = metric, regions, over_dirt, exit_
            direct = walks(*args)
            sets = np.arange(1 << len(regions))[:, None] >> np.arange(len(regions)) & 1
            codes = np.sum(2 * sets * 3 ** np.arange(len(regions)), axis=1)
            self.tours = direct[codes, 0]
            self.detours = walks(*args, by=direct)[codes].swapaxes(1, 2)
        guessed = distances(np.where(grid == _BOULDER, _ROCK * cost, cost), side)
        self.guess = tours(guessed, [[int(x)] for x in self.diamonds], exit_)
        self.bound = int(self.tours[-1, position])

    def rows(self, mask: Bools) -> Words:
        """Cells bool `[..., H * W]` as words `[..., H]`."""
        word = boards.word_type(self.side)
        bits = mask.reshape(*mask.shape[:-1], -1, self.side).astype(word)
        found = np.sum(bits << np.arange(self.side, dtype=word), -1, dtype=word)
        return np.asarray(found)

    def _reachable(self, grid: npt.NDArray[np.uint8]) -> Bools:
        """Cells that the agent may ever enter; no fewer."""
        reach = np.arange(grid.size) == self.position
        moved = np.zeros_like(reach)
        while True:
            # A boulder's cell is entered once it has moved, or as it is pushed into another cell.
            free = (grid != _WALL) & (grid != _BOULDER) | moved
            void = reach | moved | (grid == _SPACE)
            pushed = np.roll(reach, 1) & np.roll(void, -1) | np.roll(reach, -1) & np.roll(void, 1)
            near = [np.roll(reach, by) for by in (1, -1, self.side, -self.side)]
            more = reach | np.any(near, axis=0) & free | pushed & (grid == _BOULDER)
            words = np.asarray(miner_moves.may_move(self.planes, self.rows(more), self.walls))
            bits = words[:, None] >> np.arange(self.side, dtype=words.dtype) & 1
            before, moved = moved, bits.ravel() == 1
            if np.array_equal(more, reach) and np.array_equal(moved, before):
                return reach
            reach = more

    def unmoved(self, planes: Words) -> Ints:
        """Which diamonds have not moved nor may before their region is entered: `[N]`, as bits."""
        changed = planes[:, 1] ^ self.planes[1] | planes[:, 2] ^ self.planes[2]
        found = np.zeros(len(planes), np.int32)
        for i, mask in enumerate(self.regions):
            rows = np.flatnonzero(mask)
            same = ~np.any(changed[:, rows] & mask[rows], axis=1)
            found |= same.astype(np.int32) << i
        return found

    def may_enter(self, diamonds: Ints, position: Ints, steps: int) -> Words:
        """Cells that the agent may enter in plans of so many steps more: words `[N, H]`."""
        table = self.detours[diamonds if len(self.detours) > 1 else 0, position]
        return self.rows(table <= steps)
