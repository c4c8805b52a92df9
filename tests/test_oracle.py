"""The oracle against brute force, simulation, and what is known of each task."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xplore
from xplore.contracts import registry
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Dict, Discrete
from xplore.contracts.types import EnvSpec, FiniteEnvironment, Outcomes, Starts, TimeStep
from xplore.measure import oracle
from xplore.measure.oracle import Model

S, A, K, H = 3, 2, 2, 3


def random_model(seed: int) -> Model:
    draw = np.random.default_rng(seed)
    chances = draw.dirichlet(np.ones(K + 1), (S, A))[..., :K]  # what is left over terminates
    return Model(
        successor=jnp.asarray(draw.integers(S, size=(S, A, K)), jnp.int32),
        probability=jnp.asarray(chances, jnp.float32),
        reward=jnp.asarray(draw.normal(size=(S, A)), jnp.float32),
        initial=jnp.asarray(draw.dirichlet(np.ones(S)), jnp.float32),
        reachable=jnp.ones(S, bool),
        horizon_steps=H,
    )


def expected_return(model: Model, policy: Any, state: int, step: int) -> float:
    """By following every path, one at a time."""
    if step == model.horizon_steps:
        return 0.0
    total = 0.0
    for a in range(A):
        if not policy[step][state][a]:
            continue
        value = float(model.reward[state, a])
        for k in range(K):
            chance = float(model.probability[state, a, k])
            after = int(model.successor[state, a, k])
            value += chance * expected_return(model, policy, after, step + 1)
        total += policy[step][state][a] * value
    return total


def of_start(model: Model, policy: Any) -> float:
    chances = enumerate(np.asarray(model.initial))
    return sum(float(p) * expected_return(model, policy, s, 0) for s, p in chances)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_the_optimum_is_the_best_of_all_deterministic_policies(seed):
    model = jax.tree.map(np.asarray, random_model(seed))
    # Backward induction, by trying each action in each state: no policy is better (Bellman); that
    # every policy is covered is what the test below adds.
    best = np.zeros(S)
    for _ in range(H):
        best = np.max(model.reward + np.sum(model.probability * best[model.successor], -1), -1)
    found = oracle.solve(random_model(seed))
    np.testing.assert_allclose(found.value[0], best, atol=1e-5)
    uniform = np.full((H, S, A), 1 / A)
    np.testing.assert_allclose(oracle.random_return(model), of_start(model, uniform), atol=1e-5)


def test_no_policy_of_all_there_are_beats_the_optimum():
    model = jax.tree.map(np.asarray, random_model(7))
    eye = np.eye(A)
    returns = [
        of_start(model, eye[np.reshape(choice, (H, S))])
        for choice in itertools.product(range(A), repeat=H * S)
    ]
    assert len(returns) == 2 ** (H * S)
    assert max(returns) == pytest.approx(oracle.optimal_return(model), abs=1e-5)
    policy = np.asarray(oracle.optimal_policy(model))
    assert of_start(model, policy) == pytest.approx(max(returns), abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_occupancy_times_reward_is_the_return(seed):
    model = random_model(seed)
    policy = jax.nn.softmax(jax.random.normal(jax.random.key(seed), (H, S, A)))
    here = oracle.occupancy(model, policy)
    total = float(jnp.sum(here[..., None] * policy * model.reward[None]))
    values = oracle.policy_values(model, policy)
    assert values.shape == (H + 1, S)
    assert total == pytest.approx(float(jnp.sum(model.initial * values[0])), abs=1e-5)


def test_gain_of_a_cycle():
    # Two states in turn, rewards 1 and 3; an action to stay in the first pays 1.5.
    model = Model(
        successor=jnp.array([[[1], [0]], [[0], [0]]], jnp.int32),
        probability=jnp.ones((2, 2, 1)),
        reward=jnp.array([[1.0, 1.5], [3.0, 3.0]]),
        initial=jnp.array([1.0, 0.0]),
        reachable=jnp.ones(2, bool),
        horizon_steps=0,
    )
    assert oracle.gain(model, jnp.array([[1.0, 0.0], [1.0, 0.0]])) == pytest.approx(2.0)
    assert oracle.gain(model, jnp.array([[0.0, 1.0], [1.0, 0.0]])) == pytest.approx(1.5)
    assert oracle.optimal_gain(model) == pytest.approx(2.0, abs=1e-5)
    with pytest.raises(ConfigError, match="no time limit"):
        oracle.solve(model)
    with pytest.raises(ConfigError, match="give a larger tolerance"):
        oracle.optimal_gain(model, max_sweeps=2)


class Place(NamedTuple):
    number: jax.Array
    time: jax.Array


@component
class Listed:
    """The task that a `Model` describes, as an environment."""

    model: Model

    def spec(self):
        space = Dict({"index": Discrete(S)})
        limit = self.model.horizon_steps
        return EnvSpec("Listed", Discrete(S), Discrete(A), limit, True, space)

    def sample_level(self, key):
        return jax.random.choice(key, S, p=self.model.initial)

    def reset_to_level(self, key, level):
        return Place(level, jnp.int32(0)), level

    def step(self, key, state, action):
        found = self.outcomes(state, action)
        k = jax.random.choice(key, K + 1, p=found.probability)
        after = jax.tree.map(lambda x: x[k], found.state)
        late = after.time >= H
        return after, TimeStep(
            after.number, found.reward[k], found.terminated[k], late, {"success": late}
        )

    def privileged(self, state):
        return {"index": state.number}

    def starts(self):
        return Starts(self.model.initial, jnp.arange(S, dtype=jnp.int32))

    def outcomes(self, state, action):
        chances = self.model.probability[state.number, action]
        places = self.model.successor[state.number, action]
        return Outcomes(
            probability=jnp.append(chances, 1 - jnp.sum(chances)),
            state=Place(jnp.append(places, 0), jnp.full(K + 1, state.time + 1)),
            reward=jnp.full(K + 1, self.model.reward[state.number, action]),
            terminated=jnp.array([False] * K + [True]),
        )


@pytest.mark.parametrize("seed", [0, 1])
def test_enumeration_gives_back_the_model(seed):
    model = random_model(seed)
    listed: Any = Listed(model)
    found = oracle.enumerate_task(listed)
    dense, again = model.dense(), found.dense()
    for a, b in zip(dense, again, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_only_what_the_horizon_allows_is_reachable():
    # Every step leads from 0 to 1 to 2: one step is not enough for the last.
    onward = jnp.array([[[1] * K] * A, [[2] * K] * A, [[2] * K] * A], jnp.int32)
    model = dataclasses.replace(
        random_model(0), successor=onward, initial=jnp.array([1.0, 0.0, 0.0]), horizon_steps=1
    )
    brief: Any = Listed(model)
    np.testing.assert_array_equal(oracle.enumerate_task(brief).reachable, [True, True, False])


def test_what_cannot_be_enumerated_is_refused():
    with pytest.raises(ConfigError, match="does not list its starts and outcomes"):
        oracle.enumerate_task(xplore.make("MiniGrid-Empty-5x5-v0"))
    with pytest.raises(ConfigError, match="100,000,000 states: enumeration stops"):
        oracle.enumerate_task(xplore.make("DeepSea-5-v0", size=10_000))


def finite_ids() -> list[str]:
    """The first id of each finite environment, and every stochastic variant's."""
    found: dict[Any, str] = {}
    for id, entry in registry.entries("env").items():
        if id.startswith(("MiniGrid", "gymnax", "Probe")):
            continue
        env = xplore.make(id)
        if isinstance(env, FiniteEnvironment) and 0 < env.spec().max_steps <= 1000:
            variant = tuple(sorted((k, v) for k, v in entry.kwargs.items() if v is False))
            found.setdefault((entry.factory, variant), id)
    return sorted(found.values())


@functools.partial(jax.jit, static_argnums=(0, 3))
def simulate(env: Any, policy: jax.Array, key: jax.Array, num: int) -> jax.Array:
    """Returns `[num]` of episodes under a policy `[H, S, A]` that sees the state's index."""
    spec = env.spec()
    key_level, key = jax.random.split(key)
    starts = env.starts()
    which = jax.random.choice(key_level, starts.probability.shape[0], (num,), p=starts.probability)
    levels = jax.tree.map(lambda x: x[which], starts.levels)
    state, _ = jax.vmap(env.reset_to_level, (None, 0))(key, levels)

    def one_step(loop: Any, step: jax.Array) -> Any:
        state, alive, total, key = loop
        key, key_act, key_env = jax.random.split(key, 3)
        index = jax.vmap(lambda s: env.privileged(s)["index"])(state)
        action = jax.random.categorical(key_act, jnp.log(policy[step, index]))
        keys = jax.random.split(key_env, num)
        state, ts = jax.vmap(env.step)(keys, state, action.astype(jnp.int32))
        total = total + jnp.where(alive, ts.reward, 0.0)
        return (state, alive & ~ts.terminated & ~ts.truncated, total, key), None

    loop = (state, jnp.ones(num, bool), jnp.zeros(num), key)
    return jax.lax.scan(one_step, loop, jnp.arange(spec.max_steps))[0][2]


def hold_against_simulation(id: str, num: int) -> None:
    env: Any = xplore.make(id)
    model = oracle.enumerate_task(env)
    policies = {
        oracle.random_return: oracle.over_time(model, oracle.uniform_policy(model)),
        oracle.optimal_return: oracle.optimal_policy(model),
    }
    for exact, policy in policies.items():
        returns = np.asarray(simulate(env, policy, jax.random.key(1), num), np.float64)
        variance = returns.var()
        if np.count_nonzero(returns) < 10:
            # Too rare to tell how it varies: the number of treasures, 1 each, is Poisson's.
            variance = max(variance, abs(exact(model)))
        error = max((variance / num) ** 0.5, 1e-6 * max(1.0, abs(returns.mean())))
        assert abs(returns.mean() - exact(model)) <= 4 * error, (id, exact.__name__, error)


def test_values_are_those_of_simulated_episodes():
    hold_against_simulation("DeepSea-5-v0", 1000)


@pytest.mark.slow
@pytest.mark.parametrize("id", finite_ids())
def test_values_are_those_of_many_simulated_episodes(id):
    hold_against_simulation(id, 100_000)


@pytest.mark.parametrize("id", finite_ids())
def test_stated_returns_are_the_exact_ones(id):
    env: Any = xplore.make(id)
    model = oracle.enumerate_task(env)
    scale = max(1.0, abs(env.optimal_return))
    assert oracle.optimal_return(model) == pytest.approx(env.optimal_return, abs=1e-4 * scale)
    assert oracle.random_return(model) == pytest.approx(env.random_return, abs=1e-4 * scale)
