"""`xplore worlds sample`: what the levels of a family look like, on one sheet."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import tyro

from xplore.cli.options import parse
from xplore.contracts.errors import ConfigError, did_you_mean
from xplore.contracts.types import WorldFamily

_PIXELS, _MARGIN, _CAPTION = 120, 6, 14
_ACTIONS = ("sample",)


@dataclasses.dataclass(frozen=True)
class SampleOptions:
    """Draws levels of a family side by side, each with its id and its fewest steps to success."""

    spec: Annotated[str, tyro.conf.Positional]
    """a file of TOML, or the id of a family"""
    num: int = 24
    """how many levels"""
    seed: int = 0
    """of the list of ids, as a world sampler's"""
    held_out: bool = False
    """levels that are for tests"""
    out: Path = Path("levels.png")
    """the picture; a file of that name is replaced"""


def worlds(args: Sequence[str]) -> None:
    """`xplore worlds sample SPEC`."""
    if not args or args[0] not in (*_ACTIONS, "--help", "-h"):
        what = (
            f"unknown action {args[0]!r}{did_you_mean(args[0], _ACTIONS)}" if args else "no action"
        )
        raise ConfigError(f"{what}: `xplore worlds sample SPEC`")
    options = parse(
        SampleOptions, args[1:] if args[0] in _ACTIONS else args, prog="xplore worlds sample"
    )
    if options.num < 1:
        raise ConfigError(f"--num is {options.num}: at least 1 level is needed")
    if options.out.suffix != ".png":
        raise ConfigError(f"--out is {options.out}: its name must end in .png")
    _sheet(options)


def _family(spec: str) -> WorldFamily:
    from xplore.contracts.registry import make
    from xplore.envs.families.spec import family

    made = make(spec)
    return made if isinstance(made, WorldFamily) else family({"env": spec})


def _sheet(options: SampleOptions) -> None:
    import jax
    import jax.numpy as jnp
    from PIL import Image, ImageDraw

    from xplore.parts.levels import held_out_ids, levels_from_ids, train_ids

    env = _family(options.spec)
    ids = train_ids(options.seed, jnp.arange(options.num))
    if options.held_out:
        ids = held_out_ids(options.seed, options.num)
    batch = jax.jit(lambda ids: levels_from_ids(env, ids).levels)(ids)
    steps = np.asarray(jax.jit(jax.vmap(env.optimal_steps))(batch))
    pictures = np.asarray(jax.jit(jax.vmap(lambda x: _picture(env, x)))(batch))
    columns = math.ceil(math.sqrt(options.num))
    rows = math.ceil(options.num / columns)
    across, down = _PIXELS + _MARGIN, _PIXELS + _MARGIN + _CAPTION
    sheet = Image.new("RGB", (columns * across + _MARGIN, rows * down + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (id, num_steps) in enumerate(zip(np.asarray(ids), steps, strict=True)):
        left, top = _MARGIN + i % columns * across, _MARGIN + i // columns * down
        sheet.paste(_fitted(pictures[i]), (left, top))
        way = f"{num_steps} steps" if num_steps >= 0 else "no way"
        draw.text((left, top + _PIXELS + 1), f"{id:08x}  {way}", fill="black")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out)
    solvable = float(np.mean(steps >= 0))
    median = int(np.median(steps[steps >= 0])) if solvable else -1
    print(f"{options.out}: {options.num} levels of {env.spec().name}")
    print(f"  solvable {solvable:.0%}, median of the fewest steps {median}")


def _picture(env: Any, level: Any) -> Any:
    """A level from above: uint8 `[height, width, 3]`."""
    import jax

    from xplore.contracts.component import replace
    from xplore.envs.families.varied import Varied
    from xplore.envs.families.world import GridFamily
    from xplore.envs.minigrid import render

    if isinstance(env, Varied):
        return _picture(env.env, level)
    key = jax.random.key(0)
    if isinstance(env, GridFamily):
        state = env.reset_to_level(key, level)[0]
        shape = env.task.width, env.task.height
        tile = max(3, _PIXELS // max(shape))
        return render.picture(shape, state, tile, highlight=False)
    return replace(env, look="rgb").reset_to_level(key, level)[1]


def _fitted(picture: npt.NDArray[np.uint8]) -> Any:
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((_PIXELS, _PIXELS))
    framed = Image.new("RGB", (_PIXELS, _PIXELS), "black")
    framed.paste(image, ((_PIXELS - image.width) // 2, (_PIXELS - image.height) // 2))
    return framed
