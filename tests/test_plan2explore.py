"""Plan2Explore: what is imagined, what is learned from it, and what is refused."""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.agents.plan2explore import Plan2Explore, _Imagined
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Discrete
from xplore.contracts.types import EnvSpec, RunSpec
from xplore.testing._programs import compiled

H, B, D, A = 4, 5, 3, 2
SPEC = RunSpec(EnvSpec("vector", Box((D,)), Discrete(A), 9), 2, 4)


def test_imagined_steps_are_paid_for_disagreement_and_returns_stop_at_worse_actions():
    agent = Plan2Explore(
        discount=0.9, trace=0.7, disagreement_weight=0.5, horizon_steps=H, batch_size=B,
        imagined_epsilon=0.5, hidden_sizes=(8,), num_models=3,
    )  # fmt: skip

    @compiled
    def imagine(key):
        state = agent.init(key, SPEC)
        models, values = state.minds.models.params, state.minds.values
        start = jax.random.normal(key, (B, D))
        steps, last = agent._imagine(key, A, models, values, start)
        said = agent._said(A, models, steps.x, steps.action, own=False)
        reached = jnp.concatenate([steps.x, last[None]])
        q = agent._values(A, values.target_params, reached)
        start_value = jnp.float32(2.5)
        target = agent._targets(A, values.target_params, steps, last, start_value)
        return steps, last, said, q, target

    steps, last, said, q, target = jax.tree.map(np.asarray, imagine(jax.random.key(0)))
    steps = _Imagined(*steps)
    seen, earned, end = said
    apart = 0.5 * seen.var(axis=0).sum(axis=-1)
    np.testing.assert_allclose(steps.reward[..., 0], apart, rtol=1e-4)
    np.testing.assert_allclose(steps.reward[..., 1], earned.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(steps.alive, 1 - 1 / (1 + np.exp(-end.mean(axis=0))), rtol=1e-4)
    # Each start is stepped by one of the models all the way.
    led = np.concatenate([steps.x[1:], last[None]])
    by_model = np.abs(seen - led).max(axis=-1)  # [K, H, B]
    assert (by_model.max(axis=1).min(axis=0) < 1e-5).all()
    stopped = 0
    for b, i in np.ndindex(B, 2):
        total = 0.0
        for h in reversed(range(H)):
            after = q[h + 1, b, :, i].max()
            is_last = h == H - 1 or q[h + 1, b, steps.action[h + 1, b], i] < after
            stopped += is_last
            mixed = after if is_last else 0.7 * total + 0.3 * after
            alive = steps.alive[h, b]
            ended = 2.5 if i == 0 else 0.0  # exploring goes on with another episode
            total = steps.reward[h, b, i] + 0.9 * (alive * mixed + (1 - alive) * ended)
            assert target[h, b, i] == pytest.approx(total, rel=1e-3, abs=1e-5)
    assert 2 * B < stopped < 2 * B * H


def test_refusals():
    with pytest.raises(ConfigError, match="num_models is 1: two can disagree"):
        Plan2Explore(num_models=1)
    with pytest.raises(ConfigError, match="horizon_steps is 0"):
        Plan2Explore(horizon_steps=0)
    boxed = EnvSpec("p", Box((D,)), Box((1,)), 9)
    with pytest.raises(ConfigError, match="plan2explore has a value for each action"):
        Plan2Explore().init(jax.random.key(0), RunSpec(boxed, 2, 4))


@pytest.mark.slow
def test_probe():
    env: Any = xplore.make("Probe-ChoiceByObservation-v0")
    agent = Plan2Explore(learning_rate=3e-3, discount=0.9, updates_per_rollout=16)
    config = xplore.Config(
        env, agent, xplore.make_bonus("none"), xplore.make_world_sampler("fresh"),
        budget_steps=16 * 4 * 40, num_envs=16, num_steps=4,
    )  # fmt: skip
    result = xplore.train(config, seeds=1)
    state = jax.tree.map(lambda x: x[0], result.state.agent)
    q = agent._values(2, state.minds.values.params, jnp.asarray(env.observations()))
    np.testing.assert_allclose(q[..., 1].max(axis=1), env.values(0.9), atol=0.1)
    last = np.nanmean(result.metrics["episode/return"][0, -10:])
    assert last == pytest.approx(env.optimal_return, abs=0.15)
