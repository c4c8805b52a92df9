"""DiabolicalLock: its chains, its misleading reward, and what is seen of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.contracts.errors import ConfigError
from xplore.envs.diagnostic.diabolical_lock import DiabolicalLock, LockState

ENV = DiabolicalLock(horizon=6, num_actions=3)


def episodes(env, num, policy):
    """States, TimeSteps `[num, H]` of `policy(key, state)`, and the first observations."""

    def episode(key):
        key_level, key_steps = jax.random.split(key)
        state, obs = env.reset_to_level(key, env.sample_level(key_level))

        def step(state, key):
            key_action, key_step = jax.random.split(key)
            after, ts = env.step(key_step, state, policy(key_action, state))
            return after, (state, ts)

        return obs, jax.lax.scan(step, state, jax.random.split(key_steps, env.horizon))[1]

    keys = jax.random.split(jax.random.key(0), num)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(episode))(keys))


def best(key, state):
    right = jnp.asarray(ENV.right_actions())
    return right[state.time, jnp.minimum(state.chain, 1)]


def test_the_right_actions_earn_one_through_both_good_chains():
    _, (state, ts) = episodes(ENV, 512, best)
    assert ENV.optimal_return == 1.0
    assert np.all(ts.reward.sum(1) == 1.0)
    np.testing.assert_array_equal(ts.info["success"], np.eye(6, dtype=bool)[[5] * 512])
    np.testing.assert_array_equal(ts.terminated, ts.info["success"])
    assert np.abs(state.chain.mean(0) - 0.5).max() < 4 * 0.5 / 512**0.5


def test_random_actions_earn_what_they_should():
    num = 20_000
    _, (state, ts) = episodes(ENV, num, lambda key, state: jax.random.randint(key, (), 0, 3))
    returns = ts.reward.astype(float).sum(1)
    error = 4 * float(returns.std()) / num**0.5
    assert returns.mean() == pytest.approx(ENV.random_return, abs=error)
    assert ENV.random_return == pytest.approx(3.0**-6 + 0.05 * (1 - 3.0**-6))
    assert ENV.random_success == pytest.approx(3.0**-6)
    # Nothing leaves the bad chain, and nothing is paid in it.
    bad = state.chain == 2
    assert np.all(bad[:, 1:] >= bad[:, :-1])
    assert ts.reward[bad].max() == 0.0
    assert sorted(set(np.round(ts.reward.ravel(), 6).tolist())) == pytest.approx([0.0, 0.1, 1.0])


def test_states_have_right_actions_of_their_own():
    actions = DiabolicalLock(horizon=100).right_actions()
    assert actions.shape == (100, 2)
    assert set(actions.ravel()) == set(range(10))
    assert 0 < (actions[:, 0] == actions[:, 1]).mean() < 0.3
    assert not np.array_equal(actions, DiabolicalLock(100, lock_seed=1).right_actions())


def test_observations_are_noisy_rotations_of_the_state():
    first, (state, ts) = episodes(ENV, 256, best)
    size = first.shape[-1]
    assert size == 16  # the least power of two that holds 3 chains and 7 steps
    matrix = np.array([[1.0]])
    while len(matrix) < size:
        matrix = np.kron(np.array([[1, 1], [1, -1]]), matrix)
    obs = np.concatenate([first[:, None], ts.obs], axis=1)
    seen = obs @ matrix / size  # its own inverse, up to the size
    np.testing.assert_allclose(seen[..., 10:], 0.0, atol=1e-5)
    noise = seen[..., :10].copy()
    for time in range(7):
        noise[:, time, 3 + time] -= 1.0
        chain = state.chain[:, time] if time < 6 else np.argmax(noise[:, 6, :3], axis=1)
        noise[np.arange(256), time, chain] -= 1.0
    assert np.abs(noise.mean((0, 1))).max() < 5 * 0.1 / (256 * 7) ** 0.5
    assert noise.std() == pytest.approx(0.1, rel=0.05)
    assert len(np.unique(obs.reshape(-1, size), axis=0)) == 256 * 7


def test_without_noise_a_state_is_seen_the_same():
    env = DiabolicalLock(horizon=3, noise=0.0)
    obs = [env._observe(LockState(jnp.int32(c), jnp.int32(t)), jnp.zeros(7)) for c, t in
           ((0, 0), (1, 0), (2, 1), (2, 3))]  # fmt: skip
    _, ts = env.step(jax.random.key(3), LockState(jnp.int32(2), jnp.int32(0)), jnp.int32(0))
    np.testing.assert_array_equal(ts.obs, obs[2])
    assert len(np.unique(np.stack(obs), axis=0)) == 4


@pytest.mark.parametrize("horizon", [10, 20, 100])
def test_ids(horizon):
    env: Any = xplore.make(f"DiabolicalLock-{horizon}-v0")
    assert env == DiabolicalLock(horizon)
    spec = env.spec()
    assert spec.max_steps == spec.num_layers == horizon
    assert spec.privileged["index"] == xplore.Discrete(3 * horizon)
    assert env.random_success == pytest.approx(10.0**-horizon)


@pytest.mark.parametrize(
    "options", [{"horizon": 0}, {"num_actions": 1}, {"noise": -0.1}, {"lock_seed": -1}], ids=str
)
def test_impossible_options_are_refused(options):
    (name,) = options
    with pytest.raises(ConfigError, match=f"DiabolicalLock: {name} is"):
        DiabolicalLock(**options)
