"""A finite task seen as a number: what tabular agents learn from."""

from __future__ import annotations

import dataclasses
from typing import final

import jax

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env_wrapper
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import (
    Environment,
    EnvSpec,
    FiniteEnvironment,
    Key,
    Outcomes,
    PyTree,
    Starts,
    TimeStep,
)


@register_env_wrapper("tabular")
@final
@component
class Tabular:
    """`env`, with the number of the state as its observation, a `Discrete`.

    The task is the same; what the agent is spared is learning to read its observations. Levels,
    rewards, ends and privileged information are those of `env`.

    Attributes:
        env: a `FiniteEnvironment`.

    Raises:
        ConfigError: `env` does not number its states.
    """

    env: Environment

    def __post_init__(self) -> None:
        if not isinstance(self.env, FiniteEnvironment):
            raise ConfigError(
                f"tabular needs a finite environment; {self.env.spec().name} does not list its"
                " starts and outcomes: choose one that does, such as DeepSea-10-v0"
            )

    @property
    def _inner(self) -> FiniteEnvironment:
        assert isinstance(self.env, FiniteEnvironment)
        return self.env

    def spec(self) -> EnvSpec:
        spec = self.env.spec()
        index = spec.privileged["index"]
        assert isinstance(index, Discrete)
        return dataclasses.replace(spec, name=f"tabular/{spec.name}", observation=index)

    def sample_level(self, key: Key) -> PyTree:
        return self.env.sample_level(key)

    def reset_to_level(self, key: Key, level: PyTree) -> tuple[PyTree, jax.Array]:
        state, _ = self.env.reset_to_level(key, level)
        return state, self._observe(state)

    def step(self, key: Key, state: PyTree, action: PyTree) -> tuple[PyTree, TimeStep]:
        state, ts = self.env.step(key, state, action)
        return state, ts._replace(obs=self._observe(state))

    def privileged(self, state: PyTree) -> dict[str, jax.Array]:
        return self.env.privileged(state)

    def starts(self) -> Starts:
        return self._inner.starts()

    def outcomes(self, state: PyTree, action: PyTree) -> Outcomes:
        return self._inner.outcomes(state, action)

    def _observe(self, state: PyTree) -> jax.Array:
        return self.env.privileged(state)["index"]
