"""Random network distillation: it learns where it should, only there, and what makes it flat."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.bonuses.rnd import RND, rnd
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete, Space, Symbolic
from xplore.contracts.types import EnvSpec, RunSpec, Trajectory
from xplore.parts.predictors import encode, init_codes

KEY = jax.random.key(0)
T, N = 8, 4
GRID = Symbolic((3, 3, 2), (5, 3))
SMALL: dict[str, Any] = {"hidden_size": 16, "embedding_size": 8, "learning_rate": 1e-2}


def spec_of(space: Space) -> RunSpec:
    return RunSpec(EnvSpec("Any-v0", space, Discrete(2), 9), N, T)


def rollout(next_obs: Any) -> Trajectory:
    zeros = jnp.zeros((T, N))
    return Trajectory(
        obs=next_obs, action=zeros.astype(jnp.int32), reward=zeros, next_obs=next_obs,
        terminated=zeros > 0, truncated=zeros > 0, first=zeros > 0,
        level_id=zeros.astype(jnp.uint32), info={}, privileged={}, next_privileged={},
        extras=(), carry=(),
    )  # fmt: skip


def grids(seed: int, distinct: int) -> jax.Array:
    """A rollout over `distinct` random grids."""
    rng = np.random.default_rng(seed)
    cells = np.stack([rng.integers(0, n, (distinct, 3, 3)) for n in (5, 3)], -1)
    return jnp.asarray(cells[rng.integers(0, distinct, (T, N))].astype(np.uint8))


def train(bonus: Any, state: Any, traj: Trajectory, times: int) -> Any:
    @jax.jit
    def step(state: Any, key: jax.Array) -> Any:
        state, _ = bonus.reward(state, traj)
        return bonus.update(key, state, traj)[0], None

    return jax.lax.scan(step, state, jax.random.split(KEY, times))[0]


def test_error_falls_on_what_repeats_and_stays_on_what_is_new() -> None:
    bonus, score = RND(**SMALL), jax.jit(RND.reward)
    familiar, new = rollout(grids(0, 4)), rollout(grids(1, 4))
    state = bonus.init(KEY, spec_of(GRID))
    _, before = score(bonus, state, familiar)
    state = train(bonus, state, familiar, 100)
    _, after = score(bonus, state, familiar)
    _, on_new = score(bonus, state, new)
    assert after.shape == (T, N)
    assert float(after.mean()) < 0.05 * float(before.mean())
    assert float(on_new.mean()) > 20 * float(after.mean())


def test_scoring_never_learns() -> None:
    bonus, traj = rnd(**SMALL), rollout(grids(0, 8))
    state = bonus.init(KEY, spec_of(GRID))
    scored, first = jax.jit(bonus.reward)(state, traj)
    _, again = jax.jit(bonus.reward)(state, traj)
    np.testing.assert_array_equal(first, again)
    networks = [(s[0].target, s[0].predictor) for s in (state, scored)]
    assert jax.tree.all(jax.tree.map(jnp.array_equal, *networks))
    # Statistics do move, before the rollout is scored: none of them is left at 0.
    assert float(scored[0].inputs.moments.total) == T * N
    learned, metrics = jax.jit(bonus.update)(KEY, scored, traj)
    assert float(metrics["predictor_loss"]) > 0
    targets = (scored[0].target, learned[0].target)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, *targets))
    predictors = (scored[0].predictor, learned[0].predictor)
    assert not jax.tree.all(jax.tree.map(jnp.array_equal, *predictors))


def test_without_input_statistics_the_bonus_is_flat() -> None:
    # A common offset a thousand times what differs between states: all states look alike.
    space = Box((4,))
    seen = 1000 + np.random.default_rng(0).normal(size=(T, N, 4)).astype(np.float32)
    spread = {}
    for normalise in (True, False):
        bonus = RND(normalise_inputs=normalise, **SMALL)
        _, r_int = jax.jit(bonus.reward)(
            bonus.init(KEY, spec_of(space)), rollout(jnp.asarray(seen))
        )
        spread[normalise] = float(r_int.std() / r_int.mean())
    assert spread[True] > 0.2
    assert spread[False] < 0.02


@pytest.mark.parametrize("inputs", ["codes", "one_hot", "scaled"])
def test_every_kind_of_observation_has_inputs(inputs: Any) -> None:
    space = Dict(
        {"grid": GRID, "where": Discrete(5), "pose": Box((2,)), "wide": Symbolic((2,), (9, 9))}
    )
    codes = init_codes(KEY, space)
    rng = np.random.default_rng(0)
    obs = {
        "grid": grids(0, 32),
        "where": jnp.asarray(rng.integers(0, 5, (T, N)), jnp.int32),
        "pose": jnp.asarray(rng.normal(size=(T, N, 2)), jnp.float32),
        "wide": jnp.asarray(rng.integers(0, 9, (T, N, 2)), jnp.uint8),
    }
    x = encode(space, codes, obs, inputs)
    sizes = {"codes": 9 * 4 + 4, "one_hot": 9 * 8 + 18, "scaled": 18 + 2}
    assert x.shape == (T, N, sizes[inputs] + 5 + 2)
    assert np.unique(np.asarray(x).reshape(T * N, -1), axis=0).shape[0] == T * N
    one = jax.tree.map(lambda o: o[2, 1], obs)
    np.testing.assert_allclose(encode(space, codes, one, inputs), x[2, 1])


def test_codes_are_per_cell_and_per_channel_where_combinations_are_many() -> None:
    many = Symbolic((2, 3), (200, 200, 3))
    codes = init_codes(KEY, many, size=3)
    assert [c.shape for c in codes] == [(200, 3), (200, 3), (3, 3)]
    obs = jnp.asarray([[5, 7, 1], [5, 8, 1]], jnp.uint8)
    x = encode(many, codes, obs, "codes").reshape(3, 2, 3)
    np.testing.assert_array_equal(x[0, 0], codes[0][5])
    np.testing.assert_array_equal(x[1, 1], codes[1][8])
    (together,) = init_codes(KEY, GRID)
    x = encode(GRID, (together,), grids(0, 1)[0, 0], "codes").reshape(9, 4)
    first = grids(0, 1)[0, 0, 0, 0].astype(jnp.int32)
    np.testing.assert_array_equal(x[0], together[first[0] * 3 + first[1]])


def test_seeds_and_learning_rates_can_be_vmapped() -> None:
    traj = rollout(grids(0, 4))

    def run(key: jax.Array, learning_rate: jax.Array) -> tuple[jax.Array, jax.Array]:
        bonus = rnd(hidden_size=8, embedding_size=4, learning_rate=learning_rate)  # type: ignore[arg-type]
        state, r_int = bonus.reward(bonus.init(key, spec_of(GRID)), traj)
        _, metrics = bonus.update(key, state, traj)
        return r_int, metrics["predictor_loss"]

    rewards, losses = jax.jit(jax.vmap(run))(jax.random.split(KEY, 2), jnp.asarray([1e-3, 1e-1]))
    assert rewards.shape == (2, T, N)
    assert not np.allclose(rewards[0], rewards[1])
    one, _ = jax.jit(run)(jax.random.split(KEY, 2)[1], jnp.asarray(1e-1))
    np.testing.assert_allclose(rewards[1], one, rtol=1e-4)
    assert bool(jnp.all(jnp.isfinite(losses)))


def test_a_large_rollout_is_scored_in_blocks_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    bonus, traj = RND(hidden_size=8, embedding_size=4), rollout(grids(0, 8))
    state = bonus.init(KEY, spec_of(GRID))
    _, whole = bonus.reward(state, traj)
    monkeypatch.setattr("xplore.parts.blocks.BLOCK_NUMBERS", 3 * N * 50)  # three steps at a time
    _, blocks = bonus.reward(state, traj)
    np.testing.assert_allclose(blocks, whole, rtol=1e-4, atol=1e-6)


def test_bad_options_say_what_is_right() -> None:
    bad: list[dict[str, Any]] = [{"update_fraction": 0.0}, {"hidden_size": 0}, {"extra_layers": -1}]
    for options in bad:
        with pytest.raises(ConfigError, match="must"):
            rnd(**options)
