"""PQN with a memory: learning replays acting, and forgets at `first`."""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.agents.pqn_rnn import PQNRNN
from xplore.contracts.errors import ConfigError
from xplore.contracts.types import RunSpec
from xplore.loop import rollout as ro
from xplore.parts.levels import held_out_ids, levels_from_ids
from xplore.parts.returns import lambda_returns
from xplore.testing._programs import compiled

NUM_ENVS, NUM_STEPS = 4, 8


@pytest.fixture(scope="module")
def acted():
    """An agent, its second rollout, and what learning makes of that."""
    env = xplore.make("MemoryChain-v0", memory_length=3)
    agent = PQNRNN(
        num_minibatches=1, memory_size=8, hidden_sizes=(8, 8), last_reward=True, discount=0.9
    )
    run = RunSpec(env.spec(), NUM_ENVS, NUM_STEPS)

    @compiled
    def program(key):
        keys = jax.random.split(key, 4)
        state = agent.init(keys[0], run)
        starts = ro.start(env, (), keys[1], levels_from_ids(env, held_out_ids(0, 16)))
        lanes = jax.tree.map(lambda x: x[:NUM_ENVS], starts)
        carry = agent.initial_carry(NUM_ENVS)

        def rollout(carry, lanes, key):
            return ro.rollout(key, env, agent, (), state, carry, lanes, starts, NUM_STEPS)

        # Three steps and the rest of an episode: the second rollout begins within one.
        carry, lanes, _, _ = ro.rollout(
            keys[2], env, agent, (), state, carry, lanes, starts, NUM_STEPS - 3
        )
        carry, _, traj, _ = rollout(carry, lanes, keys[3])
        segments = agent._segments(state, traj, jnp.zeros_like(traj.reward))
        replayed = state.network.apply(
            state.params, *jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), segments[:3]),
            segments.memory,
        )  # fmt: skip
        return state, carry, traj, segments, replayed

    return agent, *program(jax.random.key(0))


def test_learning_starts_from_what_acting_had(acted):
    _, _, carry, traj, segments, (values, memory) = acted
    first = np.asarray(traj.first)
    assert not first[0].all()
    assert first[1:].any()
    np.testing.assert_allclose(values.max(axis=-1), traj.extras.value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(memory, traj.extras.memory, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(carry.memory, traj.extras.memory[-1])
    np.testing.assert_array_equal(carry.last.action, traj.action[-1])
    # What is told is the last action, but at the start of an episode.
    told = np.asarray(segments.told).swapaxes(0, 1)
    np.testing.assert_array_equal(told[first], 0.0)
    t, n = np.argwhere(~first[1:])[0]
    assert told[t + 1, n, int(traj.action[t, n])] == 1.0


def test_targets_are_lambda_returns(acted):
    agent, _, _, traj, segments, _ = acted
    t = jax.tree.map(np.asarray, traj)
    target, value = np.asarray(segments.target).T, t.extras.value
    ended = t.terminated | t.truncated
    following = np.zeros(NUM_ENVS)
    for step in reversed(range(NUM_STEPS - 1)):
        goes_on = ~ended[step]
        mixed = agent.trace * target[step + 1] + (1 - agent.trace) * value[step + 1]
        following = t.reward[step] + agent.discount * mixed
        np.testing.assert_allclose(target[step][goes_on], following[goes_on], atol=1e-5)
        done = t.terminated[step]
        np.testing.assert_allclose(target[step][done], t.reward[step][done], atol=1e-6)


def test_quantiles_are_mixed_by_their_numbers():
    rng = np.random.default_rng(0)
    reward, ends = rng.normal(size=(5, 2)), rng.random((2, 5, 2)) < 0.2
    value, following = rng.normal(size=(2, 5, 2, 3, 4))
    settings = {"discount": 0.9, "trace": 0.7}
    found = lambda_returns(reward, value, following, *ends, **settings)
    assert found.shape == value.shape
    one = lambda_returns(reward, value[..., 2, 1], following[..., 2, 1], *ends, **settings)
    np.testing.assert_allclose(found[..., 2, 1], one, rtol=1e-5)
    means = lambda_returns(reward, value.mean(-1), following.mean(-1), *ends, **settings)
    np.testing.assert_allclose(found.mean(-1), means, rtol=1e-4, atol=1e-6)


def test_refusals():
    with pytest.raises(ConfigError, match="pqn_rnn has no noisy layers"):
        PQNRNN(exploration="noisy")
    with pytest.raises(ConfigError, match="pqn_rnn: memory_size is 0"):
        PQNRNN(memory_size=0)
