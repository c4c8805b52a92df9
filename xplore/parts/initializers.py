"""Initial weights that can be drawn under `vmap` on any backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def orthogonal(scale: float = math.sqrt(2.0)) -> Callable[..., jax.Array]:
    """Weights `[..., D_out]` whose flattened rows or columns are orthogonal, times `scale`.

    Gram-Schmidt on a Gaussian matrix, which is uniform over orthogonal matrices. The usual QR
    factorisation is not used: batches of it (seeds under `vmap`) wait for each other for ever in
    the CPU backend's thread pool when several layers are drawn at once (jaxlib 0.10.2, two cores).

    Reference: Saxe et al. (2014), arXiv:1312.6120.

    >>> w = orthogonal(1.0)(jax.random.key(0), (3, 8))
    >>> bool(jnp.allclose(w @ w.T, jnp.eye(3), atol=1e-5))
    True
    """

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        rows, columns = math.prod(shape[:-1]), shape[-1]
        short, long = min(rows, columns), max(rows, columns)
        normal = jax.random.normal(key, (short, long), jnp.float32)

        def orthonormalise(i: jax.Array, basis: jax.Array) -> jax.Array:
            vector = normal[i]
            for _ in range(2):  # once more against rounding
                vector = vector - (basis @ vector) @ basis
            return basis.at[i].set(vector / jnp.linalg.norm(vector))

        basis = jax.lax.fori_loop(0, short, orthonormalise, jnp.zeros_like(normal))
        matrix = basis.T if rows > columns else basis
        return (scale * matrix.reshape(shape)).astype(dtype)

    return init
