"""Makes the banks of WFC layouts with the `minigrid` package's own generator.

`python -m xplore.benchmarks.minigrid_wfc envs/minigrid/banks --patterns PICTURES` makes, for each
preset, the layouts of seeds 0, 1, and so on; what is there already is gone on from. It needs the
package's extra `wfc`. Releases of the package up to 3.2.0 leave out the pictures that its presets
refer to: they are in its repository, in `minigrid/envs/wfc/patterns`, and PICTURES is that folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tyro

from xplore.contracts.errors import ConfigError
from xplore.envs.minigrid import cells, wfc_bank
from xplore.envs.minigrid.upstream import grid_from_minigrid

_SAVE_EVERY: Final = 64


def generator(preset: str, patterns: Path | None) -> tuple[Any, dict[str, Any]]:
    """Upstream's environment of a preset, and what its layouts depend on beside the seed."""
    from minigrid.envs.wfc.config import WFC_PRESETS
    from minigrid.envs.wfc.wfcenv import WFCEnv

    config: Any = WFC_PRESETS[preset]
    if patterns is not None:
        picture = patterns / config.pattern_path.name
        config = dataclasses.replace(config, pattern_path=picture)
    if not config.pattern_path.exists():
        raise ConfigError(f"{config.pattern_path} is missing: name its folder by --patterns")
    origin = {
        "preset": preset,
        "package": f"minigrid {importlib.metadata.version('minigrid')}",
        "picture": config.pattern_path.name,
        "picture_sha256": hashlib.sha256(config.pattern_path.read_bytes()).hexdigest(),
        "script": "xplore.benchmarks.minigrid_wfc",
    }
    return WFCEnv(wfc_config=config), origin


def walls_of(env: Any) -> npt.NDArray[np.bool_]:
    """The walls `[SIDE, SIDE]`, row by row, of the level that upstream was reset to."""
    grid = grid_from_minigrid(env).reshape(env.height, env.width)
    return grid[1:-1, 1:-1] == cells.GREY_WALL


def make_bank(file: Path, preset: str, num: int, patterns: Path | None) -> None:
    """Makes a bank of at least `num` seeds, or goes on with one that has fewer.

    Raises:
        ConfigError: the picture is missing, or the bank was made by other means.
    """
    env, origin = generator(preset, patterns)
    walls = np.zeros((0, wfc_bank.SIDE, wfc_bank.SIDE), np.bool_)
    first_seed, failed = 0, []
    if file.exists():
        walls, found = wfc_bank.read(file)
        first_seed, failed = found.pop("num_seeds"), found.pop("seeds_without_level")
        if found != origin:
            raise ConfigError(f"{file} was made of {found}, which is not {origin}")
    begun, made = time.perf_counter(), list(walls)
    for seed in range(first_seed, num):
        try:
            env.reset(seed=seed)
            made.append(walls_of(env))
        except RuntimeError:  # upstream gave up, as it does where it is played
            failed.append(seed)
        done = seed + 1
        if done % _SAVE_EVERY == 0 or done == num:
            seeds = {"num_seeds": done, "seeds_without_level": failed}
            wfc_bank.write(file, np.stack(made), {**origin, **seeds})
            pace = (time.perf_counter() - begun) / (done - first_seed)
            print(f"{preset}: {done} of {num}, {pace:.2f} s each", flush=True)


def main(
    folder: tyro.conf.Positional[Path],
    presets: tuple[str, ...] = wfc_bank.PRESETS,
    num: int = 4096,
    patterns: Path | None = None,
) -> None:
    """Makes the banks of `presets` in `folder`, `num` seeds each."""
    for preset in presets:
        make_bank(wfc_bank.path(preset, folder), preset, num, patterns)


if __name__ == "__main__":
    tyro.cli(main)
