"""Distributions of returns by their quantiles, and what an ensemble of them is unsure of."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from xplore.contracts.errors import ConfigError, did_you_mean
from xplore.contracts.types import Key

Acting = Literal["ucb", "thompson", "ids"]
ACTINGS: tuple[Acting, ...] = get_args(Acting)

_LEAST_NOISE = 0.25  # rho^2 of `directed`, below which little information would look like much
_TINY = 1e-5


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


def check_acting(agent: str, acting: str) -> None:
    """Checks how an agent, named by its id, acts on its beliefs.

    Raises:
        ConfigError: there is no such way.
    """
    if acting not in ACTINGS:
        raise ConfigError(
            f"{agent}: acting is {acting!r}{did_you_mean(acting, ACTINGS)}"
            f" (one of {', '.join(ACTINGS)})"
        )


def scores(key: Key, acting: Acting, believed: Beliefs, phi: jax.Array) -> jax.Array:
    """What each env takes the highest of, `[N, A]`, given its coefficient `phi` `[N]`.

    * `ucb`: mean + phi epistemic;
    * `thompson`: the same times z, drawn from N(0, 1) for each action;
    * `ids`: see `directed`.

    Reference: Jiang et al. (2023), arXiv:2306.05483.
    """
    width = jnp.broadcast_to(phi[:, None], believed.mean.shape) * believed.epistemic
    if acting == "ids":
        return directed(believed, width)
    z = jax.random.normal(key, width.shape) if acting == "thompson" else jnp.ones(width.shape)
    return believed.mean + width * z


def directed(believed: Beliefs, width: jax.Array) -> jax.Array:
    """Information for what it costs, `[..., A]`: -Delta(a)^2 / I(a), highest where it is cheapest.

    Delta(a) = max_a' [mean(a') + width(a')] - [mean(a) - width(a)], the regret that cannot be ruled
    out; I(a) = log(1 + epistemic(a)^2 / rho(a)^2), with rho(a)^2 = aleatoric(a)^2 / (the mean of it
    over actions), at least 1/4.

    Reference: Nikolov et al. (2019), Information-directed exploration for deep reinforcement
    learning, arXiv:1812.07544.
    """
    best = jnp.max(believed.mean + width, axis=-1, keepdims=True)
    regret = best - (believed.mean - width)
    noise = jnp.square(believed.aleatoric)
    noise = noise / (_TINY + jnp.mean(noise, axis=-1, keepdims=True))
    information = jnp.log1p(jnp.square(believed.epistemic) / jnp.maximum(noise, _LEAST_NOISE))
    return -jnp.square(regret) / (information + _TINY)
