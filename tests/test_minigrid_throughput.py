"""The speed measurement runs over any environment and counts what it says it counts."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.benchmarks.throughput import measure_env_speed
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import make
from xplore.contracts.spaces import Box
from xplore.contracts.types import EnvSpec, TimeStep


@final
@component
class Drift:
    """Stochastic, continuous actions, an episode of `length` steps."""

    length: int = 5

    def spec(self) -> EnvSpec:
        box = Box((2,), "float32", -1.0, 1.0)
        return EnvSpec("drift", box, box, self.length, stochastic=True)

    def sample_level(self, key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, (2,))

    def reset_to_level(
        self, key: jax.Array, level: jax.Array
    ) -> tuple[tuple[jax.Array, ...], jax.Array]:
        return (level, jnp.int32(0)), level

    def step(
        self, key: jax.Array, state: tuple[jax.Array, jax.Array], action: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], TimeStep]:
        place = jnp.clip(state[0] + 0.1 * action + 0.01 * jax.random.normal(key, (2,)), -1, 1)
        count = state[1] + 1
        success = jnp.bool_(False)
        ended = count >= self.length
        step = TimeStep(place, jnp.float32(0), success, ended, {"success": success})
        return (place, count), step

    def privileged(self, state: tuple[jax.Array, ...]) -> dict[str, jax.Array]:
        return {}


def test_a_grid_world_is_small_and_fast() -> None:
    env = make("MiniGrid-DoorKey-8x8-v0")
    speed = measure_env_speed(env, num_envs=256, num_steps=100, repeats=3, blind=True)
    assert speed.state_bytes < 200
    assert speed.obs_bytes == 7 * 7 * 3
    assert len(speed.steps_per_second_of_repeats) == 3
    assert np.median(speed.steps_per_second_of_repeats) == pytest.approx(speed.steps_per_second)
    assert speed.blind_steps_per_second is not None
    # A slow machine under load passes: what is held here is the order of magnitude.
    assert speed.steps_per_second > 100_000
    assert speed.compile_seconds > 0


def test_any_environment_can_be_measured() -> None:
    speed = measure_env_speed(Drift(), num_envs=8, num_steps=10, repeats=1)
    assert speed.episodes == 8 * 10 // 5
    assert (speed.state_bytes, speed.obs_bytes) == (12, 8)
    assert speed.blind_steps_per_second is None


def test_counts_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_envs"):
        measure_env_speed(Drift(), num_envs=0)
    with pytest.raises(ConfigError, match="num_steps"):
        measure_env_speed(Drift(), num_steps=0)
    with pytest.raises(ConfigError, match="repeats"):
        measure_env_speed(Drift(), repeats=0)
