"""Minibatches of a rollout: a shuffle without a sort, and gradients in pieces that fit a cache."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from xplore.contracts.errors import ConfigError
from xplore.contracts.types import Key, Metrics, PyTree

_ROUNDS = 6


def check_minibatches(agent: str, num_envs: int, num_minibatches: int) -> None:
    """Checks that a rollout of any length divides into minibatches.

    Raises:
        ConfigError: it does not; names the numbers that would do.
    """
    if num_envs % num_minibatches:
        fits = [m for m in range(1, num_minibatches + 1) if num_envs % m == 0]
        raise ConfigError(
            f"{agent}: {num_envs} envs do not divide into {num_minibatches} minibatches: use"
            f" num_minibatches={fits[-1]}, or a multiple of {num_minibatches} envs"
        )


def shuffled_index(key: Key, num_steps: int, num_envs: int) -> jax.Array:
    """A pseudo-random order `[T*N]` of the flattened steps of a rollout.

    An additive Feistel network on (t, n): t += f(n) mod T, n += g(t) mod N, six times with
    keyed hashes f and g. It is a bijection for any T and N, and far cheaper on a CPU than sorting
    random keys, which took a tenth of an update.

    >>> order = shuffled_index(jax.random.key(0), 7, 12)
    >>> bool(jnp.all(jnp.sort(order) == jnp.arange(84)))
    True
    """
    keys = jax.random.bits(key, (_ROUNDS, 2), jnp.uint32)
    position = jnp.arange(num_steps * num_envs, dtype=jnp.uint32)
    t, n = position // num_envs, position % num_envs
    for i in range(_ROUNDS):
        t = (t + _hash(n, keys[i, 0]) % num_steps) % num_steps
        n = (n + _hash(t, keys[i, 1]) % num_envs) % num_envs
    return (t * num_envs + n).astype(jnp.int32)


def _hash(x: jax.Array, key: jax.Array) -> jax.Array:
    x = (x ^ key) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def mean_gradient(
    loss: Callable[[PyTree, PyTree], tuple[jax.Array, Metrics]],
    params: PyTree,
    data: PyTree,
    index: jax.Array,
    extra: PyTree = (),
    *,
    cpu_rows: int = 4096,
) -> tuple[PyTree, Metrics]:
    """Gradient and metrics of `loss(params, (rows, extra))`, a mean over rows `index` of `data`.

    On a CPU the rows are taken in pieces that stay in the cache and the pieces are averaged: faster
    by a fifth than one pass over 32,768 rows, from which the result differs only by rounding.

    Args:
        loss: a mean over rows, with metrics that are means too.
        params: what to differentiate by.
        data: leaves `[M, ...]`.
        index: int32 `[B]`.
        extra: leaves `[B, ...]`, already in the order of `index`.
        cpu_rows: the most rows of a piece on a CPU.
    """
    gradient = jax.grad(loss, has_aux=True)

    def piece(index: jax.Array, extra: PyTree) -> tuple[PyTree, Metrics]:
        return gradient(params, (jax.tree.map(lambda x: _take(x, index), data), extra))

    pieces = _num_pieces(index.shape[0], cpu_rows)
    if pieces == 1:
        return piece(index, extra)

    def add(total: PyTree, part: tuple[jax.Array, PyTree]) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, piece(*part)), None

    split = jax.tree.map(lambda x: x.reshape(pieces, -1, *x.shape[1:]), (index, extra))
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(piece, index, extra))
    total, _ = jax.lax.scan(add, zero, split)
    return jax.tree.map(lambda x: x / pieces, total)


def _take(x: jax.Array, index: jax.Array) -> jax.Array:
    # Rows of bytes are gathered three times faster flat than in three axes.
    return x.reshape(x.shape[0], -1)[index].reshape(*index.shape, *x.shape[1:])


def _num_pieces(rows: int, cpu_rows: int) -> int:
    """The fewest equal pieces of at most `cpu_rows` rows; 1 off the CPU or if no number fits."""
    if jax.default_backend() != "cpu":
        return 1
    fewest = -(-rows // cpu_rows)
    return next((p for p in range(fewest, 4 * fewest) if rows % p == 0), 1)
