"""An observation as coloured text, for a person: by its space, knowing no environment."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from rich.text import Text

from xplore.cli.glyphs import Glyphs
from xplore.contracts.spaces import Box, Dict, Discrete, Space, Symbolic

_SHADES = " .:-=+*#%@"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = ".123456789" + _LETTERS
_PALETTE = ("red", "green", "blue", "magenta", "yellow", "cyan", "bright_black", "white")
_WIDEST = 78
_PLAIN = Glyphs()


def view(space: Space, obs: Any, glyphs: Glyphs = _PLAIN) -> Text:
    """Draws one observation of `space`: grids as grids, the rest as numbers."""
    if isinstance(space, Dict):
        parts = []
        for name, inner in space.items:
            shown = view(inner, obs[name], glyphs)
            separator = "\n" if "\n" in shown.plain else " "
            parts.append(Text.assemble(f"{name}:{separator}", shown))
        return Text("\n").join(parts)
    array = np.asarray(obs)
    if isinstance(space, Discrete):
        return Text(f"{int(array)} of {space.num}")
    if isinstance(space, Symbolic) and len(space.shape) == 3:
        return _symbols(array, glyphs)
    if isinstance(space, Box) and array.ndim in (2, 3) and array.shape[1] <= _WIDEST:
        return _picture(array, space)
    return Text(
        np.array2string(
            array, precision=3, suppress_small=True, threshold=100, max_line_width=_WIDEST
        )
    )


def _symbols(grid: np.ndarray, glyphs: Glyphs) -> Text:
    grid = grid.swapaxes(0, 1) if glyphs.x_first else grid
    channels = grid.shape[-1]
    colours = glyphs.colours or _PALETTE
    rows = []
    for row in range(grid.shape[0]):
        cells = []
        for column in range(grid.shape[1]):
            cell = [int(c) for c in grid[row, column]]
            # What is carried lies on the viewer's own cell: the colour shows it.
            drawn = glyphs.viewer_cell if (row, column) == glyphs.viewer else _cell(cell, glyphs)
            in_colour = channels > 1 and (not glyphs.cells or cell[0] in glyphs.coloured)
            cells.append(Text(drawn, colours[cell[1] % len(colours)] if in_colour else ""))
        rows.append(Text(" ").join(cells))
    return Text("\n").join(rows)


def _cell(cell: list[int], glyphs: Glyphs) -> str:
    value, state = cell[0], cell[2] if len(cell) > 2 else 0
    plain = _DIGITS[value] if value < len(_DIGITS) else "?"
    return glyphs.cells.get((value, state), glyphs.cells.get(value, plain))


def _picture(array: np.ndarray, space: Box) -> Text:
    if (
        array.ndim == 3
        and array.shape[-1] > 1
        and not (space.high > 1 and math.isfinite(space.high))
    ):
        return _planes(array)
    values = array.astype(np.float64)
    values = values.mean(-1) if array.ndim == 3 else values
    low = space.low if math.isfinite(space.low) else values.min()
    high = space.high if math.isfinite(space.high) else values.max()
    level = (values - low) / max(high - low, 1e-9) * (len(_SHADES) - 1)
    index = np.clip(np.round(level), 0, len(_SHADES) - 1).astype(int)
    return Text("\n".join("".join(_SHADES[i] * 2 for i in row) for row in index))


def _planes(array: np.ndarray) -> Text:
    """One letter a cell: the first plane that is set there."""

    def drawn(cell: np.ndarray) -> Text:
        plane = int(cell.argmax())
        if not cell[plane]:
            return Text(".")
        return Text(_LETTERS[plane % len(_LETTERS)], _PALETTE[plane % len(_PALETTE)])

    return Text("\n").join(Text(" ").join(drawn(cell) for cell in row) for row in array != 0)
