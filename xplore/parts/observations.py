"""Observations as numbers a network can take."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete, Space, Symbolic
from xplore.contracts.types import PyTree

SymbolEncoding = Literal["one_hot", "scaled"]


def features(space: Space, obs: PyTree, symbols: SymbolEncoding = "one_hot") -> jax.Array:
    """Turns a batch of observations of `space` into float32 features `[..., D]`.

    Discrete values become one-hot; symbols one-hot (their order means nothing) or, by choice, their
    numbers scaled to [0, 1]; bounded integer boxes (images) are scaled to [0, 1]; other boxes are
    taken as they are. Dicts are concatenated in the order of their names.

    >>> features(Symbolic((2, 2, 1), (3,)), jnp.zeros((5, 2, 2, 1), jnp.uint8)).shape
    (5, 12)
    """
    if isinstance(space, Dict):
        parts = [features(s, obs[name], symbols) for name, s in space.items]
        return jnp.concatenate(parts, axis=-1)
    if isinstance(space, Discrete):
        return jax.nn.one_hot(obs, space.num, dtype=jnp.float32)
    lead = obs.shape[: obs.ndim - len(space.shape)]
    if isinstance(space, Symbolic) and symbols == "scaled":
        # Flat before it is scaled: a last axis of three channels does not vectorise.
        flat = obs.reshape(*lead, -1).astype(jnp.float32)
        return flat * jnp.broadcast_to(_symbol_scale(space).reshape(-1), flat.shape)
    return cell_features(space, obs, symbols).reshape(*lead, -1)


def _symbol_scale(space: Symbolic) -> jax.Array:
    top = np.asarray([max(c - 1, 1) for c in space.cardinalities], np.float32)
    return jnp.asarray(np.broadcast_to(1.0 / top, space.shape))


def cell_features(space: Box | Symbolic, obs: jax.Array, symbols: SymbolEncoding) -> jax.Array:
    """As `features`, but keeps the axes of the space: `[..., H, W, C]` for a picture or a grid."""
    if isinstance(space, Box):
        values = obs.astype(jnp.float32)
        bounded = math.isfinite(space.low) and math.isfinite(space.high) and space.high > space.low
        if bounded and jnp.issubdtype(jnp.dtype(space.dtype), jnp.integer):
            values = (values - space.low) / (space.high - space.low)
        return values
    if symbols == "scaled":
        return obs.astype(jnp.float32) * jnp.broadcast_to(_symbol_scale(space), obs.shape)
    if symbols == "one_hot":
        channels = [
            jax.nn.one_hot(obs[..., c], n, dtype=jnp.float32)
            for c, n in enumerate(space.cardinalities)
        ]
        return jnp.concatenate(channels, axis=-1)
    raise ConfigError(f"unknown symbol encoding {symbols!r}: use 'one_hot' or 'scaled'")


def num_features(space: Space, symbols: SymbolEncoding = "one_hot") -> int:
    """The D of `features`."""
    if isinstance(space, Dict):
        return sum(num_features(s, symbols) for _, s in space.items)
    if isinstance(space, Discrete):
        return space.num
    if isinstance(space, Symbolic) and symbols == "one_hot":
        return math.prod(space.shape[:-1]) * sum(space.cardinalities)
    return math.prod(space.shape)
