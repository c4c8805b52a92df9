"""Plans against brute force, values of each method against NumPy, draws against their moments."""

from __future__ import annotations

import itertools
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import xplore
from xplore.agents.tabular.rlsvi import RLSVI
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import EnvSpec, RunSpec
from xplore.parts.dirichlet import draw_posterior, gammas_from_1, mean_under
from xplore.parts.planning import Local, backward_induction, expected
from xplore.parts.tabular import Layout, Model, Planned

KEY = jax.random.key(0)
H, L, A, K = 3, 3, 2, 3
FLAT = RunSpec(EnvSpec("Flat-v0", Discrete(L), Discrete(A), H, stochastic=True), 1, 1)
LAYERED = RunSpec(EnvSpec("L-v0", Discrete(H * L), Discrete(A), H, True, num_layers=H), 1, 1)


def random_local(seed: int, rows: int) -> Local:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(K), (rows, A))
    successor = rng.integers(0, L + 1, (rows, A, K))  # L: the end
    reward = rng.normal(size=(rows, A))
    return Local(*(jnp.asarray(x) for x in (
        np.ones((rows, A), np.float32), reward.astype(np.float32), successor.astype(np.int32),
        p.astype(np.float32),
    )))  # fmt: skip


def policy_value(local: Local, layered: bool, policy: tuple[int, ...]) -> np.ndarray:
    """Values `[L]` at time 0 of a policy, `H * L` actions."""
    value = np.zeros(L + 1)
    for h in reversed(range(H)):
        now = np.zeros(L + 1)
        for s in range(L):
            row, a = (h * L + s if layered else s), policy[h * L + s]
            led = sum(local.probability[row, a, k] * value[local.successor[row, a, k]]
                      for k in range(K))  # fmt: skip
            now[s] = local.reward[row, a] + led
        value = now
    return value[:L]


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_backward_induction_finds_the_best_of_all_policies(seed, layered):
    rows = H * L if layered else L
    local = random_local(seed, rows)
    found = Layout(rows, A, H, layered)
    q = backward_induction(found, lambda v, at, _, left: at.reward + expected(at, v), local)
    local = jax.tree.map(np.asarray, local)
    values = [policy_value(local, layered, p) for p in itertools.product(range(A), repeat=H * L)]
    np.testing.assert_allclose(q[0].max(-1), np.max(values, axis=0), atol=1e-5)


def random_model(seed: int, rows: int, slots: int = 8) -> Model:
    """Some pairs never visited, others with up to three successors, the end among them."""
    rng = np.random.default_rng(seed)
    count = np.zeros((rows, A, slots), np.int32)
    count[..., :3] = rng.integers(0, 4, (rows, A, 3)) * (rng.random((rows, A, 1)) < 0.8)
    successor = np.argsort(rng.random((rows, A, slots, L + 1)))[..., 0].astype(np.int32)
    for s, a in np.ndindex(rows, A):
        successor[s, a, :3] = rng.permutation(L + 1)[:3]
    visits = count.sum(-1)
    reward = rng.normal(size=(rows, A)).astype(np.float32) * visits
    return Model(*map(jnp.asarray, (visits, reward, successor, count, np.int32(0))))


def backups(id: str, n: float, r: float, mean: float, var: float, left: int, k: int) -> float:
    """Q of a pair by the formula of a method: n visits, mean reward r, E and Var of the value."""
    iota = np.log(2.0 + k)
    if id == "beb":
        return 0.4 / (1 + n) + (n * r + mean) / (n + 1)  # `mean` is n E + the prior's
    if id == "rlsvi":
        return n / (n + 2.0) * (r + mean)
    if n == 0:
        return 0.9
    most = min(0.9, left - 1)
    ucb = {
        "rmax": 0.0,
        "mbie_eb": 0.4 / np.sqrt(n),
        "model_ucb": 0.4 / np.sqrt(n),
        "ucbvi": 0.4 * (1 + most) * np.sqrt(2 * iota / n),
        "bernstein": 0.4 * ((1 + np.sqrt(var)) * np.sqrt(2 * iota / n) + most * iota / n),
    }
    q = r + mean + ucb[id]
    return q if id in ("rmax", "mbie_eb") else min(q, 0.9)


AGENTS: dict[str, dict[str, Any]] = {
    "rmax": {"value_max": 0.9},
    "mbie_eb": {"value_max": 0.9, "bonus": 0.4},
    "model_ucb": {"value_max": 0.9, "bonus": 0.4},
    "ucbvi": {"value_max": 0.9, "bonus": 0.4},
    "bernstein": {"value_max": 0.9, "bonus": 0.4, "variant": "bernstein"},
    "beb": {"bonus": 0.4},
    "rlsvi": {"regularisation": 2.0, "noise": 0.0},
}


@pytest.mark.parametrize("spec", [LAYERED, FLAT], ids=["layered", "flat"])
@pytest.mark.parametrize("id", AGENTS)
def test_values_are_those_of_the_formula(id, spec):
    agent: Any = xplore.make_agent("ucbvi" if id == "bernstein" else id, **AGENTS[id])
    state = agent.init(KEY, spec)
    layered, model = bool(spec.env.num_layers), random_model(3, spec.env.observation.num)
    planned: Planned = getattr(state, "planned", state)
    planned = Planned(model, planned.q, planned.estimate, jnp.int32(5), planned.layout)
    if planned is not state and hasattr(state, "planned"):
        q = agent._plan(type(state)(planned, state.occupied)).planned.q
    else:
        q = (agent._plan(KEY, planned) if id == "rlsvi" else agent._plan(planned)).q
    value = np.zeros(L + 1)
    for h in reversed(range(H)):
        now = np.zeros((L, A))
        for s, a in np.ndindex(L, A):
            row = h * L + s if layered else s
            count, n = np.asarray(model.counts[row, a]), int(model.visits[row, a])
            v = value[np.asarray(model.successor[row, a])]
            mean = (count * v).sum() / max(n, 1)
            var = (count * (v - mean) ** 2).sum() / max(n, 1)
            if id == "beb":
                mean = n * mean + value[:L].mean()
            r = float(model.reward[row, a]) / max(n, 1)
            now[s, a] = backups(id, n, r, mean, var, H - h, 5)
        np.testing.assert_allclose(q[h], now, atol=1e-4)
        value[:L] = now.max(-1)


def test_the_papers_bonus_of_ucbvi():
    agent: Any = xplore.make_agent("ucbvi", form="paper", bonus=1e-3, episodes=100)
    state = agent.init(KEY, LAYERED)
    planned = state.planned
    model = random_model(4, H * L)
    planned = Planned(model, planned.q, planned.estimate, jnp.int32(5), planned.layout)
    q = agent._plan(type(state)(planned, state.occupied)).planned.q
    n = np.asarray(model.visits)[-L:]
    log = np.log(5 * H * L * A * H * 100 / 0.05)
    r = np.asarray(model.reward)[-L:] / np.maximum(n, 1)
    bonus = 1e-3 * 7 * H * log / np.sqrt(np.maximum(n, 1))
    np.testing.assert_allclose(q[-1], np.where(n > 0, np.minimum(r + bonus, H), H), atol=1e-5)
    # The bonus of Bernstein's inequality needs what follows: at the last step it does not.
    agent = xplore.replace(agent, variant="bernstein")
    q = agent._plan(type(state)(planned, state.occupied)).planned.q
    bonus = 1e-3 * (14 * H * log / (3 * np.maximum(n, 1)))
    known = np.asarray(model.counts[-L:].sum(-1) > 0)
    np.testing.assert_array_less(np.where(known, r + bonus, -9.0) - 1e-5, q[-1])


def test_rlsvi_noise_has_its_scale():
    agent = RLSVI(noise=0.5, regularisation=2.0)
    state = agent.init(KEY, FLAT)
    model = random_model(5, L)
    state = Planned(model, state.q, state.estimate, state.updates, state.layout)
    q = jax.vmap(lambda k: agent._plan(k, state).q)(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(
        q[:, -1].std(0), 0.5 / np.sqrt(np.asarray(model.visits) + 2.0), rtol=0.06
    )


def test_psrl_draws_rewards_from_the_posterior():
    agent: Any = xplore.make_agent("psrl", prior_precision=2.0, reward_precision=4.0)
    state = agent.init(KEY, FLAT)
    model = random_model(6, L)
    state = Planned(model, state.q, state.estimate, state.updates, state.layout)
    q = jax.vmap(lambda k: agent._plan(k, state).q[-1])(jax.random.split(KEY, 6000))
    precision = 2.0 + 4.0 * np.asarray(model.visits)
    np.testing.assert_allclose(q.std(0), 1 / np.sqrt(precision), rtol=0.05)
    np.testing.assert_allclose(q.mean(0), 4.0 * np.asarray(model.reward) / precision, atol=0.04)


@pytest.mark.parametrize("counts", [[0, 0, 0], [1, 0, 0], [3, 5, 1]])
@pytest.mark.parametrize("num_places", [6, 2000])
def test_dirichlet_moments(counts, num_places):
    # The mean and the variance of E_p[v] under Dir(1/L + counts), which has alpha_0 = 1 + n.
    value = np.random.default_rng(0).normal(size=num_places + 1).astype(np.float32)
    successor = jnp.array([2, 4, 1])

    def one(key: Any) -> Any:
        draw = draw_posterior(key, jnp.array(counts), num_places, 16)
        return mean_under(draw, successor, jnp.asarray(value))

    drawn = np.asarray(jax.vmap(one)(jax.random.split(KEY, 40_000)), np.float64)
    alpha = np.full(num_places, 1.0 / num_places)
    alpha[np.asarray(successor)] += counts
    mean = (alpha / alpha.sum()) @ value[:-1]
    var = ((alpha / alpha.sum()) @ value[:-1] ** 2 - mean**2) / (alpha.sum() + 1)
    assert drawn.mean() == pytest.approx(mean, abs=4 * np.sqrt(var / drawn.size) + 1e-3)
    assert drawn.var() == pytest.approx(var, rel=0.05)


def test_gammas():
    shape = jnp.broadcast_to(jnp.array([1.0, 2.0, 30.0]), (40_000, 3))
    drawn = np.asarray(gammas_from_1(KEY, shape))
    np.testing.assert_allclose(drawn.mean(0), [1, 2, 30], rtol=0.02)
    np.testing.assert_allclose(drawn.var(0), [1, 2, 30], rtol=0.05)
