"""Fitting a network to a part of each rollout, as bonuses do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from xplore.contracts.types import Key, Metrics, PyTree


class Fitted(NamedTuple):
    """Parameters and the state of the optimiser that moves them."""

    params: PyTree
    optimiser: PyTree


def init_fitted(params: PyTree, learning_rate: float | jax.Array) -> Fitted:
    """Parameters about to be moved by Adam."""
    return Fitted(params, optax.adam(learning_rate).init(params))


def flatten_rollout(tree: PyTree) -> PyTree:
    """Leaves `[T, N, ...]` as `[T*N, ...]`."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), tree)


def fit(
    key: Key,
    fitted: Fitted,
    loss: Callable[[PyTree, Any, Key], tuple[jax.Array, Metrics]],
    data: PyTree,
    *,
    learning_rate: float | jax.Array,
    fraction: float = 0.25,
    num_minibatches: int = 8,
    num_filled: jax.Array | None = None,
    num_heads: int | None = None,
) -> tuple[Fitted, Metrics]:
    """Takes `num_minibatches` steps of Adam on a `fraction` of `data`, drawn with replacement.

    Args:
        key: consumed.
        fitted: what to move.
        loss: of `(params, rows, key)`, rows having the structure of `data`; a mean over rows, with
            metrics, of which the means over minibatches are returned.
        data: leaves `[M, ...]`, for example a flattened rollout.
        learning_rate: of Adam.
        fraction: of the M rows, all minibatches together.
        num_minibatches: gradient steps.
        num_filled: int32 `[]`, at least 1: only so many of the M rows, the first, are drawn from.
        num_heads: the loss gets rows `[num_heads, B, ...]`, so that each head of an ensemble learns
            from rows of its own; the `fraction` is that of all heads together.
    """
    num_rows = jax.tree.leaves(data)[0].shape[0]
    heads = () if num_heads is None else (num_heads,)
    size = max(1, round(num_rows * fraction / num_minibatches / (num_heads or 1)))
    most = num_rows if num_filled is None else num_filled
    key_rows, key_loss = jax.random.split(key)
    rows = jax.random.randint(key_rows, (num_minibatches, *heads, size), 0, most)
    adam = optax.adam(learning_rate)
    gradient = jax.grad(loss, has_aux=True)

    def step(fitted: Fitted, x: tuple[jax.Array, Key]) -> tuple[Fitted, Metrics]:
        row, key = x
        slopes, metrics = gradient(fitted.params, jax.tree.map(lambda x: x[row], data), key)
        changes, optimiser = adam.update(slopes, fitted.optimiser)
        return Fitted(optax.apply_updates(fitted.params, changes), optimiser), metrics

    keys = jax.random.split(key_loss, num_minibatches)
    fitted, metrics = jax.lax.scan(step, fitted, (rows, keys))
    return fitted, jax.tree.map(jnp.mean, metrics)


def clipped(
    optimiser: optax.GradientTransformation, max_norm: float | jax.Array
) -> optax.GradientTransformation:
    """`optimiser` on gradients clipped to a global norm of at most `max_norm`; 0: as they are."""
    if isinstance(max_norm, float) and max_norm == 0.0:
        return optimiser
    return optax.chain(optax.clip_by_global_norm(max_norm), optimiser)
