"""The replay: n-step transitions against a loop, wrap-around, warm-up, the target's period."""
# pyright: reportArgumentType=false

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Discrete, Symbolic
from xplore.contracts.types import EnvSpec, RunSpec, Trajectory
from xplore.parts.replay import (
    Replay,
    Transition,
    check_replay,
    descend,
    n_step_transitions,
    unlearned,
)

ENV = EnvSpec("grid", Symbolic((2, 2, 1), (200,)), Discrete(3), 9)


def random_trajectory(num_steps=7, num_envs=5):
    rng = np.random.default_rng(0)
    shape = (num_steps, num_envs)
    truncated = rng.random(shape) < 0.2
    terminated = ~truncated & (rng.random(shape) < 0.2)
    obs, next_obs = rng.integers(0, 200, (2, *shape, 2, 2, 1)).astype(np.uint8)
    return Trajectory(
        jnp.asarray(obs), jnp.asarray(rng.integers(0, 3, shape), jnp.int32),
        jnp.asarray(rng.normal(size=shape), jnp.float32), jnp.asarray(next_obs),
        jnp.asarray(terminated), jnp.asarray(truncated),
        None, None, {}, {}, {}, (), (),
    )  # fmt: skip


@pytest.mark.parametrize("n", [1, 3, 20])
def test_n_step_transitions_against_a_loop(n):
    traj = random_trajectory()
    rows = n_step_transitions(traj, traj.reward, num_steps=n, discount=0.9)
    rows, traj = jax.tree.map(np.asarray, (rows, traj))
    length, num_envs = traj.reward.shape
    for t in range(length):
        for env in range(num_envs):
            total, scale, k = 0.0, 1.0, t
            while True:
                total += scale * float(traj.reward[k, env])
                scale *= 0.9
                ended = traj.terminated[k, env] | traj.truncated[k, env]
                if ended or k + 1 in (length, t + n):
                    break
                k += 1
            row = jax.tree.map(lambda x, i=t * num_envs + env: x[i], rows)
            assert float(row.reward) == pytest.approx(total, abs=1e-5)
            nothing = bool(traj.terminated[k, env])
            assert float(row.discount) == pytest.approx(0.0 if nothing else scale, abs=1e-6)
            np.testing.assert_array_equal(row.next_obs, traj.next_obs[k, env])
            np.testing.assert_array_equal(row.obs, traj.obs[t, env])
            assert int(row.action) == int(traj.action[t, env])


def numbered(start, num):
    """Transitions whose rewards are their numbers."""
    number = jnp.arange(start, start + num, dtype=jnp.float32)
    obs = jnp.broadcast_to(number.astype(jnp.uint8)[:, None, None, None], (num, 2, 2, 1))
    return Transition(obs, number.astype(jnp.int32), number, number, obs, ())


def test_the_oldest_make_room_and_rows_stay_together():
    replay = Replay(size=8, batch_size=8, warmup_steps=5)
    state = replay.init(ENV)
    add, sample = jax.jit(replay.add), jax.jit(jax.vmap(replay.sample, in_axes=(None, 0)))
    stored = 0
    for start in (0, 3, 6, 9, 12, 15):
        state = add(state, numbered(start, 3))
        stored = start + 3
        assert bool(replay.ready(state)) == (stored >= 5)
        batch = sample(state, jax.random.split(jax.random.key(start), 32))
        batch = jax.tree.map(lambda x: x.reshape(256, *x.shape[2:]), batch)
        seen = set(np.asarray(batch.reward).astype(int).tolist())
        assert seen == set(range(max(0, stored - 8), stored))
        assert batch.obs.dtype == jnp.uint8
        for leaf in (
            batch.action,
            batch.discount,
            batch.obs[:, 1, 0, 0],
            batch.next_obs[:, 0, 0, 0],
        ):
            np.testing.assert_array_equal(leaf.astype(jnp.float32), batch.reward)


def test_nothing_is_learned_before_the_warm_up_is_over():
    replay = Replay(size=16, batch_size=4, warmup_steps=6)

    def step(count, batch, key):
        return count + 1, {"reward": jnp.mean(batch.reward)}

    state = replay.add(replay.init(ENV), numbered(0, 3))
    for expected in (0, 5):
        count, metrics = replay.learn(jax.random.key(0), state, jnp.int32(0), step, 5)
        assert int(count) == expected
        assert np.isfinite(metrics["reward"])
        state = replay.add(state, numbered(3, 3))


def test_the_target_is_a_copy_of_every_third_step():
    learned = unlearned(jnp.float32(0.0), optax.sgd(1.0))
    seen = []
    for _ in range(7):
        learned = descend(learned, jnp.float32(-1.0), optax.sgd(1.0), 3)
        seen.append((float(learned.params), float(learned.target_params)))
    assert seen == [(1, 0), (2, 0), (3, 3), (4, 3), (5, 3), (6, 6), (7, 6)]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((100, 10, 0), r"8 envs \* 16 steps = 128 does not fit a replay of 100: .*=256"),
        ((128, 0, 0), "batch_size is 0"),
        ((128, 129, 0), "at most replay_size, 128"),
        ((128, 10, 200), "warmup_steps 200 must be at most"),
    ],
)
def test_refusals(sizes, said):
    with pytest.raises(ConfigError, match=said):
        check_replay("dqn", Replay(*sizes), RunSpec(ENV, 8, 16))
