"""Going back to states, the archive of cells, and learning from what was found there."""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.contracts.errors import ConfigError
from xplore.contracts.types import LevelBatch, RunSpec
from xplore.loop.config import Config
from xplore.loop.update import checked_reads, make_train, reads_of
from xplore.parts.levels import level_from_id
from xplore.parts.restoring import Past, from_bytes, to_bytes
from xplore.testing import check_env, check_world_sampler
from xplore.worlds.go_explore import GoExplore, _draw, demonstration

KEY = jax.random.key(0)
ROOM = "MiniGrid-DoorKey-5x5-v0"


def test_the_wrapped_environment_keeps_its_promises():
    check_env(xplore.make(f"restorable/{ROOM}", explore_steps=7), num_envs=2, num_steps=16)


def test_the_sampler_keeps_its_promises():
    check_world_sampler(GoExplore(), xplore.make(f"restorable/{ROOM}"))


def test_bytes_come_back_as_they_were():
    tree = {
        "a": jnp.arange(3, dtype=jnp.int32) - 1,
        "b": jnp.array([[True, False]]),
        "c": (jnp.float32(-2.5), jnp.uint8(7), jnp.int8(-3)),
    }
    data = to_bytes(tree)
    assert data.dtype == jnp.uint8
    assert data.shape == (12 + 2 + 4 + 1 + 1,)
    again = from_bytes(jax.eval_shape(lambda: tree), data)
    jax.tree.map(np.testing.assert_array_equal, again, tree)
    assert [x.dtype for x in jax.tree.leaves(again)] == [x.dtype for x in jax.tree.leaves(tree)]


def test_a_restored_state_goes_on_as_the_one_that_was_saved():
    env = xplore.make(f"restorable/{ROOM}", max_steps=9)
    step = jax.jit(env.step)
    level = env.sample_level(jax.random.key(3))
    state, _ = env.reset_to_level(KEY, level)
    actions = [1, 2, 0, 3]
    for action in actions:
        state, ts = step(KEY, state, jnp.int32(action))
    told = env.privileged(state)
    assert int(told["num_steps"]) == 4
    saved = level._replace(restored=jnp.bool_(True), snapshot=told["snapshot"], obs=ts.obs)
    again, obs = env.reset_to_level(jax.random.key(9), saved)
    jax.tree.map(np.testing.assert_array_equal, (again.past, obs), (state.past, ts.obs))
    np.testing.assert_array_equal(told["snapshot"][:9], [*actions, 0, 0, 0, 0, 0])
    # The saved episode had five steps left, and so has this one.
    ends = []
    for action in (2, 2, 1, 2, 5):
        state, one = step(KEY, state, jnp.int32(action))
        again, other = step(KEY, again, jnp.int32(action))
        jax.tree.map(np.testing.assert_array_equal, one, other)
        ends.append(bool(other.truncated))
    assert ends == [False] * 4 + [True]


def test_exploration_is_cut_after_its_steps():
    env = xplore.make(f"restorable/{ROOM}", explore_steps=2)
    state, _ = env.reset_to_level(KEY, env.sample_level(KEY))
    cut = []
    for _ in range(2):
        state, ts = env.step(KEY, state, jnp.int32(0))
        cut.append(bool(ts.truncated))
    assert cut == [False, True]


@pytest.mark.parametrize(
    ("id", "options", "said"),
    [
        ("restorable/gymnax/Pendulum-v1", {}, "at most 256 discrete actions"),
        ("restorable/Foraging-v0", {}, "have no end"),
        (f"restorable/{ROOM}", {"explore_steps": -1}, "explore_steps is -1"),
    ],
)
def test_what_cannot_be_restored_is_refused(id, options, said):
    with pytest.raises(ConfigError, match=said):
        xplore.make(id, **options)


@pytest.fixture(scope="module")
def explored():
    """A run of two seeds in a small room, each in a level of its own."""
    config = Config(
        xplore.make(f"restorable/{ROOM}", explore_steps=16),
        xplore.make_agent("sticky", stickiness=0.3),
        xplore.make_bonus("none"),
        xplore.make_world_sampler("go_explore"),
        16 * 16 * 40,
        num_envs=16,
        num_steps=16,
        num_levels=16,
    )
    return config, xplore.train(config, seeds=2)


def test_it_finds_the_goal_and_can_do_it_again(explored):
    config, result = explored
    env = config.env.env
    cells = result.metrics["worlds/cells"]
    assert (np.diff(cells) >= 0).all()
    assert (result.metrics["worlds/solved_after"][:, -1] > 0).all()
    for seed in range(2):
        state = jax.tree.map(lambda x, s=seed: x[s], result.state.worlds)
        assert bool(state.best.success)
        dataset = xplore.record_plans(env, *demonstration(state), key=KEY)
        np.testing.assert_allclose(dataset.returns, [state.best.score], rtol=1e-6)
        assert bool(dataset.terminated[-1])
        # No state that is kept is better than what led to it.
        known = state.archive
        there = np.flatnonzero(known.is_there)
        shapes = jax.eval_shape(lambda x: config.env.reset_to_level(KEY, x)[0].past, state.level)
        past: Past = jax.vmap(lambda x, s=shapes: from_bytes(s, x))(known.snapshot[there])
        np.testing.assert_array_equal(past.num_steps, known.num_steps[there])
        carrying = jax.vmap(config.env.env.privileged)(past.inner)
        number = carrying["position"] * config.env.spec().privileged["carrying"].num
        np.testing.assert_array_equal(number + carrying["carrying"], there)
        np.testing.assert_array_equal(jax.vmap(env.observe)(past.inner), known.obs[there])


def test_it_is_in_the_level_that_fixed_has(explored):
    config, result = explored
    ids = np.asarray(result.state.worlds.level_id)
    fixed = dataclasses.replace(
        config,
        env=config.env.env,
        worlds=xplore.make_world_sampler("fixed", num_levels=1),
    )
    init = make_train(fixed).init
    for seed in range(2):
        lanes = jax.jit(init)(jax.random.key(seed)).lanes
        assert set(np.asarray(lanes.level_id).tolist()) == {int(ids[seed])}


def test_cells_are_drawn_by_their_weights():
    weight = jnp.array([0.0, 1.0, 0.0, 3.0, 0.0])
    drawn = np.bincount(_draw(KEY, weight, 4000), minlength=5) / 4000
    np.testing.assert_allclose(drawn, [0, 0.25, 0, 0.75, 0], atol=0.03)


def test_the_archive_keeps_the_best_and_counts_what_it_saw(explored):
    config, _ = explored
    env, sampler = config.env, GoExplore()
    state = sampler.init(KEY, env)
    start = int(np.flatnonzero(state.archive.is_there)[0])
    _, batch = sampler.sample(KEY, state, env, 2)
    assert bool(batch.levels.restored.all())
    size = state.archive.snapshot.shape[1]
    num_carried = env.spec().privileged["carrying"].num

    def told(positions, steps, scores, marks):
        shape = np.shape(positions)
        snapshots = np.broadcast_to(np.asarray(marks)[..., None], (*shape, size))
        return {
            "position": jnp.asarray(positions, jnp.int32),
            "carrying": jnp.zeros(shape, jnp.int32),
            "num_steps": jnp.asarray(steps, jnp.int32),
            "score": jnp.asarray(scores, jnp.float32),
            "snapshot": jnp.asarray(snapshots, jnp.uint8),
        }

    here = start // num_carried
    # Two steps of three envs: cell 3 by 2, 1 and (ended) 1 steps; cell 4 by a better score, later.
    positions = [[3, 4, 4], [3, 4, 3]]
    after = told(positions, [[2, 5, 4], [1, 6, 1]], [[0, 1, 0], [0, 0, 9]], [[1, 2, 3], [4, 5, 6]])
    before = told([[here] * 3] * 2, [[0] * 3] * 2, [[0.0] * 3] * 2, [[0] * 3] * 2)
    ends = jnp.array([[False] * 3, [False, False, True]])
    obs = jnp.zeros((2, 3, 7, 7, 3), jnp.uint8)
    traj = xplore.Trajectory(*[None] * 13)._replace(
        obs=obs, next_obs=obs, reward=jnp.zeros((2, 3)), privileged=before, next_privileged=after,
        terminated=ends, truncated=jnp.zeros((2, 3), bool), info={"success": ends},
        first=jnp.array([[True, True, False], [False] * 3]),
    )  # fmt: skip
    after_state, metrics = sampler.update(state, LevelBatch(None, None), traj)
    known = after_state.archive
    rows = [3 * num_carried, 4 * num_carried]
    np.testing.assert_array_equal(known.snapshot[jnp.array(rows), 0], [4, 2])
    np.testing.assert_array_equal(known.num_steps[jnp.array(rows)], [1, 5])
    np.testing.assert_array_equal(known.score[jnp.array(rows)], [0.0, 1.0])
    np.testing.assert_array_equal(known.seen[jnp.array(rows)], [3, 3])
    assert int(known.chosen[start]) == 2
    assert int(metrics["cells"]) == 3
    assert int(after_state.solved_after) == 6
    assert (int(after_state.best.num_steps), float(after_state.best.score)) == (1, 9.0)
    assert (np.asarray(after_state.best.actions) == 6).all()
    # Seen again and no better: it stays.
    again, _ = sampler.update(after_state, LevelBatch(None, None), traj)
    np.testing.assert_array_equal(again.archive.snapshot, known.snapshot)
    assert int(again.solved_after) == 6


def test_the_run_says_what_it_reads_and_what_it_cannot(explored):
    config, _ = explored
    assert "snapshot" in reads_of(config)
    sampler, plain = GoExplore(), xplore.make(ROOM)
    with pytest.raises(ConfigError, match=r"'snapshot'.*restorable/MiniGrid-DoorKey"):
        checked_reads(config.bonus, plain.spec(), sampler)
    with pytest.raises(ConfigError, match="go_explore goes back to states"):
        sampler.init(KEY, plain)
    with pytest.raises(ConfigError, match=r"does not tell 'door'.*carrying, direction"):
        GoExplore(cell="position+door").init(KEY, config.env)
    with pytest.raises(ConfigError, match="neither may be below"):
        GoExplore(seen_weight=-1.0)
    with pytest.raises(ConfigError, match=r"stickiness is 1\.0"):
        xplore.make_agent("sticky", stickiness=1.0)


def test_cells_of_observations_are_hashed(explored):
    config, _ = explored
    sampler = GoExplore(cell="observation", capacity=64)
    state = sampler.init(KEY, config.env)
    assert state.sizes == ()
    assert state.archive.score.shape == (64,)
    assert int(state.archive.is_there.sum()) == 1


def test_the_policy_that_imitates_the_demonstration_reaches_the_goal(explored):
    config, result = explored
    env = config.env.env
    worlds = jax.tree.map(lambda x: x[0], result.state.worlds)
    agent = xplore.make_agent("ppo", hidden_sizes=(32,))
    state = agent.init(KEY, RunSpec(env.spec(), 8, 8))
    level_id, plans, lengths = demonstration(worlds)
    dataset = xplore.record_plans(env, level_id, plans, lengths, key=KEY)
    state, metrics = xplore.behaviour_clone(
        KEY, agent, state, dataset, num_steps=400, batch_size=64, learning_rate=3e-3
    )
    # Of states that look alike it can do one thing alone; by chance it does the other.
    assert float(metrics["imitation_accuracy"]) > 0.7
    found = xplore.record_agent(env, agent, state, jnp.repeat(level_id, 20), key=KEY)
    assert (found.returns > 0).mean() > 0.2
    assert level_from_id(env, level_id[0]).grid.shape == (25,)
