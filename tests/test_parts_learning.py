"""Advantages, minibatches, initial weights, level ids: against references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xplore.parts import minibatch
from xplore.parts.initializers import orthogonal
from xplore.parts.levels import held_out_ids, train_ids
from xplore.parts.returns import gae


def _numpy_gae(reward, value, next_value, terminated, truncated, discount, trace, episodic):
    advantage = np.zeros_like(reward)
    following = np.zeros(reward.shape[1])
    for t in reversed(range(len(reward))):
        alive = 1.0 - terminated[t] if episodic else 1.0
        linked = 1.0 - (terminated[t] | truncated[t]) if episodic else 1.0
        delta = reward[t] + discount * alive * next_value[t] - value[t]
        following = delta + discount * trace * linked * following
        advantage[t] = following
    return advantage


@pytest.mark.parametrize("episodic", [True, False])
def test_gae_against_numpy(episodic):
    rng = np.random.default_rng(0)
    reward, value, next_value = rng.normal(size=(3, 20, 4)).astype(np.float32)
    terminated = rng.random((20, 4)) < 0.2
    truncated = (rng.random((20, 4)) < 0.2) & ~terminated
    args = (reward, value, next_value, terminated, truncated)
    ours = gae(*map(jnp.asarray, args), discount=0.9, trace=0.8, episodic=episodic)
    np.testing.assert_allclose(ours, _numpy_gae(*args, 0.9, 0.8, episodic), rtol=2e-5, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31 - 1))
def test_shuffle_is_a_bijection(num_steps, num_envs, seed):
    order = minibatch.shuffled_index(jax.random.key(seed), num_steps, num_envs)
    np.testing.assert_array_equal(np.sort(order), np.arange(num_steps * num_envs))


def test_shuffle_spreads_positions_and_separates_neighbours():
    keys = jax.random.split(jax.random.key(0), 2000)
    orders = np.asarray(jax.vmap(lambda k: minibatch.shuffled_index(k, 8, 8))(keys))
    # Where each item lands is uniform: a chi-square over 64 places with 63 degrees of freedom.
    for item in (0, 9, 63):
        places = np.bincount(np.argmax(orders == item, axis=1), minlength=64)
        chi_square = np.sum((places - 2000 / 64) ** 2 / (2000 / 64))
        assert chi_square < 115  # p < 1e-4 under uniformity
    # Items next to each other in time land in the same quarter about one time in four.
    place_of = np.argsort(orders, axis=1) // 16
    together = np.mean(place_of[:, 0] == place_of[:, 8])
    assert abs(together - 15 / 63) < 5 * np.sqrt(0.24 * 0.76 / 2000)


def test_mean_gradient_in_pieces_is_the_gradient():
    key = jax.random.key(0)
    data = {"x": jax.random.normal(key, (64, 3)), "y": jnp.arange(64.0)}
    index = jax.random.permutation(key, 64)[:48]
    extra = jnp.linspace(0, 1, 48)

    def loss(params, rows):
        row, weight = rows
        error = weight * (row["x"] @ params - row["y"]) ** 2
        return jnp.mean(error), {"loss": jnp.mean(error)}

    params = jnp.ones(3)
    (_, metrics), whole = jax.value_and_grad(loss, has_aux=True)(
        params, ({"x": data["x"][index], "y": data["y"][index]}, extra)
    )
    assert minibatch._num_pieces(48, 8) == 6
    pieces, piece_metrics = minibatch.mean_gradient(loss, params, data, index, extra, cpu_rows=8)
    np.testing.assert_allclose(pieces, whole, rtol=1e-5)
    np.testing.assert_allclose(piece_metrics["loss"], metrics["loss"], rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 4), (3, 9), (9, 3), (2, 2, 8)])
def test_orthogonal_under_vmap(shape):
    keys = jax.random.split(jax.random.key(0), 3)
    weights = jax.vmap(lambda k: orthogonal(2.0)(k, shape))(keys)
    for w in np.asarray(weights).reshape(3, -1, shape[-1]):
        gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
        np.testing.assert_allclose(gram, 4.0 * np.eye(len(gram)), atol=1e-5)
    assert not np.allclose(weights[0], weights[1])


def test_level_ids_are_distinct_nested_and_never_held_out():
    train = np.asarray(train_ids(5, jnp.arange(20_000)))
    assert len(np.unique(train)) == 20_000
    assert np.all(train < 2**31)
    np.testing.assert_array_equal(train[:200], train_ids(5, jnp.arange(200)))
    held_out = np.asarray(held_out_ids(5, 1000))
    assert np.all(held_out >= 2**31)
    assert len(np.unique(held_out)) == 1000
    assert len(np.intersect1d(train, np.asarray(train_ids(6, jnp.arange(20_000))))) < 5
