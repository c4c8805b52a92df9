"""Colour noise: what is seen changes its colours at every step, for no reason."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env_wrapper
from xplore.contracts.spaces import Box, Discrete, Symbolic
from xplore.contracts.types import Environment, EnvSpec, Key, PyTree, TimeStep
from xplore.envs.noisy_tv import picture_space


class NoisyLevel(NamedTuple):
    """A level of the environment, and the seed of its first observation's noise: uint32 `[]`."""

    inner: PyTree
    seed: jax.Array


@register_env_wrapper("colour_noise")
@final
@component
class ColourNoise:
    """`env`, with one channel of its image random at each step, wherever something is seen.

    In a MiniGrid view, channel 1 is the colour of a cell. Cells whose channels are all 0 stay so:
    they are out of sight. The noise is uniform over the symbols of the channel, or the numbers
    between the bounds of the image. The task and all privileged information are those of `env`;
    where a colour matters (which key opens which door), it can no longer be seen.

    With `places` below 1 the noise is a thing of the world, a television that no action turns on
    or off: it is seen from the last `places` of all positions (or values of `by`) alone.
    `info["watched"]` is 1 on a step that ends where it is seen. With a `patch` the noise is on the
    middle of the image alone.

    Attributes:
        env: any environment whose observation is an image `[height, width, channels]`, or a `Dict`
            that has one under "image"; with `places` below 1, one that tells `by`.
        channel: which of the last axis.
        places: share of positions, by their index, from which the noise is seen; in (0, 1].
        by: what tells places apart: the name of a number among the privileged information, such as
            the "direction" one looks in.
        patch: side of the square of noise, in cells of the image; 0: all of it.

    Raises:
        ConfigError: the observation has no such image, or no such channel, or no bounds; `places`
            or `patch` is out of its range, or the environment does not tell `by`.

    Reference: none that it follows to the letter; Wan et al. (2023), DEIR, arXiv:2304.10770, test
        bonuses in MiniGrid under noise on the image.
    Deviations: a test of our own.
    """

    env: Environment
    channel: int = 1
    places: float = static(default=1.0)
    by: str = "position"
    patch: int = 0

    def __post_init__(self) -> None:
        spec = self.env.spec()
        if not 0.0 < self.places <= 1.0:
            raise ConfigError(
                f"colour_noise: places is {self.places}: give a share of all positions, above 0 and"
                " at most 1"
            )
        if self.patch < 0:
            raise ConfigError(f"colour_noise: patch is {self.patch}: give a side in cells, or 0")
        if self.places < 1.0 and not isinstance(dict(spec.privileged.items).get(self.by), Discrete):
            raise ConfigError(
                f"colour_noise cannot tell places apart: {spec.name} has no privileged {self.by!r}"
                " that is a number; leave places at 1"
            )
        space = picture_space("colour_noise", spec)
        if len(space.shape) != 3:
            raise ConfigError(
                f"colour_noise needs an image [height, width, channels]; that of {spec.name} has"
                f" shape {space.shape}"
            )
        if not 0 <= self.channel < space.shape[-1]:
            raise ConfigError(
                f"colour_noise: channel is {self.channel}: the image of {spec.name} has the"
                f" channels 0 to {space.shape[-1] - 1}"
            )
        if isinstance(space, Box) and not math.isfinite(space.high - space.low):
            raise ConfigError(
                f"colour_noise needs bounds to draw between; the image of {spec.name} is {space}"
            )

    def spec(self) -> EnvSpec:
        spec = self.env.spec()
        return dataclasses.replace(spec, name=f"colour_noise/{spec.name}", stochastic=True)

    def sample_level(self, key: Key) -> NoisyLevel:
        key_level, key_seed = jax.random.split(key)
        return NoisyLevel(self.env.sample_level(key_level), jax.random.bits(key_seed))

    def reset_to_level(self, key: Key, level: NoisyLevel) -> tuple[PyTree, PyTree]:
        state, obs = self.env.reset_to_level(key, level.inner)
        return state, self._noisy(jax.random.key(level.seed), obs, self._near(state))

    def step(self, key: Key, state: PyTree, action: PyTree) -> tuple[PyTree, TimeStep]:
        key_env, key_noise = jax.random.split(key)
        state, ts = self.env.step(key_env, state, action)
        near = self._near(state)
        info = {**ts.info, "watched": near.astype(jnp.float32)}
        return state, ts._replace(obs=self._noisy(key_noise, ts.obs, near), info=info)

    def privileged(self, state: PyTree) -> dict[str, jax.Array]:
        return self.env.privileged(state)

    def _near(self, state: PyTree) -> jax.Array:
        if self.places == 1.0:
            return jnp.ones((), bool)
        space = dict(self.env.spec().privileged.items)[self.by]
        assert isinstance(space, Discrete)
        here = self.env.privileged(state)[self.by]
        return here >= round((1.0 - self.places) * space.num)

    def _noisy(self, key: Key, obs: PyTree, near: jax.Array) -> PyTree:
        image = obs["image"] if isinstance(obs, dict) else obs
        seen = jnp.any(image != 0, axis=-1) & near
        if self.patch:
            rows, columns = (jnp.abs(2 * jnp.arange(n) - (n - 1)) < self.patch for n in seen.shape)
            seen &= rows[:, None] & columns[None, :]
        noise = self._noise(key)
        noisy = image.at[..., self.channel].set(jnp.where(seen, noise, image[..., self.channel]))
        return {**obs, "image": noisy} if isinstance(obs, dict) else noisy

    def _noise(self, key: Key) -> jax.Array:
        space = picture_space("colour_noise", self.env.spec())
        if isinstance(space, Symbolic):
            symbols = (space.cardinalities[self.channel],)
            return Symbolic((*space.shape[:-1], 1), symbols).sample(key)[..., 0]
        return Box(space.shape[:-1], space.dtype, space.low, space.high).sample(key)
