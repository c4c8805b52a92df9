"""The pictures of the WFC presets, for want of the package's own: its releases leave them out.

They are as EnvPool has them, a port of MiniGrid under the Apache License 2.0, Copyright 2026 Garena
Online Private Limited: in `envpool/minigrid/impl/minigrid_wfc_tasks.cc`, as text that tells wall
from floor, which is all that a picture of two colours holds. The pictures themselves are from the
samples of Maxim Gumin's WaveFunctionCollapse (MIT License) and of what derives from it.

What speaks for the text: it goes by the names and settings of the package's presets; the package
says that its pictures are black and white (`WFCEnv.PATTERN_COLOR_CONFIG`); `ScaledMaze` is
`SimpleMaze` with each pixel doubled; `SimpleMaze` is the package's `RedMaze`, which its tests spell
out, less the red; and the layouts made from it are mazes, rooms and obstacles as the presets'
descriptions have them. That it is the package's picture to the pixel has not been seen: none was
to be had. `pixels` has a hash in every bank, which whoever has the pictures can compare.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

SOURCE: Final = (
    "text in envpool/minigrid/impl/minigrid_wfc_tasks.cc of EnvPool (Apache-2.0), as black and"
    " white; not compared with the package's own file"
)
# By the name of the file in the package; "#" is black, a wall.
TEXTS: Final = {
    "SimpleMaze.png": """
....
.###
.#.#
.###
""",
    "ScaledMaze.png": """
........
........
..######
..######
..##..##
..##..##
..######
..######
""",
    "Fabric.png": """
..#..
.....
#####
.....
..#..
""",
    "Blackdots.png": """
...
.#.
...
""",
    "Angular.png": """
...........
.....#####.
.....#####.
.....#####.
.....#####.
.#########.
.#########.
.#########.
.#########.
.#########.
...........
""",
    "Hogs.png": """
.................
.......#....#....
..#...###..###...
.###...#....#....
..#..............
.........#.......
....#...###...#..
...###...#...###.
....#.........#..
.................
.......#....#....
..#...###..###...
.###...#....#....
..#..#...#....#..
....###.###..###.
.....#...#....#..
.................
""",
}


def pixels(name: str) -> npt.NDArray[np.uint8]:
    """The picture of that name, `[height, width, 3]`, black and white.

    >>> pixels("Blackdots.png")[:, :, 0].tolist()
    [[255, 255, 255], [255, 0, 255], [255, 255, 255]]
    """
    rows = np.array([list(row) for row in TEXTS[name].split()])
    return np.where(rows == "#", 0, 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)
