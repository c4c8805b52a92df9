"""DeepSea against bsuite's own, and against what can be computed exactly."""

from __future__ import annotations

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bsuite.environments.deep_sea import DeepSea as BsuiteDeepSea

import xplore
from xplore.contracts.errors import ConfigError
from xplore.envs.diagnostic.deep_sea import DeepSea, DeepSeaState, action_mapping


def bsuite_env(env: DeepSea, **kwargs) -> BsuiteDeepSea:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BsuiteDeepSea(
            size=env.size,
            randomize_actions=env.randomize_actions,
            mapping_seed=env.mapping_seed,
            **kwargs,
        )


def episodes(env: DeepSea, actions: np.ndarray):
    """TimeSteps and states `[num_episodes, size]` of `actions` `[num_episodes, size]`."""
    key = jax.random.key(0)

    def episode(actions):
        state, obs = env.reset_to_level(key, env.sample_level(key))

        def step(state, action):
            after, ts = env.step(key, state, action)
            return after, (ts, env.privileged(after))

        return obs, jax.lax.scan(step, state, actions)[1]

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(episode))(jnp.asarray(actions)))


@pytest.mark.parametrize(
    ("env", "num_episodes"),
    [
        (DeepSea(size=10), 1000),
        (DeepSea(size=14, mapping_seed=7), 100),
        (DeepSea(size=5, randomize_actions=False), 200),
        (DeepSea(size=1), 4),
    ],
    ids=str,
)
def test_steps_are_those_of_bsuite(env, num_episodes):
    size = env.size
    actions = np.random.default_rng(0).integers(0, 2, (num_episodes, size))
    # Random actions meet the treasure in 2^-size of the episodes: have it met in some.
    right = (
        action_mapping(size, env.mapping_seed) if env.randomize_actions else np.ones((size, size))
    )
    actions[: num_episodes // 4] = np.diagonal(right)
    actions[: num_episodes // 8, -1] ^= 1
    first_obs, (ts, privileged) = episodes(env, actions)
    theirs = bsuite_env(env)
    for episode, time in itertools.product(range(num_episodes), range(size)):
        if time == 0:
            np.testing.assert_array_equal(theirs.reset().observation, first_obs[episode])
        step = theirs.step(actions[episode, time])
        here = (episode, time)
        np.testing.assert_array_equal(step.observation, ts.obs[here])
        assert step.reward == pytest.approx(ts.reward[here], abs=1e-6)
        assert step.last() == ts.terminated[here]
        assert ts.info["success"][here] == (step.reward > 0.5)
        cell = (theirs._row, theirs._column)
        np.testing.assert_array_equal(privileged["state"][here], cell)
        assert privileged["position"][here] == min(cell[0], size - 1) * size + cell[1]
    assert not ts.truncated.any()
    assert ts.info["success"].any()
    assert not ts.info["success"].all()


def test_the_default_mapping_is_that_of_bsuites_experiments():
    theirs = BsuiteDeepSea(size=20, mapping_seed=42)
    np.testing.assert_array_equal(action_mapping(20, 42), theirs._action_mapping)
    assert DeepSea().mapping_seed == 42


def expected_return(env: DeepSea, policy: str) -> tuple[float, float]:
    """Exact `(return, success)` of the best or the random policy, by dynamic programming."""
    n, cost = env.size, env.unscaled_move_cost / env.size
    wind = 0.0 if env.deterministic else 1.0 / n
    values, successes = np.zeros(n), np.zeros(n)
    for _ in range(n):
        columns = np.arange(n)
        left, right = np.maximum(columns - 1, 0), np.minimum(columns + 1, n - 1)
        treasure = (columns == n - 1).astype(float)
        of_right = treasure - cost + (1 - wind) * values[right] + wind * values
        of_left = values[left]
        found_right = treasure + (1 - treasure) * ((1 - wind) * successes[right] + wind * successes)
        found_left = successes[left]
        if policy == "random":
            values, successes = (of_right + of_left) / 2, (found_right + found_left) / 2
        else:
            better = of_right > of_left
            values = np.where(better, of_right, of_left)
            successes = np.where(better, found_right, found_left)
    return values[0], successes[0]


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("size", [1, 2, 5, 10, 20, 50])
def test_known_returns_are_exact(size, deterministic):
    env = DeepSea(size=size, deterministic=deterministic)
    best, _ = expected_return(env, "best")
    random, success = expected_return(env, "random")
    assert env.optimal_return == pytest.approx(best, abs=1e-12)
    assert env.random_return == pytest.approx(random, abs=1e-12)
    assert env.random_success == pytest.approx(success, abs=1e-15)
    if deterministic:
        assert env.optimal_return == pytest.approx(0.99)
        assert env.random_success == 2.0**-size


def test_the_optimal_return_is_reached_and_is_that_of_the_steps():
    env = DeepSea(size=50)
    actions = np.diagonal(action_mapping(50, 42))[None]
    _, (ts, _) = episodes(env, actions)
    assert ts.reward.sum() == pytest.approx(env.optimal_return, abs=1e-5)
    assert ts.info["success"].tolist() == [[False] * 49 + [True]]


def test_all_sequences_of_actions_give_the_random_success():
    env = DeepSea(size=8)
    actions = np.array(list(itertools.product((0, 1), repeat=8)))
    _, (ts, _) = episodes(env, actions)
    assert ts.info["success"].sum() == 1
    assert ts.reward.sum(axis=1).mean() == pytest.approx(env.random_return, abs=1e-6)


def test_stochastic_wind_and_noise():
    n, samples = 4, 20_000
    env = DeepSea(size=n, deterministic=False, randomize_actions=False)
    assert env.spec().stochastic
    keys = jax.random.split(jax.random.key(3), samples)
    step = jax.jit(jax.vmap(env.step, (0, None, None)))

    def outcome(row: int, column: int, action: int):
        state, ts = step(
            keys,
            DeepSeaState(jnp.int32(row), jnp.int32(column), jnp.bool_(False)),
            jnp.int32(action),
        )
        return np.asarray(state.column), np.asarray(ts.reward, np.float64)

    column, reward = outcome(1, 1, 1)
    assert set(column) == {1, 2}
    assert np.mean(column == 1) == pytest.approx(1 / n, abs=5 * np.sqrt(1 / n / samples))
    np.testing.assert_allclose(reward, -0.01 / n, atol=1e-7)
    assert set(outcome(1, 1, 0)[0]) == {0}  # left never fails
    for row, column, action, mean, std in [
        (n - 1, 0, 0, 0.0, 1.0),
        (n - 1, n - 1, 1, 1 - 0.01 / n, 1.0),
        (n - 1, 1, 0, 0.0, 0.0),
        (n - 2, 0, 0, 0.0, 0.0),
    ]:
        _, reward = outcome(row, column, action)
        assert reward.mean() == pytest.approx(mean, abs=0.05)
        assert reward.std() == pytest.approx(std, abs=0.05)


@pytest.mark.parametrize("size", [5, 10, 14, 20, 30, 50])
def test_ids(size):
    env = xplore.make(f"DeepSea-{size}-v0")
    assert env == xplore.make("DeepSea-v0", size=size)
    assert env.spec().max_steps == size
    assert xplore.make("DeepSea-v0").spec().max_steps == 10


@pytest.mark.parametrize("options", [{"size": 0}, {"mapping_seed": -1}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError, match="DeepSea"):
        DeepSea(**options)
