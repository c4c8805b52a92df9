"""`xplore watch`: a film of one episode."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from xplore.cli.options import StepCount, chosen, leading, parse, peek, with_plugs
from xplore.cli.progress import shown
from xplore.contracts.errors import ConfigError

_DEFAULTS = {"agent": "random", "bonus": "none", "worlds": "fresh"}
_MOST = 1 << 31  # levels are counted in 31 bits


@dataclasses.dataclass(frozen=True)
class WatchOptions:
    """Films one episode of a MiniGrid task: a GIF of the whole grid, what the agent sees lit up.

    With `--steps` the agent is trained first, as `xplore run` would; the policy is not kept unless
    `--checkpoints` names a folder, from which the same command with another level, or another name
    for the film, takes it again without training.
    """

    env: Annotated[str, tyro.conf.Positional]
    """id of the environment"""
    out: Path = Path("episode.gif")
    """the film; a file of that name is replaced"""
    level: int = 0
    """number of the level, as in `xplore play`"""
    seed: int = 0
    """of training, and of what the agent draws in the episode"""
    tile_size: int = 32
    """pixels of a side of a cell, 3 to 64"""
    frame_rate: int = 8
    """steps in a second, 1 to 50"""
    max_steps: int = 500
    """the film is cut after as many steps"""
    agent: str = _DEFAULTS["agent"]
    """id of who acts, or path/to/file.py:name"""
    greedy: bool = False
    """act as the agent thinks best, without noise"""
    steps: StepCount = 0
    """env steps to train for, such as 5e5; 0: the agent acts untrained"""
    bonus: str = _DEFAULTS["bonus"]
    """id of the bonus it trains with, or path/to/file.py:name"""
    worlds: str = _DEFAULTS["worlds"]
    """id of the world sampler it trains with, or path/to/file.py:name"""
    num_envs: int = 64
    """envs that run in parallel in training"""
    num_steps: int = 128
    """steps of each env between two updates"""
    checkpoints: Path | None = None
    """where to keep the trained policy, and to take it from if it is there"""


def watch(args: Sequence[str]) -> None:
    """`xplore watch ENV`."""
    prog = "xplore watch"
    env = leading(args, "env", prog)
    ids = {} if env is None else {"env": env}
    ids |= {kind: peek(args, f"--{kind}", id) for kind, id in _DEFAULTS.items()}
    options: Any = parse(with_plugs(WatchOptions, ids, args), args, prog=prog)
    for name in ("level", "seed"):
        if not 0 <= getattr(options, name) < _MOST:
            raise ConfigError(
                f"--{name} is {getattr(options, name)}: it must be 0 to {_MOST - 1:,}"
            )
    if options.steps < 0:
        raise ConfigError(f"--steps is {options.steps}: give 0 to film the agent untrained")
    if not options.steps:
        for name, default in (("bonus", "none"), ("worlds", "fresh"), ("checkpoints", None)):
            if getattr(options, name) != default:
                raise ConfigError(f"--{name} is for training: give --steps too, such as 5e5")
    _film(options)


def _film(options: Any) -> None:
    import jax

    from xplore.contracts.registry import make, make_agent
    from xplore.film import check_film, film
    from xplore.parts.levels import train_ids

    env = make(options.env, **chosen(options, "env"))
    agent = make_agent(options.agent, **chosen(options, "agent"))
    check_film(env, options.out, options.max_steps, options.tile_size, options.frame_rate)
    state = (_trained if options.steps else _untrained)(options, env, agent)
    episode = film(
        env,
        agent.greedy() if options.greedy else agent,
        state,
        train_ids(0, jax.numpy.uint32(options.level)),
        options.out,
        key=jax.random.key(options.seed),
        max_steps=options.max_steps,
        tile_size=options.tile_size,
        frame_rate=options.frame_rate,
    )
    end = "success" if episode.success else "no success" if episode.ended else "cut"
    trained = f"after {options.steps:,} steps" if options.steps else "untrained"
    print(f"{options.env}, level {options.level}: {options.agent}, {trained}")
    print(f"  {int(episode.length)} steps, return {float(episode.total):.4g}, {end}")
    print(f"film: {options.out}")


def _untrained(options: Any, env: Any, agent: Any) -> Any:
    import jax

    from xplore.contracts.types import RunSpec

    spec = RunSpec(env.spec(), options.num_envs, options.num_steps)
    return agent.init(jax.random.key(options.seed), spec)


def _trained(options: Any, env: Any, agent: Any) -> Any:
    import jax

    from xplore.contracts.registry import make_bonus, make_world_sampler
    from xplore.loop.config import Config
    from xplore.loop.train import train

    config = Config(
        env=env,
        agent=agent,
        bonus=make_bonus(options.bonus, **chosen(options, "bonus")),
        worlds=make_world_sampler(options.worlds, **chosen(options, "worlds")),
        budget_steps=options.steps,
        num_envs=options.num_envs,
        num_steps=options.num_steps,
    )
    with shown(f"{options.env} {options.agent}+{options.bonus}") as on_progress:
        result = train(
            config,
            seeds=[options.seed],
            checkpoint_dir=options.checkpoints,
            on_progress=on_progress,
        )
    return jax.tree.map(lambda x: x[0], result.state.agent)
