"""A noisy television: one action more, which shows random pictures and leaves the world alone."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env_wrapper
from xplore.contracts.spaces import Box, Dict, Discrete, Space, Symbolic
from xplore.contracts.types import Environment, EnvSpec, Key, PyTree, TimeStep

_IMAGE = "image"


class NoisyTVState(NamedTuple):
    """The world, what is seen of it beside the picture, and the steps taken: int32 `[]`."""

    inner: PyTree
    beside: PyTree
    time: jax.Array


@register_env_wrapper("noisy_tv")
@final
@component
class NoisyTV:
    """`env` with an action more, the last: "watch" shows a random picture instead of the view.

    The world stays as it is while one watches, its own clock included; but the episode grows older,
    and is truncated after `max_steps` of `env`. The picture is drawn from the observation space,
    all entries independently; of a `Dict`, its "image" alone is replaced. Watching pays nothing.
    Privileged information is the world's: the position of one who watches does not change.
    `info["watched"]` is 1 on a step of watching; its mean over a run is what the test measures.

    Attributes:
        env: any environment with discrete actions whose observation is an image, symbols or
            numbers, or a `Dict` that has one under "image".
        channels: how many different pictures there are; 0: without limit.
        tv_seed: of those pictures.

    Raises:
        ConfigError: other actions or observations, or less than 0 channels.

    Reference: Burda et al. (2019), Large-scale study of curiosity-driven learning,
        arXiv:1808.04355, where a television in a maze has its channel changed by an action.
    Deviations: the picture takes the place of the whole view, everywhere, not of a part of it.
    """

    env: Environment
    channels: int = 0
    tv_seed: int = 0

    def __post_init__(self) -> None:
        spec = self.env.spec()
        if self.channels < 0:
            raise ConfigError(
                f"noisy_tv: channels is {self.channels}: give a number of pictures, or 0 for no"
                " limit"
            )
        if not isinstance(spec.action, Discrete):
            raise ConfigError(
                f"noisy_tv adds an action to discrete ones; those of {spec.name} are {spec.action}"
            )
        picture_space("noisy_tv", spec)

    @property
    def watch(self) -> int:
        """The action that watches."""
        action = self.env.spec().action
        assert isinstance(action, Discrete)
        return action.num

    def spec(self) -> EnvSpec:
        spec = self.env.spec()
        return dataclasses.replace(
            spec,
            name=f"noisy_tv/{spec.name}",
            action=Discrete(self.watch + 1),
            stochastic=True,
            num_layers=0,
        )

    def sample_level(self, key: Key) -> PyTree:
        return self.env.sample_level(key)

    def reset_to_level(self, key: Key, level: PyTree) -> tuple[NoisyTVState, PyTree]:
        inner, obs = self.env.reset_to_level(key, level)
        return NoisyTVState(inner, _beside(obs), jnp.int32(0)), obs

    def step(
        self, key: Key, state: NoisyTVState, action: jax.Array
    ) -> tuple[NoisyTVState, TimeStep]:
        key_env, key_picture = jax.random.split(key)
        spec = self.env.spec()
        watched = action == self.watch
        # What the inner environment makes of some action that it knows is thrown away.
        moved, ts = self.env.step(key_env, state.inner, jnp.where(watched, 0, action))
        picture = self._picture(key_picture, picture_space("noisy_tv", spec))

        def select(a: PyTree, b: PyTree) -> PyTree:
            return jax.tree.map(lambda x, y: jnp.where(watched, x, y), a, b)

        shown = with_picture({**state.beside, _IMAGE: picture}, picture, ts.obs)
        obs = select(shown, ts.obs)
        info = jax.tree.map(lambda x: jnp.where(watched, jnp.zeros_like(x), x), ts.info)
        after = NoisyTVState(select(state.inner, moved), _beside(obs), state.time + 1)
        out_of_time = after.time >= spec.max_steps if spec.max_steps else jnp.zeros((), bool)
        terminated = ts.terminated & ~watched
        return after, TimeStep(
            obs=obs,
            reward=jnp.where(watched, 0.0, ts.reward),
            terminated=terminated,
            truncated=(ts.truncated & ~watched) | (out_of_time & ~terminated),
            info={**info, "watched": watched.astype(jnp.float32)},
        )

    def privileged(self, state: NoisyTVState) -> dict[str, jax.Array]:
        return self.env.privileged(state.inner)

    def _picture(self, key: Key, space: Symbolic | Box) -> jax.Array:
        if self.channels:
            channel = jax.random.randint(key, (), 0, self.channels)
            key = jax.random.fold_in(jax.random.key(self.tv_seed), channel)
        return space.sample(key)


def picture_space(wrapper: str, spec: EnvSpec) -> Symbolic | Box:
    """The part of an observation that is a picture: all of it, or its "image".

    Raises:
        ConfigError: there is none; names `wrapper`.
    """
    space: Space | None = spec.observation
    if isinstance(space, Dict):
        space = dict(space.items).get(_IMAGE)
    if not isinstance(space, (Symbolic, Box)):
        raise ConfigError(
            f"{wrapper} needs an image, symbolic or of numbers, or a Dict that has an 'image'; the"
            f" observation of {spec.name} is {spec.observation}"
        )
    return space


def with_picture(replaced: dict[str, Any], picture: jax.Array, obs: PyTree) -> PyTree:
    """`picture` as an observation like `obs`: alone, or among the entries of `replaced`."""
    return replaced if isinstance(obs, dict) else picture


def _beside(obs: PyTree) -> dict[str, Any]:
    return {k: v for k, v in obs.items() if k != _IMAGE} if isinstance(obs, dict) else {}
