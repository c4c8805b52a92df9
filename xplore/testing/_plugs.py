"""What every bonus, agent and world sampler promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Space
from xplore.contracts.types import (
    Agent,
    Bonus,
    Environment,
    Key,
    LevelBatch,
    Metrics,
    PyTree,
    ReadsPrivileged,
    RunSpec,
    SeesAgent,
    SeesReward,
    Simulates,
    Trajectory,
    WorldSampler,
)
from xplore.parts.levels import HELD_OUT_BIT
from xplore.testing import _compare as c
from xplore.testing import _programs as p


def check_bonus(
    bonus: Bonus,
    env: Environment,
    *,
    num_envs: int = 3,
    num_steps: int = 8,
    episodic: bool = False,
) -> None:
    """Checks a bonus on random trajectories of `env`.

    It is a value; `reward` is finite float32 `[T, N]`; `reward` and `update` keep the structure of
    the state, so that they scan; equal inputs give equal outputs, also after the state went through
    a checkpoint; seeds can be vmapped, and coefficients traced; compiled agrees with plain Python.
    Whether `reward` learns cannot be seen from outside: it is not checked.

    Args:
        bonus: what is checked.
        env: where.
        num_envs: N, at least 2.
        num_steps: T, at least 4.
        episodic: the bonus claims to be purely episodic: what happened before `first`, or in other
            envs, must not change its reward.

    Raises:
        AssertionError: names what is violated.
        ConfigError: the bonus refuses `env`.
    """
    name = type(bonus).__name__
    c.require(isinstance(bonus, Bonus), f"{name} lacks a method of Bonus")
    p.check_value(bonus, name)
    spec, reads = env.spec(), bonus.reads()
    c.require(
        isinstance(reads, tuple) and all(isinstance(r, str) for r in reads),
        f"{name}: reads() must be a tuple of names, not {reads!r}",
    )
    state = p.checked_init(name, lambda key: bonus.init(key, RunSpec(spec, num_envs, num_steps)))
    for read in reads:
        if read not in spec.privileged:
            raise ConfigError(f"{name} reads {read!r}, which {spec.name} does not tell")
    traj, other = (
        traj._replace(
            privileged={r: traj.privileged[r] for r in reads},
            next_privileged={r: traj.next_privileged[r] for r in reads},
        )
        for traj in p.trajectories(env, num_envs, num_steps)
    )

    def cycle(bonus: Bonus, key: Key, state: PyTree, traj: Trajectory) -> PyTree:
        scored, r_int = bonus.reward(state, traj)
        learned, metrics = bonus.update(key, scored, traj)
        return scored, r_int, learned, metrics

    one = c.last(state)
    scored, r_int, learned, metrics = jax.eval_shape(
        lambda *x: cycle(bonus, *x), jax.random.key(0), one, traj
    )
    c.require_same(one, scored, f"{name}: reward changes the state")
    c.require_same(one, learned, f"{name}: update changes the state")
    expected = c.struct((num_steps, num_envs), "float32")
    c.require_same(expected, r_int, f"{name}: reward must be float32 [T, N]")
    c.require_metrics(f"{name}: metrics", metrics)
    run = p.checked_program(name, cycle, bonus, state, traj)
    scored, r_int, learned, metrics = run(state, traj)
    c.require_finite(r_int, f"{name}: reward")
    c.require_finite(learned, f"{name}: the state after update")
    c.require_finite(metrics, f"{name}: metrics")
    with jax.disable_jit():
        plain = bonus.reward(one, traj)
    c.require_close(
        plain, c.last((scored, r_int)), f"{name}: reward compiled differs from reward in Python"
    )
    if episodic:
        _check_episodic(name, lambda s, t: run(s, t)[1], state, scored, traj, other)


def _check_episodic(
    name: str,
    reward: Callable[[PyTree, Trajectory], jax.Array],
    state: PyTree,
    scored: PyTree,
    traj: Trajectory,
    other: Trajectory,
) -> None:
    num_steps, num_envs = traj.first.shape
    half = num_steps // 2
    first, truncated = np.array(traj.first), np.array(traj.truncated)
    first[[0, half]] = truncated[half - 1] = True
    traj = traj._replace(first=jnp.asarray(first), truncated=jnp.asarray(truncated))
    r_int = reward(state, traj)
    said = f"{name}: memory is not forgotten at `first`"
    c.require_close(reward(scored, traj), r_int, f"{said} of a new rollout")
    past = (np.arange(num_steps) < half)[:, None]
    c.require_close(reward(state, _mix(past, other, traj))[:, half:], r_int[:, half:], said)
    others = (np.arange(num_envs) > 0)[None, :]
    lane = reward(state, _mix(others, other, traj))[:, :, 0]
    c.require_close(lane, r_int[:, :, 0], f"{name}: an env's reward depends on other envs")


def _mix(mask: npt.NDArray[np.bool_], a: Trajectory, b: Trajectory) -> Trajectory:
    """`a` where `mask` (broadcast to `[T, N]`), else `b`; the ends of episodes are those of `b`."""

    def choose(x: jax.Array, y: jax.Array) -> jax.Array:
        wide = mask.reshape(mask.shape + (1,) * (x.ndim - 2))
        return jnp.asarray(np.where(wide, np.asarray(x), np.asarray(y)))

    mixed: Trajectory = jax.tree.map(choose, a, b)
    return mixed._replace(first=b.first, terminated=b.terminated, truncated=b.truncated)


def check_agent(agent: Agent, env: Environment, *, num_envs: int = 8, num_steps: int = 8) -> None:
    """Checks an agent on observations of random trajectories of `env`.

    It is a value; actions are within the space; the carry keeps its structure, in `see_reward` too
    where there is one, and is forgotten where `first` holds; envs of a batch do not affect each
    other's actions; `update` keeps the structure of the state and stays finite; equal inputs give
    equal outputs, also after a checkpoint; seeds can be vmapped, and coefficients traced; compiled
    agrees with plain Python; `greedy()` works on the same state and ignores its key, unless it is
    the agent itself. One that simulates acts in `env`, and its `act` returns what `act_in` does.

    Raises:
        AssertionError: names what is violated.
        ConfigError: the agent refuses `env`.
    """
    name = type(agent).__name__
    c.require(isinstance(agent, Agent), f"{name} lacks a method of Agent")
    p.check_value(agent, name)
    spec = env.spec()
    state = p.checked_init(name, lambda key: agent.init(key, RunSpec(spec, num_envs, num_steps)))
    traj, other = (
        traj._replace(privileged={}, next_privileged={})
        for traj in p.trajectories(env, num_envs, num_steps)
    )
    carry = jax.tree.map(jnp.asarray, agent.initial_carry(num_envs))
    if isinstance(agent, Simulates):
        states = p.env_states(env, num_envs, num_steps)
        traj, other = traj._replace(extras=states[0]), other._replace(extras=states[1])

    def cycle(agent: Agent, key: Key, state: PyTree, traj: Trajectory) -> PyTree:
        def act(carry: PyTree, x: tuple[PyTree, ...]) -> tuple[PyTree, PyTree]:
            obs, first, reward = x
            carry, action, extras = _act(agent, env)(key, state, carry, obs, first)
            if isinstance(agent, SeesReward):
                carry = agent.see_reward(carry, reward)
            return carry, (action, extras)

        steps = (_shown(agent, traj), traj.first, traj.reward)
        end, (action, extras) = jax.lax.scan(act, carry, steps)
        seen = traj._replace(action=action, extras=extras, carry=carry)
        learned, metrics = agent.update(key, state, seen, 0.1 * traj.reward)
        return end, action, extras, learned, metrics

    one, key = c.last((state, p.seed_keys()))
    obs, first = c.pick((_shown(agent, traj), traj.first), 0)
    acted = jax.eval_shape(_act(agent, env), key, one, carry, obs, first)
    c.require_same(carry, acted[0], f"{name}: act changes the carry")
    if isinstance(agent, Simulates):
        without = jax.eval_shape(agent.act, key, one, carry, obs[0], first)
        c.require_same(acted, without, f"{name}: act and act_in return different things")
    if isinstance(agent, SeesReward):
        told = jax.eval_shape(agent.see_reward, carry, traj.reward[0])
        c.require_same(carry, told, f"{name}: see_reward changes the carry")
    actions = jax.eval_shape(jax.vmap(spec.action.sample), jax.random.split(key, num_envs))
    c.require_same(actions, acted[1], f"{name}: act's actions are not the space's")
    for leaf in jax.tree.leaves((carry, acted[2])):
        said = f"{name}: the leaves of the carry and of act's extras must be [N, ...]"
        c.require(leaf.shape[:1] == (num_envs,), said)
    *_, learned, metrics = jax.eval_shape(lambda *x: cycle(agent, *x), key, one, traj)
    c.require_same(one, learned, f"{name}: update changes the state")
    c.require_metrics(f"{name}: metrics", metrics)
    run = p.checked_program(name, cycle, agent, state, traj)
    end, action, extras, learned, metrics = run(state, traj)
    c.require(c.within(spec.action, action), f"{name}: an action is outside of {spec.action}")
    c.require_finite((learned, extras), f"{name}: the state after update, or what act returns,")
    c.require_finite(metrics, f"{name}: metrics")
    shown = (_shown(agent, traj), traj.first), (_shown(agent, other), other.first)
    act = _act(agent, env)
    _check_act(name, act, key, one, (carry, c.last(end)), shown, c.last((action, extras)))
    greedy = agent.greedy()
    c.require(isinstance(greedy, Agent), f"{name}: greedy() is no agent")
    act = p.compiled(_act(greedy, env))
    best = act(key, one, carry, obs, first)
    said = f"{name}: a greedy action is outside of {spec.action}"
    c.require(c.within(spec.action, best[1]), said)
    if greedy != agent:
        another = act(jax.random.key(9), one, carry, obs, first)
        c.require_equal(another[1], best[1], f"{name}: greedy() acts with noise")


def _act(agent: Agent, env: Environment) -> Callable[..., PyTree]:
    """`agent.act`; of one that simulates, in `env`: it takes `(obs, env states)` for `obs`."""
    if not isinstance(agent, Simulates):
        return agent.act
    simulates = agent

    def act(key: Key, state: PyTree, carry: PyTree, obs: PyTree, first: jax.Array) -> PyTree:
        return simulates.act_in(key, state, carry, obs[0], first, env, obs[1])

    return act


def _shown(agent: Agent, traj: Trajectory) -> PyTree:
    """What `_act` takes for the observations of a rollout that has env states as its extras."""
    return (traj.obs, traj.extras) if isinstance(agent, Simulates) else traj.obs


def _check_act(
    name: str,
    plain_act: Callable[..., PyTree],
    key: Key,
    state: PyTree,
    carries: tuple[PyTree, PyTree],
    shown: tuple[tuple[PyTree, jax.Array], tuple[PyTree, jax.Array]],
    acted: tuple[PyTree, PyTree],
) -> None:
    """Checks one step: against the rollout `acted`, plain Python, another past, other envs."""
    carry, used = carries
    obs, first = c.pick(shown[0], 0)
    act = p.compiled(plain_act)
    result = act(key, state, carry, obs, first)
    c.require_close(
        c.pick(acted, 0),
        result[1:],
        f"{name}: act under vmap over seeds differs from one seed",
    )
    with jax.disable_jit():
        plain = plain_act(key, state, carry, obs, first)
    c.require_close(plain, result, f"{name}: act compiled differs from act in Python")
    # At their last step envs have come apart: at their first, all may look alike.
    obs, apart = c.last((shown[0][0], shown[1][0]))
    anew = jnp.asarray(np.ones(first.shape, bool))
    result = act(key, state, carry, obs, anew)
    again = act(key, state, used, obs, anew)
    c.require_close(again, result, f"{name}: the carry is not forgotten at `first`")
    mixed = jax.tree.map(lambda x, y: jnp.asarray(np.concatenate([x[:1], y[1:]])), obs, apart)
    lane = act(key, state, carry, mixed, anew)
    said = f"{name}: an env's action depends on other envs"
    c.require_close(c.pick(lane, 0), c.pick(result, 0), said)


class _Extras(NamedTuple):
    value: jax.Array


class _Anything(NamedTuple):
    """An agent that acts at random, and has values."""

    action: Space

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return ()

    def initial_carry(self, num_envs: int) -> PyTree:
        return ()

    def act(
        self, key: Key, state: PyTree, carry: PyTree, obs: PyTree, first: jax.Array
    ) -> tuple[PyTree, PyTree, PyTree]:
        keys = jax.random.split(key, first.shape[0])
        value = jax.random.uniform(key, first.shape)
        return carry, jax.vmap(self.action.sample)(keys), _Extras(value)

    def update(
        self, key: Key, state: PyTree, traj: Trajectory, r_int: jax.Array
    ) -> tuple[PyTree, Metrics]:
        return state, {}

    def greedy(self) -> Agent:
        return self


def check_world_sampler(sampler: WorldSampler, env: Environment, *, num_levels: int = 8) -> None:
    """Checks a world sampler with the levels of `env`.

    It is a value; levels are `env.sample_level`'s, `[n, ...]`; ids are uint32 and never held-out
    ones; an id always names the same level; `sample` and `update` keep the structure of the state;
    equal inputs give equal outputs, also after a checkpoint; seeds can be vmapped; compiled agrees
    with plain Python. One that is shown the agent is shown one that acts at random and has values.

    Raises:
        AssertionError: names what is violated.
        ConfigError: the sampler refuses `env`.
    """
    name = type(sampler).__name__
    c.require(isinstance(sampler, WorldSampler), f"{name} lacks a method of WorldSampler")
    p.check_value(sampler, name)
    state = p.checked_init(name, lambda key: sampler.init(key, env))
    traj, _ = p.trajectories(env, 3, 8)
    value = jax.random.uniform(jax.random.key(2), traj.reward.shape)
    reads = sampler.reads() if isinstance(sampler, ReadsPrivileged) else ()
    traj = traj._replace(
        extras=_Extras(value),
        privileged={r: traj.privileged[r] for r in reads},
        next_privileged={r: traj.next_privileged[r] for r in reads},
    )

    def supply(sampler: WorldSampler, key: Key, state: PyTree) -> tuple[PyTree, LevelBatch]:
        if isinstance(sampler, SeesAgent):
            return sampler.sample_for(key, state, env, num_levels, _Anything(env.spec().action), ())
        return sampler.sample(key, state, env, num_levels)

    def cycle(sampler: WorldSampler, key: Key, state: PyTree, traj: Trajectory) -> PyTree:
        sampled, batch = supply(sampler, key, state)
        ids = jnp.broadcast_to(jnp.resize(batch.level_id, (3,)), traj.level_id.shape)
        learned, metrics = sampler.update(sampled, batch, traj._replace(level_id=ids))
        return sampled, tuple(batch), learned, metrics

    one, key = c.last((state, p.seed_keys()))
    sampled, batch, learned, metrics = jax.eval_shape(lambda *x: cycle(sampler, *x), key, one, traj)
    c.require_same(one, sampled, f"{name}: sample changes the state")
    c.require_same(one, learned, f"{name}: update changes the state")
    first = jax.eval_shape(lambda key, state: sampler.sample(key, state, env, num_levels), key, one)
    c.require_same((one, batch), (first[0], tuple(first[1])), f"{name}: what sample returns")
    keys = jax.random.split(key, num_levels)
    expected = jax.eval_shape(jax.vmap(env.sample_level), keys)
    c.require_same(expected, batch[0], f"{name}: sample's levels are not the environment's")
    expected = c.struct((num_levels,), "uint32")
    c.require_same(expected, batch[1], f"{name}: level_id must be uint32 [n]")
    c.require_metrics(f"{name}: metrics", metrics)
    run = p.checked_program(name, cycle, sampler, state, traj)
    sampled, batch, learned, metrics = run(state, traj)
    c.require_finite(metrics, f"{name}: metrics")
    plain = sampler.sample(key, one, env, num_levels)
    again = p.compiled(lambda key, state: sampler.sample(key, state, env, num_levels))
    made = again(key, one)
    c.require_close(plain, made, f"{name}: sample compiled differs from sample in Python")
    named: dict[int, PyTree] = {}
    for pair in (batch, run(learned, traj)[1]):
        levels, ids = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), pair)
        c.require(not np.any(ids >= HELD_OUT_BIT), f"{name}: a level id has the held-out bit")
        for index, level_id in enumerate(ids.tolist()):
            level = c.pick(levels, index)
            known = named.setdefault(level_id, level)
            c.require_equal(level, known, f"{name}: one level id names two levels")
