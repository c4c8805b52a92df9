"""Bonuses of prediction: what they are made of, what they learn from, and noise."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.bonuses.agac import Adversary, agac
from xplore.bonuses.disagreement import Disagreement
from xplore.bonuses.e3b import E3B
from xplore.bonuses.icm import ForwardError
from xplore.bonuses.rc_gvf import RCGVF, Rollout
from xplore.bonuses.re3 import ParticleEntropy
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Discrete, Space
from xplore.contracts.types import EnvSpec, RunSpec, Trajectory
from xplore.parts.dynamics import Dynamics
from xplore.parts.fitting import Fitted, fit, init_fitted
from xplore.parts.inputs import inputs_of
from xplore.parts.predictors import apply_ensemble

KEY = jax.random.key(0)
T, N, CELLS, NOISE = 8, 16, 5, 8
SIZE = CELLS + NOISE
SMALL: dict[str, Any] = {"hidden_size": 16, "embedding_size": 8}
SCORE = jax.jit(lambda bonus, state, traj: bonus.reward(state, traj))
UPDATE = jax.jit(lambda bonus, key, state, traj: bonus.update(key, state, traj))


def spec_of(action: Space) -> RunSpec:
    return RunSpec(EnvSpec("Ring-v0", Box((SIZE,)), action, 0), N, T)


SPEC = spec_of(Discrete(3))


def rollout(key: jax.Array, noise: float = 1.0, moves: bool = True) -> Trajectory:
    """Steps left, right or nowhere on a ring, seen one-hot beside numbers that mean nothing."""
    key_start, key_action, key_noise = jax.random.split(key, 3)
    action = jax.random.randint(key_action, (T, N), 0, 3) if moves else jnp.ones((T, N), jnp.int32)
    start = jax.random.randint(key_start, (1, N), 0, CELLS)
    at = jnp.concatenate([start, start + jnp.cumsum(action - 1, axis=0)]) % CELLS
    static = noise * jax.random.normal(key_noise, (T + 1, N, NOISE))
    obs = jnp.concatenate([jax.nn.one_hot(at, CELLS), static], axis=-1)
    zeros = jnp.zeros((T, N))
    return Trajectory(
        obs=obs[:-1], action=action, reward=zeros, next_obs=obs[1:], terminated=zeros > 0,
        truncated=zeros > 0, first=(zeros > 0).at[0].set(True),
        level_id=zeros.astype(jnp.uint32), info={}, privileged={}, next_privileged={},
        extras=(), carry=(),
    )  # fmt: skip


TRAJ = rollout(KEY)


def trained(bonus: Any, noise: float, times: int = 300) -> tuple[Any, Any]:
    """The state after rollouts that are new each time, and the mean bonus of each."""

    @jax.jit
    def train(state: Any, keys: jax.Array) -> Any:
        def step(state: Any, key: jax.Array) -> Any:
            traj = rollout(key, noise)
            state, r_int = bonus.reward(state, traj)
            return bonus.update(key, state, traj)[0], jnp.mean(r_int)

        return jax.lax.scan(step, state, keys)

    state, means = train(bonus.init(KEY, SPEC), jax.random.split(KEY, times))
    return state, np.asarray(means)


def fading(bonus: Any, noise: float) -> float:
    """What is left of the bonus after training, of what it was at first."""
    _, means = trained(bonus, noise)
    return float(means[-20:].mean() / means[:3].mean())


def learner(encoding: Any, **options: Any) -> Dynamics:
    return Dynamics(encoding, learning_rate=5e-3, update_fraction=1.0, **SMALL, **options)


def test_noise_stays_curious_to_a_forward_model_and_ceases_to_divide_an_ensemble() -> None:
    curious = ForwardError(learner("random", forward=True))
    assert fading(curious, noise=1.0) > 0.4
    assert fading(curious, noise=0.0) < 0.1
    divided = Disagreement(learner("random"))
    assert fading(divided, noise=1.0) < 0.1


def test_embeddings_learned_from_actions_ignore_noise() -> None:
    share = {}
    for encoding in ("random", "inverse"):
        bonus = E3B(learner(encoding))
        state, _ = trained(bonus, noise=1.0)
        paid = [
            float(SCORE(bonus, state, rollout(jax.random.key(9), moves=moves))[1][1:].mean())
            for moves in (False, True)
        ]
        share[encoding] = paid[0] / paid[1]  # before a screen of static, of what walking earns
    assert share["random"] > 0.7
    assert share["inverse"] < 0.4


def test_forward_error_is_half_the_squared_miss() -> None:
    dynamics = Dynamics("inverse", forward=True, normalise_inputs=False, **SMALL)
    bonus = ForwardError(dynamics)
    state = bonus.init(KEY, SPEC)
    _, r_int = SCORE(bonus, state, TRAJ)
    before, after = (dynamics.embed_rows(state, x) for x in (TRAJ.obs, TRAJ.next_obs))
    miss = dynamics.predict(state, before, TRAJ.action) - after
    np.testing.assert_allclose(r_int, 0.5 * np.sum(np.square(miss), -1), rtol=1e-4)
    with pytest.raises(ConfigError, match="forward=True"):
        ForwardError(Dynamics("inverse"))


def test_disagreement_is_the_variance_over_heads() -> None:
    dynamics = Dynamics("random", normalise_inputs=False, **SMALL)
    bonus = Disagreement(dynamics, num_heads=3)
    state = bonus.init(KEY, SPEC)
    _, r_int = SCORE(bonus, state, TRAJ)
    phi = dynamics.embed_rows(state.dynamics, TRAJ.obs)
    seen = jnp.concatenate([phi, jax.nn.one_hot(TRAJ.action, 3)], axis=-1)
    heads: Any = [
        bonus._head().apply(jax.tree.map(lambda x, k=k: x[k], state.heads.params), seen)
        for k in range(3)
    ]
    np.testing.assert_allclose(r_int, np.var(np.stack(heads), 0).mean(-1), rtol=1e-3)
    with pytest.raises(ConfigError, match="at least 2"):
        Disagreement(num_heads=1)


def test_every_head_learns_from_rows_of_its_own() -> None:
    data, heads = jnp.arange(1000.0), 4

    def loss(params: jax.Array, rows: jax.Array, key: jax.Array) -> Any:
        assert rows.shape == (heads, 1000 // 4 // heads // 2)
        # Moved by Adam at a rate of 1: the sign of what each head saw, relative to the middle.
        return jnp.sum(params * (jnp.mean(rows, axis=1) - 499.5)), {"mean": jnp.mean(rows)}

    fitted = init_fitted(jnp.zeros(heads), 1.0)
    options: dict[str, Any] = {"fraction": 0.25, "num_minibatches": 2, "num_heads": heads}
    fitted, _ = fit(KEY, fitted, loss, data, learning_rate=1.0, **options)
    assert len(np.unique(np.asarray(fitted.params))) == heads


class Kept(NamedTuple):
    log_prob: jax.Array


def test_adversary_pays_for_what_it_does_not_expect() -> None:
    bonus = Adversary(hidden_size=16, learning_rate=1e-2, update_fraction=1.0)
    log_prob = jnp.log(jax.random.uniform(KEY, (T, N), minval=0.1))
    habit = TRAJ._replace(action=jnp.ones((T, N), jnp.int32), extras=Kept(log_prob))
    state = bonus.init(KEY, SPEC)
    # At first it expects anything.
    _, r_int = SCORE(bonus, state, habit)
    np.testing.assert_allclose(r_int, log_prob + jnp.log(3.0), rtol=1e-5)
    _, r_uniform = SCORE(bonus, state, TRAJ)
    np.testing.assert_allclose(r_uniform, 0.0, atol=1e-6)
    state, _ = SCORE(bonus, state, habit)
    metrics = {}
    for key in jax.random.split(KEY, 30):
        state, metrics = UPDATE(bonus, key, state, habit)
    assert float(metrics["adversary_loss"]) < 0.05
    sure = Kept(jnp.zeros((T, N)))
    assert float(jnp.abs(SCORE(bonus, state, habit._replace(extras=sure))[1]).max()) < 0.2
    other = habit._replace(action=jnp.zeros((T, N), jnp.int32), extras=sure)
    assert float(SCORE(bonus, state, other)[1].min()) > 2


def test_agac_refuses_what_it_cannot_tell_and_adds_counts_if_asked() -> None:
    with pytest.raises(ConfigError, match="discrete actions"):
        agac().init(KEY, spec_of(Box((2,))))
    bonus = agac(hidden_size=16, anneal_steps=4 * N, coefficient=0.5)
    state = bonus.init(KEY, SPEC)
    with pytest.raises(ConfigError, match="such as ppo"):
        bonus.reward(state, TRAJ._replace(extras={"value": TRAJ.reward}))
    kept = {"log_prob": jnp.zeros((T, N))}
    _, r_int = SCORE(bonus, state, TRAJ._replace(extras=kept))
    line = np.clip(1 - np.arange(T) / 4, 0, 1)[:, None]
    np.testing.assert_allclose(r_int, 0.5 * line * np.log(3.0) * np.ones((1, N)), rtol=1e-5)
    counted = agac(hidden_size=16, coefficient=0.0, count_coefficient=0.1)
    _, r_int = SCORE(counted, counted.init(KEY, SPEC), TRAJ)
    np.testing.assert_allclose(r_int, 0.1)  # observations with noise never recur


def test_futures_of_rc_gvf_against_numpy() -> None:
    bonus = RCGVF(num_rewards=3, num_heads=2, discount=0.7, trace=0.6, **SMALL)
    draw = np.random.default_rng(0)
    values, rewards = draw.normal(size=(2, T, N, 3)), draw.normal(size=(T, N, 3))
    terminated = draw.random((T, N)) < 0.2
    follows = ~terminated & (draw.random((T, N)) < 0.8)
    follows[-1] = False
    seen = Rollout(*map(jnp.asarray, (rewards, rewards, terminated, follows)))
    found = np.asarray(bonus._futures(jnp.asarray(values), seen))
    for k in range(2):
        for n in range(N):
            after = np.zeros(3)
            for t in reversed(range(T)):
                if terminated[t, n]:
                    follow = np.zeros(3)
                elif follows[t, n]:
                    follow = 0.4 * values[k, t + 1, n] + 0.6 * after
                else:
                    follow = values[k, t, n]
                after = rewards[t, n] + 0.7 * follow
                np.testing.assert_allclose(found[k, t, n], after, rtol=1e-4, atol=1e-5)


def test_rc_gvf_weighs_errors_by_disagreement_and_is_rnd_without_future() -> None:
    options: dict[str, Any] = {"discount": 0.0, "num_rewards": 4, "num_heads": 3, **SMALL}
    found = {}
    for weight in ("none", "std", "variance"):
        bonus = RCGVF(weight=weight, **options)
        state = bonus.init(KEY, SPEC)
        state, found[weight] = SCORE(bonus, state, TRAJ)
    _, seen = bonus._look(state, TRAJ, state.began)
    x = inputs_of(state.inputs, TRAJ.next_obs)
    z: Any = bonus._payer().apply(state.network[1], x)
    values = apply_ensemble(bonus._head(), state.heads.params, seen.seen)
    error, variance = np.mean(np.square(values - z[None]), 0), np.var(values, 0, ddof=1)
    for weight, factor in (("none", 1.0), ("std", np.sqrt(variance)), ("variance", variance)):
        np.testing.assert_allclose(found[weight], np.sum(error * factor, -1), rtol=1e-3)
    assert fading(RCGVF(num_rewards=4, learning_rate=5e-3, update_fraction=1.0, **SMALL), 0.0) < 0.2


@pytest.mark.parametrize("neighbours", ["kth", "mean"])
def test_particle_entropy_against_numpy_and_its_decay(neighbours: Any) -> None:
    dynamics = Dynamics("random", normalise_inputs=False, **SMALL)
    bonus = ParticleEntropy(dynamics, 3, T * N, neighbours, neighbours == "mean", decay=0.01)
    state = bonus.init(KEY, SPEC)
    later, r_int = SCORE(bonus, state, TRAJ)
    phi = np.asarray(dynamics.embed_rows(state.dynamics, TRAJ.next_obs)).reshape(T * N, -1)
    apart = np.linalg.norm(phi[:, None] - phi[None], axis=-1) + np.diag(np.full(T * N, np.inf))
    near = np.sort(apart, axis=1)[:, :3]
    distance = near[:, -1] if neighbours == "kth" else near.mean(-1) / near.mean(-1).mean()
    faded = 0.99 ** np.arange(T)[:, None]
    expected = np.log1p(distance).reshape(T, N) * faded
    np.testing.assert_allclose(r_int, expected, rtol=1e-3)
    np.testing.assert_allclose(float(later.weight), 0.99**T, rtol=1e-4)


def test_few_anchors_are_spread_and_one_observation_has_no_neighbour() -> None:
    few = ParticleEntropy(Dynamics("random", **SMALL), 2, 24)
    state = few.init(KEY, SPEC)
    _, r_int = SCORE(few, state, TRAJ)
    assert bool(jnp.all(jnp.isfinite(r_int) & (r_int > 0)))
    one = jax.tree.map(lambda x: x[:1, :1], TRAJ)
    np.testing.assert_array_equal(SCORE(few, state, one)[1], 0.0)
    with pytest.raises(ConfigError, match="below num_anchors"):
        ParticleEntropy(num_neighbours=5, num_anchors=5)


LEARNED = (
    "rnd",
    "icm",
    "disagreement",
    "e3b",
    "e3b_x_noveld",
    "ngu",
    "apt",
    "deir",
    "agac",
    "rc_gvf",
)
TWO_NETWORKS = ("disagreement", "e3b_x_noveld", "ngu")


def fitted(state: Any) -> list[Fitted]:
    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Fitted))
    return [x for x in leaves if isinstance(x, Fitted)]


@pytest.mark.parametrize("id", LEARNED)
def test_no_bonus_is_paid_by_a_network_that_has_learned_from_it(id: str) -> None:
    bonus: Any = xplore.make_bonus(id, hidden_size=16)
    state = bonus.init(KEY, SPEC)
    scored, r_int = SCORE(bonus, state, TRAJ)
    assert r_int.shape == (T, N)
    # Scoring moves no network; what is learned afterwards moves them all.
    learned, _ = UPDATE(bonus, KEY, scored, TRAJ)
    before, after, then = map(fitted, (state, scored, learned))
    assert len(before) == (2 if id in TWO_NETWORKS else 1)
    for a, b, c in zip(before, after, then, strict=True):
        assert jax.tree.all(jax.tree.map(jnp.array_equal, a, b))
        moved = not jax.tree.all(jax.tree.map(jnp.array_equal, a.params, c.params))
        assert moved or id == "disagreement"  # whose encoder is fixed
    assert any(
        not jax.tree.all(jax.tree.map(jnp.array_equal, a.params, c.params))
        for a, c in zip(before, then, strict=True)
    )
