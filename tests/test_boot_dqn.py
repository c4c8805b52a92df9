"""Bootstrapped DQN: heads of episodes, masks, priors inside the target, and deep exploration."""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.agents.boot_dqn import BootDQN
from xplore.agents.dqn import DQN
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Discrete
from xplore.contracts.types import EnvSpec, RunSpec
from xplore.loop.config import Config
from xplore.loop.train import train
from xplore.parts.replay import Transition

SPEC = RunSpec(EnvSpec("vector", Box((3,)), Discrete(2), 9), 4, 8)


def run(env, agent, budget, seeds=1, num_envs=8, num_steps=8):
    config = Config(
        xplore.make(env),
        agent,
        xplore.make_bonus("none"),
        xplore.make_world_sampler("fresh"),
        budget_steps=budget,
        num_envs=num_envs,
        num_steps=num_steps,
    )
    return train(config, seeds=seeds)


def ensemble(agent, state, obs):
    """Values of all heads, priors included, `[K, S, A]`."""
    apply = jax.vmap(state.network.apply, in_axes=(0, None))
    prior = apply(state.prior_params, jnp.asarray(obs))
    return np.asarray(apply(state.learned.params, jnp.asarray(obs)) + agent.prior_scale * prior)


@pytest.mark.parametrize(
    "probe",
    ["Probe-Discount-v0", pytest.param("Probe-ChoiceByObservation-v0", marks=pytest.mark.slow)],
)
def test_probe(probe):
    env = xplore.make(probe)
    agent = BootDQN(
        learning_rate=3e-3, discount=0.9, num_heads=4, batch_size=32, updates_per_rollout=8
    )
    result = run(probe, agent, budget=64 * 100)
    state = jax.tree.map(lambda x: x[0], result.state.agent)
    best = ensemble(agent, state, env.observations()).max(axis=-1)
    np.testing.assert_allclose(best, np.tile(env.values(0.9), (4, 1)), atol=0.1)
    last = np.nanmean(result.metrics["episode/return"][0, -10:])
    assert last == pytest.approx(env.optimal_return, abs=0.1)
    assert float(result.metrics["agent/ensemble_std"][0, 0]) > 0.05


def test_the_prior_is_inside_the_target_and_out_of_reach():
    agent = BootDQN(num_heads=3, discount=0.9, prior_scale=5.0, hidden_sizes=(8,))
    state = jax.jit(lambda key: agent.init(key, SPEC))(jax.random.key(0))
    zero = jax.tree.map(jnp.zeros_like, state.learned.params)
    learned = state.learned._replace(params=zero, target_params=zero)
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, 6, 3)).astype(np.float32)
    action = np.array([0, 1, 0, 1, 1, 0])
    reward = np.arange(6, dtype=np.float32)
    discount = np.float32([0.9, 0.9, 0.0, 0.9, 0.0, 0.9])
    batch = Transition(obs, action, reward, discount, next_obs, np.ones((6, 3), bool))
    step = jax.jit(lambda learned, batch: agent._step(state, learned, batch))
    _, metrics = step(learned, batch)
    # With f = 0 everywhere, the error is that of the priors alone.
    apply = jax.jit(jax.vmap(state.network.apply, in_axes=(0, None)))
    prior, after = (5.0 * np.asarray(apply(state.prior_params, x)) for x in (obs, next_obs))
    error = reward + discount * after.max(axis=-1) - prior[:, np.arange(6), action]
    assert float(metrics["td_error"]) == pytest.approx(float(np.abs(error).mean()), rel=1e-4)
    assert float(metrics["loss"]) == pytest.approx(float(0.5 * np.mean(error**2)), rel=1e-4)
    assert np.abs(after).mean() > 0.5
    # A row moves no head that it is masked for; a head without rows stays as it is.
    mask = np.zeros((6, 3), bool)
    mask[2, 1] = True
    moved, _ = step(state.learned, batch._replace(extra=mask))
    pairs = list(zip(*map(jax.tree.leaves, (moved.params, state.learned.params)), strict=True))
    for new, old in pairs:
        np.testing.assert_array_equal(new[::2], old[::2])
    assert any((new[1] != old[1]).any() for new, old in pairs)


def test_a_head_acts_through_an_episode():
    agent = BootDQN(num_heads=5, hidden_sizes=(8,))
    state = jax.jit(lambda key: agent.init(key, SPEC))(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (400, 3))
    act = jax.jit(agent.act)
    none, all_first = jnp.zeros(400, bool), jnp.ones(400, bool)
    heads, action, _ = act(jax.random.key(2), state, agent.initial_carry(400), obs, all_first)
    counts = np.bincount(heads, minlength=5)
    assert counts.min() > 50
    q = ensemble(agent, state, obs)
    np.testing.assert_array_equal(action, q[heads, np.arange(400)].argmax(axis=-1))
    kept, _, _ = act(jax.random.key(3), state, heads, obs, none)
    np.testing.assert_array_equal(kept, heads)
    voted = agent.greedy().act(jax.random.key(3), state, heads, obs, none)[1]
    np.testing.assert_array_equal(voted, q.argmax(axis=-1).sum(axis=0) > 2.5)


def test_refusals():
    with pytest.raises(ConfigError, match=r"mask_probability is 0.0: it must be above 0"):
        BootDQN(mask_probability=0.0)
    with pytest.raises(ConfigError, match="num_heads is 0"):
        BootDQN(num_heads=0)
    with pytest.raises(ConfigError, match="does not fit a replay of 16"):
        BootDQN(replay_size=16).init(jax.random.key(0), SPEC)


@pytest.mark.slow
def test_deep_sea_takes_an_ensemble():
    # Uniformly random actions need 1,024 episodes on average to meet the treasure once.
    episodes, length = 480, 10
    options = {"replay_size": 10_000, "warmup_steps": 128, "updates_per_rollout": 32}
    solved = {}
    for name, agent in {
        "boot_dqn": BootDQN(**options),
        "one head": BootDQN(num_heads=1, **options),
        "dqn": DQN(epsilon_steps=1_000, learning_rate=1e-3, target_period=4, **options),
    }.items():
        result = run("DeepSea-10-v0", agent, episodes * length, seeds=4, num_steps=length)
        last = result.metrics["episode/return"][:, -10:].mean(axis=1)
        solved[name] = int((last > 0.5).sum())
    assert solved["boot_dqn"] >= 3
    assert solved["one head"] <= 1
    assert solved["dqn"] <= 2
