"""Compiled programs of a run, shared by equal configs, and what they are expected to need."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from xplore.contracts.component import replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.types import Key, Metrics, PyTree
from xplore.loop.config import Config
from xplore.loop.update import TrainState, make_train
from xplore.measure.flops import count_flops
from xplore.measure.memory import available_bytes, estimate_bytes, largest_that_fits

MAX_CHUNK = 64


class Programs(NamedTuple):
    """The jitted parts of a run over S seeds: `init(keys [S])` and `chunk(state, length)`.

    `chunk` makes `length` updates and returns metrics `[MAX_CHUNK, S]`, of which the first `length`
    rows hold; it takes over the buffers of `state`.
    """

    init: Callable[[jax.Array], TrainState]
    chunk: Callable[[TrainState, jax.Array], tuple[TrainState, Metrics]]
    compile_seconds: float


def seed_keys(seeds: tuple[int, ...]) -> Key:
    """One key per seed, `[S]`."""
    return jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))


def state_shapes(config: Config, num_seeds: int) -> PyTree:
    """Shapes and dtypes of the stacked `TrainState`.

    Raises:
        ConfigError: a plug refuses the environment or the sizes of the loop.
    """
    return jax.eval_shape(jax.vmap(make_train(config).init), seed_keys(tuple(range(num_seeds))))


def metric_names(config: Config) -> tuple[str, ...]:
    """Names of the metrics an update returns, sorted."""
    pure = make_train(config)
    state = jax.eval_shape(pure.init, jax.random.key(0))
    return tuple(sorted(jax.eval_shape(pure.update, state)[1]))


@functools.lru_cache(maxsize=16)
def compiled(config: Config, num_seeds: int) -> Programs:
    """Compiles, once for all equal configs and numbers of seeds."""
    pure = make_train(config)
    update = jax.vmap(pure.update)
    shapes = state_shapes(config, num_seeds)
    metrics = jax.eval_shape(update, shapes)[1]

    def chunk(state: TrainState, length: jax.Array) -> tuple[TrainState, Metrics]:
        # A loop of dynamic length: one compilation serves chunks of any length.
        def body(i: jax.Array, loop: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, history = loop
            state, metrics = update(state)
            return state, jax.tree.map(lambda h, m: h.at[i].set(m), history, metrics)

        history = jax.tree.map(lambda x: jnp.zeros((MAX_CHUNK, *x.shape), x.dtype), metrics)
        return jax.lax.fori_loop(0, length, body, (state, history))

    started = time.perf_counter()
    length = jax.ShapeDtypeStruct((), jnp.int32)
    program = jax.jit(chunk, donate_argnums=0).lower(shapes, length).compile()
    seconds = time.perf_counter() - started
    return Programs(jax.jit(jax.vmap(pure.init)), program, seconds)


def flops_per_update(config: Config) -> float:
    """Floating-point operations of one full update of one seed, counted from its jaxpr."""
    pure = make_train(config)
    return count_flops(pure.update, jax.eval_shape(pure.init, jax.random.key(0)))


def check_memory(config: Config, num_seeds: int) -> None:
    """Estimates, before anything is compiled, whether a run fits.

    Raises:
        ConfigError: it does not; names the largest `num_envs` that would.
    """
    limit = available_bytes()

    def need(config: Config) -> int:
        update = jax.vmap(make_train(config).update)
        return estimate_bytes(update, state_shapes(config, num_seeds), donated=True)

    needed = need(config)
    if needed <= limit:
        return

    # Halvings: what divided into minibatches before mostly still does.
    halvings = [config.num_envs >> i for i in range(23, 0, -1) if config.num_envs % (1 << i) == 0]
    candidates = [n for n in halvings if _accepted(_resized(config, n))]
    fits = largest_that_fits(lambda n: need(_resized(config, n)), limit, candidates)
    advice = (
        f"the largest num_envs that fits is {fits}"
        if fits
        else "no num_envs fits: lower num_steps, the bonus's tables or the number of seeds"
    )
    sequential = " (or run the seeds in turn: seed_mode 'sequential')" if num_seeds > 1 else ""
    raise ConfigError(
        f"num_envs {config.num_envs} with {num_seeds} seed(s) at once needs about"
        f" {needed / 2**30:.1f} GiB of the {limit / 2**30:.1f} GiB there are: {advice}{sequential}"
    )


def _resized(config: Config, num_envs: int) -> Config:
    return replace(config, num_envs=num_envs, budget_steps=num_envs * config.num_steps)


def _accepted(config: Config) -> bool:
    try:
        state_shapes(config, 1)
    except ConfigError:
        return False
    return True
