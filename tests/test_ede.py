"""Quantiles, what an ensemble of them is unsure of, and the agent that acts on it."""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.agents.ede import EDE
from xplore.agents.ede_pqn import EDEPQN
from xplore.contracts.component import from_json, replace, to_json
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Discrete
from xplore.contracts.types import EnvSpec, RunSpec, Trajectory
from xplore.loop.config import Config
from xplore.loop.train import train
from xplore.parts.quantiles import Beliefs, beliefs, directed, quantile_loss, take_quantiles

RNG = np.random.default_rng(0)


def test_quantile_loss_against_a_loop():
    quantiles, target = RNG.normal(size=(2, 5)) * 2, RNG.normal(size=(2, 3)) * 2
    total = 0.0
    for row in range(2):
        total = 0.0
        for i, q in enumerate(quantiles[row]):
            tau = (i + 0.5) / 5
            for x in target[row]:
                u = x - q
                huber = 0.5 * u**2 if abs(u) <= 1 else abs(u) - 0.5
                total += abs(tau - (u < 0)) * huber / 3
        found = quantile_loss(jnp.asarray(quantiles[row]), jnp.asarray(target[row]))
        assert float(found) == pytest.approx(total, rel=1e-5)
    both = quantile_loss(jnp.asarray(quantiles), jnp.asarray(target))
    assert both.shape == (2,)
    assert float(both[1]) == pytest.approx(total, rel=1e-5)


def test_beliefs_tell_ignorance_from_chance():
    quantiles = jnp.asarray(RNG.normal(size=(4, 6, 3, 8)), jnp.float32)
    found = beliefs(quantiles)
    k = np.asarray(quantiles)
    np.testing.assert_allclose(found.mean, k.mean(axis=(0, 3)), atol=1e-6)
    np.testing.assert_allclose(found.epistemic**2, k.var(axis=0, ddof=1).mean(-1), rtol=1e-4)
    np.testing.assert_allclose(found.aleatoric**2, k.mean(axis=0).var(-1), rtol=1e-4)
    # Heads that agree about a lottery: all chance, no ignorance.
    agreed = jnp.broadcast_to(jnp.linspace(-1.0, 1.0, 8), (4, 6, 3, 8))
    np.testing.assert_allclose(beliefs(agreed).epistemic, 0.0, atol=1e-6)
    assert float(beliefs(agreed).aleatoric.min()) > 0.5
    action = jnp.asarray(RNG.integers(0, 3, (4, 6)))
    taken = take_quantiles(quantiles, action)
    np.testing.assert_array_equal(taken[2, 5], k[2, 5, int(action[2, 5])])


def test_envs_have_coefficients_of_their_own():
    spec = RunSpec(EnvSpec("vector", Box((3,)), Discrete(6), 9), 4, 8)
    agent = EDE(num_heads=3, num_quantiles=4, ucb_coefficient=20.0, ucb_base=0.5, ucb_power=3.0)
    state = jax.jit(lambda key: agent.init(key, spec))(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (4, 3))
    heads = jax.vmap(state.network.apply, in_axes=(0, None))(state.learned.params, obs)
    mean, epistemic, _ = (np.asarray(x) for x in beliefs(heads))
    phi = 20.0 * 0.5 ** (1 + 3.0 * np.arange(4) / 3)
    first = jnp.ones(4, bool)
    for key in (jax.random.key(2), jax.random.key(3)):
        action = agent.act(key, state, (), obs, first)[1]
        np.testing.assert_array_equal(action, (mean + phi[:, None] * epistemic).argmax(axis=1))
    best = agent.greedy().act(jax.random.key(2), state, (), obs, first)[1]
    np.testing.assert_array_equal(best, mean.argmax(axis=1))
    sampled = replace(agent, acting="thompson")
    drawn = [sampled.act(jax.random.key(i), state, (), obs, first)[1] for i in range(5)]
    assert len({tuple(np.asarray(x)) for x in drawn}) > 1


def test_heads_that_share_an_encoder():
    spec = RunSpec(EnvSpec("vector", Box((3,)), Discrete(6), 9), 4, 8)
    agent = EDE(num_heads=3, num_quantiles=4, share_encoder=True, hidden_sizes=(8,), batch_size=5)
    state = agent.init(jax.random.key(0), spec)
    obs = jax.random.normal(jax.random.key(1), (4, 3))
    outputs = np.asarray(state.network.apply(state.learned.params, obs)).reshape(4, 6, 3, 4)
    mean, epistemic, _ = (
        np.asarray(x) for x in beliefs(jnp.asarray(outputs.swapaxes(0, 2).swapaxes(1, 2)))
    )
    phi = 30.0 * 0.6 ** (1 + 7.0 * np.arange(4) / 3)
    action = agent.act(jax.random.key(2), state, (), obs, jnp.ones(4, bool))[1]
    np.testing.assert_array_equal(action, (mean + phi[:, None] * epistemic).argmax(axis=1))
    # One batch for all: a gradient step moves every head, each to what it says itself.
    assert agent._replay.batch_size == 5
    one = replace(agent, share_encoder=False)
    assert one._replay.batch_size == 15


def test_information_is_bought_where_it_is_cheap():
    mean = np.asarray([[1.0, 0.9, 0.0], [1.0, 0.9, 0.0]], np.float32)
    epistemic = np.asarray([[0.01, 2.0, 0.01], [0.01, 0.01, 0.01]], np.float32)
    aleatoric = np.asarray([[1.0, 1.0, 2.0], [1.0, 0.1, 1.0]], np.float32)
    width = 0.1 * epistemic
    found = np.asarray(directed(Beliefs(mean, epistemic, aleatoric), jnp.asarray(width)))
    for row in range(2):
        best = max(mean[row] + width[row])
        for a in range(3):
            regret = best - (mean[row, a] - width[row, a])
            rho = max(aleatoric[row, a] ** 2 / (1e-5 + np.mean(aleatoric[row] ** 2)), 0.25)
            information = np.log(1 + epistemic[row, a] ** 2 / rho) + 1e-5
            assert found[row, a] == pytest.approx(-(regret**2) / information, rel=1e-3)
    assert found.argmax(axis=1).tolist() == [1, 0]  # ignorance is worth a tenth, or else nothing


def test_without_a_replay_each_head_has_targets_of_its_own():
    spec = RunSpec(EnvSpec("vector", Box((3,)), Discrete(4), 9), 4, 2)
    agent = EDEPQN(num_heads=3, num_quantiles=5, num_minibatches=2, hidden_sizes=(8,))

    @jax.jit
    def act(key):
        state = agent.init(key, spec)
        obs = jax.random.normal(key, (4, 3))
        _, action, extras = agent.act(key, state, (), obs, jnp.ones(4, bool))
        heads = jax.vmap(state.network.apply, in_axes=(0, None))(state.params, obs)
        return heads, action, extras.value

    heads, action, value = map(np.asarray, act(jax.random.key(0)))
    best = heads.mean(axis=-1).argmax(axis=-1)
    assert (best != best[0]).any()
    for head in range(3):
        np.testing.assert_array_equal(value[:, head], heads[head, np.arange(4), best[head]])
    mean, epistemic, _ = (np.asarray(x) for x in beliefs(jnp.asarray(heads)))
    phi = 30.0 * 0.6 ** (1 + 7.0 * np.arange(4) / 3)
    np.testing.assert_array_equal(action, (mean + phi[:, None] * epistemic).argmax(axis=1))


def params_of(state):
    return state.params if hasattr(state, "params") else state.learned.params


def quantiles_of(agent, state, obs):
    args = (params_of(state), obs) if isinstance(agent, EDE) else (obs,)
    return agent._quantiles(state, *args)


def said_by_priors(agent, state, obs):
    """Numbers `[K, B, A]` of the random functions, from nothing but their parameters."""
    together = getattr(agent, "share_encoder", False)
    network = dataclasses.replace(state.network, num_numbers=3 if together else 1)
    if together:
        return np.moveaxis(np.asarray(network.apply(state.prior_params, obs)), -1, 0)
    return np.asarray(jax.vmap(network.apply, in_axes=(0, None))(state.prior_params, obs))


SMALL: dict[str, Any] = {
    "num_heads": 3, "num_quantiles": 4, "hidden_sizes": (8,), "discount": 0.9, "acting": "ucb",
    "prior_scale": 5.0,
}  # fmt: skip
ONE_STEP: dict[str, Any] = {
    "n_step": 1,
    "batch_size": 4,
    "warmup_steps": 1,
    "updates_per_rollout": 1,
}


@pytest.mark.parametrize(
    "agent",
    [
        EDE(**SMALL, **ONE_STEP),
        EDE(**SMALL, **ONE_STEP, share_encoder=True),
        EDEPQN(**SMALL, num_epochs=1, num_minibatches=1),
    ],
    ids=["ede", "ede that shares", "ede_pqn"],
)
def test_priors_are_inside_the_target_and_out_of_reach(agent):
    spec = RunSpec(EnvSpec("vector", Box((3,)), Discrete(4), 9), 4, 1)
    obs, next_obs = jnp.asarray(RNG.normal(size=(2, 1, 1, 3)), jnp.float32).repeat(4, axis=2)
    none, key = jnp.zeros(4, bool), jax.random.key(0)

    def zeroed(state):
        zero = lambda x: jax.tree.map(jnp.zeros_like, x)  # noqa: E731
        if isinstance(agent, EDEPQN):
            return dataclasses.replace(state, params=zero(state.params))
        learned = state.learned._replace(
            params=zero(state.learned.params), target_params=zero(state.learned.target_params)
        )
        return dataclasses.replace(state, learned=learned)

    @jax.jit
    def run(key):
        state = zeroed(agent.init(key, spec))
        _, action, extras = agent.act(key, state, (), obs[0], none)
        done, no = jnp.ones((1, 4), jnp.int32), none[None]
        traj = Trajectory(
            obs, done, jnp.full((1, 4), 0.5), next_obs, no, no, no, done.astype("uint32"), {}, {},
            {}, jax.tree.map(lambda x: x[None], extras), (),
        )  # fmt: skip
        after, metrics = agent.update(key, state, traj, jnp.zeros((1, 4)))
        twice = replace(agent, prior_scale=2 * agent.prior_scale)
        spread = [beliefs(quantiles_of(a, state, obs[0])).epistemic for a in (agent, twice)]
        return state, after, action, metrics, spread

    state, after, action, metrics, spread = run(key)
    # Nothing is learned yet: what heads say is their priors, and so is what they should say next.
    prior, ahead = (5.0 * said_by_priors(agent, state, x[0]) for x in (obs, next_obs))
    phi = 30.0 * 0.6 ** (1 + 7.0 * np.arange(4) / 3)[:, None]
    std = prior.std(axis=0, ddof=1)
    np.testing.assert_allclose(spread[0], std, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(spread[1], 2 * std, rtol=1e-4, atol=1e-5)
    assert std.min() > 0.1
    np.testing.assert_array_equal(action, (prior.mean(axis=0) + phi * std).argmax(axis=1))
    said = prior[:, 0, 1]
    error = np.abs(0.5 + 0.9 * ahead[:, 0].max(axis=-1) - said)
    huber = np.where(error <= 1, 0.5 * error**2, error - 0.5)
    # Of M quantiles that are one number, all targets on one side: sum |tau_i - 1{u < 0}| = M / 2.
    assert float(metrics["loss"]) == pytest.approx(float(np.mean(2.0 * huber)), rel=1e-4)
    assert float(metrics["value"]) == pytest.approx(float(said.mean()), rel=1e-4)
    jax.tree.map(np.testing.assert_array_equal, after.prior_params, state.prior_params)
    assert any(float(jnp.abs(x).max()) > 0 for x in jax.tree.leaves(params_of(after)))


@pytest.mark.parametrize("agent", [EDE(), EDEPQN(num_minibatches=2)], ids=["ede", "ede_pqn"])
def test_without_priors_it_is_the_method_as_published(agent):
    # Configs of runs from before there were priors, and so the fingerprints of their rows, stay.
    assert "prior_scale" not in to_json(agent)
    told = to_json(replace(agent, prior_scale=2.0))
    assert told["prior_scale"] == 2.0
    assert from_json(told).prior_scale == 2.0
    small = replace(agent, num_heads=2, num_quantiles=2, hidden_sizes=(4,))
    spec = RunSpec(EnvSpec("vector", Box((3,)), Discrete(2), 9), 4, 1)

    @jax.jit
    def init(key):
        with_priors = replace(small, prior_scale=2.0)
        return small.init(key, spec), with_priors.init(key, spec)

    none, some = init(jax.random.key(0))
    assert none.prior_params == ()
    assert jax.tree.leaves(some.prior_params)
    # Heads start as they did; and nothing is added to what they say.
    jax.tree.map(np.testing.assert_array_equal, params_of(none), params_of(some))
    heads = jax.vmap(none.network.apply, in_axes=(0, None))(params_of(none), jnp.ones((1, 3)))
    np.testing.assert_array_equal(quantiles_of(small, none, jnp.ones((1, 3))), heads)


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["ede_pqn", "pqn"])
def test_probe_without_a_replay(agent):
    env = xplore.make("Probe-ChoiceByObservation-v0")
    options = {"num_quantiles": 4, "learning_rate": 1e-2, "discount": 0.9}
    extra = {"epsilon_steps": 2_000} if agent == "pqn" else {"num_heads": 3, "ucb_coefficient": 3.0}
    config = Config(
        env, xplore.make_agent(agent, **options, **extra), xplore.make_bonus("none"),
        xplore.make_world_sampler("fresh"), budget_steps=7_680, num_envs=16, num_steps=16,
    )  # fmt: skip
    last = np.nanmean(train(config).metrics["episode/return"][0, -5:])
    assert last == pytest.approx(env.optimal_return, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("probe", "share_encoder"),
    [
        ("Probe-ChoiceByObservation-v0", False),
        ("Probe-Discount-v0", False),
        ("Probe-ChoiceByObservation-v0", True),
    ],
)
def test_probe(probe, share_encoder):
    env = xplore.make(probe)
    agent = EDE(
        learning_rate=3e-3, discount=0.9, n_step=1, num_heads=3, num_quantiles=4, batch_size=32,
        warmup_steps=64, replay_size=2_048, updates_per_rollout=8, target_period=8,
        ucb_coefficient=3.0, layer_norm=False, share_encoder=share_encoder,
    )  # fmt: skip
    config = Config(
        env, agent, xplore.make_bonus("none"), xplore.make_world_sampler("fresh"),
        budget_steps=64 * 120, num_envs=16, num_steps=4,
    )  # fmt: skip
    result = train(config)
    state = jax.tree.map(lambda x: x[0], result.state.agent)
    found = beliefs(agent._quantiles(state, state.learned.params, jnp.asarray(env.observations())))
    np.testing.assert_allclose(found.mean.max(axis=1), env.values(0.9), atol=0.1)
    last = np.nanmean(result.metrics["episode/return"][0, -10:])
    assert last == pytest.approx(env.optimal_return, abs=0.15)


def test_refusals():
    with pytest.raises(ConfigError, match=r"ede: acting is 'thomson'.*thompson.*ucb"):
        EDE(acting="thomson")
    with pytest.raises(ConfigError, match="ede_pqn: num_quantiles is 1: it must be at least 2"):
        EDEPQN(num_quantiles=1)
    with pytest.raises(ConfigError, match="num_heads is 1: it must be at least 2"):
        EDE(num_heads=1)
    with pytest.raises(ConfigError, match="n_step is 0: it must be at least 1"):
        EDE(n_step=0)
