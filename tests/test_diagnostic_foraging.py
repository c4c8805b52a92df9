"""Foraging: eating, ripening, moving, and the average reward of a world small enough."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.contracts.errors import ConfigError
from xplore.envs.diagnostic.foraging import ForagingState, foraging
from xplore.testing import check_env

STAY, RIGHT, DOWN, LEFT, UP = range(5)
STILL = foraging(size=4, num_patches=2, view_size=3, hazard=0.0, regrowth=0.0)


def state_of(position, cells, qualities, ripe):
    return ForagingState(
        jnp.int32(position),
        jnp.array(cells, jnp.int32),
        jnp.array(qualities, jnp.int32),
        jnp.array(ripe),
    )


def test_moves_wrap_around_and_eat_what_is_ripe():
    step = jax.jit(STILL.step)
    key = jax.random.key(0)
    state = state_of(0, [3, 12], [2, 0], [True, True])
    state, ts = step(key, state, jnp.int32(LEFT))
    assert (int(state.position), float(ts.reward), bool(ts.info["success"])) == (3, 1.0, True)
    state, ts = step(key, state, jnp.int32(STAY))
    assert (int(state.position), float(ts.reward)) == (3, 0.0)  # eaten
    state, ts = step(key, state, jnp.int32(RIGHT))
    state, ts = step(key, state, jnp.int32(UP))
    assert (int(state.position), float(ts.reward), bool(ts.info["success"])) == (12, 0.25, False)
    assert state.ripe.tolist() == [False, False]
    assert int(step(key, state, jnp.int32(DOWN))[0].position) == 0
    assert not bool(ts.terminated | ts.truncated)


def test_the_view_is_centred_on_the_forager():
    _, obs = STILL.reset_to_level(jax.random.key(0), state_of(0, [3, 5], [2, 0], [True, False]))
    expected = np.zeros((3, 3, 1), int)
    expected[1, 0], expected[2, 2] = 2 + 2, 1  # ripe to the left, across the edge; eaten below
    np.testing.assert_array_equal(obs, expected)


def test_patches_ripen_and_move_as_often_as_they_should():
    env = foraging(size=4, num_patches=2, view_size=3, hazard=0.3, regrowth=0.2)
    state = state_of(0, [5, 10], [0, 1], [False, True])
    keys = jax.random.split(jax.random.key(0), 20_000)
    after, _ = jax.jit(jax.vmap(env.step, (0, None, None)))(keys, state, jnp.int32(STAY))
    after = jax.tree.map(np.asarray, after)
    error = 4 * 0.5 / 20_000**0.5
    moved = after.cell != np.array([5, 10])
    # One of two patches, to 15 of 16 cells that are others.
    assert moved.mean(0) == pytest.approx([0.3 / 2 * 15 / 16] * 2, abs=error)
    assert not moved.all(1).any()
    assert after.ripe[moved].all()
    ripe = 1 - (1 - 0.2) * (1 - 0.3 / 2)
    assert after.ripe[:, 0].mean() == pytest.approx(ripe, abs=error)
    assert np.bincount(after.quality[moved[:, 1], 1], minlength=3).min() > 500


@functools.cache
def tables(env):
    """By index: outcomes of every action, from one state of each."""
    n, num_q = env.world.size, len(env.world.qualities)
    index = np.arange(env.spec().privileged["index"].num)
    patches = np.stack(np.unravel_index(index, (n * n * num_q * 2,) * env.world.num_patches), 1)
    place, ripe = np.divmod(patches, 2)
    cell, quality = np.divmod(place, num_q)
    states = ForagingState(
        jnp.zeros(len(index), jnp.int32),
        jnp.asarray(cell, jnp.int32),
        jnp.asarray(quality, jnp.int32),
        jnp.asarray(ripe, bool),
    )
    number = jax.vmap(lambda s: env.privileged(s)["index"])
    np.testing.assert_array_equal(number(states), index)

    def one(state, action):
        found = env.outcomes(state, action)
        return number(found.state), found.probability, found.reward

    both = jax.vmap(jax.vmap(one, (0, None)), (None, 0))
    return jax.tree.map(np.asarray, jax.jit(both)(states, jnp.arange(5)))


@pytest.mark.parametrize("best", [True, False])
def test_average_rewards_are_those_of_the_outcomes(best):
    env: Any = foraging(3, 1, (0.5, 1.0), hazard=0.05, regrowth=0.1, view_size=3, finite=True)
    after, probability, reward = tables(env)
    mean = np.sum(probability.astype(float) * reward, axis=2)
    gain, values = 0.0, np.zeros(after.shape[1])
    for _ in range(3000):
        of_action = mean + np.sum(probability * values[after], axis=2)
        new = of_action.max(0) if best else of_action.mean(0)
        gain, values = (new - values).mean(), new - new[0]
    stated = env.optimal_average_reward if best else env.random_average_reward
    assert stated == pytest.approx(gain, abs=1e-5)


def test_two_patches_are_worth_more_than_one():
    def world(num: int) -> Any:
        return foraging(3, num, (0.5, 1.0), view_size=3, finite=True)

    assert world(2).optimal_average_reward > world(1).optimal_average_reward
    assert world(2).random_average_reward == pytest.approx(
        2 * world(1).random_average_reward, rel=0.2
    )


def test_steps_earn_the_random_average():
    env: Any = xplore.make("Foraging-Tiny-v0")

    def life(key):
        key_level, key_steps = jax.random.split(key)

        def step(state, key):
            key_action, key_step = jax.random.split(key)
            state, ts = env.step(key_step, state, jax.random.randint(key_action, (), 0, 5))
            return state, ts.reward

        return jax.lax.scan(step, env.sample_level(key_level), jax.random.split(key_steps, 1000))[1]

    rewards = np.asarray(jax.jit(jax.vmap(life))(jax.random.split(jax.random.key(0), 64)), float)
    means = rewards[:, 200:].mean(1)
    error = 4 * float(means.std()) / 8
    assert env.random_average_reward == pytest.approx(means.mean(), abs=error)
    assert env.optimal_average_reward > 2 * env.random_average_reward


@pytest.mark.parametrize("id", ["Foraging-v0", "Foraging-Tiny-v0"])
def test_ids(id):
    env = xplore.make(id)
    check_env(env, num_envs=2, num_steps=16, thorough=False)
    assert env.spec().max_steps == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_patches": 0}, "at least one patch"),
        ({"qualities": ()}, "at least one patch"),
        ({"view_size": 4}, "view_size is 4"),
        ({"size": 3, "view_size": 5}, "view_size is 5.*at most size = 3"),
        ({"hazard": 1.5}, "hazard is 1.5"),
        ({"regrowth": -0.1}, "regrowth is -0.1"),
        ({"finite": True}, "too many to write down"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        foraging(**options)
