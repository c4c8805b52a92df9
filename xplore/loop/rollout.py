"""A rollout: T steps of N envs, with auto-reset into the levels that a world sampler supplied.

The initial state and observation of every supplied level are computed once, before the rollout; an
env whose episode ended takes the next one by a gather. So a step costs one observation and no level
generation, and `Trajectory.next_obs` stays the true successor.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from xplore.contracts.types import (
    Agent,
    Environment,
    Key,
    LevelBatch,
    Metrics,
    PyTree,
    Trajectory,
)
from xplore.parts.play import choose, select, tell_reward
from xplore.parts.ranks import running_count


class Lanes(NamedTuple):
    """Where the N envs stand between two rollouts; leaves are `[N, ...]`.

    Attributes:
        state: env states.
        obs: their observations.
        privileged: the parts of `Environment.privileged(state)` that the run reads.
        first: whether `obs` begins an episode.
        level_id: the level each env is in.
    """

    state: PyTree
    obs: PyTree
    privileged: dict[str, jax.Array]
    first: jax.Array
    level_id: jax.Array


def read_privileged(
    env: Environment, reads: tuple[str, ...], state: PyTree
) -> dict[str, jax.Array]:
    """The entries `reads` of `env.privileged(state)`."""
    if not reads:
        return {}
    described = env.privileged(state)
    return {name: described[name] for name in reads}


def start(env: Environment, reads: tuple[str, ...], key: Key, batch: LevelBatch) -> Lanes:
    """Puts one env at the start of each level of `batch`; leaves `[n, ...]`."""
    num_levels = batch.level_id.shape[0]
    keys = jax.random.split(key, num_levels)
    state, obs = jax.vmap(env.reset_to_level)(keys, batch.levels)
    privileged = jax.vmap(lambda s: read_privileged(env, reads, s))(state)
    return Lanes(state, obs, privileged, jnp.ones(num_levels, bool), batch.level_id)


class _Loop(NamedTuple):
    """Between two steps: the true successors, and which of them ended an episode.

    Envs are reset as the next step begins, and a step records the successors of the one before: so
    an observation is written once and then copied. Recorded in the step that makes it, XLA would
    compute it a second time, element by element, while writing it: half of a rollout's time.
    """

    carry: PyTree
    lanes: Lanes
    ended: jax.Array
    start: jax.Array
    used: jax.Array


def rollout(
    key: Key,
    env: Environment,
    agent: Agent,
    reads: tuple[str, ...],
    agent_state: PyTree,
    carry: PyTree,
    lanes: Lanes,
    starts: Lanes,
    num_steps: int,
) -> tuple[PyTree, Lanes, Trajectory, Metrics]:
    """Runs `agent` for `num_steps` steps.

    Args:
        key: consumed.
        env: stepped under `vmap`.
        agent: acts.
        agent_state: of the agent; does not change in a rollout.
        reads: names of privileged information to record.
        carry: the agent's recurrent state, `[N, ...]`.
        lanes: where the envs stand, `[N, ...]`.
        starts: initial states to reset into, in order, `[n, ...]`; reused in turn past the n-th.
        num_steps: T.

    Returns:
        `(carry, lanes, traj [T, N, ...], metrics)`; the metrics say how many resets there were and
        how often a supplied level was used.
    """
    num_envs = lanes.first.shape[0]
    num_starts = starts.first.shape[0]
    stochastic = env.spec().stochastic
    key_act, key_env = jax.random.split(key)
    act_keys = jax.random.split(key_act, num_steps)
    # A key per env and step costs more than a grid step: only where the dynamics draw from it.
    step_keys = jax.random.split(key_env, num_steps) if stochastic else None

    def one_step(loop: _Loop, keys: tuple[Key, Key | None]) -> tuple[_Loop, Trajectory]:
        lanes = _enter(loop, starts)
        key_act, key_step = keys
        carry, action, extras = choose(
            agent, key_act, agent_state, loop.carry, lanes.obs, lanes.first, env, lanes.state
        )
        if key_step is None:
            state, ts = jax.vmap(env.step, (None, 0, 0))(key_env, lanes.state, action)
        else:
            env_keys = jax.random.split(key_step, num_envs)
            state, ts = jax.vmap(env.step)(env_keys, lanes.state, action)
        privileged = jax.vmap(lambda s: read_privileged(env, reads, s))(state)
        carry = tell_reward(agent, carry, ts.reward)
        ended = ts.terminated | ts.truncated
        order = running_count(ended)
        going_on = Lanes(state, ts.obs, privileged, jnp.zeros(num_envs, bool), lanes.level_id)
        index = (loop.used + order - 1) % num_starts
        following = _Loop(carry, going_on, ended, index, loop.used + order[-1])
        step = Trajectory(
            obs=lanes.obs,
            action=action,
            reward=ts.reward,
            next_obs=loop.lanes.obs,
            terminated=ts.terminated,
            truncated=ts.truncated,
            first=lanes.first,
            level_id=lanes.level_id,
            info=ts.info,
            privileged=lanes.privileged,
            next_privileged=loop.lanes.privileged,
            extras=extras,
            carry=(),
        )
        return following, step

    no_index = jnp.zeros(num_envs, jnp.int32)
    loop = _Loop(carry, lanes, jnp.zeros(num_envs, bool), no_index, jnp.int32(0))
    loop, traj = jax.lax.scan(one_step, loop, (act_keys, step_keys), num_steps)

    def successors(arrived: PyTree, last: PyTree) -> PyTree:
        return jax.tree.map(lambda x, y: jnp.concatenate([x[1:], y[None]]), arrived, last)

    traj = traj._replace(
        next_obs=successors(traj.next_obs, loop.lanes.obs),
        next_privileged=successors(traj.next_privileged, loop.lanes.privileged),
        carry=carry,
    )
    used = loop.used
    metrics = {"resets": used.astype(jnp.float32), "reuse": used / num_starts}
    return loop.carry, _enter(loop, starts), traj, metrics


def _enter(loop: _Loop, starts: Lanes) -> Lanes:
    """Puts the envs whose episode ended at the start of their next level."""
    return select(loop.ended, jax.tree.map(lambda x: x[loop.start], starts), loop.lanes)


class EpisodeSums(NamedTuple):
    """Running sums `[N]` of the episodes under way, and `[]` of all that have ended.

    Attributes:
        reward, intrinsic, length: float32 `[N]`, of the episode under way.
        ended: float32 `[]`, episodes so far.
        totals: float32 `[]` each, sums over these of return, length and `TimeStep.info`.
    """

    reward: jax.Array
    intrinsic: jax.Array
    length: jax.Array
    ended: jax.Array
    totals: dict[str, jax.Array]


def info_names(env: Environment) -> tuple[str, ...]:
    """Names of what `env` reports at every step in `TimeStep.info`."""

    def info(key: Key) -> dict[str, jax.Array]:
        state, _ = env.reset_to_level(key, env.sample_level(key))
        return env.step(key, state, env.spec().action.sample(key))[1].info

    return tuple(jax.eval_shape(info, jax.random.key(0)))


def no_episodes(num_envs: int, info: tuple[str, ...]) -> EpisodeSums:
    """Sums before the first step; `info` names what the environment reports."""
    zeros, zero = jnp.zeros(num_envs, jnp.float32), jnp.float32(0)
    totals = {name: zero for name in ("return", "length", *info)}
    return EpisodeSums(zeros, zeros, zeros, zero, totals)


def episode_metrics(
    sums: EpisodeSums, traj: Trajectory, r_int: jax.Array
) -> tuple[EpisodeSums, Metrics]:
    """Means over the episodes that end in `traj`: NaN where none does, with their count.

    Every entry of `traj.info` is averaged over the last steps of those episodes. `total` is how
    many episodes have ended in the whole run, `total_...` the sums over them: what scores that
    look at an episode's number are made from.
    """
    ended = traj.terminated | traj.truncated
    under_way = sums.reward, sums.intrinsic, sums.length
    steps = traj.reward, r_int, jnp.ones_like(traj.reward)

    def one_step(sums: PyTree, step: tuple[PyTree, jax.Array]) -> tuple[PyTree, PyTree]:
        values, ended = step
        sums = jax.tree.map(jnp.add, sums, values)
        return jax.tree.map(lambda x: jnp.where(ended, 0.0, x), sums), sums

    under_way, (returns, intrinsic, length) = jax.lax.scan(one_step, under_way, (steps, ended))
    count = jnp.sum(ended).astype(jnp.float32)

    def total(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(ended, x.astype(jnp.float32), 0.0))

    def mean(x: jax.Array) -> jax.Array:
        return jnp.where(count > 0, total(x) / jnp.maximum(count, 1), jnp.nan)

    kept = {"return": returns, "length": length, **traj.info}
    totals = {name: so_far + total(kept[name]) for name, so_far in sums.totals.items()}
    reward, paid, steps_so_far = under_way
    sums = EpisodeSums(reward, paid, steps_so_far, sums.ended + count, totals)
    metrics = {
        "intrinsic": mean(intrinsic),
        "count": count,
        "total": sums.ended,
        **{name: mean(value) for name, value in kept.items()},
        **{f"total_{name}": value for name, value in totals.items()},
    }
    return sums, metrics
