"""Dyna: what it plans solves the model it learned, and an agent with a bonus of time explores."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.agents.tabular.dyna_q import DynaQ
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Discrete
from xplore.contracts.types import EnvSpec, RunSpec, Trajectory
from xplore.parts.tabular import Extras

H, L, A, T, N = 3, 4, 2, 10, 2
LAYERED = EnvSpec("Layers-v0", Discrete(H * L), Discrete(A), H, stochastic=True, num_layers=H)
FLAT = EnvSpec("Flat-v0", Discrete(L), Discrete(A), 0, stochastic=True)
DISCOUNT, BONUS = 0.7, 0.1


def random_steps(layered: bool) -> Trajectory:
    """Steps from random states to random ones, some to the end."""
    rng = np.random.default_rng(0)
    time = np.arange(T)[:, None] % H * np.ones((1, N), int)
    obs, after = rng.integers(0, L, (2, T, N))
    terminated = rng.random((T, N)) < 0.2
    if layered:
        terminated |= time == H - 1
        obs, after = obs + time * L, after + np.minimum(time + 1, H - 1) * L
    fields: dict[str, Any] = dict.fromkeys(Trajectory._fields)
    fields |= {
        "obs": obs.astype(np.int32),
        "action": rng.integers(0, A, (T, N)).astype(np.int32),
        "reward": rng.normal(size=(T, N)).astype(np.float32),
        "next_obs": after.astype(np.int32),
        "terminated": terminated,
        "extras": Extras(jnp.zeros((T, N), jnp.int32)),
    }
    return jax.tree.map(jnp.asarray, Trajectory(**fields))


def learned(agent: DynaQ, spec: EnvSpec):
    traj, r_int = random_steps(bool(spec.num_layers)), jnp.ones((T, N))
    state = agent.init(jax.random.key(0), RunSpec(spec, N, T))
    state, metrics = jax.jit(agent.update)(jax.random.key(1), state, traj, r_int)
    rows = [
        tuple(np.asarray(x).reshape(-1))
        for x in (traj.obs, traj.action, traj.reward + 0.5, traj.next_obs, traj.terminated)
    ]
    return state, metrics, list(zip(*rows, strict=True))


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (LAYERED, {"prioritized": True, "least_priority": 1e-6, "learning_rate": 0.5}),
        (FLAT, {"time_bonus": BONUS}),
    ],
)
def test_plans_solve_the_model(spec, options):
    agent = DynaQ(discount=DISCOUNT, planning_steps=600, intrinsic_weight=0.5, **options)
    state, metrics, seen = learned(agent, spec)
    assert int(metrics["model_steps"]) == 600 * T * N
    for i, bonus in enumerate([options.get("time_bonus", 0.0), 0.0]):
        q = np.asarray(state.known.values[i])
        for s, a in np.ndindex(q.shape):
            mine = [k for k, step in enumerate(seen) if step[:2] == (s, a)]
            met = any(step[0] == s for step in seen)
            if not met or (not mine and "time_bonus" not in options):
                assert q[s, a] == 0.0
                continue
            waited = len(seen) - (mine[-1] + 1 if mine else 0)
            worth = [seen[k][2] + DISCOUNT * (not seen[k][4]) * q[seen[k][3]].max() for k in mine]
            expected = np.mean(worth) if mine else DISCOUNT * q[s].max()
            assert q[s, a] == pytest.approx(expected + bonus * np.sqrt(waited), abs=2e-3)


def test_without_planning_it_is_q_learning():
    state, metrics, seen = learned(
        DynaQ(0.3, discount=DISCOUNT, planning_steps=0, intrinsic_weight=0.5), FLAT
    )
    q = np.zeros((L, A))
    for s, a, reward, after, terminated in seen:
        following = 0.0 if terminated else q[after].max()
        q[s, a] += 0.3 * (reward + DISCOUNT * following - q[s, a])
    np.testing.assert_allclose(state.known.values, np.stack([q, q]), atol=1e-5)
    assert float(metrics["model_steps"]) == 0.0


def test_refusals():
    with pytest.raises(ConfigError, match="give prioritized or time_bonus, not both"):
        DynaQ(prioritized=True, time_bonus=0.1)
    with pytest.raises(ConfigError, match="planning_steps is -1"):
        DynaQ(planning_steps=-1)
    env = EnvSpec("Box-v0", Box((3,)), Discrete(A), H)
    with pytest.raises(ConfigError, match=r"dyna_q learns tables.*make it as tabular/ID"):
        DynaQ().init(jax.random.key(0), RunSpec(env, N, T))
