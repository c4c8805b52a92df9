"""What every lifelong bonus must do: wear off where nothing new can happen."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.contracts import registry
from xplore.contracts.spaces import Box, Discrete
from xplore.contracts.types import EnvSpec, RunSpec, Trajectory

KEY = jax.random.key(0)
T, N, ROLLOUTS = 32, 8, 150
SPEC = RunSpec(EnvSpec("Loop-v0", Box((3,)), Discrete(2), 0), N, T)
# These pay nothing; or anew in every episode; or for what is rare in the rollout, however old.
# All else is held to it.
NOTHING = {"none"}
EPISODIC = {"episodic_count", "first_visit", "ride", "e3b", "ngu", "deir"}
RELATIVE = {"apt", "re3"}
NOT_LIFELONG = NOTHING | EPISODIC | RELATIVE
SMALL = {"table_size": 1 << 8, "episodic_table_size": 1 << 8, "replay_size": 1 << 12}


def loop() -> Trajectory:
    """Two states in turn, the action certain; an episode begins at the first step of a rollout."""
    places = np.asarray([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]], np.float32)
    at = np.broadcast_to(np.arange(T + 1)[:, None] % 2, (T + 1, N))
    zeros = np.zeros((T, N), np.float32)
    first = zeros > 0
    first[0] = True
    leaves: dict[str, Any] = dict(
        obs=places[at[:-1]], action=at[:-1].astype(np.int32), reward=zeros,
        next_obs=places[at[1:]], terminated=zeros > 0, truncated=zeros > 0, first=first,
        level_id=zeros.astype(np.uint32), info={}, privileged={}, next_privileged={},
        extras={"log_prob": zeros}, carry=(),
    )  # fmt: skip
    return Trajectory(**jax.tree.map(jnp.asarray, leaves))


@pytest.mark.parametrize("id", [i for i in xplore.list_bonuses() if i not in NOT_LIFELONG])
def test_lifelong_bonuses_wear_off_on_a_loop_of_two_states(id: str) -> None:
    options = inspect.signature(registry.find("bonus", id).factory).parameters
    bonus = xplore.make_bonus(id, **{k: v for k, v in SMALL.items() if k in options})
    traj = loop()

    def step(state: Any, key: jax.Array) -> Any:
        state, r_int = bonus.reward(state, traj)
        return bonus.update(key, state, traj)[0], jnp.max(r_int)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jax.random.split(KEY, ROLLOUTS))[1])
    paid = np.asarray(run(bonus.init(KEY, SPEC)))
    assert np.all(np.isfinite(paid))
    assert paid[0] > 0
    assert np.mean(paid[-10:]) < 0.1 * paid[0]


@pytest.mark.parametrize("id", sorted(RELATIVE))
def test_what_many_in_the_rollout_have_seen_is_worth_nothing(id: str) -> None:
    # A state's nearest neighbours are its own copies, in the first rollout as in any other.
    traj = loop()
    traj = traj._replace(next_obs=traj.next_obs.at[-1, 0].set(jnp.asarray([0.5, 0.5, 1.0])))
    bonus = xplore.make_bonus(id)
    _, r_int = jax.jit(bonus.reward)(bonus.init(KEY, SPEC), traj)
    assert r_int[-1, 0] > 0
    np.testing.assert_array_equal(r_int.at[-1, 0].set(0.0), np.zeros((T, N)))
