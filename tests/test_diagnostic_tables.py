"""Tasks that are tables, against numbers of their papers and other dynamic programming."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.contracts.errors import ConfigError
from xplore.envs.diagnostic.chain import Chain, NChain, chain, n_chain
from xplore.envs.diagnostic.combination_lock import CombinationLock, combination_lock
from xplore.envs.diagnostic.river_swim import RiverSwim, river_swim
from xplore.envs.diagnostic.six_arms import PROBABILITIES, REWARDS, six_arms
from xplore.envs.diagnostic.tables import TableEnv


@functools.cache
def matrices(env):
    """Transitions `[A, S, S]` and rewards `[A, S]` by `outcomes`, ends in a state more."""
    num_states, num_actions = env.spec().observation.num, env.spec().action.num
    state, _ = env.reset_to_level(jax.random.key(0), jnp.uint32(0))
    places, actions = jnp.arange(num_states), jnp.arange(num_actions)
    each = jax.vmap(lambda s, a: env.outcomes(state._replace(place=s), a), (0, None))
    found = jax.tree.map(np.asarray, jax.jit(jax.vmap(each, (None, 0)))(places, actions))
    transitions = np.zeros((num_actions, num_states + 1, num_states + 1))
    transitions[:, -1, -1] = 1.0
    for a, s, k in np.ndindex(found.probability.shape):
        after = num_states if found.terminated[a, s, k] else found.state.place[a, s, k]
        transitions[a, s, after] += np.round(found.probability[a, s, k].astype(float), 6)
    rewards = np.zeros((num_actions, num_states + 1))
    rewards[:, :-1] = np.sum(found.probability.astype(float) * found.reward, axis=2)
    return transitions, rewards


def value(env, policy):
    """The expected return, forward in time for a policy `[S]` or "random", backward for "best"."""
    transitions, rewards = matrices(env)
    if isinstance(policy, str) and policy == "best":
        values = np.zeros(rewards.shape[1])
        for _ in range(env.max_steps):
            values = np.max(rewards + transitions @ values, axis=0)
        return values[env.task.start]
    if isinstance(policy, str):
        matrix, reward = transitions.mean(0), rewards.mean(0)
    else:
        index = np.arange(rewards.shape[1])
        matrix, reward = transitions[policy, index], rewards[policy, index]
    where, total = np.eye(rewards.shape[1])[env.task.start], 0.0
    for _ in range(env.max_steps):
        total, where = total + where @ reward, where @ matrix
    return total


def average_reward(env, policy):
    """Of a policy `[S]`, in the long run."""
    transitions, rewards = matrices(env)
    index = np.arange(rewards.shape[1])
    long_run = np.linalg.matrix_power(transitions[policy, index], 1 << 14)[env.task.start]
    return long_run @ rewards[policy, index]


RIVER_SWIM = {
    20: (3.3973, 0.0438, 0.0176),
    50: (16.0721, 0.1269, 0.0573),
    100: (37.5029, 0.2658, 0.1199),
}


@pytest.mark.parametrize("horizon", RIVER_SWIM)
def test_river_swim_has_the_known_values(horizon):
    env = river_swim(max_steps=horizon)
    best, random, success = RIVER_SWIM[horizon]
    assert env.optimal_return == pytest.approx(best, abs=5.1e-5)
    # Published as rounded, the last digit of some up, of some down.
    assert env.random_return == pytest.approx(random, abs=1e-4)
    assert env.random_success == pytest.approx(success, abs=5.1e-5)
    assert value(env, np.zeros(7, int)) == pytest.approx(0.005 * horizon)


def test_river_swim_always_right_earns_the_known_average():
    assert average_reward(river_swim(), np.ones(7, int)) == pytest.approx(0.428622, abs=5e-7)


SMALL = [
    river_swim(),
    river_swim(num_states=3, max_steps=7),
    chain(max_steps=50),
    chain(num_states=3, slip=0.0, max_steps=9),
    n_chain(num_states=5),
    combination_lock(num_digits=3),
    combination_lock(num_digits=3, wrong="fail"),
    six_arms(max_steps=300),
]


@pytest.mark.parametrize("env", SMALL, ids=lambda e: f"{e.task.name}-{e.max_steps}")
def test_returns_are_those_of_the_outcomes(env):
    assert env.optimal_return == pytest.approx(value(env, "best"), rel=1e-6)
    assert env.random_return == pytest.approx(value(env, "random"), rel=1e-6)


def test_steps_earn_what_random_actions_should():
    env = river_swim()
    num = 4000

    def episode(key):
        key_reset, key_level, key_steps = jax.random.split(key, 3)
        state, _ = env.reset_to_level(key_reset, env.sample_level(key_level))

        def step(state, key):
            key_action, key_step = jax.random.split(key)
            return env.step(key_step, state, jax.random.randint(key_action, (), 0, 2))

        return jax.lax.scan(step, state, jax.random.split(key_steps, 20))[1]

    ts = jax.tree.map(
        np.asarray, jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), num))
    )
    returns, successes = ts.reward.astype(float).sum(1), ts.info["success"].any(1)
    assert returns.mean() == pytest.approx(env.random_return, abs=4 * returns.std() / num**0.5)
    assert successes.mean() == pytest.approx(env.random_success, abs=4 * (0.018 / num) ** 0.5)
    np.testing.assert_array_equal(ts.truncated.any(0), np.arange(20) == 19)
    assert not ts.terminated.any()


def test_chain_earns_the_known_averages():
    ahead, back = np.zeros(6, int), np.ones(6, int)
    assert average_reward(chain(), ahead) == pytest.approx(0.2 * 2 + 0.8**5 * 10)
    assert average_reward(chain(), back) == pytest.approx(0.8 * 2 + 0.2**5 * 10, rel=1e-6)
    assert chain().random_return == pytest.approx(1312.5, rel=0.01)


def test_n_chain_is_reached_by_going_right():
    env = n_chain(num_states=6)
    assert env.max_steps == 15
    assert env.optimal_return == value(env, np.ones(7, int)) == 11.0


def test_six_arms_pay_what_they_say():
    env = six_arms()
    transitions, rewards = matrices(env)
    for action, (reward, enters) in enumerate(zip(REWARDS, PROBABILITIES, strict=True)):
        arm = action + 1
        assert transitions[action, 0, arm] == pytest.approx(enters)
        assert (rewards[action, arm], transitions[action, arm, arm]) == (reward, 1.0)
    # An arm is left by any other action, the first by the fifth alone.
    np.testing.assert_array_equal((transitions[:, 1:7, 0] == 1.0).sum(0), [1, 5, 5, 5, 5, 5])
    # About 100 steps to enter the best arm, which pays to the end.
    assert env.optimal_return == pytest.approx(6000 * (env.max_steps - 100), rel=1e-3)


@pytest.mark.parametrize("digits", [1, 2, 5, 8])
def test_a_lock_that_fails_is_opened_by_chance_as_expected(digits):
    env = combination_lock(digits, num_actions=3, wrong="fail")
    assert env.random_return == pytest.approx(3.0**-digits)
    assert env.optimal_return == 1.0
    assert env.max_steps == env.spec().num_layers == digits


def test_a_lock_opens_to_its_combination_only():
    task = CombinationLock(4, 3)
    env = TableEnv(task, 10)
    step = jax.jit(env.step)
    key = jax.random.key(0)
    state, _ = env.reset_to_level(key, jnp.uint32(0))
    ts: Any = None
    for action in task.combination()[:3]:
        state, ts = step(key, state, jnp.int32(action))
    assert (int(ts.obs), float(ts.reward), bool(ts.terminated)) == (3, 0.0, False)
    _, wrong = step(key, state, jnp.int32((task.combination()[3] + 1) % 3))
    assert (int(wrong.obs), float(wrong.reward), bool(wrong.terminated)) == (0, 0.0, False)
    _, right = step(key, state, jnp.int32(task.combination()[3]))
    assert (float(right.reward), bool(right.terminated), bool(right.info["success"])) == (1, 1, 1)


@pytest.mark.parametrize(
    ("id", "max_steps", "num_states"),
    [
        ("RiverSwim-v0", 20, 6),
        ("RiverSwim-50-v0", 50, 6),
        ("RiverSwim-100-v0", 100, 6),
        ("SixArms-v0", 5000, 7),
        ("Chain-v0", 1000, 5),
        ("NChain-10-v0", 19, 10),
        ("NChain-50-v0", 59, 50),
        ("NChain-100-v0", 109, 100),
        ("CombinationLock-5-v0", 20, 5),
        ("CombinationLock-10-v0", 40, 10),
        ("CombinationLock-20-v0", 80, 20),
    ],
)
def test_ids(id, max_steps, num_states):
    spec = xplore.make(id).spec()
    assert (spec.max_steps, spec.observation) == (max_steps, xplore.Discrete(num_states))


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (RiverSwim, {"num_states": 1}, "RiverSwim: num_states is 1"),
        (Chain, {"num_states": 1}, "Chain: num_states is 1"),
        (Chain, {"slip": 1.5}, "slip is 1.5: it is a probability"),
        (NChain, {"num_states": 2}, "NChain: num_states is 2"),
        (CombinationLock, {"num_digits": 0}, "num_digits is 0"),
        (CombinationLock, {"num_actions": 1}, "num_actions is 1"),
        (CombinationLock, {"wrong": "back"}, "wrong is 'back'.*'start'.*'fail'"),
        (CombinationLock, {"lock_seed": -1}, "lock_seed is -1"),
        (river_swim, {"max_steps": 0}, "max_steps is 0: it must be at least 1"),
    ],
)
def test_impossible_options_are_refused(make, options, said):
    with pytest.raises(ConfigError, match=said):
        make(**options)
