"""What every environment promises."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.spaces import Box, Discrete, shape_dtype
from xplore.contracts.types import (
    Environment,
    EnvSpec,
    FiniteEnvironment,
    Key,
    PyTree,
    TimeStep,
    Trajectory,
)
from xplore.testing import _compare as c
from xplore.testing import _programs as p
from xplore.testing._finite import check_finite


def check_env(
    env: Environment, *, num_envs: int = 3, num_steps: int = 64, thorough: bool = True
) -> None:
    """Checks an environment under random actions, restarted in its levels where episodes end.

    It is a value; its shapes and dtypes are the spec's and stay so in a scan; observations,
    privileged information and rewards are finite and within the spec; the level alone fixes the
    start; equal inputs give equal outputs, and the step's key changes nothing unless the spec says
    stochastic; no episode outlasts `max_steps`; a compiled batch agrees with plain Python. Of a
    `FiniteEnvironment`, `starts` and `outcomes` agree with what is sampled: probabilities sum to 1,
    indices are within range, steps lead where `outcomes` says, as often, for the same mean reward
    within 4 standard errors, and from layer to layer where there are `num_layers`.

    Args:
        env: what is checked.
        num_envs: N.
        num_steps: steps per env; `max_steps` is only put to the test if it is smaller.
        thorough: also compare with plain Python, which takes a second or more.

    Raises:
        AssertionError: names what is violated.
    """
    name = type(env).__name__
    c.require(isinstance(env, Environment), f"{name} lacks a method of Environment")
    p.check_value(env, name)
    spec = env.spec()
    _check_env_shapes(name, env, spec)
    start, roll = p.programs(env, num_envs)
    level_keys, reset_keys, other_keys = jax.random.split(jax.random.key(0), (3, num_envs))
    levels, starts = start(level_keys, reset_keys)
    again = start(level_keys, reset_keys)
    c.require_equal(again, (levels, starts), f"{name}: a reset is not deterministic")
    again = start(level_keys, other_keys)
    c.require_equal(
        again, (levels, starts), f"{name}: the start of a level depends on the reset's key"
    )
    lanes, chunks = starts, []
    for index in range(-(-num_steps // p.CHUNK_STEPS)):
        key_action, key_step, key_other = jax.random.split(jax.random.key(index), 3)
        before = (starts, lanes)
        lanes, traj = roll(key_action, key_step, *before)
        chunks.append(jax.tree.map(np.asarray, traj._replace(extras=())))
        if index > 0:
            continue
        repeated = roll(key_action, key_step, *before)
        c.require_equal(repeated, (lanes, traj), f"{name}: step is not deterministic")
        if not spec.stochastic:
            other = roll(key_action, key_other, *before)[1]
            c.require_equal(
                p.time_step(other),
                p.time_step(traj),
                f"{name}: step depends on its key, but the spec says stochastic=False",
            )
        if isinstance(env, FiniteEnvironment):
            check_finite(name, env, jax.tree.map(np.asarray, starts), traj)
        if thorough:
            _compare_with_python(name, env, c.last((level_keys, reset_keys, levels, starts)), traj)
    whole = jax.tree.map(lambda *x: np.concatenate(x), *chunks)
    _check_env_values(name, spec, jax.tree.map(np.asarray, starts), whole)


def _check_env_shapes(name: str, env: Environment, spec: EnvSpec) -> None:
    c.require(isinstance(spec, EnvSpec), f"{name}: spec() is no EnvSpec")
    c.require(hash(spec) == hash(env.spec()), f"{name}: two calls of spec() differ")
    kinds = {
        "position": Discrete,
        "direction": Discrete,
        "carrying": Discrete,
        "index": Discrete,
        "state": Box,
    }
    for entry, kind in kinds.items():
        declared = dict(spec.privileged.items).get(entry)
        said = f"{name}: privileged {entry!r} must be a {kind.__name__}, not {declared}"
        c.require(declared is None or isinstance(declared, kind), said)

    def all_of(env: Environment, key: Key, action: PyTree) -> tuple[Any, ...]:
        state, obs = env.reset_to_level(key, env.sample_level(key))
        after, ts = env.step(key, state, action)
        return state, obs, after, ts, env.privileged(after)

    args = jax.random.key(0), shape_dtype(spec.action)
    state, obs, after, ts, privileged = jax.eval_shape(lambda *x: all_of(env, *x), *args)
    c.require_same(state, after, f"{name}: step changes the state")
    observation = shape_dtype(spec.observation)
    c.require_same(observation, obs, f"{name}: reset's observation is not the spec's")
    c.require(isinstance(ts, TimeStep), f"{name}: step returns no TimeStep")
    c.require_same(observation, ts.obs, f"{name}: step's observation is not the spec's")
    c.require_same(
        shape_dtype(spec.privileged), privileged, f"{name}: privileged() is not the spec's"
    )
    for entry, dtype in (("reward", "float32"), ("terminated", "bool"), ("truncated", "bool")):
        c.require_same(
            c.struct((), dtype), getattr(ts, entry), f"{name}: {entry} must be a {dtype} scalar"
        )
    c.require_metrics(f"{name}: info", ts.info)
    success = ts.info.get("success")
    c.require(
        success is not None and success.dtype == jnp.bool_, f"{name}: info needs a bool 'success'"
    )
    if jax.tree.leaves(env):
        try:
            jax.eval_shape(all_of, env, *args)
        except Exception as error:
            raise AssertionError(f"{name}: its float fields cannot be traced: {error}") from error


def _compare_with_python(name: str, env: Environment, start: Any, traj: Trajectory) -> None:
    key_level, key_reset, level, lane = start
    c.require_close(
        env.sample_level(key_level), level, f"{name}: sample_level compiled differs from Python"
    )
    with jax.disable_jit():
        c.require_close(
            env.reset_to_level(key_reset, level),
            (lane.state, lane.obs),
            f"{name}: reset_to_level compiled differs from Python",
        )
    for time in range(2):
        step = c.pick(traj, (time, -1))
        args = (step.extras.key, step.extras.state, step.action)
        with jax.disable_jit():
            plain = env.step(*args)
        if differs := c.differing(plain, (step.extras.next_state, p.time_step(step))):
            broken = "jit" if c.differing(plain, p.compiled(env.step)(*args)) else "vmap"
            right = {"jit": "step without jit", "vmap": "a loop over envs"}[broken]
            raise AssertionError(f"{name}: step under {broken} differs from {right} (at {differs})")


def _check_env_values(name: str, spec: EnvSpec, starts: p.Lanes, traj: Trajectory) -> None:
    for when, obs in (("reset", starts.obs), ("step", traj.next_obs)):
        c.require_finite(obs, f"{name}: {when}'s observation")
        c.require(
            c.within(spec.observation, obs),
            f"{name}: an observation of {when} is outside of {spec.observation}",
        )
    for told in (starts.privileged, traj.next_privileged):
        for entry, space in spec.privileged.items:
            c.require(
                c.within(space, told[entry]), f"{name}: privileged {entry!r} is outside of {space}"
            )
    c.require_finite(traj.reward, f"{name}: reward")
    c.require_finite(traj.info, f"{name}: info")
    length = np.zeros(traj.first.shape[1], np.int64)
    for ended in traj.terminated | traj.truncated:
        length += 1
        c.require(
            spec.max_steps == 0 or length.max() <= spec.max_steps,
            f"{name}: an episode goes on after max_steps={spec.max_steps} steps",
        )
        length[ended] = 0
