"""Episodic memories against NumPy, and the ellipse against the inverse it stands for."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.parts import episodic as ep

N, D = 3, 4


@pytest.mark.parametrize(("num_steps", "capacity"), [(12, 5), (7, 1), (6, 20)])
def test_the_memory_keeps_the_latest_of_each_episode(num_steps: int, capacity: int):
    draw = np.random.default_rng(num_steps)
    memory = ep.init_memory(N, capacity, D)
    kept: list[list[np.ndarray]] = [[] for _ in range(N)]  # a run may begin amid an episode
    compare = jax.jit(ep.recall, static_argnums=4)
    for _ in range(4):
        start, after = draw.normal(size=(2, num_steps, N, D)).astype(np.float32)
        first = draw.random((num_steps, N)) < 0.2
        memory, found = compare(memory, start, after, first, 3)
        for t, n in itertools.product(range(num_steps), range(N)):
            kept[n] = [start[t, n]] if first[t, n] else kept[n]
            far = sorted(float(np.sum((m - after[t, n]) ** 2)) for m in kept[n])[:3]
            expected = far + [np.inf] * (3 - len(far))
            np.testing.assert_allclose(found[:, t, n], expected, rtol=1e-4)
            kept[n] = [*kept[n], after[t, n]][-capacity:]
        for n in range(N):
            count = int(memory.length[n])
            np.testing.assert_array_equal(memory.rows[:, capacity - count :, n].T, kept[n])


def test_what_is_seen_again_is_at_no_distance_at_all():
    seen = 100.0 + jax.random.normal(jax.random.key(0), (1, N, D))
    _, found = ep.recall(ep.init_memory(N, 2, D), seen, seen, jnp.ones((1, N), bool), 1)
    np.testing.assert_array_equal(found, np.zeros((1, 1, N)))


def test_the_nearest_are_sorted_and_more_than_there_are_infinitely_far():
    drawn = np.random.default_rng(0).integers(0, 6, (9, 40)).astype(np.float32)
    distance = jnp.asarray(drawn)
    for k in (1, 4):
        np.testing.assert_array_equal(ep.nearest(distance, k), np.sort(drawn, axis=0)[:k])
    np.testing.assert_array_equal(ep.nearest(distance, 11)[9:], np.full((2, 40), np.inf))


def test_the_inverse_is_one_after_a_thousand_steps():
    ridge, steps = 0.1, 1000
    phi = jax.random.normal(jax.random.key(0), (steps, N, D))

    def step(inverse, x):
        return ep.enlarge(inverse, x, jnp.zeros(N, bool), ridge)

    inverse, b = jax.lax.scan(step, ep.init_inverse(N, D, ridge), phi)
    c = ridge * np.eye(D) + np.einsum("tni,tnj->nij", phi, phi)
    np.testing.assert_allclose(c @ np.asarray(inverse), np.eye(D)[None].repeat(N, 0), atol=1e-3)
    assert (np.asarray(b) >= 0).all()


def test_one_hot_features_make_the_ellipse_a_count():
    ridge, steps = 0.1, 60
    draw = np.random.default_rng(1)
    cell, first = draw.integers(D, size=(steps, N)), draw.random((steps, N)) < 0.1

    def step(inverse, x):
        return ep.enlarge(inverse, jax.nn.one_hot(x[0], D), x[1], ridge)

    begun = ep.init_inverse(N, D, ridge)
    _, b = jax.lax.scan(step, begun, (jnp.asarray(cell), jnp.asarray(first)))
    seen = np.zeros((N, D))
    for t in range(steps):
        seen[first[t]] = 0
        before = seen[np.arange(N), cell[t]]
        np.testing.assert_allclose(b[t], 1 / (ridge + before), rtol=1e-4)
        seen[np.arange(N), cell[t]] += 1
