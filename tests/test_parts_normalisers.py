"""Running statistics and reward normalisers, held against NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xplore.parts.normalisers import (
    NORMALISER_KINDS,
    NormaliserKind,
    add_values,
    init_moments,
    init_reward_stats,
    normalise_reward,
    standardise,
)

T, N = 5, 3
_add = jax.jit(add_values)
_normalise = jax.jit(normalise_reward, static_argnums=0)


@given(st.integers(0, 2**31), st.integers(1, 4), st.floats(-100, 100), st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_merged_moments_are_those_of_all_values(
    seed: int, rollouts: int, mean: float, scale: float
) -> None:
    values = np.random.default_rng(seed).normal(mean, scale, (rollouts, T, N, 2)).astype(np.float32)
    moments = init_moments((2,))
    for rollout in values:
        moments = _add(moments, jnp.asarray(rollout))
    flat = values.reshape(-1, 2).astype(np.float64)
    assert float(moments.total) == len(flat)  # T * N a rollout, not T
    np.testing.assert_allclose(moments.mean, flat.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(moments.var, flat.var(0), rtol=2e-3)


@given(st.integers(0, 2**31), st.floats(0, 0.999))
@settings(max_examples=30, deadline=None)
def test_return_std_is_the_recursion(seed: int, discount: float) -> None:
    rewards = np.random.default_rng(seed).exponential(1.0, (3, T, N)).astype(np.float32)
    stats = init_reward_stats(N)
    running, seen = np.zeros(N), []
    for rollout in rewards:
        stats, normalised = _normalise("return_std", stats, jnp.asarray(rollout), discount)
        for row in rollout:
            running = discount * running + row
            seen.append(running)
        expected = rollout / np.sqrt(np.var(np.stack(seen)) + 1e-8)
        np.testing.assert_allclose(normalised, expected, rtol=2e-3)
    np.testing.assert_allclose(stats.returns, running, rtol=1e-4)


def test_other_kinds_by_hand() -> None:
    first = jnp.asarray([[0.0, 4.0], [2.0, 2.0]])
    second = first + 10
    stats = init_reward_stats(2)
    after, same = _normalise("none", stats, first)
    assert jnp.array_equal(same, first)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, after, stats))

    after, scaled = _normalise("std", stats, first)
    np.testing.assert_allclose(scaled, first / np.sqrt(2), rtol=1e-5)
    _, scaled = _normalise("std", after, second)
    everything = np.concatenate([np.ravel(first), np.ravel(second)])
    np.testing.assert_allclose(scaled, second / everything.std(), rtol=1e-5)

    after, scaled = _normalise("zscore_ema", stats, first)
    np.testing.assert_allclose(scaled, (first - 2) / np.sqrt(2), rtol=1e-4)
    _, scaled = _normalise("zscore_ema", after, second)
    np.testing.assert_allclose(scaled, (second - (0.9 * 2 + 0.1 * 12)) / np.sqrt(2), rtol=1e-4)

    _, scaled = _normalise("minmax", stats, second)
    np.testing.assert_allclose(scaled, first / 4, rtol=1e-5)


@pytest.mark.parametrize("kind", NORMALISER_KINDS)
def test_constant_rewards_stay_finite(kind: NormaliserKind) -> None:
    stats = init_reward_stats(N)
    for value in (0.0, 0.0, 3.0):
        stats, scaled = _normalise(kind, stats, jnp.full((T, N), value))
        assert bool(jnp.all(jnp.isfinite(scaled)))


def test_a_feature_never_seen_before_stands_out_by_the_limit() -> None:
    moments = add_values(init_moments((2,)), jnp.asarray([[0.0, 1.0], [0.0, -1.0]]))
    out = standardise(moments, jnp.asarray([[1.0, 1.0], [0.0, -3.0], [1e-3, 99.0]]))
    np.testing.assert_allclose(out, [[5.0, 1.0], [0.0, -3.0], [0.1, 5.0]], rtol=1e-5)
