"""DIAYN: what a skill is paid, that it is kept, and that skills come to differ."""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.agents.diayn import Extras
from xplore.contracts.errors import ConfigError
from xplore.contracts.types import RunSpec
from xplore.loop.config import Config

KEY = jax.random.key(0)
GRID = "DeepSea-5-v0"


def run(env, agent, budget, num_envs=16, num_steps=16):
    config = Config(
        xplore.make(env), agent, xplore.make_bonus("none"), xplore.make_world_sampler("fresh"),
        budget, num_envs=num_envs, num_steps=num_steps, num_levels=256,
    )  # fmt: skip
    return xplore.train(config)


@pytest.fixture(scope="module")
def trained():
    agent = xplore.make_agent(
        "diayn", num_skills=4, learning_rate=3e-3, entropy_coefficient=0.01,
        discriminator_rate=3e-3, num_minibatches=4, hidden_sizes=(32,), discriminator_sizes=(32,),
    )  # fmt: skip
    return agent, run(GRID, agent, 30_720)


def test_skills_come_to_be_told_apart(trained):
    _, result = trained
    accuracy = result.metrics["agent/discriminator_accuracy"][0]
    # Where an episode has only begun skills look alike.
    assert accuracy[0] < 0.4
    assert accuracy[-10:].mean() > 0.6
    reward = result.metrics["agent/skill_reward"][0]
    assert 0.3 < reward[-10:].mean() < np.log(4)


def test_what_a_skill_is_paid(trained):
    agent, result = trained
    state = jax.tree.map(lambda x: x[0], result.state.agent)
    obs = jax.random.uniform(KEY, (6, 5, 5))
    q = jax.nn.softmax(state.network.apply(state.discriminator.params, obs))
    for z in range(4):
        paid = agent.skill_reward(state, obs, jnp.full(6, z))
        np.testing.assert_allclose(paid, np.log(q[:, z]) - np.log(1 / 4), rtol=1e-4, atol=1e-5)


def test_a_skill_is_kept_for_the_episode_and_drawn_evenly(trained):
    agent, result = trained
    state = jax.tree.map(lambda x: x[0], result.state.agent)
    obs, num = jnp.zeros((400, 5, 5)), 400
    carry = agent.initial_carry(num)
    act = jax.jit(agent.act)
    carry, _, extras = act(KEY, state, carry, obs, jnp.ones(num, bool))
    assert np.bincount(extras.skill, minlength=4).min() > 60
    first = jnp.arange(num) < 200
    _, _, later = act(jax.random.key(1), state, carry, obs, first)
    np.testing.assert_array_equal(later.skill[200:], extras.skill[200:])
    assert 20 < int((later.skill[:200] == extras.skill[:200]).sum()) < 90
    best = dataclasses.replace(state, paid=jnp.array([0.0, 1.0, 3.0, 2.0]))
    _, _, greedy = agent.greedy().act(KEY, best, carry, obs, jnp.ones(num, bool))
    assert (np.asarray(greedy.skill) == 2).all()


def test_returns_are_kept_by_skill(trained):
    agent, result = trained
    state = jax.tree.map(lambda x: x[0], result.state.agent)
    state = dataclasses.replace(state, running=jnp.array([1.0, 0.0]), paid=jnp.zeros(4))
    traj = xplore.Trajectory(*[None] * 13)._replace(
        reward=jnp.array([[1.0, 0.5], [1.0, 0.5]]),
        terminated=jnp.array([[True, False], [False, False]]),
        truncated=jnp.array([[False, False], [False, True]]),
        extras=Extras(jnp.array([[2, 1], [3, 1]]), ()),
    )
    running, paid = agent._returns(state, traj)
    np.testing.assert_allclose(running, [1.0, 0.0])
    np.testing.assert_allclose(paid, [0.0, 0.05 * 1.0, 0.05 * 2.0, 0.0])


@pytest.mark.parametrize(
    "probe",
    [
        "Probe-ChoiceByObservation-v0",
        *(
            pytest.param(p, marks=pytest.mark.slow)
            for p in ("Probe-Observation-v0", "Probe-Discount-v0", "Probe-Choice-v0")
        ),
    ],
)
def test_it_solves_the_probes_when_told_of_the_reward(probe):
    agent = xplore.make_agent(
        "diayn", num_skills=2, extrinsic_coefficient=1.0, skill_coefficient=0.0,
        learning_rate=3e-3, discount=0.9, entropy_coefficient=0.0, discriminator_steps=1,
        discriminator_fraction=0.1,
    )  # fmt: skip
    env = xplore.make(probe)
    last = run(probe, agent, 25_600).metrics["episode/return"][0, -20:]
    assert np.nanmean(last) == pytest.approx(env.optimal_return, abs=0.06)


def test_refusals():
    with pytest.raises(ConfigError, match="num_skills is 1"):
        xplore.make_agent("diayn", num_skills=1)
    with pytest.raises(ConfigError, match="discriminator_steps is 0"):
        xplore.make_agent("diayn", discriminator_steps=0)
    spec = RunSpec(xplore.make("gymnax/Pendulum-v1").spec(), 8, 4)
    with pytest.raises(ConfigError, match="discrete action spaces"):
        xplore.make_agent("diayn").init(KEY, spec)
