"""What `xplore.testing` is made of: comparisons that name what differs, and programs to run."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import from_json, is_component, to_json
from xplore.contracts.errors import XploreError
from xplore.contracts.spaces import Space, contains
from xplore.contracts.types import Environment, Key, PyTree, TimeStep, Trajectory

NUM_SEEDS = 2
CHUNK_STEPS = 16  # of one compiled rollout of an environment


def require(holds: bool | np.bool_, message: str) -> None:
    """Raises AssertionError with `message` unless `holds`; not an `assert`, which -O removes."""
    if not holds:
        raise AssertionError(message)


def _named(tree: PyTree) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def _numpy(x: Any) -> np.ndarray[Any, Any]:
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x)


def require_same(expected: PyTree, got: PyTree, message: str) -> None:
    """Requires equal structures, shapes and dtypes."""
    structures = jax.tree.structure(expected), jax.tree.structure(got)
    if structures[0] != structures[1]:
        raise AssertionError(f"{message}: {structures[1]} instead of {structures[0]}")
    for (path, a), (_, b) in zip(_named(expected), _named(got), strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise AssertionError(
                f"{message}: {path or 'it'} is {b.dtype}{list(b.shape)}"
                f" instead of {a.dtype}{list(a.shape)}"
            )


def require_equal(got: PyTree, expected: PyTree, message: str) -> None:
    """Requires equal bits (NaN equals NaN)."""
    for (path, a), (_, b) in zip(_named(got), _named(expected), strict=True):
        a, b = _numpy(a), _numpy(b)
        inexact = np.issubdtype(a.dtype, np.inexact)
        if not np.array_equal(a, b, equal_nan=bool(inexact)):
            raise AssertionError(f"{message} (differs at {path or 'the value'})")


def differing(got: PyTree, expected: PyTree) -> str:
    """The path of the first leaf that differs by more than rounding, or ""."""
    for (path, a), (_, b) in zip(_named(got), _named(expected), strict=True):
        a, b = _numpy(a), _numpy(b)
        if not np.issubdtype(b.dtype, np.inexact):
            same = a.shape == b.shape and bool(np.all(a == b))
        else:
            same = a.shape == b.shape and np.allclose(a, b, rtol=2e-3, atol=1e-4, equal_nan=True)
        if not same:
            return path or "the value"
    return ""


def require_close(got: PyTree, expected: PyTree, message: str) -> None:
    """Requires equality up to the rounding of floats."""
    differs = differing(got, expected)
    require(not differs, f"{message} (at {differs})")


def require_finite(tree: PyTree, message: str) -> None:
    """Requires that no float of `tree` is NaN or infinite."""
    for path, leaf in _named(tree):
        values = _numpy(leaf)
        if np.issubdtype(values.dtype, np.inexact) and not np.all(np.isfinite(values)):
            raise AssertionError(f"{message} is not finite (at {path or 'the value'})")


def within(space: Space, value: PyTree) -> bool:
    """Whether a batch of values lies in `space`, whatever the tests forbid of broadcasting."""
    with jax.numpy_rank_promotion("allow"):
        return contains(space, value)


def require_metrics(name: str, metrics: Any) -> None:
    """Requires `dict[str, scalar]`."""
    require(
        isinstance(metrics, dict)
        and all(isinstance(k, str) and v.shape == () for k, v in metrics.items()),
        f"{name}: metrics must be a dict of scalars by name, not {metrics}",
    )


def check_value(x: Any, name: str) -> None:
    """Requires a component: hashable, a pytree, itself again after JSON."""
    require(is_component(x), f"{name} is no component: declare it with @component")
    try:
        hashed = hash(x)
    except TypeError as error:
        raise AssertionError(f"{name} cannot be hashed: {error}") from error
    try:
        again = from_json(json.loads(json.dumps(to_json(x))))
    except Exception as error:
        raise AssertionError(f"{name} does not survive JSON: {error}") from error
    require(again == x, f"{name} comes back from JSON as {again}")
    require(hash(again) == hashed, f"{name}: equal constructions hash differently")
    leaves, structure = jax.tree.flatten(x)
    require(jax.tree.unflatten(structure, leaves) == x, f"{name} changes when flattened")


def pick(tree: PyTree, index: Any) -> PyTree:
    """`x[index]` of every leaf, by NumPy where it can be: indexing in JAX compiles."""

    def choose(x: Any) -> Any:
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return x[index] if is_key else jnp.asarray(np.asarray(x)[index])

    return jax.tree.map(choose, tree)


def last(tree: PyTree) -> PyTree:
    """The last seed, env or step of every leaf."""
    return pick(tree, -1)


def seed_keys() -> Key:
    """The keys `[S]` that `checked_program` runs with."""
    return jax.random.split(jax.random.key(1), NUM_SEEDS)


def checked_init(name: str, init: Callable[[Key], PyTree]) -> PyTree:
    """States of `NUM_SEEDS` seeds, `[S, ...]`; an error other than ours is a violation."""
    keys = jax.random.split(jax.random.key(0), NUM_SEEDS)
    compiled = jax.jit(jax.vmap(init))
    try:
        state = compiled(keys)
        again = jax.eval_shape(jax.vmap(lambda key: init(key)), keys)
    except XploreError:
        raise
    except Exception as error:
        raise AssertionError(
            f"{name}: init raised {type(error).__name__} ({error});"
            " what an environment cannot carry is refused with a ConfigError"
        ) from error
    require(
        jax.tree.structure(state) == jax.tree.structure(again),
        f"{name}: two calls of init differ in structure, so no checkpoint could be restored",
    )
    require_equal(compiled(keys), state, f"{name}: init is not deterministic")
    return state


def checked_program(
    name: str, f: Callable[..., PyTree], x: Any, state: PyTree, traj: Trajectory
) -> Callable[[PyTree, Trajectory], PyTree]:
    """Compiles `f(x, key, state, traj)` for `NUM_SEEDS` seeds and checks what holds of any such.

    Requires that two traces agree, that `x` can be traced (its coefficients vmapped), that equal
    inputs give equal outputs, and that they still do when the state went through NumPy.
    """
    keys, one = seed_keys(), last(state)

    def trace() -> tuple[str, list[Any]]:
        closed = jax.make_jaxpr(lambda *args: f(x, *args))(keys[-1], one, traj)
        return re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr)), closed.consts

    said = f"{name}: two traces differ: something else than its arguments decides (numpy's random?)"
    (first, consts), (second, others) = trace(), trace()
    require(first == second, said)
    require_equal(others, consts, said)
    try:
        jax.eval_shape(f, x, keys[-1], one, traj)
    except Exception as error:
        raise AssertionError(
            f"{name}: its float fields cannot be traced, so not vmapped: {error}"
        ) from error
    compiled = jax.jit(jax.vmap(lambda k, s, t: f(x, k, s, t), in_axes=(0, 0, None)))
    outputs = compiled(keys, state, traj)
    require_equal(compiled(keys, state, traj), outputs, f"{name} is not deterministic")
    restored = compiled(keys, _through_numpy(state), traj)
    require_equal(restored, outputs, f"{name} goes on differently from a checkpoint")
    return lambda state, traj: compiled(keys, state, traj)


def _through_numpy(tree: PyTree) -> PyTree:
    def restore(x: jax.Array) -> jax.Array:
        stored = jnp.asarray(_numpy(x).copy())
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


@functools.lru_cache(maxsize=256)
def programs(env: Environment, num_envs: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
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
            split = (jax.random.split(key, num_envs) for key in keys)
            return jax.vmap(one)(*split, starts, lanes)

        keys = (jax.random.split(k, CHUNK_STEPS) for k in (key_action, key_step))
        return jax.lax.scan(step, lanes, tuple(keys))

    # Half the time to compile, on a CPU; nothing here is run for long.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    index = jnp.arange(num_envs, dtype=jnp.uint32)
    starter = jax.jit(jax.vmap(start), compiler_options=options)
    return lambda a, b: starter(a, b, index), jax.jit(roll, compiler_options=options)


@functools.lru_cache(maxsize=64)
def trajectories(env: Environment, num_envs: int, num_steps: int) -> tuple[Trajectory, Trajectory]:
    """Two random trajectories `[T, N]` of different levels and actions."""
    start, roll = programs(env, num_envs)

    def one(seed: int) -> Trajectory:
        keys = jax.random.split(jax.random.key(seed), 2 * num_envs + 2)
        _, lanes = start(keys[2 : num_envs + 2], keys[num_envs + 2 :])
        starts, parts = lanes, []
        for index in range(-(-num_steps // CHUNK_STEPS)):
            key_action, key_step = jax.random.split(jax.random.fold_in(keys[0], index))
            lanes, traj = roll(key_action, key_step, starts, lanes)
            parts.append(traj._replace(extras=()))
        return jax.tree.map(lambda *x: jnp.asarray(np.concatenate(x)[:num_steps]), *parts)

    return one(0), one(1)


def time_step(traj: Trajectory) -> TimeStep:
    """The `TimeStep`s of a trajectory."""
    return TimeStep(traj.next_obs, traj.reward, traj.terminated, traj.truncated, traj.info)
