"""`xplore speed`: how many steps a second an environment makes, alone or in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from xplore.cli.options import StepCount, chosen, leading, parse, peek, with_plugs
from xplore.cli.progress import short


@dataclasses.dataclass(frozen=True)
class SpeedOptions:
    """Times an environment alone: random actions, auto-reset, every observation made.

    With `--agent` it times training instead, whole and in parts.
    """

    env: Annotated[str, tyro.conf.Positional]
    """id of the environment"""
    num_envs: StepCount = 1024
    """envs that run in parallel"""
    num_steps: StepCount = 0
    """steps of each env in one repeat; 0: 1000 alone, 128 in training"""
    repeats: int = 5
    """how often it is timed; the median counts"""
    blind: bool = False
    """also time it without making observations"""
    agent: str = ""
    """id of an agent to train"""
    bonus: str = "none"
    """id of the bonus it trains with"""
    worlds: str = "fresh"
    """id of the world sampler"""


def speed(args: Sequence[str]) -> None:
    """`xplore speed ENV`."""
    prog = "xplore speed"
    id = leading(args, "env", prog)
    ids = {"env": id} if id else {}
    if agent := peek(args, "--agent", ""):
        bonus, worlds = peek(args, "--bonus", "none"), peek(args, "--worlds", "fresh")
        ids |= {"agent": agent, "bonus": bonus, "worlds": worlds}
    options = parse(with_plugs(SpeedOptions, ids, args), args, prog=prog)
    if options.agent:
        _training(options)
    else:
        _environment(options)


def _environment(options: SpeedOptions) -> None:
    from xplore.benchmarks.throughput import measure_env_speed
    from xplore.contracts.registry import make

    measured = measure_env_speed(
        make(options.env, **chosen(options, "env")),
        num_envs=options.num_envs,
        num_steps=options.num_steps or 1000,
        repeats=options.repeats,
        blind=options.blind,
    )
    each = measured.steps_per_second_of_repeats
    print(f"{options.env}: {measured.num_envs:,} envs, {measured.num_steps:,} steps each")
    spread = f"({short(min(each))} to {short(max(each))})"
    print(f"  steps/s      {short(measured.steps_per_second)}  {spread}")
    if measured.blind_steps_per_second is not None:
        print(f"  without obs  {short(measured.blind_steps_per_second)}")
    print(f"  compile      {measured.compile_seconds:.2f} s")
    print(f"  state        {measured.state_bytes} bytes an env, observation {measured.obs_bytes}")
    print(f"  episodes     {measured.episodes:,} in one repeat")


def _training(options: SpeedOptions) -> None:
    from xplore.benchmarks.training import measure_training_speed
    from xplore.contracts import registry
    from xplore.loop.config import Config

    num_steps = options.num_steps or 128
    config = Config(
        env=registry.make(options.env, **chosen(options, "env")),
        agent=registry.make_agent(options.agent, **chosen(options, "agent")),
        bonus=registry.make_bonus(options.bonus, **chosen(options, "bonus")),
        worlds=registry.make_world_sampler(options.worlds, **chosen(options, "worlds")),
        budget_steps=options.num_envs * num_steps,
        num_envs=options.num_envs,
        num_steps=num_steps,
    )
    found = measure_training_speed(config, repeats=options.repeats)
    title = f"{options.env}, {options.agent}, {options.bonus}"
    print(f"{title}: {options.num_envs:,} envs, {num_steps:,} steps an update")
    print(f"  steps/s      {short(found.steps_per_second)}  with learning")
    print(f"  update       {found.update_seconds:.3f} s, of which alone")
    for part in ("env", "act", "bonus", "learn"):
        print(f"    {part:<10} {getattr(found, f'{part}_seconds'):.3f} s")
    print(f"  compile      {found.compile_seconds:.2f} s")
