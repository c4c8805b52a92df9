"""Datasets, behaviour cloning from experts and agents, and ranked episodes."""
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
from xplore.contracts.spaces import Box, Discrete
from xplore.contracts.types import EnvSpec, RunSpec, Trajectory
from xplore.envs.minigrid.oracle import solve
from xplore.envs.minigrid.plan import shortest_plans
from xplore.loop.config import Config
from xplore.parts.levels import levels_from_ids, train_ids
from xplore.parts.ranked import no_ranked, rank

KEY = jax.random.key(0)
SEA = xplore.make("DeepSea-5-v0")
OTHER_PROBES = (
    "Probe-Constant-v0",
    "Probe-Observation-v0",
    "Probe-Discount-v0",
    "Probe-Choice-v0",
)


def fresh_state(agent, env, num_envs=8):
    return agent.init(KEY, RunSpec(env.spec(), num_envs, 4))


@pytest.fixture(scope="module")
def expert_data():
    return xplore.record_expert(SEA, xplore.oracle.expert(SEA), jnp.arange(20), key=KEY)


@pytest.fixture(scope="module")
def cloned(expert_data):
    agent = xplore.make_agent("ppo", hidden_sizes=(16,), num_minibatches=1, num_epochs=1)
    state = fresh_state(agent, SEA)
    state, metrics = xplore.behaviour_clone(
        KEY, agent, state, expert_data, num_steps=200, batch_size=32, learning_rate=1e-2
    )
    return agent, state, metrics


def test_the_expert_of_a_finite_task_is_optimal(expert_data):
    best = xplore.oracle.optimal_return(xplore.oracle.enumerate_task(SEA))
    np.testing.assert_allclose(expert_data.returns, best, rtol=1e-5)
    assert expert_data.num_steps == 20 * 5
    np.testing.assert_array_equal(np.flatnonzero(expert_data.first), np.arange(20) * 5)
    np.testing.assert_array_equal(expert_data.level_id[::5], np.arange(20))


def test_a_clone_of_the_expert_is_optimal(cloned, expert_data):
    agent, state, metrics = cloned
    assert float(metrics["imitation_accuracy"]) == 1.0
    found = xplore.record_agent(SEA, agent.greedy(), state, jnp.arange(3), key=KEY)
    np.testing.assert_allclose(found.returns, expert_data.returns[:3])
    assert float(state.env_steps) == 0


def test_training_goes_on_from_a_clone(cloned):
    agent, state, _ = cloned
    config = Config(
        SEA, agent, xplore.make_bonus("none"), xplore.make_world_sampler("fresh"), 8 * 5,
        num_envs=8, num_steps=5,
    )  # fmt: skip
    both = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    result = xplore.train(config, seeds=2, seed_mode="sequential", agent_state=both)
    # By chance one episode in 32 gets there: the expert's return, from the first rollout on.
    assert np.all(result.metrics["episode/return"][:, 0] > 0.8)
    np.testing.assert_array_equal(both.env_steps, 0)  # what was given is still there
    with pytest.raises(ConfigError, match=r"leaves are \[S, ...\] over seeds"):
        xplore.train(config, seeds=3, agent_state=both)
    with pytest.raises(ConfigError, match="agent_state is of another agent"):
        xplore.train(config, agent_state=())


def test_a_dataset_survives_a_file_of_its_environment_alone(expert_data, tmp_path):
    path = tmp_path / "sea.npz"
    xplore.save_dataset(path, expert_data)
    again = xplore.load_dataset(path, SEA)
    assert jax.tree.structure(again) == jax.tree.structure(expert_data)
    jax.tree.map(np.testing.assert_array_equal, again, expert_data)
    with pytest.raises(ConfigError, match=r"dataset of DeepSea.* has Box.*\(5, 5\)"):
        xplore.load_dataset(path, xplore.make("DeepSea-10-v0"))
    path.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="no dataset that can be read"):
        xplore.load_dataset(path, SEA)


def test_the_best_episodes_can_be_kept(expert_data):
    returns = np.repeat(np.arange(20.0), 5) / 5
    graded = dataclasses.replace(expert_data, reward=jnp.asarray(returns, jnp.float32))
    kept = graded.at_least(17.5)
    np.testing.assert_allclose(kept.returns, [18.0, 19.0], rtol=1e-6)
    np.testing.assert_array_equal(kept.level_id, np.repeat([18, 19], 5))


def test_what_does_not_fit_is_refused(cloned, expert_data):
    agent, state, _ = cloned
    with pytest.raises(ConfigError, match="Random has no policy"):
        xplore.behaviour_clone(KEY, xplore.make_agent("random"), (), expert_data)
    other = fresh_state(agent, xplore.make("DeepSea-10-v0"))
    with pytest.raises(ConfigError, match="made for other observations than DeepSea"):
        xplore.behaviour_clone(KEY, agent, other, expert_data)
    more = dataclasses.replace(expert_data, action_space=Discrete(3))
    with pytest.raises(ConfigError, match="made for 2 actions"):
        xplore.behaviour_clone(KEY, agent, state, more)
    with pytest.raises(ConfigError, match="the dataset is empty"):
        xplore.behaviour_clone(KEY, agent, state, expert_data.at_least(2.0))
    with pytest.raises(ConfigError, match="no time limit"):
        xplore.record_agent(xplore.make("Foraging-v0"), agent, state, jnp.arange(2), key=KEY)


def test_plans_of_minigrid_are_shortest_and_can_be_replayed():
    env = xplore.make("MiniGrid-DoorKey-5x5-v0")
    ids = train_ids(0, jnp.arange(2))
    levels = levels_from_ids(env, ids).levels
    plans, lengths = shortest_plans(env, levels)
    found = jax.jit(jax.vmap(lambda level: solve(env, level)))(levels)
    np.testing.assert_array_equal(lengths, found.steps)
    dataset = xplore.record_plans(env, ids, plans, lengths, key=KEY)
    np.testing.assert_allclose(dataset.returns, found.optimal_return, rtol=1e-6)
    assert dataset.num_steps == lengths.sum()
    assert int(dataset.terminated.sum()) == 2


def rollout(reward, ended, obs):
    reward, ended = jnp.asarray(reward, jnp.float32), jnp.asarray(ended)
    none = jnp.zeros_like(ended)
    obs = jnp.asarray(obs, jnp.float32)[..., None]
    return Trajectory(obs, obs[..., 0].astype(int), reward, obs, ended, none, *[None] * 7)


def test_steps_are_ranked_by_the_scores_of_their_whole_episodes():
    memory = no_ranked(EnvSpec("line", Box((1,)), Discrete(99), 6), 2, 5)
    weights = (1.0, 0.1, 0.01)
    # Env 0 ends at 2 steps, and its second episode goes on; env 1 goes on for 5.
    one = rollout(
        [[0, 0], [1, 0], [0, 0]], [[False, False], [True, False], [False, False]],
        [[1, 11], [2, 12], [3, 13]],
    )  # fmt: skip
    is_new, rarity = jnp.ones((3, 2)), jnp.full((3, 2), 0.5)
    memory, score = rank(memory, one, is_new, rarity, weights)
    assert int(memory.num_filled) == 2
    np.testing.assert_allclose(memory.score[:2], 1 + 0.1 + 0.01 * 0.5)
    np.testing.assert_allclose(score[1, 0], 1.105)
    np.testing.assert_array_equal(memory.best.action[:2], [1, 2])
    two = rollout(
        [[0, 0], [0, 3], [0, 0]], [[False, False], [False, True], [True, False]],
        [[4, 14], [5, 15], [6, 16]],
    )  # fmt: skip
    memory, _ = rank(memory, two, jnp.zeros((3, 2)), rarity, weights)
    # The five of env 1, of which three were in the rollout before, oust all others.
    np.testing.assert_array_equal(np.sort(memory.best.action), [11, 12, 13, 14, 15])
    np.testing.assert_allclose(memory.score, 3 + 0.1 * 3 / 5 + 0.01 * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(memory.best.obs[:, 0], memory.best.action)
    np.testing.assert_array_equal(memory.running.length, [0, 1])
    # What env 0 did in its second episode, 3 to 6, was ranked and found too low.
    assert 3 not in memory.best.action


@pytest.mark.parametrize(
    "probe",
    [
        "Probe-ChoiceByObservation-v0",
        *(pytest.param(p, marks=pytest.mark.slow) for p in OTHER_PROBES),
    ],
)
def test_rapid_solves_the_probes(probe):
    env = xplore.make(probe)
    options = {"learning_rate": 3e-3, "discount": 0.9, "entropy_coefficient": 0.0}
    agent = xplore.make_agent("rapid", buffer_size=256, batch_size=32, imitation_steps=4, **options)
    config = Config(
        env, agent, xplore.make_bonus("none"), xplore.make_world_sampler("fresh"), 25_600,
        num_envs=16, num_steps=16, num_levels=256,
    )  # fmt: skip
    result = xplore.train(config)
    last = result.metrics["episode/return"][0, -20:]
    assert np.nanmean(last) == pytest.approx(env.optimal_return, abs=0.06)
    learner = jax.tree.map(lambda x: x[0], result.state.agent.learner)
    value = learner.network.apply(learner.params, jnp.asarray(env.observations()), method="value")
    np.testing.assert_allclose(value[:, 0], env.values(0.9), atol=0.15)


def test_rapid_refuses_what_it_cannot_rank():
    with pytest.raises(ConfigError, match="rapid ranks whole episodes, and those of Foraging"):
        fresh_state(xplore.make_agent("rapid"), xplore.make("Foraging-v0"))
    with pytest.raises(ConfigError, match="imitation_steps is 0"):
        xplore.make_agent("rapid", imitation_steps=0)
    with pytest.raises(ConfigError, match="PPO has no option 'discont'; did you mean 'discount'"):
        xplore.make_agent("rapid", discont=0.5)
