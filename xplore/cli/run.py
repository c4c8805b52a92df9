"""`xplore run`: one method on one task."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from xplore.cli.options import PLUGS, StepCount, chosen, leading, parse, peek, with_plugs
from xplore.cli.progress import duration, shown
from xplore.contracts.errors import ConfigError

if TYPE_CHECKING:
    from xplore.benchmarks.jobs import Job

_DEFAULTS = {"agent": "ppo", "bonus": "none", "worlds": "fresh"}


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Trains one method on one task, evaluates it on held-out levels, and writes the rows.

    Stopped by Ctrl-C, SIGTERM or `kill -9`, the same command goes on from the last checkpoint. With
    an environment named, `--help` also shows the options of the plugs: `--bonus.coefficient 0.1`.
    """

    env: Annotated[str, tyro.conf.Positional]
    """id of the environment"""
    agent: str = _DEFAULTS["agent"]
    """id, or path/to/file.py:name"""
    bonus: str = _DEFAULTS["bonus"]
    """id, or path/to/file.py:name"""
    worlds: str = _DEFAULTS["worlds"]
    """id of the world sampler, or path/to/file.py:name"""
    steps: StepCount = 1_024_000
    """env steps of each seed, such as 1e6"""
    seeds: int = 1
    """how many seeds: 0 to n-1"""
    num_envs: int = 64
    """envs that run in parallel"""
    num_steps: int = 128
    """steps of each env between two updates"""
    num_levels: int = 0
    """levels supplied for each rollout; 0: as many as are likely to be needed"""
    seed_mode: Literal["vmap", "sequential"] = "vmap"
    """all seeds as one program, or one after the other in less memory"""
    eval_levels: int = 100
    """held-out levels to evaluate on; 0: no evaluation"""
    results: Path = Path("results")
    """where rows go, in the sub-folder `run`"""
    checkpoints: Path | None = None
    """where to save on the way; RESULTS/run/.checkpoints if not given"""
    checkpoint_every: float = 60.0
    """seconds between two checkpoints"""


def run(args: Sequence[str]) -> None:
    """`xplore run ENV`."""
    prog = "xplore run"
    env = leading(args, "env", prog)
    ids = {} if env is None else {"env": env}
    ids |= {kind: peek(args, f"--{kind}", id) for kind, id in _DEFAULTS.items()}
    options = parse(with_plugs(RunOptions, ids, args), args, prog=prog)
    if options.seeds < 1:
        raise ConfigError(f"--seeds is {options.seeds}: give at least 1")
    if options.eval_levels < 0:
        raise ConfigError(
            f"--eval-levels is {options.eval_levels}: give 0 for no evaluation, or more"
        )

    from xplore.benchmarks.jobs import finished_seeds, run_job

    job = _job(options)
    folder = options.results / "run"
    there = finished_seeds(folder, [job])[job.fingerprint]
    missing = [seed for seed in range(options.seeds) if seed not in there]
    started = time.monotonic()
    if missing:
        outcome = run_job(
            job,
            missing,
            folder,
            checkpoints=options.checkpoints,
            checkpoint_every_s=options.checkpoint_every,
            seed_mode=options.seed_mode,
            show_progress=show_progress,
        )
        if outcome is None:
            raise ConfigError(
                "another process is running exactly this: wait for it, or change a setting"
            )
        spent = (
            f"{duration(time.monotonic() - started)} ({outcome.compile_seconds:.1f} s to compile)"
        )
        print(f"{job.title}: {len(missing)} seeds x {options.steps:,} steps in {spent}")
        print(f"rows: {outcome.path}")
    else:
        print(f"{job.title}: these seeds are there already; nothing was run")
    print(_summary(job, folder, options.seeds))


def show_progress(job: Job) -> AbstractContextManager[Any]:
    """The live display of a job."""
    return shown(job.title)


def _job(options: Any) -> Job:
    from xplore.benchmarks.jobs import Job, sources_of
    from xplore.benchmarks.suite import spelt
    from xplore.contracts.registry import make, make_agent, make_bonus, make_world_sampler
    from xplore.loop.config import Config
    from xplore.record.rows import Labels

    given = {kind: chosen(options, kind) for kind in PLUGS}
    config = Config(
        env=make(options.env, **given["env"]),
        agent=make_agent(options.agent, **given["agent"]),
        bonus=make_bonus(options.bonus, **given["bonus"]),
        worlds=make_world_sampler(options.worlds, **given["worlds"]),
        budget_steps=options.steps,
        num_envs=options.num_envs,
        num_steps=options.num_steps,
        num_levels=options.num_levels,
    )
    labels = Labels(
        suite="run",
        task=spelt(options.env, given["env"]),
        agent=spelt(options.agent, given["agent"]),
        bonus=spelt(options.bonus, given["bonus"]),
        worlds=spelt(options.worlds, given["worlds"]),
    )
    sources = sources_of(options.env, options.agent, options.bonus, options.worlds)
    return Job(labels, config, options.eval_levels, sources)


def _summary(job: Job, folder: Path, seeds: int) -> str:
    """The last value of what matters, read back from the rows: mean, lowest and highest seed."""
    from xplore.benchmarks.jobs import finished_seeds
    from xplore.record.rows import read_rows

    done = {
        s: run for s, run in finished_seeds(folder, [job])[job.fingerprint].items() if s < seeds
    }
    rows = read_rows(
        folder, run_ids=set(done.values()), on_problem=lambda p: print(p, file=sys.stderr)
    )
    rows = rows[rows["seed"] < seeds].sort_values("env_steps")
    lines = []
    for metric in sorted(set(rows["metric"].astype(str))):
        if not metric.startswith(("episode/", "eval")) or metric == "episode/count":
            continue
        last = rows[rows["metric"] == metric].groupby("seed")["value"].last()
        low, high = float(last.min()), float(last.max())
        spread = f"  ({low:.4g} to {high:.4g} over {len(last)} seeds)" if len(last) > 1 else ""
        lines.append(f"  {metric:<32} {float(last.mean()):.4g}{spread}")
    return "\n".join(lines)
