"""Small networks by which a bonus predicts, and the inputs they see."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from xplore.contracts.spaces import Dict, Space, Symbolic
from xplore.contracts.types import Key, PyTree
from xplore.parts.initializers import orthogonal
from xplore.parts.observations import SymbolEncoding, features

Inputs = Literal["codes", "one_hot", "scaled"]
_MOST_COMBINATIONS = 1 << 14


class MLP(nn.Module):
    """Dense layers of `sizes`, leaky-ReLU between them; orthogonal weights, zero biases."""

    sizes: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, size in enumerate(self.sizes):
            last = i == len(self.sizes) - 1
            init = orthogonal(1.0 if last else math.sqrt(2.0))
            x = nn.Dense(size, kernel_init=init)(x)
            x = x if last else nn.leaky_relu(x)
        return x


def init_ensemble(model: MLP, key: Key, num_inputs: int, num_heads: int) -> PyTree:
    """Parameters of `num_heads` models that start apart; leaves `[num_heads, ...]`."""
    keys = jax.random.split(key, num_heads)
    return jax.vmap(model.init, in_axes=(0, None))(keys, jnp.zeros(num_inputs))


def apply_ensemble(model: MLP, params: PyTree, x: jax.Array, *, own: bool = False) -> jax.Array:
    """What all heads say of `x` `[..., D]` (of their `own`, `[num_heads, ..., D]`)."""
    said: jax.Array = jax.vmap(model.apply, in_axes=(0, 0 if own else None))(params, x)  # type: ignore[assignment]
    return said


def init_codes(key: Key, space: Space, size: int = 4) -> PyTree:
    """Draws fixed random codes for every `Symbolic` space within `space`; `()` where there is none.

    A cell of a grid gets one code `[size]` for all its channels together (a red closed door is not
    a sum of its parts), or, where there are too many combinations, one code per channel.
    """
    if isinstance(space, Dict):
        keys = jax.random.split(key, max(len(space.items), 1))
        pairs = zip(space.items, keys, strict=False)
        return {name: init_codes(k, s, size) for (name, s), k in pairs}
    if not isinstance(space, Symbolic):
        return ()
    counts = _table_sizes(space)
    return tuple(
        jax.random.normal(k, (n, size), jnp.float32)
        for n, k in zip(counts, jax.random.split(key, len(counts)), strict=True)
    )


def _table_sizes(space: Symbolic) -> tuple[int, ...]:
    together = math.prod(space.cardinalities)
    return (together,) if together <= _MOST_COMBINATIONS else space.cardinalities


def encode(space: Space, codes: PyTree, obs: PyTree, inputs: Inputs) -> jax.Array:
    """A network's inputs `[..., D]`: symbols by their `codes`, all else as `features` has it.

    On a 7x7 view of MiniGrid D is 196 with codes of size 4, 1,029 one-hot and 147 scaled. Codes
    are a fixed random projection of the one-hot form: no symbol is nearer to another by its number.
    """
    if isinstance(space, Dict):
        parts = [encode(s, codes[name], obs[name], inputs) for name, s in space.items]
        return jnp.concatenate(parts, axis=-1)
    if inputs != "codes" or not isinstance(space, Symbolic):
        symbols: SymbolEncoding = "scaled" if inputs == "scaled" else "one_hot"
        return features(space, obs, symbols)
    batch = obs.shape[: obs.ndim - len(space.shape)]
    cells = obs.reshape(*batch, -1, obs.shape[-1])
    channels = [cells[..., c].astype(jnp.int32) for c in range(obs.shape[-1])]
    if len(codes) == 1:
        index = jnp.zeros_like(channels[0])
        for channel, n in zip(channels, space.cardinalities, strict=True):
            index = index * n + channel
        channels = [index]
    # Kept apart from the look-up, or the index is worked out again for every entry of a code.
    barrier: Callable[[list[jax.Array]], list[jax.Array]] = jax.lax.optimization_barrier
    channels = barrier(channels)
    parts = [table[c].reshape(*batch, -1) for table, c in zip(codes, channels, strict=True)]
    return jnp.concatenate(parts, axis=-1)
