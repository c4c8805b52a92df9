"""The diagnostic tasks against bsuite's own, with its draws replayed."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bsuite.environments.bandit import SimpleBandit
from bsuite.environments.cartpole import CartpoleState as TheirCartpoleState
from bsuite.environments.deep_sea import DeepSea as TheirDeepSea
from bsuite.environments.memory_chain import MemoryChain as TheirMemoryChain
from bsuite.environments.mountain_car import MountainCar as TheirMountainCar
from bsuite.environments.umbrella_chain import UmbrellaChain as TheirUmbrellaChain
from bsuite.experiments.cartpole_swingup import sweep as swingup_sweep
from bsuite.experiments.cartpole_swingup.cartpole_swingup import CartpoleSwingup as TheirSwingup

from xplore.envs.diagnostic.bsuite_bandit import BsuiteBandit, arm_rewards
from xplore.envs.diagnostic.cartpole_swingup import CartpoleState, CartpoleSwingup
from xplore.envs.diagnostic.deep_sea import DeepSea
from xplore.envs.diagnostic.memory_chain import MemoryChain, MemoryLevel
from xplore.envs.diagnostic.mountain_car import MountainCar, MountainCarState
from xplore.envs.diagnostic.umbrella_chain import UmbrellaChain, UmbrellaLevel

STEPS = 10_000
KEY = jax.random.key(0)


class Recorder:
    """A `RandomState` that keeps what it was asked for."""

    def __init__(self, seed):
        self.generator: Any = np.random.RandomState(seed)
        self.draws: list[tuple[str, Any]] = []

    def __getattr__(self, name):
        def draw(*args, **kwargs):
            value = getattr(self.generator, name)(*args, **kwargs)
            self.draws.append((name, value))
            return value

        return draw

    def take(self):
        taken, self.draws = self.draws, []
        return taken


def recorded(theirs: Any, seed: int) -> Any:
    theirs._rng = Recorder(seed)
    return theirs


def array(x: Any, dtype: Any) -> Any:
    return np.asarray(x, dtype)


class Record(NamedTuple):
    """`[T, ...]`: what upstream was in and did; `level` and `before` where a test needs them."""

    first: Any
    level: Any
    before: Any
    action: Any
    draws: Any
    first_obs: Any
    obs: Any
    reward: Any
    discount: Any
    last: Any
    after: Any
    logged: Any


def record(theirs, choose, *, level=None, draws=None, state=None, enter=None) -> Record:
    """Plays at least STEPS steps, to the end of an episode; `None` stands for what is not asked."""

    def nothing(*_):
        return 0

    level, draws, state = level or nothing, draws or nothing, state or nothing
    rows: list[tuple[Any, ...]] = []
    generator = np.random.default_rng(0)
    while len(rows) < STEPS:
        theirs._rng.take()
        first_obs = theirs.reset().observation
        if enter is not None:
            enter(theirs, generator)
            first_obs = theirs.observation
        of_start, first, ended = level(theirs, theirs._rng.take()), True, False
        while not ended:
            before, action = state(theirs), choose(theirs, generator)
            step = theirs.step(action)
            drawn = draws(theirs._rng.take())
            ended = step.last()
            seen = first_obs, step.observation, step.reward, step.discount, ended
            rows.append(
                (first, of_start, before, action, drawn, *seen, state(theirs), theirs.bsuite_info())
            )
            first = False
    return Record(
        *(jax.tree.map(lambda *x: np.stack(x), *column) for column in zip(*rows, strict=True))
    )


def replay(env, resolve, theirs: Record):
    """One compiled scan over the record, entering its levels: first observations, steps, told."""

    def step(state, row):
        first, level, action, draws = row
        start, first_obs = env.reset_to_level(KEY, level)
        state = jax.tree.map(lambda x, y: jnp.where(first, x, y), start, state)
        after, ts = resolve(state, action, draws)
        return after, (first_obs, ts, env.privileged(after))

    rows = jax.tree.map(
        jnp.asarray, (theirs.first, theirs.level, jnp.asarray(theirs.action), theirs.draws)
    )
    start, _ = env.reset_to_level(KEY, jax.tree.map(lambda x: x[0], rows[1]))
    scan = jax.jit(lambda start, rows: jax.lax.scan(step, start, rows)[1])
    return jax.tree.map(np.asarray, scan(start, rows))


def check(theirs: Record, first_obs, ts, *, rtol=0.0, atol=1e-6):
    first, shape = theirs.first, ts.obs.shape  # upstream's vectors are [1, D]
    expected = theirs.first_obs.reshape(shape)[first]
    np.testing.assert_allclose(first_obs[first], expected, rtol, atol)
    np.testing.assert_allclose(ts.obs, theirs.obs.reshape(shape), rtol, atol)
    np.testing.assert_allclose(ts.reward, theirs.reward, rtol, atol)
    np.testing.assert_array_equal(ts.terminated | ts.truncated, theirs.last)
    np.testing.assert_array_equal(ts.terminated, theirs.discount == 0.0)


def per_episode(theirs: Record, name: str) -> np.ndarray:
    """How much bsuite's running total grew by in each episode."""
    return np.diff(theirs.logged[name][theirs.last], prepend=0)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("size", [1, 5, 20])
def test_deep_sea(size, deterministic):
    theirs = recorded(TheirDeepSea(size, deterministic, mapping_seed=42), 3)

    def choose(env, generator):
        right = env._action_mapping[env._row, env._column]
        return right if generator.random() < 1 - 1 / (2 * size) else 1 - right

    def draws(drawn):
        drawn = dict(drawn)  # what was not drawn must not be read
        return np.float32(drawn.get("rand", np.nan)), np.float32(drawn.get("randn", np.nan))

    log = record(theirs, choose, draws=draws, level=lambda *_: np.uint32(0))
    env = DeepSea(size, deterministic)
    resolve = lambda state, action, draws: env.resolve(state, action, *draws)  # noqa: E731
    first_obs, ts, _ = replay(env, resolve, log)
    check(log, first_obs, ts)
    bad = ts.info["bad_episode"][log.last]
    np.testing.assert_array_equal(bad, per_episode(log, "total_bad_episodes"))
    assert 0 < bad.mean() < 1
    np.testing.assert_array_equal(ts.info["success"][log.last], per_episode(log, "denoised_return"))
    if not deterministic and size > 1:  # bad luck is no bad episode
        assert not (bad | ts.info["success"][log.last]).all()


@pytest.mark.parametrize(("seed", "arms"), [(0, 11), (19, 11), (3, 5)])
def test_bandit(seed, arms):
    theirs = recorded(SimpleBandit(mapping_seed=seed, num_actions=arms), 0)
    log = record(theirs, lambda _, generator: generator.integers(arms))
    log = log._replace(level=log.level.astype(np.uint32))
    env = BsuiteBandit(num_actions=arms, mapping_seed=seed)
    first_obs, ts, _ = replay(env, lambda state, action, _: env.step(KEY, state, action), log)
    check(log, first_obs, ts)
    np.testing.assert_allclose(ts.info["regret"], per_episode(log, "total_regret"), atol=1e-6)
    np.testing.assert_array_equal(ts.info["success"], log.action == theirs._rewards.argmax())
    np.testing.assert_allclose(arm_rewards(arms, seed), theirs._rewards, atol=1e-7)


@pytest.mark.parametrize(("length", "distractors"), [(1, 0), (2, 20), (10, 3), (50, 20)])
def test_umbrella_chain(length, distractors):
    theirs = recorded(TheirUmbrellaChain(length, distractors), 0)

    def level(_, drawn):
        (_, need), (_, have), (_, bits) = drawn
        return UmbrellaLevel(array(need, bool), array(have, bool), array(bits, bool))

    def draws(drawn):
        coin = drawn[0][1] if len(drawn) == 2 else 0  # none at the last step
        return np.bool_(coin), drawn[-1][1].astype(bool)

    log = record(theirs, lambda _, g: g.integers(2), level=level, draws=draws)
    env = UmbrellaChain(length, distractors)
    resolve = lambda state, action, draws: env.resolve(state, action, *draws)  # noqa: E731
    first_obs, ts, _ = replay(env, resolve, log)
    check(log, first_obs, ts)
    regret = ts.info["regret"][log.last]
    np.testing.assert_array_equal(regret, per_episode(log, "total_regret"))
    np.testing.assert_array_equal(ts.info["success"][log.last], regret == 0)
    assert not ts.info["success"][~log.last].any()


@pytest.mark.parametrize(("length", "bits"), [(1, 1), (1, 3), (2, 40), (10, 1), (100, 5)])
def test_memory_chain(length, bits):
    theirs = recorded(TheirMemoryChain(length, bits), 0)

    def level(env, drawn):
        (_, context), (_, query) = drawn
        return MemoryLevel(array(context, bool), array(query, np.int32))

    log = record(theirs, lambda _, g: g.integers(2), level=level)
    env = MemoryChain(length, bits)
    first_obs, ts, told = replay(env, lambda state, action, _: env.step(KEY, state, action), log)
    check(log, first_obs, ts)
    np.testing.assert_array_equal(ts.info["success"][log.last], per_episode(log, "total_perfect"))
    regret = ts.info["regret"]
    np.testing.assert_array_equal(regret[log.last], per_episode(log, "total_regret"))
    assert not regret[~log.last].any()
    assert told["position"][log.last].tolist() == [length + 1] * log.last.sum()


def of_car(env):
    return np.float64(env._position), np.float64(env._velocity), np.int32(env._timestep)


def swing_car(env, generator):
    """Pushes the way the car goes, mostly: reaches the goal in some hundred steps."""
    helpful = 2 if env._velocity >= 0 else 0
    return helpful if generator.random() < env.helpfulness else generator.integers(3)


def steps_from(env, make, log: Record):
    """The step from each of upstream's states: errors of 32 bits have one step to grow."""
    before = make(*(jnp.asarray(x) for x in log.before))
    step = jax.jit(jax.vmap(lambda state, action: env.step(KEY, state, action)))
    return jax.tree.map(np.asarray, step(before, jnp.asarray(log.action)))


@pytest.mark.parametrize("helpfulness", [0.0, 0.3, 0.9])
def test_mountain_car(helpfulness):
    theirs = recorded(TheirMountainCar(), 0)
    theirs.helpfulness = helpfulness
    level = lambda env, _: np.array([env._position, 0.0], np.float32)  # noqa: E731
    log = record(theirs, swing_car, level=level, state=of_car)
    env = MountainCar(sparse=False)
    after, ts = steps_from(env, MountainCarState, log)
    first_obs = jax.vmap(lambda level: env.reset_to_level(KEY, level)[1])(log.level)
    check(log, np.asarray(first_obs), ts, atol=1e-6)
    for ours, there in zip(after, log.after, strict=True):
        np.testing.assert_allclose(ours, there, atol=1e-6)
    success = log.after[0] >= 0.5
    np.testing.assert_array_equal(ts.info["success"], success)
    sparse = steps_from(MountainCar(), MountainCarState, log)[1]
    np.testing.assert_array_equal(sparse.reward, success)
    np.testing.assert_array_equal(sparse.terminated, ts.terminated)
    if helpfulness == 0.0:
        assert log.last.sum() == STEPS // 1000
        assert not success.any()
    else:
        assert success.any()
    # Whole episodes, too, from no more than their starts: the same ends, and nearly the same way.
    _, ts, _ = replay(env, lambda state, action, _: env.step(KEY, state, action), log)
    np.testing.assert_array_equal(ts.terminated, log.last)
    np.testing.assert_allclose(ts.obs, log.obs[:, 0], atol=2e-4)


def of_cart(env):
    zero = np.int32(0)
    state = env._state
    steps = np.int32(round(state.time_elapsed / env._timescale))
    return (*(np.float64(x) for x in state[:4]), steps, zero, zero)


def steer_cart(env, generator):
    """Balances a pole that is up, badly; pushes at random otherwise."""
    state = env._state
    theta = (state.theta + np.pi) % (2 * np.pi) - np.pi
    if abs(theta) > 0.7 or generator.random() < 0.05:
        return generator.integers(3)
    urge = 30 * theta + 6 * state.theta_dot + 0.5 * state.x + 1.5 * state.x_dot
    return 1 if abs(urge) < 1 else 1 + int(np.sign(urge))


def enter_upright(env, generator):
    """Half of the episodes start with the pole up, as no simple way of acting gets it there."""
    if generator.random() < 0.5:
        theta = generator.uniform(-0.1, 0.1) % (2 * np.pi)
        env._state = TheirCartpoleState(env._state.x, 0.0, theta, 0.0, 0.0)


@pytest.mark.parametrize("setting", [{}, *(swingup_sweep.SETTINGS[k] for k in (0, 10, 19))])
def test_cartpole_swingup(setting):
    theirs = recorded(TheirSwingup(**setting), 0)
    log = record(theirs, steer_cart, state=of_cart, enter=enter_upright)
    env = CartpoleSwingup(**setting)
    after, ts = steps_from(env, CartpoleState, log)
    first_obs = jax.vmap(env._observe)(CartpoleState(*(jnp.asarray(x) for x in log.before)))
    check(log, np.asarray(first_obs), ts, rtol=1e-5, atol=1e-5)
    for ours, there in zip(after[:4], log.after[:4], strict=True):
        np.testing.assert_allclose(ours, there, rtol=1e-5, atol=1e-5)
    upright = per_episode(log, "total_upright")
    assert ts.info["upright"].sum() == pytest.approx(upright.sum())
    assert (log.reward > 0).any()
    steps = np.diff(np.flatnonzero(log.last), prepend=-1)
    assert steps.max() == env.spec().max_steps == 1001
    assert steps.min() < 1001


def test_a_swing_up_is_an_episode_that_returns_more_than_100():
    theirs = recorded(TheirSwingup(), 1)
    log = record(theirs, steer_cart, state=of_cart, enter=enter_upright)
    env = CartpoleSwingup()

    def count(counters, row):
        first, before, action = row
        counters = tuple(jnp.where(first, 0, c) for c in counters)  # upstream has the motion
        after, ts = env.step(KEY, CartpoleState(*before[:5], *counters), action)
        return after[5:], ts.info

    rows = jax.tree.map(jnp.asarray, (log.first, log.before, log.action))
    zero = jnp.int32(0)
    info = jax.jit(lambda rows: jax.lax.scan(count, (zero, zero), rows)[1])(rows)
    ends = np.flatnonzero(log.last)
    returns = np.add.reduceat(log.reward, np.concatenate([[0], ends[:-1] + 1]))
    success = np.asarray(info["success"])
    np.testing.assert_array_equal(success[ends], returns > 100)
    assert 0 < success[ends].sum() < len(ends)
    assert success.sum() == success[ends].sum()
    np.testing.assert_array_equal(info["upright"][ends], per_episode(log, "total_upright"))
    best = np.maximum.accumulate(np.maximum(returns, 0))
    np.testing.assert_allclose(log.logged["best_episode"][ends], best)
