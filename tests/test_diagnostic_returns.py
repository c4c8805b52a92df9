"""The diagnostic tasks' stated returns: exact where they are finite, measured where not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bsuite.experiments.cartpole_swingup import sweep as swingup_sweep
from bsuite.experiments.deep_sea import sweep as deep_sea_sweep
from bsuite.experiments.memory_len import sweep as memory_len_sweep
from bsuite.experiments.memory_size import sweep as memory_size_sweep
from bsuite.experiments.umbrella_distract import sweep as distract_sweep
from bsuite.experiments.umbrella_length import sweep as length_sweep

import xplore
from xplore.contracts.errors import ConfigError
from xplore.envs.diagnostic.bsuite_bandit import BsuiteBandit
from xplore.envs.diagnostic.cartpole_swingup import CartpoleSwingup
from xplore.envs.diagnostic.deep_sea import DeepSea
from xplore.envs.diagnostic.memory_chain import MemoryChain
from xplore.envs.diagnostic.mountain_car import MountainCar
from xplore.envs.diagnostic.umbrella_chain import UmbrellaChain
from xplore.measure import oracle

KEY = jax.random.key(0)
FINITE: list[Any] = [
    BsuiteBandit(),
    BsuiteBandit(num_actions=3, mapping_seed=7),
    DeepSea(size=5),
    DeepSea(size=5, deterministic=False),
    DeepSea(size=1, deterministic=False),
    MemoryChain(memory_length=1, num_bits=3),
    MemoryChain(memory_length=6, num_bits=40),
    UmbrellaChain(chain_length=1, n_distractor=0),
    UmbrellaChain(chain_length=6, n_distractor=4),
]


def explore(env):
    """Every state that can be reached, by index, and what every action leads to from there.

    Returns the starts' probabilities `[S]`, states `[S, ...]`, and outcomes `[S, A, K]` with the
    indices of the states that follow.
    """
    spec = env.spec()
    num_states, num_actions = spec.privileged["index"].num, spec.action.num
    index = jax.jit(jax.vmap(lambda state: env.privileged(state)["index"]))

    @jax.jit
    def outcomes(states):
        def of(state, action):
            out = env.outcomes(state, action)
            return out, jax.vmap(lambda s: env.privileged(s)["index"])(out.state)

        actions = jnp.arange(num_actions)
        return jax.vmap(lambda s: jax.vmap(lambda a: of(s, a))(actions))(states)

    starts = env.starts()
    states, _ = jax.vmap(lambda level: env.reset_to_level(KEY, level))(starts.levels)
    first = np.asarray(index(states))
    start = np.bincount(first, np.asarray(starts.probability), num_states)
    table = jax.tree.map(lambda x: np.zeros((num_states, *x.shape[1:]), x.dtype), states)
    known = np.zeros(num_states, bool)

    def add(states, indices):
        for t, x in zip(jax.tree.leaves(table), jax.tree.leaves(states), strict=True):
            t[indices] = x
        known[indices] = True

    add(states, first)
    num_layers = 0
    while True:
        out, after = jax.tree.map(np.asarray, outcomes(table))
        going = known[:, None, None] & (out.probability > 0) & ~out.terminated
        before, num_layers = known.copy(), num_layers + 1
        add(jax.tree.map(lambda x: x[going], out.state), after[going])  # noqa: B023
        if (known == before).all():
            break
    assert num_layers == spec.num_layers
    return start, table, known, out, after


@pytest.mark.parametrize("env", FINITE, ids=str)
def test_outcomes_give_the_stated_returns(env):
    assert oracle.num_states(env) > 0
    start, _, known, out, after = explore(env)
    assert start.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(out.probability.sum(-1), 1.0, atol=1e-6)
    best = random = np.zeros(len(known))
    for _ in range(env.spec().num_layers):
        going = out.probability * ~out.terminated
        paid = (out.probability * out.reward).sum(-1)
        best = (paid + (going * best[after]).sum(-1)).max(-1)
        random = (paid + (going * random[after]).sum(-1)).mean(-1)
    assert start @ best == pytest.approx(env.optimal_return, abs=1e-6)
    assert start @ random == pytest.approx(env.random_return, abs=1e-6)


@pytest.mark.parametrize("env", FINITE, ids=str)
def test_outcomes_are_what_steps_do(env):
    """From every state: the frequency of what follows, the mean reward, and the ends."""
    _, table, known, out, after = explore(env)
    samples = 4000
    keys = jax.random.split(jax.random.key(1), samples)

    @jax.jit
    def sample(states):
        def one(key, state, action):
            state, ts = env.step(key, state, action)
            return env.privileged(state)["index"], ts.reward, ts.terminated

        actions = jnp.arange(env.spec().action.num)
        by_action = jax.vmap(one, (None, None, 0))
        by_state = jax.vmap(by_action, (None, 0, None))
        return jax.vmap(by_state, (0, None, None))(keys, states, actions)

    index, reward, terminated = jax.tree.map(np.asarray, sample(table))
    for state, action in np.ndindex(out.probability.shape[:2]):
        if not known[state]:
            continue
        here = state, action
        expected = (out.probability[here] * out.reward[here]).sum()
        assert reward[:, *here].mean() == pytest.approx(expected, abs=5 / np.sqrt(samples))
        assert terminated[:, *here].mean() == (out.probability * out.terminated)[here].sum()
        frequency = np.bincount(index[:, *here], minlength=len(known)) / samples
        probability = np.bincount(after[here], out.probability[here], len(known))
        np.testing.assert_allclose(frequency, probability, atol=2.5 / np.sqrt(samples))


@pytest.mark.parametrize("env", [UmbrellaChain(), MemoryChain(num_bits=5)], ids=str)
def test_the_starts_stand_for_all_levels(env):
    """By index, sampled levels are as frequent as the starts say."""
    levels = jax.jit(jax.vmap(env.sample_level))(jax.random.split(KEY, 4000))

    @jax.jit
    @jax.vmap
    def index(level):
        return env.privileged(env.reset_to_level(KEY, level)[0])["index"]

    starts = env.starts()
    num = env.spec().privileged["index"].num
    expected = np.bincount(index(starts.levels), starts.probability, num)
    frequency = np.bincount(index(levels), minlength=num) / 4000
    np.testing.assert_allclose(frequency, expected, atol=0.04)
    for leaf in jax.tree.leaves(levels):
        low, high = leaf.min(axis=0), leaf.max(axis=0)
        assert (low == 0).all()
        assert (high >= 1).all()


def random_returns(env, num_episodes):
    """Returns and successes of episodes with uniformly random actions."""
    alive, total, success = random_episodes(env, jax.random.split(KEY, num_episodes))
    assert not alive.any()
    return np.asarray(total), np.asarray(success)


@jax.jit
def random_episodes(env, keys):
    def episode(key):
        key_level, key = jax.random.split(key)
        state, _ = env.reset_to_level(KEY, env.sample_level(key_level))

        def step(carry, key):
            state, alive, total, success = carry
            key_action, key_step = jax.random.split(key)
            state, ts = env.step(key_step, state, env.spec().action.sample(key_action))
            total = total + jnp.where(alive, ts.reward, 0.0)
            success = success | (alive & ts.info["success"])
            return (state, alive & ~(ts.terminated | ts.truncated), total, success), None

        start = state, jnp.bool_(True), jnp.float32(0.0), jnp.bool_(False)
        keys = jax.random.split(key, env.spec().max_steps)
        (_, alive, total, success), _ = jax.lax.scan(step, start, keys)
        return alive, total, success

    return jax.vmap(episode)(keys)


def test_random_actions_do_not_find_the_goal_of_mountain_car():
    total, success = random_returns(MountainCar(), 4000)
    assert 2e-4 < success.mean() < 3e-3
    np.testing.assert_array_equal(total, success)
    assert random_returns(MountainCar(sparse=False), 500)[0].mean() == pytest.approx(-1000, abs=3)


@pytest.mark.parametrize("k", [None, 0, 19])
def test_random_actions_do_not_swing_up(k):
    env = xplore.make("CartpoleSwingup-v0" if k is None else f"CartpoleSwingup-{k}-v0")
    total, success = random_returns(env, 500)
    assert not success.any()
    assert total.mean() == pytest.approx(-36, abs=3)


def test_the_goal_of_mountain_car_can_be_reached_from_every_start():
    env = MountainCar()
    levels = jnp.stack([jnp.linspace(-0.6, -0.4, 101), jnp.zeros(101)], axis=1)

    def episode(level):
        def step(state, _):
            state, ts = env.step(KEY, state, jnp.where(state.velocity >= 0, 2, 0))
            return state, ts.info["success"]

        return jax.lax.scan(step, env.reset_to_level(KEY, level)[0], length=1000)[1].any()

    assert jax.jit(jax.vmap(episode))(levels).all()


@pytest.mark.parametrize(
    ("prefix", "sweep", "option"),
    [
        ("DeepSea", deep_sea_sweep, "size"),
        ("UmbrellaLength", length_sweep, "chain_length"),
        ("UmbrellaDistract", distract_sweep, "n_distractor"),
        ("MemoryLen", memory_len_sweep, "memory_length"),
        ("MemorySize", memory_size_sweep, "num_bits"),
    ],
)
def test_ids_are_of_bsuites_sweeps(prefix, sweep, option):
    settings = {setting[option]: dict(setting) for setting in sweep.SETTINGS}
    ids = [i for i in xplore.list_envs() if i.startswith(f"{prefix}-") and i != f"{prefix}-v0"]
    numbers = {int(i.split("-")[1]) for i in ids} - ({5} if prefix == "DeepSea" else set())
    assert numbers <= set(settings)
    if not prefix.startswith("Memory"):
        assert numbers == set(settings)
    for number in numbers:
        env = xplore.make(f"{prefix}-{number}-v0")
        for name, value in settings[number].items():
            assert getattr(env, name) == value


def test_the_other_ids():
    for k, setting in enumerate(swingup_sweep.SETTINGS):
        assert xplore.make(f"CartpoleSwingup-{k}-v0") == CartpoleSwingup(**setting)
    assert xplore.make("UmbrellaDistract-3-v0") == UmbrellaChain(20, 3)
    assert xplore.make("UmbrellaLength-3-v0") == UmbrellaChain(3, 20)
    assert xplore.make("MemorySize-5-v0") == MemoryChain(2, 5)
    assert xplore.make("DeepSeaStochastic-14-v0") == DeepSea(14, deterministic=False)
    assert xplore.make("MountainCarSparse-v0") == MountainCar()
    assert xplore.make("MountainCar-bsuite-v0") == MountainCar(sparse=False)
    assert xplore.make("Bandit-bsuite-v0") == BsuiteBandit()


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (BsuiteBandit, {"num_actions": 1}),
        (BsuiteBandit, {"mapping_seed": -1}),
        (UmbrellaChain, {"chain_length": 0}),
        (UmbrellaChain, {"n_distractor": -1}),
        (MemoryChain, {"memory_length": 0}),
        (MemoryChain, {"num_bits": 0}),
        (MountainCar, {"max_steps": 0}),
        (CartpoleSwingup, {"timescale": 0.0}),
        (CartpoleSwingup, {"x_threshold": -1.0}),
    ],
)
def test_impossible_options_are_refused(make, options):
    with pytest.raises(ConfigError, match=f"{make.__name__}: {next(iter(options))} is"):
        make(**options)
