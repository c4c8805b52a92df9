"""Envs that a host steps call by call: one program with auto-reset, each env in its own stream.

What an env goes through depends on its key alone, not on how many others there are. No level is
drawn that is not entered: where episodes end in few envs, new ones begin in a few at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast, final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete, Space
from xplore.contracts.types import Environment, Key, PyTree, TimeStep
from xplore.parts.levels import level_from_id, train_ids

Array = npt.NDArray[Any]
Levels = int | Sequence[int] | Array | None
# When an ended env begins anew: as the next step's only doing, in the step that ends it, or never.
Autoreset = Literal["NextStep", "SameStep", "Disabled"]
_CHUNK = 32
_TILE_SIZE = 32


class Lanes(NamedTuple):
    """Envs under way; leaves are `[N, ...]`.

    Attributes:
        key: uint32 `[N, 2]`, of a stream of episodes.
        episode: int32, which of the stream this is.
        time: int32, steps taken in it.
        level_id: uint32, the level it is in.
        ended: bool, the last step ended it.
        state, obs: where it stands.
    """

    key: jax.Array
    episode: jax.Array
    time: jax.Array
    level_id: jax.Array
    ended: jax.Array
    state: PyTree
    obs: PyTree


@final
@component
class Stepper:
    """The programs for an environment, compiled once for equal ones.

    Attributes:
        env: stepped under `vmap`.
        autoreset: when an env whose episode ended begins the next one of its stream.
        number_missions: of MiniGrid, observe as the mission its index in `task.missions`.

    Both methods take `level_ids`, uint32 `[n]`: levels are drawn from them, or, if there are none,
    from all that are not held out.
    """

    env: Environment
    autoreset: Autoreset
    number_missions: bool = False

    @functools.partial(jax.jit, static_argnames=("self",))
    def start(self, key: jax.Array, episode: jax.Array, level_ids: jax.Array) -> Lanes:
        """Begins the episodes `episode` `[N]` of the streams `key` `[N, 2]`."""
        return jax.vmap(lambda k, e: self._begin(k, e, level_ids))(key, episode)

    @functools.partial(jax.jit, static_argnames=("self",))
    def step(self, lanes: Lanes, action: jax.Array, level_ids: jax.Array) -> tuple[Lanes, TimeStep]:
        """Steps every env, and begins the episodes that are due.

        The time step is that of the envs as they were: with "NextStep" it means nothing where the
        step before had ended an episode.
        """
        if self.env.spec().stochastic:
            keys = jax.vmap(_step_key)(lanes.key, lanes.episode, lanes.time)
            state, ts = jax.vmap(self.env.step)(keys, lanes.state, action)
        else:
            key = jax.random.key(0)
            state, ts = jax.vmap(self.env.step, (None, 0, 0))(key, lanes.state, action)
        ts = ts._replace(obs=jax.vmap(self._observed)(state, ts.obs))
        ended = ts.terminated | ts.truncated
        after = lanes._replace(time=lanes.time + 1, ended=ended, state=state, obs=ts.obs)
        if self.autoreset == "Disabled":
            return after, ts
        due = ended if self.autoreset == "SameStep" else lanes.ended
        return self._renew(after, due, level_ids), ts

    def _begin(self, key: jax.Array, episode: jax.Array, level_ids: jax.Array) -> Lanes:
        key_level, key_reset, _ = _keys(key, episode)
        if level_ids.size:
            level_id = level_ids[jax.random.randint(key_level, (), 0, level_ids.size)]
        else:
            level_id = jax.random.bits(key_level, (), jnp.uint32) >> 1  # top bit: held out
        state, obs = self.env.reset_to_level(key_reset, level_from_id(self.env, level_id))
        return Lanes(
            key=key,
            episode=episode,
            time=jnp.int32(0),
            level_id=level_id,
            ended=jnp.zeros((), bool),
            state=state,
            obs=self._observed(state, obs),
        )

    def _renew(self, lanes: Lanes, due: jax.Array, level_ids: jax.Array) -> Lanes:
        num_envs = due.shape[0]
        chunk = min(num_envs, _CHUNK)
        # After the last env that is due comes an index that no env has.
        order = jnp.nonzero(due, size=-(-num_envs // chunk) * chunk, fill_value=num_envs)[0]

        def renew_some(i: jax.Array, lanes: Lanes) -> Lanes:
            some = jax.lax.dynamic_slice(order, (i * chunk,), (chunk,))
            fresh = self.start(lanes.key[some], lanes.episode[some] + 1, level_ids)
            return jax.tree.map(lambda x, new: x.at[some].set(new, mode="drop"), lanes, fresh)

        return jax.lax.fori_loop(0, (jnp.sum(due) + chunk - 1) // chunk, renew_some, lanes)

    def _observed(self, state: PyTree, obs: PyTree) -> PyTree:
        if not self.number_missions:
            return obs
        return {**obs, "mission": cast(Any, self.env).task.mission(state.extra)}


def _keys(key: jax.Array, episode: jax.Array) -> Key:
    """The keys of an episode: of its level, its reset and its steps."""
    stream = jax.random.wrap_key_data(key, impl="threefry2x32")
    return jax.random.split(jax.random.fold_in(stream, episode), 3)


def _step_key(key: jax.Array, episode: jax.Array, time: jax.Array) -> Key:
    return jax.random.fold_in(_keys(key, episode)[2], time)


class Stepped(NamedTuple):
    """A `TimeStep` in numpy, but for `obs`: the true successors, still on the device."""

    obs: PyTree
    reward: Array
    terminated: Array
    truncated: Array
    info: dict[str, Array]


class Batch:
    """Envs under way on the device, with numpy going in and coming out."""

    def __init__(
        self,
        env: Any,
        num_envs: int,
        levels: Levels,
        autoreset: Autoreset,
        text_missions: bool,
        render_mode: str | None,
    ) -> None:
        self.num_envs, self.autoreset, self.render_mode = num_envs, autoreset, render_mode
        self.action, self.observation = env.spec().action, env.spec().observation
        if not isinstance(self.action, (Discrete, Box)):
            raise ConfigError(f"actions must be Discrete or Box, not of {self.action}")
        self.can_render = hasattr(env, "view")
        if render_mode is not None and not (self.can_render and render_mode == "rgb_array"):
            there = "'rgb_array' or None" if self.can_render else "None, for it has no pictures"
            raise ConfigError(f"render_mode is {render_mode!r}: it must be {there}")
        speaks = self.can_render and text_missions and env.view.mission
        self.missions: tuple[str, ...] = env.task.missions if speaks else ()
        self._env = env
        self._stepper = Stepper(env, autoreset, speaks)
        self._level_ids = _level_ids(levels)
        self._lanes: Lanes | None = None

    @property
    def begun(self) -> bool:
        """Whether there was a reset."""
        return self._lanes is not None

    @property
    def lanes(self) -> Lanes:
        """The envs; there must have been a reset."""
        if self._lanes is None:
            from gymnasium.error import ResetNeeded

            raise ResetNeeded("reset comes before everything else")
        return self._lanes

    @property
    def level_id(self) -> Array:
        """Ids of the levels in which the envs are."""
        return np.asarray(self.lanes.level_id, np.int64)

    def reset(self, rngs: Sequence[np.random.Generator | None]) -> PyTree:
        """Begins an episode in every env: the next of its stream, or the first of a generator's."""
        key, episode = np.zeros((self.num_envs, 2), np.uint32), np.zeros(self.num_envs, np.int32)
        if self.begun:
            key, episode = np.array(self.lanes.key), np.asarray(self.lanes.episode) + 1
        for i, rng in enumerate(rngs):
            if rng is not None:
                key[i], episode[i] = rng.integers(2**32, size=2, dtype=np.uint32), 0
        self._lanes = self._stepper.start(key, episode, self._level_ids)
        return self.numpy(self.lanes.obs)

    def step(self, actions: Any) -> Stepped:
        """Steps every env."""
        checked = self._checked(np.asarray(actions))
        self._lanes, ts = self._stepper.step(self.lanes, checked, self._level_ids)
        return Stepped(
            obs=ts.obs,
            reward=np.array(ts.reward, np.float64),
            terminated=np.array(ts.terminated),
            truncated=np.array(ts.truncated),
            info={name: np.array(value) for name, value in ts.info.items()},
        )

    def _checked(self, actions: Array) -> Array:
        space = self.action
        right = actions.shape == (self.num_envs, *space.shape)
        if isinstance(space, Discrete):
            whole = actions.dtype.kind in "iu"
            right = right and whole and bool(np.all((actions >= 0) & (actions < space.num)))
        if not right:
            from gymnasium.error import InvalidAction

            raise InvalidAction(f"{actions!r} is not {self.num_envs} of {space}")
        return actions.astype(space.dtype)

    def numpy(self, obs: PyTree) -> PyTree:
        """Observations in gymnasium's spaces, as arrays that may be written to."""
        if not self.missions:
            return _to_numpy(self.observation, obs)
        sentences = tuple(self.missions[i] for i in np.asarray(obs["mission"]))
        return {**_to_numpy(self.observation, obs), "mission": sentences}

    def pictures(self) -> Array | None:
        """A picture of every env, as upstream paints it."""
        if self.render_mode is None:
            return None
        view = replace(
            self._env.view, image="rgb_full", direction=False, mission=False, tile_size=_TILE_SIZE
        )
        return np.array(_observed(replace(self._env, view=view), self.lanes.state))


@functools.partial(jax.jit, static_argnames=("env",))
def _observed(env: Any, state: PyTree) -> PyTree:
    return jax.vmap(env.observe)(state)


def _to_numpy(space: Space, obs: PyTree) -> PyTree:
    if isinstance(space, Dict):
        return {name: _to_numpy(child, obs[name]) for name, child in space.items}
    return np.array(obs, np.int64 if isinstance(space, Discrete) else None)


def _level_ids(levels: Levels) -> jax.Array:
    if levels is None:
        return jnp.zeros(0, jnp.uint32)
    if isinstance(levels, int):
        found = train_ids(0, jnp.arange(max(levels, 0)))
    else:
        found = jnp.asarray(np.asarray(levels, np.uint32))
    if found.ndim != 1 or found.size == 0:
        raise ConfigError(f"levels is {levels!r}: it must be None, a number above 0, or level ids")
    return found
