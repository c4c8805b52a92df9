"""`xplore speed`: how many steps a second an environment makes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from xplore.cli.options import StepCount, chosen, leading, parse, with_plugs
from xplore.cli.progress import short


@dataclasses.dataclass(frozen=True)
class SpeedOptions:
    """Times an environment alone: random actions, auto-reset, every observation made."""

    env: Annotated[str, tyro.conf.Positional]
    """id of the environment"""
    num_envs: StepCount = 1024
    """envs that run in parallel"""
    num_steps: StepCount = 1000
    """steps of each env in one repeat"""
    repeats: int = 5
    """how often it is timed; the median counts"""
    blind: bool = False
    """also time it without making observations"""


def speed(args: Sequence[str]) -> None:
    """`xplore speed ENV`."""
    prog = "xplore speed"
    id = leading(args, "env", prog)
    options = parse(with_plugs(SpeedOptions, {"env": id} if id else {}, args), args, prog=prog)
    from xplore.benchmarks.throughput import measure_env_speed
    from xplore.contracts.registry import make

    measured = measure_env_speed(
        make(options.env, **chosen(options, "env")),
        num_envs=options.num_envs,
        num_steps=options.num_steps,
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
