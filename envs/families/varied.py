"""A family whose options differ from level to level."""

from __future__ import annotations

from typing import Any, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, replace, split_fields, static
from xplore.contracts.errors import ConfigError, did_you_mean
from xplore.contracts.types import EnvSpec, Key, PyTree, TimeStep, WorldFamily


@final
@component
class Varied:
    """`env`, each level of which is drawn with options of its own, uniform between two bounds.

    A sampler that looks for options, and not for ids alone, asks for levels by
    `sample_level_with`.

    Attributes:
        env: a family.
        names: options that are floats, such as "braid" of a Maze.
        low: the least value of each.
        high: the greatest.
    """

    env: WorldFamily
    names: tuple[str, ...]
    low: tuple[float, ...] = static()
    high: tuple[float, ...] = static()

    def __post_init__(self) -> None:
        for end in ("low", "high"):
            object.__setattr__(self, end, tuple(map(float, getattr(self, end))))
        known = varying(self.env)
        for name in self.names:
            if name not in known:
                raise ConfigError(
                    f"{name!r} cannot differ from level to level{did_you_mean(name, known)} (what"
                    f" can: {', '.join(known) or 'nothing'})"
                )
        if not len(self.names) == len(self.low) == len(self.high):
            raise ConfigError("each name needs one least and one greatest value")
        for bounds in (self.low, self.high):
            self._with(dict(zip(self.names, bounds, strict=True)))  # checks the values
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if low > high:
                raise ConfigError(f"{name} is to be from {low} to {high}: the least comes first")

    def _with(self, values: dict[str, Any]) -> Any:
        env: Any = self.env
        mine = {k: v for k, v in values.items() if k in _children(env)}
        rest = {k: v for k, v in values.items() if k not in mine}
        return (
            replace(env, **mine, task=replace(env.task, **rest)) if rest else replace(env, **mine)
        )

    def sample_level_with(self, key: Key, values: jax.Array) -> PyTree:
        """A level of the options `values` float32 `[len(names)]`."""
        named = {name: values[i] for i, name in enumerate(self.names)}
        return self._with(named).sample_level(key)

    def spec(self) -> EnvSpec:
        return self.env.spec()

    def sample_level(self, key: Key) -> PyTree:
        key_values, key_level = jax.random.split(key)
        low, high = (jnp.asarray(bounds, jnp.float32) for bounds in (self.low, self.high))
        share = jax.random.uniform(key_values, low.shape)
        return self.sample_level_with(key_level, low + (high - low) * share)

    def reset_to_level(self, key: Key, level: PyTree) -> tuple[PyTree, PyTree]:
        return self.env.reset_to_level(key, level)

    def step(self, key: Key, state: PyTree, action: jax.Array) -> tuple[PyTree, TimeStep]:
        return self.env.step(key, state, action)

    def privileged(self, state: PyTree) -> dict[str, jax.Array]:
        return self.env.privileged(state)

    def mutate(self, key: Key, level: PyTree) -> PyTree:
        return self.env.mutate(key, level)

    def optimal_steps(self, level: PyTree) -> jax.Array:
        return self.env.optimal_steps(level)

    def is_valid(self, level: PyTree) -> jax.Array:
        return self.env.is_valid(level)

    def level_to_text(self, level: PyTree) -> str:
        return self.env.level_to_text(level)

    def level_from_text(self, text: str) -> PyTree:
        return self.env.level_from_text(text)


def varying(env: Any) -> tuple[str, ...]:
    """Names of the options of a family that may differ from level to level: its floats."""
    task = getattr(env, "task", None)
    owners = [env] if task is None else [env, task]
    return tuple(n for x in owners for n in _children(x) if isinstance(getattr(x, n), float))


def _children(x: Any) -> tuple[str, ...]:
    cls: Any = type(x)
    return split_fields(cls)[0]
