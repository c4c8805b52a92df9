"""The coin-flip network: it counts, it starts optimistic, each visit keeps its coins."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.bonuses.coin_flip import CoinFlip, coin_flip
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Discrete
from xplore.contracts.types import EnvSpec, RunSpec, Trajectory

KEY = jax.random.key(0)
T, N = 7, 3
SPEC = RunSpec(EnvSpec("Any-v0", Box((3,)), Discrete(2), 9), N, T)
PLACES = np.eye(3, dtype=np.float32)
VISITS = np.asarray([1, 4, 16])


def rollout(states: Any) -> Trajectory:
    obs = jnp.asarray(PLACES[np.asarray(states)])
    zeros = jnp.zeros(obs.shape[:2])
    return Trajectory(
        obs=obs, action=zeros.astype(jnp.int32), reward=zeros, next_obs=obs,
        terminated=zeros > 0, truncated=zeros > 0, first=zeros > 0,
        level_id=zeros.astype(jnp.uint32), info={}, privileged={}, next_privileged={},
        extras=(), carry=(),
    )  # fmt: skip


TRAJ = rollout(np.repeat(np.arange(3), VISITS).reshape(T, N))


def test_it_counts_what_is_in_its_replay() -> None:
    # 1, 4 and 16 visits, fitted until nothing is left to learn.
    bonus = CoinFlip(num_coins=256, replay_size=1024, update_fraction=1.0, learning_rate=3e-3)
    state, _ = bonus.reward(bonus.init(KEY, SPEC), TRAJ)
    state, _ = jax.jit(bonus.update)(KEY, state, TRAJ)
    assert int(state.stored) == 21
    data = (state.obs, state.coins)
    coins = np.asarray(state.coins[:21], np.float32)
    seen = np.asarray(state.obs[:21]).argmax(-1)
    assert np.bincount(seen).tolist() == VISITS.tolist()  # all of the rollout, each visit once

    def step(state: Any, key: jax.Array) -> Any:
        # No new visits: the very coins that were drawn are learned again.
        return bonus._learn(key, state, TRAJ)[0], None

    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, jax.random.split(KEY, 300)))(state)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, data, (state.obs, state.coins)))
    _, r_int = bonus.reward(state, TRAJ)
    found = np.asarray(r_int).ravel()[np.cumsum(VISITS) - 1]
    best = [np.sqrt(np.mean(np.mean(coins[seen == s], 0) ** 2)) for s in range(3)]
    np.testing.assert_allclose(found, best, atol=0.06)
    np.testing.assert_allclose(found, VISITS**-0.5, rtol=0.2)


def test_what_was_never_visited_has_a_count_of_one() -> None:
    bonus = CoinFlip(num_coins=512, replay_size=64)
    _, r_int = bonus.reward(bonus.init(KEY, SPEC), TRAJ)
    np.testing.assert_allclose(r_int, np.ones((T, N)), rtol=0.1)


def test_the_replay_holds_the_last_visits() -> None:
    bonus = CoinFlip(num_coins=4, replay_size=64, update_fraction=1.0)
    store = jax.jit(bonus._store)
    state = bonus.init(KEY, SPEC)
    old = np.zeros((0, 0))
    for i in range(40):  # four a rollout, a 16th of the replay: it comes round after 16
        state = store(jax.random.key(i), state, rollout(np.full((T, N), 0 if i < 30 else 2)))
        if i == 29:
            old = np.asarray(state.coins)
    assert 64 <= int(state.stored) < 128
    seen = np.asarray(state.obs).argmax(-1)
    assert np.bincount(seen, minlength=3).tolist() == [24, 0, 40]
    assert np.array_equal(np.asarray(state.coins)[seen == 0], old[seen == 0])
    assert set(np.unique(state.coins)) == {-1, 1}


def test_bad_options_say_what_is_right() -> None:
    bad: list[dict[str, Any]] = [{"update_fraction": 0.0}, {"num_coins": 0}, {"replay_size": 0}]
    for options in bad:
        with pytest.raises(ConfigError, match="must"):
            coin_flip(**options)
