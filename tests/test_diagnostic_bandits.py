"""Bandits: priors, rewards, regret, and instances for good."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.contracts.errors import ConfigError
from xplore.contracts.types import FiniteEnvironment
from xplore.envs.diagnostic.bandits import bernoulli_bandit, gaussian_bandit
from xplore.testing import check_env

MAKERS = {"bernoulli": bernoulli_bandit, "gaussian": gaussian_bandit}
PULLS = 5000


@pytest.mark.parametrize("kind", MAKERS)
def test_returns_are_those_of_the_prior(kind):
    env = MAKERS[kind](num_arms=4, num_steps=3)
    levels = jax.jit(jax.vmap(env.sample_level))(jax.random.split(jax.random.key(0), 40_000))
    means = np.asarray(levels, np.float64)
    for stated, found in ((env.optimal_return, means.max(1)), (env.random_return, means.mean(1))):
        error = 4 * float(found.std()) / len(found) ** 0.5
        assert stated / 3 == pytest.approx(found.mean(), abs=error)


def test_known_means_of_the_best_arm():
    assert gaussian_bandit(num_steps=1).optimal_return == pytest.approx(1.53875, abs=5e-6)
    assert gaussian_bandit(2, 1).optimal_return == pytest.approx(np.pi**-0.5)
    assert bernoulli_bandit(num_steps=1).optimal_return == pytest.approx(10 / 11)


@pytest.mark.parametrize("kind", MAKERS)
def test_pulls_pay_the_mean_of_the_arm_and_tell_the_regret(kind):
    env = MAKERS[kind](num_arms=3, num_steps=7)
    means = jnp.array([0.2, 0.9, 0.5])
    state, _ = env.reset_to_level(jax.random.key(0), means)
    pull = jax.vmap(jax.vmap(env.step, (0, None, None)), (None, None, 0))
    after, ts = jax.tree.map(
        np.asarray, jax.jit(pull)(jax.random.split(jax.random.key(1), PULLS), state, jnp.arange(3))
    )
    reward = ts.reward.astype(float)
    deviation = np.sqrt(means * (1 - means)) if kind == "bernoulli" else np.ones(3)
    assert np.all(np.abs(reward.mean(1) - means) < 4 * deviation / PULLS**0.5)
    assert reward.std(1) == pytest.approx(np.asarray(deviation), rel=0.1)
    assert ts.info["regret"][:, 0] == pytest.approx([0.7, 0.0, 0.4])
    assert ts.info["success"][:, 0].tolist() == [False, True, False]
    assert np.all(after.time == 1)


def test_an_episode_is_truncated_after_its_pulls():
    env = bernoulli_bandit(num_arms=2, num_steps=3)
    state, _ = env.reset_to_level(jax.random.key(0), jnp.array([0.1, 0.2]))
    ends = []
    for _ in range(3):
        state, ts = env.step(jax.random.key(1), state, jnp.int32(0))
        ends.append((bool(ts.terminated), bool(ts.truncated)))
    assert ends == [(False, False), (False, False), (False, True)]


@pytest.mark.parametrize("kind", MAKERS)
def test_an_instance_is_finite_and_its_values_exact(kind):
    made = MAKERS[kind](num_arms=3, num_steps=5, instance_seed=4)
    assert isinstance(made, FiniteEnvironment)
    assert not isinstance(MAKERS[kind](), FiniteEnvironment)
    env: Any = made
    check_env(env, num_envs=2, num_steps=16, thorough=False)
    levels = [env.sample_level(jax.random.key(k)) for k in (0, 1)]
    np.testing.assert_array_equal(*levels)
    assert env.means == pytest.approx(np.asarray(levels[0], float).tolist())
    assert env.optimal_return == pytest.approx(5 * max(env.means))
    assert env.random_return == pytest.approx(5 * np.mean(env.means))
    assert MAKERS[kind](num_arms=3, instance_seed=5).means != env.means


def test_ids():
    assert xplore.make("BernoulliBandit-10-v0") == bernoulli_bandit(10)
    instance: Any = xplore.make("GaussianBandit-10-v0", instance_seed=1)
    assert instance.bandit.prior == "gaussian"


@pytest.mark.parametrize(
    "options",
    [{"num_arms": 1}, {"num_steps": 0}, {"noise": -1.0}, {"instance_seed": -1}],
    ids=str,
)
def test_impossible_options_are_refused(options):
    (name,) = options
    with pytest.raises(ConfigError, match=f"GaussianBandit-.*: {name} is"):
        gaussian_bandit(**options)
