"""gymnax, both ways: its 26 environments as ours, and ours under its API.

gymnax is imported when an environment is made, not when this module is: its import costs seconds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError, UnknownIdError, did_you_mean
from xplore.contracts.registry import register_env
from xplore.contracts.spaces import Box, Dict, Discrete, Space, Symbolic
from xplore.contracts.types import Environment, EnvSpec, Key, PyTree, TimeStep

_MNIST_ID = "MNISTBandit-bsuite"

# Held against `gymnax.registered_envs` by a test.
GYMNAX_IDS = (
    "CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0",
    "Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar",
    "SpaceInvaders-MinAtar", "Catch-bsuite", "DeepSea-bsuite", "MemoryChain-bsuite",
    "UmbrellaChain-bsuite", "DiscountingChain-bsuite", _MNIST_ID, "SimpleBandit-bsuite",
    "FourRooms-misc", "MetaMaze-misc", "PointRobot-misc", "BernoulliBandit-misc",
    "GaussianBandit-misc", "Reacher-misc", "Swimmer-misc", "Pong-misc", "FrozenLake-misc",
)  # fmt: skip

# With gymnax's own parameters the step of the others does not depend on its key within an episode
# (some draw from it and discard the draw). A test holds this against the traced programs.
_STOCHASTIC = {
    "Asterix-MinAtar",
    "Freeway-MinAtar",
    "Seaquest-MinAtar",
    "UmbrellaChain-bsuite",
    "FourRooms-misc",
    "MetaMaze-misc",
    "PointRobot-misc",
    "BernoulliBandit-misc",
    "GaussianBandit-misc",
    "FrozenLake-misc",
}

# Where gymnax's observations leave the bounds that it declares: bounds that hold.
_TRUE_BOUNDS: dict[str, tuple[float, float]] = {
    "MemoryChain-bsuite": (-1.0, 2.0),  # the context is shown as -1 or 1
    "GaussianBandit-misc": (-math.inf, math.inf),  # the last reward is part of it
    _MNIST_ID: (-1.0, 1.0),  # its pixels are read as signed bytes
}


def _at_end(reward: jax.Array, terminated: jax.Array, truncated: jax.Array) -> jax.Array:
    return terminated


def _paid(reward: jax.Array, terminated: jax.Array, truncated: jax.Array) -> jax.Array:
    return reward > 0


def _paid_at_end(reward: jax.Array, terminated: jax.Array, truncated: jax.Array) -> jax.Array:
    return terminated & (reward > 0)


def _lasted(reward: jax.Array, terminated: jax.Array, truncated: jax.Array) -> jax.Array:
    return truncated


_SUCCESS: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "CartPole-v1": _lasted,
    "Acrobot-v1": _at_end,
    "MountainCar-v0": _at_end,
    "MountainCarContinuous-v0": _at_end,
    "Catch-bsuite": _paid,
    "DeepSea-bsuite": _paid,
    "MemoryChain-bsuite": _paid_at_end,
    "UmbrellaChain-bsuite": _paid_at_end,
    _MNIST_ID: _paid,
    "FourRooms-misc": _at_end,
    "MetaMaze-misc": _paid,
    "PointRobot-misc": _paid,
    "FrozenLake-misc": _paid,
}


def _grid_cell(env: Any, state: Any) -> Any:
    return state.pos[0] * env.env_map.shape[1] + state.pos[1]


# Where an agent walks among cells: how many there are, and in which it is.
_POSITION: dict[str, tuple[Callable[[Any], int], Callable[[Any, Any], Any]]] = {
    "FourRooms-misc": (lambda env: int(np.prod(env.env_map.shape)), _grid_cell),
    "MetaMaze-misc": (lambda env: int(np.prod(env.env_map.shape)), _grid_cell),
    "FrozenLake-misc": (lambda env: env.n_states, lambda env, state: state.position),
    "DeepSea-bsuite": (
        lambda env: env.size**2,
        # The row past the last one is no cell: the episode is over, and stays in the last row.
        lambda env, state: jnp.minimum(state.row, env.size - 1) * env.size + state.column,
    ),
}


class _Loaded(NamedTuple):
    env: Any
    params: Any
    spec: EnvSpec


@final
@component
class FromGymnax:
    """An environment of gymnax as one of ours; make it with `from_gymnax`.

    The level is the reset key's data, uint32 `[2]`. gymnax's per-step reset is bypassed: a step is
    `step_env` and `is_truncated`, its observation the true successor. Observations, rewards and
    states are cast to one dtype each, observations to that of the space.

    Deviations from gymnax: bounds of a space that differ by entry become the widest; a step that
    terminates is not truncated as well; `info` has "success" only.
    """

    env_id: str
    params: tuple[tuple[str, Any], ...] = static(default=())

    def __post_init__(self) -> None:
        _load(self.env_id, self.params)

    def spec(self) -> EnvSpec:
        return _load(self.env_id, self.params).spec

    def sample_level(self, key: Key) -> jax.Array:
        if jax.random.key_impl(key) == "threefry2x32":
            return jax.random.key_data(key)
        return jax.random.bits(key, (2,), jnp.uint32)

    def reset_to_level(self, key: Key, level: jax.Array) -> tuple[PyTree, PyTree]:
        env, params, spec = _load(self.env_id, self.params)
        with jax.numpy_rank_promotion("allow"):
            key = jax.random.wrap_key_data(level, impl="threefry2x32")
            obs, state = env.reset_env(key, params)
        return _strong(state), _cast(spec.observation, obs)

    def step(self, key: Key, state: PyTree, action: PyTree) -> tuple[PyTree, TimeStep]:
        env, params, spec = _load(self.env_id, self.params)
        with jax.numpy_rank_promotion("allow"):
            obs, state, reward, terminated, _ = env.step_env(key, state, action, params)
            truncated = env.is_truncated(state, params)
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        terminated = jnp.asarray(terminated, bool).reshape(())
        truncated = jnp.asarray(truncated, bool).reshape(()) & ~terminated
        succeeded = _SUCCESS.get(self.env_id)
        success = (
            jnp.zeros((), bool) if succeeded is None else succeeded(reward, terminated, truncated)
        )
        return _strong(state), TimeStep(
            obs=_cast(spec.observation, obs),
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            info={"success": success},
        )

    def privileged(self, state: PyTree) -> dict[str, jax.Array]:
        if self.env_id not in _POSITION:
            return {}
        env = _load(self.env_id, self.params).env
        return {"position": _POSITION[self.env_id][1](env, state).astype(jnp.int32)}


def from_gymnax(env_id: str, **params: Any) -> FromGymnax:
    """An environment of gymnax, under our contract.

    `info["success"]` is True where the task is accomplished: the goal or the top is reached, the
    treasure, ball or right answer is got, CartPole's pole stands to the time limit. It stays False
    where there is nothing to accomplish (MinAtar, Pendulum, Reacher, Swimmer, Pong, the bandits,
    and DiscountingChain). Privileged "position" exists for FourRooms, MetaMaze, FrozenLake and
    DeepSea. MNISTBandit needs the MNIST files, which gymnax downloads when the environment is made.

    Args:
        env_id: gymnax's id, as `CartPole-v1`.
        **params: gymnax's own parameters, as `max_steps_in_episode=200`.

    Raises:
        UnknownIdError: gymnax has no such environment.
        ConfigError: it has no such parameter, or its data cannot be had.
    """
    return FromGymnax(env_id, tuple(sorted(params.items())))


for _id in GYMNAX_IDS:
    register_env(f"gymnax/{_id}", env_id=_id)(from_gymnax)


@functools.cache
def _load(env_id: str, params: tuple[tuple[str, Any], ...]) -> _Loaded:
    import gymnax

    if env_id not in gymnax.registered_envs:
        raise UnknownIdError(
            f"gymnax has no {env_id!r}{did_you_mean(env_id, gymnax.registered_envs)}"
        )
    # Constructors compute with jax.numpy; made while a program is traced, they would leak tracers.
    with jax.ensure_compile_time_eval(), jax.numpy_rank_promotion("allow"):
        try:
            env, defaults = gymnax.make(env_id)
        except OSError as error:
            raise ConfigError(
                f"gymnax/{env_id} needs data that cannot be downloaded here ({error}):"
                " put the files where gymnax looks for them (/tmp/mnist)"
            ) from error
        known = vars(defaults)
        for name, value in params:
            if name not in known:
                raise ConfigError(
                    f"gymnax/{env_id} has no parameter {name!r}{did_you_mean(name, known)}"
                    f" (its parameters: {', '.join(known)})"
                )
            defaults = defaults.replace(**{name: type(known[name])(value)})
        observation = _from_space(env.observation_space(defaults))
        if env_id in _TRUE_BOUNDS and isinstance(observation, Box):
            observation = Box(observation.shape, observation.dtype, *_TRUE_BOUNDS[env_id])
        position = _POSITION.get(env_id)
        # With other parameters, such as torque noise, any of them may draw from the key.
        may_add_noise = any(name != "max_steps_in_episode" for name, _ in params)
        spec = EnvSpec(
            name=f"gymnax/{env_id}",
            observation=observation,
            action=_from_space(env.action_space(defaults)),
            max_steps=int(defaults.max_steps_in_episode),
            stochastic=env_id in _STOCHASTIC or may_add_noise,
            privileged=Dict({"position": Discrete(position[0](env))} if position else {}),
        )
    return _Loaded(env, defaults, spec)


def _from_space(space: Any) -> Space:
    from gymnax.environments import spaces

    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, spaces.Box):
        largest = float(np.finfo(np.float32).max)
        low, high = float(np.min(space.low)), float(np.max(space.high))
        return Box(
            tuple(int(n) for n in space.shape),
            np.dtype(space.dtype).name,
            -math.inf if low <= -largest else low,
            math.inf if high >= largest else high,
        )
    if isinstance(space, spaces.Dict):
        return Dict({name: _from_space(child) for name, child in space.spaces.items()})
    raise ConfigError(f"gymnax's space {space!r} has no counterpart among ours")


def _to_space(space: Space) -> Any:
    from gymnax.environments import spaces

    if isinstance(space, Discrete):
        return spaces.Discrete(space.num)
    if isinstance(space, Box):
        return spaces.Box(space.low, space.high, space.shape, np.dtype(space.dtype))
    if isinstance(space, Symbolic):
        high: Any = np.broadcast_to(np.asarray(space.cardinalities, np.uint8) - 1, space.shape)
        low: Any = np.zeros_like(high)
        return spaces.Box(low, high, space.shape, np.dtype(space.dtype))
    return spaces.Dict({name: _to_space(child) for name, child in space.items})


def _cast(space: Space, obs: Any) -> PyTree:
    if isinstance(space, Dict):
        return {name: _cast(child, obs[name]) for name, child in space.items}
    return jnp.asarray(obs, space.dtype).reshape(space.shape)


def _strong(state: PyTree) -> PyTree:
    # Python numbers in gymnax's states have weak types, which a scan would not carry.
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), state)


class GymnaxState(NamedTuple):
    """The state of `ToGymnax`: ours, the steps taken, and whether the last one was truncated."""

    env_state: PyTree
    time: jax.Array
    truncated: jax.Array


@final
@component
class ToGymnax:
    """One of our environments under the API of gymnax >= 1.0; make it with `to_gymnax`.

    As in gymnax, `step` resets by itself, to a level drawn from its key, and pays for that level at
    every step: xplore's own loop does not. `params.max_steps_in_episode` can shorten episodes.
    """

    env: Environment

    @property
    def name(self) -> str:
        """The environment's name."""
        return self.env.spec().name

    @property
    def num_actions(self) -> int:
        """The number of actions, or of entries of one for a Box."""
        action = self.env.spec().action
        return action.num if isinstance(action, Discrete) else math.prod(_box(action).shape)

    @property
    def default_params(self) -> Any:
        """The time limit, as an `EnvParams` of gymnax."""
        from gymnax.environments import environment

        return environment.EnvParams(max_steps_in_episode=self.env.spec().max_steps or 2**31 - 1)

    def observation_space(self, params: Any = None) -> Any:
        """The observation space, as gymnax's."""
        return _to_space(self.env.spec().observation)

    def action_space(self, params: Any = None) -> Any:
        """The action space, as gymnax's."""
        return _to_space(self.env.spec().action)

    @functools.partial(jax.jit, static_argnames=("self",))
    def reset(self, key: Key, params: Any = None) -> tuple[PyTree, GymnaxState]:
        """Returns `(obs, state)` at the start of a level drawn from `key`."""
        return self.reset_env(key, params)

    @functools.partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Key, state: GymnaxState, action: PyTree, params: Any = None
    ) -> tuple[PyTree, GymnaxState, jax.Array, jax.Array, jax.Array, dict[str, Any]]:
        """Returns `(obs, state, reward, terminated, truncated, info)`, with auto-reset.

        `info["final_observation"]` is the true successor.
        """
        params = self.default_params if params is None else params
        key_step, key_reset = jax.random.split(key)
        final_obs, stepped, reward, terminated, info = self.step_env(
            key_step, state, action, params
        )
        truncated = self.is_truncated(stepped, params) & ~terminated
        start = self.reset_env(key_reset, params)
        obs, state = jax.tree.map(
            lambda fresh, old: jnp.where(terminated | truncated, fresh, old),
            start,
            (final_obs, stepped),
        )
        info |= {"terminated": terminated, "truncated": truncated, "final_observation": final_obs}
        return obs, state, reward, terminated, truncated, info

    def reset_env(self, key: Key, params: Any = None) -> tuple[PyTree, GymnaxState]:
        """As `reset`, without a jit of its own."""
        key_level, key_reset = jax.random.split(key)
        state, obs = self.env.reset_to_level(key_reset, self.env.sample_level(key_level))
        return obs, GymnaxState(state, jnp.zeros((), jnp.int32), jnp.zeros((), bool))

    def step_env(
        self, key: Key, state: GymnaxState, action: PyTree, params: Any = None
    ) -> tuple[PyTree, GymnaxState, jax.Array, jax.Array, dict[str, Any]]:
        """Returns `(obs, state, reward, terminated, info)` of one transition, without a reset."""
        env_state, ts = self.env.step(key, state.env_state, action)
        discount = 1.0 - ts.terminated.astype(jnp.float32)
        info = {**ts.info, "discount": discount}
        state = GymnaxState(env_state, state.time + 1, ts.truncated)
        return ts.obs, state, ts.reward, ts.terminated, info

    def is_truncated(self, state: GymnaxState, params: Any = None) -> Any:
        """Whether a time limit, the environment's or that of `params`, was reached."""
        params = self.default_params if params is None else params
        return state.truncated | (state.time >= params.max_steps_in_episode)


def _box(space: Space) -> Box:
    if isinstance(space, Box):
        return space
    raise ConfigError(f"gymnax counts the actions of Discrete and Box spaces, not of {space}")


def to_gymnax(env: Environment) -> tuple[ToGymnax, Any]:
    """One of our environments and its parameters, to be used as what `gymnax.make` returns."""
    adapter = ToGymnax(env)
    return adapter, adapter.default_params
