"""Makes the banks of WFC layouts with the `minigrid` package's own generator.

`python -m xplore.benchmarks.minigrid_wfc envs/minigrid/banks --patterns PICTURES` makes, for each
preset, the layouts of seeds 0, 1, and so on; what is there already is gone on from. It needs the
package's extra `wfc`. Releases of the package up to 3.2.0 leave out the pictures that its presets
refer to: they are in its repository, in `minigrid/envs/wfc/patterns`, and PICTURES is that folder.
Without it, they are those of `minigrid_wfc_pictures`.
"""

from __future__ import annotations

import atexit
import dataclasses
import hashlib
import importlib.metadata
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tyro
from gymnasium.utils import seeding
from scipy import ndimage

from xplore.benchmarks import minigrid_wfc_pictures
from xplore.benchmarks.minigrid_wfc_faster import faster
from xplore.contracts.errors import ConfigError
from xplore.envs.minigrid import cells, wfc_bank
from xplore.envs.minigrid.upstream import grid_from_minigrid

_SAVE_EVERY: Final = 64


def generator(preset: str, patterns: Path | None) -> tuple[Any, dict[str, Any]]:
    """Upstream's environment of a preset, and what its layouts depend on beside the seed.

    It draws them the `faster` way. Without `patterns`, its picture is that of
    `minigrid_wfc_pictures`.

    Raises:
        ConfigError: `patterns` lacks the picture.
    """
    from imageio.v2 import imread, imwrite
    from minigrid.envs.wfc.config import WFC_PRESETS
    from minigrid.envs.wfc.wfcenv import WFCEnv

    class FasterWFCEnv(WFCEnv):
        def _gen_grid(self, width: int, height: int) -> None:
            with faster():
                super()._gen_grid(width, height)  # type: ignore[no-untyped-call]

    config: Any = WFC_PRESETS[preset]
    name, source = config.pattern_path.name, "the package's repository"
    if patterns is None:
        folder, source = Path(tempfile.mkdtemp()), minigrid_wfc_pictures.SOURCE
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        imwrite(folder / name, minigrid_wfc_pictures.pixels(name))
    else:
        folder = patterns
    if not (folder / name).exists():
        raise ConfigError(f"{folder / name} is missing: --patterns must name its folder")
    pixels = np.ascontiguousarray(imread(folder / name)[:, :, :3])
    origin = {
        "preset": preset,
        "package": f"minigrid {importlib.metadata.version('minigrid')}",
        "picture": name,
        "picture_from": source,
        "picture_shape": list(pixels.shape),
        "picture_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),  # of `imread`'s bytes
        "script": "xplore.benchmarks.minigrid_wfc",
    }
    return FasterWFCEnv(wfc_config=dataclasses.replace(config, pattern_path=folder / name)), origin


def walls_of(env: Any) -> npt.NDArray[np.bool_]:
    """The walls `[SIDE, SIDE]`, row by row, of the level that upstream was reset to."""
    grid = grid_from_minigrid(env).reshape(env.height, env.width)
    return grid[1:-1, 1:-1] == cells.GREY_WALL


def walls_of_seed(env: Any, seed: int) -> npt.NDArray[np.bool_]:
    """What `walls_of` is after `env.reset(seed=seed)`, without the rest of the level.

    Upstream finds the largest part that hangs together in a graph, which takes longer than all
    else where a layout is quickly found.

    Raises:
        RuntimeError: upstream finds no layout.
    """
    from minigrid.core.constants import OBJECT_TO_IDX
    from minigrid.envs.wfc.wfclogic.control import execute_wfc

    with faster():
        picture, _ = execute_wfc(
            attempt_limit=env.max_attempts,
            output_size=(wfc_bank.SIDE, wfc_bank.SIDE),
            np_random=seeding.np_random(seed)[0],
            **env.config.wfc_kwargs,
        )
    if picture is None:
        raise RuntimeError(f"no layout in {env.max_attempts} attempts")
    parts, _ = ndimage.label(env._pattern_to_minigrid_layout(picture) != OBJECT_TO_IDX["wall"])
    sizes = np.bincount(parts.ravel())[1:]
    # Of parts of one size, both take the one that comes first.
    walls: npt.NDArray[np.bool_] = parts != 1 + np.argmax(sizes)
    return walls.T


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
            made.append(walls_of_seed(env, seed))
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
    num: int = 2304,
    patterns: Path | None = None,
) -> None:
    """Makes the banks of `presets` in `folder`, `num` seeds each."""
    for preset in presets:
        make_bank(wfc_bank.path(preset, folder), preset, num, patterns)


if __name__ == "__main__":
    tyro.cli(main)
