"""Episodic memories against NumPy, and the ellipse against the inverse it stands for."""

import jax
import jax.numpy as jnp
import numpy as np

from xplore.parts import episodic as ep

N, D, CAPACITY = 3, 4, 5


def test_the_ring_keeps_the_latest_of_each_episode():
    draw = np.random.default_rng(0)
    ring = ep.init_ring(N, CAPACITY, D)
    kept: list[list[np.ndarray]] = [[] for _ in range(N)]

    @jax.jit
    def step(ring, x, first):
        ring = ep.forget(ring, first)
        return ep.remember(ring, x), ep.nearest(ep.squared_distances(ring, x), 3)

    for _ in range(40):
        x, first = draw.normal(size=(N, D)).astype(np.float32), draw.random(N) < 0.15
        ring, found = step(ring, jnp.asarray(x), jnp.asarray(first))
        for n in range(N):
            kept[n] = [] if first[n] else kept[n]
            far = sorted(float(np.sum((m - x[n]) ** 2)) for m in kept[n])[:3]
            np.testing.assert_allclose(found[n], far + [np.inf] * (3 - len(far)), rtol=1e-4)
            kept[n] = [*kept[n], x[n]][-CAPACITY:]


def test_more_neighbours_than_rows_are_infinitely_far():
    ring = ep.remember(ep.init_ring(1, 2, D), jnp.ones((1, D)))
    found = ep.nearest(ep.squared_distances(ring, jnp.zeros((1, D))), 4)
    np.testing.assert_array_equal(found, [[4.0, np.inf, np.inf, np.inf]])


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
