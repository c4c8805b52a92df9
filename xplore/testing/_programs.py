"""What the checks run: components as values, and compiled programs of small shapes."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import from_json, is_component, to_json
from xplore.contracts.errors import XploreError
from xplore.contracts.types import Environment, Key, PyTree, TimeStep, Trajectory
from xplore.testing import _compare as c

NUM_SEEDS = 2
CHUNK_STEPS = 16  # of one compiled rollout of an environment


def check_value(x: Any, name: str) -> None:
    """Requires a component: hashable, a pytree, itself again after JSON."""
    c.require(is_component(x), f"{name} is no component: declare it with @component")
    try:
        hashed = hash(x)
    except TypeError as error:
        raise AssertionError(f"{name} cannot be hashed: {error}") from error
    try:
        again = from_json(json.loads(json.dumps(to_json(x))))
    except Exception as error:
        raise AssertionError(f"{name} does not survive JSON: {error}") from error
    c.require(again == x, f"{name} comes back from JSON as {again}")
    c.require(hash(again) == hashed, f"{name}: equal constructions hash differently")
    leaves, structure = jax.tree.flatten(x)
    c.require(jax.tree.unflatten(structure, leaves) == x, f"{name} changes when flattened")


def compiled(f: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit`, in about half the time on a CPU: nothing here is run for long."""
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(f, compiler_options=options)


def seed_keys() -> Key:
    """The keys `[S]` that `checked_program` runs with."""
    return jax.random.split(jax.random.key(1), NUM_SEEDS)


def checked_init(name: str, init: Callable[[Key], PyTree]) -> PyTree:
    """States of `NUM_SEEDS` seeds, `[S, ...]`; an error other than ours is a violation."""
    keys = jax.random.split(jax.random.key(0), NUM_SEEDS)
    program = compiled(jax.vmap(init))
    try:
        state = program(keys)
        again = jax.eval_shape(jax.vmap(lambda key: init(key)), keys)
    except XploreError:
        raise
    except Exception as error:
        raise AssertionError(
            f"{name}: init raised {type(error).__name__} ({error});"
            " what an environment cannot carry is refused with a ConfigError"
        ) from error
    c.require(
        c.same_structure(state, again),
        f"{name}: two calls of init differ in structure, so no checkpoint could be restored",
    )
    c.require_equal(program(keys), state, f"{name}: init is not deterministic")
    return state


def checked_program(
    name: str, f: Callable[..., PyTree], x: Any, state: PyTree, traj: Trajectory
) -> Callable[[PyTree, Trajectory], PyTree]:
    """Compiles `f(x, key, state, traj)` for `NUM_SEEDS` seeds and checks what holds of any such.

    Requires that two traces agree, that `x` can be traced (its coefficients vmapped), that equal
    inputs give equal outputs, and that they still do when the state went through NumPy.
    """
    keys, one = seed_keys(), c.last(state)

    def trace() -> tuple[str, list[Any]]:
        closed = jax.make_jaxpr(lambda *args: f(x, *args))(keys[-1], one, traj)
        return re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr)), closed.consts

    said = f"{name}: two traces differ: something else than its arguments decides (numpy's random?)"
    (first, consts), (second, others) = trace(), trace()
    c.require(first == second, said)
    c.require_equal(others, consts, said)
    try:
        jax.eval_shape(f, x, keys[-1], one, traj)
    except Exception as error:
        raise AssertionError(
            f"{name}: its float fields cannot be traced, so not vmapped: {error}"
        ) from error
    program = compiled(jax.vmap(lambda k, s, t: f(x, k, s, t), in_axes=(0, 0, None)))
    outputs = program(keys, state, traj)
    c.require_equal(program(keys, state, traj), outputs, f"{name} is not deterministic")
    restored = program(keys, _through_numpy(state), traj)
    c.require_equal(restored, outputs, f"{name} goes on differently from a checkpoint")
    return lambda state, traj: program(keys, state, traj)


def _through_numpy(tree: PyTree) -> PyTree:
    def restore(x: jax.Array) -> Any:
        stored = jnp.asarray(c.as_numpy(x).copy())
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(stored, impl=jax.random.key_impl(x))
        return stored

    return jax.tree.map(restore, tree)


class Lanes(NamedTuple):
    """Where N envs stand, `[N, ...]`."""

    state: PyTree
    obs: PyTree
    privileged: dict[str, jax.Array]
    first: jax.Array
    level_id: jax.Array


class Inside(NamedTuple):
    """What a step of `roll` took and gave, beside its trajectory."""

    key: Key
    state: PyTree
    next_state: PyTree


Programs = tuple[Callable[..., Any], Callable[..., Any]]


@functools.lru_cache(maxsize=256)
def _programs(env: Any, num_envs: int) -> Programs:
    """Compiled `(start, roll)` of an environment.

    `start(level_keys, reset_keys)` returns `(levels, lanes)`; `roll(key_action, key_step, starts,
    lanes)` makes `CHUNK_STEPS` random steps, going back to `starts` where an episode ends, and
    returns `(lanes, trajectory)` with `Inside` as its extras.
    """
    action = env.spec().action

    def start(key_level: Key, key_reset: Key, index: jax.Array) -> tuple[PyTree, Lanes]:
        level = env.sample_level(key_level)
        state, obs = env.reset_to_level(key_reset, level)
        return level, Lanes(state, obs, env.privileged(state), jnp.ones((), bool), index)

    def one(key_action: Key, key: Key, start: Lanes, lane: Lanes) -> tuple[Lanes, Trajectory]:
        done = action.sample(key_action)
        state, ts = env.step(key, lane.state, done)
        after = Lanes(state, ts.obs, env.privileged(state), jnp.zeros((), bool), lane.level_id)
        traj = Trajectory(
            obs=lane.obs,
            action=done,
            reward=ts.reward,
            next_obs=ts.obs,
            terminated=ts.terminated,
            truncated=ts.truncated,
            first=lane.first,
            level_id=lane.level_id,
            info=ts.info,
            privileged=lane.privileged,
            next_privileged=after.privileged,
            extras=Inside(key, lane.state, state),
            carry=(),
        )
        ended = ts.terminated | ts.truncated
        return jax.tree.map(lambda a, b: jnp.where(ended, a, b), start, after), traj

    def roll(
        key_action: Key, key_step: Key, starts: Lanes, lanes: Lanes
    ) -> tuple[Lanes, Trajectory]:
        def step(lanes: Lanes, keys: tuple[Key, Key]) -> tuple[Lanes, Trajectory]:
            key_action, key_step = (jax.random.split(key, num_envs) for key in keys)
            after: tuple[Lanes, Trajectory] = jax.vmap(one)(key_action, key_step, starts, lanes)
            return after

        split = [jax.random.split(key, CHUNK_STEPS) for key in (key_action, key_step)]
        return jax.lax.scan(step, lanes, (split[0], split[1]))

    index = jnp.arange(num_envs, dtype=jnp.uint32)
    starter = compiled(jax.vmap(start))
    return lambda a, b: starter(a, b, index), compiled(roll)


@functools.lru_cache(maxsize=64)
def _rollouts(env: Any, num_envs: int, num_steps: int) -> tuple[Trajectory, Trajectory]:
    """Two random trajectories `[T, N]` of different levels and actions; extras: the env states."""
    start, roll = _programs(env, num_envs)

    def one(seed: int) -> Trajectory:
        keys = jax.random.split(jax.random.key(seed), 2 * num_envs + 2)
        _, lanes = start(keys[2 : num_envs + 2], keys[num_envs + 2 :])
        starts, parts = lanes, []
        for index in range(-(-num_steps // CHUNK_STEPS)):
            key_action, key_step = jax.random.split(jax.random.fold_in(keys[0], index))
            lanes, traj = roll(key_action, key_step, starts, lanes)
            parts.append(traj._replace(extras=traj.extras.state))
        return Trajectory(*jax.tree.map(lambda *x: _concatenate(x)[:num_steps], *parts))

    return one(0), one(1)


def _concatenate(parts: tuple[jax.Array, ...]) -> jax.Array:
    if jnp.issubdtype(parts[0].dtype, jax.dtypes.prng_key):
        return jnp.concatenate(parts)
    return jnp.asarray(np.concatenate(parts))  # nothing to compile


def _trajectories(env: Any, num_envs: int, num_steps: int) -> tuple[Trajectory, Trajectory]:
    """Two random trajectories `[T, N]` of different levels and actions."""
    one, two = _rollouts(env, num_envs, num_steps)
    return one._replace(extras=()), two._replace(extras=())


def env_states(env: Environment, num_envs: int, num_steps: int) -> tuple[PyTree, PyTree]:
    """The env states `[T, N, ...]` behind the observations of `trajectories`."""
    one, two = cast(Callable[..., Any], _rollouts)(env, num_envs, num_steps)
    return one.extras, two.extras


# A Protocol says nothing of hashing: to type checkers, a component may not be a cache's key.
programs = cast(Callable[[Environment, int], Programs], _programs)
trajectories = cast(Callable[[Environment, int, int], tuple[Trajectory, Trajectory]], _trajectories)


def time_step(traj: Trajectory) -> TimeStep:
    """The `TimeStep`s of a trajectory."""
    return TimeStep(traj.next_obs, traj.reward, traj.terminated, traj.truncated, traj.info)
