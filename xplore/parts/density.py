"""A density over observations, learned by counting: each cell of a grid given its neighbours.

`rho(o) = prod_c p_c(x_c | left of c, above c)`, each p_c estimated as Krichevsky and Trofimov did:
`(n + 1/2) / (m + V/2)`, n the times that symbol and its neighbours were seen at c, m those of the
neighbours alone, V the number of symbols. Places, neighbours and symbols are hashed into two
tables.

References: Krichevsky and Trofimov (1981), The performance of universal encoding; Bellemare et al.
(2016), arXiv:1606.01868, whose context trees look at the same neighbours and two more.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.spaces import Box, Dict, Discrete, Space, Symbolic
from xplore.contracts.types import PyTree
from xplore.parts.cells import quantise
from xplore.parts.hashing import avalanche
from xplore.parts.observations import cell_features

_MOST_CELLS = 42 * 42
_NOMINAL_SYMBOLS = 256.0
_MOST_SYMBOLS = 2.0**24


class Density(NamedTuple):
    """Counts uint32 `[M]` of neighbours, and of neighbours with the symbol between them."""

    contexts: jax.Array
    symbols: jax.Array


def init_density(table_size: int) -> Density:
    """Nothing seen."""
    return Density(jnp.zeros((table_size,), jnp.uint32), jnp.zeros((table_size,), jnp.uint32))


def density_step(
    density: Density, space: Space, obs: PyTree, bin_size: float | jax.Array
) -> tuple[Density, jax.Array]:
    """Sees observations `[N, ...]` of one time step, all at once, and says how well each is known.

    Returns:
        The density with all N counted, and the pseudo-counts `rho (1 - rho') / (rho' - rho)` `[N]`,
        rho' being the density of that observation now, rho what it would be without this visit.
    """
    contexts, symbols, sizes = _rows(space, obs, bin_size, density.contexts.size)
    one = jnp.uint32(1)
    # Written before they are read, or each step would copy both tables.
    density = Density(density.contexts.at[contexts].add(one), density.symbols.at[symbols].add(one))
    m = density.contexts[contexts].astype(jnp.float32) + (0.5 * sizes[None] - 1)
    n = density.symbols[symbols].astype(jnp.float32) - 0.5
    # rho' / rho - 1, and rho': products over the cells, the first as exact for many visits.
    gain = _compound((m - n) / (n * (m + 1)))
    after = jnp.prod((n + 1) / (m + 1), axis=-1)
    return density, (1 - jnp.minimum(after, 1.0)) / jnp.maximum(gain, 1e-9)


def _compound(y: jax.Array) -> jax.Array:
    """`prod_c (1 + y_c) - 1` over the last axis, at most 1e18, without logarithms.

    As a tree of `a + b + a b`: nothing is lost where y is small, and it takes a tenth of the time.
    """
    while (size := y.shape[-1]) > 1:
        a, b, rest = jnp.split(y, [size // 2, size // 2 * 2], axis=-1)
        y = jnp.concatenate([jnp.minimum(a + b + a * b, 1e18), rest], axis=-1)
    return y[..., 0]


def _rows(
    space: Space, obs: PyTree, bin_size: float | jax.Array, table_size: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rows int32 `[N, C]` of neighbours and of symbols, and V `[C]`, for the C cells of `space`."""
    contexts, symbols, sizes = [], [], []
    place = 0
    for leaf_space, leaf in _leaves(space, obs):
        grid, size = _grid(leaf_space, leaf, bin_size)
        height, width = grid.shape[-2:]
        where = np.arange(place, place + height * width, dtype=np.uint32).reshape(height, width)
        place += where.size
        # Beyond the edge there is a symbol of its own, which after the shift by 1 is 0.
        padded = jnp.pad(grid.astype(jnp.uint32) + 1, ((0, 0), (1, 0), (1, 0)))
        left, above = padded[:, 1:, :-1], padded[:, :-1, 1:]
        there = avalanche(jnp.asarray(where))[None]
        context = avalanche(avalanche(avalanche(there + left)) + above)
        symbol = avalanche(context + padded[:, 1:, 1:] * jnp.uint32(0x9E3779B1))
        contexts.append(context.reshape(len(grid), -1))
        symbols.append(symbol.reshape(len(grid), -1))
        sizes.append(jnp.full((where.size,), size, jnp.float32))
    mask = jnp.uint32(table_size - 1)
    both = (jnp.concatenate(x, axis=-1) & mask for x in (contexts, symbols))
    context_rows, symbol_rows = (x.astype(jnp.int32) for x in both)
    return context_rows, symbol_rows, jnp.concatenate(sizes)


def _leaves(space: Space, obs: PyTree) -> list[tuple[Box | Discrete | Symbolic, jax.Array]]:
    if isinstance(space, Dict):
        return [pair for name, s in space.items for pair in _leaves(s, obs[name])]
    return [(space, obs)]


def _grid(
    space: Box | Discrete | Symbolic, obs: jax.Array, bin_size: float | jax.Array
) -> tuple[jax.Array, float | jax.Array]:
    """Symbols `[N, H, W]`, one per cell for all channels, and how many there are.

    What has no rows is one row. Pictures beyond 42 x 42 cells are thinned.
    """
    if isinstance(space, Discrete):
        return obs[:, None, None], float(space.num)
    size: float | jax.Array
    if isinstance(space, Symbolic):
        values, size = obs.astype(jnp.uint32), float(math.prod(space.cardinalities))
        shape = space.shape[:-1]
    else:
        values = quantise(cell_features(space, obs, "scaled").astype(jnp.float32), bin_size)
        values, size = values.astype(jnp.uint32), _num_bins(space, bin_size)
        shape = space.shape[:-1] if len(space.shape) > 2 else space.shape
        num_channels = space.shape[-1] if len(space.shape) > 2 else 1
        size = jnp.minimum(size**num_channels, _MOST_SYMBOLS)
    width = shape[-1] if shape else 1
    cells = values.reshape(len(obs), -1, width, math.prod(space.shape) // max(math.prod(shape), 1))
    stride = math.ceil(math.sqrt(math.prod(cells.shape[1:3]) / _MOST_CELLS))
    cells = cells[:, :: min(stride, cells.shape[1]), ::stride]
    # The channels of a cell as one symbol, so that two cells have one iff all channels are equal.
    symbol = jnp.zeros(cells.shape[:-1], jnp.uint32)
    for channel in range(cells.shape[-1]):
        mixed = avalanche(symbol) if channel else symbol
        symbol = mixed + cells[..., channel]
    return symbol, size


def _num_bins(space: Box, bin_size: float | jax.Array) -> float | jax.Array:
    """How many values a bin of `space` has; a number for those without bounds."""
    width = space.high - space.low
    if not math.isfinite(width):
        return _NOMINAL_SYMBOLS
    if jnp.issubdtype(jnp.dtype(space.dtype), jnp.integer) and width > 0:
        # `cell_features` scales them to [0, 1].
        return jnp.minimum(1.0 / bin_size, width) + 1
    return jnp.minimum(width / bin_size + 1, _NOMINAL_SYMBOLS)
