"""Playing levels with an agent that does not learn from them: how a world sampler tries levels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from xplore.contracts.types import (
    Agent,
    Environment,
    Key,
    LevelBatch,
    PyTree,
    SeesReward,
    Simulates,
    Trajectory,
)


def choose(
    agent: Agent,
    key: Key,
    agent_state: PyTree,
    carry: PyTree,
    obs: PyTree,
    first: jax.Array,
    env: Environment,
    env_state: PyTree,
) -> tuple[PyTree, PyTree, PyTree]:
    """What `Agent.act` returns, of an agent that is given the environment if it simulates."""
    if isinstance(agent, Simulates):
        return agent.act_in(key, agent_state, carry, obs, first, env, env_state)
    return agent.act(key, agent_state, carry, obs, first)


def tell_reward(agent: Agent, carry: PyTree, reward: jax.Array) -> PyTree:
    """The carry after a step that earned `reward` `[N]`, of an agent that wants to know."""
    return agent.see_reward(carry, reward) if isinstance(agent, SeesReward) else carry


def select(mask: jax.Array, a: PyTree, b: PyTree) -> PyTree:
    """`where(mask, a, b)` over pytrees with leading axis N; `mask` is `[N]`."""
    return jax.tree.map(
        lambda x, y: jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, y), a, b
    )


def play(
    key: Key,
    env: Environment,
    agent: Agent,
    agent_state: PyTree,
    batch: LevelBatch,
    num_steps: int,
) -> Trajectory:
    """Plays each of the M levels of `batch` for `num_steps` steps, again whenever an episode ends.

    Nothing is remembered from level to level, and nothing learns.

    Args:
        key: consumed.
        env: stepped under `vmap`.
        agent: acts as it is.
        agent_state: does not change.
        batch: levels `[M, ...]`.
        num_steps: T.

    Returns:
        A trajectory `[T, M, ...]`, without privileged information; what of it is not used, such as
        the observations, is not computed.
    """
    num = batch.level_id.shape[0]
    key_reset, key_act, key_env = jax.random.split(key, 3)
    start = jax.vmap(env.reset_to_level)(jax.random.split(key_reset, num), batch.levels)
    stochastic = env.spec().stochastic
    carry = agent.initial_carry(num)

    def one_step(
        loop: tuple[PyTree, PyTree, PyTree, jax.Array], keys: tuple[Key, Key | None]
    ) -> tuple[tuple[PyTree, PyTree, PyTree, jax.Array], Trajectory]:
        memory, state, obs, first = loop
        key_act, key_step = keys
        memory, action, extras = choose(agent, key_act, agent_state, memory, obs, first, env, state)
        if key_step is None:
            state, ts = jax.vmap(env.step, (None, 0, 0))(key_env, state, action)
        else:
            state, ts = jax.vmap(env.step)(jax.random.split(key_step, num), state, action)
        memory = tell_reward(agent, memory, ts.reward)
        ended = ts.terminated | ts.truncated
        step = Trajectory(
            obs=obs,
            action=action,
            reward=ts.reward,
            next_obs=ts.obs,
            terminated=ts.terminated,
            truncated=ts.truncated,
            first=first,
            level_id=batch.level_id,
            info=ts.info,
            privileged={},
            next_privileged={},
            extras=extras,
            carry=(),
        )
        return (memory, *select(ended, start, (state, ts.obs)), ended), step

    act_keys = jax.random.split(key_act, num_steps)
    step_keys = jax.random.split(key_env, num_steps) if stochastic else None
    loop = (carry, *start, jnp.ones(num, bool))
    _, traj = jax.lax.scan(one_step, loop, (act_keys, step_keys), num_steps)
    return traj._replace(carry=carry)
