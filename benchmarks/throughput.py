"""How fast an environment steps: random actions, auto-reset, every observation made.

One env step here is what the training loop asks of an environment: a random action, `step`, and,
where the episode ended, the next of a batch of initial states and observations by a gather.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Discrete, Space
from xplore.contracts.types import Environment, Key, PyTree
from xplore.parts.apart import apart
from xplore.parts.ranks import running_count

_BLOCK = 64  # the most steps for which actions are drawn at once


class Speed(NamedTuple):
    """What `measure_env_speed` found.

    Attributes:
        steps_per_second: env steps per second over all envs, the median of the repeats.
        steps_per_second_of_repeats: each repeat's, in the order they ran.
        blind_steps_per_second: the median without observations; None if it was not asked for.
        compile_seconds: time to trace and compile the program of all steps.
        state_bytes: bytes of the state of one env.
        obs_bytes: bytes of one observation.
        num_envs, num_steps: envs in parallel, and steps of each in one repeat.
        episodes: episodes that ended in one repeat.
        load: processes that wanted to run in the last minute (`os.getloadavg`), ours among them; a
            figure taken under a load above the number of cores is too low. NaN where unknown.
        steps_per_core_second: the median of env steps per second of processor time, which others on
            the machine take little from.
    """

    steps_per_second: float
    steps_per_second_of_repeats: tuple[float, ...]
    blind_steps_per_second: float | None
    compile_seconds: float
    state_bytes: int
    obs_bytes: int
    num_envs: int
    num_steps: int
    episodes: int
    load: float
    steps_per_core_second: float


class _Loop(NamedTuple):
    state: PyTree
    obs: PyTree
    used: jax.Array
    reward: jax.Array


def measure_env_speed(
    env: Environment,
    *,
    num_envs: int = 1024,
    num_steps: int = 1000,
    repeats: int = 5,
    blind: bool = False,
    fresh: bool = False,
    seed: int = 0,
) -> Speed:
    """Times `num_steps` steps of `num_envs` envs in one program, `repeats` times after a warm-up.

    Args:
        env: any environment.
        num_envs: N.
        num_steps: steps of each env in one repeat.
        repeats: how often it is timed.
        blind: whether to time it without observations too (compiles a second program).
        fresh: whether each repeat draws new levels, one per env, as part of what is timed; without,
            all repeats draw on those made before.
        seed: of levels and actions.

    Raises:
        ConfigError: a count is below 1.
    """
    counts = {"num_envs": num_envs, "num_steps": num_steps, "repeats": repeats}
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name} is {count}: it must be at least 1")
    key_starts, key_run = jax.random.split(jax.random.key(seed))
    starts = jax.jit(lambda key: sample_starts(env, key, num_envs))(key_starts)

    times, core_times, compile_seconds, episodes = _time(
        env, starts, key_run, num_steps, repeats, True, fresh
    )
    blind_median = None
    if blind:
        blind_times, *_ = _time(env, starts, key_run, num_steps, repeats, False, fresh)
        blind_median = num_envs * num_steps / statistics.median(blind_times)
    return Speed(
        steps_per_second=num_envs * num_steps / statistics.median(times),
        steps_per_second_of_repeats=tuple(num_envs * num_steps / t for t in times),
        blind_steps_per_second=blind_median,
        compile_seconds=compile_seconds,
        state_bytes=_bytes(starts[0]) // num_envs,
        obs_bytes=_bytes(starts[1]) // num_envs,
        num_envs=num_envs,
        num_steps=num_steps,
        episodes=episodes,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan,
        steps_per_core_second=num_envs * num_steps / statistics.median(core_times),
    )


def sample_starts(env: Environment, key: Key, num: int) -> tuple[PyTree, PyTree]:
    """States and observations at the start of `num` levels."""
    key_levels, key_start = jax.random.split(key)
    levels = jax.vmap(env.sample_level)(jax.random.split(key_levels, num))
    return jax.vmap(env.reset_to_level)(jax.random.split(key_start, num), levels)


def _bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _time(
    env: Environment,
    starts: tuple[PyTree, PyTree],
    key: Key,
    num_steps: int,
    repeats: int,
    with_obs: bool,
    fresh: bool,
) -> tuple[list[float], list[float], float, int]:
    """Seconds of each repeat, of processors too; to compile; episodes that ended in a repeat."""

    def run(key: Key, loop: _Loop, starts: tuple[PyTree, PyTree]) -> _Loop:
        if fresh:
            starts = sample_starts(env, key, jax.tree.leaves(starts)[0].shape[0])
        return _steps(env, key, loop, starts, num_steps, with_obs)

    state, obs = starts
    loop = _Loop(state, obs if with_obs else (), jnp.int32(0), jnp.float32(0))
    begun = time.perf_counter()
    compiled = jax.jit(run).lower(key, loop, starts).compile()
    compile_seconds = time.perf_counter() - begun
    loop = jax.block_until_ready(compiled(key, loop, starts))
    times, core_times, episodes = [], [], 0
    for key_repeat in jax.random.split(key, repeats):
        begun, core_begun = time.perf_counter(), time.process_time()
        after = jax.block_until_ready(compiled(key_repeat, loop, starts))
        times.append(time.perf_counter() - begun)
        core_times.append(time.process_time() - core_begun)
        episodes, loop = int(after.used - loop.used), after
    return times, core_times, compile_seconds, episodes


def _steps(
    env: Environment,
    key: Key,
    loop: _Loop,
    starts: tuple[PyTree, PyTree],
    num_steps: int,
    with_obs: bool,
) -> _Loop:
    spec = env.spec()
    num_envs = jax.tree.leaves(starts)[0].shape[0]
    key_env, key_actions = jax.random.split(key)
    block = math.gcd(num_steps, _BLOCK)

    def one_step(loop: _Loop, now: tuple[PyTree, Key | None]) -> tuple[_Loop, None]:
        action, key_step = now
        if key_step is None:
            state, ts = jax.vmap(env.step, (None, 0, 0))(key_env, loop.state, action)
        else:
            state, ts = jax.vmap(env.step)(jax.random.split(key_step, num_envs), loop.state, action)
        wanted, found = (starts, (state, ts.obs)) if with_obs else (starts[0], state)
        after, used = next_starts(ts.terminated | ts.truncated, wanted, found, loop.used)
        state, obs = after if with_obs else (after, ())
        return _Loop(state, obs, used, loop.reward + jnp.sum(ts.reward)), None

    def one_block(loop: _Loop, keys: tuple[Key, Key]) -> tuple[_Loop, None]:
        key_actions, key_steps = keys
        actions = random_actions(key_actions, spec.action, (block, num_envs))
        step_keys = jax.random.split(key_steps, block) if spec.stochastic else None
        return jax.lax.scan(one_step, loop, (actions, step_keys), block)

    num_blocks = num_steps // block
    keys = jax.random.split(key_actions, num_blocks), jax.random.split(key_env, num_blocks)
    return jax.lax.scan(one_block, loop, keys, num_blocks)[0]


def next_starts(
    ended: jax.Array, starts: PyTree, found: PyTree, used: jax.Array
) -> tuple[PyTree, jax.Array]:
    """`found`, and where an episode ended the next of `starts`; and how many are used then."""
    order = running_count(ended)
    index = _next_start(used, order)
    after = jax.tree.map(lambda old, new: _select(ended, old, index, new), starts, found)
    return after, used + order[-1]


@apart
def _next_start(used: jax.Array, order: jax.Array) -> jax.Array:
    return (used + order - 1) % order.shape[0]


def _select(mask: jax.Array, starts: jax.Array, index: jax.Array, now: jax.Array) -> jax.Array:
    # Rows of all that an env has: an inner axis of 3 channels is too short for wide registers.
    num_envs = mask.shape[0]
    old, new = starts.reshape(num_envs, -1), now.reshape(num_envs, -1)
    return _select_rows(mask, old, index, new).reshape(now.shape)


@apart
def _select_rows(mask: jax.Array, starts: jax.Array, index: jax.Array, now: jax.Array) -> jax.Array:
    return jnp.where(mask[:, None], starts[index], now)


def random_actions(key: Key, space: Space, shape: tuple[int, int]) -> Any:
    """Actions of all envs for several steps, `shape` being `(steps, envs)`."""
    steps, num_envs = shape
    if isinstance(space, Discrete) and space.num < 1 << 12:
        # A draw of bits for all, in halves of words: a key for each would cost more than a step.
        bits = jax.random.bits(key, (steps, (num_envs + 1) // 2), jnp.uint32)
        halves = jnp.concatenate([bits & 0xFFFF, bits >> 16], axis=1)[:, :num_envs]
        return (halves.astype(jnp.int32) * space.num) >> 16
    keys = jax.random.split(key, shape)
    return jax.vmap(jax.vmap(space.sample))(keys)
