"""Distributions of returns by their quantiles, and what an ensemble of them is unsure of."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


def quantile_loss(quantiles: jax.Array, target: jax.Array) -> jax.Array:
    """Quantile regression `[...]` of `quantiles` `[..., M]` towards samples `target` `[..., J]`.

    sum_i mean_j |tau_i - 1{u_ij < 0}| Huber(u_ij), with u_ij = target_j - quantile_i and
    tau_i = (2i - 1) / 2M.

    Reference: Dabney et al. (2018), arXiv:1710.10044.
    """
    num = quantiles.shape[-1]
    error = target[..., None, :] - quantiles[..., :, None]
    tau = (jnp.arange(num) + 0.5) / num
    tau = jnp.broadcast_to(tau.reshape(*[1] * (error.ndim - 2), num, 1), error.shape)
    weight = jnp.abs(tau - (error < 0))
    return jnp.sum(jnp.mean(weight * optax.huber_loss(error), axis=-1), axis=-1)


def take_quantiles(quantiles: jax.Array, action: jax.Array) -> jax.Array:
    """Those `[..., B, M]` of actions int32 `[..., B]` among `quantiles` `[..., B, A, M]`."""
    done = jax.nn.one_hot(action, quantiles.shape[-2], dtype=bool)[..., None]
    return jnp.sum(jnp.where(jnp.broadcast_to(done, quantiles.shape), quantiles, 0.0), axis=-2)


class Beliefs(NamedTuple):
    """What an ensemble says of returns, each `[..., A]`.

    Attributes:
        mean: over heads and quantiles.
        epistemic: standard deviation over heads (the unbiased one), its square averaged over
            quantiles: what more data would take away.
        aleatoric: standard deviation over quantiles of the heads' mean: what it would not.
    """

    mean: jax.Array
    epistemic: jax.Array
    aleatoric: jax.Array


def beliefs(quantiles: jax.Array) -> Beliefs:
    """Those of K > 1 heads with M quantiles each, `[K, ..., A, M]`."""
    epistemic = jnp.sqrt(jnp.mean(jnp.var(quantiles, axis=0, ddof=1), axis=-1))
    together = jnp.mean(quantiles, axis=0)
    return Beliefs(jnp.mean(together, axis=-1), epistemic, jnp.std(together, axis=-1))
