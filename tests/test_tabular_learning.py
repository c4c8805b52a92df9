"""What tabular agents learn from a rollout, against NumPy; how they lay out tables; refusals."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.agents.tabular.q_learning import Carry, QLearning
from xplore.agents.tabular.ucb_q import UCBQ
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Discrete
from xplore.contracts.types import EnvSpec, RunSpec, Trajectory
from xplore.parts.exploration import zeta_durations
from xplore.parts.tabular import Extras, Layout, empty_model, layout, observe, pick, steps

KEY = jax.random.key(0)
H, L, A, T, N = 3, 4, 2, 12, 2
LAYERED = EnvSpec("Layers-v0", Discrete(H * L), Discrete(A), H, num_layers=H)
FLAT = EnvSpec("Flat-v0", Discrete(L), Discrete(A), H)
TABULAR = ("q_learning", "ucb_q", "ucbvi", "mbie_eb", "beb", "rmax", "psrl", "rlsvi")


def random_traj(spec: EnvSpec, seed: int = 0) -> Trajectory:
    """Episodes of H steps through random local states, some ended early."""
    rng = np.random.default_rng(seed)
    time = np.zeros((T, N), np.int32)
    terminated = rng.random((T, N)) < 0.2
    local = rng.integers(0, L, (T + 1, N))
    first = np.ones((T, N), bool)
    for t in range(1, T):
        ended = terminated[t - 1] | (time[t - 1] == H - 1)
        first[t], time[t] = ended, np.where(ended, 0, time[t - 1] + 1)
    last = time == H - 1
    layer = 1 if spec.num_layers else 0
    after = np.minimum(time + 1, H - 1)
    reward = rng.normal(size=(T, N)).astype(np.float32)
    values: dict[str, Any] = dict.fromkeys(Trajectory._fields)
    values |= {
        "obs": (local[:-1] + layer * time * L).astype(np.int32),
        "next_obs": (local[1:] + layer * after * L).astype(np.int32),
        "action": rng.integers(0, A, (T, N)).astype(np.int32),
        "reward": reward,
        "terminated": terminated | (last & bool(layer)),
        "truncated": last & ~terminated & ~bool(layer),
        "first": first,
        "extras": Extras(jnp.asarray(time)),
    }
    return jax.tree.map(jnp.asarray, Trajectory(**values))


def in_order(traj: Trajectory):
    """`(h, s, a, r, s', terminated)` one after the other; s' is a local number."""
    for t in range(T):
        for n in range(N):
            yield (
                int(traj.extras.time[t, n]),
                int(traj.obs[t, n]) % L,
                int(traj.action[t, n]),
                float(traj.reward[t, n]) + 0.5,
                int(traj.next_obs[t, n]) % L,
                bool(traj.terminated[t, n]),
            )


R_INT = jnp.ones((T, N))


def learned(agent: Any, spec: EnvSpec, traj: Trajectory) -> Any:
    state = agent.init(KEY, RunSpec(spec, N, T))
    return jax.jit(agent.update)(KEY, state, traj, R_INT)[0]


@pytest.mark.parametrize("spec", [LAYERED, FLAT])
def test_q_learning(spec):
    traj = random_traj(spec)
    agent = QLearning(0.3, discount=0.9, initial_value=0.2, intrinsic_weight=0.5)
    q = np.full((H + 1, L, A), 0.2)
    q[H] = 0.0
    for h, s, a, r, after, terminated in in_order(traj):
        value = 0.0 if terminated else q[h + 1, after].max()
        q[h, s, a] += 0.3 * (r + 0.9 * value - q[h, s, a])
    np.testing.assert_allclose(learned(agent, spec, traj).q, q[:H], atol=1e-5)


def test_stationary_q_learning_has_no_last_step():
    traj = random_traj(FLAT)
    agent = QLearning(0.3, discount=0.9, stationary=True, intrinsic_weight=0.5)
    q = np.zeros((L, A))
    for _, s, a, r, after, terminated in in_order(traj):
        q[s, a] += 0.3 * (r + 0.9 * (0.0 if terminated else q[after].max()) - q[s, a])
    state = learned(agent, FLAT, traj._replace(extras=Extras(0 * traj.extras.time)))
    np.testing.assert_allclose(state.q[0], q, atol=1e-5)
    endless = dataclasses.replace(FLAT, max_steps=0)
    assert agent.init(KEY, RunSpec(endless, N, T)).q.shape == (1, L, A)


@pytest.mark.parametrize("form", ["practical", "hoeffding"])
@pytest.mark.parametrize("spec", [LAYERED, FLAT])
def test_ucb_q(spec, form):
    traj = random_traj(spec, 1)
    agent = UCBQ(0.2, form=form, episodes=50, failure_probability=0.1, intrinsic_weight=0.5)
    most = 1.0 if form == "practical" else float(H)
    num_states = H * L if spec.num_layers else L
    scale = 0.2 if form == "practical" else 0.2 * np.sqrt(H**3 * np.log(num_states * A * H * 500))
    q, visits = np.full((H + 1, L, A), most), np.zeros((H, L, A))
    q[H] = 0.0
    for h, s, a, r, after, terminated in in_order(traj):
        visits[h, s, a] += 1
        t = visits[h, s, a]
        alpha = (H + 1) / (H + t)
        value = 0.0 if terminated else min(most, q[h + 1, after].max())
        q[h, s, a] = (1 - alpha) * q[h, s, a] + alpha * (r + value + scale / np.sqrt(t))
    np.testing.assert_allclose(learned(agent, spec, traj).q, q[:H], rtol=1e-4)


def test_the_model_counts_what_it_saw():
    traj, found = random_traj(FLAT), layout(RunSpec(FLAT, N, T), "x")
    model = observe(empty_model(found, 5), steps(found, traj, R_INT, 0.5))
    visits, reward = np.zeros((L, A)), np.zeros((L, A))
    led = np.zeros((L, A, L + 1))
    for _, s, a, r, after, terminated in in_order(traj):
        visits[s, a] += 1
        reward[s, a] += r
        led[s, a, L if terminated else after] += 1
    np.testing.assert_array_equal(model.visits, visits)
    np.testing.assert_allclose(model.reward, reward, atol=1e-5)
    counted = np.zeros_like(led)
    for s, a, k in np.ndindex(L, A, 5):
        counted[s, a, model.successor[s, a, k]] += model.counts[s, a, k]
    np.testing.assert_array_equal(counted, led)
    assert model.missed == 0


def test_the_model_says_what_it_had_no_room_for():
    traj, found = random_traj(FLAT), layout(RunSpec(FLAT, N, T), "x")
    model = observe(empty_model(found, 1), steps(found, traj, R_INT, 0.5))
    assert int(model.missed) > 0
    assert int(model.missed) + int(model.counts.sum()) == T * N == int(model.visits.sum())


def test_ties_go_at_random_and_only_ties():
    values = jnp.array([1.0, 3.0, 3.0, 2.0, 3.0])
    keys = jax.random.split(KEY, 600)
    drawn = jax.vmap(lambda k: pick(k, values[None])[0])(keys)
    counts = np.bincount(drawn, minlength=5)
    assert counts[[0, 3]].sum() == 0
    assert counts[[1, 2, 4]].min() > 150
    assert pick(KEY, values[None], ties_at_random=False)[0] == 1


def test_epsilon_z_repeats_for_zeta_distributed_durations():
    agent = QLearning(exploration="epsilon_z", epsilon=1.0, max_duration=20)
    drawn = np.asarray(zeta_durations(KEY, (20_000,), 2.0, 20))
    p = 1.0 / np.arange(1, 21) ** 2
    observed = np.bincount(drawn, minlength=21)[1:] / drawn.size
    np.testing.assert_allclose(observed, p / p.sum(), atol=0.015)

    num = 64
    spec = RunSpec(dataclasses.replace(FLAT, action=Discrete(1000)), num, T)
    state, carry = agent.init(KEY, spec), agent.initial_carry(num)
    never = jnp.zeros(num, bool)

    def act(carry: Carry, key: Any) -> Any:
        carry, action, _ = agent.act(key, state, carry, jnp.zeros(num, jnp.int32), never)
        return carry, (carry.left, action)

    _, (left, action) = jax.lax.scan(act, carry, jax.random.split(KEY, 200))
    repeats, goes_on = np.asarray(action[1:] == action[:-1]), np.asarray(left[:-1] > 0)
    assert repeats[goes_on].all()  # while something is left it is done again,
    assert repeats[~goes_on].mean() < 0.01  # and then another of the thousand
    assert 0.2 < goes_on.mean() < 0.9
    began = agent.act(KEY, state, carry._replace(left=carry.left + 9), jnp.zeros(num, int), ~never)
    assert np.asarray(began[0].left).mean() < 9  # an episode's start forgets


def test_boltzmann_prefers_by_the_exponential():
    agent = QLearning(exploration="boltzmann", temperature=0.5)
    state = agent.init(KEY, RunSpec(FLAT, 20_000, T))
    state = dataclasses.replace(state, q=state.q.at[0, 0].set(jnp.array([0.0, 1.0])))
    zeros = jnp.zeros(20_000, jnp.int32)
    action = agent.act(KEY, state, agent.initial_carry(20_000), zeros, zeros == 0)[1]
    assert np.asarray(action).mean() == pytest.approx(1 / (1 + np.exp(-2.0)), abs=0.015)


@pytest.mark.parametrize("id", TABULAR)
def test_needs_numbered_states(id):
    agent = xplore.make_agent(id)
    with pytest.raises(ConfigError, match=f"{id} learns tables.*DeepSea.*tabular/ID"):
        agent.init(KEY, RunSpec(xplore.make("DeepSea-5-v0").spec(), 2, 5))
    box = dataclasses.replace(FLAT, action=Box((2,)))
    with pytest.raises(ConfigError, match="Discrete action"):
        agent.init(KEY, RunSpec(box, 2, 5))
    endless = dataclasses.replace(FLAT, max_steps=0)
    with pytest.raises(ConfigError, match="horizon_steps"):
        agent.init(KEY, RunSpec(endless, 2, 5))
    spec = RunSpec(endless, 2, 5)
    jax.eval_shape(lambda k: xplore.replace(agent, horizon_steps=4).init(k, spec), KEY)


def test_layouts():
    assert layout(RunSpec(LAYERED, 1, 1), "x").shape == (H, L, A)
    assert layout(RunSpec(FLAT, 1, 1), "x", 7).shape == (7, L, A)
    at = Layout(H * L, A, H, True).time(jnp.arange(H * L), jnp.zeros(H * L, jnp.int32))
    np.testing.assert_array_equal(at, np.repeat(np.arange(H), L))
    assert Layout(L, A, H, False).time(jnp.int32(0), jnp.int32(H + 1)) == 1
    uneven = dataclasses.replace(LAYERED, observation=Discrete(H * L + 1))
    with pytest.raises(ConfigError, match="do not divide"):
        layout(RunSpec(uneven, 1, 1), "x")
    huge = dataclasses.replace(FLAT, observation=Discrete(1 << 26))
    with pytest.raises(ConfigError, match="shorter horizon_steps"):
        layout(RunSpec(huge, 1, 1), "x")
