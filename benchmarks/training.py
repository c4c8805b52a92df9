"""How fast training is, and where the time goes: env, act, bonus, learn."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from xplore.contracts.types import Key, LevelBatch, PyTree, Trajectory
from xplore.loop import rollout as ro
from xplore.loop.config import Config
from xplore.loop.update import TrainState, checked_reads, make_train


class TrainingSpeed(NamedTuple):
    """What `measure_training_speed` found, medians over the repeats.

    Attributes:
        steps_per_second: env steps per second of whole updates, learning included.
        update_seconds: of one update.
        env_seconds: of its rollout with actions that cost nothing, auto-reset and levels included.
        act_seconds: what choosing the actions adds to that.
        bonus_seconds, learn_seconds: of scoring and learning by the bonus; of the agent's update.
        compile_seconds: of one update.
        load: processes that wanted to run in the last minute, ours among them.
    """

    steps_per_second: float
    update_seconds: float
    env_seconds: float
    act_seconds: float
    bonus_seconds: float
    learn_seconds: float
    compile_seconds: float
    load: float


class _Free:
    """Acts at random for the price of reading what was drawn before the rollout."""

    def __init__(self, agent: Any, actions: PyTree) -> None:
        self.greedy, self._actions = agent.greedy, actions

    def act(
        self, key: Key, state: PyTree, carry: jax.Array, obs: PyTree, first: jax.Array
    ) -> tuple[jax.Array, PyTree, PyTree]:
        return carry + 1, jax.tree.map(lambda a: a[carry], self._actions), ()


def measure_training_speed(config: Config, *, repeats: int = 5) -> TrainingSpeed:
    """Times updates of one seed of `config`, whole and in parts, after a warm-up of three.

    The parts are programs of their own on the data of a real update; their sum may differ from the
    whole, within which the compiler overlaps them.
    """
    pure = make_train(config)
    state = jax.jit(pure.init)(jax.random.key(0))
    begun = time.perf_counter()
    update = jax.jit(pure.update).lower(state).compile()
    compile_seconds = time.perf_counter() - begun
    for _ in range(3):
        state, _ = jax.block_until_ready(update(state))
    whole = _median(update, (state,), repeats)

    _, traj = jax.jit(lambda s: _collect(config, s))(state)
    rollout = _median(jax.jit(lambda s: _collect(config, s)), (state,), repeats)
    actions = traj.action
    free = _median(jax.jit(lambda s, a: _collect(config, s, a)), (state, actions), repeats)
    _, r_int = jax.jit(config.bonus.reward)(state.bonus, traj)

    def score(bonus: PyTree, traj: Trajectory) -> PyTree:
        bonus, r_int = config.bonus.reward(bonus, traj)
        return config.bonus.update(jax.random.key(0), bonus, traj), r_int

    def learn(agent: PyTree, traj: Trajectory, r_int: jax.Array) -> PyTree:
        return config.agent.update(jax.random.key(0), agent, traj, r_int)

    return TrainingSpeed(
        steps_per_second=config.steps_per_update / whole,
        update_seconds=whole,
        env_seconds=free,
        act_seconds=max(rollout - free, 0.0),
        bonus_seconds=_median(jax.jit(score), (state.bonus, traj), repeats),
        learn_seconds=_median(jax.jit(learn), (state.agent, traj, r_int), repeats),
        compile_seconds=compile_seconds,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan,
    )


def _collect(
    config: Config, state: TrainState, actions: PyTree | None = None
) -> tuple[LevelBatch, Trajectory]:
    key_levels, key_start, key_rollout = jax.random.split(state.key, 3)
    reads = checked_reads(config.bonus, config.env.spec(), config.worlds)
    num_levels = config.levels_per_rollout
    _, batch = config.worlds.sample(key_levels, state.worlds, config.env, num_levels)
    starts = ro.start(config.env, reads, key_start, batch)
    agent: Any = config.agent if actions is None else _Free(config.agent, actions)
    carry = state.carry if actions is None else jnp.int32(0)
    _, _, traj, _ = ro.rollout(
        key_rollout, config.env, agent, reads, state.agent, carry, state.lanes, starts,
        config.num_steps,
    )  # fmt: skip
    return batch, traj


def _median(fn: Callable[..., Any], args: tuple[Any, ...], repeats: int) -> float:
    jax.block_until_ready(fn(*args))
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready(fn(*args))
        times.append(time.perf_counter() - begun)
    return statistics.median(times)
