"""Bandit agents: posteriors, regret and information against draws, the mix of two arms, regret."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.agents.tabular.ids import IDS, minimiser
from xplore.agents.tabular.ucb1 import UCB1
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import EnvSpec, RunSpec, Trajectory
from xplore.parts.bandit import Arms

KEY = jax.random.key(0)
SPEC = RunSpec(EnvSpec("Arms-v0", Discrete(1), Discrete(3), 1), 1, 1)
BANDITS = ("ids", "thompson", "ucb1")
ARMS = Arms(jnp.array([3.0, 5.0, 0.0]), jnp.array([2.0, 2.5, 0.0]))


@pytest.mark.parametrize("family", ["bernoulli", "gaussian"])
def test_regret_and_information_are_those_of_draws(family):
    agent = IDS(family=family, prior_std=0.7, noise_std=0.8)
    ratio = agent.ratio(ARMS)
    rng = np.random.default_rng(0)
    n, r = np.asarray(ARMS.pulls), np.asarray(ARMS.rewards)
    if family == "bernoulli":
        theta = rng.beta(1 + r, 1 + n - r, (400_000, 3))
    else:
        precision = 1 / 0.7**2 + n / 0.8**2
        theta = rng.normal(r / 0.8**2 / precision, 1 / np.sqrt(precision), (400_000, 3))
    best = theta.argmax(1)
    p = np.bincount(best, minlength=3) / best.size
    given = np.stack([theta[best == a].mean(0) for a in range(3)])
    np.testing.assert_allclose(ratio.best, p, atol=0.005)
    np.testing.assert_allclose(ratio.regret, theta.max(1).mean() - theta.mean(0), atol=0.005)
    np.testing.assert_allclose(ratio.information, p @ (given - theta.mean(0)) ** 2, rtol=0.03)


def test_the_best_mix_of_arms():
    rng = np.random.default_rng(1)
    shares = np.array([x for x in itertools.product(range(41), repeat=3) if sum(x) == 40]) / 40
    for _ in range(20):
        regret, information = rng.random(3), rng.random(3)
        pi = np.asarray(minimiser(jnp.asarray(regret), jnp.asarray(information)))
        least = ((shares @ regret) ** 2 / (shares @ information)).min()
        assert pi.sum() == pytest.approx(1.0)
        assert (pi @ regret) ** 2 / (pi @ information) <= least * (1 + 1e-5)


def play(agent: Any, means: list[float], pulls: int) -> np.ndarray:
    """How often each arm was pulled, by 32 agents."""

    def one(key: Any) -> jax.Array:
        k_init, k_play = jax.random.split(key)
        obs, first = jnp.zeros(1, jnp.int32), jnp.ones(1, bool)

        def step(state: Any, key: Any) -> Any:
            k_act, k_reward, k_learn = jax.random.split(key, 3)
            _, action, extras = agent.act(k_act, state, (), obs, first)
            won = jax.random.uniform(k_reward, (1,)) < jnp.asarray(means)[action]
            values: dict[str, Any] = dict.fromkeys(Trajectory._fields)
            values |= {"obs": obs[None], "action": action[None], "extras": extras}
            values["reward"] = won[None].astype(jnp.float32)
            return agent.update(k_learn, state, Trajectory(**values), jnp.zeros((1, 1)))[0], action

        _, actions = jax.lax.scan(step, agent.init(k_init, SPEC), jax.random.split(k_play, pulls))
        return jnp.bincount(actions[:, 0], length=3)

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(KEY, 32))).mean(0)


@pytest.mark.parametrize("id", BANDITS)
def test_most_pulls_go_to_the_best_arm(id):
    options = {"grid_size": 64} if id == "ids" else {}
    pulls = play(xplore.make_agent(id, **options), [0.2, 0.8, 0.4], 150)
    assert pulls[1] > 2 * pulls[[0, 2]].sum() * (0.4 if id == "ucb1" else 1.0)
    assert pulls.min() > 0.5  # and yet every arm was tried


def test_ucb1_is_its_formula():
    agent = UCB1(bonus=0.5)
    pulls, rewards = np.array([3.0, 8.0, 4.0]), np.array([1.0, 4.5, 1.9])
    bound = rewards / pulls + 0.5 * np.sqrt(2 * np.log(15.0) / pulls)
    state = Arms(jnp.asarray(pulls)[None], jnp.asarray(rewards)[None])
    zeros = jnp.zeros(1, jnp.int32)
    assert agent.act(KEY, state, (), zeros, zeros == 0)[1][0] == bound.argmax()
    assert agent.greedy().act(KEY, state, (), zeros, zeros == 0)[1][0] == (rewards / pulls).argmax()


@pytest.mark.parametrize("id", BANDITS)
def test_needs_numbered_contexts(id):
    with pytest.raises(ConfigError, match=f"{id} pulls Discrete arms.*tabular/ID"):
        xplore.make_agent(id).init(KEY, RunSpec(xplore.make("DeepSea-5-v0").spec(), 1, 1))


def test_the_family_is_one_of_two():
    for id in ("ids", "thompson"):
        with pytest.raises(ConfigError, match="'bernoulli' or 'gaussian'"):
            xplore.make_agent(id, family="poisson")
