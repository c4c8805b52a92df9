"""Steps that remain in Miner at the least: walks by all diamonds to the exit, as far as proven."""

from __future__ import annotations

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
# Tables have a row for each set of diamonds: so many are told apart, and in `detours`, which has
# one for each pair of cells too.
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
    metric: Ints, places: Sequence[Sequence[int]], over_dirt: Sequence[bool], exit_: int, side: int
) -> Ints:
    """`tours`, but longer: a diamond over dirt has to be taken, not only let fall.

    One that is `over_dirt`, with `places[i]` its cell and the one below, is taken where it is; or
    the agent comes to the cell below at a time t, and takes it elsewhere later. It is in that cell
    at t + 1 at the earliest, and needs a step for each row that it falls and for each column that
    it rolls to the left, none for rolling to the right. The agent needs as long if it does nothing
    else in between.
    """
    n = len(places)
    # Digits of base 3: 0 for a diamond that is taken, 1 for one that fell, 2 for one in its place.
    found = np.full((3**n, len(metric)), FAR, np.int32)
    found[0] = metric[:, exit_]
    others: dict[tuple[int, int], Ints] = {}
    ends = [
        _falls(metric, cells[1], side) if falls else None
        for cells, falls in zip(places, over_dirt, strict=True)
    ]
    for code in range(1, len(found)):
        events: list[Ints] = []
        for i, cells in enumerate(places):
            digit, unit, end = code // 3**i % 3, 3**i, ends[i]
            event = np.full(len(metric), FAR, np.int32)
            if digit == 2:
                rest = found[code - 2 * unit]
                for cell in cells if end is None else cells[:1]:
                    np.minimum(event, metric[:, cell] + rest[cell], out=event)
                if end is not None:
                    direct = np.min(end[1] + rest[end[0]])
                    after = min(direct, others[code - unit, i][cells[1]])
                    np.minimum(event, metric[:, cells[1]] + after, out=event)
            elif digit == 1 and end is not None:
                event = np.min(metric[:, end[0]] + found[code - unit][end[0]], axis=1)
            events.append(event)
        found[code] = np.minimum(np.min(events, axis=0), FAR)
        for i in range(n):
            rest_of = [x for j, x in enumerate(events) if j != i]
            others[code, i] = np.min([np.full(len(metric), FAR), *rest_of], axis=0)
    sets = np.arange(1 << n)[:, None] >> np.arange(n) & 1
    return found[np.sum(2 * sets * 3 ** np.arange(n), axis=1)]


def _falls(metric: Ints, cell: int, side: int) -> tuple[Ints, Ints]:
    """Cells to which a diamond may come from `cell`, and the steps until it can be taken there."""
    y, x = np.divmod(np.arange(len(metric)), side)
    rows, right = y - cell // side, x - cell % side
    where = np.flatnonzero((rows >= 0) & (right <= rows)).astype(np.int32)
    steps = 2 + rows + np.maximum(-right, 0)
    return where, np.maximum(metric[cell], steps)[where].astype(np.int32)


def detours(metric: Ints, places: Sequence[Sequence[int]], tour: Ints) -> npt.NDArray[np.int16]:
    """`tours` that also come by another cell: int16 `[2**n, H * W, H * W]`, from, by."""
    found = np.empty((len(tour), *metric.shape), np.int16)
    for chosen in range(len(tour)):
        best: Any = metric + tour[chosen][None]
        for i, cells in enumerate(places):
            if chosen >> i & 1:
                rest = found[chosen ^ 1 << i]
                for cell in cells:
                    np.minimum(best, metric[:, cell, None] + rest[cell], out=best)
        found[chosen] = np.minimum(best, FAR)
    return found


class Level:
    """A level as words, and tables of steps that remain."""

    def __init__(self, grid: npt.NDArray[np.uint8], position: int, exit_: int) -> None:
        self.side = side = int(np.sqrt(grid.size))
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
            self.detours = detours(metric, regions, self.tours)
            # The dirt under them is there for as long as they are.
            over_dirt = [bool(grid[x + side] == _DIRT) for x in self.diamonds]
            self.tours = walks(metric, regions, over_dirt, exit_, side)
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
