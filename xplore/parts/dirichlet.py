"""Draws of transition probabilities from a Dirichlet posterior, without a number for each state."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from xplore.contracts.types import Key

_TRIES = 4


class Draw(NamedTuple):
    """Transition probabilities of many pairs `[...]`; `mean_under` takes expectations with them.

    Attributes:
        seen: float32 `[..., K]`, p_n: of the successors that were seen.
        share: float32 `[...]`, B: what falls to the prior.
        place: int32 `[..., J]`, where the pieces of the prior's stick lie.
        kept: float32 `[..., J]`, of what was left of the stick, the part left after each piece.
    """

    seen: jax.Array
    share: jax.Array
    place: jax.Array
    kept: jax.Array


def draw_posterior(key: Key, count: jax.Array, num_places: int, num_sticks: int) -> Draw:
    """Draws p ~ Dir(1/L, ..., 1/L plus the counts of what was seen), for many pairs at once.

    With n the sum of the counts, p = B p_0 + (1 - B) p_n, where B ~ Beta(1, n), p_0 is drawn from
    the prior Dir(1/L, ..., 1/L), p_n from Dir(counts), all independent. As the prior's numbers
    sum to 1, p_0 puts the pieces of a stick on places drawn uniformly (Sethuraman, 1994), each
    piece a uniform part of what is left of it; and B = 1 - U^(1/n).

    Exact but for three things. The J-th piece is all that is left: of the prior's share B, which is
    1 only for what was never seen, a mean of 2^-(J-1) lies on one place instead of several (3e-5 at
    J = 16). A place and a piece come from 16 bits each, so that the chance of a place is off by a
    part of L / 2^16 at most (above 1,024 places they come from 32 bits each). And where more than
    one successor is kept, Dir(counts) is made of gammas accepted at the latest at the fourth try;
    fewer than one in 10^5 would not have been.

    Args:
        key: consumed.
        count: int32 `[..., K]`, how often each successor was seen.
        num_places: L.
        num_sticks: J.
    """
    k_stick, k_place, k_share, k_seen = jax.random.split(key, 4)
    pairs = count.shape[:-1]
    bits = jax.random.bits(k_stick, (*pairs, num_sticks), jnp.uint32)
    if num_places <= 1024:
        place = ((bits & 0xFFFF) * num_places) >> 16
    else:
        place = jax.random.bits(k_place, bits.shape, jnp.uint32) % num_places
    kept = ((bits >> 16).astype(jnp.float32) + 0.5) / 65536.0
    total = jnp.sum(count, axis=-1)
    u = jax.random.uniform(k_share, pairs, minval=1e-37)
    # Not as 1 - u ** (1 / n): for large n that is below the spacing of floats near 1.
    share = jnp.where(total > 0, -jnp.expm1(jnp.log(u) / jnp.maximum(total, 1)), 1.0)
    if count.shape[-1] == 1:
        seen = (count > 0).astype(jnp.float32)
    else:
        gammas = jnp.where(count > 0, gammas_from_1(k_seen, jnp.maximum(count, 1)), 0.0)
        seen = gammas / jnp.maximum(jnp.sum(gammas, axis=-1, keepdims=True), 1e-30)
    return Draw(seen, share, place.astype(jnp.int32), kept)


def mean_under(draw: Draw, successor: jax.Array, value: jax.Array) -> jax.Array:
    """E_p[value] `[...]`: `successor` int32 `[..., K]` are the places that were seen."""
    of_seen = jnp.sum(draw.seen * value[successor], axis=-1)
    num_sticks = draw.place.shape[-1]
    of_prior = value[draw.place[..., -1]]
    for j in reversed(range(num_sticks - 1)):
        here, kept = value[draw.place[..., j]], draw.kept[..., j]
        of_prior = here + kept * (of_prior - here)
    return of_seen + draw.share * (of_prior - of_seen)


def gammas_from_1(key: Key, shape: jax.Array) -> jax.Array:
    """Draws Gamma(shape) for shapes of at least 1, with a fixed number of tries.

    The method of Marsaglia & Tsang (2000): d (1 + c x)^3 of a normal x, accepted with a probability
    of 0.95 at shape 1 and more above. A fourth try is accepted whatever it is.
    """
    d = shape - 1.0 / 3.0
    c = 1.0 / jnp.sqrt(9.0 * d)
    k_normal, k_uniform = jax.random.split(key)
    x = jax.random.normal(k_normal, (_TRIES, *shape.shape))
    u = jax.random.uniform(k_uniform, (_TRIES, *shape.shape))
    v = (1.0 + c[None] * x) ** 3
    positive = jnp.maximum(v, 1e-6)
    bound = 0.5 * x**2 + d[None] * (1.0 - positive + jnp.log(positive))
    accepted = ((v > 0.0) & (jnp.log(u) < bound)).at[-1].set(True)
    first = jnp.argmax(accepted, axis=0)
    return d * jnp.take_along_axis(positive, first[None], axis=0)[0]
