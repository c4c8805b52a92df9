"""The sampler that looks for options: it finds those in which success is open."""
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Discrete
from xplore.contracts.types import EnvSpec, Trajectory
from xplore.parts.levels import HELD_OUT_BIT
from xplore.worlds.spec_search import SpecSearch


@component
class Coins:
    """Levels are whole numbers up to 99, the first option in hundredths."""

    def spec(self):
        return EnvSpec("Coins", Box((1,), low=0.0, high=1.0), Discrete(2), 1)

    def sample_level(self, key):
        return jax.random.randint(key, (), 0, 100)

    def reset_to_level(self, key, level):
        raise NotImplementedError

    def step(self, key, state, action):
        raise NotImplementedError

    def privileged(self, state):
        return {}


@final
@component
class VariedCoins(Coins):
    """Those of two options that have ranges."""

    names = ("luck", "nothing")
    low = (0.0, -1.0)
    high = (1.0, 1.0)

    def sample_level_with(self, key, values):
        return jnp.floor(values[0] * 100).astype(jnp.int32)


def test_spec_search_finds_the_options_in_which_success_is_open():
    sampler, env = SpecSearch(num_bins=4, uniform=0.2, rate=0.5), VariedCoins()
    state = sampler.init(jax.random.key(0), env)
    assert state.success.shape == (16,)

    @jax.jit
    def rollout(state, key):
        state, batch = sampler.sample(key, state, env, 512)
        # Certain beyond the middle of the range of luck, but for its second quarter: a coin.
        luck = batch.levels / 100.0
        won = jnp.where(luck < 0.25, False, jnp.where(luck < 0.5, batch.level_id % 3 == 0, True))
        ended = jnp.ones((1, 512), bool)
        traj = Trajectory(
            None, None, jnp.zeros((1, 512)), None, ended, ~ended, None, batch.level_id[None],
            {"success": won[None]}, {}, {}, None, None,
        )  # fmt: skip
        state, metrics = sampler.update(state, batch, traj)
        return state, (batch, metrics)

    state, (batch, metrics) = rollout(state, jax.random.key(1))
    assert (np.asarray(batch.level_id) < HELD_OUT_BIT).all()
    # All cells alike at first, and each level in its own: the first option is a cell's last digit.
    quarter = np.clip(np.asarray(batch.levels) // 25, 0, 3)
    np.testing.assert_array_equal(quarter, np.asarray(batch.level_id) % 4)
    assert np.bincount(np.asarray(batch.level_id) % 16, minlength=16).min() > 12
    for i in range(12):
        state, (batch, metrics) = rollout(state, jax.random.key(2 + i))
    chosen = np.mean((batch.levels >= 25) & (batch.levels < 50))
    assert chosen == pytest.approx(0.8 + 0.2 / 4, abs=0.06)
    assert float(metrics["share_of_luck"]) == pytest.approx(0.375, abs=0.05)
    assert float(metrics["share_of_nothing"]) == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(
        state.success.reshape(4, 4)[:, [0, 2, 3]], [[0, 1, 1]] * 4, atol=0.01
    )
    again = jax.vmap(lambda i: sampler._level(env, i, 16))(batch.level_id)
    np.testing.assert_array_equal(again, batch.levels)


def test_spec_search_refuses():
    with pytest.raises(ConfigError, match="all levels of Coins are drawn with the same"):
        SpecSearch().init(jax.random.key(0), Coins())
    with pytest.raises(ConfigError, match="num_bins is 1"):
        SpecSearch(num_bins=1)
    with pytest.raises(ConfigError, match=r"uniform is 0\.0"):
        SpecSearch(uniform=0.0)
    with pytest.raises(ConfigError, match="65,536 cells"):
        SpecSearch(num_bins=256).init(jax.random.key(0), VariedCoins())
