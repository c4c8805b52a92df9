"""Tree searches: what they see, what is learned from them, and what they refuse."""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.agents.search.alphazero import AlphaZero
from xplore.agents.search.learning import _windows, first_state
from xplore.agents.search.muzero import MuZero
from xplore.agents.search.plan import novelty, rows_of
from xplore.agents.search.targets import Segment, _best, foresee_obs, targets
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Discrete
from xplore.contracts.types import EnvSpec, RunSpec
from xplore.loop import rollout as ro
from xplore.loop.evaluate import evaluate
from xplore.parts.levels import levels_from_ids
from xplore.testing import check_agent
from xplore.testing._programs import compiled

KEY = jax.random.key(0)
B, T, A, K = 3, 6, 2, 3
SPEC = RunSpec(EnvSpec("vector", Box((3,)), Discrete(A), 9), B, T)


def test_a_search_that_sees_to_the_end_needs_no_training():
    env = xplore.make("DeepSea-v0", size=3)
    agent = AlphaZero(policy="puct", num_simulations=400, hidden_sizes=(8,)).greedy()

    def play(key):
        state = agent.init(key, RunSpec(env.spec(), 1, 3))
        return evaluate(env, agent, state, jnp.arange(1, dtype=jnp.uint32), key=key)

    found = compiled(play)(KEY)
    assert bool(found.success.all())
    assert float(found.returns[0, 0]) == pytest.approx(0.99)


@component
class Sighted:
    """Acts by the number of the env state, which no observation tells it."""

    fault: bool = False

    def init(self, key, spec):
        return ()

    def initial_carry(self, num_envs):
        return ()

    def act(self, key, state, carry, obs, first):
        extras = {"less": first} if self.fault else ()
        return (), jnp.zeros(first.shape, jnp.int32), extras

    def act_in(self, key, state, carry, obs, first, env, env_state):
        return (), env_state.row % 2, ()

    def update(self, key, state, traj, r_int):
        return state, {}

    def greedy(self):
        return self


def test_an_agent_that_simulates_is_shown_the_states_it_acts_in():
    env: Any = xplore.make("DeepSea-5-v0")

    def roll(key):
        batch = levels_from_ids(env, jnp.arange(4, dtype=jnp.uint32))
        lanes = ro.start(env, ("position",), key, batch)
        return ro.rollout(key, env, Sighted(), ("position",), (), (), lanes, lanes, 7)[2]

    traj = compiled(roll)(KEY)
    row = np.asarray(traj.privileged["position"]) // 5
    np.testing.assert_array_equal(traj.action, row % 2)
    assert np.asarray(traj.action).any()
    check_agent(Sighted(), env)
    with pytest.raises(AssertionError, match="act and act_in return different things"):
        check_agent(Sighted(fault=True), env)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, B, T, 3))
    ends = rng.random((B, T))
    return jax.tree.map(
        jnp.asarray,
        Segment(
            obs=obs.astype(np.float32),
            action=rng.integers(0, A, (B, T)).astype(np.int32),
            reward=rng.normal(size=(B, T, 2)).astype(np.float32),
            next_obs=next_obs.astype(np.float32),
            terminated=ends < 0.25,
            truncated=ends > 0.8,
            valid=np.array([[True] * T, [True] * T, [True] * 4 + [False] * 2]),
            policy=np.full((B, T, A), 0.5, np.float32),
        ),
    )


def test_lambda_returns_of_both_rewards_against_a_loop(batch):
    agent = AlphaZero(novelty_bonus=0.3, discount=0.9, trace=0.7, table_size=64)

    @compiled
    def both(key):
        state = first_state("x", agent, key, SPEC, model=False)
        visits = jax.random.randint(key, (64, A), 0, 5).astype(jnp.float32)
        params, flat = state.learned.params, batch.next_obs.reshape(-1, 3)
        after = foresee_obs(state.network, params, flat).value.reshape(B, T, 2)
        new = novelty(visits, rows_of(batch.obs, 2, 64))
        start = jnp.float32(2.5)
        return after, new, visits, targets(agent, state.network, params, visits, batch, start)

    after, new, visits, found = map(np.asarray, both(KEY))
    rows = np.asarray(rows_of(batch.obs, 2, 64))
    np.testing.assert_allclose(new[..., 0], 1 / np.sqrt(1 + visits[rows]), rtol=1e-5)
    np.testing.assert_array_equal(new[..., 1], visits[rows] == 0)
    for b in range(B):
        total = np.zeros(2)
        for t in reversed(range(T if b < 2 else 4)):
            ended = bool(batch.truncated[b, t] | batch.terminated[b, t])
            last = t == (T if b < 2 else 4) - 1 or ended
            mixed = after[b, t].copy() if last else 0.7 * total + 0.3 * after[b, t]
            if ended:  # exploring goes on in the next episode, whatever ended this one
                mixed[1] = 2.5
            paid = [0.0, 0.3 * new[b, t, batch.action[b, t], 0]]
            total = np.asarray(batch.reward[b, t]) + paid
            total = total + 0.9 * np.array([not batch.terminated[b, t], 1]) * mixed
            np.testing.assert_allclose(found[b, t], total, rtol=1e-4, atol=1e-5)


def test_a_model_says_what_the_best_action_is_worth(batch):
    agent = MuZero(
        novelty_bonus=0.3, untried_value=0.5, discount=0.9, table_size=64, hidden_sizes=(8,),
        latent_size=4,
    )  # fmt: skip
    obs = batch.obs.reshape(-1, 3)

    @compiled
    def both(key):
        state = first_state("x", agent, key, SPEC, model=True)
        visits = jax.random.randint(key, (64, A), 0, 3).astype(jnp.float32)
        params, apply = state.learned.params, state.network.apply
        q = []
        for a in range(A):
            latent = apply(params, obs, method="represent")
            led, reward = apply(params, latent, jnp.full(len(obs), a), method="imagine")
            found: Any = apply(params, led, method="foresee")
            q.append(reward + 0.9 * found[1])
        return visits, q, _best(agent, state.network, params, visits, obs, jnp.float32(0.5))

    visits, q, (worth, best) = jax.tree.map(np.asarray, both(KEY))
    visits = visits[np.asarray(rows_of(obs, 1, 64))]
    q = np.stack(q, axis=1)
    q[..., 1] += 0.3 / np.sqrt(1 + visits)
    q[visits == 0] = [0.0, 0.5]
    assert 5 < (visits == 0).sum() < visits.size
    np.testing.assert_array_equal(best, q.sum(axis=-1).argmax(axis=-1))
    np.testing.assert_allclose(worth, q[np.arange(len(q)), best], rtol=1e-4, atol=1e-5)


def test_windows_end_with_the_episode(batch):
    value = jnp.ones((B, T, 2))
    new = jnp.ones((B, T, A, 2))
    window = jax.jit(_windows, static_argnums=4)(batch, value, new, jnp.float32(2.5), K)
    alive, known, targets = (
        np.asarray(x).reshape(K + 1, B, T, -1) for x in (window.alive, window.known, window.value)
    )
    for b, t in np.ndindex(B, T):
        is_alive, over = True, False
        for k in range(K + 1):
            is_alive = is_alive and t + k < T and bool(batch.valid[b, t + k])
            assert alive[k, b, t] == is_alive
            assert known[k, b, t] == (is_alive or over)
            if is_alive:
                assert (targets[k, b, t] == 1).all()
            elif over:
                np.testing.assert_array_equal(targets[k, b, t], [0, 2.5])
            over |= is_alive and bool(batch.terminated[b, t + k])
            is_alive = is_alive and not batch.terminated[b, t + k] | batch.truncated[b, t + k]


def test_refusals():
    stochastic = xplore.make("DeepSeaStochastic-5-v0").spec()
    with pytest.raises(ConfigError, match="is stochastic: use muzero"):
        AlphaZero().init(KEY, RunSpec(stochastic, 2, 5))
    for agent in (AlphaZero(), MuZero()):
        with pytest.raises(ConfigError, match="searches a tree of Discrete actions"):
            agent.init(KEY, RunSpec(EnvSpec("p", Box((3,)), Box((1,)), 9), 2, 4))
        with pytest.raises(ConfigError, match="does not fit a replay of 16,384"):
            agent.init(KEY, SPEC._replace(num_envs=1 << 14))
    with pytest.raises(ConfigError, match="policy is 'uct': use 'gumbel' or 'puct'"):
        MuZero(policy="uct")
    with pytest.raises(ConfigError, match="unroll_steps is 0"):
        MuZero(unroll_steps=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "probe"),
    [
        (AlphaZero(learning_rate=3e-3, discount=0.9), "Probe-Discount-v0"),
        # A small replay: older ways of acting weigh on the mean of what is earned.
        (
            MuZero(learning_rate=3e-3, discount=0.9, replay_size=512, unroll_steps=2),
            "Probe-ChoiceByObservation-v0",
        ),
    ],
)
def test_probe(agent, probe):
    env: Any = xplore.make(probe)
    config = xplore.Config(
        env, agent, xplore.make_bonus("none"), xplore.make_world_sampler("fresh"),
        budget_steps=16 * 4 * 40, num_envs=16, num_steps=4,
    )  # fmt: skip
    result = xplore.train(config, seeds=1)
    state = jax.tree.map(lambda x: x[0], result.state.agent)
    said = foresee_obs(state.network, state.learned.params, jnp.asarray(env.observations()))
    np.testing.assert_allclose(said.value[:, 0], env.values(0.9), atol=0.1)
    last = np.nanmean(result.metrics["episode/return"][0, -10:])
    assert last == pytest.approx(env.optimal_return, abs=0.15)
    assert float(result.metrics["agent/model_steps"][0, -1]) == 16 * config.budget_steps


@pytest.mark.slow
def test_an_end_is_no_reason_to_keep_away_from_success():
    config = xplore.Config(
        xplore.make("Probe-Exploration-v0"), AlphaZero(novelty_bonus=1.0),
        xplore.make_bonus("none"), xplore.make_world_sampler("fresh"),
        budget_steps=16 * 16 * 96, num_envs=16, num_steps=16,
    )  # fmt: skip
    result = xplore.train(config, seeds=1)
    assert np.nanmean(result.metrics["episode/success"][0, -16:]) > 0.3
    assert float(result.state.agent.start_value[0]) > 1.0
