"""The package's generator of WFC layouts, the same layout for a seed in a fraction of the time.

Nearly all of its time goes into products of boolean matrices that find which patterns a cell may
still have. These sets have one largest solution whatever the order they are narrowed in, so that
another way to it changes no layout: here a set is the bits of an integer, and only neighbours of
what has changed are looked at.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from unittest import mock

import numpy as np
import numpy.typing as npt

_Direction = tuple[int, int]
_Adjacency = Mapping[_Direction, npt.NDArray[np.bool_]]
_MOST_PATTERNS: Final = 64
_MOST_KEPT: Final = 32
# What follows from a picture, of which a process sees few: it is found once.
_kept_by_key: dict[Any, Any] = {}


class _Supports:
    """Which patterns some set of patterns allows beside it, by direction.

    Attributes:
        neighbours: see `_neighbours`, by direction.
        border: what each cell may have as far as it is up to what lies beyond the border, which is
            every pattern at once, as upstream has it.
        narrowed: what was last narrowed down to, were it not in vain.
    """

    def __init__(self, adjacency: _Adjacency, height: int, width: int, wraps: bool) -> None:
        self.rows = [_masks(rows.T).tolist() for rows in adjacency.values()]
        self.known: list[dict[int, int]] = [{} for _ in adjacency]
        self.neighbours = [_neighbours(height, width, wraps, way) for way in adjacency]
        self.border = np.full(height * width, (1 << len(self.rows[0])) - 1, "<u8")
        self.narrowed = np.zeros(0, "<u8")
        if not wraps:
            everything = int(self.border[0])
            for side, (down, right) in enumerate(adjacency):
                beyond = np.pad(np.zeros((height, width), bool), 1, constant_values=True)
                beyond = beyond[1 + down : 1 + down + height, 1 + right : 1 + right + width]
                self.border[beyond.ravel()] &= np.uint64(self.of(side, everything))

    def of(self, direction: int, mask: int) -> int:
        """The patterns that have one of `mask` on that side of theirs."""
        known = self.known[direction]
        if mask not in known:
            known[mask] = 0
            for pattern, allowed in enumerate(self.rows[direction]):
                if mask >> pattern & 1:
                    known[mask] |= allowed
        return known[mask]


def _masks(columns: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """An integer for each row of `[n, num_patterns]`, whose bits are that row's."""
    packed = np.packbits(columns, axis=1, bitorder="little")
    words = np.zeros((len(columns), _MOST_PATTERNS // 8), np.uint8)
    words[:, : packed.shape[1]] = packed
    return words.view("<u8")[:, 0]


def _neighbours(height: int, width: int, wraps: bool, way: _Direction) -> list[int]:
    """The cell that has cell i on its side `way`, for each i; -1 where there is none."""
    cells = np.arange(height * width).reshape(height, width)
    padded = np.pad(cells, 1, "wrap") if wraps else np.pad(cells, 1, constant_values=-1)
    down, right = 1 - way[0], 1 - way[1]
    beside: list[int] = padded[down : down + height, right : right + width].ravel().tolist()
    return beside


def _narrow(cells: npt.NDArray[np.uint64], supports: _Supports) -> npt.NDArray[np.uint64]:
    """Takes from every cell the patterns that a neighbour rules out, until there are none.

    A cell without any ends it: it will have none later either.
    """
    # Mostly what was narrowed last, with one cell more decided: only that has to be looked at.
    before, changed = supports.narrowed, set(range(len(cells)))
    if len(before) and not (cells & ~before).any():
        changed = set(np.flatnonzero(cells != before).tolist())
    masks: list[int] = (cells & supports.border).tolist()
    while changed:
        cell = changed.pop()
        for side, beside in enumerate(supports.neighbours):
            other = beside[cell]
            if other < 0:
                continue
            left = masks[other] & supports.of(side, masks[cell])
            if left == masks[other]:
                continue
            masks[other] = left
            changed.add(other)
            if not left:
                return np.array(masks, "<u8")
    supports.narrowed = np.array(masks, "<u8")
    return supports.narrowed


def _kept(key: Any, make: Callable[[], Any]) -> Any:
    if key not in _kept_by_key:
        if len(_kept_by_key) >= _MOST_KEPT:
            _kept_by_key.clear()
        _kept_by_key[key] = make()
    return _kept_by_key[key]


@contextmanager
def faster() -> Iterator[None]:
    """While it is open, the package's generator goes the faster way."""
    from minigrid.envs.wfc.wfclogic import adjacency, control, solver

    slowly, extract = solver.propagate, adjacency.adjacency_extraction

    def propagate(
        wave: npt.NDArray[np.bool_], adj: _Adjacency, periodic: bool = False, **hooks: Any
    ) -> None:
        num_patterns, height, width = wave.shape
        if num_patterns > _MOST_PATTERNS or any(hooks.values()):
            slowly(wave, adj, periodic, **hooks)
            return
        key = periodic, wave.shape, *((way, rows.tobytes()) for way, rows in adj.items())
        cells = _masks(wave.reshape(num_patterns, -1).T)
        make = functools.partial(_Supports, adj, height, width, periodic)
        cells = _narrow(cells, _kept(key, make))
        bits = cells[:, None].view(np.uint8)
        left = np.unpackbits(bits, axis=1, count=num_patterns, bitorder="little")
        wave[:] = left.T.reshape(wave.shape).astype(np.bool_)
        if not cells.all():
            raise solver.Contradiction("a cell is left without a pattern")

    def adjacency_extraction(grid: Any, catalog: Any, offsets: Any, size: Any) -> Any:
        key = (tuple(catalog), tuple(offsets), size)
        return _kept(key, lambda: extract(grid, catalog, offsets, size))

    with (
        mock.patch.object(solver, "propagate", propagate),
        mock.patch.object(control, "adjacency_extraction", adjacency_extraction),
    ):
        yield
