"""Layouts of the WFC presets, generated beforehand by the `minigrid` package.

A bank is `banks/PRESET.npz`, made by `python -m xplore.benchmarks.minigrid_wfc`, which says in it
where it comes from. It holds the walls alone: upstream draws start, goal and direction
independently of how it came to them, uniformly, so that they are drawn anew for every level.
"""

from __future__ import annotations

import functools
import json
import os
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from xplore.contracts.errors import ConfigError

PRESETS: Final = (
    "DungeonMazeScaled",
    "MazeSimple",
    "ObstaclesAngular",
    "ObstaclesBlackdots",
    "ObstaclesHogs3",
    "RoomsFabric",
)
SIDE: Final = 23  # cells in a row of a layout, without the walls around it
FOLDER: Final = Path(__file__).parent / "banks"


def path(preset: str, folder: Path = FOLDER) -> Path:
    """Where a preset's bank is."""
    return folder / f"{preset}.npz"


@functools.cache
def load(preset: str) -> npt.NDArray[np.uint32]:
    """The layouts of a preset `[n, SIDE]`: a word for each row, bit `x` set where a wall is.

    Raises:
        ConfigError: there is no bank of that preset.
    """
    if not path(preset).exists():
        raise ConfigError(f"preset is {preset!r}: no levels of it come with this package")
    walls, _ = read(path(preset))
    return walls.astype(np.uint32) @ (np.uint32(1) << np.arange(SIDE, dtype=np.uint32))


def read(file: Path) -> tuple[npt.NDArray[np.bool_], dict[str, Any]]:
    """The walls `[n, SIDE, SIDE]`, row by row, of a bank, and where they come from."""
    try:
        with np.load(file) as saved:
            packed, origin = saved["walls"], json.loads(str(saved["origin"]))
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{file} is not a bank of levels: {error}") from error
    bits = np.unpackbits(packed, axis=1, count=SIDE * SIDE)
    return bits.reshape(-1, SIDE, SIDE).astype(np.bool_), origin


def write(file: Path, walls: npt.NDArray[np.bool_], origin: dict[str, Any]) -> None:
    """Writes a bank, in one piece: a reader finds the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    with unfinished.open("wb") as out:
        packed = np.packbits(walls.reshape(len(walls), -1), axis=1)
        np.savez_compressed(out, walls=packed, origin=np.array(json.dumps(origin)))
    os.replace(unfinished, file)
