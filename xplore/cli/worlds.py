"""`xplore worlds sample`: what the levels of a family look like, on one sheet."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

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
    search: bool = False
    """where the fewest steps are a bound, search for a shortest plan of each level"""
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
    ways = _ways(env, batch, options.search)
    pictures = np.asarray(jax.jit(jax.vmap(lambda x: _picture(env, x)))(batch))
    columns = math.ceil(math.sqrt(options.num))
    rows = math.ceil(options.num / columns)
    across, down = _PIXELS + _MARGIN, _PIXELS + _MARGIN + _CAPTION
    sheet = Image.new("RGB", (columns * across + _MARGIN, rows * down + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (id, way) in enumerate(zip(np.asarray(ids), ways, strict=True)):
        left, top = _MARGIN + i % columns * across, _MARGIN + i // columns * down
        sheet.paste(_fitted(pictures[i]), (left, top))
        draw.text((left, top + _PIXELS + 1), f"{id:08x}  {way}", fill="black")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out)
    print(f"{options.out}: {options.num} levels of {env.spec().name}")
    least = np.array([way.least for way in ways])
    solvable = least >= 0
    median = int(np.median(least[solvable])) if solvable.any() else -1
    if all(way.exact for way in ways):
        print(f"  solvable {solvable.mean():.0%}, median of the fewest steps {median}")
        return
    exact = np.mean([way.exact for way in ways])
    print(f"  proven to have no way {1 - solvable.mean():.0%}, fewest steps known {exact:.0%}")
    print(f"  median of the steps that are proven to be needed {median}")


class _Way(NamedTuple):
    """The fewest steps of a level: no less than `least` (-1: there is no way), `most` if known."""

    least: int
    most: int | None

    @property
    def exact(self) -> bool:
        return self.least in (-1, self.most)

    def __str__(self) -> str:
        if self.least < 0:
            return "no way"
        if self.most is None:
            return f"{self.least}+ steps"
        return f"{self.least} steps" if self.exact else f"{self.least}-{self.most} steps"


def _ways(env: WorldFamily, levels: Any, search: bool) -> list[_Way]:
    """What is known of each of the levels, leaves `[L, ...]`."""
    import jax

    from xplore.contracts.solution import Planned
    from xplore.envs.families.varied import Varied

    steps = np.asarray(jax.jit(jax.vmap(env.optimal_steps))(levels)).tolist()
    planner = env.env if isinstance(env, Varied) else env
    if not isinstance(planner, Planned):
        return [_Way(n, n) for n in steps]
    if not search:
        return [_Way(n, None) for n in steps]
    one_by_one = (jax.tree.map(lambda x, i=i: x[i], levels) for i in range(len(steps)))
    found = [planner.shortest_plan(level) for level in one_by_one]
    return [_Way(x.least, None if x.plan is None else len(x.plan)) for x in found]


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
    from PIL import Image, ImageOps

    image = Image.fromarray(picture)
    small = max(image.size) < _PIXELS
    how = Image.Resampling.NEAREST if small else Image.Resampling.BICUBIC
    image = ImageOps.contain(image, (_PIXELS, _PIXELS), how)
    framed = Image.new("RGB", (_PIXELS, _PIXELS), "black")
    framed.paste(image, ((_PIXELS - image.width) // 2, (_PIXELS - image.height) // 2))
    return framed
