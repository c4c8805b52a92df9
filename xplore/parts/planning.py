"""Backward induction over a finite horizon, with what a method makes of its model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from xplore.contracts.types import PyTree
from xplore.parts.tabular import Layout, Model


class Local(NamedTuple):
    """What is known of the pairs that can be met at one time.

    Attributes:
        visits: float32 `[L, A]`.
        reward: float32 `[L, A]`, means; 0 where never visited.
        successor: int32 `[L, A, K]`, L for the end.
        probability: float32 `[L, A, K]`, empirical; all 0 where never visited.
    """

    visits: jax.Array
    reward: jax.Array
    successor: jax.Array
    probability: jax.Array


def estimates(model: Model) -> Local:
    """Counts as means and frequencies, over the rows of all states `[S, ...]`."""
    seen = jnp.maximum(jnp.sum(model.counts, axis=-1, keepdims=True), 1)
    visits = model.visits.astype(jnp.float32)
    return Local(
        visits=visits,
        reward=model.reward / jnp.maximum(visits, 1.0),
        successor=model.successor,
        probability=model.counts / seen,
    )


def expected(local: Local, value: jax.Array) -> jax.Array:
    """`[L, A]`: the mean of `value` `[L + 1]` over the successors."""
    return jnp.sum(local.probability * value[local.successor], axis=-1)


def posterior_mean(local: Local, value: jax.Array) -> jax.Array:
    """`[L, A]`: the mean of `value` `[L + 1]` under Dir(1/L, ..., 1/L plus the counts)."""
    seen = jnp.sum(local.probability, axis=-1) * local.visits
    return (seen * expected(local, value) + jnp.mean(value[:-1])) / (seen + 1.0)


def variance(local: Local, value: jax.Array) -> jax.Array:
    """`[L, A]`: the variance of `value` `[L + 1]` over the successors."""
    mean = expected(local, value)[..., None]
    return jnp.sum(local.probability * jnp.square(value[local.successor] - mean), axis=-1)


def by_time(layout: Layout, tree: PyTree) -> PyTree:
    """What is known over rows `[S, ...]`, as `[H, L, ...]` where the state tells the time."""
    if not layout.layered:
        return tree
    head = (layout.horizon, layout.num_local)
    return jax.tree.map(lambda x: x.reshape(*head, *x.shape[1:]), tree)


def backward_induction(
    layout: Layout,
    backup: Callable[[jax.Array, PyTree, PyTree, jax.Array], jax.Array],
    known: PyTree,
    varying: PyTree = (),
) -> jax.Array:
    """Q `[H, L, A]` by Q_h = backup(V_{h+1}, ...), V_h = max_a Q_h, V_H = 0.

    Args:
        layout: of the tables.
        backup: `(value [L + 1], known, varying, left)` to `[L, A]`; `value` ends with the 0 of an
            episode's end, `left` = H - h is the number of steps to go.
        known: what is known over the rows of states `[S, ...]`; `backup` gets `[L, ...]` of it, all
            of it where the state does not tell the time.
        varying: leaves `[H, ...]`; `backup` gets those of time h.
    """
    known = by_time(layout, known)

    def one(value: jax.Array, x: tuple[PyTree, PyTree, jax.Array]) -> tuple[jax.Array, jax.Array]:
        at_h, varying_h, left = x
        padded = jnp.concatenate([value, jnp.zeros(1)])
        q = backup(padded, at_h if layout.layered else known, varying_h, left)
        return jnp.max(q, axis=-1), q

    left = layout.horizon - jnp.arange(layout.horizon, dtype=jnp.float32)
    xs = (known if layout.layered else (), varying, left)
    return jax.lax.scan(one, jnp.zeros(layout.num_local), xs, reverse=True)[1]
