"""The rollout: true successors, auto-reset by a gather, episode sums."""
# pyright: reportArgumentType=false

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import EnvSpec, LevelBatch, TimeStep
from xplore.loop import rollout as ro

NUM_ENVS, NUM_STEPS, NUM_STARTS = 3, 12, 4


@component
class Counter:
    """Observes (level, step); length n ends on step n; odd levels by a time limit."""

    def spec(self):
        return EnvSpec("counter", Box((2,)), Discrete(2), 9, privileged=Dict({"state": Box((2,))}))

    def sample_level(self, key):
        return jax.random.randint(key, (), 2, 6)

    def reset_to_level(self, key, level):
        state = jnp.stack([level.astype(jnp.float32), jnp.float32(0)])
        return state, state

    def step(self, key, state, action):
        state = state.at[1].add(1.0)
        ended = state[1] >= state[0]
        odd = state[0] % 2 == 1
        reward = state[1]
        return state, TimeStep(state, reward, ended & ~odd, ended & odd, {"success": ended & ~odd})

    def privileged(self, state):
        return {"state": state}


class Still:
    def act(self, key, state, carry, obs, first):
        # The carry counts steps since the episode began, if `first` says so rightly.
        carry = jnp.where(first, 0, carry) + 1
        return carry, jnp.zeros(obs.shape[0], jnp.int32), {"seen": obs}


def _run():
    env = Counter()
    lanes = ro.start(
        env, ("state",), jax.random.key(0), LevelBatch(jnp.array([2, 3, 5]), jnp.arange(3))
    )
    batch = LevelBatch(jnp.array([4, 2, 3, 5]), jnp.arange(10, 14, dtype=jnp.int32))
    starts = ro.start(env, ("state",), jax.random.key(0), batch)
    return ro.rollout(
        jax.random.key(1),
        env,
        Still(),
        ("state",),
        (),
        jnp.zeros(3, jnp.int32),
        lanes,
        starts,
        NUM_STEPS,
    )


def test_rollout_follows_a_reference_written_with_loops():
    carry, lanes, traj, metrics = _run()
    levels = [(2, 0), (3, 1), (5, 2)]
    queue = [(4, 10), (2, 11), (3, 12), (5, 13)]
    now, used = [0, 0, 0], 0
    for t in range(NUM_STEPS):
        ended = []
        for n in range(NUM_ENVS):
            length, level_id = levels[n]
            np.testing.assert_array_equal(traj.obs[t, n], [length, now[n]])
            np.testing.assert_array_equal(traj.next_obs[t, n], [length, now[n] + 1])
            np.testing.assert_array_equal(traj.privileged["state"][t, n], traj.obs[t, n])
            np.testing.assert_array_equal(traj.next_privileged["state"][t, n], traj.next_obs[t, n])
            assert traj.level_id[t, n] == level_id
            assert traj.first[t, n] == (now[n] == 0)
            now[n] += 1
            assert traj.reward[t, n] == now[n]
            assert traj.terminated[t, n] == (now[n] == length and length % 2 == 0)
            assert traj.truncated[t, n] == (now[n] == length and length % 2 == 1)
            if now[n] == length:
                ended.append(n)
        for n in ended:
            levels[n], now[n] = queue[used % NUM_STARTS], 0
            used += 1
    assert float(metrics["resets"]) == used
    assert float(metrics["reuse"]) == used / NUM_STARTS > 1  # the queue was gone through twice
    np.testing.assert_array_equal(
        lanes.obs, [[le[0], s] for le, s in zip(levels, now, strict=True)]
    )
    np.testing.assert_array_equal(lanes.first, np.array(now) == 0)
    # An env that has just been reset still carries its last episode's count: `first` clears it.
    assert [int(c) for c, s in zip(carry, now, strict=True) if s] == [s for s in now if s]


def test_episode_metrics_average_over_ended_episodes_and_carry_the_rest():
    _, _, traj, _ = _run()
    sums = ro.no_episodes(NUM_ENVS, ("success",))
    r_int = jnp.ones_like(traj.reward)
    whole_sums, whole = ro.episode_metrics(sums, traj, r_int)
    half = jax.tree.map(lambda x: x[: NUM_STEPS // 2], traj._replace(carry=()))
    rest = jax.tree.map(lambda x: x[NUM_STEPS // 2 :], traj._replace(carry=()))
    sums, one = ro.episode_metrics(sums, half, r_int[: NUM_STEPS // 2])
    sums, two = ro.episode_metrics(sums, rest, r_int[NUM_STEPS // 2 :])
    for a, b in zip(jax.tree.leaves(sums), jax.tree.leaves(whole_sums), strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(one["count"] + two["count"]) == float(whole["count"])
    total = sum(float(m["return"] * m["count"]) for m in (one, two))
    np.testing.assert_allclose(total, float(whole["return"] * whole["count"]), rtol=1e-6)
    np.testing.assert_allclose(whole["intrinsic"], whole["length"])


def test_no_episode_end_means_nan_not_zero():
    _, _, traj, _ = _run()
    start = jax.tree.map(lambda x: x[:1], traj._replace(carry=()))
    _, metrics = ro.episode_metrics(ro.no_episodes(NUM_ENVS, ("success",)), start, start.reward)
    assert np.isnan(metrics["return"])
    assert float(metrics["count"]) == 0
