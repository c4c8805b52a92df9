"""The template of a bonus works as it stands, made the way the command line makes it."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import xplore

TEMPLATE = Path(__file__).resolve().parents[1] / "docs" / "templates" / "my_bonus.py"


def test_the_template_runs_and_pays_for_change() -> None:
    bonus = xplore.make_bonus(f"{TEMPLATE}:my_bonus", coefficient=2.0)
    env = xplore.EnvSpec("Any-v0", xplore.Box((4,)), xplore.Discrete(2), 9)
    zeros = jnp.zeros((3, 2))
    before = jnp.zeros((3, 2, 4))
    after = before.at[0, 1, :2].set(1.0).at[2, 0].set(1.0)
    traj = xplore.Trajectory(
        obs=before, action=zeros.astype(jnp.int32), reward=zeros, next_obs=after,
        terminated=zeros > 0, truncated=zeros > 0, first=zeros > 0,
        level_id=zeros.astype(jnp.uint32), info={}, privileged={}, next_privileged={},
        extras=(), carry=(),
    )  # fmt: skip
    key = jax.random.key(0)
    state, r_int = jax.jit(bonus.reward)(bonus.init(key, xplore.RunSpec(env, 2, 3)), traj)
    running = 0.99 + 0.01 * 0.25
    expected = 2.0 / running * np.asarray([[0, 0.5], [0, 0], [1, 0]])
    np.testing.assert_allclose(r_int, expected, rtol=1e-5)
    _, metrics = bonus.update(key, state, traj)
    np.testing.assert_allclose(metrics["mean_change"], running, rtol=1e-6)


def test_the_template_is_short() -> None:
    assert len(TEMPLATE.read_text().splitlines()) <= 50
