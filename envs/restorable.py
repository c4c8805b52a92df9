"""Going back to a state: an environment whose episodes may begin where another one came to."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env_wrapper
from xplore.contracts.spaces import Box, Dict, Discrete, Space
from xplore.contracts.types import Environment, EnvSpec, Key, PyTree, TimeStep
from xplore.parts.restoring import (
    NUM_STEPS,
    SCORE,
    SNAPSHOT,
    Past,
    RestorableLevel,
    from_bytes,
    num_bytes,
    to_bytes,
)

_MOST_ACTIONS = 256


class RestorableState(NamedTuple):
    """What a snapshot is made of, and the steps since the episode began: int32 `[]`."""

    past: Past
    since: jax.Array


@register_env_wrapper("restorable")
@final
@component
class Restorable:
    """`env`, whose states can be gone back to: privileged, and not in the original's rules.

    A level says whether the episode begins at the start, as those of `sample_level` do, or in a
    state that was saved: its `snapshot`, among what is privileged, holds the state and all actions
    since the start. `num_steps` and `score`, the steps and the sum of rewards since then, are told
    too. A restored episode has the steps left that the saved one had.

    Attributes:
        env: any environment with a time limit and at most 256 discrete actions.
        explore_steps: an episode is cut so many steps after it began or was restored; 0: never.

    Raises:
        ConfigError: the environment has no time limit, other actions, or random keys in its state.

    Reference: Ecoffet et al. (2021), First return, then explore, arXiv:2004.12919.
    """

    env: Environment
    explore_steps: int = 0

    def __post_init__(self) -> None:
        spec = self.env.spec()
        if self.explore_steps < 0:
            raise ConfigError(f"restorable: explore_steps is {self.explore_steps}: give 0 or more")
        if not isinstance(spec.action, Discrete) or spec.action.num > _MOST_ACTIONS:
            raise ConfigError(
                f"restorable remembers at most {_MOST_ACTIONS} discrete actions; {spec.name} has"
                f" {spec.action}"
            )
        if spec.max_steps < 1:
            raise ConfigError(
                f"restorable remembers an episode's actions, and those of {spec.name} have no"
                " end: choose an environment with a time limit"
            )
        for leaf in jax.tree.leaves(self._shapes()):
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                raise ConfigError(f"restorable: {spec.name} keeps a random key in its state")

    def spec(self) -> EnvSpec:
        spec = self.env.spec()
        size = num_bytes(self._shapes()[0])
        told: dict[str, Space] = {
            SNAPSHOT: Box((size,), "uint8", 0, 255),
            NUM_STEPS: Discrete(spec.max_steps + 1),
            SCORE: Box(()),
        }
        privileged = Dict({**dict(spec.privileged.items), **told})
        return dataclasses.replace(spec, name=f"restorable/{spec.name}", privileged=privileged)

    def sample_level(self, key: Key) -> RestorableLevel:
        past, obs = self._shapes()
        return RestorableLevel(
            inner=self.env.sample_level(key),
            restored=jnp.bool_(False),
            snapshot=jnp.zeros(num_bytes(past), jnp.uint8),
            obs=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), obs),
        )

    def reset_to_level(self, key: Key, level: RestorableLevel) -> tuple[RestorableState, PyTree]:
        past, obs = self._start(key, level.inner)
        saved = from_bytes(self._shapes()[0], level.snapshot)
        past, obs = jax.tree.map(
            lambda x, y: jnp.where(level.restored, x, y), (saved, level.obs), (past, obs)
        )
        return RestorableState(past, jnp.int32(0)), obs

    def step(
        self, key: Key, state: RestorableState, action: PyTree
    ) -> tuple[RestorableState, TimeStep]:
        past = state.past
        inner, ts = self.env.step(key, past.inner, action)
        now = np.arange(past.actions.shape[0]) == past.num_steps
        after = Past(
            actions=jnp.where(now, action.astype(jnp.uint8), past.actions),
            num_steps=past.num_steps + 1,
            score=past.score + ts.reward,
            inner=inner,
        )
        since = state.since + 1
        if self.explore_steps:
            ts = ts._replace(truncated=ts.truncated | (since >= self.explore_steps))
        return RestorableState(after, since), ts

    def privileged(self, state: RestorableState) -> dict[str, jax.Array]:
        past = state.past
        told = {SNAPSHOT: to_bytes(past), NUM_STEPS: past.num_steps, SCORE: past.score}
        return {**self.env.privileged(past.inner), **told}

    def _start(self, key: Key, level: PyTree) -> tuple[Past, PyTree]:
        inner, obs = self.env.reset_to_level(key, level)
        actions = jnp.zeros(self.env.spec().max_steps, jnp.uint8)
        return Past(actions, jnp.int32(0), jnp.float32(0), inner), obs

    def _shapes(self) -> tuple[Past, PyTree]:
        def start(key: Key) -> tuple[Past, PyTree]:
            return self._start(key, self.env.sample_level(key))

        return jax.eval_shape(start, jax.random.key(0))
