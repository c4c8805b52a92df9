"""CtxDeepSea: what a level holds, who can read it, and who has to learn it by heart."""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.benchmarks import ctx_deep_sea as bench
from xplore.contracts.errors import ConfigError
from xplore.envs.diagnostic.ctx_deep_sea import CtxDeepSea
from xplore.envs.diagnostic.deep_sea import DeepSea

KEY = jax.random.key(0)


def play(env, levels, actions):
    """TimeSteps and privileged information `[L, N]` of fixed actions `[L, N]`."""

    def episode(level, actions):
        state, obs = env.reset_to_level(KEY, level)

        def step(state, action):
            after, ts = env.step(KEY, state, action)
            return after, (ts, env.privileged(after))

        return obs, jax.lax.scan(step, state, actions)[1]

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(episode))(levels, jnp.asarray(actions)))


def sampled(env, num_levels):
    return jax.vmap(env.sample_level)(jax.random.split(jax.random.key(1), num_levels))


@pytest.mark.parametrize("size", [1, 3, 6])
def test_steps_are_those_of_deep_sea_with_the_actions_of_the_map(size):
    env, plain = CtxDeepSea(size), DeepSea(size, randomize_actions=False)
    num = 64
    levels = sampled(env, num)
    maps = np.asarray(jax.vmap(env.action_map)(levels))
    rights = np.random.default_rng(0).integers(0, 2, (num, size))
    rights[:8] = 1
    # What to do to go right, or not: it depends on the cell one is in by then.
    actions = np.zeros_like(rights)
    for episode, (row_map, right) in enumerate(zip(maps, rights, strict=True)):
        column = 0
        for row in range(size):
            actions[episode, row] = row_map[row, column] ^ 1 ^ right[row]
            column = np.clip(column + 2 * right[row] - 1, 0, size - 1)
    _, (ts, told) = play(env, levels, actions)
    _, (wanted, wanted_told) = play(plain, jnp.zeros(num, jnp.uint32), rights)
    for name in ("reward", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(ts, name), getattr(wanted, name))
    np.testing.assert_array_equal(ts.info["success"], wanted.info["success"])
    np.testing.assert_array_equal(told["index"], wanted_told["index"])
    assert ts.reward[:8].sum(1) == pytest.approx(env.optimal_return)
    cells = ts.obs[..., : size * size].reshape(num, size, size, size)
    np.testing.assert_array_equal(cells, wanted.obs)


@pytest.mark.parametrize("hidden", [False, True])
def test_the_observation_holds_the_map_unless_hidden(hidden):
    env = CtxDeepSea(4, num_nuisance_bits=20, hidden=hidden)
    levels = sampled(env, 16)
    first, (ts, _) = play(env, levels, np.zeros((16, 4), int))
    maps = np.asarray(jax.vmap(env.action_map)(levels)).reshape(16, 16)
    assert first.shape == (16, 16 + 20 + (0 if hidden else 16))
    for obs in (first, *np.moveaxis(ts.obs, 1, 0)):
        if not hidden:
            np.testing.assert_array_equal(obs[:, 16:32], maps)
        np.testing.assert_array_equal(obs[:, -20:], first[:, -20:])  # of the level, not of a step
    assert 0.3 < first[:, -20:].mean() < 0.7
    assert env.spec().name.endswith("-Hidden") == hidden


@pytest.mark.parametrize("hidden", [False, True])
def test_a_picture_shows_what_symbols_do(hidden):
    env = CtxDeepSea(4, num_nuisance_bits=6, hidden=hidden)
    seen = CtxDeepSea(4, num_nuisance_bits=6, hidden=hidden, look="rgb")
    levels, actions = sampled(env, 24), np.random.default_rng(0).integers(0, 2, (24, 4))
    first, (ts, _) = play(env, levels, actions)
    picture, (shown, _) = play(seen, levels, actions)
    assert picture.shape[1:] == seen.spec().observation.shape == (64, 64, 3)
    both = [np.concatenate([a[:, None], b], 1).reshape(24 * 5, -1)
            for a, b in ((first, ts.obs), (picture, shown.obs))]  # fmt: skip
    # The same pictures where symbols are the same, and only there.
    numbers = [np.unique(x, axis=0, return_inverse=True)[1].ravel() for x in both]
    assert len(np.unique(numbers[0])) > 24
    assert len(np.unique(np.stack(numbers), axis=1).T) == len(np.unique(numbers[0]))
    assert len(np.unique(numbers[1])) == len(np.unique(numbers[0]))
    np.testing.assert_array_equal(ts.reward, shown.reward)


def test_random_actions_succeed_as_expected_in_any_level():
    env = CtxDeepSea(5)
    actions = np.array(list(itertools.product((0, 1), repeat=5)))
    for level in sampled(env, 3):
        _, (ts, _) = play(env, jnp.broadcast_to(level, (32, *level.shape)), actions)
        assert ts.info["success"].any(1).sum() == 32 * env.random_success == 1
        assert ts.reward.sum(1).mean() == pytest.approx(env.random_return)


def test_a_level_is_one_bit_for_each_cell_within_reach():
    env = CtxDeepSea(6)
    reached = set()
    for actions in itertools.product((0, 1), repeat=6):
        column = 0
        for row, action in enumerate(actions):
            reached.add((row, column))
            column = min(max(column + 2 * action - 1, 0), 5)
    assert env.level_bits == len(reached) == 21
    maps = np.asarray(jax.vmap(env.action_map)(sampled(env, 4096))).reshape(4096, 36)
    bits = maps[:, [row * 6 + column for row, column in sorted(reached)]].astype(float)
    # Fair and independent, so that the information of all of them is their number.
    assert np.abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / 64
    assert np.abs(np.corrcoef(bits.T) - np.eye(21)).max() < 5 / 64
    assert env.relevant_bits == 6


def test_the_identity_has_no_information():
    env = CtxDeepSea(6, mapping="identity")
    levels = sampled(env, 8)
    assert np.all(np.asarray(jax.vmap(env.action_map)(levels)) == 1)
    assert len(np.unique(np.asarray(levels), axis=0)) == 8  # in the bits that mean nothing
    assert (env.level_bits, env.relevant_bits) == (0, 0)


def test_the_level_of_starts_stands_for_all():
    env = CtxDeepSea(4)
    starts = env.starts()
    assert np.all(np.asarray(jax.vmap(env.action_map)(starts.levels)) == 1)
    levels = sampled(env, 1)
    state, _ = env.reset_to_level(KEY, levels[0])
    right = env.action_map(levels[0])[0, 0]
    for action, column in ((right, 1), (1 - right, 0)):
        found = env.outcomes(state, action)
        assert int(env.privileged(jax.tree.map(lambda x: x[0], found.state))["index"]) == 4 + column


def test_who_learns_by_heart_knows_its_levels_and_no_others():
    size, num_train, num_test = 4, 64, 512
    found = bench.measure(CtxDeepSea(size), num_train, num_test, seed=0)
    assert found["memoriser"]["train"] == 1.0
    # It acts as one who knows nothing, up to chance.
    error = 4 * (2.0**-size / num_test) ** 0.5
    assert found["memoriser"]["held_out"] == pytest.approx(2.0**-size, abs=error)
    assert found["reader"] == {"train": 1.0, "held_out": 1.0}
    assert found["random"]["held_out"] == pytest.approx(2.0**-size, abs=error)


def test_stored_table_is_what_was_measured():
    folder = bench.FOLDER
    measured = bench.load(folder)
    assert bench.table(measured) == (folder / "table.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("hidden", ["", "-Hidden"])
@pytest.mark.parametrize("size", [3, 6, 8, 10, 12, 16])
def test_ids(size, hidden):
    env = xplore.make(f"CtxDeepSea-{size}-16{hidden}-v0")
    assert env == CtxDeepSea(size, 16, hidden=bool(hidden))
    assert env.spec().max_steps == env.spec().num_layers == size


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"num_nuisance_bits": -1}, {"mapping": "permuted"}], ids=str
)
def test_impossible_options_are_refused(options):
    (name,) = options
    with pytest.raises(ConfigError, match=f"CtxDeepSea: {name} is"):
        CtxDeepSea(**options)


def test_a_picture_has_a_size():
    with pytest.raises(ConfigError, match="look is 'rgb' with 66 rows"):
        CtxDeepSea(65, look="rgb")
    with pytest.raises(ConfigError, match="look is 'pixels'"):
        CtxDeepSea(8, look="pixels")
