"""What wraps an environment: the noisy television and the noise of colours."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import contains
from xplore.envs.minigrid.observation import View
from xplore.testing import check_env

EMPTY = "MiniGrid-Empty-5x5-v0"
KEY = jax.random.key(0)


def rolled(env, actions, seed=0):
    """The first observation, and TimeSteps and privileged information `[T]` of `actions`."""
    state, obs = env.reset_to_level(KEY, env.sample_level(jax.random.key(5)))
    first = obs, env.privileged(state)

    def step(state, xs):
        key, action = xs
        state, ts = env.step(key, state, action)
        return state, (ts, env.privileged(state))

    keys = jax.random.split(jax.random.key(seed), len(actions))
    out = jax.jit(lambda s: jax.lax.scan(step, s, (keys, jnp.asarray(actions))))(state)[1]
    return jax.tree.map(np.asarray, (first, *out))


@pytest.mark.parametrize(
    "id",
    [f"noisy_tv/{EMPTY}", "noisy_tv/DeepSea-5-v0", f"colour_noise/{EMPTY}"],
)
def test_wrapped_environments_keep_their_promises(id):
    check_env(xplore.make(id), num_envs=2, num_steps=16)


@pytest.mark.parametrize(
    ("wrapper", "view"),
    [
        ("noisy_tv", View(image="rgb", tile_size=3)),
        ("colour_noise", View(image="rgb", tile_size=3)),
        ("noisy_tv", View(mission=True, direction=True)),
        ("colour_noise", View(mission=True, direction=True)),
    ],
    ids=str,
)
def test_wrapped_views_keep_their_promises(wrapper, view):
    env = xplore.make(f"{wrapper}/{EMPTY}", view=view)
    check_env(env, num_envs=2, num_steps=16, thorough=False)


def test_watching_leaves_the_world_and_shows_pictures():
    env, plain = xplore.make(f"noisy_tv/{EMPTY}"), xplore.make(EMPTY)
    watch = 7
    actions = np.array([2, watch, watch, 2, 1, watch, 2, 2])
    assert env.spec().action == xplore.Discrete(watch + 1)
    first, ts, told = rolled(env, actions)
    wanted_first, wanted, wanted_told = rolled(plain, actions[actions != watch])
    moved = actions != watch
    jax.tree.map(np.testing.assert_array_equal, first, wanted_first)
    np.testing.assert_array_equal(ts.info["watched"], ~moved)
    np.testing.assert_array_equal(ts.reward[moved], wanted.reward)
    assert ts.info["success"].tolist() == [False] * 7 + [True]
    assert ts.terminated.tolist() == [False] * 7 + [True]
    np.testing.assert_array_equal(ts.obs[moved], wanted.obs)
    assert np.all(ts.reward[~moved] == 0.0)
    for name, entry in told.items():
        np.testing.assert_array_equal(entry[moved], wanted_told[name])
        before = np.concatenate([first[1][name][None], entry[:-1]])
        np.testing.assert_array_equal(entry[~moved], before[~moved])
    pictures = ts.obs[~moved]
    assert contains(env.spec().observation, pictures)
    assert len(np.unique(pictures, axis=0)) == 3
    assert (pictures[:, 0, 0] != first[0][0, 0]).any()


def test_time_passes_while_watching():
    env = xplore.make(f"noisy_tv/{EMPTY}", max_steps=6)
    _, ts, _ = rolled(env, np.full(6, 7))
    assert ts.truncated.tolist() == [False] * 5 + [True]
    assert not ts.terminated.any()
    assert ts.info["watched"].all()
    assert not ts.info["success"].any()
    # Half of the time watched: the world's own clock has not run out, the episode's has.
    _, ts, _ = rolled(env, np.array([7, 0, 7, 0, 7, 0]))
    assert ts.truncated.tolist() == [False] * 5 + [True]


def test_channels_are_the_pictures_there_are():
    env = xplore.make(f"noisy_tv/{EMPTY}", channels=3, max_steps=200)
    _, ts, _ = rolled(env, np.full(100, 7))
    pictures, counts = np.unique(ts.obs, axis=0, return_counts=True)
    assert len(pictures) == 3
    assert counts.min() > 15
    other = xplore.make(f"noisy_tv/{EMPTY}", channels=3, max_steps=200, tv_seed=1)
    _, ts, _ = rolled(other, np.full(100, 7))
    assert not np.array_equal(np.unique(ts.obs, axis=0), pictures)


def test_of_several_entries_the_image_alone_is_a_picture():
    env = xplore.make(f"noisy_tv/{EMPTY}", view=View(direction=True))
    (first, _), ts, _ = rolled(env, np.array([1, 7, 7, 1]))
    assert ts.obs["direction"].tolist() == [1, 1, 1, 2]
    assert len(np.unique(ts.obs["image"], axis=0)) == 4
    assert int(first["direction"]) == 0


def test_colours_change_and_nothing_else():
    env, plain = xplore.make(f"colour_noise/{EMPTY}"), xplore.make(EMPTY)
    actions = np.array([1, 2, 0, 2, 6, 6, 6, 6])
    (first, _), ts, told = rolled(env, actions)
    # Levels of Empty are all equal.
    (plain_first, _), wanted, wanted_told = rolled(plain, actions)
    jax.tree.map(np.testing.assert_array_equal, told, wanted_told)
    np.testing.assert_array_equal(ts.reward, wanted.reward)
    obs = np.concatenate([first[None], ts.obs])
    true = np.concatenate([plain_first[None], wanted.obs])
    np.testing.assert_array_equal(obs[..., [0, 2]], true[..., [0, 2]])
    unseen = ~(true != 0).any(-1)
    assert np.all(obs[unseen] == 0)
    colours = obs[~unseen][:, 1]
    assert np.bincount(colours, minlength=6).min() > 0.1 * len(colours)
    assert colours.max() == 5
    assert len(np.unique(obs[-4:], axis=0)) == 4  # standing still


def test_colours_change_where_one_looks_north_and_there_in_the_middle():
    options = {"places": 0.25, "by": "direction", "patch": 3}
    env, plain = xplore.make(f"colour_noise/{EMPTY}", **options), xplore.make(EMPTY)
    actions = np.array([2, 2, 1, 2, 2, 0, 0, 6, 6, 6])  # two steps south, then looking north
    _, ts, _ = rolled(env, actions)
    _, wanted, told = rolled(plain, actions)
    north = told["direction"] == 3
    assert north.sum() == 4
    np.testing.assert_array_equal(ts.info["watched"], north)
    differ = (ts.obs != wanted.obs).any(-1)
    assert not differ[~north].any()
    assert differ[north][:, 2:5, 2:5].any()
    differ[:, 2:5, 2:5] = False
    assert not differ.any()


@pytest.mark.parametrize(
    ("id", "options", "said"),
    [
        ("noisy_tv/gymnax/Pendulum-v1", {}, "adds an action to discrete ones"),
        ("noisy_tv/RiverSwim-v0", {}, "noisy_tv needs an image.*Discrete"),
        (f"noisy_tv/{EMPTY}", {"channels": -1}, "channels is -1"),
        ("colour_noise/RiverSwim-v0", {}, "colour_noise needs an image.*Discrete"),
        ("colour_noise/DeepSea-5-v0", {}, r"image \[height, width, channels\].*\(5, 5\)"),
        ("colour_noise/gymnax/CartPole-v1", {}, r"image \[height, width, channels\]"),
        (f"colour_noise/{EMPTY}", {"channel": 3}, "channel is 3: .* channels 0 to 2"),
        (f"colour_noise/{EMPTY}", {"places": 0.0}, "places is 0.0: give a share"),
        (f"colour_noise/{EMPTY}", {"places": 0.5, "by": "depth"}, "no privileged 'depth'"),
        (f"colour_noise/{EMPTY}", {"patch": -1}, "patch is -1"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(id, options, said):
    with pytest.raises(ConfigError, match=said):
        xplore.make(id, **options)
