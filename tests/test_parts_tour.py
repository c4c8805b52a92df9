"""The shortest tour against all orders, and what it is given by Miner and RuleWorld."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.parts.tour import shortest_tour

TOUR = jax.jit(shortest_tour)


def by_trying(first, between, last):
    num, ways = first.shape
    return min(
        first[order[0], way[0]]
        + sum(between[order[i], way[i], order[i + 1], way[i + 1]] for i in range(num - 1))
        + last[order[-1], way[-1]]
        for order in itertools.permutations(range(num))
        for way in itertools.product(range(ways), repeat=num)
    )


@pytest.mark.parametrize(("num", "ways"), [(1, 2), (2, 1), (4, 3)])
def test_the_shortest_of_all_orders(num, ways):
    rng = np.random.default_rng(num)
    for _ in range(4):
        # Not symmetric, and without the triangle inequality.
        first, last = rng.integers(1, 50, (2, num, ways)).astype(np.int32)
        between = rng.integers(1, 50, (num, ways, num, ways)).astype(np.int32)
        assert int(TOUR(first, between, last)) == by_trying(first, between, last)


def test_many_places_in_a_row():
    place = np.array([7, 2, 4, 1, 6, 3, 8, 5], np.int32)
    apart = abs(place[:, None] - place)
    steps = TOUR(place[:, None], apart[:, None, :, None], jnp.zeros((8, 1), jnp.int32))
    assert int(steps) == 8
