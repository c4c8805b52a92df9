"""gymnax's environments under our contract, and ours under gymnax's API."""

from __future__ import annotations

import subprocess
import sys
from urllib.error import URLError

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces as gymnax_spaces
from gymnax.utils import load_mnist
from gymnax.wrappers.purerl import LogWrapper

import xplore
from xplore.compat import gymnax as compat
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError, UnknownIdError
from xplore.contracts.spaces import Box, Dict, Discrete, Symbolic, contains
from xplore.contracts.types import Environment
from xplore.testing import check_env

MNIST = "MNISTBandit-bsuite"


@pytest.fixture
def fresh():
    """What one test fakes, another must not find."""
    compat._load.cache_clear()
    yield
    compat._load.cache_clear()


def test_every_environment_of_gymnax_is_registered():
    assert sorted(compat.GYMNAX_IDS) == sorted(gymnax.registered_envs)
    ours = {id for id in xplore.list_envs() if id.startswith("gymnax/")}
    assert ours == {f"gymnax/{id}" for id in gymnax.registered_envs}


def test_gymnax_is_imported_only_when_an_environment_is_made():
    code = (
        "import sys, xplore; xplore.list_envs();"
        "assert 'xplore.compat.gymnax' in sys.modules;"
        "assert 'gymnax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "id",
    [
        "CartPole-v1",
        "Pendulum-v1",
        "UmbrellaChain-bsuite",
        "FourRooms-misc",
        "FrozenLake-misc",
    ],
)
def test_episodes_are_those_of_gymnax(id):
    """Same keys, same actions: gymnax's own `step`, with its auto-reset undone, tells the same."""
    theirs, params = gymnax.make(id)
    env = xplore.make(f"gymnax/{id}")
    num_steps = 40

    def both(key):
        key_reset, key_roll = jax.random.split(key)
        their_obs, their_state = theirs.reset(key_reset, params)
        state, obs = env.reset_to_level(key, env.sample_level(key_reset))

        def step(loop, key):
            their_state, state, ended = loop
            key_action, key_step = jax.random.split(key)
            action = env.spec().action.sample(key_action)
            # gymnax splits the key it is given: the first half goes to the dynamics.
            _, their_next, *told, info = theirs.step(key_step, their_state, action, params)
            state, ts = env.step(jax.random.split(key_step)[0], state, action)
            reward, terminated, truncated = told
            told = (reward, terminated, truncated & ~terminated, info["final_observation"])
            mine = (ts.reward, ts.terminated, ts.truncated, ts.obs)
            after = ended | terminated | truncated
            return (their_next, state, after), (ended, told, mine)

        keys = jax.random.split(key_roll, num_steps)
        ended, told, mine = jax.lax.scan(
            step, (compat._strong(their_state), state, jnp.zeros((), bool)), keys
        )[1]
        return their_obs, obs, ended, told, mine

    with jax.numpy_rank_promotion("allow"):
        outputs = jax.jit(jax.vmap(both))(jax.random.split(jax.random.key(0), 8))
    their_obs, obs, ended, told, mine = jax.tree.map(np.asarray, outputs)
    np.testing.assert_allclose(their_obs, obs, rtol=1e-6)
    for theirs_, ours in zip(told, mine, strict=True):
        np.testing.assert_allclose(theirs_[~ended], ours[~ended], rtol=1e-5, atol=1e-6)


def test_cartpole_is_truncated_at_its_time_limit_with_success():
    env = compat.from_gymnax("CartPole-v1", max_steps_in_episode=5)
    assert env.spec().max_steps == 5
    assert not env.spec().stochastic
    state, _ = env.reset_to_level(jax.random.key(0), env.sample_level(jax.random.key(1)))
    step = jax.jit(env.step)
    flags = []
    for time in range(5):
        state, ts = step(jax.random.key(0), state, jnp.int32(time % 2))
        flags.append((bool(ts.terminated), bool(ts.truncated), bool(ts.info["success"])))
    assert flags == [(False, False, False)] * 4 + [(False, True, True)]


def test_deep_sea_terminates_only():
    env = compat.from_gymnax("DeepSea-bsuite")
    state, _ = env.reset_to_level(jax.random.key(0), env.sample_level(jax.random.key(1)))
    step = jax.jit(env.step)
    flags = []
    for _ in range(8):
        state, ts = step(jax.random.key(0), state, jnp.int32(0))
        flags.append((bool(ts.terminated), bool(ts.truncated)))
    assert flags == [(False, False)] * 7 + [(True, False)]


def reaches_outputs(id: str) -> bool:
    """Whether the step's key can reach what the step returns, by the traced program."""
    env = xplore.make(f"gymnax/{id}")
    key = jax.random.key(0)
    state, _ = jax.eval_shape(lambda k: env.reset_to_level(k, env.sample_level(k)), key)
    action = jax.eval_shape(env.spec().action.sample, key)
    jaxpr = jax.make_jaxpr(env.step)(key, state, action).jaxpr
    needed = {v for v in jaxpr.outvars if not hasattr(v, "val")}
    for eqn in reversed(jaxpr.eqns):
        if needed & set(eqn.outvars):
            needed |= {v for v in eqn.invars if not hasattr(v, "val")}
    return jaxpr.invars[0] in needed


# They draw from the key and discard it: Acrobot's noise is 0, DeepSea is deterministic, Catch draws
# for the episode after this one. `check_env` sees their steps ignore the key.
DISCARDS = {"Acrobot-v1", "DeepSea-bsuite", "Catch-bsuite"}


@pytest.mark.parametrize("id", [i for i in compat.GYMNAX_IDS if i != MNIST])
def test_stochastic_is_what_the_program_says(id):
    assert reaches_outputs(id) == (id in compat._STOCHASTIC or id in DISCARDS)
    assert xplore.make(f"gymnax/{id}").spec().stochastic == (id in compat._STOCHASTIC)


def test_spaces():
    assert xplore.make("gymnax/CartPole-v1").spec().observation == Box((4,))
    assert xplore.make("gymnax/Catch-bsuite").spec().observation == Box((10, 5), "int32", 0.0, 1.0)
    pendulum = xplore.make("gymnax/Pendulum-v1").spec()
    assert pendulum.action == Box((1,), "float32", -2.0, 2.0)
    assert pendulum.observation == Box((3,), "float32", -8.0, 8.0)
    lake = xplore.make("gymnax/FrozenLake-misc").spec()
    assert (lake.observation, lake.action) == (Discrete(16), Discrete(4))
    both = gymnax_spaces.Dict({"a": gymnax_spaces.Discrete(3), "b": gymnax_spaces.Box(0, 1, (2,))})
    assert compat._from_space(both) == Dict({"a": Discrete(3), "b": Box((2,), "float32", 0.0, 1.0)})
    with pytest.raises(ConfigError, match="no counterpart"):
        compat._from_space(gymnax_spaces.Tuple([gymnax_spaces.Discrete(3)]))


def test_positions_are_where_the_agent_is():
    env = xplore.make("gymnax/FourRooms-misc")
    state, obs = env.reset_to_level(jax.random.key(0), env.sample_level(jax.random.key(0)))
    assert env.spec().privileged["position"] == Discrete(13 * 13)
    assert int(env.privileged(state)["position"]) == int(obs[0]) * 13 + int(obs[1])


def test_an_environment_can_be_made_while_tracing(fresh):
    def reset(key):
        env = compat.from_gymnax("DeepSea-bsuite")  # its constructor draws random numbers
        return env.reset_to_level(key, env.sample_level(key))[1]

    jax.jit(reset)(jax.random.key(0))
    env = compat.from_gymnax("DeepSea-bsuite")
    state, _ = env.reset_to_level(jax.random.key(0), env.sample_level(jax.random.key(0)))
    env.step(jax.random.key(0), state, jnp.int32(0))  # a leaked tracer would raise


def test_unknown_names_are_refused():
    with pytest.raises(UnknownIdError, match="did you mean 'CartPole-v1'"):
        compat.from_gymnax("CartPol-v1")
    with pytest.raises(ConfigError, match="did you mean 'max_steps_in_episode'"):
        compat.from_gymnax("CartPole-v1", max_steps=3)


def test_mnist_without_its_files_is_a_clear_error(monkeypatch, fresh):
    def fail(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(load_mnist, "load_mnist", fail)
    with pytest.raises(ConfigError, match="cannot be downloaded"):
        xplore.make(f"gymnax/{MNIST}")


def test_mnist_with_its_files(monkeypatch, fresh):
    rng = np.random.default_rng(0)
    images = rng.integers(-128, 128, (20, 28, 28)).astype(np.int8)
    labels = rng.integers(0, 10, 20).astype(np.uint8)
    monkeypatch.setattr(load_mnist, "load_mnist", lambda: ((images, labels), (images, labels)))
    env = xplore.make(f"gymnax/{MNIST}")
    assert env.spec().action == Discrete(10)
    check_env(env, num_steps=16, thorough=False)


@component
class DictEnv:
    """A wrapper whose observation is a dict, with symbols."""

    inner: Environment

    def spec(self):
        spec = self.inner.spec()
        cell = Symbolic((2, 2), (3, 5))
        return xplore.EnvSpec(
            spec.name, Dict({"where": spec.observation, "cell": cell}), spec.action, spec.max_steps
        )

    def _dress(self, obs):
        return {"where": obs, "cell": jnp.zeros((2, 2), jnp.uint8)}

    def sample_level(self, key):
        return self.inner.sample_level(key)

    def reset_to_level(self, key, level):
        state, obs = self.inner.reset_to_level(key, level)
        return state, self._dress(obs)

    def step(self, key, state, action):
        state, ts = self.inner.step(key, state, action)
        return state, ts._replace(obs=self._dress(ts.obs))

    def privileged(self, state):
        return {}


def test_ours_rolls_out_under_gymnax():
    size = 4
    env, params = compat.to_gymnax(xplore.make("DeepSea-v0", size=size, randomize_actions=False))
    assert params.max_steps_in_episode == size
    assert env.num_actions == env.action_space(params).n == 2
    assert env.observation_space(params).shape == (size, size)

    def step(loop, key):
        obs, state = loop
        action = jnp.int32(1)
        obs, state, reward, terminated, truncated, info = env.step(key, state, action, params)
        return (obs, state), (obs, reward, terminated, truncated, info)

    start = env.reset(jax.random.key(0), params)
    keys = jax.random.split(jax.random.key(1), 3 * size)
    obs, reward, terminated, truncated, info = jax.lax.scan(step, start, keys)[1]
    ends = np.arange(3 * size) % size == size - 1
    np.testing.assert_array_equal(terminated, ends)
    assert not np.any(truncated)
    np.testing.assert_allclose(reward, ends - 0.01 / size, atol=1e-6)
    np.testing.assert_array_equal(obs[ends], np.broadcast_to(start[0], (3, size, size)))
    np.testing.assert_array_equal(info["final_observation"][ends], 0.0)
    np.testing.assert_array_equal(info["final_observation"][~ends], obs[~ends])
    np.testing.assert_array_equal(info["success"], ends)
    np.testing.assert_array_equal(info["discount"], ~ends)


def test_params_can_shorten_episodes_and_default():
    env, params = compat.to_gymnax(xplore.make("DeepSea-v0", size=5))
    _, state = env.reset(jax.random.key(0))
    for time, expected in enumerate((False, True)):
        short = params.replace(max_steps_in_episode=2)
        told = env.step(jax.random.key(time), state, jnp.int32(0), short)
        state = told[1]
        assert (bool(told[3]), bool(told[4])) == (False, expected)
    assert int(state.time) == 0


def test_gymnax_takes_ours_as_its_own():
    ours = xplore.make("Probe-ChoiceByObservation-v0")
    gymnax.register("xplore/Choice", lambda: compat.to_gymnax(ours)[0])
    try:
        env, params = gymnax.make("xplore/Choice")
        logged = LogWrapper(env)
        obs, state = logged.reset(jax.random.key(0), params)
        right = jnp.int32(obs[0] > 0)
        *_, info = logged.step(jax.random.key(1), state, right, params)
        assert float(info["returned_episode_returns"]) == 1.0
        # And back: what was ours is ours again.
        again = compat.from_gymnax("xplore/Choice")
        check_env(again, num_steps=16, thorough=False)
        assert again.spec().action == ours.spec().action
    finally:
        gymnax.registration._registry.pop("xplore/Choice")
        gymnax.registered_envs.remove("xplore/Choice")


def test_spaces_of_ours_under_gymnax():
    env, params = compat.to_gymnax(DictEnv(xplore.make("DeepSea-v0", size=3)))
    space = env.observation_space(params)
    obs, _ = env.reset(jax.random.key(0))
    assert sorted(space.spaces) == sorted(obs) == ["cell", "where"]
    assert space.spaces["cell"].high.tolist() == [[2, 4], [2, 4]]
    with jax.numpy_rank_promotion("allow"):
        assert contains(env.env.spec().observation, obs)
    pendulum, _ = compat.to_gymnax(xplore.make("gymnax/Pendulum-v1"))
    assert pendulum.num_actions == 1
    assert pendulum.action_space().shape == (1,)


def test_equal_adapters_share_a_compilation():
    first, _ = compat.to_gymnax(xplore.make("DeepSea-v0", size=6))
    second, _ = compat.to_gymnax(xplore.make("DeepSea-v0", size=6))
    assert first == second
    assert hash(first) == hash(second)
