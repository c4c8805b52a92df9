"""The shortest tour by all of a few places, exactly and under jit."""

from __future__ import annotations

import functools
import itertools
from typing import Final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

FAR: Final = 2**20  # no way, and more than any


def shortest_tour(first: jax.Array, between: jax.Array, last: jax.Array) -> jax.Array:
    """The fewest steps from a start by each of n places, in any order, to an end: int32 `[]`.

    A place can have K alternatives, one of which is visited. It takes O(2^n (n K)^2) time.

    Args:
        first: int32 `[n, K]`, steps from the start.
        between: int32 `[n, K, n, K]`, from each to each.
        last: int32 `[n, K]`, to the end.

    Reference: Held & Karp (1962), A Dynamic Programming Approach to Sequencing Problems.

    >>> line = jnp.array([3, 1, 2])
    >>> apart = abs(line[:, None] - line[None])
    >>> int(shortest_tour(line[:, None], apart[:, None, :, None], jnp.zeros((3, 1), jnp.int32)))
    3
    """
    num, ways = first.shape
    steps = between.reshape(num * ways, num * ways)
    # Of each set of m places that are still to be visited, and the one that comes first of them.
    rest = jnp.where(np.eye(num, dtype=bool)[..., None], last[None], FAR)
    for size in range(2, num + 1):
        # Term by term, which is done in wide registers, as a reduction is not.
        terms = rest.reshape(-1, num * ways).T, steps.T
        after = jax.lax.scan(_nearer, jnp.full(terms[0].shape[::-1], 2 * FAR), terms)[0]
        without, within = _sets(num, size)
        taken = after.reshape(-1, num, ways)[without, np.arange(num)]
        rest = jnp.where(within[..., None], taken, FAR)
    return jnp.min(first + rest[0])


def _nearer(best: jax.Array, term: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
    rest, way = term
    return jnp.minimum(best, rest[:, None] + way[None]), None


@functools.cache
def _sets(num: int, size: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Of all sets of `size` of `num`: which is left without each, and which have it: `[S, num]`."""
    smaller = {x: i for i, x in enumerate(itertools.combinations(range(num), size - 1))}
    sets = list(itertools.combinations(range(num), size))
    without = np.zeros((len(sets), num), np.int32)
    within = np.zeros((len(sets), num), bool)
    for i, x in enumerate(sets):
        for k in x:
            without[i, k], within[i, k] = smaller[tuple(j for j in x if j != k)], True
    return without, within
