"""Combinators: their algebra, their states, and what flows through them."""

from __future__ import annotations

from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.bonuses.combinators import Anneal, Clip, FirstVisit, Normalise, Product, Scale, Sum
from xplore.contracts.component import component, from_json, to_json
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Dict, Discrete
from xplore.contracts.types import Bonus, EnvSpec, Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.cells import Cells
from xplore.parts.normalisers import init_reward_stats, normalise_reward

KEY = jax.random.key(0)
T, N = 4, 2
ENV = EnvSpec("Ring-v0", Discrete(5), Discrete(2), 9, privileged=Dict({"position": Discrete(5)}))
SPEC = RunSpec(ENV, N, T)


@final
@component
class Probe:
    """Pays `scale * (rollout number + observation)` and says how often it was updated."""

    scale: float = 1.0
    name: str = "position"

    def reads(self) -> tuple[str, ...]:
        return (self.name,)

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return {
            "rollouts": jnp.float32(0),
            "updates": jnp.float32(0),
            "draw": jax.random.uniform(key),
        }

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        r_int = self.scale * (state["rollouts"] + traj.next_obs.astype(jnp.float32))
        return state | {"rollouts": state["rollouts"] + 1}, r_int

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        state = state | {"updates": state["updates"] + 1}
        return state, {"updates": state["updates"]}


def make_traj(seed: int = 0, num_steps: int = T) -> Trajectory:
    at = np.random.default_rng(seed).integers(0, 5, (num_steps + 1, N)).astype(np.int32)
    zeros = np.zeros((num_steps, N), np.float32)
    first = zeros > 0
    first[0] = True
    leaves: dict[str, Any] = dict(
        obs=at[:-1], action=zeros.astype(np.int32), reward=zeros, next_obs=at[1:],
        terminated=zeros > 0, truncated=zeros > 0, first=first, level_id=zeros.astype(np.uint32),
        info={}, privileged={"position": at[:-1]}, next_privileged={"position": at[1:]},
        extras=(), carry=(),
    )  # fmt: skip
    return Trajectory(**jax.tree.map(jnp.asarray, leaves))


TRAJ = make_traj()
REWARD = np.asarray(TRAJ.next_obs, np.float32)  # what a fresh Probe pays for it


def paid(bonus: Bonus, rollouts: int = 1) -> list[Any]:
    state, found = bonus.init(KEY, SPEC), []
    for _ in range(rollouts):
        state, r_int = bonus.reward(state, TRAJ)
        found.append(np.asarray(r_int))
    return found


def test_scale_sum_product_and_clip_are_arithmetic() -> None:
    probe, double = Probe(), Probe(2.0)
    np.testing.assert_allclose(paid(Scale(probe, 3.0))[0], 3 * REWARD)
    np.testing.assert_allclose(paid(Sum((probe, double, probe)))[0], 4 * REWARD)
    np.testing.assert_allclose(paid(Product((probe, double)), 2)[1], 2 * (REWARD + 1) ** 2)
    np.testing.assert_allclose(paid(Clip(probe, 1.0, 3.0))[0], np.clip(REWARD, 1, 3))
    # Scaling distributes over a sum.
    left, right = Scale(Sum((probe, double)), 0.5), Sum((Scale(probe, 0.5), Scale(double, 0.5)))
    np.testing.assert_allclose(paid(left, 3)[2], paid(right, 3)[2])


def test_children_keep_their_own_states_and_metrics() -> None:
    both = Sum((Scale(Probe(), 2.0), Product((Probe(), Probe(name="state")))))
    assert both.reads() == ("position", "state")
    state = both.init(KEY, SPEC)
    draws = {float(x) for x in jax.tree.leaves(jax.tree.map(lambda s: s, state)) if 0 < x < 1}
    assert len(draws) == 3  # each was made from a key of its own
    state, _ = both.reward(state, TRAJ)
    state, metrics = both.update(KEY, state, TRAJ)
    assert {k: float(v) for k, v in metrics.items()} == {
        "0/updates": 1.0,
        "1/0/updates": 1.0,
        "1/1/updates": 1.0,
    }


def test_normalise_is_its_normaliser_carried_across_rollouts() -> None:
    bonus = Normalise(Probe(), "return_std", 0.9)
    stats = init_reward_stats(N)
    for i, r_int in enumerate(paid(bonus, 3)):
        stats, expected = normalise_reward("return_std", stats, jnp.asarray(REWARD + i), 0.9)
        np.testing.assert_allclose(r_int, expected, rtol=1e-5)
    state = bonus.init(KEY, SPEC)
    state, _ = bonus.reward(state, TRAJ)
    _, metrics = bonus.update(KEY, state, TRAJ)
    assert float(metrics["return_std"]) > 0


def test_normalise_makes_the_scale_of_a_bonus_irrelevant() -> None:
    for kind in ("std", "return_std", "zscore_ema", "minmax"):
        small, large = Normalise(Probe(1.0), kind), Normalise(Probe(1000.0), kind)
        np.testing.assert_allclose(paid(small, 2)[1], paid(large, 2)[1], rtol=1e-3)


def test_first_visit_gates_and_the_bonus_sees_every_step() -> None:
    traj = make_traj(3, num_steps=12)
    bonus = FirstVisit(Probe(), Cells("position"))
    spec = RunSpec(ENV, N, 12)
    state, r_int = bonus.reward(bonus.init(KEY, spec), traj)
    for n in range(N):
        seen = {int(traj.obs[0, n])}
        for t in range(12):
            s = int(traj.next_obs[t, n])
            assert float(r_int[t, n]) == (0.0 if s in seen else s)
            seen.add(s)
    assert bonus.reads() == ("position",)
    assert float(state[0]["rollouts"]) == 1
    assert float(bonus.update(KEY, state, traj)[1]["updates"]) == 1


def test_anneal_is_linear_in_env_steps_across_rollouts() -> None:
    bonus = Anneal(Probe(), start=2.0, end=1.0, num_steps=12)  # 8 env steps a rollout
    first, second, third = paid(bonus, 3)
    slope = np.asarray([2 - 2 * t / 12 for t in range(8)])[:, None]
    np.testing.assert_allclose(first, slope[:4] * REWARD, rtol=1e-6)
    np.testing.assert_allclose(second, np.maximum(slope[4:], 1) * (REWARD + 1), rtol=1e-6)
    np.testing.assert_allclose(third, REWARD + 2, rtol=1e-6)
    state, _ = bonus.reward(bonus.init(KEY, SPEC), TRAJ)
    assert float(bonus.update(KEY, state, TRAJ)[1]["anneal"]) == pytest.approx(2 - 8 / 12)


def test_coefficients_anywhere_in_an_expression_can_be_swept() -> None:
    values = jnp.asarray([0.0, 0.5, 1.0])

    def make(c: jax.Array) -> Bonus:
        return Sum((Scale(Probe(), c), Anneal(Probe(), start=c, end=c, num_steps=5)))  # type: ignore[arg-type]

    many = jax.vmap(make)(values)
    state = jax.vmap(lambda b: b.init(KEY, SPEC))(many)
    _, r_int = jax.jit(jax.vmap(lambda b, s: b.reward(s, TRAJ)))(many, state)
    for c, one in zip(values, r_int, strict=True):
        np.testing.assert_allclose(one, 2 * c * REWARD, rtol=1e-6)
    # One compilation serves every coefficient: they are leaves, not part of the program.
    structures = {str(jax.tree.structure(make(c))) for c in values}
    assert len(structures) == 1


def test_expressions_are_values() -> None:
    def make() -> Bonus:
        gated = FirstVisit(Normalise(Probe(), "std"), Cells("position"))
        return Clip(Sum((Scale(gated, 1), Anneal(Probe(), num_steps=10))), -1, 1)

    assert make() == make()
    assert hash(make()) == hash(make())
    simple = Scale(Sum((FirstVisit(None), Clip(FirstVisit()))), 2.0)
    assert from_json(to_json(simple)) == simple


def test_bad_options_say_what_is_right() -> None:
    with pytest.raises(ConfigError, match="did you mean 'return_std'"):
        Normalise(Probe(), "return-std")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"discount=1\.5"):
        Normalise(Probe(), discount=1.5)
    with pytest.raises(ConfigError, match="low must not exceed high"):
        Clip(Probe(), 1.0, -1.0)
    with pytest.raises(ConfigError, match="num_steps=0"):
        Anneal(Probe(), num_steps=0)
    for kind in (Sum, Product):
        with pytest.raises(ConfigError, match="at least one"):
            kind(())
