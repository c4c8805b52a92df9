"""Evaluation: whole episodes on a given set of levels, without bonus and without learning."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.errors import ConfigError
from xplore.contracts.types import Agent, Environment, Key, PyTree
from xplore.loop.train import Result
from xplore.parts.levels import levels_from_ids
from xplore.parts.play import choose, select, tell_reward


class Evaluation(NamedTuple):
    """One number per level and episode, `[L, E]` (`[S, L, E]` over seeds): float32, int32, bool."""

    returns: jax.Array
    lengths: jax.Array
    success: jax.Array


_Episodes = tuple[jax.Array, Key, PyTree, PyTree, PyTree, jax.Array, Evaluation]


def evaluate(
    env: Environment,
    agent: Agent,
    agent_state: PyTree,
    level_ids: jax.Array,
    *,
    key: Key,
    episodes_per_level: int = 1,
    max_steps: int | None = None,
) -> Evaluation:
    """Plays `episodes_per_level` episodes on each of `level_ids` (uint32 `[L]`), to their end.

    Pure: may be jitted, and vmapped over `agent_state`. Give `agent.greedy()` to evaluate without
    the noise the agent acts with. All episodes run side by side until the last has ended.

    Args:
        env: plays; its own time limit holds.
        agent: acts as it is.
        agent_state: what it has learned.
        level_ids: `parts.levels.held_out_ids` gives ids no training meets.
        key: consumed.
        episodes_per_level: E.
        max_steps: episodes are cut here; by default the environment's own limit.

    Raises:
        ConfigError: the environment has no limit and none is given.
    """
    limit = max_steps or env.spec().max_steps
    if limit < 1:
        raise ConfigError(f"{env.spec().name} has no time limit: give evaluate a max_steps")
    ids = jnp.repeat(jnp.asarray(level_ids, jnp.uint32), episodes_per_level)
    num = ids.shape[0]
    batch = levels_from_ids(env, ids)
    key_reset, key = jax.random.split(key)
    state, obs = jax.vmap(env.reset_to_level)(jax.random.split(key_reset, num), batch.levels)
    zeros = jnp.zeros(num, jnp.float32)
    outcome = Evaluation(zeros, jnp.zeros(num, jnp.int32), jnp.zeros(num, bool))

    def unfinished(loop: _Episodes) -> jax.Array:
        step, _, _, _, _, alive, _ = loop
        return (step < limit) & jnp.any(alive)

    def one_step(loop: _Episodes) -> _Episodes:
        step, key, carry, state, obs, alive, outcome = loop
        key, key_act, key_env = jax.random.split(key, 3)
        first = jnp.full(num, step == 0)
        carry, action, _ = choose(agent, key_act, agent_state, carry, obs, first, env, state)
        new_state, ts = jax.vmap(env.step)(jax.random.split(key_env, num), state, action)
        carry = tell_reward(agent, carry, ts.reward)
        outcome = Evaluation(
            outcome.returns + jnp.where(alive, ts.reward, 0.0),
            outcome.lengths + alive,
            outcome.success | (alive & ts.info["success"]),
        )
        # An ended episode stays where it was: what follows its end means nothing.
        state, obs = select(alive, (new_state, ts.obs), (state, obs))
        alive = alive & ~(ts.terminated | ts.truncated)
        return step + 1, key, carry, state, obs, alive, outcome

    loop = (jnp.int32(0), key, agent.initial_carry(num), state, obs, jnp.ones(num, bool), outcome)
    outcome = jax.lax.while_loop(unfinished, one_step, loop)[-1]
    return jax.tree.map(lambda x: x.reshape(-1, episodes_per_level), outcome)


@functools.lru_cache(maxsize=32)
def _over_seeds(env: Any, agent: Any, episodes_per_level: int) -> Callable[..., Evaluation]:
    def one(state: PyTree, key: Key, ids: jax.Array) -> Evaluation:
        return evaluate(env, agent, state, ids, key=key, episodes_per_level=episodes_per_level)

    return jax.jit(jax.vmap(one, (0, 0, None)))


def evaluate_result(
    result: Result,
    level_ids: jax.Array,
    *,
    seed: int = 0,
    episodes_per_level: int = 1,
    greedy: bool = False,
) -> Evaluation:
    """Evaluates every seed of a finished run on the same levels: NumPy arrays `[S, L, E]`."""
    env: Any = result.config.env
    agent: Any = result.config.agent.greedy() if greedy else result.config.agent
    keys = jax.random.split(jax.random.key(seed), len(result.seeds))
    run = _over_seeds(env, agent, episodes_per_level)
    return jax.tree.map(np.asarray, run(result.state.agent, keys, jnp.asarray(level_ids)))
