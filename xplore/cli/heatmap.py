"""`xplore heatmap`: where a run goes and what bonuses pay there, side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from xplore.cli.options import StepCount, chosen, leading, parse, peek, with_plugs
from xplore.contracts.errors import ConfigError

_TRACE_TILES = 12  # pixels of a side of a cell


@dataclasses.dataclass(frozen=True)
class HeatmapOptions:
    """Draws visits and mean bonus per cell over training, one pair of rows for each bonus.

    Every bonus trains the same agent on the same level from the same seed. `--gif` makes a film of
    it, `--trace` shows an episode of the first agent that is paid a bonus, and what its steps were.
    """

    env: Annotated[str, tyro.conf.Positional]
    """id of the environment, a grid task"""
    bonuses: tuple[str, ...] = ("none", "count", "rnd")
    """ids of the bonuses to compare, or path/to/file.py:name"""
    steps: StepCount = 204_800
    """env steps of each run, such as 2e5"""
    slices: int = 5
    """parts of the run that are drawn"""
    level: int = 0
    """number of the level, as in `xplore play`"""
    fresh: bool = False
    """draw a new level for every episode instead"""
    agent: str = "ppo"
    """id of who acts and learns, or path/to/file.py:name"""
    seed: int = 0
    """of the runs"""
    num_envs: int = 64
    """envs that run in parallel"""
    num_steps: int = 128
    """steps of each env between two updates"""
    out: Path = Path("heatmap.png")
    """the picture; a file of that name is replaced"""
    gif: Path | None = None
    """a film of the slices as well"""
    trace: Path | None = None
    """a picture of one episode and what it was paid as well"""


def heatmap(args: Sequence[str]) -> None:
    """`xplore heatmap ENV`."""
    prog = "xplore heatmap"
    env = leading(args, "env", prog)
    ids = {} if env is None else {"env": env}
    ids |= {"agent": peek(args, "--agent", "ppo")}
    options: Any = parse(with_plugs(HeatmapOptions, ids, args), args, prog=prog)
    if not options.bonuses:
        raise ConfigError("--bonuses names none: give at least one, such as count")
    _draw(options)


def _draw(options: Any) -> None:
    from xplore.contracts.registry import make, make_agent, make_bonus
    from xplore.film import drawable
    from xplore.heatmap import grid_shape, heat_path, measure_heat
    from xplore.loop.config import Config
    from xplore.record.maps import heat_figure, save_figure, save_film

    out = heat_path(options.out, ".png")
    gif = None if options.gif is None else heat_path(options.gif, ".gif")
    trace = None if options.trace is None else heat_path(options.trace, ".png")
    env = make(options.env, **chosen(options, "env"))
    grid_shape(env)
    if trace is not None:
        drawable(env, _TRACE_TILES)
    maps, states, configs = {}, {}, {}
    ends: tuple[int, ...] = ()
    for id in options.bonuses:
        config = Config(
            env=env,
            agent=make_agent(options.agent, **chosen(options, "agent")),
            bonus=make_bonus(id),
            worlds=_worlds(options),
            budget_steps=options.steps,
            num_envs=options.num_envs,
            num_steps=options.num_steps,
        )
        heat, states[id] = measure_heat(config, seed=options.seed, num_slices=options.slices)
        maps[id], configs[id], ends = (heat.visits, heat.paid), config, heat.env_steps
        seen = int((heat.visits.sum(axis=0) > 0).sum())
        print(f"{id}: {seen} of {heat.visits[0].size} cells entered")
    walls = None if options.fresh else _walls(env, options.level)
    title = f"{options.env}, {options.agent}"
    save_figure(heat_figure(maps, ends, walls, title), out)
    print(f"picture: {out}")
    if gif is not None:
        slices = range(options.slices)
        figures = [heat_figure(maps, ends, walls, title, (k,)) for k in slices]
        save_film(figures, gif)
        print(f"film: {gif}")
    if trace is not None:
        first = next((id for id in options.bonuses if id != "none"), options.bonuses[0])
        _trace(options, configs[first], states[first], first, trace)
        print(f"trace: {trace}")


def _worlds(options: Any) -> Any:
    from xplore.contracts.registry import make_world_sampler
    from xplore.heatmap import OneLevel

    return make_world_sampler("fresh") if options.fresh else OneLevel(options.level)


def _walls(env: Any, level: int) -> Any:
    import numpy as np
    from jax import numpy as jnp

    from xplore.envs.minigrid import cells
    from xplore.heatmap import grid_shape, minigrid_within
    from xplore.parts.levels import level_from_id, train_ids

    grid = minigrid_within(env)
    if grid is None:
        return None
    drawn = level_from_id(grid, train_ids(0, jnp.uint32(level))).grid
    return np.asarray(cells.is_kind(drawn, cells.WALL)).reshape(grid_shape(env))


def _trace(options: Any, config: Any, state: Any, label: str, path: Path) -> None:
    import jax
    import numpy as np

    from xplore.film import pictures
    from xplore.heatmap import trace_episode
    from xplore.record.maps import save_figure, trace_figure

    told = trace_episode(config, state, level=options.level, seed=options.seed)
    length = len(told.r_int)
    steps = np.unique(np.linspace(0, length, 9).round().astype(int))
    states = jax.tree.map(lambda x: x[steps], told.states)
    frames = list(pictures(config.env, states, _TRACE_TILES))
    lines = {f"{label} (intrinsic)": told.r_int, "reward (extrinsic)": told.reward}
    title = f"{options.env}, level {options.level}, after {options.steps:,} steps"
    save_figure(trace_figure(frames, steps.tolist(), lines, title), path)
