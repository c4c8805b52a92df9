"""Training: the host loop over jitted chunks of updates."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.types import PyTree
from xplore.loop.config import Config
from xplore.loop.programs import (
    MAX_CHUNK,
    check_memory,
    compiled,
    flops_per_update,
    metric_names,
    seed_keys,
    state_shapes,
)
from xplore.loop.session import Interrupted, Progress, ProgressCallback, Session, SignalGuard
from xplore.loop.update import TrainState

SeedMode = Literal["vmap", "sequential"]
# A chunk lasts about this long: progress, checkpoints and signals are served between chunks.
_CHUNK_SECONDS = 1.0


class Result(NamedTuple):
    """What a run leaves behind.

    Attributes:
        config: what was run.
        seeds: the S seeds.
        env_steps: int64 `[U]`, env steps per seed after each update.
        metrics: name -> float32 `[S, U]`.
        state: the final `TrainState`, leaves with a leading axis S.
        compile_seconds, run_seconds: of this process; a resumed run counts its last part.
        flops_per_update: floating-point operations of one full update of one seed.
    """

    config: Config
    seeds: tuple[int, ...]
    env_steps: np.ndarray
    metrics: dict[str, np.ndarray]
    state: TrainState
    compile_seconds: float
    run_seconds: float
    flops_per_update: float


def train(
    config: Config,
    *,
    seeds: int | Sequence[int] = 1,
    seed_mode: SeedMode = "vmap",
    checkpoint_dir: str | Path | None = None,
    checkpoint_every_s: float = 60.0,
    on_progress: ProgressCallback | None = None,
    agent_state: PyTree = None,
) -> Result:
    """Trains every seed for exactly `config.budget_steps` env steps.

    Args:
        config: the plugs, the budget and the sizes.
        seeds: how many (0 to n-1), or which.
        seed_mode: "vmap" runs all seeds as one program; "sequential" one after the other, in less
            memory (its numbers may differ in the last bits).
        checkpoint_dir: where to save, and from where to go on if something is there.
        checkpoint_every_s: seconds between checkpoints; the last update is always saved.
        on_progress: called after every chunk of updates.
        agent_state: what the agents of the seeds start from, leaves `[S, ...]`, such as states that
            were fitted to a dataset; by default they know nothing. A checkpoint goes before it.

    Raises:
        ConfigError: the plugs or numbers do not fit each other, or would not fit in memory.
        DivergedError: a loss became NaN or infinite; the last good checkpoint is kept.
        CheckpointError: the checkpoint there belongs to another run.
        Interrupted: Ctrl-C or SIGTERM came; a checkpoint was saved first.
    """
    chosen = _seed_tuple(seeds)
    if seed_mode not in ("vmap", "sequential"):
        raise ConfigError(f"seed_mode is {seed_mode!r}: use 'vmap' or 'sequential'")
    folder = None if checkpoint_dir is None else Path(checkpoint_dir)
    if agent_state is not None:
        _check_agent_state(agent_state, state_shapes(config, len(chosen)).agent)
    if seed_mode == "vmap":
        return _train_group(config, chosen, folder, checkpoint_every_s, on_progress, agent_state)
    results = []
    for i, seed in enumerate(chosen):
        results.append(
            _train_group(
                config,
                (seed,),
                None if folder is None else folder / f"seed-{seed}",
                checkpoint_every_s,
                _averaged(on_progress, i, len(chosen)),
                jax.tree.map(lambda x, i=i: x[i : i + 1], agent_state),
            )
        )
    return _join(results)


def _check_agent_state(given: PyTree, wanted: PyTree) -> None:
    """Raises a ConfigError unless these are states of the run's agent, one for each seed."""
    structures: list[Any] = [jax.tree.structure(x) for x in (given, wanted)]
    if structures[0] != structures[1]:
        raise ConfigError(
            "agent_state is of another agent, or of one with other options or spaces than the"
            " config's: make it with config.agent.init and config.run_spec()"
        )
    for x, y in zip(jax.tree.leaves(given), jax.tree.leaves(wanted), strict=True):
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            raise ConfigError(
                f"agent_state has a leaf {x.dtype}{list(x.shape)} in place of"
                f" {y.dtype}{list(y.shape)}: leaves are [S, ...] over seeds, of the config's sizes"
            )


def _train_group(
    config: Config,
    seeds: tuple[int, ...],
    folder: Path | None,
    every_s: float,
    on_progress: ProgressCallback | None,
    agent_state: PyTree,
) -> Result:
    check_memory(config, len(seeds))
    session = Session(config, seeds, metric_names(config), folder, every_s)
    state = session.restore(state_shapes(config, len(seeds)))
    compile_seconds = 0.0
    with SignalGuard() as guard:
        for part, until in _parts(config):
            if session.update >= until:
                continue
            programs = compiled(part, len(seeds))
            compile_seconds += programs.compile_seconds
            if state is None:
                state = programs.init(seed_keys(seeds))
                if agent_state is not None:
                    # A copy: the loop takes over the buffers of its state.
                    state = state._replace(agent=jax.tree.map(jnp.array, agent_state))
            length = 1
            while session.update < until:
                length = max(1, min(length, until - session.update, MAX_CHUNK))
                started = time.perf_counter()
                state, metrics = programs.chunk(state, jnp.int32(length))
                history = {name: np.asarray(value)[:length] for name, value in metrics.items()}
                seconds = time.perf_counter() - started
                session.record(history, seconds)
                if on_progress is not None:
                    on_progress(session.progress())
                # Read once: a signal that comes while saving is served after the next chunk.
                stopped_by = guard.received
                done = session.update == config.num_updates
                session.save(state, force=done or stopped_by is not None)
                if stopped_by is not None:
                    raise Interrupted(_how_to_go_on(folder), stopped_by)
                # Grow gently: the first chunk also pays for warming up.
                length = int(length * min(4.0, _CHUNK_SECONDS / max(seconds, 1e-3)))
    assert state is not None
    return Result(
        config=config,
        seeds=seeds,
        env_steps=session.env_steps,
        metrics=session.metrics,
        state=state,
        compile_seconds=compile_seconds,
        run_seconds=session.run_seconds,
        flops_per_update=flops_per_update(config),
    )


def _parts(config: Config) -> list[tuple[Config, int]]:
    """Full updates, then a shorter one for what is left; with the update count each runs until."""
    rest = config.budget_steps % config.steps_per_update // config.num_envs
    if rest == 0:
        return [(config, config.num_updates)]
    short = replace(
        config,
        num_steps=rest,
        # The levels of a rollout stay as many as in a full one.
        num_levels=config.levels_per_rollout,
    )
    return [(config, config.num_updates - 1), (short, config.num_updates)]


def _seed_tuple(seeds: int | Sequence[int]) -> tuple[int, ...]:
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(s) for s in seeds)
    if not chosen or len(set(chosen)) != len(chosen) or min(chosen) < 0:
        raise ConfigError(f"seeds is {seeds}: give at least one seed, none below 0, each once")
    return chosen


def _how_to_go_on(folder: Path | None) -> str:
    if folder is None:
        return "interrupted; nothing was saved, as no checkpoint folder was given"
    return f"interrupted; saved in {folder}: run the same command again to go on"


def _averaged(
    on_progress: ProgressCallback | None, index: int, num_groups: int
) -> ProgressCallback | None:
    """Progress of one seed of several in turn, as progress of all."""
    if on_progress is None:
        return None

    def report(progress: Progress) -> None:
        whole = index * progress.budget_steps + progress.env_steps
        left = num_groups * progress.budget_steps - whole
        on_progress(
            progress._replace(
                env_steps=whole // num_groups,
                update=(index * progress.num_updates + progress.update) // num_groups,
                seconds_left=left / progress.steps_per_second,
            )
        )

    return report


def _join(results: list[Result]) -> Result:
    first = results[0]
    return first._replace(
        seeds=tuple(s for r in results for s in r.seeds),
        metrics={n: np.concatenate([r.metrics[n] for r in results]) for n in first.metrics},
        state=jax.tree.map(lambda *x: jnp.concatenate(x), *[r.state for r in results]),
        compile_seconds=sum(r.compile_seconds for r in results),
        run_seconds=sum(r.run_seconds for r in results),
    )
