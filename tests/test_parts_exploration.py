"""How agents depart from their best action: how often, in which envs, and for how long."""
# pyright: reportArgumentType=false

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.agents.pqn import PQN
from xplore.contracts.errors import ConfigError
from xplore.parts.exploration import epsilon_at, explore, ladder, no_repeats

A, N, T = 5, 512, 100


def acted(kind, best, first, **options):
    """What T steps of N envs do, and how long they will still repeat it, `[T, N]`."""
    options = {
        "exploration": kind, "epsilon_start": 0.2, "epsilon_end": 0.2, "epsilon_steps": 1,
        "ladder_power": 7.0, "zeta_exponent": 2.0, "max_duration": 30, "stickiness": 0.25,
        **options,
    }  # fmt: skip

    def step(carry, x):
        key, best, first = x
        carry, action = explore(
            key, SimpleNamespace(**options), carry, best, first,
            num_actions=A, env_steps=jnp.int32(0),
        )  # fmt: skip
        return carry, (action, carry.left)

    xs = (jax.random.split(jax.random.key(0), T), best, first)
    run = jax.jit(lambda xs: jax.lax.scan(step, no_repeats(best.shape[1]), xs)[1])
    return [np.asarray(x) for x in run(xs)]


@pytest.fixture(scope="module")
def steps():
    """Best actions that never stay the same for two steps, and starts of episodes."""
    best = jnp.broadcast_to((jnp.arange(T) % A)[:, None], (T, N)).astype(jnp.int32)
    first = jax.random.bernoulli(jax.random.key(1), 0.02, (T, N)).at[0].set(True)
    return best, first


def test_epsilon_and_its_ladder(steps):
    best, first = steps
    action, left = acted("epsilon", best, first)
    assert np.mean(action != best) == pytest.approx(0.2 * (1 - 1 / A), abs=0.01)
    assert not left.any()
    off = np.mean(acted("ladder", best, first, epsilon_start=0.5)[0] != best, axis=0)
    expected = 0.5 ** (1 + 7 * np.arange(N) / (N - 1)) * (1 - 1 / A)
    np.testing.assert_allclose(ladder(0.5, 7.0, N) * (1 - 1 / A), expected, rtol=1e-5)
    for part in np.split(np.arange(N), 8):
        assert np.mean(off[part]) == pytest.approx(np.mean(expected[part]), abs=0.02)
    assert ladder(0.5, 7.0, 1).tolist() == [0.5]


def test_epsilon_falls_and_then_stays():
    agent = PQN(epsilon_start=0.9, epsilon_end=0.1, epsilon_steps=100)
    found = [float(epsilon_at(agent, jnp.int32(n))) for n in (0, 50, 100, 1000)]
    assert found == pytest.approx([0.9, 0.5, 0.1, 0.1])


def test_epsilon_z_repeats_for_as_long_as_was_drawn(steps):
    best, first = steps
    first = np.asarray(first)
    action, left = acted("epsilon_z", best, jnp.asarray(first))
    before = np.concatenate([np.zeros((1, N), int), left[:-1]])
    goes_on = (before > 0) & ~first
    np.testing.assert_array_equal(left[goes_on], before[goes_on] - 1)
    np.testing.assert_array_equal(action[1:][goes_on[1:]], action[:-1][goes_on[1:]])
    # Where nothing went on, steps with left > 0 begin a repetition of left + 1 steps.
    begun = left[~goes_on]
    weights = np.arange(1, 31.0) ** -2
    weights /= weights.sum()
    found = np.bincount(begun, minlength=30) / begun.size
    np.testing.assert_allclose(found[1:6], 0.2 * weights[1:6], rtol=0.15)
    assert begun.max() < 30
    expected = 0.2 * weights[7:].sum()
    assert np.mean(begun >= 7) == pytest.approx(expected, rel=0.15)
    assert first[1:].sum() > 100
    assert (before[first] > 0).any()  # so that being cut off was seen


def test_sticky_actions_stick_within_an_episode(steps):
    best, first = steps
    action, _ = acted("sticky", best, first, epsilon_start=0.0, epsilon_end=0.0)
    first = np.asarray(first)
    stuck = action != best
    assert not stuck[first].any()
    assert np.mean(stuck[~first]) == pytest.approx(0.25, abs=0.01)
    np.testing.assert_array_equal(action[1:][stuck[1:]], action[:-1][stuck[1:]])


def test_noisy_networks_are_not_disturbed(steps):
    np.testing.assert_array_equal(acted("noisy", *steps)[0], steps[0])


def test_refusals():
    with pytest.raises(ConfigError, match=r"pqn: exploration is 'epsilonz'; did you mean 'epsilon"):
        PQN(exploration="epsilonz")
    with pytest.raises(ConfigError, match="epsilon_steps is 0"):
        PQN(epsilon_steps=0)
    with pytest.raises(ConfigError, match="max_duration is 0"):
        PQN(max_duration=0)
