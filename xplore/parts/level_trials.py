"""Levels tried out by playing them, without learning, and what they turn out to be worth."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from xplore.contracts.errors import ConfigError
from xplore.contracts.types import Agent, Environment, Key, LevelBatch, PyTree
from xplore.parts.level_scores import (
    LevelScore,
    Tally,
    add_rollout,
    empty_tally,
    scored,
    step_scores,
)
from xplore.parts.play import play


def trial_steps(sampler: str, env: Environment, num_steps: int, episodes: int) -> int:
    """`num_steps`, or where that is 0 what surely holds so many episodes.

    Raises:
        ConfigError: the environment has no time limit and no number is given.
    """
    limit = env.spec().max_steps
    if num_steps < 0 or (num_steps == 0 and limit < 1):
        raise ConfigError(
            f"{sampler}: scoring_steps is {num_steps}, and {env.spec().name} has no time limit to"
            " go by: give scoring_steps, the steps that a level is tried for"
        )
    return num_steps or episodes * limit


def try_levels(
    key: Key,
    env: Environment,
    agent: Agent,
    agent_state: PyTree,
    batch: LevelBatch,
    num_steps: int,
    *,
    sampler: str,
    score: LevelScore,
    discount: Any,
    trace: Any,
) -> tuple[jax.Array, Tally]:
    """Scores `[M]` of the levels of `batch`, -inf where no episode ended, and what they rest on."""
    traj = play(key, env, agent, agent_state, batch, num_steps)
    steps = step_scores(sampler, score, traj, discount, trace)
    num = batch.level_id.shape[0]
    slot = jnp.broadcast_to(jnp.arange(num, dtype=jnp.int32), steps.shape)
    tally, _, finished = add_rollout(empty_tally(num), slot, traj, steps)
    return jnp.where(finished, scored(score, tally), -jnp.inf), tally
