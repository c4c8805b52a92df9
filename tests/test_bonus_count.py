"""Count bonuses on hand-made rollouts: keys, order, starts, forgetting, errors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.bonuses.count import count
from xplore.bonuses.count_x_episodic import count_x_episodic
from xplore.bonuses.episodic_count import episodic_count
from xplore.bonuses.first_visit import first_visit
from xplore.bonuses.none import NoBonus
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete, Symbolic
from xplore.contracts.types import Bonus, EnvSpec, RunSpec, Trajectory
from xplore.parts.cells import CELL_KEYS, CellKey, Cells, available_keys

KEY = jax.random.key(0)
ENV = EnvSpec(
    "Corridor-v0",
    observation=Symbolic((2, 2, 1), (9,)),
    action=Discrete(2),
    max_steps=9,
    privileged=Dict(
        {
            "position": Discrete(9),
            "direction": Discrete(4),
            "index": Discrete(9),
            "carrying": Discrete(2),
            "state": Box((2,), "int32", 0, 9),
        }
    ),
)
STATE_KEYS: tuple[CellKey, ...] = tuple(key for key in CELL_KEYS if not Cells(key).of_actions)
BARE = EnvSpec("Cart-v1", Box((2,)), Discrete(2), 9)
ALL: list[Any] = [count, episodic_count, first_visit, count_x_episodic]


def rollout(states: Any, first: Any = None, carrying: Any = 0, floats: bool = False) -> Trajectory:
    """A rollout: env n is in `states[t, n]` before step t, in `states[t + 1, n]` after it."""
    at = np.asarray(states)
    at = at[:, None] if at.ndim == 1 else at
    num_steps, num_envs = at.shape[0] - 1, at.shape[1]
    first_t = np.zeros((num_steps, num_envs), bool)
    if first is None:
        first_t[0] = True
    else:
        first_t = np.asarray(first, bool).reshape(num_steps, num_envs)
    held = np.broadcast_to(carrying, at.shape)

    def look(s: np.ndarray) -> np.ndarray:
        if floats:
            return np.stack([s, np.zeros_like(s)], -1).astype(np.float32)
        grid = np.zeros((*s.shape, 2, 2, 1), np.uint8)
        grid[..., 0, 1, 0] = s
        return grid

    def tell(part: slice) -> dict[str, Any]:
        s, h = np.clip(at[part], 0, 8).astype(np.int32), held[part].astype(np.int32)
        places = {"position": s, "direction": s * 0, "index": s}
        return {**places, "carrying": h, "state": np.stack([s, h], -1)}

    zeros = np.zeros((num_steps, num_envs), np.float32)
    leaves: dict[str, Any] = dict(
        obs=look(at[:-1]), action=zeros.astype(np.int32), reward=zeros, next_obs=look(at[1:]),
        terminated=zeros > 0, truncated=zeros > 0, first=first_t,
        level_id=zeros.astype(np.uint32), info={}, privileged=tell(slice(None, -1)),
        next_privileged=tell(slice(1, None)), extras=(), carry=(),
    )  # fmt: skip
    return Trajectory(**jax.tree.map(jnp.asarray, leaves))


def visits(bonus: Bonus, *rollouts: Trajectory, env: EnvSpec = ENV) -> Any:
    """`1 / r^2` for each step of the rollouts in turn: the count, of a bonus with coefficient 1."""
    num_steps, num_envs = rollouts[0].first.shape
    state = bonus.init(KEY, RunSpec(env, num_envs, num_steps))
    score, found = jax.jit(bonus.reward), []
    for traj in rollouts:
        state, r_int = score(state, traj)
        assert r_int.shape == traj.first.shape
        assert r_int.dtype == jnp.float32
        found.append(r_int)
    return np.round(np.concatenate(found) ** -2.0).squeeze().tolist()


@pytest.mark.parametrize("key", STATE_KEYS)
def test_lifelong_count_by_hand(key: CellKey) -> None:
    # It starts in 0 (a visit), and is back there at step 2; the next rollout goes on in it.
    bonus = count(coefficient=1.0, key=key, table_size=4096)
    first = rollout([0, 1, 0, 1, 2])
    second = rollout([2, 0, 2, 3, 1], first=[0, 0, 1, 0])  # an episode starts in 2 at step 2
    assert visits(bonus, first, second) == [1, 2, 2, 1, 3, 2, 1, 3]


def test_envs_share_the_lifelong_table_within_a_time_step() -> None:
    two = rollout([[0, 5], [1, 1], [1, 2], [2, 1]])
    assert visits(count(coefficient=1.0, key="position"), two) == [[2, 2], [3, 1], [2, 4]]


@pytest.mark.parametrize("key", STATE_KEYS)
def test_episodic_count_forgets_at_first_and_only_there(key: CellKey) -> None:
    bonus = episodic_count(coefficient=1.0, key=key)
    first = rollout([0, 1, 0, 1, 1])
    second = rollout([1, 1, 0, 1, 0], first=[0, 0, 1, 0])  # a new episode in 0 at step 2
    assert visits(bonus, first, second) == [1, 2, 2, 3, 4, 3, 1, 2]


def test_episodic_memories_of_envs_do_not_leak() -> None:
    bonus = episodic_count(coefficient=1.0)
    states = np.asarray([[0, 0, 3], [1, 1, 1], [1, 2, 1], [1, 1, 1]])
    first = [[1, 1, 1], [0, 0, 1], [0, 0, 0]]
    together = np.asarray(visits(bonus, rollout(states, first)))
    assert together.tolist() == [[1, 1, 1], [2, 1, 2], [3, 2, 3]]
    alone = [visits(bonus, rollout(states[:, n], np.asarray(first)[:, n])) for n in range(3)]
    np.testing.assert_array_equal(together, np.stack(alone, -1))


def test_first_visit_pays_once_and_never_for_the_start() -> None:
    bonus = first_visit(coefficient=2.0)
    state = bonus.init(KEY, RunSpec(ENV, 1, 5))
    _, r_int = bonus.reward(state, rollout([0, 1, 0, 1, 2, 2]))
    assert r_int[:, 0].tolist() == [2.0, 0.0, 0.0, 2.0, 0.0]


def test_product_of_counts() -> None:
    bonus = count_x_episodic(coefficient=1.0, table_size=4096)
    first, again = rollout([0, 1, 1]), rollout([0, 1, 1])
    assert visits(bonus, first, again) == [1, 4, 3, 8]


def test_keys_tell_apart_what_they_say() -> None:
    # Step 1 holds something: the same view and place, another state.
    held = rollout([0, 1, 1], carrying=[[0], [0], [1]])
    counts = {key: visits(count(coefficient=1.0, key=key), held) for key in STATE_KEYS}
    assert counts == {
        "position": [1, 2],
        "position+direction": [1, 2],
        "index": [1, 2],
        "observation": [1, 2],
        "observation+carry": [1, 1],
        "state": [1, 1],
    }


def test_floats_are_binned() -> None:
    at = [0.0, 1.0, 1.04, 0.96, 1.2, -0.04]
    traj = rollout(at, floats=True)
    assert visits(count(coefficient=1.0), traj, env=BARE) == [1, 2, 3, 1, 2]
    assert visits(count(coefficient=1.0, bin_size=0.01), traj, env=BARE) == [1, 1, 1, 1, 1]
    huge = rollout([0.0, np.inf, -np.inf, 1e30, 0.0], floats=True)
    assert visits(count(coefficient=1.0), huge, env=BARE) == [1, 1, 2, 2]


def test_noise_is_always_new() -> None:
    noise = rollout(np.random.default_rng(0).normal(size=64), floats=True)
    assert visits(count(coefficient=1.0, bin_size=1e-6), noise, env=BARE) == [1.0] * 63


def test_coefficients_and_bins_can_be_swept() -> None:
    traj = rollout([0, 1, 1, 2])
    bonuses = jax.vmap(lambda c: count(coefficient=c, key="position"))(jnp.asarray([1.0, 0.5]))
    state = bonuses.init(KEY, RunSpec(ENV, 1, 3))
    _, r_int = jax.vmap(lambda b: b.reward(state, traj))(bonuses)
    np.testing.assert_allclose(r_int[0], 2 * r_int[1])
    np.testing.assert_allclose(r_int[0, :, 0], [1, 2**-0.5, 1])


@pytest.mark.parametrize("make", ALL)
def test_seeds_can_be_vmapped(make: Any) -> None:
    bonus = make(table_size=64)
    spec = RunSpec(ENV, 2, 3)
    trajs = [rollout([[0, 1], [1, 1], [a, 2], [1, b]]) for a, b in ((0, 1), (2, 2))]
    states = jax.vmap(lambda k: bonus.init(k, spec))(jax.random.split(KEY, 2))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *trajs)
    states, r_int = jax.jit(jax.vmap(bonus.reward))(states, stacked)
    for i, traj in enumerate(trajs):
        np.testing.assert_allclose(r_int[i], bonus.reward(bonus.init(KEY, spec), traj)[1])
    _, metrics = jax.vmap(lambda s: bonus.update(KEY, s, trajs[0]))(states)
    assert all(value.shape == (2,) for value in metrics.values())


def test_cells_is_how_many_were_visited() -> None:
    bonus, traj = count(), rollout([0, 1, 1, 5])
    state, _ = bonus.reward(bonus.init(KEY, RunSpec(ENV, 1, 3)), traj)
    assert float(bonus.update(KEY, state, traj)[1]["cells"]) == 3


@pytest.mark.parametrize("make", ALL)
def test_a_key_the_environment_lacks_is_refused_by_name(make: Any) -> None:
    assert available_keys(BARE) == ("observation", "observation+action")
    assert available_keys(ENV) == CELL_KEYS
    for key in ("position", "position+direction", "index", "observation+carry", "state"):
        with pytest.raises(
            ConfigError, match=r"Cart-v1 .*its keys: observation, observation\+action$"
        ):
            make(key=key).init(KEY, RunSpec(BARE, 1, 1))


def test_what_is_read_is_declared() -> None:
    declared = {key: count(key=key).reads() for key in CELL_KEYS}
    assert declared == {
        "position": ("position",),
        "position+direction": ("position", "direction"),
        "index": ("index",),
        "observation": (),
        "observation+carry": ("carrying",),
        "state": ("state",),
        "position+action": ("position",),
        "observation+action": (),
        "state+action": ("state",),
    }
    assert count_x_episodic(key="state").reads() == ("state",)
    assert first_visit(key="state").reads() == ("state",)


def test_bad_options_say_what_is_right() -> None:
    with pytest.raises(ConfigError, match="did you mean 'position'"):
        count(key="postion")  # type: ignore[arg-type]
    bad: list[dict[str, Any]] = [{"table_size": 1000}, {"num_tables": 0}, {"bin_size": 0.0}]
    for options in bad:
        with pytest.raises(ConfigError, match="must be"):
            count(**options)


def test_none_pays_nothing() -> None:
    traj = rollout([0, 1, 2])
    state, r_int = NoBonus().reward(NoBonus().init(KEY, RunSpec(ENV, 1, 2)), traj)
    assert not r_int.any()
    assert r_int.shape == (2, 1)
    assert NoBonus().update(KEY, state, traj) == ((), {})
