"""How some families of environments look as text: data, and optional. Others are shown plainly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Glyphs(NamedTuple):
    """Names for the numbers of a symbolic grid.

    Attributes:
        cells: value of channel 0 -> what is drawn; a pair `(value, state)`, with the state from
            channel 2, wins over the value alone.
        colours: value of channel 1 -> rich colour.
        coloured: values of channel 0 that are drawn in their colour.
        x_first: the first axis of the grid is the column.
        viewer: `(row, column)` of the one who sees, drawn as `viewer_cell`.
        actions: names, in order.
        keys: key -> action.
    """

    cells: Mapping[int | tuple[int, int], str] = {}
    colours: tuple[str, ...] = ()
    coloured: frozenset[int] = frozenset()
    x_first: bool = False
    viewer: tuple[int, int] | None = None
    viewer_cell: str = "▲"
    actions: tuple[str, ...] = ()
    keys: Mapping[str, int] = {}


_MINIGRID = Glyphs(
    cells={
        0: " ", 1: "·", 2: "█", 3: "░", (4, 0): "□", (4, 1): "▥", (4, 2): "▣", 4: "▥",
        5: "⚷", 6: "●", 7: "◫", 8: "★", 9: "≈", 10: "▲",
    },
    colours=("red", "green", "blue", "magenta", "yellow", "bright_black"),
    coloured=frozenset({2, 3, 4, 5, 6, 7, 8}),
    x_first=True,
    viewer=(6, 3),
    actions=("left", "right", "forward", "pickup", "drop", "toggle", "done"),
    keys={
        "left": 0, "right": 1, "up": 2, "tab": 3, "p": 3, "d": 4, "space": 5, "enter": 6,
    },
)  # fmt: skip

_BY_PREFIX = {"MiniGrid-": _MINIGRID}


def glyphs_for(name: str) -> Glyphs:
    """What is known of the family that an environment's name belongs to; empty for the others."""
    return next((g for prefix, g in _BY_PREFIX.items() if name.startswith(prefix)), Glyphs())
