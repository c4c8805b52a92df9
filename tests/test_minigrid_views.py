"""What is observed, by choice: against upstream's wrappers, and within its space."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from minigrid import wrappers

from xplore.benchmarks.minigrid_parity import upstream_env
from xplore.contracts import spaces
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import make
from xplore.envs.minigrid import cells
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import IMAGES, View, mission_words, words
from xplore.envs.minigrid.upstream import level_from_minigrid

KEY = jax.random.key(0)
ID = "MiniGrid-KeyCorridorS3R2-v0"
WRAPPERS: dict[str, Any] = {
    "full": wrappers.FullyObsWrapper,
    "one_hot": wrappers.OneHotPartialObsWrapper,
    "rgb": wrappers.RGBImgPartialObsWrapper,
    "rgb_full": wrappers.RGBImgObsWrapper,
}


def env_with(view: View, id: str = ID) -> MiniGrid:
    env = make(id, view=view)
    assert isinstance(env, MiniGrid)
    return env


@pytest.mark.parametrize("image", WRAPPERS)
def test_images_are_those_of_upstreams_wrappers(image: Any) -> None:
    theirs = upstream_env(ID)
    wrapped = WRAPPERS[image](theirs)
    ours = env_with(View(image=image))
    step = jax.jit(ours.step)
    key = np.random.default_rng(0)
    for seed in range(3):
        obs, _ = wrapped.reset(seed=seed)
        state, seen = ours.reset_to_level(KEY, level_from_minigrid(theirs, ours.task))
        np.testing.assert_array_equal(seen, obs["image"])
        for _ in range(12):
            action = int(key.integers(7))
            obs, _, terminated, truncated, _ = wrapped.step(action)
            state, ts = step(KEY, state, jnp.int32(action))
            np.testing.assert_array_equal(ts.obs, obs["image"])
            if terminated or truncated:
                break


@pytest.mark.parametrize("size", [3, 5, 9])
def test_views_of_other_sizes_are_upstreams(size: int) -> None:
    theirs = upstream_env(ID)
    wrapped = wrappers.ViewSizeWrapper(theirs, agent_view_size=size)
    ours = env_with(View(size=size))
    for seed in range(8):
        obs, _ = wrapped.reset(seed=seed)
        _, seen = ours.reset_to_level(KEY, level_from_minigrid(theirs, ours.task))
        np.testing.assert_array_equal(seen, obs["image"])


@pytest.mark.parametrize("image", IMAGES)
def test_an_observation_lies_in_its_space(image: Any) -> None:
    env = env_with(View(image=image, direction=True, mission=True))
    _, seen = env.reset_to_level(KEY, env.sample_level(KEY))
    assert spaces.contains(env.spec().observation, seen)


def test_compact_is_the_partial_view_in_bytes() -> None:
    level = env_with(View()).sample_level(KEY)
    _, compact = env_with(View(image="compact")).reset_to_level(KEY, level)
    _, partial = env_with(View()).reset_to_level(KEY, level)
    np.testing.assert_array_equal(cells.UPSTREAM[np.asarray(compact)[..., 0]], partial)


def test_a_mission_is_observed_word_by_word() -> None:
    env = env_with(View(mission=True), "MiniGrid-GoToDoor-5x5-v0")
    missions = env.task.missions
    vocabulary = ("", *words(missions))
    for seed in range(6):
        level = env.sample_level(jax.random.key(seed))
        _, seen = env.reset_to_level(KEY, level)
        sentence = " ".join(vocabulary[i] for i in np.asarray(seen["mission"])[:, 0]).strip()
        assert sentence == missions[int(env.task.mission(level.extra))]
    assert len({tuple(row) for row in mission_words(missions).tolist()}) == len(missions)


@pytest.mark.parametrize("bad", [{"image": "ascii"}, {"size": 4}, {"size": 11}, {"tile_size": 2}])
def test_views_that_cannot_be_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        View(**bad)
